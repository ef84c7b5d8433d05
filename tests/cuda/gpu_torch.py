"""PyTorch's training and sampling steps on a GPU, as one who wants them fast would write them.

Images lie on the device as bytes, channels last; TF32 is allowed everywhere, cuDNN searches for its
fastest convolutions, Adam is fused, clipping and EMA work on lists of tensors, and no step waits
for the device. ``bf16`` is automatic mixed precision.
"""

import contextlib

import click
import numpy as np
import torch
from gpu_clock import Clock, config_of, keep, tell
from torch.nn import functional as F

from tinyddpm.benchmark.ours import fill_with_noise, random_dataset
from tinyddpm.benchmark.torch_unet import TorchUNet, copy_values
from tinyddpm.nn.unet import UNet

torch.set_float32_matmul_precision("high")
torch.backends.cudnn.allow_tf32 = True
torch.backends.cudnn.benchmark = True


class TorchSteps:
    """A network, and what trains and samples it.

    Args:
        config: of the run.
        precision: tf32 or bf16.
        compiled: through torch.compile.
        device: cuda, or for a trial cpu.
    """

    def __init__(self, config, precision, *, compiled, device="cuda"):
        self.config, self.device, self.bf16 = config, device, precision == "bf16"
        self.network = TorchUNet(config.network).to(device, memory_format=torch.channels_last)
        self.call = torch.compile(self.network) if compiled else self.network
        self.values = list(self.network.parameters())
        self.ema = [value.detach().clone() for value in self.values]
        self.adam = torch.optim.Adam(self.values, lr=config.lr, fused=True)
        images = torch.from_numpy(random_dataset(config.network).images).permute(0, 3, 1, 2)
        self.images = images.to(device).contiguous(memory_format=torch.channels_last)
        schedule = config.diffusion.build().schedule
        self.T = schedule.T
        noise = 1 - schedule.alpha_bar[1:]
        before = 1 - schedule.alpha_bar[:-1]
        self.signal = self._table(np.sqrt(schedule.alpha_bar))
        self.noise = self._table(np.sqrt(1 - schedule.alpha_bar))
        self.from_x0 = self._table(np.sqrt(schedule.alpha_bar[:-1]) * schedule.beta[1:] / noise)
        self.from_xt = self._table(np.sqrt(schedule.alpha[1:]) * before / noise)
        self.sigma = self._table(np.sqrt(schedule.beta))
        self.t = 0

    def _table(self, values):
        return torch.from_numpy(values.astype(np.float32)).to(self.device)[:, None, None, None]

    def _precision(self):
        if self.bf16:
            return torch.autocast(self.device, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def train(self):
        """One training step."""
        self.network.train()
        batch, channels = self.config.batch, self.images.shape[1]
        chosen = torch.randint(0, len(self.images), (batch,), device=self.device)
        x0 = self.images[chosen].float().div_(127.5).sub_(1)
        x0 = x0.contiguous(memory_format=torch.channels_last)
        t = torch.randint(1, self.T + 1, (batch,), device=self.device)
        eps = torch.randn_like(x0)
        xt = self.signal[t] * x0 + self.noise[t] * eps
        with self._precision():
            output = self.call(xt, t - 1)
        loss = F.mse_loss(output[:, :channels].float(), eps)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.values, self.config.grad_clip, foreach=True)
        self.adam.step()
        torch._foreach_lerp_(self.ema, [value.detach() for value in self.values], 1e-4)

    @torch.no_grad()
    def sample(self):
        """One step of the reverse chain of a batch; after the last, another begins."""
        self.network.eval()
        if self.t == 0:
            shape = (self.config.batch, *self.images.shape[1:])
            x = torch.randn(shape, device=self.device)
            self.t, self.x = self.T, x.contiguous(memory_format=torch.channels_last)
        t = self.t
        times = torch.full((self.config.batch,), t - 1, device=self.device)
        with self._precision():
            output = self.call(self.x, times)
        eps = output[:, : self.x.shape[1]].float()
        x0 = ((self.x - self.noise[t] * eps) / self.signal[t]).clamp_(-1, 1)
        self.x = self.from_x0[t - 1] * x0 + self.from_xt[t - 1] * self.x
        if t > 1:
            self.x = self.x + self.sigma[t] * torch.randn_like(self.x)
        self.t -= 1

    @torch.no_grad()
    def difference_from(self, ours):
        """Give it the values of ``ours``, on the host, and compare the outputs."""
        fill_with_noise(ours.parameters)
        copy_values(ours.parameters, self.network)
        self.network.eval()
        size, channels = self.config.network.image_size, self.images.shape[1]
        x = np.random.default_rng(0).standard_normal((2, size, size, channels), np.float32)
        t = np.array([3, 700])
        expected, _ = ours.forward(x, t)
        on_device = torch.from_numpy(x).permute(0, 3, 1, 2).to(self.device)
        with self._precision():
            y = self.network(
                on_device.contiguous(memory_format=torch.channels_last),
                torch.from_numpy(t).to(self.device),
            )
        found = y.float().permute(0, 2, 3, 1).cpu().numpy()
        return float(np.abs(found - expected).max() / np.abs(expected).max())


@click.command()
@click.argument("preset")
@click.argument("precision")
@click.argument("mode")
@click.option("--batch", default=128, show_default=True)
def main(preset, precision, mode, batch):
    """The part "torch" of on_a_gpu.py: MODE is eager or compile."""
    keep({"torch": torch.__version__, "cudnn": torch.backends.cudnn.version()})
    clock = Clock(lambda: torch.cuda.Event(enable_timing=True), lambda a, b: a.elapsed_time(b))
    config = config_of(preset, batch)
    steps = TorchSteps(config, precision, compiled=mode == "compile")
    difference = steps.difference_from(UNet(config.network))
    click.echo(f"its output differs from ours on the CPU by {difference:.1e} of the largest")
    tell("train", preset, precision, mode, batch, clock.spread(steps.train))
    tell("sample", preset, precision, mode, batch, clock.spread(steps.sample))


if __name__ == "__main__":
    main()

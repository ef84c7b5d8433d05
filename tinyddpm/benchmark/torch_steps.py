"""PyTorch's training step and sampling step, with all that ours do.

Training: bytes to [−1, 1], t and ε drawn, x_t, forward, mean square, backward, clipping, Adam, EMA,
the batch as a whole; the many small tensors of optimiser and EMA in one call each. Where a variance
is learned, the square of ε alone is minimised: PyTorch is spared the bound's share of the loss.

Sampling: forward without gradients, then a draw from p(x_{t−1} | x_t).

On a GPU everything lies on the device, no step waits for it, and cuDNN looks for its fastest
convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tinyddpm.benchmark.clock import Step, Timed, seconds_by_events, seconds_of
from tinyddpm.benchmark.torch_unet import TorchUNet, copy_values
from tinyddpm.data.dataset import ByteArray
from tinyddpm.nn.parameters import Parameters
from tinyddpm.optim import ema_decay, learning_rate
from tinyddpm.training.config import RunConfig

FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
LAYOUTS = {"cpu": tuple(FORMATS), "cuda": ("channels last",)}  # that are worth trying
COMPILED = {"compile": "default", "reduce-overhead": "reduce-overhead"}  # torch.compile's mode
MODES = ("eager", *COMPILED, "bf16")  # bf16: eager in that precision, whatever the others'


def version(device: str) -> str:
    """Of PyTorch and, on a GPU, of what convolves there."""
    of_gpu = f", cuDNN {torch.backends.cudnn.version()}" if device == "cuda" else ""
    return f"{torch.__version__}{of_gpu}"


def set_threads(threads: int) -> None:
    """Let PyTorch use as many threads as we do."""
    torch.set_num_threads(threads)


def set_up_gpu(precision: str) -> None:
    """Let PyTorch multiply as we do, TF32 in all it does but with fp32, and as fast as it can."""
    tf32 = precision != "fp32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


def threads() -> int:
    """How many threads PyTorch uses."""
    return int(torch.get_num_threads())


def seconds_on(device: str) -> Callable[[Step, int], float]:
    """What tells the mean seconds of some steps there."""
    if device == "cpu":
        return seconds_of
    event = partial(torch.cuda.Event, enable_timing=True)
    return partial(seconds_by_events, event, torch.cuda.Event.elapsed_time)


class TorchRun:
    """A network in PyTorch, and what trains and samples it.

    Args:
        config: of the run.
        images: (N, H, W, C) uint8.
        layout: a key of ``FORMATS``.
        mode: one of ``MODES``.
        parameters: the values to begin with, on the host; PyTorch's own without.
        fused: Adam's update by the fused kernel, and not by the one for lists of tensors.
        device: ``cpu`` or ``cuda``.
        precision: of the products: ``bf16`` is automatic mixed precision, for the others see
            ``set_up_gpu``.
    """

    def __init__(
        self,
        config: RunConfig,
        images: ByteArray,
        *,
        layout: str,
        mode: str = "eager",
        parameters: Parameters | None = None,
        fused: bool = True,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.config, self.format, self.device = config, FORMATS[layout], device
        self.bf16 = "bf16" in {mode, precision}
        self.network = TorchUNet(config.network)
        if parameters:
            copy_values(parameters, self.network)
        self.network.to(device, memory_format=self.format)
        self.call = self.network
        if mode in COMPILED:  # for the shapes that are timed, and not for any that may come
            self.call = torch.compile(self.network, mode=COMPILED[mode], dynamic=False)
        self.values = list(self.network.parameters())
        self.ema = [value.detach().clone() for value in self.values]
        self.adam = _adam(self.values, fused=fused)
        self.images = self._laid_out(torch.from_numpy(images).permute(0, 3, 1, 2))
        self._tables(config)
        self.steps, self.t = 0, 0

    def _laid_out(self, x: Tensor) -> Tensor:
        return x.to(self.device).contiguous(memory_format=self.format)

    def _tables(self, config: RunConfig) -> None:
        """The chain's coefficients, (T + 1, 1, 1, 1) each; the posterior's, from t = 1 on."""
        chain = config.diffusion.build()
        schedule = chain.schedule
        before, noise = 1 - schedule.alpha_bar[:-1], 1 - schedule.alpha_bar[1:]
        self.T = schedule.T
        self.signal = self._table(np.sqrt(schedule.alpha_bar))
        self.noise = self._table(np.sqrt(1 - schedule.alpha_bar))
        self.from_x0 = self._table(np.sqrt(schedule.alpha_bar[:-1]) * schedule.beta[1:] / noise)
        self.from_xt = self._table(np.sqrt(schedule.alpha[1:]) * before / noise)
        floor = np.maximum(schedule.beta_tilde, schedule.beta_tilde[min(2, self.T)])
        self.log_floor = self._table(np.log(floor))
        self.log_beta = self._table(np.log(schedule.beta[1:]))
        self.learned = chain.variance == "learned"
        self.sigma = self._table(np.sqrt(schedule.beta if chain.variance == "beta" else floor))

    def _table(self, values: npt.NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)[:, None, None, None]

    def _autocast(self) -> Any:
        if self.bf16:
            return torch.autocast(self.device, dtype=torch.bfloat16)
        return nullcontext()

    def _switch(self, *, training: bool) -> None:
        """Only where it is not so already: PyTorch goes through all modules for it."""
        if self.network.training is not training:
            self.network.train(training)

    def timed(self, kind: str) -> Timed:
        """What does ``kind`` of steps (``train`` or ``sample``), with a clock."""
        return partial(seconds_on(self.device), getattr(self, kind))

    def train(self) -> None:
        """Do one training step."""
        self.steps += 1
        self._switch(training=True)
        batch = self.config.batch
        chosen = torch.randint(0, len(self.images), (batch,), device=self.device)
        x0 = self._laid_out(self.images[chosen].to(torch.float32).div_(127.5).sub_(1))
        t = torch.randint(1, self.T + 1, (batch,), device=self.device)
        eps = torch.randn_like(x0)
        xt = self.signal[t] * x0 + self.noise[t] * eps
        with self._autocast():
            loss = F.mse_loss(self.call(xt, t - 1)[:, : x0.shape[1]].float(), eps)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.values, self.config.grad_clip)
        rate = self.config.lr, self.config.warmup, self.config.decay_from
        self.adam.param_groups[0]["lr"] = learning_rate(self.steps, *rate)
        self.adam.step()
        decay = ema_decay(self.steps, self.config.ema_decay)
        torch._foreach_lerp_(self.ema, [value.detach() for value in self.values], 1 - decay)
        self.loss = loss.detach()  # as ours it is read when somebody asks

    def sample(self) -> None:
        """Do one step of the reverse chain of a batch; after the last, begin another."""
        self._switch(training=False)
        if self.t == 0:
            shape = (self.config.batch, *self.images.shape[1:])
            self.t, self.x = self.T, self._laid_out(torch.randn(shape, device=self.device))
        self.x = self.step(self.x, self.t)
        self.t -= 1

    def step(self, x: Tensor, t: int) -> Tensor:
        """Draw x_{t−1} of x_t."""
        with torch.no_grad():
            with self._autocast():
                times = torch.full((len(x),), t - 1, device=self.device)
                output = self.call(x, times).float()
            eps = output[:, : x.shape[1]]
            x0 = ((x - self.noise[t] * eps) / self.signal[t]).clamp_(-1, 1)
            mean = self.from_x0[t - 1] * x0 + self.from_xt[t - 1] * x
            if t == 1:
                return mean
            return mean + self._sigma(output, t) * torch.randn_like(x)

    def _sigma(self, output: Tensor, t: int) -> Tensor:
        if not self.learned:
            return self.sigma[t]
        share = (output.chunk(2, dim=1)[1] + 1) / 2
        log_variance = share * self.log_beta[t - 1] + (1 - share) * self.log_floor[t]
        return torch.exp(0.5 * log_variance)

    def output(self, x: npt.NDArray[np.float32], t: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The network's output (N, H, W, C_out) for ``x`` (N, H, W, C) and 0-based ``t``."""
        self._switch(training=False)
        images = self._laid_out(torch.from_numpy(x).permute(0, 3, 1, 2))
        with torch.no_grad(), self._autocast():
            y = self.call(images, torch.from_numpy(t).to(self.device))
        permuted: npt.NDArray[Any] = y.float().permute(0, 2, 3, 1).cpu().numpy()
        return permuted


def _adam(values: list[Tensor], *, fused: bool) -> Any:
    return torch.optim.Adam(values, fused=fused, foreach=not fused)


def fused_adam_is_faster(config: RunConfig, device: str) -> bool:
    """Time both of Adam's fast updates on the parameters of a network."""
    clock, seconds = seconds_on(device), {}
    for fused in (False, True):
        values = list(TorchUNet(config.network).to(device).parameters())
        for value in values:
            value.grad = torch.randn_like(value)
        adam = _adam(values, fused=fused)
        adam.step()
        seconds[fused] = min(clock(adam.step, 4) for _ in range(5))
    return seconds[True] < seconds[False]


def tensor_memory(step: Step, *, warm_up: int, steps: int) -> int:
    """The most bytes of a GPU that tensors take over ``steps``.

    ``warm_up`` steps come first and are not counted, for in them cuDNN tries what needs more.
    """
    for _ in range(warm_up):
        step()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(steps):
        step()
    return int(torch.cuda.max_memory_allocated())

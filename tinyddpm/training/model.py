"""A trained network, ready to sample: what a checkpoint turns into."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, final, get_args

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, IntArray, resolve_device, to_device, to_host
from tinyddpm.data.pixels import to_bytes
from tinyddpm.diffusion.arguments import check_choice, check_whole
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.guidance import check_weight, guided_model
from tinyddpm.diffusion.sampling import Model, SampleStep, last_image
from tinyddpm.errors import CheckpointError, DeviceError, UsageError
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.nn.unet import UNet
from tinyddpm.parallel import Workers
from tinyddpm.rng import Stream
from tinyddpm.training.checkpoint import Checkpoint
from tinyddpm.training.config import RunConfig
from tinyddpm.training.denoiser import Denoiser
from tinyddpm.training.device_walk import AT_ONCE, DeviceWalks
from tinyddpm.training.kernel_choice import cuda_runtime, kernels_for
from tinyddpm.training.run_directory import find

Weights = Literal["ema", "raw"]
# walk(first_sample, labels): with the n images from number first_sample on; labels (n,) or None.
Walk = Callable[[int, IntArray | None], Iterator[SampleStep]]

_FOREIGN = "the checkpoint's parameters are not those of the network that its config describes"
_OTHER_CHECKPOINT = "a checkpoint that this program wrote as a whole"


@final
class TrainedModel:
    """A network with its chain.

    Attributes:
        config: of the run that it comes from.
        network: with the moving average of the weights, unless the raw ones were asked for.
        diffusion: its chain.
        step: how many steps it was trained.
    """

    def __init__(
        self,
        config: RunConfig,
        values: Array,
        step: int,
        *,
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        self.config, self.step, self.device = config, step, device
        kernels = kernels_for(device, precision)
        self.network = UNet(config.network, kernels=kernels, values=to_device(values, device))
        self.diffusion: GaussianDiffusion = config.diffusion.build()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.config.network.image_shape

    @contextmanager
    def denoiser(self, threads: int = 0) -> Iterator[Denoiser]:
        """Yield the model that the diffusion calls; its workers are there until the block ends.

        Args:
            threads: 0 means one for each core; a GPU has one.

        Raises:
            UsageError: ``threads`` is no number of threads.
        """
        check_whole("threads", threads, least=0)
        with Workers(threads if self.device == "cpu" else 1) as workers:
            shard = self.config.shard if self.device == "cpu" else AT_ONCE
            yield Denoiser(self.network, workers, shard)

    def sample(
        self,
        n: int,
        *,
        steps: int | None = None,
        eta: float | None = None,
        labels: IntArray | None = None,
        guidance: float = 0.0,
        seed: int = 0,
        stream: Stream = "sample",
        threads: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Return ``n`` images (n, H, W, C), bytes.

        Args:
            n: how many.
            steps: of the reverse chain, 1 … T; all T unless given.
            eta: of DDIM, 0 … 1; without it sampling is ancestral.
            labels: (n,) the class of each image, for a network with classes: 0 … classes − 1, or
                ``classes`` for none. By default all in turn.
            guidance: w of classifier-free guidance; 0 is the conditional model as it is.
            seed: of the noise; image i depends, up to rounding, on the seed and i alone.
            stream: of the random numbers.
            threads: 0 means one for each core.
            progress: called after each step with its t.

        Raises:
            UsageError: ``n``, ``steps`` or ``guidance`` is out of range, or classes are asked for
                that there are not.
        """
        walk = self.walk(
            n,
            steps=steps,
            eta=eta,
            labels=labels,
            guidance=guidance,
            seed=seed,
            stream=stream,
            threads=threads,
        )
        return to_bytes(to_host(last_image(walk, progress)))

    def walk(
        self,
        n: int,
        *,
        steps: int | None = None,
        eta: float | None = None,
        labels: IntArray | None = None,
        guidance: float = 0.0,
        seed: int = 0,
        stream: Stream = "sample",
        threads: int = 0,
    ) -> Iterator[SampleStep]:
        """Walk from noise to the images of ``sample``, yielding (t, x_{t−1}, x0_hat) on the way.

        t counts the steps of this walk, from ``steps`` down to 1; the arguments are ``sample``'s.
        """
        check_whole("n", n, least=1)
        labels = self._labels(n, labels, guidance)
        with self.walks(
            n, steps=steps, eta=eta, guidance=guidance, seed=seed, stream=stream, threads=threads
        ) as walk:
            yield from walk(0, labels)

    @contextmanager
    def walks(
        self,
        n: int,
        *,
        steps: int | None = None,
        eta: float | None = None,
        guidance: float = 0.0,
        seed: int = 0,
        stream: Stream = "sample",
        threads: int = 0,
    ) -> Iterator[Walk]:
        """Yield a function of ``(first_sample, labels)`` that walks as ``walk`` does.

        Each call walks with ``n`` images. What all of them need is made once. One walk must end
        before another begins.
        """
        chain, shape = self._chain(steps), (n, *self.image_shape)
        if self.device == "cuda":
            device_walks = partial(DeviceWalks, self.network, chain, cuda_runtime(), shape)
            yield device_walks(eta=eta, guidance=guidance, seed=seed, stream=stream).walk
            return
        steps_of = chain.sample_steps if eta is None else partial(chain.ddim_steps, eta=eta)
        with self.denoiser(threads) as denoiser:

            def walk(first_sample: int, labels: IntArray | None) -> Iterator[SampleStep]:
                model = self._model_for(denoiser, labels, guidance)
                return steps_of(model, shape, seed=seed, stream=stream, first_sample=first_sample)

            yield walk

    def decode(
        self,
        x_T: Array,
        *,
        steps: int | None = None,
        labels: IntArray | None = None,
        guidance: float = 0.0,
        threads: int = 0,
    ) -> Iterator[SampleStep]:
        """Walk from the noise ``x_T`` (n, H, W, C) to the images that it stands for.

        That is DDIM with η = 0, which adds no noise on the way. It yields as ``walk`` does; the
        other arguments are those of ``sample``.
        """
        chain, labels = self._chain(steps), self._labels(len(x_T), labels, guidance)
        if self.device == "cuda":
            shape = (len(x_T), *self.image_shape)
            device_walks = partial(DeviceWalks, self.network, chain, cuda_runtime(), shape)
            yield from device_walks(eta=0.0, guidance=guidance).walk(0, labels, x_T)
            return
        with self.denoiser(threads) as denoiser:
            model = self._model_for(denoiser, labels, guidance)
            yield from chain.ddim_steps_from(model, x_T)

    def _chain(self, steps: int | None) -> GaussianDiffusion:
        return self.diffusion.respace(self.diffusion.schedule.T if steps is None else steps)

    def _labels(self, n: int, labels: IntArray | None, guidance: float) -> IntArray | None:
        """The labels of ``n`` images: those given, or else all classes in turn; None without
        classes.
        """
        check_weight(guidance)
        classes = self.config.network.classes
        if not classes and (labels is not None or guidance):
            raise UsageError(
                "this network was trained without classes",
                remedy="tinyddpm train --conditional trains one with classes",
            )
        if labels is None:
            return np.arange(n) % classes if classes else None
        labels = np.asarray(labels)
        whole = labels.shape == (n,) and labels.dtype.kind in "iu"
        if not whole or ((labels < 0) | (labels > classes)).any():
            raise UsageError(
                f"labels must be {n} integers, one for each image, in 0 ... {classes - 1}, "
                f"or {classes} for no class",
                cause=f"got {labels}",
            )
        return labels

    def _model_for(self, denoiser: Denoiser, labels: IntArray | None, guidance: float) -> Model:
        """The model of x_t and t alone that samples ``labels`` with ``guidance``."""
        if labels is None:
            return denoiser
        null_label = self.config.network.classes
        return guided_model(denoiser, labels, null_label=null_label, weight=guidance)


def load(
    run_or_checkpoint: str | Path,
    *,
    weights: Weights = "ema",
    device: str = "cpu",
    precision: Precision = "fp32",
) -> TrainedModel:
    """Return the model in a run directory or a checkpoint file, ready to sample.

    Args:
        run_or_checkpoint: such as ``runs/mnist-1``, or a ``.npz`` in its ``checkpoints``.
        weights: ``ema``, or ``raw`` for the last ones as they were.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        precision: of the products on a GPU, ``fp32``, ``tf32`` or ``bf16``.

    Raises:
        UsageError: the folder is no run, or there are no such weights or precision.
        DeviceError: the device is unknown, or not there.
        CheckpointError: there is no such file, it is damaged, or of another program.

    Warns:
        UserWarning: the run's latest checkpoint is damaged, and an earlier one was taken.
    """
    check_choice("weights", weights, get_args(Weights))
    check_choice("precision", precision, get_args(Precision))
    device = resolve_device(device)
    found = find(Path(run_or_checkpoint))
    if found.warning:
        warnings.warn(found.warning, stacklevel=2)
    return from_checkpoint(found.checkpoint, weights, device, precision)


def from_checkpoint(
    checkpoint: Checkpoint,
    weights: Weights = "ema",
    device: str = "cpu",
    precision: Precision = "fp32",
) -> TrainedModel:
    """Return the model in ``checkpoint``.

    Raises:
        CheckpointError: its parameters are not those of the network that its config describes.
    """
    values = {"ema": checkpoint.ema, "raw": checkpoint.value}[weights]
    config = RunConfig.from_json(checkpoint.config)
    try:
        model = TrainedModel(config, values, checkpoint.step, device=device, precision=precision)
    except DeviceError:
        raise
    except ValueError as error:  # the flat values do not even have the network's size
        raise CheckpointError(_FOREIGN, cause=str(error), remedy=_OTHER_CHECKPOINT) from error
    check_parameters(model.network, checkpoint)
    return model


def check_parameters(network: UNet, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose parameters are not, name by name, those of ``network``.

    Raises:
        CheckpointError: they are not.
    """
    if [(p.name, p.shape) for p in network.parameters] != checkpoint.parameters:
        raise CheckpointError(_FOREIGN, remedy=_OTHER_CHECKPOINT)

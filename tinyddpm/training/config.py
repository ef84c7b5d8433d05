"""Everything that a run's result is a function of, and the named choices of it.

Settings that change no bit of the result (threads, how often a run saves) are not in here, nor is
the device, which changes only the rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

from tinyddpm.diffusion.arguments import check_choice, check_whole
from tinyddpm.diffusion.gaussian import GaussianDiffusion, Prediction, Variance
from tinyddpm.diffusion.losses import VLB_WEIGHT, Objective, resolve_objective
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.diffusion.timestep_sampling import SecondMomentTimes, TimeSampler, UniformTimes
from tinyddpm.errors import CheckpointError, UsageError
from tinyddpm.nn.config import UNetConfig, use_python_numbers

TimeSampling = Literal["uniform", "second-moment"]
ScheduleName = Literal["linear", "cosine", "log-snr-linear"]


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """The chain, and how it is trained.

    Attributes:
        schedule: of β.
        T: steps.
        predict: what the network's output stands for.
        variance: of the way back; ``learned`` doubles the network's output channels.
        objective: what is minimised (see ``diffusion.losses``); None follows from the variance.
        vlb_weight: λ of the hybrid: mean square per bit/dim of the bound summed over t.
        times: how t is drawn, uniformly or by the second moment of the losses at each t.
    """

    schedule: ScheduleName = "cosine"
    T: int = 1000
    predict: Prediction = "eps"
    variance: Variance = "beta_tilde"
    objective: Objective | None = None
    vlb_weight: float = VLB_WEIGHT
    times: TimeSampling = "uniform"

    def __post_init__(self) -> None:
        """Refuse what no chain can be."""
        use_python_numbers(self)
        check_choice("schedule", self.schedule, get_args(ScheduleName))
        check_choice("times", self.times, get_args(TimeSampling))
        if not 0 <= self.vlb_weight < math.inf:
            raise UsageError(f"vlb_weight must be a number from 0 on: got {self.vlb_weight}")
        resolve_objective(self.objective, self.variance)
        self.build()

    def build_times(self) -> TimeSampler:
        """Return what draws t."""
        return SecondMomentTimes(self.T) if self.times == "second-moment" else UniformTimes(self.T)

    def build(self) -> GaussianDiffusion:
        """Return the chain."""
        constructors: dict[str, Callable[[int], NoiseSchedule]] = {
            "linear": NoiseSchedule.linear,
            "cosine": NoiseSchedule.cosine,
            "log-snr-linear": NoiseSchedule.log_snr_linear,
        }
        return GaussianDiffusion(constructors[self.schedule](self.T), self.predict, self.variance)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run.

    Attributes:
        data: name of the data set or, for a user's own, its absolute path.
        data_dir: the folder it was read from, or the one where it is now.
        skip_bad: leave out pictures that cannot be read.
        preset: the name under which the network and the recipe were chosen.
        seed: of every random number.
        class_names: of the labels that the network is told; empty if it is told none.
        label_dropout: how often a label is replaced by the null label, for guidance.
        network: the shape of the U-Net.
        diffusion: the chain.
        batch: images per step.
        shard: images per shard; it fixes the order of sums, and so belongs to the result.
        train_steps: steps in all.
        lr: Adam's learning rate after warm-up.
        warmup: steps of linear warm-up.
        decay_from: the step from which the learning rate falls as 1/√step; 0: it does not fall.
        grad_clip: largest global norm of the gradient.
        ema_decay: decay of the moving average of the parameters.
        flips: mirror half of the images left to right; for natural images, never for digits.
    """

    data: str
    data_dir: str = ""
    skip_bad: bool = False
    preset: str
    seed: int = 0
    class_names: tuple[str, ...] = ()
    label_dropout: float = 0.1
    network: UNetConfig
    diffusion: DiffusionConfig
    batch: int
    shard: int
    train_steps: int
    lr: float
    warmup: int
    decay_from: int = 0
    grad_clip: float = 1.0
    ema_decay: float
    flips: bool = False

    def __post_init__(self) -> None:
        """Refuse what can't be trained."""
        use_python_numbers(self)
        self._check_rates()
        for name in ("batch", "shard", "train_steps"):
            check_whole(name, getattr(self, name), least=1)
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"a seed is an integer in [0, 2^32): got {self.seed}")
        if len(self.class_names) != self.network.classes:
            raise UsageError(
                f"the network must have a class for each of {self.class_names}",
                cause=f"it has {self.network.classes}",
            )

    def _check_rates(self) -> None:
        if not 0 < self.lr < 1e3:
            raise UsageError(f"lr must be positive and less than 1000: got {self.lr}")
        if not 0 < self.grad_clip < math.inf:
            raise UsageError(f"grad_clip must be positive and finite: got {self.grad_clip}")
        if self.warmup < 0 or self.decay_from < 0:
            raise UsageError(
                "warmup and decay_from are numbers of steps, not negative",
                cause=f"warmup {self.warmup}, decay_from {self.decay_from}",
            )
        if not (0 <= self.ema_decay < 1 and 0 <= self.label_dropout <= 1):
            raise UsageError(
                "ema_decay must lie in [0, 1), and label_dropout in [0, 1]",
                cause=f"ema_decay {self.ema_decay}, label_dropout {self.label_dropout}",
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries, lists and scalars."""
        plain: dict[str, Any] = asdict(self)
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> RunConfig:
        """Return the config that ``to_json`` wrote (JSON turns tuples into lists).

        Keys that an earlier version did not write take their defaults.

        Raises:
            CheckpointError: a key is missing, unknown, or of an impossible value.
        """
        try:
            lists = plain["network"].items()
            network: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in lists}
            parts: dict[str, Any] = {
                "class_names": tuple(plain.get("class_names", ())),
                "network": UNetConfig(**network),
                "diffusion": DiffusionConfig(**plain["diffusion"]),
            }
            return cls(**{**plain, **parts})
        except (KeyError, TypeError, AttributeError, UsageError) as error:
            raise CheckpointError(
                "the configuration is not one of this program's",
                cause=str(error),
                remedy="the version of tinyddpm that wrote it",
            ) from error


def differing(a: RunConfig, b: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Return both values of each key in which two configs differ."""
    pairs = zip(flat(a.to_json()), flat(b.to_json()), strict=True)
    return {key: (one, other) for (key, one), (_, other) in pairs if one != other}


def flat(plain: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the items of nested dictionaries, their keys joined by dots."""
    items: list[tuple[str, Any]] = []
    for key, value in plain.items():
        nested = isinstance(value, dict)
        items += flat(value, f"{prefix}{key}.") if nested else [(prefix + key, value)]
    return items


NATURAL_IMAGES = {"cifar10"}  # may be mirrored; digits and letters never
DEFAULT_PRESET = {
    "glyphs": "glyphs",
    "mnist": "mnist",
    "fashion-mnist": "mnist",
    "cifar10": "cifar10",
}


def default_preset(data: str, images_shape: tuple[int, ...]) -> str:
    """Return the preset for a data set of images (N, H, W, C).

    One that is not known by name gets a small network, which ``fit_to`` adapts to its images: that
    of MNIST, with three levels, if they are larger than the glyphs and can be halved twice, and
    that of the glyphs otherwise.
    """
    if data in DEFAULT_PRESET:
        return DEFAULT_PRESET[data]
    size = images_shape[1]
    return "mnist" if size > UNetConfig.preset("glyphs").image_size and size % 4 == 0 else "glyphs"


def recipe(preset: str, data: str) -> RunConfig:
    """Return the run that ``preset`` stands for, on data set ``data``.

    Raises:
        UsageError: no such preset.
    """
    network = UNetConfig.preset(preset)
    config = _RECIPES[preset](data=data, preset=preset, network=network)
    return replace(config, flips=config.flips and data in NATURAL_IMAGES)


def fit_to(
    config: RunConfig, images_shape: tuple[int, ...], class_names: tuple[str, ...] = ()
) -> RunConfig:
    """Return ``config`` with its network adapted to images (N, H, W, C), variance and classes.

    Attention stays at the levels where it was.

    Raises:
        UsageError: the images are not square, or of a size that the network cannot halve.
    """
    _, height, width, channels = images_shape
    if height != width:
        raise UsageError(f"images must be square: got {height}×{width} pixels")
    outputs = 2 * channels if config.diffusion.variance == "learned" else channels
    network = replace(
        config.network.resized(height),
        in_channels=channels,
        out_channels=outputs,
        classes=len(class_names),
        time_scale=_time_scale(config),
    )
    return replace(config, network=network, class_names=class_names)


def _time_scale(config: RunConfig) -> float:
    """Where times are scaled, the network is to see 0 … 1000 whatever the length of the chain."""
    return 1000 / config.diffusion.T if config.network.time_scale != 1.0 else 1.0


# The settings of each preset; ``recipe`` adds the data, the preset and its network.
_RECIPES: dict[str, Callable[..., RunConfig]] = {
    "glyphs": partial(
        RunConfig,
        diffusion=DiffusionConfig(),
        batch=64,
        shard=16,
        train_steps=1200,
        lr=2e-3,
        warmup=100,
        ema_decay=0.995,
    ),
    "mnist": partial(
        RunConfig,
        diffusion=DiffusionConfig(),
        batch=64,
        shard=16,
        train_steps=12_000,
        lr=4e-3,
        warmup=200,
        decay_from=1000,
        ema_decay=0.999,
    ),
    "mnist-1.7m": partial(
        RunConfig,
        diffusion=DiffusionConfig(),
        batch=128,
        shard=4,
        train_steps=4690,  # ten epochs, as in the course
        lr=1e-3,
        warmup=200,
        ema_decay=0.999,
    ),
    "cifar10": partial(
        RunConfig,
        diffusion=DiffusionConfig(schedule="linear", variance="beta"),
        batch=128,
        shard=4,
        train_steps=800_000,
        lr=2e-4,
        warmup=5000,
        ema_decay=0.9999,
        flips=True,
    ),
    "cifar10-improved": partial(
        RunConfig,
        diffusion=DiffusionConfig(T=4000, variance="learned"),
        batch=128,
        shard=4,
        train_steps=500_000,
        lr=1e-4,
        warmup=1,
        ema_decay=0.9999,
        flips=True,
    ),
}

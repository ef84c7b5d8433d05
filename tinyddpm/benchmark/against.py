"""Ours beside PyTorch's: the same network, the same values, in one process, in turns.

Ours is timed alone, before PyTorch has done anything. Then the outputs must agree. Then PyTorch is
timed alone, and both are timed in turns (see ``clock``). If a side takes the same time alone and in
turns, the other is not in its way while it waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.benchmark.clock import Spread, Timed, in_turns, paired_ratio
from tinyddpm.data.dataset import ByteArray
from tinyddpm.errors import FailedCheckError, TinyDDPMError, UsageError
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.nn.parameters import Parameters
from tinyddpm.training.config import RunConfig

# Of the largest element, by the precision of the products: several times what the presets show.
AGREEMENT = {"fp32": 1e-4, "tf32": 2e-2, "bf16": 0.1}
ALONE_ROUNDS = 5  # at most
# Steps before any is counted: on a GPU they are compiled, searched for and recorded.
WARM_UP = {"cpu": 1, "cuda": 4}


class Contestant(Protocol):
    """Who trains and samples the network."""

    def timed(self, kind: str) -> Timed:
        """What does ``kind`` of steps (``train`` or ``sample``), with a clock."""

    def output(self, x: Array, t: IntArray) -> Array:
        """The network's output (N, H, W, C_out) for ``x`` (N, H, W, C) and 0-based ``t``."""


class OurSide(Contestant, Protocol):
    """Our side, with what the other side takes over from it."""

    name: str
    images: ByteArray
    parameters: Parameters


class Ground(NamedTuple):
    """Where both sides compute.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: of the products.
        threads: on a CPU.
    """

    device: str
    precision: Precision
    threads: int


def load_torch() -> ModuleType:
    """Return ``torch_steps``: the one place through which PyTorch is imported.

    Raises:
        UsageError: it is not installed.
    """
    try:
        from tinyddpm.benchmark import torch_steps  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "PyTorch is not installed, and there is nothing to compare with",
            cause=str(error),
            remedy="pip install torch",
        ) from error
    return torch_steps


class Variant(NamedTuple):
    """A way of running PyTorch, and what it took.

    Attributes:
        mode: one of ``torch_steps.MODES``.
        layout: its memory format.
        difference: of its output from ours, as a share of the largest element.
        alone: seconds a step, before the turns began.
        in_turns: seconds a step, in each round.
        ratio: its time over ours, round by round.
    """

    mode: str
    layout: str
    difference: float
    alone: Spread
    in_turns: list[float]
    ratio: Spread

    @property
    def kind(self) -> str:
        """Its mode; torch.compile is one, however it was called."""
        return _kind(self.mode)


class Comparison(NamedTuple):
    """One kind of step.

    Attributes:
        alone: our seconds a step, before PyTorch did anything.
        in_turns: our seconds a step, in each round.
        variants: PyTorch's.
    """

    alone: Spread
    in_turns: list[float]
    variants: list[Variant]

    def best(self, kind: str = "eager") -> Variant:
        """PyTorch's faster variant of a ``kind``."""
        return min(self._of(kind), key=lambda variant: variant.ratio.median)

    def is_faster(self, variant: Variant) -> bool:
        """Whether ``variant`` is the best of several of its kind."""
        return len(self._of(variant.kind)) > 1 and variant is self.best(variant.kind)

    def _of(self, kind: str) -> list[Variant]:
        return [variant for variant in self.variants if variant.kind == kind]

    def disturbance(self) -> float:
        """By how much the times alone and in turns differ: a share of the smaller, the worst."""
        pairs = [(self.alone, self.in_turns)]
        pairs += [(variant.alone, variant.in_turns) for variant in self.variants]
        ratios = [Spread.of(turns).median / alone.median for alone, turns in pairs]
        return max(max(ratio, 1 / ratio) for ratio in ratios) - 1


class Rivals:
    """PyTorch's side of a comparison.

    Args:
        config: of the run.
        ours: our side; the network's values and the images are taken over.
        ground: where.
        modes: of ``torch_steps.MODES``.

    Raises:
        UsageError: PyTorch is not installed.
        FailedCheckError: an output is not ours.
    """

    def __init__(
        self, config: RunConfig, ours: OurSide, ground: Ground, modes: tuple[str, ...]
    ) -> None:
        self.torch, self.ground = load_torch(), ground
        if ground.device == "cuda":
            self.torch.set_up_gpu(ground.precision)
        else:
            self.torch.set_threads(ground.threads)
        self.fused = self.torch.fused_adam_is_faster(config, ground.device)
        self.runs: dict[tuple[str, str], Contestant] = {
            (mode, layout): self.torch.TorchRun(
                config,
                ours.images,
                layout=layout,
                mode=mode,
                parameters=ours.parameters,
                fused=self.fused,
                device=ground.device,
                precision=ground.precision,
            )
            for mode in modes
            for layout in self.torch.LAYOUTS[ground.device]
        }
        # On a GPU as many images as are timed: torch.compile does each number of them by itself.
        asked = questions(config, config.batch if ground.device == "cuda" else 4)
        answer = ours.output(*asked)
        self.differences = {}
        for key, run in self.runs.items():
            with _told_if_it_fails(*key):
                found = _difference(run.output(*asked), answer)
                for kind in ("train", "sample"):  # what can fail should fail now
                    run.timed(kind)(1)
            self.differences[key] = _checked(found, *key, ground.precision)

    def compare(
        self, ours: OurSide, kind: str, alone: Spread, *, rounds: int, steps: int
    ) -> Comparison:
        """Time a ``kind`` of step (``train`` or ``sample``), alone and in turns with ``ours``.

        ``alone`` is what ours took before PyTorch did anything.
        """
        contestants = {" ".join(key): run.timed(kind) for key, run in self.runs.items()}
        few, warm_up = min(rounds, ALONE_ROUNDS), WARM_UP[self.ground.device]
        by_itself = {
            name: in_turns({name: timed}, rounds=few, steps=steps, warm_up=warm_up)[name]
            for name, timed in contestants.items()
        }
        contestants[ours.name] = ours.timed(kind)
        seconds = in_turns(contestants, rounds=rounds, steps=steps, warm_up=warm_up)
        mine = seconds[ours.name]
        variants = [
            Variant(
                mode,
                layout,
                self.differences[mode, layout],
                Spread.of(by_itself[f"{mode} {layout}"]),
                seconds[f"{mode} {layout}"],
                paired_ratio(seconds[f"{mode} {layout}"], mine),
            )
            for mode, layout in self.runs
        ]
        return Comparison(alone, mine, variants)


def questions(config: RunConfig, count: int) -> tuple[Array, IntArray]:
    """Return ``count`` images of noise and 0-based times, for networks to be compared by."""
    shape = (count, *config.network.image_shape)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    return x, np.resize([0, 3, 250, 999], count)


def _kind(mode: str) -> str:
    return "compile" if mode == "reduce-overhead" else mode


@contextmanager
def _told_if_it_fails(mode: str, layout: str) -> Iterator[None]:
    """Tell the user what PyTorch says: its compiler, or that the memory is full."""
    try:
        yield
    except RuntimeError as error:
        compiled = _kind(mode) == "compile"
        raise TinyDDPMError(
            "torch.compile failed" if compiled else f"PyTorch failed ({mode}, {layout})",
            cause=str(error).strip(),
            remedy="a C++ compiler, or no --compile" if compiled else "a smaller --batch",
        ) from error


def _difference(found: Array, answer: Array) -> float:
    """By how much ``found`` differs from our ``answer``, relative to its largest element."""
    return float(np.abs(found - answer).max() / np.abs(answer).max())


def _checked(difference: float, mode: str, layout: str, precision: Precision) -> float:
    """Return ``difference`` if it is small enough, and raise if not."""
    allowed = AGREEMENT["bf16" if mode == "bf16" else precision]
    if not difference <= allowed:
        raise FailedCheckError(
            f"PyTorch's output ({mode}, {layout}) is not ours: the times would mean nothing",
            cause=f"it differs by {difference:.1e} of the largest element, allowed {allowed:.0e}",
            remedy="tinyddpm gradcheck, and a report of this error",
        )
    return difference

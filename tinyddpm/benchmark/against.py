"""Ours beside PyTorch's: the same network, the same values, in one process, in turns.

Before anything is timed, the outputs must agree. Then each side is timed alone, ours before PyTorch
is even loaded, and both in turns (see ``clock``): where the times are the same, neither side is in
the other's way while it waits.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tinyddpm.benchmark.clock import Spread, in_turns, paired_ratio
from tinyddpm.benchmark.ours import Ours, random_dataset
from tinyddpm.errors import TinyDDPMError, UsageError
from tinyddpm.nn.unet import UNet
from tinyddpm.training.config import RunConfig

AGREEMENT = 1e-4  # of the largest element
AGREEMENT_BF16 = 0.1
ALONE_ROUNDS = 5  # at most


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
        mode: eager, compile or bf16.
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


class Comparison(NamedTuple):
    """One kind of step.

    Attributes:
        alone: our seconds a step, without PyTorch.
        in_turns: our seconds a step, in each round.
        variants: PyTorch's.
    """

    alone: Spread
    in_turns: list[float]
    variants: list[Variant]

    def best(self, mode: str = "eager") -> Variant:
        """PyTorch's faster memory format."""
        of_mode = [variant for variant in self.variants if variant.mode == mode]
        return min(of_mode, key=lambda variant: variant.ratio.median)

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
        network: ours; its values are taken over.
        threads: for PyTorch.
        modes: of ``torch_steps.MODES``.

    Raises:
        UsageError: PyTorch is not installed.
        TinyDDPMError: an output is not ours.
    """

    def __init__(
        self, config: RunConfig, network: UNet, threads: int, modes: tuple[str, ...]
    ) -> None:
        self.torch = load_torch()
        self.torch.set_threads(threads)
        self.fused = self.torch.fused_adam_is_faster(config)
        images = random_dataset(config.network).images
        self.runs: dict[tuple[str, str], Any] = {
            (mode, layout): self.torch.TorchRun(
                config,
                images,
                layout=layout,
                mode=mode,
                parameters=network.parameters,
                fused=self.fused,
            )
            for mode in modes
            for layout in self.torch.FORMATS
        }
        self.differences = {key: _agreeing(network, run, *key) for key, run in self.runs.items()}

    def compare(
        self, ours: Ours, kind: str, alone: Spread, *, rounds: int, steps: int
    ) -> Comparison:
        """Time a ``kind`` of step (``train`` or ``sample``), alone and in turns with ``ours``.

        ``alone`` is what ours took before PyTorch was loaded.
        """
        contestants = {" ".join(key): getattr(run, kind) for key, run in self.runs.items()}
        few = min(rounds, ALONE_ROUNDS)
        by_itself = {
            name: Spread.of(in_turns({name: step}, rounds=few, steps=steps)[name])
            for name, step in contestants.items()
        }
        contestants[ours.name] = getattr(ours, kind)
        seconds = in_turns(contestants, rounds=rounds, steps=steps)
        mine = seconds[ours.name]
        variants = [
            Variant(
                mode,
                layout,
                self.differences[mode, layout],
                by_itself[f"{mode} {layout}"],
                seconds[f"{mode} {layout}"],
                paired_ratio(seconds[f"{mode} {layout}"], mine),
            )
            for mode, layout in self.runs
        ]
        return Comparison(alone, mine, variants)


def difference(network: UNet, run: Any) -> float:
    """The largest difference of the outputs for four noise images, relative to ours' largest."""
    config = network.config
    shape = (4, config.image_size, config.image_size, config.in_channels)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    t = np.array([0, 3, 250, 999])
    y, _ = network.forward(x, t)
    return float(np.abs(run.output(x, t) - y).max() / np.abs(y).max())


def _agreeing(network: UNet, run: Any, mode: str, layout: str) -> float:
    """The difference, which is small."""
    try:
        found = difference(network, run)
    except RuntimeError as error:
        if mode != "compile":
            raise
        raise TinyDDPMError(
            "torch.compile failed", cause=str(error), remedy="a C++ compiler, or no --compile"
        ) from error
    allowed = AGREEMENT_BF16 if mode == "bf16" else AGREEMENT
    if not found <= allowed:
        raise TinyDDPMError(
            f"PyTorch's output ({mode}, {layout}) is not ours: the times would mean nothing",
            cause=f"it differs by {found:.1e} of the largest element, allowed {allowed:.0e}",
            remedy="tinyddpm gradcheck, and a report of this error",
        )
    return found

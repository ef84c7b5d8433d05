"""What ``tinyddpm bench`` measures, and what a CPU and a GPU are measured by alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from tinyddpm.benchmark.against import WARM_UP, Comparison, Ground, OurSide, Rivals
from tinyddpm.benchmark.clock import Spread, in_turns
from tinyddpm.benchmark.device_memory import DeviceMemory
from tinyddpm.benchmark.flops import BACKWARD, Products, forward_products
from tinyddpm.benchmark.kernel_table import KernelTable
from tinyddpm.benchmark.memory import Memory
from tinyddpm.benchmark.op_table import OpTable
from tinyddpm.benchmark.scaling import Scaling
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.training.config import RunConfig, recipe

OP_STEPS = 3  # that the table by op or by kernel is taken over

Say = Callable[[str], None]


class Settings(NamedTuple):
    """What to measure.

    Attributes:
        preset: of the network.
        batch: images a step.
        shard: images that one worker takes at a time; 0: the preset's. A GPU takes all.
        threads: workers; 0: one for each core. A GPU has one.
        device: ``cpu`` or ``cuda``.
        precision: of the products; a CPU's are fp32.
        rounds: turns of each contestant.
        steps: of a turn; 0: as many as take a quarter of a second.
        ops: whether to tell the time by op, on a GPU by kernel.
        memory: whether to measure it.
        growth: steps over which to measure the growth of memory; 0: not at all.
        modes: of PyTorch, to compare with; empty: no comparison.
        scaling: whether to vary batch, channels and size.
    """

    preset: str = "mnist"
    batch: int = 64
    shard: int = 0
    threads: int = 0
    device: str = "cpu"
    precision: Precision = "fp32"
    rounds: int = 10
    steps: int = 0
    ops: bool = True
    memory: bool = True
    growth: int = 0
    modes: tuple[str, ...] = ()
    scaling: bool = False

    def config(self) -> RunConfig:
        """The run that is timed."""
        chosen = recipe(self.preset, "random")
        return replace(chosen, batch=self.batch, shard=self.shard or chosen.shard)


class Speed(NamedTuple):
    """One kind of step, of the whole batch.

    Attributes:
        seconds: a step.
        rounds: seconds a step, in each round.
        images: a second.
        flops: operations a second.
        share_of_peak: of the speed of large matrix products on as many threads, if it is known.
    """

    seconds: Spread
    rounds: list[float]
    images: float
    flops: float
    share_of_peak: float | None


class Against(NamedTuple):
    """PyTorch beside us.

    Attributes:
        version: of PyTorch.
        threads: PyTorch's on the CPU.
        adam: which of its fast updates was the faster.
        train: the training step.
        sample: the sampling step.
    """

    version: str
    threads: int
    adam: str
    train: Comparison
    sample: Comparison


class Report(NamedTuple):
    """Everything; None is what was not asked for, or is not measured on this device.

    Attributes:
        machine: processor, cores, versions, BLAS; the card.
        settings: what was asked for, with nothing left to a default.
        parameters: of the network.
        forward: operations of the forward of one image.
        train: the training step.
        sample: the sampling step.
        peak: operations a second of large matrix products.
        ops: the training step by op, or by kernel.
        memory: of a training run, by library.
        growth: memory over many steps.
        against: the comparison.
        scaling: time by batch, channels, size.
    """

    machine: dict[str, Any]
    settings: Settings
    parameters: int
    forward: Products
    train: Speed
    sample: Speed
    peak: float | None = None
    ops: OpTable | KernelTable | None = None
    memory: dict[str, Memory] | dict[str, DeviceMemory] | None = None
    growth: Memory | None = None
    against: Against | None = None
    scaling: Scaling | None = None


def speed(ours: OurSide, kind: str, settings: Settings, peak: float | None, say: Say) -> Speed:
    """Time a ``kind`` of step (``train`` or ``sample``) of ours."""
    say(f"{kind} steps")
    rounds = in_turns(
        {ours.name: ours.timed(kind)},
        rounds=settings.rounds,
        steps=settings.steps,
        warm_up=WARM_UP[settings.device],
    )[ours.name]
    seconds = Spread.of(rounds)
    forward = settings.batch * forward_products(settings.config().network).total
    work = forward * (1 + BACKWARD) if kind == "train" else forward
    flops = work / seconds.median
    share = flops / peak if peak else None
    return Speed(seconds, rounds, settings.batch / seconds.median, flops, share)


def against(ours: OurSide, settings: Settings, train: Speed, sample: Speed, say: Say) -> Against:
    """Time PyTorch's steps, alone and in turns with ours, which took ``train`` and ``sample``.

    Raises:
        UsageError: PyTorch is not installed.
        TinyDDPMError: its network does not compute what ours does.
    """
    say("PyTorch: outputs, and which Adam is faster")
    ground = Ground(settings.device, settings.precision, settings.threads)
    rivals = Rivals(settings.config(), ours, ground, settings.modes)

    def compare(kind: str, alone: Spread) -> Comparison:
        say(f"{kind} steps of PyTorch, alone and in turns with ours")
        return rivals.compare(ours, kind, alone, rounds=settings.rounds, steps=settings.steps)

    return Against(
        version=rivals.torch.version(settings.device),
        threads=rivals.torch.threads(),
        adam="fused" if rivals.fused else "foreach",
        train=compare("train", train.seconds),
        sample=compare("sample", sample.seconds),
    )


def plain(value: Any) -> Any:
    """Return ``value`` with named tuples turned into dictionaries, as JSON wants them."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value

"""All that ``tinyddpm bench`` measures, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from tinyddpm.benchmark import memory, surroundings
from tinyddpm.benchmark.against import Comparison, Rivals
from tinyddpm.benchmark.clock import Spread, in_turns
from tinyddpm.benchmark.flops import BACKWARD, Products, forward_products
from tinyddpm.benchmark.memory import Memory
from tinyddpm.benchmark.op_table import OpTable, Stopwatch, op_table
from tinyddpm.benchmark.ours import Ours
from tinyddpm.benchmark.scaling import Scaling, measure_scaling
from tinyddpm.parallel import Workers, available_cores
from tinyddpm.training.config import RunConfig, recipe
from tinyddpm.training.kernel_choice import kernels_for

OP_STEPS = 3  # that the table by op is taken over
LAYOUTS = ("channels first", "channels last")  # PyTorch's memory formats

Say = Callable[[str], None]


class Settings(NamedTuple):
    """What to measure.

    Attributes:
        preset: of the network.
        batch: images a step.
        shard: images that one thread takes at a time; 0: the preset's.
        threads: workers; 0: one for each core.
        device: ``cpu``.
        rounds: turns of each contestant.
        steps: of a turn; 0: as many as take a quarter of a second.
        ops: whether to tell the time by op.
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
        share_of_peak: of the speed of large matrix products on as many threads.
    """

    seconds: Spread
    rounds: list[float]
    images: float
    flops: float
    share_of_peak: float


class Against(NamedTuple):
    """PyTorch beside us.

    Attributes:
        version: of PyTorch.
        threads: PyTorch's.
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
    """Everything; None is what was not asked for.

    Attributes:
        machine: processor, cores, versions, BLAS.
        settings: what was asked for, with nothing left to a default.
        parameters: of the network.
        forward: operations of the forward of one image.
        peak: operations a second of large matrix products.
        train: the training step.
        sample: the sampling step.
        ops: the training step by op.
        memory: of a training run, by library.
        growth: memory over many steps.
        against: the comparison.
        scaling: time by batch, channels, size.
    """

    machine: dict[str, Any]
    settings: Settings
    parameters: int
    forward: Products
    peak: float
    train: Speed
    sample: Speed
    ops: OpTable | None
    memory: dict[str, Memory] | None
    growth: Memory | None
    against: Against | None
    scaling: Scaling | None


def measure(settings: Settings, say: Say) -> Report:
    """Measure what ``settings`` ask for; ``say`` is told what is being done.

    Raises:
        UsageError: PyTorch is to be compared with and not installed.
        TinyDDPMError: PyTorch's network does not compute what ours does.
    """
    config = settings.config()
    settings = settings._replace(shard=config.shard, threads=settings.threads or available_cores())
    where = surroundings.description()
    with Workers(settings.threads) as workers:
        say("large matrix products")
        ours = Ours(config, workers)
        peak = surroundings.gemm_peak(workers)
        train, sample = (_speed(ours, kind, settings, peak, say) for kind in ("train", "sample"))
        against = _against(ours, settings, train, sample, say) if settings.modes else None
    return Report(
        machine=where,
        settings=settings,
        parameters=ours.network.parameters.count,
        forward=forward_products(config.network),
        peak=peak,
        train=train,
        sample=sample,
        ops=_ops(config, say) if settings.ops else None,
        memory=_memory(settings, say) if settings.memory else None,
        growth=_growth(settings, say) if settings.growth else None,
        against=against,
        scaling=_scaling(settings, say) if settings.scaling else None,
    )


def _speed(ours: Ours, kind: str, settings: Settings, peak: float, say: Say) -> Speed:
    say(f"{kind} steps")
    step = {ours.name: getattr(ours, kind)}
    rounds = in_turns(step, rounds=settings.rounds, steps=settings.steps)[ours.name]
    seconds = Spread.of(rounds)
    forward = settings.batch * forward_products(settings.config().network).total
    work = forward * (1 + BACKWARD) if kind == "train" else forward
    flops = work / seconds.median
    return Speed(seconds, rounds, settings.batch / seconds.median, flops, flops / peak)


def _against(ours: Ours, settings: Settings, train: Speed, sample: Speed, say: Say) -> Against:
    say("PyTorch: outputs, and which Adam is faster")
    rivals = Rivals(settings.config(), ours.network, settings.threads, settings.modes)

    def compare(kind: str, alone: Spread) -> Comparison:
        say(f"{kind} steps of PyTorch, alone and in turns with ours")
        return rivals.compare(ours, kind, alone, rounds=settings.rounds, steps=settings.steps)

    return Against(
        version=rivals.torch.version(),
        threads=rivals.torch.threads(),
        adam="fused" if rivals.fused else "foreach",
        train=compare("train", train.seconds),
        sample=compare("sample", sample.seconds),
    )


def _ops(config: RunConfig, say: Say) -> OpTable:
    say("training steps by op, on one thread")
    watch = Stopwatch()
    with Workers(1) as workers:
        ours = Ours(config, workers, watch.on_table(kernels_for("cpu")))
        ours.train()
        watch.reset()
        begun = time.perf_counter()
        for _ in range(OP_STEPS):
            ours.train()
        total = time.perf_counter() - begun
    products = forward_products(config.network)
    return op_table(watch, total=total, steps=OP_STEPS, images=config.batch, products=products)


def _memory(settings: Settings, say: Say) -> dict[str, Memory]:
    say("memory, each run in a process of its own")
    task = memory.Task(settings.config().to_json(), settings.threads)
    found = {"tinyddpm": memory.measure(task)}
    for layout in LAYOUTS if settings.modes else ():
        found[f"PyTorch {layout}"] = memory.measure(replace(task, layout=layout))
    return found


def _growth(settings: Settings, say: Say) -> Memory:
    say(f"memory over {settings.growth:,} training steps")
    steps = memory.WARM_UP + settings.growth
    return memory.measure(memory.Task(settings.config().to_json(), settings.threads, steps))


def _scaling(settings: Settings, say: Say) -> Scaling:
    say("shards by batch, channels and size")
    config = settings.config()
    return measure_scaling(config.network, batch=settings.batch, shard=config.shard)


def plain(value: Any) -> Any:
    """Return ``value`` with named tuples turned into dictionaries, as JSON wants them."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value

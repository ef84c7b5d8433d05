"""All that ``tinyddpm bench`` measures on a CPU, one after the other."""

from __future__ import annotations

import time
from dataclasses import replace

from tinyddpm.benchmark import memory, surroundings
from tinyddpm.benchmark.flops import forward_products
from tinyddpm.benchmark.memory import Memory
from tinyddpm.benchmark.op_table import OpTable, Stopwatch, op_table
from tinyddpm.benchmark.ours import Ours
from tinyddpm.benchmark.report import OP_STEPS, Report, Say, Settings, against, speed
from tinyddpm.benchmark.scaling import Scaling, measure_scaling
from tinyddpm.parallel import Workers, available_cores
from tinyddpm.training.config import RunConfig
from tinyddpm.training.kernel_choice import kernels_for

LAYOUTS = ("channels first", "channels last")  # PyTorch's memory formats


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
        train, sample = (speed(ours, kind, settings, peak, say) for kind in ("train", "sample"))
        beside = against(ours, settings, train, sample, say) if settings.modes else None
    return Report(
        machine=where,
        settings=settings,
        parameters=ours.parameters.count,
        forward=forward_products(config.network),
        peak=peak,
        train=train,
        sample=sample,
        ops=_ops(config, say) if settings.ops else None,
        memory=_memory(settings, say) if settings.memory else None,
        growth=_growth(settings, say) if settings.growth else None,
        against=beside,
        scaling=_scaling(settings, say) if settings.scaling else None,
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

"""The report of ``tinyddpm bench`` as text."""

from __future__ import annotations

from collections.abc import Iterator

from tinyddpm.benchmark.against import Variant
from tinyddpm.benchmark.clock import Spread
from tinyddpm.benchmark.memory import Memory
from tinyddpm.benchmark.op_table import OpTable
from tinyddpm.benchmark.report import Against, Report, Speed
from tinyddpm.benchmark.scaling import Point, Scaling

MIB = 2**20
DISTURBED = 0.1  # by how much times alone and in turns may differ


def lines(report: Report) -> Iterator[str]:
    """The report, line by line."""
    yield from _heading(report)
    yield ""
    yield from _speeds(report)
    if report.against:
        yield from _against(report.against)
    if report.ops:
        yield from _ops(report.ops)
    if report.memory:
        yield from _memory(report.memory)
    if report.growth:
        yield from _growth(report.growth, report.settings.growth)
    if report.scaling:
        yield from _scaling(report.scaling)


def _heading(report: Report) -> Iterator[str]:
    where, settings = report.machine, report.settings
    held = where["blas_threads_held_by"]
    yield (
        f"preset {settings.preset}: {report.parameters:,} parameters, "
        f"{report.forward.total / 1e9:.3g} GFLOP an image forward, three times that in training"
    )
    yield (
        f"batch {settings.batch} in shards of {settings.shard}, {_threads(settings.threads)} "
        f"on {where['cores']} cores, {settings.rounds} rounds; load before {where['load']:.1f}"
    )
    yield (
        f"{where['processor']}; Python {where['python']}, NumPy {where['numpy']}, {where['blas']}, "
        + (f"held to one thread a worker through {held}" if held else "whose threads nobody holds")
    )
    yield f"large matrix products, float32: {report.peak / 1e9:.0f} GFLOP/s on these threads"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _speeds(report: Report) -> Iterator[str]:
    yield "step         ms    quartiles           images/s   GFLOP/s   of peak"
    for name, speed in (("training", report.train), ("sampling", report.sample)):
        yield _speed(name, speed)


def _speed(name: str, speed: Speed) -> str:
    return (
        f"{name:9}{1e3 * speed.seconds.median:7.1f}  {_quartiles(speed.seconds, 1e3):>19}"
        f"{speed.images:11.1f}{speed.flops / 1e9:10.1f}{speed.share_of_peak:10.0%}"
    )


def _quartiles(spread: Spread, unit: float, digits: int = 1) -> str:
    return f"{unit * spread.lower:.{digits}f} … {unit * spread.upper:.{digits}f}"


def _against(against: Against) -> Iterator[str]:
    yield ""
    yield (
        f"beside PyTorch {against.version} with {_threads(against.threads)} and {against.adam} "
        "Adam, in turns; ratio > 1: tinyddpm is faster"
    )
    for name, comparison in (("training", against.train), ("sampling", against.sample)):
        yield f"{name + ' step':34}alone ms   in turns ms   ratio   quartiles"
        in_turns = 1e3 * Spread.of(comparison.in_turns).median
        yield f"  {'tinyddpm':32}{1e3 * comparison.alone.median:8.1f}{in_turns:14.1f}"
        for variant in comparison.variants:
            faster = "  the faster" if variant is comparison.best(variant.mode) else ""
            yield _variant(variant) + faster
    yield from _disturbance(against)


def _disturbance(against: Against) -> Iterator[str]:
    """A warning where somebody's times alone and in turns are not the same."""
    apart = max(against.train.disturbance(), against.sample.disturbance())
    if apart > DISTURBED:
        yield (
            f"disturbed: alone and in turns differ by up to {apart:.0%}; "
            "measure again when nothing else is running"
        )


def _variant(variant: Variant) -> str:
    name = f"PyTorch {variant.mode}, {variant.layout}"
    return (
        f"  {name:32}{1e3 * variant.alone.median:8.1f}"
        f"{1e3 * Spread.of(variant.in_turns).median:14.1f}"
        f"{variant.ratio.median:8.2f}   {_quartiles(variant.ratio, 1.0, 2)}"
    )


def _ops(table: OpTable) -> Iterator[str]:
    yield ""
    yield "training step on one thread   calls   forward ms   backward ms   share   GFLOP/s"
    for row in table.rows:
        flops = f"{row.flops / 1e9:10.1f}" if row.flops else ""
        yield (
            f"  {row.op:26}{row.calls:7.0f}{1e3 * row.forward:13.2f}{1e3 * row.backward:14.2f}"
            f"{row.share:8.1%}{flops}"
        )
    yield (
        f"  {'everything else':33}{1e3 * table.everything_else:13.2f}{'':14}"
        f"{table.everything_else / table.total:8.1%}"
    )
    yield f"  {'total':33}{1e3 * table.total:13.2f}{'':14}{1:8.1%}"


def _memory(found: dict[str, Memory]) -> Iterator[str]:
    yield ""
    yield "peak memory of training        imports MiB   peak MiB   peak − imports"
    for name, memory in found.items():
        yield (
            f"  {name:29}{memory.imports / MIB:11.0f}{memory.peak / MIB:11.0f}"
            f"{(memory.peak - memory.imports) / MIB:17.0f}"
        )


def _growth(memory: Memory, steps: int) -> Iterator[str]:
    yield ""
    yield (
        f"resident memory over {steps:,} training steps: {memory.before / MIB:.1f} → "
        f"{memory.after / MIB:.1f} MiB, peak {memory.peak / MIB:.1f} MiB"
    )


def _scaling(scaling: Scaling) -> Iterator[str]:
    yield ""
    yield (
        "forward and backward of a shard on one thread; its calls without arithmetic take "
        f"{1e3 * scaling.overhead:.1f} ms"
    )
    yield "  images  channels  size   ms an image   GFLOP/s   share of the calls"
    for series in (scaling.batch, scaling.channels, scaling.size):
        for point in series:
            yield _point(point)
        yield ""
    yield _half(scaling)


def _point(point: Point) -> str:
    return (
        f"{point.images:8}{point.channels:10}{point.size:6}{1e3 * point.per_image:14.3f}"
        f"{point.flops / 1e9:10.1f}{point.overhead:21.0%}"
    )


def _half(scaling: Scaling) -> str:
    if scaling.half is not None:
        return f"calls are most of a shard's time where it has fewer than {scaling.half:.1f} images"
    if scaling.batch[0].overhead <= 0.5:
        return "calls are less than half of a shard's time even for one image"
    return f"calls are most of a shard's time up to {scaling.batch[-1].images} images and more"

"""The report of ``tinyddpm bench`` as text."""

from __future__ import annotations

from collections.abc import Iterator

from tinyddpm.benchmark.against import Variant
from tinyddpm.benchmark.clock import Spread
from tinyddpm.benchmark.device_memory import DeviceMemory
from tinyddpm.benchmark.kernel_table import KernelTable
from tinyddpm.benchmark.memory import Memory
from tinyddpm.benchmark.op_table import OpTable
from tinyddpm.benchmark.report import Against, Report, Settings, Speed
from tinyddpm.benchmark.scaling import Point, Scaling

MIB = 2**20
DISTURBED = 0.1  # by how much times alone and in turns may differ
DIGITS = {"cpu": 1, "cuda": 3}  # of a step's milliseconds
NAME = {"cpu": 32, "cuda": 38}  # columns of a contestant's


def lines(report: Report) -> Iterator[str]:
    """The report, line by line."""
    yield from _heading(report)
    yield ""
    yield from _speeds(report)
    if report.against:
        yield from _against(report.against, report.settings)
    if isinstance(report.ops, KernelTable):
        yield from _kernels(report.ops, report.train)
    elif report.ops:
        yield from _ops(report.ops)
    if report.memory:
        yield from _memory(report.memory, report.settings.device)
    if report.growth:
        yield from _growth(report.growth, report.settings.growth)
    if report.scaling:
        yield from _scaling(report.scaling)


def _heading(report: Report) -> Iterator[str]:
    settings = report.settings
    yield (
        f"preset {settings.preset}: {report.parameters:,} parameters, "
        f"{report.forward.total / 1e9:.3g} GFLOP an image forward, three times that in training"
    )
    yield from _card(report) if settings.device == "cuda" else _processor(report)


def _card(report: Report) -> Iterator[str]:
    where, settings = report.machine, report.settings
    yield (
        f"batch {settings.batch}, products in {settings.precision}, {settings.rounds} rounds "
        "between events of the device"
    )
    yield (
        f"{where['card']}, compute capability {where['compute_capability']}, "
        f"{where['multiprocessors']} multiprocessors, {where['card_memory'] / MIB:,.0f} MiB; "
        f"driver {where['driver']}, NVRTC {where['nvrtc']}, CuPy {where['cupy']}"
    )


def _processor(report: Report) -> Iterator[str]:
    where, settings = report.machine, report.settings
    held = where["blas_threads_held_by"]
    yield (
        f"batch {settings.batch} in shards of {settings.shard}, "
        f"{_counted(settings.threads, 'worker')} on {where['cores']} cores, "
        f"{settings.rounds} rounds; load before {where['load']:.1f}"
    )
    yield (
        f"{where['processor']}; Python {where['python']}, NumPy {where['numpy']}, {where['blas']}, "
        + (f"held to one thread a worker through {held}" if held else "whose threads nobody holds")
    )
    if report.peak:
        yield f"large matrix products, float32: {report.peak / 1e9:.0f} GFLOP/s on as many threads"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}"


def _speeds(report: Report) -> Iterator[str]:
    peak = "   of peak" if report.peak else ""
    yield f"step         ms    quartiles           images/s   GFLOP/s{peak}"
    for name, speed in (("training", report.train), ("sampling", report.sample)):
        yield _speed(name, speed, DIGITS[report.settings.device])


def _speed(name: str, speed: Speed, digits: int) -> str:
    share = f"{speed.share_of_peak:10.0%}" if speed.share_of_peak else ""
    return (
        f"{name:9}{_ms(speed.seconds, digits):>7}  {_quartiles(speed.seconds, 1e3, digits):>19}"
        f"{speed.images:11.1f}{speed.flops / 1e9:10.1f}{share}"
    )


def _ms(seconds: Spread, digits: int) -> str:
    return f"{1e3 * seconds.median:.{digits}f}"


def _quartiles(spread: Spread, unit: float, digits: int = 1) -> str:
    return f"{unit * spread.lower:.{digits}f} … {unit * spread.upper:.{digits}f}"


def _against(against: Against, settings: Settings) -> Iterator[str]:
    yield ""
    alike = _counted(against.threads, "thread") if settings.device == "cpu" else settings.precision
    yield (
        f"beside PyTorch {against.version} with {alike} and {against.adam} "
        "Adam, in turns; ratio > 1: tinyddpm is faster"
    )
    digits, width = DIGITS[settings.device], NAME[settings.device]
    for name, comparison in (("training", against.train), ("sampling", against.sample)):
        yield f"{name + ' step':{width + 2}}alone ms   in turns ms   ratio   quartiles"
        in_turns = _ms(Spread.of(comparison.in_turns), digits)
        yield f"  {'tinyddpm':{width}}{_ms(comparison.alone, digits):>8}{in_turns:>14}"
        for variant in comparison.variants:
            faster = "  the faster" if comparison.is_faster(variant) else ""
            yield _variant(variant, digits, width) + faster
    yield from _disturbance(against)


def _disturbance(against: Against) -> Iterator[str]:
    """A warning where somebody's times alone and in turns are not the same."""
    apart = max(against.train.disturbance(), against.sample.disturbance())
    if apart > DISTURBED:
        yield (
            f"disturbed: alone and in turns differ by up to {apart:.0%}; "
            "measure again when nothing else is running"
        )


def _variant(variant: Variant, digits: int, width: int) -> str:
    name = f"PyTorch {variant.mode}, {variant.layout}"
    return (
        f"  {name:{width}}{_ms(variant.alone, digits):>8}"
        f"{_ms(Spread.of(variant.in_turns), digits):>14}"
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


def _kernels(table: KernelTable, recorded: Speed) -> Iterator[str]:
    yield ""
    yield "training step, kernel by kernel   launches         ms   share"
    for row in table.rows:
        yield f"  {row.kernel:32}{row.launches:8.0f}{1e3 * row.seconds:11.3f}{row.share:8.1%}"
    share = table.everything_else / table.total
    yield f"  {'everything else':40}{1e3 * table.everything_else:11.3f}{share:8.1%}"
    yield f"  {'total':32}{table.launches:8.0f}{1e3 * table.total:11.3f}{1:8.1%}"
    yield (
        f"a recorded step takes {1e3 * recorded.seconds.median:.3f} ms; everything else: kernels "
        "of CuPy's own, events, gaps"
    )


def _memory(found: dict[str, Memory] | dict[str, DeviceMemory], device: str) -> Iterator[str]:
    columns = {
        "cpu": "imports MiB   peak MiB   peak − imports",
        "cuda": "of the card MiB   in tensors MiB",
    }
    yield ""
    yield f"peak memory of training        {columns[device]}"
    for name, memory in found.items():
        yield f"  {name:29}{_mebibytes(memory)}"


def _mebibytes(memory: Memory | DeviceMemory) -> str:
    if isinstance(memory, DeviceMemory):
        tensors = "" if memory.tensors is None else f"{memory.tensors / MIB:17.0f}"
        return f"{memory.taken / MIB:15.0f}{tensors}"
    return (
        f"{memory.imports / MIB:11.0f}{memory.peak / MIB:11.0f}"
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

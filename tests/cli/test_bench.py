"""``tinyddpm bench`` as a user meets it."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tinyddpm.benchmark import on_cpu, report, scaling
from tinyddpm.benchmark.against import Comparison, Variant
from tinyddpm.benchmark.clock import Spread
from tinyddpm.benchmark.device_memory import DeviceMemory
from tinyddpm.benchmark.flops import Products
from tinyddpm.benchmark.kernel_table import KernelRow, KernelTable
from tinyddpm.benchmark.scaling import Point, Scaling
from tinyddpm.cli import bench_report
from tinyddpm.cli.main import commands

QUICK = ["--preset", "glyphs", "--batch", "4", "--shard", "2", "--rounds", "2", "--steps", "1"]
BARE = [*QUICK, "--threads", "1", "--no-ops", "--no-memory"]


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch):
    monkeypatch.setattr("tinyddpm.benchmark.surroundings._SIDE", 64)


def run(*args):
    return CliRunner().invoke(commands, ["bench", *args])


def test_the_report_has_all_its_parts():
    result = run(*QUICK, "--threads", "2")
    assert result.exit_code == 0, result.output
    for words in (
        "preset glyphs: 176,849 parameters",
        "batch 4 in shards of 2, 2 workers",
        "large matrix products",
        "training step on one thread",
        "  conv2d",
        "everything else",
        "peak memory of training",
    ):
        assert words in result.stdout
    steps = [line for line in result.stdout.splitlines() if line.startswith(("training  ", "sam"))]
    assert len(steps) == 2
    assert all(line.endswith("%") for line in steps)
    assert "train steps" in result.stderr


def test_a_batch_larger_than_the_machine_is_refused_before_it_is_cut_up(monkeypatch):
    monkeypatch.setattr(on_cpu, "measure", None)
    result = run("--preset", "glyphs", "--batch", str(10**15))
    assert result.exit_code == 1
    assert "a step needs at least 113.7 PiB" in str(result.exception)


def test_json_has_all_of_it_and_nothing_else():
    result = run(*QUICK, "--threads", "2", "--json")
    found = json.loads(result.stdout)
    assert set(found) == set(report.Report._fields)
    assert found["settings"]["batch"] == 4
    assert found["settings"]["threads"] == 2
    assert found["parameters"] == 176_849
    assert {"processor", "cores", "python", "numpy", "blas", "blas_threads_held_by"} <= set(
        found["machine"]
    )
    for kind, passes in (("train", 3), ("sample", 1)):
        speed, forward = found[kind], sum(found["forward"].values())
        assert len(speed["rounds"]) == 2
        seconds = speed["seconds"]
        assert 0 < seconds["lower"] <= seconds["median"] <= seconds["upper"]
        assert speed["images"] == pytest.approx(4 / seconds["median"])
        assert speed["flops"] == pytest.approx(4 * passes * forward / seconds["median"])
        assert speed["share_of_peak"] == pytest.approx(speed["flops"] / found["peak"])
    rows = found["ops"]["rows"]
    seconds = sum(row["forward"] + row["backward"] for row in rows)
    assert seconds + found["ops"]["everything_else"] == pytest.approx(found["ops"]["total"])
    assert found["memory"]["tinyddpm"]["peak"] > found["memory"]["tinyddpm"]["imports"]
    assert found["against"] is found["scaling"] is found["growth"] is None


def test_what_is_not_asked_for_is_not_measured():
    found = json.loads(run(*BARE, "--json").stdout)
    assert found["ops"] is found["memory"] is None


def test_growth_is_told():
    result = run(*BARE, "--growth", "3")
    assert "resident memory over 3 training steps" in result.stdout


def few_points(*_args, **_options):
    points = [Point(n, 16, 16, 0.01 * n, 1e9, 0.6 / n) for n in (1, 2, 4)]
    return Scaling(0.006, 1.2, points, points, points)


def test_scaling_is_told_and_drawn(monkeypatch, tmp_path):
    monkeypatch.setattr(on_cpu, "measure_scaling", few_points)
    path = tmp_path / "scaling.png"
    result = run(*BARE, "--scaling", "--plot", str(path))
    assert result.exit_code == 0, result.output
    assert "fewer than 1.2 images" in result.stdout
    pixels = np.asarray(Image.open(path).convert("L"))
    assert 0.005 < (pixels < 200).mean() < 0.5


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--plot", "x.png"], "--scaling"),
        (["--scaling", "--plot", "x.gif"], ".png or .svg"),
        (["--compile"], "--against torch"),
        (["--bf16"], "--against torch"),
        (["--batch", "0"], "--batch"),
        (["--preset", "huge"], "mnist-1.7m"),
        (["--device", "gpu"], "cuda"),
        (["--precision", "bf16"], "--precision means nothing to bench on a CPU"),
        (["--device", "cuda", "--scaling"], "--scaling means nothing to bench --device cuda"),
        (["--device", "cuda", "--growth", "9"], "--growth means nothing to bench --device cuda"),
        (["--device", "cuda", "--time-to-quality"], "--time-to-quality means nothing to bench"),
        (["--device", "cuda", "--threads", "2"], "--threads means nothing to bench --device cuda"),
        (["--device", "cuda", "--bf16"], "--bf16 means nothing to bench --device cuda"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(args, words, monkeypatch):
    monkeypatch.setattr("tinyddpm.cli.bench_speed.measure", None)
    result = run(*args)
    said = result.output + str(result.exception)
    assert result.exit_code
    assert words in said


def test_without_a_gpu_one_error_says_so(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, out, err = cli("bench", "--device", "cuda", "--against", "torch")
    assert (code, out) == (2, "")
    assert err.startswith("error: device cuda cannot be used\ncause: CuPy is not installed")
    assert "--device cpu" in err


@pytest.mark.parametrize(
    ("args", "settings"),
    [
        ([], {"batch": 64, "precision": "fp32", "modes": ()}),
        (["--preset", "cifar10"], {"batch": 8}),
        (["--device", "cuda"], {"batch": 128, "precision": "tf32", "modes": ()}),
        (["--device", "cuda", "--preset", "cifar10"], {"batch": 128}),
        (
            ["--device", "cuda", "--batch", "8", "--precision", "fp32"],
            {"batch": 8, "precision": "fp32"},
        ),
        (["--against", "torch", "--compile", "--bf16"], {"modes": ("eager", "compile", "bf16")}),
        (
            ["--device", "cuda", "--against", "torch", "--compile"],
            {"modes": ("eager", "compile", "reduce-overhead")},
        ),
    ],
    ids=" ".join,
)
def test_each_device_has_its_defaults(args, settings, monkeypatch):
    asked = []
    monkeypatch.setattr("tinyddpm.cli.bench.resolve_device", lambda device: device)
    monkeypatch.setattr("tinyddpm.cli.bench_speed.load_torch", lambda: None)
    monkeypatch.setattr("tinyddpm.cli.bench_speed.measure", asked.append)
    run(*args)
    assert settings.items() <= asked[0]._asdict().items()


def test_without_pytorch_one_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "tinyddpm.benchmark.torch_steps", raising=False)
    monkeypatch.delitem(sys.modules, "tinyddpm.benchmark.torch_unet", raising=False)
    monkeypatch.setattr("tinyddpm.cli.bench_speed.measure", None)
    result = run("--against", "torch")
    assert "PyTorch is not installed" in str(result.exception)
    assert "pip install torch" in str(result.exception)


def test_the_three_ends_of_the_search_for_the_point():
    some = few_points()
    assert "fewer than 1.2" in bench_report._half(some)
    assert "even for one image" in bench_report._half(
        some._replace(half=None, batch=some.batch[1:])
    )
    slow = [point._replace(overhead=0.9) for point in some.batch]
    assert "up to 4 images" in bench_report._half(some._replace(half=None, batch=slow))
    assert scaling.half_point(some.batch, 0.006) == pytest.approx(1.2)


def spread(median):
    return Spread(0.9 * median, median, 1.1 * median)


def beside(seconds):
    """A step of ours, PyTorch's eager and both its compiled ones, of which the second is faster."""
    times = {"eager": 4 * seconds, "compile": 2 * seconds, "reduce-overhead": 1.5 * seconds}
    variants = [
        Variant(mode, "channels last", 1e-3, spread(time), [time], spread(time / seconds))
        for mode, time in times.items()
    ]
    return Comparison(spread(seconds), [seconds], variants)


def on_a_card():
    """A report as a GPU's is."""
    machine = {"card": "H100", "compute_capability": "9.0", "multiprocessors": 132}
    machine |= {"card_memory": 80 * 2**30, "driver": "12.8", "nvrtc": "12.9", "cupy": "14.2.0"}
    rows = [KernelRow("conv", 9, 0.003, 0.6), KernelRow("silu", 4, 0.001, 0.2)]
    memory = {"tinyddpm": DeviceMemory(3 * 2**20, None), "PyTorch": DeviceMemory(2**23, 2**22)}
    return report.Report(
        machine=machine,
        settings=report.Settings(device="cuda", precision="tf32", batch=128),
        parameters=1000,
        forward=Products(1e9, 0.0, 0.0, 0.0),
        peak=None,
        train=report.Speed(spread(0.002), [0.002], 64000.0, 1.92e14, None),
        sample=report.Speed(spread(0.0005), [0.0005], 256000.0, 2.56e14, None),
        ops=KernelTable(rows, 13, 0.001, 0.005),
        memory=memory,
        growth=None,
        against=report.Against("2.13.0, cuDNN 9", 1, "fused", beside(0.002), beside(0.0005)),
        scaling=None,
    )


def test_the_report_of_a_gpu():
    lines = [*bench_report.lines(on_a_card())]
    assert lines[1] == "batch 128, products in tf32, 10 rounds between events of the device"
    assert lines[2].startswith("H100, compute capability 9.0, 132 multiprocessors, 81,920 MiB; ")
    words = [line.split() for line in lines]
    assert ["training", "2.000", "1.800", "…", "2.200", "64000.0", "192000.0"] in words
    assert "beside PyTorch 2.13.0, cuDNN 9 with tf32 and fused Adam, in turns" in "\n".join(lines)
    faster = [line.split(",")[0].split()[1] for line in lines if line.endswith("the faster")]
    assert faster == ["reduce-overhead"] * 2  # eager has but one layout there
    starts = {line.index("alone ms") + 8 for line in lines if "alone ms" in line}
    starts |= {line.index("0  ") + 1 for line in lines if ", channels last" in line}
    assert len(starts) == 1  # the columns stand below their headings
    assert ["conv", "9", "3.000", "60.0%"] in words
    assert ["everything", "else", "1.000", "20.0%"] in words
    assert ["total", "13", "5.000", "100.0%"] in words
    assert any(line.startswith("a recorded step takes 2.000 ms") for line in lines)
    assert ["tinyddpm", "3"] in words
    assert ["PyTorch", "8", "4"] in words

"""``tinyddpm bench`` as a user meets it."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tinyddpm.benchmark import report, scaling
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
        "batch 4 in shards of 2, 2 threads",
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
    monkeypatch.setattr(report, "measure_scaling", few_points)
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
        (["--device", "cuda"], "cuda"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(args, words, monkeypatch):
    monkeypatch.setattr("tinyddpm.cli.bench.measure", None)
    result = run(*args)
    said = result.output + str(result.exception)
    assert result.exit_code
    assert words in said


def test_without_pytorch_one_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "tinyddpm.benchmark.torch_steps", raising=False)
    monkeypatch.delitem(sys.modules, "tinyddpm.benchmark.torch_unet", raising=False)
    monkeypatch.setattr("tinyddpm.cli.bench.measure", None)
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

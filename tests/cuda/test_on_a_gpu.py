"""The script for a real card goes on where a part fails, and works on the simulated card."""

import importlib
from dataclasses import replace
from types import SimpleNamespace

import on_a_gpu
import pytest
from click.testing import CliRunner

from tinyddpm.nn.config import UNetConfig
from tinyddpm.training.config import recipe

pytestmark = pytest.mark.cuda_sim


def test_a_part_that_fails_does_not_stop_the_others(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(on_a_gpu, "parts", lambda: [(["no-such-part"], 30), (["nor-this"], 30)])
    done = CliRunner().invoke(on_a_gpu.main, [])
    assert done.exit_code == 0, done.output
    assert done.output.count("-- failed") == 2
    assert "milliseconds a step" in done.output


def test_the_table_has_ratios_where_both_were_measured():
    found = {"kind": "train", "preset": "mnist", "precision": "tf32"}
    results = [{**found, "who": "tinyddpm", "ms": 2.0}, {**found, "who": "eager", "ms": 7.0}]
    done = CliRunner().invoke(on_a_gpu.click.command()(lambda: on_a_gpu.table(results)))
    (line,) = (line for line in done.output.splitlines() if "3.50×" in line)
    assert line.split() == ["train", "mnist", "tf32", "2.000", "7.000", "(3.50×)", "-"]


@pytest.fixture
def ours(cupy, monkeypatch):
    """The module of our parts, on a network of almost nothing and a card without a clock."""

    class Event:
        def record(self):
            """Nothing: the simulated card has no clock."""

        synchronize = record

    cupy.cuda.Event, cupy.cuda.get_elapsed_time = Event, lambda *_: 1e6
    cupy.cuda.Device = lambda: SimpleNamespace(mem_info=(1, 2), synchronize=Event().record)
    module = importlib.import_module("gpu_ours")
    monkeypatch.setattr(module, "cupy", cupy)
    monkeypatch.setattr(module, "PARITY_PRESETS", ["tiny"])
    monkeypatch.setattr(module, "PARITY_PRECISIONS", ["bf16"])
    monkeypatch.setattr(module, "IMAGES", 256)
    network = UNetConfig(image_size=4, channels=(2, 2), groups=1)

    def config_of(_preset, batch):
        return replace(recipe("mnist", "random"), network=network, batch=batch)

    monkeypatch.setattr(module, "config_of", config_of)
    return module


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (["parity"], "bf16: difference 0.0"),
        (["ours", "tiny", "tf32"], '"kind": "sample", "preset": "tiny"'),
        (["kernels", "tiny", "bf16"], "group_norm_dx"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_our_parts_run(ours, part, told):
    done = CliRunner().invoke(ours.main, [*part, "--batch", "2"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert told in done.output

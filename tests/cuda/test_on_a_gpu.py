"""The script for a real card runs what there is, and goes on where a part fails."""

import json
from dataclasses import replace

import gpu_card
import in_order
import on_a_gpu
import pytest
from click.testing import CliRunner

from tinyddpm.benchmark import device_ours
from tinyddpm.cli.main import commands
from tinyddpm.nn.config import UNetConfig
from tinyddpm.training.config import recipe


def spread(median):
    return {"lower": 0.9 * median, "median": median, "upper": 1.1 * median}


def variant(mode, seconds, ratio):
    return {"mode": mode, "alone": spread(seconds), "ratio": spread(ratio)}


REPORT = {
    "settings": {"preset": "mnist", "precision": "tf32"},
    "train": {"seconds": spread(0.002)},
    "sample": {"seconds": spread(0.001)},
    "against": {
        "train": {"variants": [variant("eager", 0.007, 3.5)]},
        "sample": {"variants": [variant("reduce-overhead", 0.0008, 0.8)]},
    },
}


def invoke(monkeypatch, parts, *args, status=0, obstacle=""):
    monkeypatch.setattr(on_a_gpu, "parts", lambda _batch: parts)
    monkeypatch.setattr(on_a_gpu, "cuda_obstacle", lambda: obstacle)
    done = CliRunner().invoke(on_a_gpu.main, args, catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done.output


def test_a_part_that_fails_does_not_stop_the_others(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    parts = [("machine", ("no_such_module",), 30), ("bench", ("nor_this",), 30)]
    said = invoke(monkeypatch, parts, status=1)
    assert said.count("-- failed (1)") == 2
    assert "milliseconds a step" in said
    assert "left out" in invoke(monkeypatch, parts, "--minutes", "0.01")
    assert "no_such_module" not in invoke(monkeypatch, parts, "bench", status=1)


def test_what_a_part_does_not_need_is_for_those_that_follow(monkeypatch):
    given = []
    monkeypatch.setattr(on_a_gpu, "run", lambda _, seconds: given.append(seconds) or (0, ""))
    parts = [(name, ("any",), share) for name, share in (("a", 1), ("b", 3), ("c", 2))]
    invoke(monkeypatch, parts, "--minutes", "1")
    assert given == pytest.approx([10, 36, 60], abs=0.5)
    given.clear()
    invoke(monkeypatch, parts, "--minutes", "1", "b", "c")
    assert given == pytest.approx([36, 60], abs=0.5)


def test_without_a_gpu_nothing_passes(monkeypatch):
    """All tests would be skipped, and that is no failure to pytest."""
    said = invoke(monkeypatch, [("machine", ("json",), 30)], status=1, obstacle="no driver")
    assert "no GPU to test on: no driver" in said
    assert "==" not in said


def test_reports_are_told_kept_and_put_together(monkeypatch, tmp_path):
    monkeypatch.setattr(on_a_gpu, "run", lambda *_: (0, json.dumps(REPORT)))
    said = invoke(monkeypatch, [("bench", ("any",), 30)], "--json", str(tmp_path / "found.json"))
    assert json.loads((tmp_path / "found.json").read_text()) == [REPORT]
    table = [" ".join(line.split()) for line in said.splitlines()]
    assert table[-4:] == [
        "sample mnist tf32 reduce-overhead 0.800 ms 0.80× (0.72 – 0.88)",
        "sample mnist tf32 tinyddpm 1.000 ms",
        "train mnist tf32 eager 7.000 ms 3.50× (3.15 – 3.85)",
        "train mnist tf32 tinyddpm 2.000 ms",
    ]


@pytest.mark.parametrize(
    "command", [c for _, c, _ in on_a_gpu.parts(128) if c[0] == "tinyddpm"], ids=" ".join
)
def test_every_command_is_one_that_parses(command):
    _, verb, *args = command
    commands.commands[verb].make_context(verb, args)


@pytest.mark.cuda_sim
def test_steps_in_order_and_beside_are_timed(cupy, monkeypatch):
    gpu_card.equip(cupy)
    monkeypatch.setattr(device_ours, "REPEATS", 1)
    tiny = replace(
        recipe("mnist", "random"), network=UNetConfig(image_size=4, channels=(2,), groups=1)
    )
    monkeypatch.setattr(in_order, "recipe", lambda *_: tiny)
    asked = []
    beside = in_order.InOrder.beside
    monkeypatch.setattr(
        in_order.InOrder, "beside", lambda self, work: asked.append(work) or beside(self, work)
    )
    said = in_order.row("mnist", "bf16", batch=2, rounds=2)
    assert said.startswith("mnist       bf16  beside ")
    assert "ms, in order " in said
    assert asked


def test_the_tests_that_are_run_are_there():
    assert (on_a_gpu.REPOSITORY / "tests/cuda/in_order.py").is_file()
    assert (on_a_gpu.REPOSITORY / on_a_gpu.PARITY).is_file()

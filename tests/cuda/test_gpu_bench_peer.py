"""PyTorch beside our side on the simulated card: it computes on the CPU, all else is as there."""

import json

import gpu_card
import pytest
from click.testing import CliRunner
from test_gpu_bench import CONFIG, QUICK

from tinyddpm.benchmark import device_ours, report
from tinyddpm.benchmark.against import Ground, Rivals
from tinyddpm.benchmark.device_ours import DeviceOurs
from tinyddpm.cli.main import commands
from tinyddpm.errors import TinyDDPMError

pytest.importorskip("torch")

pytestmark = [pytest.mark.peer, pytest.mark.cuda_sim]


@pytest.fixture(autouse=True)
def card(cupy, monkeypatch):
    monkeypatch.setattr(device_ours, "REPEATS", 1)
    monkeypatch.setattr(report, "recipe", lambda *_: CONFIG)
    return gpu_card.equip(cupy)


def test_both_sides_are_timed_in_turns(monkeypatch):
    monkeypatch.setattr(report, "Ground", lambda _device, *rest: Ground("cpu", *rest))
    args = ["bench", *QUICK, "--precision", "bf16", "--no-ops", "--no-memory", "--json"]
    done = CliRunner().invoke(commands, [*args, "--against", "torch"], catch_exceptions=False)
    found = json.loads(done.stdout)["against"]
    assert "cuDNN" in found["version"]
    for kind in ("train", "sample"):
        assert len(found[kind]["in_turns"]) == 2
        assert {variant["mode"] for variant in found[kind]["variants"]} == {"eager"}
        for variant in found[kind]["variants"]:
            pairs = zip(variant["in_turns"], found[kind]["in_turns"], strict=True)
            low, high = sorted(theirs / ours for theirs, ours in pairs)
            assert variant["ratio"]["median"] == pytest.approx((low + high) / 2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_outputs_of_both_are_compared_in_the_same_precision(precision):
    ours = DeviceOurs(CONFIG, precision)
    rivals = Rivals(CONFIG, ours, Ground("cpu", precision, 1), ("eager",))
    differences = [*rivals.differences.values()]
    assert all(found < 1e-5 if precision == "fp32" else found > 1e-4 for found in differences)


def test_another_network_on_the_card_is_not_timed():
    ours = DeviceOurs(CONFIG, "fp32")
    ours.network.parameters.value[0] = 3.0
    with pytest.raises(TinyDDPMError, match="is not ours"):
        Rivals(CONFIG, ours, Ground("cpu", "fp32", 1), ("eager",))

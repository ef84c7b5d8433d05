"""``tinyddpm bench --device cuda`` on the simulated card, and on a real one."""

import itertools
import json
from dataclasses import replace

import gpu_card
import numpy as np
import pytest
from click.testing import CliRunner

from tinyddpm.arrays import to_host
from tinyddpm.benchmark import device, device_memory, device_ours, kernel_table, report
from tinyddpm.benchmark.device_ours import DeviceOurs
from tinyddpm.benchmark.kernel_table import KernelRow, Launch, Marks, measure_kernels
from tinyddpm.benchmark.ours import fill_with_noise
from tinyddpm.cli.main import commands
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.training.config import DiffusionConfig, recipe
from tinyddpm.training.device_walk import DeviceWalks
from tinyddpm.training.kernel_choice import cuda_runtime

NETWORK = UNetConfig(image_size=4, channels=(2,), groups=1, dropout=0.1)
CONFIG = replace(
    recipe("mnist", "random"), network=NETWORK, diffusion=DiffusionConfig(T=3), batch=2, shard=2
)
QUICK = ["--device", "cuda", "--preset", "glyphs", "--batch", "2", "--rounds", "2", "--steps", "1"]


@pytest.fixture
def card(cupy, monkeypatch):
    """A simulated card, and a network of almost nothing in place of a preset's."""
    monkeypatch.setattr(device_ours, "REPEATS", 1)
    monkeypatch.setattr(device_memory, "measure", device_memory.carry_out)
    monkeypatch.setattr(report, "recipe", lambda *_: CONFIG)
    return gpu_card.equip(cupy)


@pytest.fixture(
    params=[
        pytest.param("card", marks=pytest.mark.cuda_sim),
        pytest.param("gpu", marks=pytest.mark.cuda),
    ]
)
def anywhere(request):
    """A card, simulated or real."""
    return request.getfixturevalue(request.param)


def bench(*args):
    done = CliRunner().invoke(commands, ["bench", *QUICK, *args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def told(said, name, function):
    return lambda *args, **options: said.append(name) or function(*args, **options)


@pytest.mark.usefixtures("anywhere")
def test_json_has_all_that_a_gpu_is_measured_by():
    found = json.loads(bench("--precision", "bf16", "--json").stdout)
    assert set(found) == set(report.Report._fields)
    settings = {"device": "cuda", "precision": "bf16", "batch": 2, "shard": 2, "threads": 1}
    assert settings.items() <= found["settings"].items()
    assert {"card", "compute_capability", "driver", "nvrtc", "cupy"} <= set(found["machine"])
    assert found["peak"] is found["growth"] is found["against"] is found["scaling"] is None
    for kind, passes in (("train", 3), ("sample", 1)):
        speed, forward = found[kind], sum(found["forward"].values())
        assert len(speed["rounds"]) == 2
        assert speed["seconds"]["median"] == pytest.approx(np.median(speed["rounds"]))
        assert speed["flops"] == pytest.approx(2 * passes * forward / speed["seconds"]["median"])
        assert speed["share_of_peak"] is None
    rows = {row["kernel"]: row for row in found["ops"]["rows"]}
    assert rows["adam_ema"]["launches"] == 1
    shares = sum(row["seconds"] for row in rows.values()) + found["ops"]["everything_else"]
    assert shares == pytest.approx(found["ops"]["total"])
    buffers = 5 * 4 * found["parameters"]  # values, gradients, two moments and their average
    assert found["memory"]["tinyddpm"]["taken"] > buffers
    assert found["memory"]["tinyddpm"]["tensors"] is None


@pytest.mark.cuda_sim
def test_ours_is_the_network_that_pytorch_is_given(card):
    """With noise for weights, whose output the training of the other leaves as it is."""
    del card
    ours, host = DeviceOurs(CONFIG, "fp32"), UNet(NETWORK)
    fill_with_noise(host.parameters)
    x = np.random.default_rng(0).standard_normal((3, 4, 4, 1), np.float32)
    t = np.array([0, 2, 1])
    expected, _ = host.forward(x, t)
    np.testing.assert_array_equal(ours.parameters.value, host.parameters.value)
    value = ours.trainer.network.parameters.value
    np.testing.assert_array_equal(to_host(value), host.parameters.value)
    ours.train()
    assert np.abs(to_host(value) - host.parameters.value).max() > 0
    np.testing.assert_allclose(ours.output(x, t), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.cuda_sim
def test_a_chain_ends_and_begins_anew(card, monkeypatch):
    del card
    said = []
    for owner, name in ((DeviceWalks, "walk"), (type(cuda_runtime()), "record")):
        monkeypatch.setattr(owner, name, told(said, name, getattr(owner, name)))
    ours = DeviceOurs(CONFIG, "fp32")
    for _ in range(2 * CONFIG.diffusion.T + 1):
        ours.sample()
    assert said == ["walk", "record", "walk", "walk"]


@pytest.mark.cuda_sim
def test_marks_change_nothing_and_count_what_a_recorded_step_launches(card, sim, monkeypatch):
    del card
    launched = []
    monkeypatch.setattr(sim, "run", told(launched, "run", sim.run))
    plain = DeviceOurs(CONFIG, "bf16")
    marked = DeviceOurs(CONFIG, "bf16", Marks(cuda_runtime()))
    for ours in (marked, plain):
        ours.train()
        launched.clear()
        ours.train()
    a, b = (to_host(ours.trainer.network.parameters.value) for ours in (plain, marked))
    np.testing.assert_array_equal(a, b)
    recorded = len(launched)
    assert recorded > 30
    table = measure_kernels(CONFIG, "bf16", steps=2)
    assert table.launches == recorded


class At:
    """An event at a moment, in milliseconds."""

    def __init__(self, moment):
        self.moment = moment


def test_launches_are_added_up_by_kernel(monkeypatch):
    """While the device is held up, between two queues, it takes no time."""
    monkeypatch.setattr(device, "milliseconds", lambda a, b: b.moment - a.moment)
    queues = [
        [Launch("conv", At(0), At(3)), Launch("silu", At(5), At(6)), Launch("conv", At(6), At(8))],
        [Launch("silu", At(100), At(102))],
    ]
    table = kernel_table.kernel_table(queues, steps=2)
    assert table.rows == [
        KernelRow("conv", 1, pytest.approx(2.5e-3), pytest.approx(0.5)),
        KernelRow("silu", 1, pytest.approx(1.5e-3), pytest.approx(0.3)),
    ]
    assert table[1:] == (2, pytest.approx(1e-3), pytest.approx(5e-3))


@pytest.mark.cuda_sim
def test_the_device_is_held_up_whenever_its_queue_is_empty(card, monkeypatch):
    """Before every so many launches, and behind every copy that was waited for."""
    del card
    said, runtime = [], type(cuda_runtime())
    monkeypatch.setattr(kernel_table, "TOGETHER", 10)
    monkeypatch.setattr(device, "hold_up", lambda _: said.append("held up"))
    for name in ("launch", "upload"):
        monkeypatch.setattr(runtime, name, told(said, name, getattr(runtime, name)))
    measure_kernels(CONFIG, "bf16", steps=1)
    runs = [[*run] for what, run in itertools.groupby(said, "launch".__eq__) if what]
    assert max(map(len, runs)) == 10
    before = [said[i - 1] for i in range(len(said)) if said[i] == "launch"]
    assert {"held up", "launch"} == set(before)  # never an upload: the queue would be empty


@pytest.mark.cuda_sim
def test_more_images_take_more_of_the_card(card):
    del card
    few, many = (
        device_memory.carry_out(
            device_memory.Task(replace(CONFIG, batch=n, shard=n).to_json(), "fp32")
        )
        for n in (2, 4)
    )
    assert many.taken > few.taken + 2 * 4 * NETWORK.image_size**2


def test_memory_is_measured_in_a_process_of_its_own(monkeypatch):
    asked = []
    monkeypatch.setattr(
        device_memory,
        "in_a_process",
        lambda module, task: asked.append((module, task)) or {"taken": 5, "tensors": 3},
    )
    task = device_memory.Task(CONFIG.to_json(), "tf32", "channels last")
    assert device_memory.measure(task) == (5, 3)
    ((module, plain),) = asked
    assert module == device_memory.__name__
    assert device_memory.Task(**json.loads(json.dumps(plain))) == device_memory.Task(
        json.loads(json.dumps(CONFIG.to_json())), "tf32", "channels last"
    )

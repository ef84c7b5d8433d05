"""What only a GPU can show: the kernels in their own element, graphs, and a real run."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from builds import BUILDS

from tinyddpm import data
from tinyddpm.arrays import cuda_obstacle, to_host
from tinyddpm.data.glyphs import glyphs
from tinyddpm.kernels.cuda.source import signatures, source
from tinyddpm.ops.kernels import reference
from tinyddpm.parallel import Workers
from tinyddpm.training import loop
from tinyddpm.training.config import fit_to, recipe
from tinyddpm.training.device_step import DeviceTrainer
from tinyddpm.training.kernel_choice import cuda_runtime
from tinyddpm.training.model import from_checkpoint
from tinyddpm.training.run_directory import RunDirectory
from tinyddpm.training.step import Trainer

OBSTACLE = cuda_obstacle()
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no GPU to test on: {OBSTACLE}"),
]

DATASET = glyphs(n=100)
CONFIG = replace(recipe("glyphs", "glyphs"), batch=32, shard=32)
WITH_DROPOUT = replace(CONFIG, network=replace(CONFIG.network, dropout=0.1))


@pytest.mark.parametrize("file", BUILDS)
def test_every_kernel_loads(file):
    for defines in BUILDS[file]:
        for name in signatures(source(file, defines), defines):
            cuda_runtime().function(file, name, defines)


def device_trainer(precision="fp32"):
    return DeviceTrainer(WITH_DROPOUT, DATASET, cuda_runtime(), precision)


def buffers(trainer):
    parameters = trainer.network.parameters
    flat = (parameters.value, trainer.ema, trainer.adam_m, trainer.adam_v)
    return [to_host(array) for array in flat]


def reports(trainer, steps):
    told = [told for step in range(1, steps + 1) for told in trainer.advance(step)]
    return dict([*told, *trainer.flush()])


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_captured_steps_are_those_that_are_not_captured_to_the_bit(monkeypatch, precision):
    captured = device_trainer(precision)
    mine = reports(captured, 100)
    monkeypatch.setattr(type(cuda_runtime()), "record", lambda _, work: (work(), work)[1])
    plain = device_trainer(precision)
    assert reports(plain, 100) == mine
    for a, b in zip(buffers(captured), buffers(plain), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-5), ("tf32", 5e-3), ("bf16", 5e-2)]
)
def test_steps_are_those_of_the_host(precision, tolerance):
    mine = reports(device_trainer(precision), 3)
    with Workers(1) as workers:
        theirs = Trainer(WITH_DROPOUT, DATASET, workers, reference)
        for step in (1, 2, 3):
            expected = theirs.step(step)
            assert mine[step].loss == pytest.approx(expected.loss, rel=tolerance)
            assert mine[step].grad_norm == pytest.approx(expected.grad_norm, rel=tolerance)


def test_times_drawn_by_importance_are_those_of_the_host():
    """Of so few that all have their ten losses after a step."""
    config = replace(CONFIG, diffusion=replace(CONFIG.diffusion, T=2, times="second-moment"))
    mine = reports(DeviceTrainer(config, DATASET, cuda_runtime()), 5)
    with Workers(1) as workers:
        theirs = Trainer(config, DATASET, workers, reference)
        for step in range(1, 6):
            expected = theirs.step(step)
            assert mine[step].loss == pytest.approx(expected.loss, rel=1e-4)
            assert mine[step].grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)


class ForAMinute:
    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def asked(self):
        return time.monotonic() > self.end


def train(config, dataset, run, execution, hooks, *, resume=False):
    checkpoint = run.latest_checkpoint().checkpoint if resume else None
    return loop.train(config, dataset, run, execution, hooks, checkpoint)


@pytest.mark.mnist
def test_mnist_is_learnt_in_a_minute_and_the_run_goes_on_on_the_cpu(real_data, tmp_path):
    dataset = data.load("mnist", data_dir=real_data / "mnist")
    config = replace(recipe("mnist", "mnist"), train_steps=10**6)
    config = fit_to(config, dataset.images.shape)
    run = RunDirectory.create(tmp_path / "run", config.to_json())
    gpu = loop.Execution(device="cuda", save_every=0, preview_every=0, precision="tf32")
    last = train(config, dataset, run, gpu, loop.Hooks(lambda *_: None, ForAMinute(60).asked))
    assert last > 1000
    cpu = loop.Execution(threads=1, save_every=0, preview_every=0)
    done = train(config, dataset, run, cpu, loop.Hooks(lambda *_: None, lambda: True), resume=True)
    assert done == last + 1
    losses = [json.loads(line)["loss"] for line in run.metrics.read_text().splitlines()]
    assert len(losses) == done
    assert np.mean(losses[-200:-1]) < 0.05
    assert losses[-1] < 0.1


def test_sampling_is_that_of_the_cpu(tmp_path):
    run = RunDirectory.create(tmp_path / "run", CONFIG.to_json())
    config = replace(CONFIG, train_steps=50)
    cpu = loop.Execution(threads=1, save_every=0, preview_every=0)
    train(config, DATASET, run, cpu, loop.Hooks(lambda *_: None, lambda: False))
    checkpoint = run.latest_checkpoint().checkpoint
    mine = from_checkpoint(checkpoint, device="cuda").sample(4, steps=20).astype(int)
    theirs = from_checkpoint(checkpoint).sample(4, steps=20)
    assert np.abs(mine - theirs).max() <= 1

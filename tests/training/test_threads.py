"""With the fast kernels, twenty steps and a prediction give the same bits on any number of workers,
threads or processes, in any order.
"""

import gc
import sys
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import used_up

from tinyddpm.data.glyphs import glyphs
from tinyddpm.kernels.cpu import cpu
from tinyddpm.kernels.cpu.conv2d import Winograd1dSaved, WinogradSaved, conv2d
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.parallel import Workers
from tinyddpm.parallel.processes import Processes
from tinyddpm.training.config import DiffusionConfig, RunConfig
from tinyddpm.training.kernel_choice import suits_processes
from tinyddpm.training.model import TrainedModel
from tinyddpm.training.shard import ShardWork
from tinyddpm.training.step import Trainer

CONFIG = RunConfig(
    data="glyphs",
    preset="tiny",
    network=UNetConfig(image_size=16, channels=(16, 64), attention_at=(8,), groups=8, dropout=0.1),
    diffusion=DiffusionConfig(T=20),
    batch=28,  # five shards, the last one smaller
    shard=6,
    train_steps=20,
    lr=1e-2,
    warmup=3,
    ema_decay=0.9,
    flips=True,
)
DATASET = glyphs(n=50)


def unsteady(monkeypatch):
    """Let shards take a time that has nothing to do with their order."""
    work = ShardWork.__call__

    def late(self, shard):
        time.sleep(0.004 * ((7 * shard.number + 3 * shard.step) % 5))
        return work(self, shard)

    monkeypatch.setattr(ShardWork, "__call__", late)


def state_after_20_steps(threads):
    with Workers(threads) as workers:
        run = Trainer(CONFIG, DATASET, workers, cpu)
        for step in range(1, CONFIG.train_steps + 1):
            run.step(step)
    return run.network.parameters.value, run.ema, run.adam_m, run.adam_v


@pytest.fixture(scope="module")
def alone():
    return state_after_20_steps(1)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("order", ["steady", "unsteady"])
@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_workers_and_the_order_in_which_shards_finish_change_no_bit(
    alone, threads, order, processes, monkeypatch
):
    monkeypatch.setattr("tinyddpm.training.step.suits_processes", lambda _network: processes)
    if order == "unsteady":
        unsteady(monkeypatch)
    for buffer, expected in zip(state_after_20_steps(threads), alone, strict=True):
        np.testing.assert_array_equal(buffer, expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_step_done_again_sees_the_weights_that_the_first_left(threads, processes, monkeypatch):
    """As it does where a checkpoint is restored into a trainer."""
    monkeypatch.setattr("tinyddpm.training.step.suits_processes", lambda _network: processes)
    with Workers(threads) as workers:
        run, fresh = (Trainer(CONFIG, DATASET, workers, cpu) for _ in range(2))
        run.step(1)  # after which the last layer is no longer zero
        run.step(2)
        fresh.network.parameters.value[...] = run.network.parameters.value
        assert run.step(2).loss == fresh.step(2).loss


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_step_that_was_interrupted_leaves_nothing_in_the_next(alone, processes, monkeypatch):
    """A shard that fails has added a part of its gradient already."""
    monkeypatch.setattr("tinyddpm.training.step.suits_processes", lambda _network: processes)
    with Workers(2) as workers:
        run = Trainer(CONFIG, DATASET, workers, cpu)
        run.network.parameters.grad[...] = 1
        for _, slots in run._work._replicas:
            for p, slot in zip(run.network.parameters, slots, strict=True):
                slot.taken = np.ones(p.shape, np.float32)
        for step in range(1, CONFIG.train_steps + 1):
            run.step(step)
    np.testing.assert_array_equal(run.network.parameters.value, alone[0])


def test_a_step_uses_up_what_its_forward_saved(monkeypatch):
    left = used_up.watched(monkeypatch)
    with Workers(1) as workers:
        Trainer(CONFIG, DATASET, workers, cpu).step(1)
    assert left == [[]] * 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are for Linux")
def test_a_small_network_is_trained_by_processes_and_a_large_one_by_threads():
    small, large = (UNet(UNetConfig.preset(name)) for name in ("mnist-1.7m", "cifar10"))
    assert suits_processes(small)
    assert not suits_processes(large)
    with Workers(2) as workers:
        assert isinstance(Trainer(CONFIG, DATASET, workers, cpu)._crew, Processes)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are for Linux")
def test_sampling_is_done_by_processes_that_begin_with_prepared_weights():
    """Each would transform them for itself otherwise, into memory of its own."""
    model = TrainedModel(CONFIG, UNet(CONFIG.network).parameters.value, step=0)
    shape = (CONFIG.shard, *model.image_shape)
    with model.denoiser(2) as denoiser:
        assert isinstance(denoiser._crew, Processes)
        weights = [p.prepared for p in denoiser.network.parameters if len(p.shape) == 4]
        forms = [set(weight.forms) for weight in weights]
        assert {name for form in forms for name, _ in form} == {"both", "one"}
        denoiser.network.forward(
            np.ones(shape, np.float32), np.ones(CONFIG.shard, np.int64), prepare=False
        )
        assert [set(weight.forms) for weight in weights] == forms


def test_a_shard_may_be_larger_than_memory():
    """A worker then takes all the images that there are for it."""
    model = TrainedModel(replace(CONFIG, shard=10**20), UNet(CONFIG.network).parameters.value, 0)
    assert model.sample(2, steps=1, threads=2).shape == (2, *model.image_shape)


@pytest.mark.parametrize("threads", [2, 3])
def test_workers_change_no_bit_of_a_prediction(threads):
    network = UNet(replace(CONFIG.network, zero_init=False))
    model = TrainedModel(replace(CONFIG, network=network.config), network.parameters.value, step=0)
    x = np.random.default_rng(0).standard_normal((28, *model.image_shape)).astype(np.float32)
    t = np.arange(28) % 20 + 1
    with model.denoiser(1) as alone, model.denoiser(threads) as together:
        expected = alone(x, t)
        np.testing.assert_array_equal(together(x, t), expected)
    assert expected.std() > 0.1


def test_the_network_is_large_enough_for_every_way_of_convolving():
    ways = []
    for side, channels in zip(CONFIG.network.sizes, CONFIG.network.channels, strict=True):
        weight = cpu.prepare_conv2d(np.ones((3, 3, channels, channels)))
        x = np.ones((CONFIG.shard, side, side, channels))
        ways.append(type(conv2d(x, weight, np.ones(channels))[1].way))
    assert ways == [Winograd1dSaved, WinogradSaved]


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_trainer_goes_with_the_last_that_knows_it(processes, monkeypatch):
    """Reference counts alone free it: several runs in one program must not pile up."""
    monkeypatch.setattr("tinyddpm.training.step.suits_processes", lambda _network: processes)
    gc.disable()
    try:
        with Workers(2) as workers:
            run = Trainer(CONFIG, DATASET, workers, cpu)
            run.step(1)
        network = weakref.ref(run.network)
        del run
        assert network() is None
    finally:
        gc.enable()

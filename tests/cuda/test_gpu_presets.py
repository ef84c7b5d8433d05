"""A recorded step of every preset is, to the bit, the step launched kernel by kernel.

The latter is all in order, so that on a card a result is also found that was read too early.
"""

from dataclasses import replace

import numpy as np
import pytest

from tinyddpm.arrays import cuda_obstacle, to_host
from tinyddpm.benchmark.device_ours import DeviceOurs
from tinyddpm.nn.config import PRESETS, UNetConfig
from tinyddpm.training.config import recipe
from tinyddpm.training.kernel_choice import cuda_runtime

OBSTACLE = cuda_obstacle()


def trained(config, precision):
    """The values after three steps, and their losses."""
    ours = DeviceOurs(config, precision)
    for _ in range(3):
        ours.train()
    losses = [report.loss for _, report in ours.trainer.flush()]
    return to_host(ours.trainer.network.parameters.value), losses


def assert_alike(config, precision, monkeypatch):
    value, losses = trained(config, precision)
    monkeypatch.setattr(type(cuda_runtime()), "record", lambda _, work: (work(), work)[1])
    monkeypatch.setattr(type(cuda_runtime()), "beside", lambda _, work: work())
    plain, plain_losses = trained(config, precision)
    np.testing.assert_array_equal(value, plain)
    assert len(losses) == 3
    assert losses == plain_losses


@pytest.mark.cuda
@pytest.mark.skipif(bool(OBSTACLE), reason=f"no GPU to test on: {OBSTACLE}")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("preset", PRESETS)
def test_on_a_gpu(preset, precision, monkeypatch):
    assert_alike(replace(recipe(preset, "random"), batch=16, shard=16), precision, monkeypatch)


NETWORK = UNetConfig(image_size=4, channels=(2,), groups=1, dropout=0.1)
TINY = replace(recipe("mnist", "random"), network=NETWORK, batch=2, shard=2)


@pytest.mark.cuda_sim
@pytest.mark.usefixtures("cupy")
def test_on_the_simulated_gpu(monkeypatch):
    assert_alike(TINY, "bf16", monkeypatch)


@pytest.mark.cuda_sim
@pytest.mark.usefixtures("cupy")
def test_a_recording_that_does_nothing_is_found(monkeypatch):
    monkeypatch.setattr(type(cuda_runtime()), "record", lambda _, work: (work(), lambda: None)[1])
    with pytest.raises(AssertionError):
        assert_alike(TINY, "bf16", monkeypatch)

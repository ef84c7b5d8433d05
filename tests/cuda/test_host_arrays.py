"""Tests of NumPy's arrays reach a GPU: here the simulator behind the place of CuPy."""

import numpy as np
import pytest
import test_batch
import test_loss
import test_second_moment
import test_update
from host_arrays import HostArrays

from tinyddpm.kernels.cuda.cupy_runtime import CupyRuntime
from tinyddpm.training.kernel_choice import cuda_runtime

pytestmark = pytest.mark.cuda_sim


@pytest.fixture
def card(cupy):
    del cupy
    return HostArrays(cuda_runtime())


def test_kernels_work_on_them(card):
    test_batch.test_a_batch_is_that_of_the_host(card, "v", (5, 6, 3))
    test_loss.test_losses_and_their_gradient_are_those_of_the_host(
        card, "eps", "learned", "vlb", 1.0
    )
    test_second_moment.test_losses_are_learnt_in_the_order_of_the_batch(card, 4)
    test_update.test_an_update_is_that_of_optim(card, 2, 3.0)


def test_what_the_gpu_did_is_what_is_compared(card, monkeypatch):
    monkeypatch.setattr(CupyRuntime, "launch", lambda *_, **__: None)
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        test_update.test_an_update_is_that_of_optim(card, 2, 3.0)

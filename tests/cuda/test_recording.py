"""A recorded piece of work does the same whenever it is launched."""

import numpy as np
import pytest

from tinyddpm.training.kernel_choice import cuda_runtime

pytestmark = pytest.mark.cuda_sim


@pytest.fixture(params=["simulated", pytest.param("gpu", marks=pytest.mark.cuda)])
def runtime(request):
    """The runtime of CuPy, on its stand-in and on a real GPU."""
    if request.param == "gpu":
        return request.getfixturevalue("gpu")
    request.getfixturevalue("cupy")
    return cuda_runtime()


def test_a_constant_is_not_where_launches_before_it_work(runtime):
    host = np.arange(1000, dtype=np.float32)
    result = runtime.zeros(host.shape)

    def work():
        for _ in range(8):
            runtime.empty(host.shape).fill(np.nan)  # and its memory is free again
        constant = runtime.constant(host)
        result[...] = constant + 1

    replay = runtime.record(work)
    np.testing.assert_array_equal(runtime.download(result), host + 1)
    for _ in range(2):
        result.fill(0)
        replay()
        np.testing.assert_array_equal(runtime.download(result), host + 1)

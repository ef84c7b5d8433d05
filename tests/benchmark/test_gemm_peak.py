"""The peak is of the products that were done."""

import numpy as np
import pytest

from tinyddpm.benchmark import surroundings
from tinyddpm.parallel import Workers


@pytest.mark.parametrize("threads", [1, 2])
def test_the_peak_counts_the_products_that_are_done(monkeypatch, threads):
    done, multiply = [], np.matmul

    def counted(a, b, out):
        done.append((*a.shape, b.shape[1], a.dtype))
        return multiply(a[:1, :1], b[:1, :1], out=out[:1, :1])

    def half_a_second(products, _steps):
        done.clear()
        products()
        return 0.5

    monkeypatch.setattr(np, "matmul", counted)
    monkeypatch.setattr(surroundings, "seconds_of", half_a_second)
    with Workers(threads) as workers:
        peak = surroundings.gemm_peak(workers, rounds=2)
    assert {dtype for *_, dtype in done} == {np.dtype(np.float32)}
    assert peak == sum(2 * m * k * n for m, k, n, _ in done) / 0.5

"""How BLAS is found and named, where libraries are made up."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tinyddpm import blas

GET, SET = "openblas_get_num_threads", "openblas_set_num_threads"


def library(name, *functions, corename=None):
    """A library of these functions, each of which returns its own name."""
    table = {function: (lambda function=function: function) for function in functions}
    if corename:
        table[corename] = lambda: b"Zen"
    return SimpleNamespace(_name=f"/lib/{name}.so", **table)


@pytest.fixture
def bundled(monkeypatch):
    """Put libraries beside NumPy, and take threadpoolctl away."""
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)

    def put(*libraries):
        monkeypatch.setattr(blas, "_bundled_libraries", lambda: iter(libraries))

    return put


def test_a_pair_of_one_spelling_is_taken(bundled):
    half = library("half", GET, f"scipy_{SET}64_")
    bundled(half, library("whole", f"scipy_{GET}64_", f"scipy_{SET}64_", GET, SET))
    control = blas.blas_threads()
    assert control is not None
    assert control.means == "whole.so"
    assert (control.get(), control.set()) == (f"scipy_{GET}64_", f"scipy_{SET}64_")


def test_what_cannot_be_reached_is_left_alone(bundled):
    bundled(library("half", GET))
    assert blas.blas_threads() is None
    with blas.one_blas_thread():
        assert blas.blas_threads() is None


@pytest.mark.parametrize("user_api", ["blas", "openmp"])
def test_threadpoolctl_reaches_any_other_blas(bundled, monkeypatch, user_api):
    counts = [4]
    held = SimpleNamespace(get_num_threads=lambda: counts[-1], set_num_threads=counts.append)

    def select(**asked):
        return SimpleNamespace(lib_controllers=[held] if asked == {"user_api": user_api} else [])

    bundled()
    other = SimpleNamespace(ThreadpoolController=lambda: SimpleNamespace(select=select))
    monkeypatch.setitem(sys.modules, "threadpoolctl", other)
    with blas.one_blas_thread():
        pass
    assert counts == ([4, 1, 4] if user_api == "blas" else [4])


@pytest.mark.parametrize("corename", ["scipy_openblas_get_corename64_", "openblas_get_corename"])
def test_the_name_tells_for_which_processor_the_kernels_are(bundled, corename):
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    bundled(library("other", GET), library("openblas", corename=corename))
    plain = f"{built['name']} {built['version']}"
    assert blas.blas_name() == f"{plain} with kernels for Zen"
    bundled()
    assert blas.blas_name() == plain

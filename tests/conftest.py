"""How tests are run: hypothesis profiles, where real data is looked for, what may be skipped.

With CI set, a test may be skipped only for want of a GPU, of the real data, or of an optional peer;
the kernels of a GPU are compiled and simulated wherever CI runs on Linux on x86-64.
"""

import os
import platform
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tinyddpm.blas import one_blas_thread

settings.register_profile(
    "tinyddpm",
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],  # that is a judgement of the machine
)
settings.load_profile("tinyddpm")

REPOSITORY = Path(__file__).resolve().parents[1]
MAY_SKIP = {"cuda", "mnist", "peer"}
if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
    MAY_SKIP |= {"cuda_compile", "cuda_sim"}
_skipped_without_leave = []


def data_root() -> Path | None:
    """The folder that holds mnist/ and its neighbours, or None where there is none."""
    named = os.environ.get("TINYDDPM_DATA")
    for root in (Path(named) if named else None, REPOSITORY.parent / "shared" / "data"):
        if root and (root / "mnist").is_dir():
            return root
    return None


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread_for_all():
    """Small products on two BLAS threads are slower than on one, and slower still on busy cores."""
    with one_blas_thread():
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where it is absent."""
    root = data_root()
    if root is None:
        pytest.skip("no real data: set TINYDDPM_DATA to a folder that holds mnist/")
    return root


def pytest_runtest_logreport(report):
    if report.skipped and not hasattr(report, "wasxfail") and not MAY_SKIP & set(report.keywords):
        _skipped_without_leave.append(report.nodeid)


def pytest_collectreport(report):
    if report.skipped and "peer" not in report.nodeid:
        _skipped_without_leave.append(report.nodeid)


def pytest_sessionfinish(session):
    if os.environ.get("CI") and _skipped_without_leave and session.exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    if os.environ.get("CI"):
        for nodeid in _skipped_without_leave:
            terminalreporter.write_line(f"skipped, which CI does not allow: {nodeid}", red=True)

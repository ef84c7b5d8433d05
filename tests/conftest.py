"""How the tests are run: hypothesis profiles, and where real data is looked for."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("local", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("local")

REPOSITORY = Path(__file__).resolve().parents[1]


def data_root() -> Path | None:
    """The folder that holds mnist/ and its neighbours, or None where there is none."""
    named = os.environ.get("TINYDDPM_DATA")
    for root in (Path(named) if named else None, REPOSITORY.parent / "shared" / "data"):
        if root and (root / "mnist").is_dir():
            return root
    return None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where it is absent."""
    root = data_root()
    if root is None:
        pytest.skip("no real data: set TINYDDPM_DATA to a folder that holds mnist/")
    return root

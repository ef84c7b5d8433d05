import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyddpm.data import LOADERS, load
from tinyddpm.data.holdings import KNOWN
from tinyddpm.errors import DataError, UsageError


def test_an_unknown_name_gets_the_known_ones() -> None:
    with pytest.raises(
        DataError, match=r"(?s)'minst'.*glyphs, mnist, fashion-mnist, cifar10"
    ) as caught:
        load("minst")
    assert caught.value.exit_code == 3
    assert caught.value.cause == "there is no file or folder minst either"
    assert set(LOADERS) == {"glyphs", "mnist", "fashion-mnist", "cifar10"}


def test_an_unknown_split_gets_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"(?s)'valid'.*train or test"):
        load("glyphs", split="valid")


def test_the_folder_may_be_a_string(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks train-images-idx3-ubyte"):
        load("mnist", data_dir=str(tmp_path))
    np.save(tmp_path / "mine.npy", np.zeros((2, 4, 4), np.uint8))
    assert len(load("gone.npy", data_dir=str(tmp_path / "mine.npy")).images) == 2


def test_pillow_is_imported_only_for_pictures() -> None:
    code = "import sys; from tinyddpm import data; data.load('glyphs'); print('PIL' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


def test_the_built_in_set_needs_nothing_and_takes_no_folder(tmp_path: Path) -> None:
    train, test = load("glyphs"), load("glyphs", split="test")
    assert train.images.shape == test.images.shape == (10_000, 16, 16, 1)
    assert train.fingerprint != test.fingerprint
    with pytest.raises(UsageError, match="built in"):
        load("glyphs", data_dir=tmp_path)


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.remote])
def test_each_known_set_is_sought_at_its_own_mirrors_and_that_is_told(
    name: str, tmp_path: Path, monkeypatch
) -> None:
    def no_network(*_args, **_options):
        raise OSError("no network in tests")

    monkeypatch.setattr("tinyddpm.data.download.web.OpenerDirector.open", no_network)
    monkeypatch.setenv("TINYDDPM_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told: list[str] = []
    with pytest.raises(DataError, match=f"data set {name} is not on this machine"):
        load(name, tell=lambda file, mirror: told.append(mirror + file.name))
    known = KNOWN[name]
    assert told == [mirror + known.remote[0].name for mirror in known.mirrors]

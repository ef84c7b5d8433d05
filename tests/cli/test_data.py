"""``tinyddpm data`` as a user meets it."""

import gzip
import hashlib
import io
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fake_mnist import bars, write_mnist
from PIL import Image

from tinyddpm.cli.run_data import data_of, load_data
from tinyddpm.data import canonical, holdings
from tinyddpm.data.download import RemoteFile, fetch
from tinyddpm.data.holdings import KNOWN
from tinyddpm.data.mnist import locate
from tinyddpm.data.parts import Part
from tinyddpm.errors import DataError, MissingFilesError
from tinyddpm.training.config import default_preset, fit_to, recipe

CONTENT = {"train-images-idx3-ubyte": b"pixels" * 100, "train-labels-idx1-ubyte": b"labels" * 9}
PACKED = {name: gzip.compress(content, mtime=0) for name, content in CONTENT.items()}
PARTS = tuple(
    Part(name, len(content), hashlib.sha256(content).hexdigest())
    for name, content in CONTENT.items()
)
REMOTE = tuple(
    RemoteFile(f"{name}.gz", len(packed), hashlib.sha256(packed).hexdigest())
    for name, packed in PACKED.items()
)


@pytest.fixture
def cli(command, monkeypatch, tmp_path):
    """Run ``tinyddpm data`` where MNIST is two small files: its exit code, stdout and stderr."""
    monkeypatch.setenv("TINYDDPM_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small = replace(
        KNOWN["mnist"],
        parts=PARTS,
        remote=REMOTE,
        locate=lambda folders: locate(PARTS, folders),
    )
    monkeypatch.setitem(KNOWN, "mnist", small)
    return partial(command, "data")


def put(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.gz").write_bytes(PACKED[name])
    return folder


def test_list_shows_what_is_where(cli, tmp_path):
    own = put(tmp_path / "own" / "mnist", "train-images-idx3-ubyte")
    code, out, err = cli("list")
    assert (code, err) == (0, "")
    cache = tmp_path / "cache" / "tinyddpm"
    assert out.splitlines() == [
        "glyphs         16×16×1  10,000 + 10,000 images  built in",
        "mnist          28×28×1  60,000 + 10,000 images  in part",
        f"               0.0 MiB in {own}",
        "               without train-labels-idx1-ubyte",
        "fashion-mnist  28×28×1  60,000 + 10,000 images  absent",
        f"               looked in {tmp_path}/own/fashion-mnist, {cache}/fashion-mnist",
        "               tinyddpm data fetch fashion-mnist downloads it",
        "cifar10        32×32×3  50,000 + 10,000 images  absent",
        f"               looked in {tmp_path}/own/cifar10, {cache}/cifar10",
        "               tinyddpm data fetch cifar10 downloads it",
    ]


def test_list_as_json_holds_all_of_it(cli, tmp_path):
    own = put(tmp_path / "own" / "mnist", "train-images-idx3-ubyte")
    code, out, _ = cli("list", "--json")
    assert code == 0
    sets = {entry.pop("name"): entry for entry in json.loads(out)["sets"]}
    assert sets["glyphs"] == {
        "shape": [16, 16, 1],
        "train": 10_000,
        "test": 10_000,
        "state": "built in",
        "looked_in": [],
        "files": [],
    }
    path = own / "train-images-idx3-ubyte.gz"
    assert sets["mnist"]["state"] == "in part"
    assert sets["mnist"]["looked_in"] == [str(own), str(tmp_path / "cache/tinyddpm/mnist")]
    assert sets["mnist"]["files"] == [
        {"part": PARTS[0].name, "path": str(path), "bytes": len(path.read_bytes())},
        {"part": PARTS[1].name, "path": None, "bytes": None},
    ]
    assert len(sets["cifar10"]["files"]) == 6


def test_verify_judges_each_file(cli, tmp_path):
    own = put(tmp_path / "own" / "mnist", *CONTENT)
    code, out, err = cli("verify", "mnist")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"mnist          {name:24} right    {own / name}.gz" for name in CONTENT
    ]
    path = own / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(b"x" * 54))
    for args in (["verify"], ["verify", "mnist"]):
        code, out, err = cli(*args)
        assert code == 3
        assert f"damaged  {path}: SHA-256 is " in out
        assert err == "1 damaged: delete them, and tinyddpm data fetch downloads them again\n"
    code, out, _ = cli("verify", "mnist", "--json")
    assert code == 3
    result = json.loads(out)
    assert [file["state"] for file in result["files"]] == ["right", "damaged"]
    assert result["damaged"] == 1
    assert "SHA-256 is" in result["files"][1]["fault"]


def test_what_is_missing_is_no_damage_unless_nothing_is_there(cli, tmp_path):
    code, out, _ = cli("verify")
    assert code == 0
    assert out.count(" missing") == 2 + 4 + 6
    code, out, err = cli("verify", "mnist")
    assert code == 3
    assert "data set mnist is not on this machine" in err
    assert f"looked in {tmp_path}/own/mnist, {tmp_path}/cache/tinyddpm/mnist" in err
    assert "try: tinyddpm data fetch mnist" in err
    put(tmp_path / "own" / "mnist", "train-labels-idx1-ubyte")
    assert cli("verify", "mnist")[0] == 0


def test_what_is_built_in_has_nothing_to_verify_and_says_so(cli):
    assert cli("verify", "glyphs") == (0, "", "note: glyphs is built in, and has no files\n")


def test_fetch_downloads_what_is_missing_once(cli, tmp_path, monkeypatch):
    asked = []

    def served(url):
        asked.append(url)
        return io.BytesIO(PACKED[url.rpartition("/")[2].removesuffix(".gz")])

    def local(*args, tell, **_):
        return fetch(*args, tell=tell, open_url=served)

    monkeypatch.setattr(holdings, "fetch", local)
    cache = tmp_path / "cache" / "tinyddpm" / "mnist"
    for said in (2, 0):
        code, out, err = cli("fetch", "mnist")
        assert code == 0, err
        assert out.splitlines() == [f"{cache / name}.gz" for name in CONTENT]
        assert err.count("downloading train-") == said
    assert asked == [f"https://storage.googleapis.com/cvdf-datasets/mnist/{n}.gz" for n in CONTENT]


def test_fetch_without_a_network_says_what_to_put_where(cli, tmp_path, monkeypatch):
    def refused(*_args, **_options):
        raise OSError("no network in tests")

    monkeypatch.setattr("tinyddpm.data.download.web.OpenerDirector.open", refused)
    code, out, err = cli("fetch", "cifar10")
    assert (code, out) == (3, "")
    assert "downloading cifar-10-binary.tar.gz, 162 MiB" in err
    assert f"put cifar-10-binary.tar.gz (170052171 bytes) into {tmp_path}/cache" in err


@pytest.mark.parametrize(
    ("args", "word"),
    [(["fetch"], "NAME"), (["fetch", "glyphs"], "glyphs"), (["verify", "minst"], "minst")],
)
def test_names_that_are_not_known_are_refused_with_those_that_are(cli, args, word):
    code, _, err = cli(*args)
    assert code == 2
    assert word in err
    assert "mnist" in err


@pytest.mark.parametrize("verb", ["list", "verify", "fetch"])
def test_each_verb_has_an_example(cli, verb):
    code, out, _ = cli(verb, "--help")
    assert code == 0
    assert f"tinyddpm data {verb}" in out


def put_pictures(folder: Path, size: int = 8) -> Path:
    folder.mkdir(parents=True)
    for number in range(3):
        Image.new("L", (size, size), 50 * number).save(folder / f"{number}.png")
    return folder


def test_notices_are_said_on_stderr(tmp_path, capsys):
    put_pictures(tmp_path / "mine", 12)
    (tmp_path / "mine" / "bad.png").touch()
    load_data(str(tmp_path / "mine"), image_size=8, skip_bad=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line[:12] for line in err.splitlines()] == ["note: 1 of 4", "note: pictur"]


def test_the_data_of_a_run_are_read_as_in_training(tmp_path, monkeypatch):
    """From another folder, in the size that the network was made for, without the bad file."""
    put_pictures(tmp_path / "mine", 12)
    (tmp_path / "mine" / "bad.png").touch()
    monkeypatch.chdir(tmp_path)
    name = canonical("mine")
    dataset = load_data(name, image_size=8, skip_bad=True)
    preset = default_preset(name, dataset.images.shape)
    config = replace(recipe(preset, name), data_dir=str(dataset.folder), skip_bad=True)
    chain = replace(config.diffusion, variance="learned")  # of twice as many channels
    config = fit_to(replace(config, diffusion=chain), dataset.images.shape)
    monkeypatch.chdir("/")
    assert data_of(config).fingerprint == dataset.fingerprint
    (tmp_path / "mine").rename(tmp_path / "moved")
    assert data_of(config, data_dir=tmp_path / "moved").fingerprint == dataset.fingerprint
    moved = replace(config, data_dir=str(tmp_path / "moved"))
    assert data_of(moved).fingerprint == dataset.fingerprint
    with pytest.raises(DataError, match="unknown data set"):
        data_of(config)
    np.savez(tmp_path / "x.npz", images=dataset.images)
    arrays = replace(config, data=str(tmp_path / "x.npz"), data_dir="")
    assert data_of(arrays).fingerprint == dataset.fingerprint


@pytest.mark.usefixtures("cli")
def test_own_files_by_the_names_of_a_known_set_are_used_while_they_are_whole(
    tmp_path, capsys, fetched
):
    """A test split that they lack is that of the known set."""
    own = write_mnist(tmp_path / "mine", bars(6, seed=2), bars(4, seed=3))
    config = replace(recipe("mnist", "mnist"), data_dir=str(own))
    cache = tmp_path / "cache" / "tinyddpm" / "mnist"
    assert data_of(config, "test").folder == own
    for path in own.glob("t10k-*"):
        path.unlink()
    assert capsys.readouterr().err == ""
    assert data_of(config, "test").folder == cache
    note = f"note: {own} lacks the test split, which is read from {cache}\n"
    assert capsys.readouterr().err == note
    assert len(data_of(config).images) == 6
    with pytest.raises(MissingFilesError, match="mine lacks t10k-images"):
        data_of(config, "test", data_dir=own)
    (own / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(MissingFilesError, match="mine lacks train-labels"):
        data_of(config)  # these were trained on, and no others are sought
    assert len(fetched) == 2
    shutil.rmtree(own)
    assert data_of(config).folder == cache
    assert len(fetched) == 4

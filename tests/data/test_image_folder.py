"""Folders of pictures: which files, in which order, of what size, with which labels."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinyddpm.data import canonical, image_folder, load
from tinyddpm.data.image_folder import fitting_size, load_folder
from tinyddpm.data.picture import EXTENSIONS, Header
from tinyddpm.errors import DataError


def put(path: Path, level: int = 0, size: tuple[int, int] = (8, 8), mode: str = "L") -> Path:
    """Write a picture of one grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level if mode == "L" else (level,) * 3).save(path)
    return path


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


NOISE = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (8, 8), dtype=np.uint8)


def put_cut(path: Path) -> None:
    """Write a picture whose header is whole and whose pixels are not."""
    path.write_bytes(png(NOISE)[:-30])


def levels(data) -> list[int]:
    return data.images[:, 0, 0, 0].tolist()


def test_files_are_taken_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["b/2.png", "a/10.PNG", "a-b.png", "a/2.jpeg", "B.jpg", "é.png", "c/d/e/1.Jpg"]
    for level, name in enumerate(names):
        put(tmp_path / name, 30 * level)
    put(tmp_path / ".hidden.png")
    put(tmp_path / ".cache" / "x.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "Thumbs.db").write_bytes(bytes(9))
    data = load(str(tmp_path))
    order = sorted(names, key=lambda name: name.split("/"))
    assert levels(data) == [30 * names.index(name) for name in order]
    assert data.name == tmp_path.name
    assert data.folder == tmp_path
    assert data.images.shape == (7, 8, 8, 1)
    assert data.notices == ("no classes: 3 of 7 pictures lie in no subfolder",)
    assert load(str(tmp_path)).fingerprint == data.fingerprint


def test_subfolders_are_classes(tmp_path: Path) -> None:
    for level, name in enumerate(["dog/x/1.png", "cat/2.png", "cat/1.png", "ant/9.png"]):
        put(tmp_path / name, level)
    (tmp_path / "empty").mkdir()
    data = load_folder(tmp_path)
    assert data.class_names == ("ant", "cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 1, 2]
    assert levels(data) == [3, 2, 1, 0]
    assert data.notices == ()


def test_without_subfolders_there_are_no_classes_and_nothing_to_say(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    data = load_folder(tmp_path)
    assert data.labels is None
    assert (data.class_names, data.notices) == ((), ())


def test_more_classes_than_a_byte_counts_are_none(tmp_path: Path) -> None:
    for number in range(257):
        put(tmp_path / f"{number:03}" / "1.png")
    data = load_folder(tmp_path)
    assert data.labels is None
    assert data.notices == ("no classes: 257 subfolders are more than 256",)


def test_train_and_test_are_the_splits_where_both_are_there(tmp_path: Path) -> None:
    put(tmp_path / "train" / "cat" / "1.png", 1)
    with pytest.raises(DataError, match="has no test pictures") as caught:
        load(str(tmp_path), split="test")
    assert str(tmp_path / "test") in caught.value.remedy
    assert load_folder(tmp_path).class_names == ("train",)  # a train may be a class, too
    put(tmp_path / "test" / "cat" / "1.png", 2)
    train, test = (load(str(tmp_path), split=split) for split in ("train", "test"))
    assert (levels(train), levels(test)) == ([1], [2])
    assert train.class_names == ("cat",)


def test_grey_if_all_are_grey_else_rgb(tmp_path: Path) -> None:
    put(tmp_path / "1.png", 7)
    assert load_folder(tmp_path).images.shape == (1, 8, 8, 1)
    put(tmp_path / "2.png", 9, mode="RGB")
    both = load_folder(tmp_path)
    assert both.images.shape == (2, 8, 8, 3)
    assert (both.images[0] == 7).all()
    assert both.notices == ("grey pictures are read as RGB, for others have colours",)


def test_grey_or_rgb_as_it_is_said(tmp_path: Path) -> None:
    put(tmp_path / "grey" / "1.png", 7)
    (tmp_path / "colours").mkdir()
    Image.new("RGB", (8, 8), (200, 100, 0)).save(tmp_path / "colours" / "1.png")
    as_rgb = load(str(tmp_path / "grey"), channels=3)
    as_grey = load(str(tmp_path / "colours"), channels=1)
    assert as_rgb.images.shape == (1, 8, 8, 3)
    assert (as_rgb.images == 7).all()
    assert as_rgb.notices == ("grey pictures are read as RGB",)
    assert as_grey.images.shape == (1, 8, 8, 1)
    assert (as_grey.images == round(0.299 * 200 + 0.587 * 100)).all()
    assert as_grey.notices == ("pictures with colours are read as grey",)


def test_the_size_is_the_one_asked_for(tmp_path: Path) -> None:
    put(tmp_path / "large.png", size=(50, 40))
    put(tmp_path / "small.png", size=(10, 9))
    data = load(str(tmp_path), image_size=16)
    assert data.images.shape == (2, 16, 16, 1)
    resized = "pictures are cut to squares and resized to 16×16 pixels, 1 of them enlarged"
    assert data.notices == (resized,)
    assert load_folder(tmp_path).images.shape == (2, 8, 8, 1)


SIDES = st.lists(st.tuples(st.integers(4, 200), st.integers(4, 200)), min_size=1, max_size=5)


@given(sizes=SIDES, uniform=st.booleans())
def test_a_size_of_its_own_enlarges_nothing_and_can_be_halved_twice(sizes, uniform: bool) -> None:
    if uniform:
        sizes = [(sizes[0][0],) * 2] * len(sizes)
    size = fitting_size(Path("x"), [Header(*pair, grey=True) for pair in sizes])
    assert size % 4 == 0
    assert 4 <= size <= min(map(min, sizes))
    if uniform and sizes[0][0] in range(4, 65, 4):
        assert size == sizes[0][0]
    else:
        assert size <= 32
        assert size == 32 or size + 4 > min(map(min, sizes))


def test_pictures_too_small_to_train_on_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "1.png", size=(3, 100))
    with pytest.raises(DataError, match=r"(?s)too small.*4×4 pixels, found a side of 3"):
        load_folder(tmp_path)
    assert load_folder(tmp_path, image_size=8).images.shape == (1, 8, 8, 1)


@pytest.fixture
def with_bad_files(tmp_path: Path) -> Path:
    """Six good pictures and six faults, of every kind that is found at another moment."""
    for number in range(6):
        put(tmp_path / f"{number}.png", number)
    put_cut(tmp_path / "cut.png")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    put(tmp_path / "large.png", size=(4097, 4097))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "round").symlink_to(tmp_path)
    return tmp_path


def test_one_error_names_all_bad_files(with_bad_files: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_folder(with_bad_files)
    assert caught.value.args[0] == f"6 of 12 files in {with_bad_files} cannot be read"
    assert "--skip-bad" in caught.value.remedy
    reasons = dict(part.split(": ", 1) for part in caught.value.cause.split("; "))
    assert reasons.keys() == {
        "cut.png", "empty.jpg", "text.png", "gone.png", "large.png", "sub/round"
    }  # fmt: skip
    assert "truncated" in reasons["cut.png"]
    assert "found nothing" in reasons["empty.jpg"]
    assert "16777216 pixels, found 4097×4097" in reasons["large.png"]
    assert "has been read already" in reasons["sub/round"]


def test_bad_files_are_left_out_and_counted(with_bad_files: Path) -> None:
    data = load(str(with_bad_files), skip_bad=True)
    assert levels(data) == [0, 1, 2, 3, 4, 5]
    assert data.notices[0].startswith(f"6 of 12 files in {with_bad_files} are left out: ")
    assert data.images.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("count", "end"), [(10, "found nothing"), (11, "; and 1 more"), (25, "; and 15 more")]
)
def test_of_many_bad_files_the_first_are_named(tmp_path: Path, count: int, end: str) -> None:
    put(tmp_path / "good.png")
    for number in range(count):
        (tmp_path / f"{number:02}.png").touch()
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path)
    assert caught.value.args[0].startswith(f"{count} of {count + 1} files")
    assert "09.png" in caught.value.cause
    assert "10.png" not in caught.value.cause
    assert caught.value.cause.endswith(end)


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path: Path, monkeypatch) -> None:
    put(tmp_path / "good.png")
    put(tmp_path / "closed" / "1.png")
    iterdir = Path.iterdir

    def guarded(folder: Path):  # for root no folder is closed
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", guarded)
    with pytest.raises(DataError, match="1 of 2 files") as caught:
        load_folder(tmp_path)
    assert caught.value.cause == "closed: Permission denied"
    assert len(load_folder(tmp_path, skip_bad=True).images) == 1


def test_a_folder_without_pictures_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a.gif").touch()
    with pytest.raises(DataError, match="there are no pictures in") as caught:
        load_folder(tmp_path)
    assert caught.value.cause == "looked for .png, .jpg, .jpeg in it and the folders below"
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match="there are no pictures in") as caught:
        load_folder(tmp_path, skip_bad=True)
    assert "a.png: expected a PNG or JPEG, found nothing" in caught.value.cause
    put_cut(tmp_path / "b.png")
    with pytest.raises(DataError, match="2 of 2 files"):  # none is left to be trained on
        load_folder(tmp_path, skip_bad=True)


BAD = [b"", b"no picture", b"GIF89a", png(NOISE)[:-30], png(NOISE)[:20]]
NAMES = st.builds(
    "{}{}{}".format, *map(st.sampled_from, (["", "x/", "y/", "x/y/"], "abé", EXTENSIONS))
)


@given(files=st.dictionaries(NAMES, st.none() | st.sampled_from(BAD), min_size=1, max_size=8))
def test_of_any_tree_the_good_are_read_or_the_bad_are_named(tmp_path_factory, files) -> None:
    root = tmp_path_factory.mktemp("tree")
    for level, (name, content) in enumerate(files.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        good = png(np.full((8, 8), level, np.uint8))  # whatever its name is
        (root / name).write_bytes(good if content is None else content)
    names = [name for name, content in files.items() if content is None]
    if names:
        order = sorted(names, key=lambda name: name.split("/"))
        expected = [list(files).index(name) for name in order]
        assert levels(load_folder(root, skip_bad=True)) == expected
    if len(names) == len(files):
        assert len(load_folder(root).images) == len(files)
        return
    with pytest.raises(DataError) as caught:
        load_folder(root)
    assert all(f"{name}: " in caught.value.cause for name in files if name not in names)


def test_circles_of_links_end(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.png")
    for number in range(8):
        (tmp_path / "a" / f"up{number}").symlink_to(tmp_path)
        (tmp_path / f"self{number}").symlink_to(tmp_path / f"self{number}")
    with pytest.raises(DataError, match="8 of 9 files"):
        load_folder(tmp_path)
    assert len(load_folder(tmp_path, skip_bad=True).images) == 1


def test_links_to_other_places_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "there" / "1.png", 1)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "cat").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "dog").mkdir()
    (tmp_path / "here" / "dog" / "2.png").symlink_to(tmp_path / "there" / "1.png")
    assert load_folder(tmp_path / "here").class_names == ("cat", "dog")


def test_folders_may_be_deeper_than_calls(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(sys.getrecursionlimit() + 100):
            os.mkdir("d")
            os.chdir("d")
        Image.new("L", (8, 8)).save("1.png")
        assert load_folder(tmp_path).class_names == ("d",)
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # as deep as that, pytest cannot


def test_more_than_memory_is_refused_before_it_is_taken(tmp_path: Path, monkeypatch) -> None:
    for number in range(3):
        put(tmp_path / f"{number}.png")
    monkeypatch.setattr(image_folder, "MAX_BYTES", 3 * 64)
    assert len(load_folder(tmp_path).images) == 3
    with pytest.raises(DataError, match=r"3 pictures of 9×9 pixels .* too many"):
        load_folder(tmp_path, image_size=9)


BOMBS = """
import resource, sys
from pathlib import Path
from tinyddpm.data import image_folder, load
from tinyddpm.errors import DataError

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20, resource.RLIM_INFINITY))
try:
    load(sys.argv[1])
except DataError as error:
    print(error.args[0])
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="not Linux")
def test_bombs_are_refused_in_little_memory(tmp_path: Path) -> None:
    """Ten pictures of 256 megapixels, of which not one would fit."""
    one = tmp_path / "0.png"
    Image.new("1", (16384, 16384)).save(one)
    for number in range(1, 10):
        (tmp_path / f"{number}.png").write_bytes(one.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"there are no pictures in {tmp_path}\n", done.stderr


def test_a_path_is_found_again_from_anywhere(tmp_path: Path, monkeypatch) -> None:
    put(tmp_path / "mine" / "1.png", 5)
    put(tmp_path / "mnist" / "1.png", 6)
    monkeypatch.chdir(tmp_path)
    name = canonical("mine")
    assert name == str(tmp_path / "mine")
    assert canonical("mnist") == "mnist"
    assert canonical("./mnist") == str(tmp_path / "mnist")
    assert canonical("minst") == "minst"
    monkeypatch.chdir("/")
    assert levels(load(name)) == [5]
    put(tmp_path / "moved" / "1.png", 4)
    assert levels(load(name, data_dir=tmp_path / "moved")) == [4]
    assert np.asarray(load(name).images).dtype == np.uint8

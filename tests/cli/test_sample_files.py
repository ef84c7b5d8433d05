"""What ``tinyddpm sample`` leaves, from images that are made up."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyddpm.cli.sample_files import SampleFiles


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test is in an empty folder."""
    monkeypatch.chdir(tmp_path)


def files(out="a.png", **others):
    wanted = dict.fromkeys(("npz", "gif", "frames")) | others
    return SampleFiles(Path(out), **{name: path and Path(path) for name, path in wanted.items()})


def film(channels=1):
    """Three times of two images, no two of them alike."""
    shape = (3, 2, 4, 4, channels)
    return list(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))


def test_names_may_be_in_capitals():
    files("A.PNG", npz="A.NPZ", gif="A.GIF").check()
    files(gif="B.PNG").check()


@pytest.mark.parametrize(
    ("others", "filmed"),
    [({}, False), ({"npz": "a.npz"}, False), ({"gif": "a.gif"}, True), ({"frames": "a"}, True)],
    ids=str,
)
def test_a_film_is_made_for_an_animation_or_for_frames(others, filmed):
    assert files(**others).film == filmed


def test_the_result_is_the_end_of_the_film_and_every_name_is_told(capsys):
    everything = files(npz="a.npz", gif="a.gif", frames="way")
    everything.write(film(), columns=None)
    assert capsys.readouterr() == ("a.png\na.npz\na.gif\nway\n", "")
    images = np.load("a.npz")["images"]
    np.testing.assert_array_equal(images, film()[-1], strict=True)
    with Image.open("a.png") as picture:
        first = np.asarray(picture)[: 4 * 14 : 14, : 4 * 14 : 14]
        np.testing.assert_array_equal(first, images[0, ..., 0])  # 4 pixels, 14 times as large
    assert len(list(Path("way").iterdir())) == 3


@pytest.mark.parametrize(
    ("name", "channels", "told"),
    [("a.gif", 3, True), ("a.GIF", 3, True), ("a.gif", 1, False), ("b.png", 3, False)],
)
def test_what_a_gif_loses_of_colours_is_said(capsys, name, channels, told):
    files(gif=name).write(film(channels), columns=None)
    assert ("256 colours at most; --gif FILE.png" in capsys.readouterr().err) == told

"""``tinyddpm sample`` with the way from noise to images, and from one image to another."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tinyddpm.cli.main import commands
from tinyddpm.cli.sample import _count, _shoot
from tinyddpm.diffusion.sampling import SampleStep
from tinyddpm.figures.grid import grid_size
from tinyddpm.training.model import TrainedModel

TINY = ["--batch", "4", "--shard", "2", "--threads", "1", "--device", "cpu", "--lr", "1"]
FAST = ["--threads", 1, "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of two hardly trained runs."""
    folder = tmp_path_factory.mktemp("runs")
    args = ["train", *TINY, "--train-steps", "2", "--diffusion-steps", "60", "--preview-every", "0"]
    commands.main([*args, "--out", str(folder / "plain")], standalone_mode=False)
    commands.main([*args, "--conditional", "--out", str(folder / "classes")], standalone_mode=False)
    return folder


@pytest.fixture
def sample(command, monkeypatch, tmp_path, runs):
    """Run the command in an empty folder: its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return lambda name, *args: command("sample", runs / name, *FAST, *args)


@pytest.fixture
def images(sample):
    """The images of a run that succeeds."""

    def run(name, *args):
        code, _, err = sample(name, "--npz", "images.npz", *args)
        assert code == 0, err
        return np.load("images.npz")["images"]

    return run


def pictures(path):
    with Image.open(path) as film:
        return [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(film)]


def test_the_film_is_the_frames_and_ends_in_the_picture(sample, tmp_path):
    args = ["--n", 3, "--gif", "way.gif", "--frames", "way"]
    code, out, err = sample("plain", *args)
    assert code == 0, err
    assert out == "samples.png\nway.gif\nway\n"
    film = pictures(tmp_path / "way.gif")
    frames = [pictures(path)[0] for path in sorted((tmp_path / "way").iterdir())]
    assert len(film) == len(frames) == 50  # of 60 steps
    for a, b in zip(film, frames, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(film[-1], pictures(tmp_path / "samples.png")[0])
    assert film[0].std() > 60  # noise: x_t of a late t, in bytes
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(film))


def test_an_animated_png_is_the_gif(sample, tmp_path):
    for name in ("way.gif", "way.png"):
        assert sample("plain", "--n", 2, "--steps", 7, "--gif", name)[0] == 0
    gif, png = (pictures(tmp_path / f"way.{kind}") for kind in ("gif", "png"))
    assert len(gif) == 7
    np.testing.assert_array_equal(np.stack(gif), np.stack(png))


@pytest.mark.parametrize("args", [[], ["--steps", 9], ["--ddim", 0.5], ["--interpolate", 3]])
def test_filming_changes_no_bit_of_the_images(images, args):
    args = ["--n", 3, *args]
    np.testing.assert_array_equal(
        images("plain", *args, "--gif", "way.gif", "--frames", "way"), images("plain", *args)
    )


def test_of_a_long_chain_few_images_are_kept():
    x = np.zeros((2, 4, 4, 1), np.float32)

    def walk():
        for t in range(1000, 0, -1):
            yield SampleStep(t, x + t / 1000 - 1, x)

    film = _shoot(walk(), 1000, "sampling", whole=True)
    assert len(film) == 50
    assert all(images.dtype == np.uint8 for images in film)
    levels = [images[0, 0, 0, 0] for images in film]
    assert levels == [round((t + 1) / 1000 * 127.5) for t in range(980, -1, -20)]
    assert len(_shoot(walk(), 1000, "sampling", whole=False)) == 1


def test_a_row_goes_from_one_sample_to_the_next(images):
    """Its ends are the samples of DDIM with the same seed; what is between is neither."""
    whole = images("plain", "--steps", 8, "--seed", 4, "--ddim", 0, "--n", 6)
    rows = images("plain", "--steps", 8, "--seed", 4, "--interpolate", 5, "--n", 15)
    rows = rows.reshape(3, 5, 16, 16, 1)
    np.testing.assert_array_equal(rows[:, 0], whole[::2])
    np.testing.assert_array_equal(rows[:, -1], whole[1::2])
    for row in rows:
        assert len(np.unique(row.reshape(5, -1), axis=0)) == 5
        near = np.abs(np.diff(row.astype(int), axis=0)).mean(axis=(1, 2, 3))
        far = np.abs(row[-1].astype(int) - row[0]).mean()
        assert near.max() < far


def test_unless_asked_there_are_64_images_or_eight_rows():
    assert [_count(None, columns, None) for columns in (None, 3, 11)] == [64, 24, 88]
    assert [_count(6, columns, 0.0) for columns in (None, 3)] == [6, 6]


def test_a_row_is_a_row_of_the_picture(sample, tmp_path):
    code, _, err = sample("plain", "--steps", 2, "--interpolate", 3)
    assert code == 0, err
    assert "sampling 24" in err  # eight rows
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (3 * 49 - 1, 8 * 49 - 1)


def test_a_row_keeps_to_one_class(images):
    args = ["--steps", 4, "--interpolate", 3, "--n", 6, "--guidance", 2]
    turns = images("classes", *args)
    np.testing.assert_array_equal(turns[:3], images("classes", *args, "--class", "0")[:3])
    np.testing.assert_array_equal(turns[3:], images("classes", *args, "--class", "1")[3:])
    assert not np.array_equal(turns[3:], images("classes", *args, "--class", "0")[3:])
    assert not np.array_equal(turns, images("classes", *args[:-2]))  # without guidance


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--interpolate", 3, "--ddim", 1], ["--interpolate", "--ddim 0"]),
        (["--interpolate", 3, "--n", 64], ["rows of 3", "--n 66"]),
        (["--interpolate", 1], ["--interpolate", "x>=2"]),
        (["--gif", "way.mp4"], ["way.mp4", ".gif"]),
        (["--gif", "no/folder/way.gif"], ["no/folder"]),
        (["--gif", "samples.png"], ["two results"]),
        (["--out", "a.png", "--gif", "way/../a.png"], ["two results"]),
        (["--frames", "no/folder"], ["no folder"]),
        (["--frames", "way", "--out", "way/x.png"], ["frames alone"]),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_work(sample, args, words):
    code, out, err = sample("plain", *args)
    assert (code, out) == (2, "")
    assert "step" not in err
    for word in words:
        assert word in err


def test_a_gif_that_would_be_too_large_is_refused_before_the_work(sample, monkeypatch):
    walks = []
    monkeypatch.setattr(TrainedModel, "walk", lambda *_, **__: walks.append(1) or iter(()))
    monkeypatch.setattr(TrainedModel, "decode", lambda *_, **__: walks.append(1) or iter(()))
    wide = ["--interpolate", 1338, "--n", 1338, "--steps", 1]  # of 48 + 1 pixels each, but for one
    code, out, err = sample("plain", *wide, "--gif", "way.gif")
    assert (code, out, walks) == (2, "", [])
    assert "65535 pixels a side" in err
    assert "65561×48" in err


@pytest.mark.parametrize("args", [["--n", 400], ["--interpolate", 50]], ids=str)
def test_more_images_than_fit_into_memory_are_refused_before_the_work(sample, monkeypatch, args):
    monkeypatch.setattr("tinyddpm.cli.sample.total_memory", lambda: 2**20)
    code, out, err = sample("plain", "--steps", 1, *args)
    assert (code, out) == (2, "")
    assert "400 images need at least 1.2 MiB of memory\ncause: this machine has 1.0 MiB" in err
    assert "step 1/1" not in err
    assert sample("plain", "--steps", 1, "--n", 340)[0] == 0


def test_the_size_that_is_foreseen_is_that_of_the_picture(sample, tmp_path):
    for args, columns in ((["--n", 5], None), (["--interpolate", 2, "--n", 4], 2)):
        assert sample("plain", "--steps", 1, "--gif", "way.gif", *args)[0] == 0
        with Image.open(tmp_path / "way.gif") as film:
            assert film.size == grid_size((args[-1], 16, 16, 1), columns=columns, zoom=3)


def test_a_folder_of_other_things_is_refused_before_the_work(sample, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_text("a photo")
    code, _, err = sample("plain", "--frames", "photos")
    assert code == 2
    assert "me.png" in err
    assert "step" not in err
    assert (tmp_path / "photos" / "me.png").read_text() == "a photo"

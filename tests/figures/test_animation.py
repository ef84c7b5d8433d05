"""Animations: every frame as it was drawn, one in memory at a time, the whole file or none."""

import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from tinyddpm.errors import StorageError, UsageError
from tinyddpm.figures.animation import (
    FRAME_MS,
    FRAMES,
    LAST_FRAME_MS,
    check_animation_size,
    kept_times,
    save_animation,
    save_frames,
)


def sheets_of(pixels):
    return [Image.fromarray(picture) for picture in pixels]


def read(path):
    """The frames of a file as arrays, and how long each is shown, in ms."""
    with Image.open(path) as image:
        mode = "L" if image.mode == "L" else "RGB"
        frames, durations = [], []
        for frame in ImageSequence.Iterator(image):
            frames.append(np.asarray(frame.convert(mode)))
            durations.append(frame.info["duration"])
        assert image.info.get("loop") == 0
        return frames, durations


def noise(seed, shape, levels=256):
    return np.random.default_rng(seed).integers(0, levels, shape, np.uint8)


@pytest.mark.parametrize("steps", [1, 2, 49, 50, 51, 75, 99, 100, 1000, 4000])
def test_the_times_of_the_frames_are_evenly_spaced_and_end_at_0(steps):
    times = kept_times(steps)
    assert len(times) == min(steps, FRAMES)
    assert times[-1] == 0
    assert all(0 <= t < steps for t in times)
    gaps = -np.diff([steps, *times])
    assert gaps.max() - gaps.min() <= 1
    assert gaps.min() >= 1


@given(
    frames=st.integers(2, 5),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    levels=st.integers(1, 256),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
@pytest.mark.parametrize("kind", ["gif", "png"])
def test_every_grey_frame_is_exact(tmp_path_factory, kind, frames, size, levels, seed):
    """Also where frames are equal, or hold all 256 levels, or one."""
    pixels = noise(seed, (frames, *size), levels)
    pixels[1] = pixels[0]
    path = tmp_path_factory.mktemp("film") / f"film.{kind}"
    save_animation(iter(sheets_of(pixels)), frames, path)
    found, durations = read(path)
    assert durations == [FRAME_MS] * (frames - 1) + [LAST_FRAME_MS]
    np.testing.assert_array_equal(np.stack(found), pixels)


@pytest.mark.parametrize("kind", ["gif", "png"])
def test_a_film_of_all_levels_and_many_frames_is_exact(tmp_path, kind):
    pixels = noise(3, (FRAMES, 64, 64))
    path = tmp_path / f"film.{kind}"
    save_animation(sheets_of(pixels), FRAMES, path)
    np.testing.assert_array_equal(np.stack(read(path)[0]), pixels)


def test_a_film_of_one_frame_is_a_picture(tmp_path):
    for name in ("film.gif", "film.png", "FILM.GIF", "FILM.PNG"):
        save_animation(sheets_of(noise(4, (1, 9, 7))), 1, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.format == name[-3:].upper()
            assert np.array_equal(np.asarray(image.convert("L")), noise(4, (1, 9, 7))[0])


def test_an_animated_png_is_exact_in_colour(tmp_path):
    pixels = noise(5, (4, 30, 20, 3))
    save_animation(sheets_of(pixels), 4, tmp_path / "film.png")
    np.testing.assert_array_equal(np.stack(read(tmp_path / "film.png")[0]), pixels)


def test_a_gif_gives_each_frame_in_colour_its_own_256(tmp_path):
    """Exact for up to 256 colours, though the frames together have more; else the nearest."""
    few = np.stack([noise(k, (200, 3))[np.arange(400).reshape(20, 20) % 200] for k in range(4)])
    save_animation(sheets_of(few), 4, tmp_path / "few.gif")
    np.testing.assert_array_equal(np.stack(read(tmp_path / "few.gif")[0]), few)
    many = noise(6, (3, 64, 64, 3))
    save_animation(sheets_of(many), 3, tmp_path / "many.gif")
    found = np.stack(read(tmp_path / "many.gif")[0]).astype(int)
    assert all(len(np.unique(frame.reshape(-1, 3), axis=0)) <= 256 for frame in found)
    assert np.abs(found - many).mean() < 25  # of one grey for all: 64


def test_a_colour_is_shown_as_one_colour_wherever_it_is(tmp_path):
    """Dots of two others in its place would move from frame to frame."""
    pixels = noise(6, (300, 3))[np.arange(1200).reshape(30, 40) % 300]
    save_animation(sheets_of(pixels[None]), 1, tmp_path / "film.gif")
    (found,), _ = read(tmp_path / "film.gif")
    both = np.concatenate([pixels, found], axis=-1).reshape(-1, 6)
    assert len(np.unique(both, axis=0)) == 300


@pytest.mark.parametrize(
    ("kind", "end"), [("gif", b"\x00\x3b"), ("png", b"\x00\x00\x00\x00IEND\xae\x42\x60\x82")]
)
def test_a_film_ends_as_its_kind_does(tmp_path, kind, end):
    path = tmp_path / f"film.{kind}"
    save_animation(sheets_of(noise(4, (2, 9, 7))), 2, path)
    assert path.read_bytes().endswith(end)


def test_frames_of_grey_share_the_palette_of_the_file(tmp_path):
    save_animation(sheets_of(noise(4, (10, 1, 1))), 10, tmp_path / "film.gif")
    assert (tmp_path / "film.gif").stat().st_size < 2 * 3 * 256


@pytest.mark.parametrize("kind", ["gif", "png"])
def test_one_picture_is_in_memory_at_a_time(tmp_path, kind):
    drawn, most = [], 0

    def sheets():
        nonlocal most
        for picture in noise(7, (30, 8, 8)):
            sheet = Image.fromarray(picture)
            drawn.append(weakref.ref(sheet))
            most = max(most, sum(ref() is not None for ref in drawn))
            yield sheet
            del sheet

    save_animation(sheets(), 30, tmp_path / f"film.{kind}")
    assert most <= 2  # the one before goes when the next has come


def broken_off(pixels):
    yield from sheets_of(pixels)
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("kind", ["gif", "png"])
def test_a_film_that_fails_leaves_the_old_one(tmp_path, kind):
    path = tmp_path / f"film.{kind}"
    save_animation(sheets_of(noise(8, (2, 5, 5))), 2, path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="No space left"):
        save_animation(broken_off(noise(9, (2, 5, 5))), 3, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_animation_is_named_like_one(tmp_path):
    with pytest.raises(UsageError, match=r"\.gif or an animated \.png"):
        save_animation([], 0, tmp_path / "film.mp4")


def test_what_is_too_wide_for_a_gif_is_refused_and_no_animated_png(tmp_path):
    wide = sheets_of(np.zeros((1, 1, 2**16), np.uint8))
    with pytest.raises(UsageError, match="65535 pixels a side") as refusal:
        save_animation(wide, 1, tmp_path / "film.gif")
    assert "65536×1" in refusal.value.cause
    assert not list(tmp_path.iterdir())
    save_animation(sheets_of(np.zeros((1, 1, 2**16), np.uint8)), 1, tmp_path / "film.png")


@pytest.mark.parametrize("size", [(2**16, 1), (1, 2**16)])
def test_a_side_may_be_too_long_for_a_gif_alone(size):
    for name in ("film.gif", "FILM.GIF"):
        check_animation_size(Path(name), (2**16 - 1, 2**16 - 1))
        with pytest.raises(UsageError, match="65535 pixels a side"):
            check_animation_size(Path(name), size)
    check_animation_size(Path("film.png"), size)


def test_frames_are_pngs_and_nothing_else(tmp_path):
    pixels = noise(10, (3, 6, 4))
    for folder in (tmp_path / "new", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        save_frames(sheets_of(pixels), folder)
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["frame-001.png", "frame-002.png", "frame-003.png"]
        for name, picture in zip(names, pixels, strict=True):
            with Image.open(folder / name) as image:
                assert image.mode == "L"
                np.testing.assert_array_equal(np.asarray(image), picture)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_frames_take_the_place_of_all_earlier_ones(tmp_path):
    folder = tmp_path / "frames"
    save_frames(sheets_of(noise(11, (5, 6, 4))), folder)
    save_frames(sheets_of(noise(12, (2, 6, 4))), folder)
    assert len(list(folder.iterdir())) == 2
    with Image.open(folder / "frame-002.png") as image:
        np.testing.assert_array_equal(np.asarray(image), noise(12, (2, 6, 4))[1])


def test_frames_go_where_a_link_leads(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "frames"
    link.symlink_to(tmp_path / "elsewhere")
    save_frames(sheets_of(noise(11, (2, 6, 4))), link)
    assert link.is_symlink()
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2


def test_a_file_that_comes_meanwhile_is_not_removed(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()

    def sheets():
        yield from sheets_of(noise(11, (2, 6, 4)))
        (folder / "mine.txt").write_text("mine")

    with pytest.raises(StorageError, match="frames"):
        save_frames(sheets(), folder)
    assert (folder / "mine.txt").read_text() == "mine"


def test_frames_that_fail_leave_the_earlier_ones(tmp_path):
    folder = tmp_path / "frames"
    save_frames(sheets_of(noise(11, (5, 6, 4))), folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OSError, match="No space left"):
        save_frames(broken_off(noise(12, (2, 6, 4))), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["frame-1.png", "frame-001.png.old", "my-frame-001.png"])
def test_a_folder_with_other_files_is_left_alone(tmp_path, name):
    folder = tmp_path / "frames"
    save_frames(sheets_of(noise(11, (2, 6, 4))), folder)
    (folder / name).write_text("mine")
    with pytest.raises(UsageError, match="other files") as refusal:
        save_frames(sheets_of(noise(12, (2, 6, 4))), folder)
    assert refusal.value.cause == name
    assert len(list(folder.iterdir())) == 3
    with pytest.raises(UsageError, match="is a file"):
        save_frames([], folder / name)


def test_of_many_other_files_three_are_named(tmp_path):
    for name in "dbeca":
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="other files") as refusal:
        save_frames([], tmp_path)
    assert refusal.value.cause == "a, b, c"

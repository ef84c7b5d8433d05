"""The figures of the course: drawn, the same bytes each time, and from what they say."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tinyddpm.data.glyphs import glyphs
from tinyddpm.data.pixels import from_bytes, to_bytes
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.errors import StorageError, UsageError
from tinyddpm.figures import beyond_plots, bound_plots, forward_plots, network_plots, strips
from tinyddpm.figures.catalogue import PICTURES, PLOTS, write_figure
from tinyddpm.figures.densities import KINDS, kinds_density, noised_density
from tinyddpm.nn.config import PRESETS, UNetConfig


@pytest.mark.parametrize("name", [*PICTURES, *PLOTS])
def test_every_figure_is_drawn(name, tmp_path):
    path = tmp_path / f"{name}.png"
    write_figure(name, path)
    pixels = np.asarray(Image.open(path).convert("L"))
    assert 400 <= pixels.shape[1] <= 2000
    assert 300 <= pixels.shape[0] <= 1500
    ink = (pixels < 200).mean()
    assert 0.005 < ink < 0.9
    assert (pixels[:3] > 200).all()  # nothing runs out of the paper at the top


@pytest.mark.parametrize(
    ("name", "kind"), [("schedules", "png"), ("unet", "svg"), ("jensen", "svg")]
)
def test_a_plot_is_the_same_bytes_each_time(name, kind, tmp_path):
    first, second = tmp_path / f"1.{kind}", tmp_path / f"2.{kind}"
    write_figure(name, first)
    write_figure(name, second)
    assert first.read_bytes() == second.read_bytes()
    assert b"<dc:date>" not in first.read_bytes()


def test_pictures_are_the_same_each_time():
    for draw in PICTURES.values():
        assert draw().tobytes() == draw().tobytes()


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("schedules", "x.gif", [".png or .svg", "x.gif"]),
        ("data", "x.svg", [".png", "x.svg"]),
        ("data", "x", [".png"]),
    ],
)
def test_another_ending_is_refused(name, file, words, tmp_path):
    with pytest.raises(UsageError) as raised:
        write_figure(name, tmp_path / file)
    assert all(word in str(raised.value) for word in words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["data", "schedules"])
def test_a_file_that_cannot_be_written(name, tmp_path):
    with pytest.raises(StorageError):
        write_figure(name, tmp_path / "nowhere" / "x.png")


def test_without_matplotlib_plots_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(UsageError, match=r'pip install "tinyddpm\[plot\]"'):
        write_figure("schedules", tmp_path / "x.png")
    with pytest.raises(UsageError, match=r'pip install "tinyddpm\[plot\]"'):
        forward_plots.schedules()
    write_figure("noised-strips", tmp_path / "strips.png")


def test_no_window_and_no_global_figure_is_made(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tinyddpm.figures.catalogue import write_figure;"
        "assert 'matplotlib' not in sys.modules;"
        f"write_figure('jensen', Path({str(tmp_path / 'x.png')!r}));"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def words_of(figure):
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_the_unet_is_drawn_from_its_config():
    words = words_of(network_plots.unet(PRESETS["cifar10"]))
    for size, width in ((32, 128), (16, 256), (8, 256), (4, 256)):
        assert f"{size} × {size} × {width}" in words
    assert words.count("with attention") == 2  # at 16, on the way down and up
    assert "2 ResBlocks\nwith attention\n16 × 16 × 256" in words
    assert "3 ResBlocks\nwith attention\n16 × 16 × 256" in words
    assert words.count("3 skips") == 4
    assert "128 sines and cosines" in words
    assert "512 numbers" in words
    alone = words_of(network_plots.unet(UNetConfig(image_size=8, channels=(8,), groups=4)))
    assert "1 ResBlock\n8 × 8 × 8" in alone
    assert "stride 2" not in alone


def test_the_schedules_cross_one_half_where_the_tables_say():
    words = words_of(forward_plots.schedules())
    assert "t = 260" in words
    assert "t = 497" in words


def curves(panel):
    """The (x, y) of each line, (n, 2), by its name in the legend."""
    return {line.get_label(): line.get_xydata() for line in panel.lines}


def test_the_schedules_are_drawn_under_their_names():
    beta, alpha_bar = map(curves, forward_plots.schedules().axes)
    (log_snr,) = map(curves, forward_plots.log_snr().axes)
    t = np.arange(1001)
    named = {"linear": NoiseSchedule.linear(), "cosine": NoiseSchedule.cosine()}
    for name, schedule in named.items():
        for found, table in ((beta, schedule.beta), (log_snr, schedule.log_snr)):
            np.testing.assert_array_equal(found[name].T, [t[1:], table[1:]])
        np.testing.assert_array_equal(alpha_bar[name].T, [t, schedule.alpha_bar])


def test_guidance_is_drawn_from_all_classes_to_one_and_away_from_the_rest():
    (found,) = map(curves, beyond_plots.guidance().axes)
    alpha_bar, means = NoiseSchedule.cosine().alpha_bar[300], []
    for x, y in (curve.T for curve in found.values()):
        assert y.sum() * (x[1] - x[0]) == pytest.approx(1)
        means.append((x * y).sum() / y.sum())
    assert means == sorted(means)
    x, both = found["w = −1: all classes"].T
    _, alone = found["w = 0: the class"].T
    for drawn, density in (
        (both, kinds_density(x, alpha_bar)),
        (alone, noised_density(x, *KINDS[1][1:], alpha_bar)),
    ):
        np.testing.assert_allclose(drawn / drawn.max(), density / density.max(), atol=1e-12)


def test_the_rectangle_is_beside_the_integral():
    words = words_of(bound_plots.rectangle())
    assert "integral  0.336\nrectangle 0.345" in words


def test_noised_images_begin_clean_and_end_as_noise():
    x0 = from_bytes(glyphs(20).images, np.float64)
    clean, noise = strips.noised(x0, NoiseSchedule.cosine(), [0, 1000])
    assert (clean == x0).all()
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1
    again = strips.noised(x0[:3], NoiseSchedule.cosine(), [1000])[0]
    assert (again == noise[:3]).all()  # each image has noise of its own


def tile(sheet, up, left):
    """The image so many rows above the last and so many columns before it, (16, 16).

    Each of its pixels is four times as large, and they lie four pixels apart inside the margin.
    """
    bottom, right = (sheet.height - 18 - 68 * up, sheet.width - 18 - 68 * left)
    corner = np.asarray(sheet.convert("L"))[bottom - 64 : bottom, right - 64 : right]
    return corner[2::4, 2::4].astype(int)


@pytest.mark.parametrize(
    ("up", "schedule"), [(1, NoiseSchedule.linear()), (0, NoiseSchedule.cosine())]
)
def test_of_each_digit_the_linear_strip_is_above_the_cosine_one(up, schedule):
    sheet = strips.noised_strips()
    x0 = from_bytes(glyphs(10).images[[2, 3, 8]], np.float64)
    for left, t in ((10, 0), (5, 500), (0, 1000)):
        expected = to_bytes(strips.noised(x0, schedule, [t])[0])[..., 0]
        for digit in range(3):
            found = tile(sheet, up + 2 * (2 - digit), left)
            np.testing.assert_array_equal(found, expected[digit])


def test_the_way_back_ends_in_digits_of_the_data():
    sheet = strips.reverse_trajectory()
    digits = glyphs(200).images[..., 0].astype(int)
    for up in range(6):
        assert np.abs(digits - tile(sheet, up, 0)).max(axis=(1, 2)).min() <= 8


def test_the_way_back_begins_in_noise_above_the_mean_of_all_digits():
    sheet = strips.reverse_trajectory()
    mean = glyphs(200).images[..., 0].mean(axis=0)
    for draw in range(3):
        noisy, foreseen = (tile(sheet, 2 * draw + up, 10) for up in (1, 0))
        assert np.abs(foreseen - mean).mean() < 20
        assert np.abs(noisy - mean).mean() > 60

"""``tinyddpm train --preview-terminal``: pictures on a terminal, and nothing anywhere else."""

import os
import pty
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from tinyddpm.cli import terminal_preview
from tinyddpm.cli.terminal_preview import TerminalPreview, fitting_row, show_previews
from tinyddpm.errors import UsageError
from tinyddpm.training.run_directory import RunDirectory

TRAIN = ["--train-steps", "4", "--preview-every", "2", "--diffusion-steps", "25", "--device", "cpu"]
TRAIN = ["-m", "tinyddpm", "train", *TRAIN, "--batch", "4", "--threads", "1"]
COLOURS = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


@pytest.fixture
def terminal(monkeypatch):
    """What the module takes for stderr; what is said goes to the real one."""
    stream = SimpleNamespace(isatty=lambda: True, encoding="utf-8")
    monkeypatch.setattr(terminal_preview, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in COLOURS.items():
        monkeypatch.setenv(name, value)
    return stream


def on_a_terminal(folder, *args, **environment):
    """Train in a process whose stderr is a terminal, and return what it wrote there."""
    ours, theirs = pty.openpty()
    known = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [sys.executable, *TRAIN, *args],
        cwd=folder,
        env=known | COLOURS | environment,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    written = []

    def listen():
        try:
            while part := os.read(ours, 4096):
                written.append(part)
        except OSError:  # what Linux says when the other end is closed
            return

    listener = threading.Thread(target=listen)
    listener.start()
    assert process.wait(timeout=120) == 0, b"".join(written)
    listener.join()
    os.close(ours)
    return b"".join(written).decode()


def test_a_preview_follows_the_bar_and_changes_no_bit(tmp_path):
    with_preview = on_a_terminal(tmp_path, "--preview-terminal", "--out", "shown")
    assert "▀" not in on_a_terminal(tmp_path, "--out", "plain")
    shown, plain = (
        RunDirectory.open(tmp_path / name).latest_checkpoint().checkpoint
        for name in ("shown", "plain")
    )
    for name in ("value", "ema", "adam_m", "adam_v"):
        np.testing.assert_array_equal(getattr(shown, name), getattr(plain, name))
    lines = with_preview.replace("\r\n", "\n").split("\n")
    first = next(i for i, line in enumerate(lines) if "▀" in line)
    assert "step 2/4" in lines[first - 1].split("\r")[-1]  # the bar stays as the caption
    picture = lines[first : first + 8]
    assert [line.count("▀") for line in picture] == [4 * 17 - 1] * 8  # four glyphs in 80 columns
    assert all(line.endswith("\x1b[0m") for line in picture)
    assert "step 3/4" in "\n".join(lines[first + 8 :])  # and goes on below


def test_it_shows_at_most_one_a_second(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(terminal_preview, "time", SimpleNamespace(monotonic=lambda: now))
    show = TerminalPreview()
    images = np.full((1, 4, 4, 1), 7, np.uint8)
    seen = []
    for later in (0.0, 0.5, 0.4, 0.2, 0.9, 0.2):
        now += later
        show(images)
        seen.append(capsys.readouterr().err.count("\n"))
    assert seen == [3, 0, 0, 3, 0, 3]  # the end of the bar's line, and two of the picture


@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"NO_COLOR": "1"}, "NO_COLOR"), ({"TERM": "dumb"}, "TERM"), ({"NO_COLOR": ""}, "")],
)
@pytest.mark.usefixtures("terminal")
def test_a_terminal_without_colours_gets_a_note(monkeypatch, capsys, environment, reason):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (show_previews(10) is None) == bool(reason)
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == bool(reason)


def test_a_terminal_without_half_blocks_gets_a_note(terminal, capsys):
    terminal.encoding = "ascii"
    assert show_previews(10) is None
    assert r"has no '\u2580'" in capsys.readouterr().err


def test_no_terminal_gets_plain_lines(tmp_path):
    done = subprocess.run(
        [sys.executable, *TRAIN, "--preview-terminal", "--out", "run"],
        cwd=tmp_path,
        env=os.environ | COLOURS,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no previews here: stderr is no terminal" in done.stderr
    assert not re.search("[\x1b\r▀]", done.stderr)
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 2


def test_previews_that_are_never_made_cannot_be_shown():
    with pytest.raises(UsageError, match="--preview-every 0"):
        show_previews(0)


@pytest.mark.parametrize("size", [4, 28, 32, 100, 256])
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 50), (20, 6), (5, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_row_fits_the_terminal(size, columns, lines, channels):
    images = np.arange(16, dtype=np.uint8).reshape(-1, 1, 1, 1) * 16
    images = np.broadcast_to(images, (16, size, size, channels))
    row = fitting_row(images, columns, lines)
    assert row.shape[2:] == ((3,) if channels == 3 else ())
    assert row.shape[1] <= columns
    assert row.shape[0] <= 2 * max(lines - 2, 1)


def test_as_many_images_are_shown_as_fit():
    images = np.random.default_rng(0).integers(0, 256, (16, 28, 28, 1), np.uint8)
    row = fitting_row(images, 80, 24)
    assert row.shape == (28, 57)
    np.testing.assert_array_equal(row[:, :28], images[0, ..., 0])
    np.testing.assert_array_equal(row[:, 29:], images[1, ..., 0])
    assert fitting_row(images, 1000, 24).shape == (28, 16 * 29 - 1)

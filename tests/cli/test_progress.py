"""What a bar or a line tells of the time."""

import itertools
import re
import sys

import numpy as np
import pytest

from tinyddpm.cli import progress
from tinyddpm.cli.progress import Progress
from tinyddpm.cli.train import _SmoothLoss


def lines(monkeypatch, capsys, seconds):
    """What is told of steps that take so many seconds each."""
    clock = itertools.accumulate(seconds, initial=100.0)
    start = next(clock)
    times = iter([start, start, *clock])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(times))
    with Progress("training", len(seconds), images=2) as shown:
        for _ in seconds:
            shown.advance()
    return capsys.readouterr().err.splitlines()


def test_a_slow_beginning_is_soon_forgotten(monkeypatch, capsys):
    told = lines(monkeypatch, capsys, [30.0] + [1.0] * 39)
    assert told[0].endswith("step 1/40  0.067 images/s  19m30s left")
    assert told[10].split("  ")[-3:] == ["step 20/40", "2 images/s", "20s left"]


@pytest.mark.parametrize("seconds", [0.5, 45.0])
def test_steps_of_any_length_have_a_rate(monkeypatch, capsys, seconds):
    told = lines(monkeypatch, capsys, [seconds] * 60)
    rate = {0.5: "4 images/s", 45.0: "0.044 images/s"}[seconds]
    left = {0.5: "15s left", 45.0: "22m30s left"}[seconds]
    assert [line.split("  ")[-2:] for line in told if "step 30/" in line] == [[rate, left]]
    assert told[-1].split("  ")[-3:] == ["step 60/60", rate, "0s left"]


def test_the_loss_that_is_shown_is_the_mean_of_the_last_fifty():
    smooth = _SmoothLoss()
    shown = [smooth(float(step)) for step in range(1, 101)]
    assert shown == [np.mean(range(max(1, step - 49), step + 1)) for step in range(1, 101)]


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_bar_fits_into_a_line_of_the_terminal(monkeypatch, capsys, columns):
    """What wraps is not overwritten by the next: a terminal would fill with bars."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("training glyphs", 3, images=64, first=11_997) as shown:
        for _ in range(3):
            shown.advance("loss 0.0385")
    drawn = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", capsys.readouterr().err)
    widths = [len(line) for line in re.split(r"[\r\n]", drawn)]
    assert 0.9 * columns < max(widths) <= columns
    assert ("step 12000/12000  loss 0.0385" in drawn) == (columns > 40)
    assert ("images/s" in drawn) == (columns > 60)

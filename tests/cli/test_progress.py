"""What a bar or a line tells of the time."""

import itertools

import pytest

from tinyddpm.cli import progress
from tinyddpm.cli.progress import Progress


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
    assert told[0].endswith("step 1/40  0 images/s  19m30s left")
    assert told[10].split("  ")[-3:] == ["step 20/40", "2 images/s", "20s left"]


@pytest.mark.parametrize("seconds", [0.5, 45.0])
def test_steps_of_any_length_have_a_rate(monkeypatch, capsys, seconds):
    told = lines(monkeypatch, capsys, [seconds] * 60)
    assert told[-1].split("  ")[-3:] == ["step 60/60", f"{2 / seconds:.0f} images/s", "0s left"]

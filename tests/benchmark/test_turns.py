"""Contestants take turns, in one order and in the other, and what is told is right."""

import time
from functools import partial

import numpy as np
import pytest

from tinyddpm.benchmark import clock
from tinyddpm.benchmark.clock import (
    Spread,
    in_turns,
    paired_ratio,
    seconds_by_events,
    seconds_of,
    steps_of_a_turn,
)


class FakeTime:
    """A clock that only steps and sleep advance."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)

    def steps(self, seconds, log=None, name=""):
        def step():
            self.now += seconds
            if log is not None:
                log.append(name)

        return partial(seconds_of, step)


@pytest.fixture
def fake(monkeypatch):
    fake = FakeTime()
    monkeypatch.setattr(clock, "time", fake)
    return fake


def test_the_order_turns_round_in_each_round(fake):
    log = []
    steps = {name: fake.steps(1.0, log, name) for name in "abc"}
    in_turns(steps, rounds=3, steps=2, pause=0.5)
    assert "".join(log) == "abc" + "aaabbbccc" + "cccbbbaaa" + "aaabbbccc"
    assert fake.slept == [0.5] * 9


def test_each_round_has_the_seconds_of_a_step(fake):
    steps = {"slow": fake.steps(3.0), "fast": fake.steps(0.5)}
    assert in_turns(steps, rounds=2, steps=4) == {"slow": [3.0, 3.0], "fast": [0.5, 0.5]}


@pytest.mark.parametrize(("seconds", "steps"), [(0.01, 25), (0.1, 2), (4.0, 1)])
def test_a_turn_lasts_a_quarter_of_a_second(fake, seconds, steps):
    assert steps_of_a_turn(fake.steps(seconds)) == steps


def test_the_first_step_of_all_and_of_each_turn_is_not_counted(fake):
    seconds = iter([100.0, 0.125, 0.125, *[50.0, 0.25, 0.25] * 4])

    def step():
        fake.now += next(seconds)

    assert in_turns({"": partial(seconds_of, step)}, rounds=4)[""] == [0.25] * 4


def test_the_warm_up_may_be_longer(fake):
    log = []
    in_turns({"": fake.steps(1.0, log, ".")}, rounds=2, steps=3, warm_up=5)
    assert len(log) == 5 + 2 * (1 + 3)


class FakeEvent:
    """The end of all that was queued; ``synchronize`` is the moment when the device is there."""

    queued, done = 0.0, 0.0  # milliseconds of work, by the device

    def record(self):
        self.at = FakeEvent.queued

    def synchronize(self):
        FakeEvent.done = self.at

    def milliseconds(self, ended):
        assert ended.at <= FakeEvent.done, "the device is not there yet"
        return ended.at - self.at


def test_events_time_the_device_and_not_the_host(fake):
    """The host queues a step in no time, and would find the device's work of 40 ms in none."""

    def step():
        FakeEvent.queued += 40.0

    step()  # earlier work is not counted
    timed = partial(seconds_by_events, FakeEvent, FakeEvent.milliseconds, step)
    assert timed(5) == pytest.approx(0.04)
    assert fake.now == 0.0
    assert steps_of_a_turn(timed) == 6


def test_ratios_are_of_pairs():
    """A machine that slows down by the half changes both of a pair, and not their ratio."""
    speed = np.array([1.0, 1.0, 2.0, 1.0, 4.0])
    ratio = paired_ratio(list(3.0 * speed), list(2.0 * speed))
    assert ratio == (1.5, 1.5, 1.5)


def test_the_spread_is_the_quartiles():
    assert Spread.of([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)


def test_real_time_is_measured():
    assert 0.02 <= seconds_of(lambda: time.sleep(0.02), 2) < 1.0

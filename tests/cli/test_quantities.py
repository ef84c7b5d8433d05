"""Sizes and durations as a user reads them."""

import pytest

from tinyddpm.cli.progress import duration
from tinyddpm.cli.sizes import size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 MiB"),
        (170_052_171, "162 MiB"),
        (10 * 2**20 - 1, "10.0 MiB"),
        (10 * 2**20, "10 MiB"),
        (999 * 2**20, "999 MiB"),
        (1000 * 2**20, "1.0 GiB"),
        (3 * 2**39, "1.5 TiB"),
        (2**50, "1.0 PiB"),
        (5000 * 2**50, "5,000.0 PiB"),
    ],
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0s"),
        (59.6, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (24 * 3600 - 60, "23h59m"),
        (24 * 3600, "1d00h"),
        (95 * 24 * 3600 + 9.5 * 3600, "95d09h"),
        (1e9, "11,574d01h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text

"""What is told of a comparison: which variant counts, and whether anybody was disturbed."""

import pytest

from tinyddpm.benchmark.against import Comparison, Variant
from tinyddpm.benchmark.clock import Spread
from tinyddpm.benchmark.report import Against, Settings
from tinyddpm.cli import bench_report


def spread(median):
    return Spread(0.9 * median, median, 1.1 * median)


def variant(mode, layout, seconds, *, alone, ours):
    in_turns = [0.9 * seconds, seconds, 1.1 * seconds]
    return Variant(mode, layout, 1e-6, spread(alone), in_turns, spread(seconds / ours))


def comparison(*, alone=2.0, theirs_alone=3.0):
    variants = [
        variant("eager", "channels first", 4.0, alone=4.0, ours=2.0),
        variant("eager", "channels last", 3.0, alone=theirs_alone, ours=2.0),
        variant("compile", "channels first", 1.0, alone=1.0, ours=2.0),
    ]
    return Comparison(spread(alone), [2.0, 1.9, 2.1], variants)


def test_the_faster_layout_of_each_mode_counts():
    assert comparison().best().layout == "channels last"
    assert comparison().best("compile").mode == "compile"


@pytest.mark.parametrize(
    ("times", "share"),
    [({}, 0.0), ({"alone": 2.5}, 0.25), ({"alone": 1.6}, 0.25), ({"theirs_alone": 6.0}, 1.0)],
    ids=str,
)
def test_a_disturbance_is_anybody_s_and_of_either_sign(times, share):
    assert comparison(**times).disturbance() == pytest.approx(share)


def test_the_report_shows_both_sides_and_warns():
    quiet = Against("2.13.0", 2, "fused", comparison(), comparison())
    lines = list(bench_report._against(quiet, Settings()))
    assert sum(line.startswith("  tinyddpm ") for line in lines) == 2
    last = next(line for line in lines if "eager, channels last" in line)
    assert last.split()[4:] == ["3000.0", "3000.0", "1.50", "1.35", "…", "1.65", "the", "faster"]
    assert not any("disturbed" in line for line in lines)
    loud = quiet._replace(sample=comparison(alone=4.0))
    assert "disturbed: alone and in turns differ by up to 100%" in "\n".join(
        bench_report._against(loud, Settings())
    )

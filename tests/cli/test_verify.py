"""``tinyddpm verify`` as a user meets it."""

import json

import pytest
from click.testing import CliRunner
from montecarlo import broken

from tinyddpm.cli.main import commands
from tinyddpm.diffusion import bound, sampling
from tinyddpm.identities import IDENTITIES

FEW = ["--samples", "1000"]


def run(*args):
    return CliRunner().invoke(commands, ["verify", *args])


def test_each_identity_has_a_line_with_its_verdict():
    result = run(*FEW)
    *lines, summary = result.stdout.splitlines()
    assert result.exit_code == 0
    assert [line.split()[0] for line in lines] == [i.number for i in IDENTITIES]
    for line, identity in zip(lines, IDENTITIES, strict=True):
        assert identity.name in line
        assert line.endswith("holds")
        assert "  p ≤ " in line or "  ≤ " in line
    assert f"{len(IDENTITIES)} identities" in summary
    assert "all hold" in summary


def test_a_bug_is_rejected_and_the_exit_code_says_so():
    with broken(sampling, "noise(t)) if t > 1 else mean", "noise(t)) if t > 0 else mean"):
        result = run(*FEW)
    rejected = [line for line in result.stdout.splitlines() if line.endswith("REJECTED")]
    assert result.exit_code == 1
    assert "xvi" in [line.split()[0] for line in rejected]
    assert "1 REJECTED" in rejected[-1] or f"{len(rejected) - 1} REJECTED" in rejected[-1]


def test_json_has_all_of_it_and_nothing_else():
    result = run(*FEW, "--seed", "3", "--alpha", "1e-4", "--json")
    report = json.loads(result.stdout)
    assert (report["seed"], report["samples"], report["alpha"]) == (3, 1000, 1e-4)
    assert report["correction"] == "Bonferroni"
    assert report["share"] == pytest.approx(1e-4 / len(IDENTITIES))
    assert report["rejected"] == 0
    assert len(report["identities"]) == len(IDENTITIES)
    for entry in report["identities"]:
        assert entry["verdict"] == "holds"
        assert (entry["p_value"] is None) != (entry["tolerance"] is None)
        assert entry["equation"]
        assert all(name.startswith("tinyddpm.") for name in entry["exercises"])


def test_json_stays_json_when_a_number_is_none():
    with broken(bound, "spread = 2.0 * variance", "spread = np.nan * variance"):
        result = run(*FEW, "--json")

    def refused(constant):
        raise AssertionError(constant)

    report = json.loads(result.stdout, parse_constant=refused)
    entries = {entry["number"]: entry for entry in report["identities"]}
    assert result.exit_code == 1
    assert report["rejected"] == 2
    for number in ("x", "xi"):
        assert entries[number]["verdict"] == "rejected"
        assert entries[number]["statistic"] is None


def test_the_same_seed_gives_the_same_lines():
    assert run(*FEW, "--seed", "5").stdout == run(*FEW, "--seed", "5").stdout
    assert run(*FEW, "--seed", "5").stdout != run(*FEW, "--seed", "6").stdout


@pytest.mark.parametrize("args", [["--alpha", "0"], ["--samples", "10"], ["--seed", "-1"]])
def test_arguments_out_of_range_are_refused(args):
    result = run(*args)
    assert result.exit_code == 2
    assert args[0] in result.output

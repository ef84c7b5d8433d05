"""``tinyddpm explain`` as a user meets it."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tinyddpm.cli import explain as verb
from tinyddpm.concepts.catalogue import CONCEPTS
from tinyddpm.figures.catalogue import PICTURES, PLOTS


@pytest.fixture
def explain(cli):
    """Run the command in an empty folder: its exit code, stdout and stderr."""
    return partial(cli, "explain")


@pytest.fixture
def one_wrong(monkeypatch):
    """The cosine schedule's check fails."""

    def wrong(concept):
        check = concept.check
        return replace(concept, check=lambda: replace(check(), ours=0.25))

    broken = [wrong(c) if c.name == "cosine" else c for c in CONCEPTS]
    monkeypatch.setattr(verb, "CONCEPTS", broken)
    monkeypatch.setattr(verb, "find", lambda name: next(c for c in broken if c.name == name))


def test_without_a_name_all_are_listed(explain):
    code, out, err = explain()
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if line[:2].strip().isdigit()]
    assert [line.split()[:2] for line in lines] == [[str(c.number), c.name] for c in CONCEPTS]
    assert all(line.endswith(c.title) for line, c in zip(lines, CONCEPTS, strict=True))
    assert out.index("stop-gradient") < out.index("beyond the course") < out.index("importance")
    assert " ok " not in out


@pytest.mark.parametrize("name", ["cosine", "10", "cos"])
def test_a_concept_is_told_whole(explain, name):
    code, out, _ = explain(name)
    assert code == 0
    assert out.startswith("10  The cosine schedule\n")
    assert "    β_t = min(1 − ᾱ_t/ᾱ_{t−1}, 0.999)\n" in out
    assert "tinyddpm.diffusion.schedule.NoiseSchedule.cosine\n" in out
    place = next(line for line in out.splitlines() if "schedule.py:" in line).strip()
    path, line = place.split(":")
    source = Path(verb.__file__).parents[2] / path
    assert "@classmethod" in source.read_text().splitlines()[int(line) - 1]
    assert "tinyddpm explain cosine --figure schedules.png" in out
    assert "0.4938" in out  # of the table
    assert "check   ᾱ_t" in out
    assert "here  " in out
    assert "otherwise  " in out
    assert out.rstrip().endswith(": ok")
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.name)
def test_every_page_fits_and_ends_in_a_verdict(explain, concept):
    code, out, err = explain(concept.name)
    assert (code, err) == (0, "")
    assert out.rstrip().endswith(": ok")
    assert max(map(len, out.splitlines())) <= 108


def test_all_checks_at_once(explain):
    code, out, _ = explain("--check")
    assert code == 0
    assert out.count(" ok ") == len(CONCEPTS)
    assert out.splitlines()[-1] == f"all {len(CONCEPTS)} hold"


@pytest.mark.usefixtures("one_wrong")
def test_a_failed_check_is_said_and_exits_with_1(explain):
    code, out, _ = explain("--check")
    assert code == 1
    assert [line.split()[1] for line in out.splitlines() if "FAILED" in line] == ["cosine"]
    assert out.splitlines()[-1] == f"1 of {len(CONCEPTS)} failed"
    code, out, _ = explain("cosine")
    assert code == 1
    assert "here       0.25\n" in out
    assert out.rstrip().endswith(": FAILED")
    code, out, _ = explain("--check", "--json")
    assert code == 1
    assert [c["name"] for c in json.loads(out) if not c["check"]["holds"]] == ["cosine"]


def test_json_is_for_programs(explain):
    code, out, _ = explain("--json")
    assert code == 0
    found = json.loads(out)
    assert [c["name"] for c in found] == [c.name for c in CONCEPTS]
    assert "check" not in found[0]
    code, out, _ = explain("20", "--json")
    assert code == 0
    posterior = json.loads(out)
    assert posterior["number"] == 20
    assert posterior["check"]["holds"] is True
    assert posterior["check"]["ours"] == pytest.approx(posterior["check"]["independent"])
    assert posterior["functions"][0]["at"].startswith("tinyddpm/diffusion/gaussian.py:")
    code, out, _ = explain("--check", "--json")
    assert all(c["check"]["holds"] for c in json.loads(out))


@pytest.mark.parametrize("file", ["x.png", "x.svg"])
def test_a_figure_is_written(explain, tmp_path, file):
    code, out, _ = explain("posterior", "--figure", file)
    assert code == 0
    assert f"figure  {file}\n" in out
    head = (tmp_path / file).read_bytes()[:5]
    assert head in {b"\x89PNG\r", b"<?xml"}


def test_all_figures_are_written(explain, tmp_path):
    code, out, _ = explain("--all-figures", "pictures/here")
    assert code == 0
    written = sorted(tmp_path.glob("pictures/here/*"))
    assert sorted(out.split()) == [str(path.relative_to(tmp_path)) for path in written]
    assert {path.stem for path in written} == PICTURES.keys() | PLOTS.keys()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nonsense"], 2, ["no concept 'nonsense'", "tinyddpm explain"]),
        (["cosinus"], 2, ["cosine"]),
        (["schedule"], 2, ["linear", "cosine"]),
        (["--figure", "x.png"], 2, ["--figure needs a concept", "--all-figures"]),
        (["pixels", "--figure", "x.png"], 2, ["pixels has a table and no figure"]),
        (["cosine", "--figure", "x.jpg"], 2, [".png or .svg"]),
        (["cosine", "--figure", "no/x.png"], 2, ["no folder", "no"]),
        (["--all-figures", "/proc/x"], 6, ["/proc/x"]),
        (["cosine", "--check"], 2, ["--check means nothing to one CONCEPT"]),
        (["cosine", "--all-figures", "x"], 2, ["CONCEPT means nothing to --all-figures"]),
        (["--all-figures", "x", "--figure", "y.png"], 2, ["--figure means nothing to --all-f"]),
        (["--all-figures", "x", "--check"], 2, ["--check means nothing to --all-figures"]),
        (["--all-figures", "x", "--json"], 2, ["--json means nothing to --all-figures"]),
        (["cosine", "linear"], 2, ["linear"]),
    ],
)
def test_mistakes_give_one_message_and_a_code(explain, args, code, words):
    got, out, err = explain(*args)
    assert (got, out) == (code, "")
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_without_matplotlib_the_way_out_is_named(explain, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    code, out, err = explain("cosine", "--figure", "x.png")
    assert (code, out) == (2, "")
    assert 'pip install "tinyddpm[plot]"' in err
    code, _, _ = explain("noising-figures", "--figure", "strips.png")
    assert code == 0
    assert (tmp_path / "strips.png").is_file()

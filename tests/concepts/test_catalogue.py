"""The course is whole: every concept in its order, said, written, located, shown and checked."""

import ast
import inspect
import math
import textwrap
from pathlib import Path

import numpy as np
import pytest

import tinyddpm
from tinyddpm.concepts import independent
from tinyddpm.concepts.catalogue import BEYOND, CONCEPTS, LECTURE, find
from tinyddpm.concepts.concept import Check, exactly, location, on_average, table
from tinyddpm.errors import UsageError
from tinyddpm.figures.catalogue import PICTURES, PLOTS

ROOT = Path(tinyddpm.__file__).resolve().parents[1]

# The order in which the lecture teaches them.
LECTURE_NAMES = [
    "inverse-cdf",
    "data-distribution",
    "forward-step",
    "pixels",
    "variance-preserving",
    "pure-noise",
    "markov",
    "closed-form",
    "linear",
    "cosine",
    "noising-figures",
    "reverse-chain",
    "latent-variables",
    "jensen",
    "telescoping",
    "prior-term",
    "decoder",
    "first-variance",
    "worked-example",
    "posterior",
    "mean-from-eps",
    "kl-weight",
    "simple-loss",
    "rectangle",
    "unet",
    "time-embedding",
    "attention",
    "training",
    "sampling",
    "fixed-variance",
    "learned-variance",
    "hybrid-loss",
    "stop-gradient",
]
BEYOND_NAMES = [
    "importance",
    "respacing",
    "ddim",
    "v-prediction",
    "score",
    "snr",
    "guidance",
    "bits-per-dim",
]

every_concept = pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.name)


def test_all_are_there_in_their_order():
    assert len(LECTURE_NAMES) == 33
    assert [concept.name for concept in LECTURE] == LECTURE_NAMES
    assert [concept.name for concept in BEYOND] == BEYOND_NAMES
    assert [concept.number for concept in CONCEPTS] == list(range(1, len(CONCEPTS) + 1))


@every_concept
def test_each_is_said_and_written_down(concept):
    prose = textwrap.wrap(" ".join(concept.text.split()), 88)
    assert 2 <= len(prose) <= 6
    assert len(concept.title) <= 72
    equation = inspect.cleandoc(concept.equation).splitlines()
    assert equation
    assert all(0 < len(line) <= 96 for line in equation)
    assert "\\" not in concept.equation  # Unicode, not LaTeX


@every_concept
def test_each_has_its_code_where_it_says(concept):
    assert concept.functions
    for function in concept.functions:
        dotted, place = location(function)
        path, line = place.split(":")
        source = (ROOT / path).read_text().splitlines()
        first = next(
            text for text in source[int(line) - 1 :] if text.split()[0] in {"def", "class"}
        )
        assert function.__name__ in first
        assert dotted == f"{function.__module__}.{function.__qualname__}"


@every_concept
def test_each_is_shown(concept):
    assert concept.table or concept.figure
    if concept.figure:
        assert concept.figure in PICTURES.keys() | PLOTS.keys()
    if concept.table:
        head, *rows = concept.table().splitlines()
        assert head
        assert len(rows) >= 2
        assert not {"nan", "inf"} & set(" ".join(rows).split())


def test_every_figure_belongs_to_a_concept():
    assert {c.figure for c in CONCEPTS if c.figure} == PICTURES.keys() | PLOTS.keys()


@every_concept
def test_each_check_holds(concept):
    check = concept.check()
    assert check.holds, check
    assert check.what
    assert check.how
    assert 0 < check.allowed < 0.1 * max(1.0, abs(check.independent))


def test_checks_say_the_same_each_time():
    for name in ("forward-step", "importance", "training"):
        assert find(name).check() == find(name).check()


def test_the_other_arithmetic_shares_nothing_with_the_package():
    tree = ast.parse(inspect.getsource(independent))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [
        a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names
    ]
    assert modules
    assert not any(module.startswith("tinyddpm") for module in modules)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cosine", "cosine"),
        ("10", "cosine"),
        ("cos", "cosine"),
        ("COSINE", "cosine"),
        ("bits per dim", "bits-per-dim"),
        ("posterior", "posterior"),
        ("score", "score"),
        ("41", "bits-per-dim"),
    ],
)
def test_a_concept_is_found_by_name_number_or_beginning(name, found):
    assert find(name).name == found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cosinus", ["no concept 'cosinus'", "cosine"]),
        ("posteriour", ["posterior"]),
        ("p", ["4 concepts begin with 'p'", "pixels, pure-noise, prior-term, posterior"]),
        ("schedule", ["no concept", "linear, cosine"]),
        ("99", ["no concept '99'", "1 … 41"]),
        ("", ["no concept"]),
    ],
)
def test_an_unknown_name_lists_what_is_near(name, words):
    with pytest.raises(UsageError) as raised:
        find(name)
    for word in words:
        assert word in str(raised.value)


def test_the_worst_pair_is_kept():
    check = exactly("a", [1.0, 2.0, 3.0], "b", [1.0, 2.0 + 1e-9, 3.0 + 2e-12], rtol=1e-12)
    assert (check.ours, check.pairs, check.holds) == (2.0, 3, False)
    assert exactly("a", [1.0, math.nan], "b", [1.0, 1.0]).holds is False
    assert exactly("a", 1.0, "b", math.nan).holds is False
    sampled = on_average("a", [1.0, 5.0], "b", [1.2, 5.1], [0.1, 0.01])
    assert (sampled.ours, sampled.sampled, sampled.holds) == (5.0, True, False)
    assert on_average("a", 1.0, "b", 1.4, 0.1).holds


def test_zero_is_allowed_no_error():
    assert exactly("a", 0.0, "b", 0.0).holds
    assert not exactly("a", 1e-300, "b", 0.0).holds
    assert exactly("a", 0.1, "b", 0.0, atol=0.1).holds


def test_a_check_on_its_edge():
    assert Check("a", 1.0, "b", 1.5, 0.5).holds
    assert not Check("a", 1.0, "b", 1.5, 0.49).holds


def test_columns_are_aligned_also_under_combining_marks():
    lines = table(("name", "β̃"), [("a", 1.23456), ("bb", np.float64(12))]).splitlines()
    assert lines == ["name      β̃", "a     1.235", "bb       12"]

"""Each identity holds wherever it is tried, and sees the bugs that it is there for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from montecarlo import broken, consistent
from mutants import MUTANTS

from tinyddpm.identities import IDENTITIES, Setting

BY_NUMBER = {identity.number: identity for identity in IDENTITIES}
SHARE = 1e-6 / len(IDENTITIES)
DEFAULT = Setting.drawn(0, 20_000)

SETTINGS = st.builds(
    Setting,
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(1000, 4000),
    beta=st.lists(st.floats(0.01, 0.6), min_size=4, max_size=10).map(tuple),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)),
)


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda i: i.number)
@settings(max_examples=20)
@given(setting=SETTINGS)
def test_it_holds_on_any_chain_and_any_draws(identity, setting):
    assert consistent(identity(setting))


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda i: i.number)
def test_it_holds_where_a_user_tries_it(identity):
    assert identity(DEFAULT).holds(SHARE)


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda i: i.number)
def test_it_has_a_bug_to_see(identity):
    assert MUTANTS[identity.number]


@pytest.mark.parametrize(
    ("number", "mutant"),
    [
        pytest.param(number, mutant, id=f"{number}-{mutant.wrong[:40]}")
        for number, mutants in MUTANTS.items()
        for mutant in mutants
    ],
)
def test_it_sees_the_bug(number, mutant):
    identity = BY_NUMBER[number]
    with broken(*mutant), np.errstate(all="ignore"):
        assert not identity(DEFAULT).holds(SHARE)


def test_the_list_is_in_order_and_says_what_it_exercises():
    assert [value(i.number) for i in IDENTITIES] == list(range(1, len(IDENTITIES) + 1))
    assert len({i.name for i in IDENTITIES}) == len(IDENTITIES)
    for identity in IDENTITIES:
        assert identity.exercises
        assert len(identity.name) < 40
        for function in identity.exercises:
            assert function.__module__.startswith("tinyddpm.")
            assert not function.__module__.startswith("tinyddpm.identities")


def value(roman):
    digits = [{"i": 1, "v": 5, "x": 10}[letter] for letter in roman]
    following = [*digits[1:], 0]
    return sum(-d if d < after else d for d, after in zip(digits, following, strict=True))


def test_settings_differ_by_seed_and_only_by_it():
    assert Setting.drawn(5, 100) == Setting.drawn(5, 100)
    drawn = [Setting.drawn(seed, 100) for seed in range(40)]
    assert len({s.beta for s in drawn}) == 40
    assert {len(s.beta) for s in drawn} == set(range(6, 11))
    assert all(0.02 < b < 0.5 for s in drawn for b in s.beta)

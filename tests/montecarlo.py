"""Statistical tests that may run every day: what they may cost together, and how they show power.

The comparisons and their p-values are those of ``tinyddpm.identities.statistics``. A run of the
suite raises a false alarm with probability at most 1e-6 over all of its examples: each comparison
has an equal share of that (Bonferroni), and a run that made more of them than there are shares
would fail. Draws are a function of the drawn parameters (``generator``), so that a failure can be
had again.

``mutated`` rewrites the source of a module with a bug, to show that a comparison would see it;
``broken`` puts the bug into the module itself for a while, for all who use it.
"""

import contextlib
import hashlib
import inspect
import itertools
import math
import types

import numpy as np

from tinyddpm.identities.statistics import (
    chi2_test,
    gaussian_test,
    ks_test,
    regression_test,
    subgamma_test,
    z_test,
)

__all__ = [
    "broken",
    "chi2_test",
    "consistent",
    "gaussian_test",
    "generator",
    "ks_test",
    "mutated",
    "regression_test",
    "seed_of",
    "subgamma_test",
    "z_test",
]

FALSE_ALARMS_PER_RUN = 1e-6
COMPARISONS_PER_RUN = 20_000
LOG_ALPHA = math.log(FALSE_ALARMS_PER_RUN / COMPARISONS_PER_RUN)

_comparisons = itertools.count(1)


def seed_of(*parameters) -> int:
    """A seed in [0, 2³²) hashed from ``parameters``, each with an exact repr."""
    return int.from_bytes(hashlib.sha256(repr(parameters).encode()).digest()[:4], "big")


def generator(*parameters) -> np.random.Generator:
    """A generator seeded by a hash of ``parameters``."""
    return np.random.default_rng(seed_of(*parameters))


def consistent(*comparisons) -> bool:
    """Whether none of the comparisons is rejected at its share of the false alarms.

    Each has a ``log_p``, or is that number itself.
    """
    log_p = [getattr(comparison, "log_p", comparison) for comparison in comparisons]
    for value in log_p:
        assert not math.isnan(value)
        assert next(_comparisons) <= COMPARISONS_PER_RUN, "more comparisons than the run has shares"
    return min(log_p) >= LOG_ALPHA


def mutated(module: types.ModuleType, right: str, wrong: str) -> types.ModuleType:
    """Return a copy of ``module`` in which ``wrong`` stands for the one occurrence of ``right``."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{right!r} occurs {source.count(right)} times"
    copy = types.ModuleType(module.__name__)
    exec(
        compile(source.replace(right, wrong), f"<mutant of {module.__name__}>", "exec"), vars(copy)
    )
    return copy


@contextlib.contextmanager
def broken(module: types.ModuleType, right: str, wrong: str):
    """Within the context the functions, methods and numbers of ``module`` are those of its mutant.

    A function keeps its identity and gets another code, so that whoever has imported it has the
    bug too.
    """
    mutant = mutated(module, right, wrong)
    wrong_functions = dict(_functions(mutant))
    with contextlib.ExitStack() as undo:
        for name, function in _functions(module):
            undo.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = wrong_functions[name].__code__
        for name, value in vars(mutant).items():
            if isinstance(value, int | float) and value != vars(module).get(name):
                undo.callback(setattr, module, name, vars(module)[name])
                setattr(module, name, value)
        yield


def _functions(module):
    """All functions written in ``module``, also within classes, by qualified name."""
    names = [module, *(c for c in vars(module).values() if isinstance(c, type))]
    for owner in names:
        for member in vars(owner).values():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            if (
                isinstance(function, types.FunctionType)
                and function.__module__ == module.__name__
                and not function.__code__.co_filename.startswith("<string")
            ):
                yield function.__qualname__, function

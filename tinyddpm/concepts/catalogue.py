"""All concepts in the order in which they are taught, and how one is found by name."""

from __future__ import annotations

import difflib

from tinyddpm.concepts import (
    beyond,
    bound,
    forward,
    likelihood,
    network,
    posterior,
    reverse,
    schedules,
    squared_error,
    training,
    variance,
)
from tinyddpm.concepts.concept import Concept
from tinyddpm.errors import UsageError

LECTURE: tuple[Concept, ...] = (
    *forward.CONCEPTS,
    *schedules.CONCEPTS,
    *reverse.CONCEPTS,
    *bound.CONCEPTS,
    *posterior.CONCEPTS,
    *squared_error.CONCEPTS,
    *network.CONCEPTS,
    *training.CONCEPTS,
    *variance.CONCEPTS,
)
BEYOND: tuple[Concept, ...] = (*beyond.CONCEPTS, *likelihood.CONCEPTS)
CONCEPTS = LECTURE + BEYOND


def find(name: str) -> Concept:
    """Return the concept of this number or name, or the only one whose name begins so.

    Raises:
        UsageError: there is none, or more than one; the message lists the nearest.
    """
    wanted = name.strip().lower().replace(" ", "-").replace("_", "-")
    for concept in CONCEPTS:
        if wanted in {concept.name, str(concept.number)}:
            return concept
    begins = [concept for concept in CONCEPTS if wanted and concept.name.startswith(wanted)]
    if len(begins) == 1:
        return begins[0]
    near = [concept.name for concept in begins] or _near(wanted)
    listed = ", ".join(near) if near else f"1 … {len(CONCEPTS)}"
    raise UsageError(
        f"{len(begins)} concepts begin with {name!r}" if begins else f"no concept {name!r}",
        remedy=f"{listed}; `tinyddpm explain` lists all",
    )


def _near(wanted: str) -> list[str]:
    """Names that are spelt alike, and concepts whose title has the word."""
    alike = difflib.get_close_matches(wanted, [concept.name for concept in CONCEPTS], n=3)
    words = wanted.replace("-", " ")
    titled = [
        concept.name
        for concept in CONCEPTS
        if len(words) > 2 and words in f"{concept.name} {concept.title}".lower()
    ]
    return list(dict.fromkeys([*alike, *titled]))[:5]

"""The complex-step certificate of a backward (Squire & Trapp 1998, SIAM Review 40:110).

For analytic f and a direction u,

    J u = Im f(x + i h u) / h + O(h²),     h = 1e−30

to the last digit, because nothing is subtracted. A backward computes Jᵀ v. The certificate is the
identity of the two, for a random direction u and a random cotangent v:

    ⟨v, J u⟩ = ⟨Jᵀ v, u⟩        error = |left − right| / |left|

v = r + 2 (‖r‖ / ‖J u‖) J u with r random, so that the left side cannot be small by chance. If it is
small all the same, J u is zero, and the certificate would be vacuous.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tinyddpm.arrays import Array

H = 1e-30
TOLERANCE = 1e-11

Forward = Callable[..., tuple[Array, Any]]
Backward = Callable[[Array, Any], tuple[Array, ...]]


@dataclass(frozen=True)
class Case:
    """A forward and its backward at one point.

    Attributes:
        name: the name of the backward, or of the block.
        forward: maps the inputs to ``(y, saved)``, generic over float64 and complex128.
        backward: maps ``(dy, saved)`` to a gradient for each input, in their order.
        inputs: float64 arrays, with nothing special (zero, one, equal) about their values.
    """

    name: str
    forward: Forward
    backward: Backward
    inputs: tuple[Array, ...]


class Certificate(NamedTuple):
    """The outcome for one case.

    Attributes:
        name: the case's.
        error: the largest relative error of the directional derivatives, over the inputs.
        alignment: the smallest |⟨v, J u⟩| / (‖v‖ ‖J u‖) over the inputs: 0 would be vacuous.
    """

    name: str
    error: float
    alignment: float

    @property
    def holds(self) -> bool:
        """Whether the backward is certified: within tolerance, and not vacuously."""
        return self.error <= TOLERANCE and self.alignment >= 1e-3


def certify(case: Case, seed: int = 0) -> Certificate:
    """Check ``case`` along one random direction for each of its inputs."""
    random = np.random.Generator(np.random.Philox(seed))
    y, saved = case.forward(*case.inputs)
    errors, alignments = [], []
    for index, x in enumerate(case.inputs):
        u = random.standard_normal(x.shape)
        ju = _directional(case, index, u)
        r = random.standard_normal(y.shape)
        v = r + ju * (2 * _norm(r) / max(_norm(ju), H))
        left = float((v * ju).sum())
        right = float((case.backward(v, saved)[index] * u).sum())
        errors.append(abs(left - right) / max(abs(left), H))
        alignments.append(abs(left) / max(_norm(v) * _norm(ju), H))
    return Certificate(case.name, max(errors), min(alignments))


def _directional(case: Case, index: int, u: Array) -> Array:
    """J u for input ``index``, from one complex forward."""
    inputs = [x.astype(np.complex128) for x in case.inputs]
    inputs[index] = inputs[index] + 1j * H * u
    y, _ = case.forward(*inputs)
    return y.imag / H


def _norm(x: Array) -> float:
    return float(np.sqrt((x * x).sum()))

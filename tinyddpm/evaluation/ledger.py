"""The bound as a ledger: what L_0, the sums of L_1 … L_{T−1} over ranges, and L_T contribute.

L_{t−1} falls about as 1/t. The ranges begin at 1, 2, 5, 10, 20, 50, …, so that their sums are of
one order of magnitude. The last term, L_{T−1}, is an entry of its own, because it can outweigh all
others if x̂_0 is not clipped.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from tinyddpm.arrays import Floats
from tinyddpm.evaluation.estimate import Estimate, estimate
from tinyddpm.evaluation.likelihood import BoundDraws


class Entry(NamedTuple):
    """A part of the bound, in bits/dim."""

    name: str
    first: int  # the first t
    last: int  # the last t
    bits_per_dim: Estimate
    drawn: int  # times of this range that were drawn, of all images


class Ledger(NamedTuple):
    """The bound and its parts; they add up to it."""

    reconstruction: Estimate  # L_0
    entries: list[Entry]  # that add up to L_1 + … + L_{T−1}
    prior: Estimate  # L_T
    bound: Estimate


def ledger(draws: BoundDraws) -> Ledger:
    """Return the ledger of ``draws``: means over their images, in bits/dim."""
    entries = [
        Entry(
            _name(first, last),
            first,
            last,
            estimate(draws.terms(first, last)),
            draws.count(first, last),
        )
        for first, last in ranges(draws.T)
    ]
    first_term, whole = draws.terms(1, 1), draws.bound()
    return Ledger(estimate(first_term), entries, estimate(draws.prior_term()), estimate(whole))


def ranges(T: int) -> list[tuple[int, int]]:
    """Return the first and last t of each range; they follow each other from 2 to T."""
    starts = {digit * 10**power for power in range(len(str(T))) for digit in (1, 2, 5)}
    edges = sorted(k for k in {*starts, T - 1, T} if 1 <= k <= T)  # of L_k, where t = k + 1
    return [(k + 1, following) for k, following in pairwise(edges)]


class Comparison(NamedTuple):
    """One model's bits/dim less another's, image by image: below 0 the first is the better."""

    reconstruction: Estimate  # L_0
    denoising: Estimate  # Σ L_{t−1} over t = 2 … T
    bound: Estimate


def compare(one: BoundDraws, other: BoundDraws) -> Comparison:
    """Return how two models differ that were measured on the same images and random numbers.

    If their chains have the same length, they share times and noise, and the difference is more
    certain than either bound. Otherwise they share only those of t = 1.
    """

    def denoising(draws: BoundDraws) -> Floats:
        return draws.terms(2, draws.T)

    return Comparison(
        estimate(one.terms(1, 1) - other.terms(1, 1)),
        estimate(denoising(one) - denoising(other)),
        estimate(one.bound() - other.bound()),
    )


def _name(first: int, last: int) -> str:
    names = dict.fromkeys([f"L_{first - 1}", f"L_{last - 1}"])
    return " .. ".join(names)

"""What ``tinyddpm evaluate --nll`` says: as a table for people, as an object for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from tinyddpm.cli.columns import labelled
from tinyddpm.evaluation.decoder_limit import DecoderLimit
from tinyddpm.evaluation.estimate import Estimate
from tinyddpm.evaluation.ledger import Comparison, Ledger, ledger
from tinyddpm.evaluation.likelihood import BoundDraws, Likelihood
from tinyddpm.training.config import DiffusionConfig

_line = partial(labelled, label_width=16, width=23)


class Measured(NamedTuple):
    """One checkpoint and what was found."""

    path: str
    step: int
    weights: str
    chain: DiffusionConfig
    likelihood: Likelihood
    limit: DecoderLimit

    @property
    def name(self) -> str:
        """The checkpoint in a line."""
        chain = self.chain
        return (
            f"{self.path}: step {self.step}, {self.weights} weights, {chain.schedule} T = {chain.T}"
            f", predicts {chain.predict}, variance {chain.variance}"
        )


def table(measured: Measured) -> Iterator[str]:
    """Yield the lines of one checkpoint's ledger."""
    clipped, unclipped = (ledger(draws) for draws in measured.likelihood)
    draws = measured.likelihood.clipped
    to_nats = draws.dims * math.log(2.0)
    yield measured.name
    yield f"{len(draws.length)} of {draws.T} times for each image"
    yield _line("", "x0_hat clipped", "not clipped", "clipped", "not clipped")
    yield _line("", "bits/dim", "bits/dim", "nats/image", "nats/image")
    for (label, one), (_, other) in zip(_rows(clipped), _rows(unclipped), strict=True):
        if one is None or other is None:
            yield _line(label, "no t drawn")
            continue
        in_nats = (_plus_minus(row.scaled(to_nats), places=2) for row in (one, other))
        yield _line(label, _plus_minus(one), _plus_minus(other), *in_nats)
    whole = clipped.bound, unclipped.bound
    intervals = [_interval(bound) for bound in whole]
    intervals += [_interval(bound.scaled(to_nats), places=2) for bound in whole]
    yield _line("95 %", *intervals)
    yield _about_limit(measured.limit, clipped.reconstruction)


def comparison_lines(
    clipped: Comparison, unclipped: Comparison, *, same_times: bool
) -> Iterator[str]:
    """Yield the lines of a difference between two checkpoints."""
    shared = "images, times and noise" if same_times else "images (the chains differ in length)"
    yield f"first less second, bits/dim, on the same {shared}"
    yield _line("", "x0_hat clipped", "not clipped")
    labels = ("L_0", "L_1 .. L_(T-1)", "bound")
    for label, one, other in zip(labels, clipped, unclipped, strict=True):
        yield _line(label, _plus_minus(one), _plus_minus(other))
    yield _line("95 %", _interval(clipped.bound), _interval(unclipped.bound))


def as_json(measured: Measured) -> dict[str, Any]:
    """Return all that was found, in plain dictionaries, lists and numbers."""
    chain, limit = measured.chain, measured.limit
    kinds = measured.likelihood._asdict().items()
    return {
        "checkpoint": measured.path,
        "step": measured.step,
        "weights": measured.weights,
        "chain": {
            "schedule": chain.schedule,
            "T": chain.T,
            "predict": chain.predict,
            "variance": chain.variance,
        },
        "times_per_image": len(measured.likelihood.clipped.length),
        "decoder_floor": {
            "bits_per_dim": limit.bits_per_dim,
            "sigma_1": limit.std,
            "strict": limit.strict,
        },
        **{kind: _kind_as_json(draws) for kind, draws in kinds},
    }


def comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the differences in bits/dim."""
    return {key: _estimate_as_json(value) for key, value in comparison._asdict().items()}


def _kind_as_json(draws: BoundDraws) -> dict[str, Any]:
    found, means = ledger(draws), draws.at_each_time()
    columns = zip(*(column.tolist() for column in means), strict=True)
    return {
        "bits_per_dim": _estimate_as_json(found.bound),
        "nats_per_image": _estimate_as_json(found.bound.scaled(draws.dims * math.log(2.0))),
        "L_0": _estimate_as_json(found.reconstruction),
        "L_T": _estimate_as_json(found.prior),
        "sums": [
            {
                "first_t": e.first,
                "last_t": e.last,
                "drawn": e.drawn,
                **_estimate_as_json(e.bits_per_dim),
            }
            for e in found.entries
        ],
        "terms": [
            {
                "t": t,
                "images": images,
                "mean": mean,
                "standard_error": error if math.isfinite(error) else None,
            }
            for t, images, mean, error in columns
        ],
    }


def _estimate_as_json(value: Estimate) -> dict[str, Any]:
    return {
        "mean": value.mean,
        "standard_error": value.standard_error,
        "interval_95": list(value.interval),
    }


def _rows(found: Ledger) -> list[tuple[str, Estimate | None]]:
    """The ledger's lines; None where there is nothing to estimate from."""
    between = [(entry.name, entry.bits_per_dim if entry.drawn else None) for entry in found.entries]
    ends = ("L_0", found.reconstruction), ("L_T", found.prior)
    return [ends[0], *between, ends[1], ("bound", found.bound)]


def _about_limit(limit: DecoderLimit, reconstruction: Estimate) -> str:
    kind = "any network" if limit.strict else "any network that keeps to this sigma_1 or more"
    more = reconstruction.mean - limit.bits_per_dim
    return (
        f"floor of L_0, clipped, for {kind}: {_number(limit.bits_per_dim, 5)} bits/dim at "
        f"sigma_1 = {limit.std:.5f}; here {_number(more, 5)} more"
    )


def _plus_minus(value: Estimate, places: int = 5) -> str:
    return f"{_number(value.mean, places)} ± {_number(value.standard_error, places)}"


def _interval(value: Estimate, places: int = 5) -> str:
    low, high = value.interval
    return f"{_number(low, places)} .. {_number(high, places)}"


def _number(x: float, places: int) -> str:
    """So many places after the point, or two digits of what is smaller than they show."""
    return f"{x:.{places}f}" if x == 0.0 or abs(x) >= 10.0**-places else f"{x:.1e}"

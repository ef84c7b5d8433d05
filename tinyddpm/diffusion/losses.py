"""What is minimised, image by image.

    L_simple  = mean (prediction − target)²                          Ho et al. 2020, eq. 14
                (for a score, the error is multiplied by √(1 − ᾱ_t): that is the error of ε)
    L_vlb     = T L_{t−1} / (D ln 2)                                 bits/dim
    L_hybrid  = L_simple + λ L_vlb,   λ = 0.001                      Nichol & Dhariwal 2021, eq. 16

If t is uniform on 1 … T, the mean of L_vlb is the sum over t, that is the bound without L_T, in
bits/dim. λ = 0.001 is meant for this unit. (The published code multiplies L_{t−1} in bits/dim by
T/1000, which is the same. For a bound in nats per image λ would be 0.001/(D ln 2). Copies that
leave out the factor T make λ T times too small.)

In the hybrid the bound teaches only the variance. Its gradient does not reach the prediction, whose
channels get the gradient of L_simple, to the bit:

    dprediction = dloss · 2 (prediction − target)/D        dv = dloss · λ ∂L_vlb/∂v

(For a score dprediction is 1 − ᾱ_t times as much.)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from tinyddpm.arrays import Array, IntArray, xp_of
from tinyddpm.diffusion.arguments import check_choice, check_images, check_times
from tinyddpm.diffusion.bound import TermSaved, bound_term, bound_term_backward
from tinyddpm.errors import UsageError

if TYPE_CHECKING:
    from tinyddpm.diffusion.gaussian import GaussianDiffusion

Objective = Literal["simple", "hybrid", "vlb"]

VLB_WEIGHT = 0.001  # λ, for the bound summed over t in bits/dim


class LossesSaved(NamedTuple):
    """What the two parts of the loss keep; None for a part that is not there."""

    error: Array | None  # of the prediction, times ``scale``
    scale: Array | float  # see ``GaussianDiffusion.error_scale``
    term: TermSaved | None
    per_nat: float  # how much a nat of L_{t−1} counts in the loss


def image_losses(
    diffusion: GaussianDiffusion,
    output: Array,
    x0: Array,
    xt: Array,
    eps: Array,
    t: int | IntArray,
    *,
    objective: Objective | None = None,
    vlb_weight: float = VLB_WEIGHT,
) -> tuple[Array, LossesSaved]:
    """Return the loss of each image, (N,), and what ``image_losses_backward`` needs.

    L_simple = mean (prediction − target)² (Ho et al. 2020, eq. 14), L_vlb = T L_{t−1}/(D ln 2), or
    L_hybrid = L_simple + λ L_vlb, the bound stopped from the prediction (Nichol & Dhariwal 2021,
    eq. 16).

    Args:
        diffusion: the chain; its method of the same name is this function.
        output: what the network gave for ``xt`` and ``t``.
        x0: the images.
        xt: the noised images, q_sample(x0, t, eps).
        eps: the noise.
        t: the times.
        objective: ``simple`` (mean square), ``hybrid`` or ``vlb`` (bits/dim). By default simple, or
            hybrid if the variance is learned: simple would not teach it.
        vlb_weight: λ of the hybrid, in units of the mean square per bit/dim of the whole bound.

    Raises:
        UsageError: the objective is unknown, or does not go with the variance.
    """
    objective = resolve_objective(objective, diffusion.variance)
    prediction, _ = diffusion.split(output, xt)
    check_images(output=prediction, x0=x0, xt=xt, eps=eps)
    times = check_times(t, len(xt), first=1, last=diffusion.schedule.T)
    total, error, term, per_nat = xp_of(x0).zeros(len(x0), x0.dtype), None, None, 0.0
    scale = diffusion.error_scale(times, xt)
    if objective != "vlb":
        error = scale * (prediction - diffusion.target(x0, eps, times))
        total = total + (error * error).mean(axis=tuple(range(1, error.ndim)))
    if objective != "simple":
        per_nat = diffusion.schedule.T / (math.prod(x0.shape[1:]) * math.log(2.0))
        per_nat *= float(vlb_weight) if objective == "hybrid" else 1.0
        nats, term = bound_term(diffusion, output, x0, xt, times, clip=False)
        total = total + per_nat * nats
    return total, LossesSaved(error, scale, term, per_nat)


def image_losses_backward(
    diffusion: GaussianDiffusion, dlosses: Array, saved: LossesSaved
) -> Array:
    """Return ``doutput`` for ``dlosses`` (N,): 1/N each for the mean, or weights of the images."""
    error, scale, term, per_nat = saved
    if term is None:
        assert error is not None
        return _error_backward(dlosses, error, scale)
    doutput = bound_term_backward(diffusion, per_nat * dlosses, term)
    if error is not None:  # the hybrid: the bound's gradient stops here
        doutput[..., : error.shape[-1]] = _error_backward(dlosses, error, scale)
    return doutput


def loss(
    diffusion: GaussianDiffusion,
    output: Array,
    x0: Array,
    xt: Array,
    eps: Array,
    t: int | IntArray,
    *,
    objective: Objective | None = None,
    vlb_weight: float = VLB_WEIGHT,
    weights: Array | None = None,
) -> tuple[Array, Array]:
    """Return the mean loss of the images, a 0-d array, and its derivative by ``output``.

    If the variance is fixed, the loss is by default L_simple, the mean of (ε − ε̂)² (Ho et al. 2020,
    eq. 14). The arguments are those of ``image_losses``, and ``weights`` (N,), by which the losses
    of the images are multiplied: 1/(T p_t) for times that were drawn with probabilities p_t.

    Raises:
        UsageError: as in ``image_losses``, or ``weights`` are of another shape.
    """
    losses, saved = image_losses(
        diffusion, output, x0, xt, eps, t, objective=objective, vlb_weight=vlb_weight
    )
    xp = xp_of(losses)
    ones = xp.ones(len(x0), x0.dtype)
    weights = ones if weights is None else xp.asarray(weights, x0.dtype)
    if weights.shape != losses.shape:
        raise UsageError(
            f"there must be one weight for each of the {len(x0)} images",
            cause=f"weights {weights.shape}",
        )
    return (weights * losses).mean(), image_losses_backward(diffusion, weights / len(x0), saved)


def _error_backward(dlosses: Array, error: Array, scale: Array | float) -> Array:
    dmean = dlosses * (2.0 / math.prod(error.shape[1:]))
    dprediction: Array = dmean.reshape(-1, *(1,) * (error.ndim - 1)) * error * scale
    return dprediction


def resolve_objective(objective: Objective | None, variance: str) -> Objective:
    """Return ``objective``, or the one that ``variance`` calls for.

    Raises:
        UsageError: it is unknown, or does not go with the variance.
    """
    learned = variance == "learned"
    if objective is None:
        return "hybrid" if learned else "simple"
    check_choice("objective", objective, get_args(Objective))
    if objective != "vlb" and (objective == "hybrid") != learned:
        raise UsageError(
            f"the objective {objective!r} does not go with variance {variance!r}",
            cause="the bound's part of the hybrid teaches the learned variance, and nothing else",
            remedy="hybrid or vlb for a learned variance, simple or vlb for a fixed one",
        )
    return objective

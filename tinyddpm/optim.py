"""Pure updates of flat buffers: Adam, clipping, the moving average, and learning-rate schedules.

Every update writes into the arrays it is given and keeps nothing. Steps are counted from 1.
"""

from __future__ import annotations

import math

from tinyddpm.arrays import Array, xp_of


def adam(
    value: Array,
    grad: Array,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    adam_eps: float = 1e-8,
) -> None:
    """One step of Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1), in place.

    m ← β₁ m + (1 − β₁) g          m_hat = m / (1 − β₁^step)
    v ← β₂ v + (1 − β₂) g²         v_hat = v / (1 − β₂^step)
    value ← value − lr m_hat / (√v_hat + adam_eps)
    """
    m *= beta1
    m += (1 - beta1) * grad
    v *= beta2
    v += (1 - beta2) * (grad * grad)
    root = xp_of(v).sqrt(v * (1 / (1 - beta2**step)))
    root += adam_eps
    value -= (lr / (1 - beta1**step)) * m / root


def global_norm(grad: Array) -> Array:
    """The Euclidean norm of the whole gradient, as a 0-d array (no wait for a device)."""
    norm: Array = xp_of(grad).sqrt(grad @ grad)
    return norm


def clip_by_norm(grad: Array, norm: Array, limit: float) -> None:
    """Scale ``grad``, in place, by limit/norm if ``norm`` is larger than ``limit``.

    ``grad`` is flat, the whole gradient or a part of it; ``norm`` is the ``global_norm`` of the
    whole.
    """
    grad *= xp_of(grad).minimum(1.0, limit / (norm + 1e-12)).astype(grad.dtype)


def ema_decay(step: int, decay: float) -> float:
    """The decay of update ``step``: min(decay, (1 + k) / (10 + k)) with k = ``step``.

    Without the warm-up the average would hold on to the random start for 1/(1 − decay) steps.
    """
    return min(decay, (1 + step) / (10 + step))


def ema(average: Array, value: Array, decay: float) -> None:
    """``average`` ← decay · average + (1 − decay) · value, in place; both flat, (P,)."""
    average += (1 - decay) * (value - average)


def ema_half_life(decay: float) -> float:
    """The number of steps after which a value has half of its weight in the average left."""
    return math.log(0.5) / math.log(decay)


def learning_rate(step: int, peak: float, warmup: int, decay_from: int) -> float:
    """The learning rate of ``step``: linear up to ``peak`` at step ``warmup``, then constant, and
    ``peak`` √(decay_from / step) from step ``decay_from`` on. 0 for ``decay_from`` means never.

    It depends only on the step, not on the length of the run, so a run can be prolonged.
    """
    decay = math.sqrt(decay_from / step) if decay_from else 1.0
    return peak * min(1.0, step / max(warmup, 1), decay)

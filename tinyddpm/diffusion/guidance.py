"""Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598).

    ε̃(x_t, c) = (1 + w) ε(x_t, c) − w ε(x_t, ∅)                                        eq. 6

One network gives both: in training the label c of an image is now and then replaced by the null
label ∅ (Algorithm 1). The guided score is ∇ log (q(x_t | c)^{1+w} q(x_t)^{−w}). So w = 0 is the
conditional model, w > 0 goes further away from what all classes share, and w = −1 ignores the
class.

For a given x_t the predictions of x_0 and v are affine in ε, and the weights 1 + w and −w sum to 1.
So the same formula is right for networks that predict x_0 or v.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinyddpm.arrays import Array, IntArray, xp_of
from tinyddpm.diffusion.arguments import check_images, check_model
from tinyddpm.diffusion.sampling import Model
from tinyddpm.errors import UsageError

# model(xt, t, labels): as Model, with labels (N,), a host array.
ConditionalModel = Callable[[Array, IntArray, IntArray], Array]

LARGEST = 2**24  # as a float32, 1 + w is w from here on, and the two weights no longer sum to 1


def check_weight(weight: float) -> None:
    """Raise unless |w| is less than ``LARGEST``.

    Raises:
        UsageError: it is more, or ``weight`` is NaN.
    """
    if not abs(weight) < LARGEST:
        raise UsageError(
            f"guidance must lie between {-LARGEST:,} and {LARGEST:,}",
            cause=f"w = {weight}, and 1 + w would be rounded to w",
        )


def guide(conditional: Array, unconditional: Array, weight: float) -> Array:
    """Return (1 + w) ε(x_t, c) − w ε(x_t, ∅) from the two, both (N, H, W, C).

    w is ``weight`` (Ho & Salimans 2022, eq. 6).
    """
    check_images(conditional=conditional, unconditional=unconditional)
    weight = float(weight)  # NumPy's own float64 would widen float32 images
    guided: Array = (1.0 + weight) * conditional - weight * unconditional
    return guided


def guided_model(
    model: ConditionalModel, labels: IntArray, *, null_label: int, weight: float
) -> Model:
    """Return the model of x_t and t alone that samples the classes ``labels`` with guidance.

    It calls ``model`` once a step, on a batch of twice the size: the images with their labels, then
    the same images with ``null_label``. With ``weight`` 0 it calls ``model`` with ``labels`` alone.
    Channels beyond those of x_t (the v of a learned variance) are not guided: they are those of the
    conditional half.

    Args:
        model: of x_t (N, H, W, C), t (N,) and labels (N,).
        labels: (N,) one for each image to be sampled.
        null_label: ∅, what stood for no class in training.
        weight: w above.

    Raises:
        UsageError: ``model`` is no function, or ``labels`` is not a list of integers; in the model
            returned, x_t has another N, or ``model`` gave no array.
    """
    check_model(model)
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UsageError(
            "labels must be a list of integers, one for each image",
            cause=f"shape {labels.shape}, dtype {labels.dtype}",
        )
    labels = _wide(labels)
    both_labels = np.concatenate([labels, np.full_like(labels, null_label)])

    def guided(xt: Array, t: IntArray) -> Array:
        """The two outputs of one doubled batch, put together."""
        if len(xt) != len(labels):
            raise UsageError(
                "there must be one label for each image",
                cause=f"{len(labels)} labels for {len(xt)} images",
            )
        if weight == 0.0:
            return model(xt, t, labels)
        xp = xp_of(xt)
        output = model(xp.concatenate([xt, xt]), np.concatenate([t, t]), both_labels)
        check_images(output=output)
        conditional, unconditional = output[: len(xt)], output[len(xt) :]
        c = xt.shape[-1]
        mean = guide(conditional[..., :c], unconditional[..., :c], weight)
        extended: Array = xp.concatenate([mean, conditional[..., c:]], axis=-1)
        return extended

    return guided


def drop_labels(labels: IntArray, u: Array, *, null_label: int, probability: float) -> IntArray:
    """Return ``labels`` (N,), each replaced by ``null_label`` with ``probability``.

    Args:
        labels: (N,) of the images of a batch.
        u: (N,) uniforms in (0, 1); a label is dropped where u < probability.
        null_label: ∅.
        probability: p_uncond of Algorithm 1, in [0, 1].

    Raises:
        UsageError: ``probability`` is not in [0, 1], or there is not one u for each label.
    """
    if not 0.0 <= probability <= 1.0:
        raise UsageError("a probability lies in 0 ... 1", cause=f"probability = {probability}")
    if labels.shape != u.shape:
        raise UsageError(
            "labels and u must have one shape", cause=f"labels {labels.shape}, u {u.shape}"
        )
    return np.where(u < probability, null_label, _wide(labels))


def _wide(labels: IntArray) -> IntArray:
    """``labels`` as int64: those of 256 classes fit into a byte, and ∅ = 256 does not."""
    return labels.astype(np.int64)

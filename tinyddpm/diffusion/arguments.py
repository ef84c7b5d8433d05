"""Checks of the arguments that many functions of a chain share.

Each raises a ``UsageError`` that names what is wrong, or returns.
"""

from __future__ import annotations

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.errors import UsageError


def check_choice(name: str, choice: str, choices: tuple[str, ...]) -> None:
    """Raise unless ``choice`` is one of ``choices``.

    Raises:
        UsageError: naming those there are.
    """
    if choice not in choices:
        raise UsageError(f"unknown {name} {choice!r}", remedy=", ".join(choices))


def check_whole(name: str, number: int, *, least: int) -> None:
    """Raise unless ``number`` is an integer of at least ``least``.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(number, int | np.integer) or number < least:
        raise UsageError(
            f"{name} must be a whole number of at least {least}", cause=f"{name} = {number!r}"
        )


def check_images(**images: Array) -> None:
    """Raise unless all ``images`` are arrays (N, …), of one shape, of floating-point numbers.

    Raises:
        UsageError: naming the images that differ.
    """
    shapes = {name: getattr(x, "shape", type(x).__name__) for name, x in images.items()}
    if len(set(shapes.values())) > 1:
        raise UsageError(
            f"{', '.join(shapes)} must have one shape",
            cause=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
        )
    for name, x in images.items():
        if not getattr(x, "ndim", 0):
            raise UsageError(
                f"{name} must be an array of images (N, H, W, C)", cause=f"it is {shapes[name]}"
            )
    check_floats(**images)


def check_floats(**arrays: Array) -> None:
    """Raise unless all ``arrays`` are of floating-point numbers.

    Raises:
        UsageError: naming the first that is not.
    """
    for name, x in arrays.items():
        if x.dtype.kind not in "fc":
            raise UsageError(
                f"{name} must be floating-point numbers",
                cause=f"its dtype is {x.dtype}",
                remedy="scale bytes to [-1, 1] first",
            )


def check_times(t: int | IntArray, n: int, *, first: int, last: int) -> IntArray:
    """Return the times of ``n`` images, (n,), from one for all or one for each.

    Raises:
        UsageError: ``t`` is not of integers, not one or ``n``, or not within first … last.
    """
    times = np.asarray(t)
    if times.dtype.kind not in "iu":
        raise UsageError("t must be an integer or an array of them", cause=f"dtype {times.dtype}")
    if times.shape not in {(), (n,)}:
        raise UsageError(
            f"t must be one integer or one for each of the {n} images",
            cause=f"its shape is {times.shape}",
        )
    if times.size and (times.min() < first or times.max() > last):
        raise UsageError(
            f"t must lie in {first} ... {last}, counted as in the paper",
            cause=f"t from {times.min()} to {times.max()}",
        )
    return np.broadcast_to(times, (n,))


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise unless ``shape`` is one of images (N, H, W, C), or of anything else (N, …).

    Raises:
        UsageError: it is not.
    """
    sizes = np.asarray(shape)
    if sizes.ndim != 1 or not sizes.size or sizes.dtype.kind not in "iu" or sizes.min() < 0:
        raise UsageError("the shape of the images must be (N, H, W, C)", cause=f"got {shape!r}")


def check_model(model: object) -> None:
    """Raise unless ``model`` can be called.

    Raises:
        UsageError: it cannot. A UNet itself cannot: it counts time from 0 and returns two things.
    """
    if not callable(model):
        raise UsageError(
            "the model is a function of x_t and the paper's t, which gives the network's output",
            cause=f"got {type(model).__name__}",
            remedy="lambda xt, t: network.forward(xt, t - 1)[0] for a UNet",
        )

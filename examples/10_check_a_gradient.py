"""Write an op and its backward, and have the backward certified, or refused.

The op divides by the root mean square of the last axis (Zhang & Sennrich 2019, arXiv 1910.07467):

    y = x r,   r = (mean x² + norm_eps)^(−1/2)
    dx = r dy − r³ x mean(dy x)

The second term is the path through r. Without it every shape is right and the numbers nearly so.
The complex step, f(x + i h u)/h with h = 1e-30, subtracts nothing, so it knows the derivative to
the last digit. Claim: the right backward passes at 1e-11, and one that forgets r is refused.
"""

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.gradcheck.complex_step import Case, certify

Saved = tuple[Array, Array]  # x and r


def rms_norm(x: Array) -> tuple[Array, Saved]:
    """Forward: analytic, so no abs and no casts, and it takes complex numbers as they come."""
    r = ((x * x).mean(axis=-1, keepdims=True) + 1e-5) ** -0.5
    return x * r, (x, r)


def rms_norm_backward(dy: Array, saved: Saved) -> tuple[Array]:
    """One gradient for each input: here there is one."""
    x, r = saved
    return (r * dy - r**3 * x * (dy * x).mean(axis=-1, keepdims=True),)


def forgetful_backward(dy: Array, saved: Saved) -> tuple[Array]:
    """Takes r for a constant."""
    _, r = saved
    return (r * dy,)


x = np.random.default_rng(0).standard_normal((4, 64))
right = certify(Case("rms_norm", rms_norm, rms_norm_backward, (x,)))
wrong = certify(Case("rms_norm, forgetful", rms_norm, forgetful_backward, (x,)))

for certificate in (right, wrong):
    verdict = "holds" if certificate.holds else "REFUSED"
    print(f"{certificate.name:20s} relative error {certificate.error:.1e}   {verdict}")

assert right.holds
assert not wrong.holds

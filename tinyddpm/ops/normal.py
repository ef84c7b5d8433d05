"""The standard normal distribution: Φ, log Φ, d log Φ/dx and Φ⁻¹, to the last digits of float64.

Φ (W. J. Cody 1969, "Rational Chebyshev approximations for the error function", Math. Comp. 23, in
the form of his ANORM, Algorithm 715, ACM TOMS 19, 1993). With y = |x|:

    y ≤ 0.674…:   Φ(x)  = ½ + x A(x²)                      the two quartiles
    elsewhere:    Φ(−y) = exp(−½ y²) R(y)                  R the scaled tail, rational in y or 1/y²
                  Φ(y)  = 1 − Φ(−y)
    log Φ(−y)     = −½ y² + log R(y)                       finite where Φ has underflowed
    log Φ(y)      = log1p(−Φ(−y))                          live where Φ has rounded to 1
    d log Φ/dx    = φ(x) / Φ(x)                            at x = −y: 1 / (√(2π) R(y)), about y

Φ⁻¹ (M. J. Wichura 1988, Algorithm AS 241, PPND16, Applied Statistics 37): with q = u − ½,

    |q| ≤ 0.425:  x = q B(0.425² − q²)
    elsewhere:    x = ± C(r),   r = √(−log min(u, 1 − u))       one function to r = 5, one beyond

These are fitted functions, not formulas: no complex step goes through them. Their results have the
dtype of what they are given, or float64 where that is of integers.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from tinyddpm.arrays import Array, xp_of

Coefficients = tuple[float, ...]  # of a polynomial, highest power first

_QUARTILE = 0.67448975
_SQRT32 = math.sqrt(32.0)
_SQRT_2PI = math.sqrt(2.0 * math.pi)
_UNDERFLOW = 40.0  # exp(−½ 40²) = 0 in float64


def cdf(x: Array) -> Array:
    """Return Φ(x), elementwise: relative error 1e-14 down to Φ's underflow at −38."""
    xp = xp_of(x)
    z = x.astype(np.float64)
    outer = xp.where(z < 0, _tail(z, xp), 1.0 - _tail(z, xp))
    phi: Array = xp.where(xp.abs(z) < _QUARTILE, _between_quartiles(z, xp), outer)
    return phi.astype(_dtype(x))


def log_cdf(x: Array) -> Array:
    """Return log Φ(x), elementwise: relative error 1e-13 at any x.

    log Φ(−y) = −½ y² + log R(y), R the scaled tail of Cody 1969, so that it is finite where Φ has
    underflowed; log Φ(y) = log1p(−Φ(−y)).
    """
    xp = xp_of(x)
    z = x.astype(np.float64)
    # log R and −½ z² become −∞ far out, as they should.
    with np.errstate(divide="ignore", over="ignore"):
        left = -0.5 * z * z + xp.log(_scaled_tail(xp.abs(z), xp))
        outer = xp.where(z < 0, left, xp.log1p(-_tail(z, xp)))
        centre = xp.log(_between_quartiles(z, xp))
        log_phi: Array = xp.where(xp.abs(z) < _QUARTILE, centre, outer)
        return log_phi.astype(_dtype(x))


def log_cdf_derivative(x: Array) -> Array:
    """Return d log Φ/dx = φ(x)/Φ(x), the inverse Mills ratio, elementwise.

    It is positive wherever Φ is less than 1, and tends to −x in the far left tail, where φ and Φ
    themselves are zero.
    """
    xp = xp_of(x)
    z = x.astype(np.float64)
    y = xp.abs(z)
    with np.errstate(divide="ignore"):  # 1/R(∞) = ∞ is the limit
        left = 1.0 / _scaled_tail(y, xp)
    ratio = xp.where(z < -_QUARTILE, left, _exp_half_square(y, xp) / cdf(xp.maximum(z, -_QUARTILE)))
    derivative: Array = ratio / _SQRT_2PI
    return derivative.astype(_dtype(x))


def inverse_cdf(u: Array) -> Array:
    """Return Φ⁻¹(u), elementwise: relative error 1e-13 for every u in (0, 1).

    At 0 and 1 it is −∞ and ∞; outside [0, 1] it is NaN.
    """
    xp = xp_of(u)
    p = u.astype(np.float64)
    q = p - 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        r = xp.sqrt(-xp.log(xp.where(q < 0, p, 1.0 - p)))
    middle_r, far_r = xp.clip(r, 0.0, 5.0) - 1.6, xp.clip(r, 5.0, 30.0) - 5.0
    middle = _polynomial(_MIDDLE_OVER, middle_r) / _polynomial(_MIDDLE_UNDER, middle_r)
    far = _polynomial(_FAR_OVER, far_r) / _polynomial(_FAR_UNDER, far_r)
    outer = xp.sign(q) * xp.where(xp.isinf(r), np.inf, xp.where(r <= 5.0, middle, far))
    centre_r = 0.425**2 - xp.clip(q, -0.425, 0.425) ** 2
    centre = q * _polynomial(_CENTRE_OVER, centre_r) / _polynomial(_CENTRE_UNDER, centre_r)
    x: Array = xp.where(xp.abs(q) <= 0.425, centre, outer)
    return x.astype(_dtype(u))


def _dtype(x: Array) -> np.dtype[Any]:
    return x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)


def _between_quartiles(z: Array, xp: ModuleType) -> Array:
    """Φ(z) for |z| < 0.674…"""
    inside = xp.clip(z, -_QUARTILE, _QUARTILE)
    square = inside * inside
    phi: Array = 0.5 + inside * _polynomial(_CODY_A, square) / _polynomial(_CODY_B, square)
    return phi


def _tail(z: Array, xp: ModuleType) -> Array:
    """Φ(−|z|) for |z| > 0.674…"""
    y = xp.abs(z)
    return _exp_half_square(y, xp) * _scaled_tail(y, xp)


def _scaled_tail(y: Array, xp: ModuleType) -> Array:
    """R(y) = exp(½ y²) Φ(−y) for y > 0.674…"""
    near_y, far_y = xp.clip(y, _QUARTILE, _SQRT32), xp.maximum(y, _SQRT32)
    near = _polynomial(_CODY_C, near_y) / _polynomial(_CODY_D, near_y)
    s = (1.0 / far_y) ** 2
    far = (1.0 / _SQRT_2PI - s * _polynomial(_CODY_P, s) / _polynomial(_CODY_Q, s)) / far_y
    scaled: Array = xp.where(y <= _SQRT32, near, far)
    return scaled


def _exp_half_square(y: Array, xp: ModuleType) -> Array:
    """exp(−½ y²). Rounding y² would cost 3 digits at y = 38, so y is split: the square of a
    multiple of 1/16 is exact.
    """
    y = xp.minimum(y, _UNDERFLOW)
    head = xp.floor(16.0 * y) / 16.0
    exponential: Array = xp.exp(-0.5 * head * head) * xp.exp(-0.5 * (y - head) * (y + head))
    return exponential


def _polynomial(coefficients: Coefficients, x: Array) -> Array:
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


# fmt: off
_CODY_A: Coefficients = (
    0.065682337918207449113, 2.2352520354606839287, 161.02823106855587881, 1067.6894854603709582,
    18154.981253343561249,
)
_CODY_B: Coefficients = (
    1.0, 47.20258190468824187, 976.09855173777669322, 10260.932208618978205, 45507.789335026729956,
)
_CODY_C: Coefficients = (
    1.0765576773720192317e-8, 0.39894151208813466764, 8.8831497943883759412,
    93.506656132177855979, 597.27027639480026226, 2494.5375852903726711, 6848.1904505362823326,
    11602.651437647350124, 9842.7148383839780218,
)
_CODY_D: Coefficients = (
    1.0, 22.266688044328115691, 235.38790178262499861, 1519.377599407554805, 6485.558298266760755,
    18615.571640885098091, 34900.952721145977266, 38912.003286093271411, 19685.429676859990727,
)
_CODY_P: Coefficients = (
    0.02307344176494017303, 0.21589853405795699, 0.1274011611602473639, 0.022235277870649807,
    0.001421619193227893466, 2.9112874951168792e-5,
)
_CODY_Q: Coefficients = (
    1.0, 1.28426009614491121, 0.468238212480865118, 0.0659881378689285515, 0.00378239633202758244,
    7.29751555083966205e-5,
)
_CENTRE_OVER: Coefficients = (
    2.5090809287301226727e+3, 3.3430575583588128105e+4, 6.7265770927008700853e+4,
    4.5921953931549871457e+4, 1.3731693765509461125e+4, 1.9715909503065514427e+3,
    1.3314166789178437745e+2, 3.3871328727963666080,
)
_CENTRE_UNDER: Coefficients = (
    5.2264952788528545610e+3, 2.8729085735721942674e+4, 3.9307895800092710610e+4,
    2.1213794301586595867e+4, 5.3941960214247511077e+3, 6.8718700749205790830e+2,
    4.2313330701600911252e+1, 1.0,
)
_MIDDLE_OVER: Coefficients = (
    7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
    1.27045825245236838258, 3.64784832476320460504, 5.76949722146069140550,
    4.63033784615654529590, 1.42343711074968357734,
)
_MIDDLE_UNDER: Coefficients = (
    1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
    1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940,
    2.05319162663775882187, 1.0,
)
_FAR_OVER: Coefficients = (
    2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
    2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580,
    5.46378491116411436990, 6.65790464350110377720,
)
_FAR_UNDER: Coefficients = (
    2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
    7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
    5.99832206555887937690e-1, 1.0,
)
# fmt: on

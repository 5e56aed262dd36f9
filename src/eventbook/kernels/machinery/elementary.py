r"""Elementary functions on vectors of 16 float32 as short polynomials; complex products on pairs of vectors.

    exp        x = n ln 2 + r, |r| <= ln 2 / 2:   2^n (1 + r + r^2 p(r))
    turning    2^x e^(i pi y), y = n + r, |r| <= 1/2:   (-1)^n 2^x (cos pi r + i sin pi r)
    softplus   max(x, 0) + log1p(e^-|x|),         log1p(y) = 2 artanh(y / (2 + y))
    logistic   1 / (1 + e^-x)
    tanh       x + x^3 p(x^2) for |x| < 0.625,    else 1 - 2 / (1 + e^2x)

The library functions are correct to half a unit in the last place and cost seven times as much inside a
kernel, where they are called lane by lane. Measured against float64:

| function | error | domain |
|---|---|---|
| `exp` | 1.3e-7 relative | [-87, 88]; saturates outside at e^-87 and e^88 |
| `exp2_turning` | 2.5e-7 of the modulus | up to 2^22 half-turns |
| `softplus`, `logistic` | 2.5e-7 relative | all |
| `tanh` | 2.5e-7 relative | all |
| `expm1` | 2.5e-7 relative | up to 88 |

NaN gives NaN. Coefficients: minimax fits of our own (iteratively reweighted least squares, float64).
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

import numpy as np

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.vectors import (
    ROUNDER,
    absolute,
    maximum,
    negated_if_odd,
    splat,
    times_two_to,
    where,
)

_SHIFT = np.float32(ROUNDER)
_LOG2_E, _LN2_HIGH, _LN2_LOW = (
    np.float32(1.4426950408889634),
    np.float32(0.693359375),
    np.float32(-2.12194440e-4),
)
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)
_LOWEST_2, _HIGHEST_2 = np.float32(-126.0), np.float32(127.0)
_ONE, _TWO, _HALF, _PI = np.float32(1), np.float32(2), np.float32(0.5), np.float32(np.pi)


def _floats(*values):
    return tuple(np.float32(v) for v in values)


_EXP = _floats(0.49999994209, 0.16666431258, 0.04166800207, 0.008374155595, 0.001384365236)
_EXP2 = _floats(0.6931472029, 0.2402264791, 0.0555033247, 0.009618437366, 0.001339887487, 0.00015353360632)
_EXPM1 = _floats(0.16666667622, 0.04166586506, 0.008333111181, 0.001398149902, 0.0001998389934)
_SIN_PI = _floats(-5.167714077, 2.550125064, -0.5985125287, 0.07801217254)
_COS_PI = _floats(-4.934802156, 4.0587096, -1.335216105, 0.234953928, -0.02442070366)
_ARTANH = _floats(0.3333333781, 0.19999438888, 0.1430844199, 0.10713833, 0.1215045277)
_TANH = _floats(-0.33333283926, 0.13331491305, -0.05374349936, 0.02065059095, -0.00571704869)


@kernel(inline=True)
def exp(x):
    """e^x, saturating at e^-87 and e^88."""
    x = where(x < _LOWEST, splat(_LOWEST), x)
    x = where(x > _HIGHEST, splat(_HIGHEST), x)
    rounded = x * _LOG2_E + _SHIFT
    n = rounded - _SHIFT
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = ((((_EXP[4] * r + _EXP[3]) * r + _EXP[2]) * r + _EXP[1]) * r + _EXP[0]) * r + _ONE
    return times_two_to(p * r + _ONE, rounded)


@kernel(inline=True)
def exp2(x):
    """2^x, saturating at 2^-126 and 2^127."""
    x = where(x < _LOWEST_2, splat(_LOWEST_2), x)
    x = where(x > _HIGHEST_2, splat(_HIGHEST_2), x)
    rounded = x + _SHIFT
    r = x - (rounded - _SHIFT)
    p = ((((_EXP2[5] * r + _EXP2[4]) * r + _EXP2[3]) * r + _EXP2[2]) * r + _EXP2[1]) * r + _EXP2[0]
    return times_two_to(p * r + _ONE, rounded)


@kernel(inline=True)
def expm1(x):
    """e^x - 1, exact to rounding near 0, saturating at e^88."""
    p = (((_EXPM1[4] * x + _EXPM1[3]) * x + _EXPM1[2]) * x + _EXPM1[1]) * x + _EXPM1[0] * _ONE
    near = x + x * x * (p * x + _HALF)
    return where(absolute(x) < _HALF, near, exp(x) - _ONE)


@kernel(inline=True)
def exp2_turning(x, y):
    """2^x e^(i pi y) as (real, imaginary); x saturates as in `exp2`.

    In powers of two and half-turns rounding takes one subtraction each, and what it
    takes off is exact. Whole half-turns leave sine and cosine with one common sign,
    which the modulus carries.
    """
    rounded = y + _SHIFT
    r = y - (rounded - _SHIFT)
    q = r * r
    p = ((_SIN_PI[3] * q + _SIN_PI[2]) * q + _SIN_PI[1]) * q + _SIN_PI[0]
    c = ((_COS_PI[4] * q + _COS_PI[3]) * q + _COS_PI[2]) * q + _COS_PI[1]
    c = c * q + _COS_PI[0]
    modulus = negated_if_odd(exp2(x), rounded)
    return modulus * (c * q + _ONE), modulus * (r * (p * q + _PI))


@kernel(inline=True)
def softplus(x):
    """log(1 + e^x)."""
    y = exp(-absolute(x))
    s = y / (y + _TWO)
    q = s * s
    p = (((_ARTANH[4] * q + _ARTANH[3]) * q + _ARTANH[2]) * q + _ARTANH[1]) * q + _ARTANH[0]
    return maximum(splat(np.float32(0)), x) + _TWO * (s + s * (q * p))


@kernel(inline=True)
def logistic(x):
    """1 / (1 + e^-x)."""
    return _ONE / (exp(-x) + _ONE)


@kernel(inline=True)
def tanh(x):
    """Hyperbolic tangent."""
    q = x * x
    p = (((_TANH[4] * q + _TANH[3]) * q + _TANH[2]) * q + _TANH[1]) * q + _TANH[0]
    far = _ONE - _TWO / (exp(x * _TWO) + _ONE)
    return where(absolute(x) < np.float32(0.625), x + x * (q * p), far)


@kernel(inline=True)
def times(x, y):
    """Product of complex numbers given as (real, imaginary)."""
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


@kernel(inline=True)
def times_conjugate(x, y):
    """x conj(y) for complex numbers given as (real, imaginary)."""
    return x[0] * y[0] + x[1] * y[1], x[1] * y[0] - x[0] * y[1]


@kernel(inline=True)
def times_plus(x, y, z):
    """x y + z for complex numbers given as (real, imaginary)."""
    return z[0] + x[0] * y[0] - x[1] * y[1], z[1] + x[0] * y[1] + x[1] * y[0]


@kernel(inline=True)
def plus(x, y):
    """Sum of complex numbers given as (real, imaginary)."""
    return x[0] + y[0], x[1] + y[1]

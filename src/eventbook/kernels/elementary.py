r"""exp, sine and cosine, softplus, logistic and tanh on vectors of 16 float32, as short polynomials.

    exp        x = n ln 2 + r, |r| <= ln 2 / 2:   2^n (1 + r + r^2 p(r))
    sin, cos   x = n pi/2 + r, |r| <= pi/4:       odd and even polynomial, swapped and negated by n mod 4
    softplus   max(x, 0) + log1p(e^-|x|),         log1p(y) = 2 artanh(y / (2 + y))
    logistic   1 / (1 + e^-x)
    tanh       x + x^3 p(x^2) for |x| < 0.625,    else 1 - 2 / (1 + e^2x)

The library functions are correct to half a unit in the last place and cost seven times as much inside a
kernel, where they are called lane by lane. Measured against float64:

| function | error | domain |
|---|---|---|
| `exp` | 1.3e-7 relative | [-87, 88]; saturates outside at e^-87 and e^88 |
| `sin_cos` | 1.2e-7 absolute | up to 1e4; degrades beyond, as its argument does |
| `softplus`, `logistic` | 2.5e-7 relative | all |
| `tanh` | 2.5e-7 relative | all |
| `expm1` | 2.5e-7 relative | up to 88 |

NaN gives NaN. Coefficients: minimax fits of our own (iteratively reweighted least squares, float64).
"""
# mypy: disable-error-code="no-untyped-def"
# Kernels are typed by Numba, at every call.

import numpy as np

from eventbook.kernels.compile import kernel
from eventbook.kernels.vectors import (
    ROUNDER,
    absolute,
    is_odd,
    maximum,
    negated_by_halves,
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
_TWO_OVER_PI = np.float32(2 / np.pi)
# pi / 2 as a sum of three floats, each but the last with spare low bits: n times it is exact
_PI_1, _PI_2, _PI_3 = (
    np.float32(1.5703125),
    np.float32(4.837512969970703125e-4),
    np.float32(7.549789948768648e-8),
)
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)


def _floats(*values):
    return tuple(np.float32(v) for v in values)


_EXP = _floats(0.49999993453, 0.16666520688, 0.04166838741, 0.008368710035, 0.001381461110)
_EXPM1 = _floats(0.16666667622, 0.04166586506, 0.008333111181, 0.001398149902, 0.0001998389934)
_SIN = _floats(-0.16666654944, 0.008332178152, -0.00019517299658)
_COS = _floats(0.04166664686625, -0.00138873675, 2.44384508468e-5)
_ARTANH = _floats(0.3333333781, 0.19999438888, 0.1430844199, 0.10713833, 0.1215045277)
_TANH = _floats(-0.33333283926, 0.13331491305, -0.05374349936, 0.02065059095, -0.00571704869)


@kernel(inline=True)
def exp(x):
    """e^x, saturating at e^-87 and e^88."""
    x = where(x < _LOWEST, splat(_LOWEST), where(x > _HIGHEST, splat(_HIGHEST), x))
    rounded = x * _LOG2_E + _SHIFT
    n = rounded - _SHIFT
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = (((_EXP[4] * r + _EXP[3]) * r + _EXP[2]) * r + _EXP[1]) * r + _EXP[0]
    return times_two_to((p * r) * r + r + _ONE, rounded)


@kernel(inline=True)
def expm1(x):
    """e^x - 1, exact to rounding near 0, saturating at e^88."""
    p = (((_EXPM1[4] * x + _EXPM1[3]) * x + _EXPM1[2]) * x + _EXPM1[1]) * x + _EXPM1[0] * _ONE
    near = x + x * x * (p * x + _HALF)
    return where(absolute(x) < _HALF, near, exp(x) - _ONE)


@kernel(inline=True)
def sin_cos(x):
    """(sin x, cos x)."""
    rounded = x * _TWO_OVER_PI + _SHIFT
    n = rounded - _SHIFT
    r = ((x - n * _PI_1) - n * _PI_2) - n * _PI_3
    q = r * r
    sine = ((_SIN[2] * q + _SIN[1]) * q + _SIN[0]) * (q * r) + r
    cosine = ((_COS[2] * q + _COS[1]) * q + _COS[0]) * (q * q) + (_ONE - _HALF * q)
    odd = is_odd(rounded)
    return (
        negated_by_halves(where(odd, cosine, sine), rounded),
        negated_by_halves(where(odd, sine, cosine), rounded + _ONE),
    )


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

r"""Random numbers as a pure function of (key, counter): no state, no order, no table.

A key is derived from a seed and any number of integers (stream, step, purpose), a counter is what the
number is for, e.g. the flat index of a connection. The bits are

    bits(key, n) = mix(key + (n + 1) gamma)          mix: the finaliser of SplitMix64, gamma = 2^64 / golden
    ratio derive(key, n) = mix(mix(key) XOR (n + 1) gamma)

and from them: a uniform float (53 bits), an unbiased integer below n (multiply-shift with rejection), and a
normal

    nu = sqrt(-2 ln u) cos(2 pi v),   u = 40 bits in (0, 1],  v = 24 bits in [0, 1)     (Box and Muller).

Logarithm and cosine are short series without branches, so that LLVM turns a loop over connections into vector
code; both are exact to 1e-11 over their domain.

| symbol | meaning | name |
|---|---|---|
| s_k | sign of potential connection k, fixed for ever | `connection_sign(seed, k)` |
| nu | standard normal | `normal(key, counter)` |

Source: Steele, Lea and Flood, OOPSLA 2014 (SplitMix64); Lemire, ACM TOMACS 2019 (unbiased bounded integers).
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import door
from eventbook.kernels.machinery.indices import check_vectors, int64_vector

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)
_LOW_32 = np.uint64(0xFFFFFFFF)
_SIGN_STREAM = 0x5167  # keeps signs apart from every other use of the same seed
_LN2 = np.log(2.0)
_HALF_PI = np.pi / 2


@intrinsic
def _bits_of_float(typingctx, x):
    """The 64 bits of a float64 as an integer (a register move, hence vectorisable)."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(64))

    return types.uint64(types.float64), codegen


@intrinsic
def _float_of_bits(typingctx, x):
    """The float64 with the given 64 bits."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), codegen


@kernel(inline=True)
def mix(z):
    """Bijection of the 64-bit integers in which each input bit flips each output bit with probability 1/2."""
    z = np.uint64(z)
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@kernel(inline=True)
def derive(key, number):
    """A new key for sub-stream `number` of `key`."""
    return mix(mix(np.uint64(key)) ^ ((np.uint64(number) + _ONE) * _GAMMA))


@kernel(inline=True)
def random_bits(key, counter):
    """64 random bits, uint64."""
    return mix(np.uint64(key) + (np.uint64(counter) + _ONE) * _GAMMA)


@kernel(inline=True)
def uniform(key, counter):
    """Uniform float64 in [0, 1), a multiple of 2^-53."""
    return np.float64(np.int64(random_bits(key, counter) >> np.uint64(11))) * 2.0**-53


@kernel(inline=True)
def _multiply_high(a, b):
    """Upper 64 bits of the 128-bit product."""
    shift = np.uint64(32)
    a_low, a_high, b_low, b_high = a & _LOW_32, a >> shift, b & _LOW_32, b >> shift
    cross = a_high * b_low + ((a_low * b_low) >> shift)
    return a_high * b_high + (cross >> shift) + ((a_low * b_high + (cross & _LOW_32)) >> shift)


def _check_bound(n):
    if not 1 <= n < 2**63:
        raise ValueError(f"n must be an integer in [1, 2^63), got {n}")


def _check_numbered(index, out):
    int64_vector(index, "index")
    check_vectors(index=index, out=out)


@door(lambda key, counter, n: _check_bound(n))
@kernel(inline=True)
def uniform_below(key, counter, n):
    """Uniform int64 in [0, n) for n >= 1, without modulo bias."""
    size = np.uint64(n)
    bits = random_bits(key, counter)
    unfair = (np.uint64(0) - size) % size  # 2^64 mod n products have one pre-image too many
    attempt = 0
    while bits * size < unfair:
        bits = random_bits(derive(key, attempt), counter)
        attempt += 1
    return np.int64(_multiply_high(bits, size))


@kernel(inline=True)
def _log(x):
    """ln x for normal x > 0: exponent times ln 2, and the series of artanh around 1."""
    bits = _bits_of_float(x)
    mantissa = _float_of_bits((bits & np.uint64(0x000FFFFFFFFFFFFF)) | np.uint64(0x3FF0000000000000))
    exponent = np.float64(np.int64(bits >> np.uint64(52)) - 1023)
    upper = mantissa > 1.4142135623730951
    mantissa = mantissa * 0.5 if upper else mantissa
    exponent = exponent + 1.0 if upper else exponent
    s = (mantissa - 1.0) / (mantissa + 1.0)
    q = s * s
    series = 1.0 + q * (
        1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15))))))
    )
    return exponent * _LN2 + 2.0 * s * series


@kernel(inline=True)
def _sin_quarter_turns(y):
    """sin(y pi / 2) for |y| <= 1, by its Taylor series."""
    x = y * _HALF_PI
    q = x * x
    series = 1.0 - q / 6 * (
        1.0
        - q
        / 20
        * (
            1.0
            - q / 42 * (1.0 - q / 72 * (1.0 - q / 110 * (1.0 - q / 156 * (1.0 - q / 210 * (1.0 - q / 272)))))
        )
    )
    return x * series


@kernel(inline=True)
def normal(key, counter):
    """Standard normal float64."""
    bits = random_bits(key, counter)
    u = np.float64(np.int64(bits >> np.uint64(24)) + 1) * 2.0**-40
    v = np.float64(np.int64(bits & np.uint64(0xFFFFFF))) * 2.0**-24
    return np.sqrt(-2.0 * _log(u)) * _sin_quarter_turns(1.0 - 4.0 * abs(v - 0.5))


@kernel(inline=True)
def connection_sign(seed, flat_index):
    """Sign in {-1.0, +1.0} of a potential connection: a function of its flat index, stored nowhere."""
    return 1.0 - 2.0 * np.float64(
        np.int64(random_bits(derive(seed, _SIGN_STREAM), flat_index) >> np.uint64(63))
    )


@kernel()
def fill_bits(key, first, out):
    """out[i] = random_bits(key, first + i); out: (n,) uint64."""
    for i in range(out.size):
        out[i] = random_bits(key, first + i)


@kernel()
def fill_uniform(key, first, out):
    """out[i] = uniform(key, first + i); out: (n,) float64."""
    for i in range(out.size):
        out[i] = uniform(key, first + i)


@door(lambda key, first, n, out: _check_bound(n))
@kernel()
def fill_below(key, first, n, out):
    """out[i] = uniform_below(key, first + i, n); out: (n,) int64."""
    for i in range(out.size):
        out[i] = uniform_below(key, first + i, n)


@kernel()
def fill_normal(key, first, out):
    """out[i] = normal(key, first + i); out: (n,) float."""
    for i in range(out.size):
        out[i] = normal(key, first + i)


@door(lambda key, index, out: _check_numbered(index, out))
@kernel()
def normals_at(key, index, out):
    """out[k] = normal(key, index[k]); index: (K,) int64, out: (K,) float."""
    for k in range(index.size):
        out[k] = normal(key, index[k])


@door(lambda seed, index, out: _check_numbered(index, out))
@kernel()
def signs_at(seed, index, out):
    """out[k] = connection_sign(seed, index[k]); index: (K,) int64, out: (K,) float."""
    for k in range(index.size):
        out[k] = connection_sign(seed, index[k])

r"""What every event kernel is made of: find the events, add their rows, multiply needed rows with a vector.

    find(x)                 indices i with x_i != 0, ascending
    add_rows                y_j += sum_e v_e R[i_e, j]                  one row of outgoing weights per event
    dot_rows                m_i  = sum_j R[i, j] g_j for i in a list    what a source learns from its targets
    add_columns, dot_columns                                            the same with a few columns of R

Rows belong to sources, so a silent source costs nothing: its row is never read. A row is contiguous in
memory, and both directions walk it from front to back, so there is no transposed copy.

Single precision adds eight rows per pass over the accumulator, which is then loaded and stored an eighth as
often (measured at 1344 -> 4032, 10 % active: 35 us, against 78 us one by one and 38 us with the accumulator
held in registers, panel after panel, which tears each row into pieces). Each element still receives its terms
in ascending order of events: adding rows in one go or in several gives the same bits. `dot_rows` reads four
rows at a time, each with two accumulators of its own: a result does not depend on which rows are neighbours.

NaN is not 0 and hence an event. All products return the multiply-accumulates that they did, counted where
they happen. A matrix may be compressed by source instead: the same products by the same names, in
`compressed_rows`.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, unreachable, var-annotated"
# Kernels are typed by Numba, at every call.

import numpy as np
from numba import types
from numba.extending import overload

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.vectors import (
    LANES,
    lane_sum,
    load,
    load_part,
    lowest_bit,
    nonzero_bits,
    splat,
    store,
    store_part,
)

_ZERO, _ALL = np.float32(0), (1 << LANES) - 1


# --- events -------------------------------------------------------------------------------------------------


@kernel()
def _find_single(values, start, size, everything, index, value):
    """Sixteen sources at a time: what is silent costs a sixteenth of a comparison.

    Relies on room for `size` events.
    """
    whole, count = size // LANES * LANES, 0
    for i in range(0, size, LANES):
        if i < whole:
            bits = _ALL if everything else nonzero_bits(load(values, start + i))
        else:
            n = size - whole
            bits = (1 << n) - 1 if everything else nonzero_bits(load_part(values, start + i, n))
        while bits != 0:
            k = i + lowest_bit(bits)
            index[count] = k
            value[count] = values[start + k]
            count += 1
            bits &= bits - 1
    return count


@kernel()
def _find_plain(values, start, size, everything, index, value):
    """Relies on room for `size` events."""
    count = 0
    for i in range(size):
        if everything or values[start + i] != 0:
            index[count] = i
            value[count] = values[start + i]
            count += 1
    return count


def find(values, start, size, everything, index, value):
    """Write the events of values[start : start + size] to `index` and `value`; returns how many.

    With `everything` each element is an event, zero or not.
    """
    raise NotImplementedError("callable from kernels alone")


@overload(find)
def _find(values, start, size, everything, index, value):
    run = _find_single if values.dtype is types.float32 else _find_plain
    return lambda values, start, size, everything, index, value: run(
        values, start, size, everything, index, value
    )


# --- sum of rows -------------------------------------------------------------------------------------------


@kernel(inline=True)
def _add_eight(matrix, at, v, out):
    """Add eight rows, which begin at `at`, to the vector `out`."""
    whole = out.size // LANES * LANES
    a0, a1, a2, a3, a4, a5, a6, a7 = at
    v0, v1, v2, v3, v4, v5, v6, v7 = v
    for p in range(0, whole, LANES):
        s = load(out, p) + v0 * load(matrix, a0 + p) + v1 * load(matrix, a1 + p)
        s = s + v2 * load(matrix, a2 + p) + v3 * load(matrix, a3 + p)
        s = s + v4 * load(matrix, a4 + p) + v5 * load(matrix, a5 + p)
        store(out, p, s + v6 * load(matrix, a6 + p) + v7 * load(matrix, a7 + p))
    if whole < out.size:
        p, n = whole, out.size - whole
        s = load_part(out, p, n) + v0 * load_part(matrix, a0 + p, n) + v1 * load_part(matrix, a1 + p, n)
        s = s + v2 * load_part(matrix, a2 + p, n) + v3 * load_part(matrix, a3 + p, n)
        s = s + v4 * load_part(matrix, a4 + p, n) + v5 * load_part(matrix, a5 + p, n)
        s = s + v6 * load_part(matrix, a6 + p, n) + v7 * load_part(matrix, a7 + p, n)
        store_part(out, p, n, s)


@kernel(inline=True)
def _add_two(matrix, a0, a1, v0, v1, out):
    whole = out.size // LANES * LANES
    for p in range(0, whole, LANES):
        store(out, p, load(out, p) + v0 * load(matrix, a0 + p) + v1 * load(matrix, a1 + p))
    if whole < out.size:
        p, n = whole, out.size - whole
        s = load_part(out, p, n) + v0 * load_part(matrix, a0 + p, n) + v1 * load_part(matrix, a1 + p, n)
        store_part(out, p, n, s)


@kernel(inline=True)
def _add_one(matrix, a, v, out):
    whole = out.size // LANES * LANES
    for p in range(0, whole, LANES):
        store(out, p, load(out, p) + v * load(matrix, a + p))
    if whole < out.size:
        n = out.size - whole
        store_part(out, whole, n, load_part(out, whole, n) + v * load_part(matrix, a + whole, n))


@kernel()
def _add_single(matrix, stride, start, index, value, count, out):
    """Relies on rows that `find` wrote, of `stride` columns, and on an `out` that ends within them."""
    width = out.size
    done, e = 0, 0
    while e + 8 <= count:
        at = (
            start + index[e] * stride,
            start + index[e + 1] * stride,
            start + index[e + 2] * stride,
            start + index[e + 3] * stride,
            start + index[e + 4] * stride,
            start + index[e + 5] * stride,
            start + index[e + 6] * stride,
            start + index[e + 7] * stride,
        )
        v = (
            splat(value[e]),
            splat(value[e + 1]),
            splat(value[e + 2]),
            splat(value[e + 3]),
            splat(value[e + 4]),
            splat(value[e + 5]),
            splat(value[e + 6]),
            splat(value[e + 7]),
        )
        _add_eight(matrix, at, v, out)
        done += 8 * width
        e += 8
    while e + 2 <= count:
        v0, v1 = splat(value[e]), splat(value[e + 1])
        _add_two(matrix, start + index[e] * stride, start + index[e + 1] * stride, v0, v1, out)
        done += 2 * width
        e += 2
    if e < count:
        _add_one(matrix, start + index[e] * stride, splat(value[e]), out)
        done += width
    return done


@kernel()
def _add_double(matrix, stride, start, index, value, count, out):
    """Relies on rows that `find` wrote, of `stride` columns, and on an `out` that ends within them."""
    width, done = out.size, 0
    for e in range(count):
        at, v = start + index[e] * stride, value[e]
        for j in range(width):
            out[j] += v * matrix[at + j]
        done += width
    return done


def add_rows(matrix, index, value, count, out):
    """out += sum over e < count of value[e] * row index[e] of a flat matrix; returns multiply-accumulates."""
    raise NotImplementedError("callable from kernels alone")


@overload(add_rows)
def _add_rows(matrix, index, value, count, out):
    if not isinstance(matrix, types.Array):
        return None
    run = _add_single if matrix.dtype is types.float32 else _add_double
    return lambda matrix, index, value, count, out: run(matrix, out.size, 0, index, value, count, out)


def add_columns(matrix, stride, start, index, value, count, out):
    """As `add_rows` with columns start : start + out.size of rows that have `stride` of them."""
    raise NotImplementedError("callable from kernels alone")


@overload(add_columns)
def _add_columns(matrix, stride, start, index, value, count, out):
    if not isinstance(matrix, types.Array):
        return None
    run = _add_single if matrix.dtype is types.float32 else _add_double
    return lambda matrix, stride, start, index, value, count, out: run(
        matrix, stride, start, index, value, count, out
    )


# --- rows times a vector -----------------------------------------------------------------------------------


@kernel(inline=True)
def _finish(matrix, at, vector, even, odd):
    """What lies behind the last pair of whole vectors of a row; sum of everything."""
    whole = vector.size // LANES * LANES
    p = vector.size // (2 * LANES) * (2 * LANES)
    if p < whole:
        even = even + load(matrix, at + p) * load(vector, p)
    if whole < vector.size:
        n = vector.size - whole
        odd = odd + load_part(matrix, at + whole, n) * load_part(vector, whole, n)
    return lane_sum(even + odd)


@kernel()
def _dot_single(matrix, stride, start, index, count, vector, out):
    """Relies on rows that exist and hold `vector` from `start` on, and on an `out` with as many entries."""
    width = vector.size
    paired = width // (2 * LANES) * (2 * LANES)
    zero = splat(_ZERO)
    done, e = 0, 0
    while e + 4 <= count:
        a, b = start + index[e] * stride, start + index[e + 1] * stride
        c, d = start + index[e + 2] * stride, start + index[e + 3] * stride
        a0, a1, b0, b1, c0, c1, d0, d1 = zero, zero, zero, zero, zero, zero, zero, zero
        for p in range(0, paired, 2 * LANES):
            g0, g1 = load(vector, p), load(vector, p + LANES)
            a0, a1 = a0 + load(matrix, a + p) * g0, a1 + load(matrix, a + p + LANES) * g1
            b0, b1 = b0 + load(matrix, b + p) * g0, b1 + load(matrix, b + p + LANES) * g1
            c0, c1 = c0 + load(matrix, c + p) * g0, c1 + load(matrix, c + p + LANES) * g1
            d0, d1 = d0 + load(matrix, d + p) * g0, d1 + load(matrix, d + p + LANES) * g1
        out[index[e]] = _finish(matrix, a, vector, a0, a1)
        out[index[e + 1]] = _finish(matrix, b, vector, b0, b1)
        out[index[e + 2]] = _finish(matrix, c, vector, c0, c1)
        out[index[e + 3]] = _finish(matrix, d, vector, d0, d1)
        done += 4 * width
        e += 4
    while e < count:
        a, a0, a1 = start + index[e] * stride, zero, zero
        for p in range(0, paired, 2 * LANES):
            a0 = a0 + load(matrix, a + p) * load(vector, p)
            a1 = a1 + load(matrix, a + p + LANES) * load(vector, p + LANES)
        out[index[e]] = _finish(matrix, a, vector, a0, a1)
        done += width
        e += 1
    return done


@kernel()
def _dot_double(matrix, stride, start, index, count, vector, out):
    """Relies on rows that exist and hold `vector` from `start` on, and on an `out` with as many entries."""
    width, done = vector.size, 0
    for e in range(count):
        at, s = start + index[e] * stride, 0.0
        for j in range(width):
            s += matrix[at + j] * vector[j]
        out[index[e]] = s
        done += width
    return done


def dot_rows(matrix, index, count, vector, out):
    """out[index[e]] = row index[e] of a flat matrix . vector, e < count; returns multiply-accumulates."""
    raise NotImplementedError("callable from kernels alone")


@overload(dot_rows)
def _dot_rows(matrix, index, count, vector, out):
    if not isinstance(matrix, types.Array):
        return None
    run = _dot_single if matrix.dtype is types.float32 else _dot_double
    return lambda matrix, index, count, vector, out: run(matrix, vector.size, 0, index, count, vector, out)


def dot_columns(matrix, stride, start, index, count, vector, out):
    """As `dot_rows` with columns start : start + vector.size of rows that have `stride` of them."""
    raise NotImplementedError("callable from kernels alone")


@overload(dot_columns)
def _dot_columns(matrix, stride, start, index, count, vector, out):
    if not isinstance(matrix, types.Array):
        return None
    run = _dot_single if matrix.dtype is types.float32 else _dot_double
    return lambda matrix, stride, start, index, count, vector, out: run(
        matrix, stride, start, index, count, vector, out
    )


# --- what a weight takes up --------------------------------------------------------------------------------


def bytes_each(matrix):
    """Bytes read for each weight of a matrix."""
    raise NotImplementedError("callable from kernels alone")


@overload(bytes_each)
def _bytes_each(matrix):
    return (lambda matrix: matrix.itemsize) if isinstance(matrix, types.Array) else None


# --- one of several matrices that lie end to end -----------------------------------------------------------


def part(matrices, at, sources, width):
    """The matrix (source, width) that begins at a place; of compressed rows a place is a source."""
    raise NotImplementedError("callable from kernels alone")


@overload(part)
def _part(matrices, at, sources, width):
    if not isinstance(matrices, types.Array):
        return None
    return lambda matrices, at, sources, width: matrices[at : at + sources * width]

r"""The loop that runs a whole Event-SSM one event after another, compiled as one piece.

    for each event:  layer 0 takes the row of its token
        for each layer:  norm, input map, h <- exp(lambda s gap) h + g B u,  into the group
            group not full: next event
            group full:     output map, feed-through, gate, skip -> an event of the next layer
        last layer passed:  mean so far, scores

| symbol | meaning | shape | name |
|---|---|---|---|
| - | norm, drive and features of each token, side by side | (rows, 2 states + 2 d_in) flat | `table` |
| - | all other weights, end to end; widths padded with zeros to whole vectors | (weights,) | `weights` |
| - | sizes of each layer and where its weights and its memory begin | (layers, `FIELDS`) int64 | `plan` |
| h | real parts, then imaginary parts | (2 states,) | in `memory` at `STATE` |
| - | state kept of the group, sums of feed-through and skip | (2 states,), (d_in,) twice | `memory` |
| - | events in the group; sum of gaps, sum of weights | (layers,), (layers, 2) | `filled`, `sums` |
| - | sum over outputs, and of their weights | (width + 1,) float64 | `head` |

The loop is written once and compiled for two sets of parts: vectors of 16 float32 with the polynomials of
`eventbook.kernels.machinery.elementary`, and plain float64 with library functions. Nothing is checked here.

Source: derived from `layer`; the offline model is its oracle.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

import math
from enum import IntEnum

import numpy as np
from numba import types
from numba.extending import overload

from eventbook.kernels.encoders.pooling import LEAST_WEIGHT
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.elementary import exp2_turning, logistic, tanh
from eventbook.kernels.machinery.vectors import LANES, announce_load, lane_sum, load, splat, store
from eventbook.kernels.scans.event import IMAGINARY_UNIT, REAL_UNIT
from eventbook.models.event_ssm.norm import EPSILON

AHEAD = 4  # events whose rows are asked for before they are needed


class Field(IntEnum):
    """Columns of `plan`. Sizes are padded but for `WIDTH`, the true d_in; places are positions."""

    D_IN = 0
    D_OUT = 1
    STATES = 2
    STRIDE = 3
    WIDTH = 4
    REAL = 5  # weights: exponents of the decay, in the units of the parts
    IMAG = 6
    SLOPE = 7  # of the norm
    SHIFT = 8
    INTO = 9
    OUT = 10
    THROUGH = 11
    THROUGH_IS_MATRIX = 12
    GATE = 13
    GATE_BIAS = 14
    SKIP = 15
    SKIP_IS_MATRIX = 16
    SKIP_BIAS = 17
    STATE = 18  # memory
    KEPT = 19
    THROUGH_SUM = 20
    SKIPPED_SUM = 21


FIELDS = len(Field)
(
    D_IN, D_OUT, STATES, STRIDE, WIDTH, REAL, IMAG, SLOPE, SHIFT, INTO, OUT, THROUGH, THROUGH_IS_MATRIX,
    GATE, GATE_BIAS, SKIP, SKIP_IS_MATRIX, SKIP_BIAS, STATE, KEPT, THROUGH_SUM, SKIPPED_SUM,
) = map(int, Field)  # fmt: skip
LAST, AVERAGE, TIME = 0, 1, 2  # pooling
UNITS = {np.dtype(np.float32): (REAL_UNIT, IMAGINARY_UNIT), np.dtype(np.float64): (1.0, 1.0)}
_ROOT = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


# --- parts, in vectors of float32 --------------------------------------------------------------------------


def _product(x, start, n, weights, at, m, y):
    """y[:m] += x[start : start + n] @ W for W (n, m) at a place in the weights; n and m whole vectors.

    Two vectors of y at a time, each in four sums: a sum waits for its last addition before the next one.
    """
    for j in range(0, m - LANES, 2 * LANES):
        a, b = load(y, j), load(y, j + LANES)
        c = d = e = f = g = h = splat(np.float32(0))
        place = at + j
        for i in range(start, start + n, 4):
            a += x[i] * load(weights, place)
            b += x[i] * load(weights, place + LANES)
            c += x[i + 1] * load(weights, place + m)
            d += x[i + 1] * load(weights, place + m + LANES)
            e += x[i + 2] * load(weights, place + 2 * m)
            f += x[i + 2] * load(weights, place + 2 * m + LANES)
            g += x[i + 3] * load(weights, place + 3 * m)
            h += x[i + 3] * load(weights, place + 3 * m + LANES)
            place += 4 * m
        store(y, j, (a + c) + (e + g))
        store(y, j + LANES, (b + d) + (f + h))
    if m % (2 * LANES):
        j = m - LANES
        a = load(y, j)
        c = e = g = splat(np.float32(0))
        place = at + j
        for i in range(start, start + n, 4):
            a += x[i] * load(weights, place)
            c += x[i + 1] * load(weights, place + m)
            e += x[i + 2] * load(weights, place + 2 * m)
            g += x[i + 3] * load(weights, place + 3 * m)
            place += 4 * m
        store(y, j, (a + c) + (e + g))


def _copy(source, at, n, target, to):
    for i in range(0, n, LANES):
        store(target, to + i, load(source, at + i))


def _clear(target, to, n):
    for i in range(0, n, LANES):
        store(target, to + i, splat(np.float32(0)))


def _add(source, at, n, weight, target, to):
    """target += weight source."""
    for i in range(0, n, LANES):
        store(target, to + i, load(target, to + i) + weight * load(source, at + i))


def _norm(x, n, width, weights, slope, shift, over_channels, u):
    """Normalise x over its first `width` channels, or with given statistics folded into slope and shift."""
    mean, scale = np.float32(0), np.float32(1)
    if over_channels:
        total = splat(np.float32(0))
        for i in range(0, n, LANES):
            total += load(x, i)
        mean = lane_sum(total) / np.float32(width)
        squares = splat(np.float32(0))
        for i in range(0, n, LANES):
            away = load(x, i) - mean
            squares += away * away
        padding = np.float32(n - width) * mean * mean  # zeros, a mean away from it
        variance = (lane_sum(squares) - padding) / np.float32(width)
        scale = np.float32(1) / np.sqrt(variance + np.float32(EPSILON))
    for i in range(0, n, LANES):
        y = (load(x, i) - mean) * scale
        store(u, i, y * load(weights, slope + i) + load(weights, shift + i))


def _advance(memory, state, weights, real, imag, n, gap, drive, at, held):
    """h <- a h + drive with a = exp(lambda s gap), or a h + (a - 1) drive if `held`."""
    for p in range(0, n, LANES):
        a, b = exp2_turning(load(weights, real + p) * gap, load(weights, imag + p) * gap)
        x, y = load(drive, at + p), load(drive, at + n + p)
        if held:
            less = a - np.float32(1)
            x, y = less * x - b * y, less * y + b * x
        h, k = load(memory, state + p), load(memory, state + n + p)
        store(memory, state + p, a * h - b * k + x)
        store(memory, state + n + p, a * k + b * h + y)


def _gelu(y, n, g):
    for i in range(0, n, LANES):
        v = load(y, i)
        inner = (v + v * v * v * np.float32(_CUBIC)) * np.float32(_ROOT)
        store(g, i, v * (tanh(inner) + np.float32(1)) * np.float32(0.5))


def _gate(y, gate, n, x):
    """x += y sigmoid(gate)."""
    for i in range(0, n, LANES):
        store(x, i, load(x, i) + load(y, i) * logistic(load(gate, i)))


def _announce(table, row, width):
    for i in range(0, width, LANES):
        announce_load(table, row * width + i)


# --- parts, in plain float64 -------------------------------------------------------------------------------


def _product_double(x, start, n, weights, at, m, y):
    for i in range(n):
        for j in range(m):
            y[j] += x[start + i] * weights[at + i * m + j]


def _copy_double(source, at, n, target, to):
    for i in range(n):
        target[to + i] = source[at + i]


def _clear_double(target, to, n):
    for i in range(n):
        target[to + i] = 0


def _add_double(source, at, n, weight, target, to):
    for i in range(n):
        target[to + i] += weight * source[at + i]


def _norm_double(x, n, width, weights, slope, shift, over_channels, u):
    mean, scale = 0.0, 1.0
    if over_channels:
        for i in range(width):
            mean += x[i] / width
        variance = 0.0
        for i in range(width):
            variance += (x[i] - mean) ** 2 / width
        scale = 1 / np.sqrt(variance + EPSILON)
    for i in range(n):
        u[i] = (x[i] - mean) * scale * weights[slope + i] + weights[shift + i]


def _advance_double(memory, state, weights, real, imag, n, gap, drive, at, held):
    for p in range(n):
        lam = complex(weights[real + p], weights[imag + p])
        a, b = np.exp(lam * gap), complex(drive[at + p], drive[at + n + p])
        h = a * complex(memory[state + p], memory[state + n + p]) + ((a - 1) * b if held else b)
        memory[state + p], memory[state + n + p] = h.real, h.imag


def _gelu_double(y, n, g):
    for i in range(n):
        g[i] = 0.5 * y[i] * (1 + np.tanh(_ROOT * (y[i] + _CUBIC * y[i] ** 3)))


def _gate_double(y, gate, n, x):
    for i in range(n):
        x[i] += y[i] / (1 + np.exp(-gate[i]))


def _announce_double(table, row, width):
    pass


# --- the loop ----------------------------------------------------------------------------------------------


def _by_precision(single, double):
    """One name for two functions: the arrays that the loop is compiled for choose between them.

    The choice becomes part of the loop itself. Called, a part would be handed every array anew.
    """

    def part(*arguments):
        raise TypeError(f"{single.__name__} is callable from kernels alone")

    @overload(part, strict=False, jit_options={"error_model": "numpy", "forceinline": True})
    def chosen(*arguments):
        dtypes = {argument.dtype for argument in arguments if isinstance(argument, types.Array)}
        return double if types.float64 in dtypes else single

    return part


product = _by_precision(_product, _product_double)
copy = _by_precision(_copy, _copy_double)
clear = _by_precision(_clear, _clear_double)
add = _by_precision(_add, _add_double)
norm = _by_precision(_norm, _norm_double)
advance = _by_precision(_advance, _advance_double)
gelu = _by_precision(_gelu, _gelu_double)
gate = _by_precision(_gate, _gate_double)
announce = _by_precision(_announce, _announce_double)


@kernel()
def run(
    token, gap, table, weights, plan, memory, filled, sums, head, scratch, readout, scores, at,
    pooling, keeps_last, over_channels, held, by_time,
):  # fmt: skip
    """token: (event,); gap: (event,), milliseconds; readout: (width + 1, classes padded) flat, biases last.

    scratch: (4, widest); scores: (output, classes) and at: (output,), the event that each came with, are
    filled from the start. Returns their number. `memory`, `filled`, `sums`, `head` go on from call to call.
    """
    x, u, y, g = scratch[0], scratch[1], scratch[2], scratch[3]
    row_width = 2 * plan[0, STATES] + 2 * plan[0, D_IN]
    classes = readout.size // head.size
    written = 0
    for k in range(token.size):
        if k + AHEAD < token.size:
            announce(table, token[k + AHEAD], row_width)
        since = gap[k]
        arrived = True  # at the layer: false once a group is not full
        for layer in range(plan.shape[0]):
            d_in, d_out, n = plan[layer, D_IN], plan[layer, D_OUT], plan[layer, STATES]
            state, stride = plan[layer, STATE], plan[layer, STRIDE]
            real, imag = plan[layer, REAL], plan[layer, IMAG]
            if layer == 0:
                row = token[k] * row_width
                advance(memory, state, weights, real, imag, n, since, table, row, held)
            else:
                norm(
                    x, d_in, plan[layer, WIDTH], weights,
                    plan[layer, SLOPE], plan[layer, SHIFT], over_channels, u,
                )  # fmt: skip
                clear(y, 0, 2 * n)
                product(u, 0, d_in, weights, plan[layer, INTO], 2 * n, y)
                advance(memory, state, weights, real, imag, n, since, y, 0, held)
            # into the group
            through, skipped = plan[layer, THROUGH_SUM], plan[layer, SKIPPED_SUM]
            member = filled[layer]
            if member == 0:
                clear(memory, through, d_in)
                clear(memory, skipped, d_in)
                sums[layer, 0], sums[layer, 1] = 0, 0
            kept = member == (stride - 1 if keeps_last else 0)
            if kept:
                copy(memory, state, 2 * n, memory, plan[layer, KEPT])
            weight = since + sums.dtype.type(LEAST_WEIGHT) if pooling == TIME else sums.dtype.type(1)
            if kept or pooling != LAST:
                if layer == 0:
                    add(table, row + 2 * n, d_in, weight, memory, through)
                    add(table, row + 2 * n + d_in, d_in, weight, memory, skipped)
                else:
                    add(u, 0, d_in, weight, memory, through)
                    add(x, 0, d_in, weight, memory, skipped)
                sums[layer, 1] += weight
            sums[layer, 0] += since
            filled[layer] = member + 1
            if member + 1 < stride:
                arrived = False
                break
            filled[layer] = 0
            # a group: one event for the next layer
            since = sums[layer, 0]
            share = sums.dtype.type(1) / sums[layer, 1]
            clear(y, 0, d_out)
            product(memory, plan[layer, KEPT], 2 * n, weights, plan[layer, OUT], d_out, y)
            clear(u, 0, d_in)
            add(memory, through, d_in, share, u, 0)
            if plan[layer, THROUGH_IS_MATRIX]:
                product(u, 0, d_in, weights, plan[layer, THROUGH], d_out, y)
            else:
                for i in range(d_out):
                    y[i] += weights[plan[layer, THROUGH] + i] * u[i]
            clear(u, 0, d_in)
            add(memory, skipped, d_in, share, u, 0)
            if plan[layer, SKIP_IS_MATRIX]:
                copy(weights, plan[layer, SKIP_BIAS], d_out, x, 0)
                product(u, 0, d_in, weights, plan[layer, SKIP], d_out, x)
            else:
                copy(u, 0, d_in, x, 0)
            gelu(y, d_out, g)
            copy(weights, plan[layer, GATE_BIAS], d_out, u, 0)
            product(g, 0, d_out, weights, plan[layer, GATE], d_out, u)
            gate(y, u, d_out, x)
        if arrived:
            weight = since + LEAST_WEIGHT if by_time else 1.0
            width = head.size - 1
            head[width] += weight
            share = 1 / head[width]
            for i in range(width):
                head[i] += weight * x[i]
                g[i] = head[i] * share
            copy(readout, width * classes, classes, y, 0)
            product(g, 0, width, readout, 0, classes, y)
            for c in range(scores.shape[1]):
                scores[written, c] = y[c]
            at[written] = k
            written += 1
    return written

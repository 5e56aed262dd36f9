r"""The loop that runs a whole Event-SSM one event after another, compiled as one piece.

    for each block of events:  layer 0 takes the rows of their tokens
        for each layer:  norm, input map
            for each event:  h <- exp(lambda s gap) h + g B u,  into the group
                group full: its state and means -> an event of the next layer
            output map, feed-through, gate, skip
        last layer passed:  for each event  mean so far, scores

A layer takes up to `BLOCK` events before the next one does, so that products share their weights and nothing
waits for one event's way through all layers. An event's numbers do not depend on the others of its block:
the same operations in the same order, however a stream is cut.

| symbol | meaning | shape | name |
|---|---|---|---|
| - | norm, drive and features of each token, side by side | (rows, 2 states + 2 d_in) flat | `table` |
| - | all other weights, end to end; widths padded with zeros to whole vectors | (weights,) | `weights` |
| - | sizes of each layer and where its weights and its memory begin | (layers, `FIELDS`) int64 | `plan` |
| h | real parts, then imaginary parts | (2 states,) | in `memory` at `STATE` |
| - | state kept of the group, sums of feed-through and skip | (2 states,), (d_in,) twice | `memory` |
| - | events in the group; sum of gaps, sum of weights | (layers,), (layers, 2) | `filled`, `sums` |
| - | sum over outputs, and of their weights | (width + 1,) float64 | `head` |

The loop is written once and compiled with one of two sets of parts: vectors of 16 float32 with the
polynomials of `eventbook.kernels.machinery.elementary`, and plain float64 with library functions. Nothing is
checked here.

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
from eventbook.kernels.machinery.doors import inside
from eventbook.kernels.machinery.elementary import exp2_turning, logistic, tanh
from eventbook.kernels.machinery.vectors import LANES, announce_load, lane_sum, load, splat, store
from eventbook.kernels.scans.event import IMAGINARY_UNIT, REAL_UNIT
from eventbook.models.event_ssm.norm import EPSILON

BLOCK = 32  # events that a layer takes before the next one does
AHEAD = 8  # events whose rows are asked for before they are needed


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


@inside
@kernel(inline=True)
def at_place(x, i):
    """x[i] for i >= 0; Python's reading of a negative one costs as much as the multiplication after it."""
    return x[np.uintp(i)]


def _product(x, rows, n, weights, at, m, y):
    """y += x @ W for x (rows, n), y (rows, m) and W (n, m) at a place in the weights; n and m whole vectors.

    Four rows share each load of the weights. Every number of y is two sums, over even and odd members, added
    in the end: a sum waits for its last addition before the next one. It does not depend on the other rows.
    """
    whole = rows // 4 * 4
    for r in range(0, whole, 4):
        for j in range(0, m, LANES):
            first, second, third, fourth = r * m + j, (r + 1) * m + j, (r + 2) * m + j, (r + 3) * m + j
            a, b, c, d = load(y, first), load(y, second), load(y, third), load(y, fourth)
            e = f = g = h = splat(np.float32(0))
            place = at + j
            for i in range(r * n, (r + 1) * n, 2):
                w, v = load(weights, place), load(weights, place + m)
                a += at_place(x, i) * w
                b += at_place(x, i + n) * w
                c += at_place(x, i + 2 * n) * w
                d += at_place(x, i + 3 * n) * w
                e += at_place(x, i + 1) * v
                f += at_place(x, i + 1 + n) * v
                g += at_place(x, i + 1 + 2 * n) * v
                h += at_place(x, i + 1 + 3 * n) * v
                place += 2 * m
            store(y, first, a + e)
            store(y, second, b + f)
            store(y, third, c + g)
            store(y, fourth, d + h)
    for r in range(whole, rows):
        for j in range(0, m, LANES):
            a, e = load(y, r * m + j), splat(np.float32(0))
            place = at + j
            for i in range(r * n, (r + 1) * n, 2):
                a += at_place(x, i) * load(weights, place)
                e += at_place(x, i + 1) * load(weights, place + m)
                place += 2 * m
            store(y, r * m + j, a + e)


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


def _add_product(source, at, n, weights, place, target, to):
    """target += weights source, elementwise."""
    for i in range(0, n, LANES):
        store(target, to + i, load(target, to + i) + load(weights, place + i) * load(source, at + i))


def _norm(x, start, n, width, weights, slope, shift, over_channels, u):
    """Normalise a row over its first `width` channels, or with statistics folded into slope and shift."""
    mean, scale = np.float32(0), np.float32(1)
    if over_channels:
        total = splat(np.float32(0))
        for i in range(0, n, LANES):
            total += load(x, start + i)
        mean = lane_sum(total) / np.float32(width)
        squares = splat(np.float32(0))
        for i in range(0, n, LANES):
            away = load(x, start + i) - mean
            squares += away * away
        padding = np.float32(n - width) * mean * mean  # zeros, a mean away from it
        variance = (lane_sum(squares) - padding) / np.float32(width)
        scale = np.float32(1) / np.sqrt(variance + np.float32(EPSILON))
    for i in range(0, n, LANES):
        y = (load(x, start + i) - mean) * scale
        store(u, start + i, y * load(weights, slope + i) + load(weights, shift + i))


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


def _product_double(x, rows, n, weights, at, m, y):
    for r in range(rows):
        for i in range(n):
            for j in range(m):
                y[r * m + j] += x[r * n + i] * weights[at + i * m + j]


def _copy_double(source, at, n, target, to):
    for i in range(n):
        target[to + i] = source[at + i]


def _clear_double(target, to, n):
    for i in range(n):
        target[to + i] = 0


def _add_double(source, at, n, weight, target, to):
    for i in range(n):
        target[to + i] += weight * source[at + i]


def _add_product_double(source, at, n, weights, place, target, to):
    for i in range(n):
        target[to + i] += weights[place + i] * source[at + i]


def _norm_double(x, start, n, width, weights, slope, shift, over_channels, u):
    mean, scale = 0.0, 1.0
    if over_channels:
        for i in range(width):
            mean += x[start + i] / width
        variance = 0.0
        for i in range(width):
            variance += (x[start + i] - mean) ** 2 / width
        scale = 1 / np.sqrt(variance + EPSILON)
    for i in range(n):
        u[start + i] = (x[start + i] - mean) * scale * weights[slope + i] + weights[shift + i]


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
add_product = _by_precision(_add_product, _add_product_double)
norm = _by_precision(_norm, _norm_double)
advance = _by_precision(_advance, _advance_double)
gelu = _by_precision(_gelu, _gelu_double)
gate = _by_precision(_gate, _gate_double)
announce = _by_precision(_announce, _announce_double)


@inside
@kernel()
def run(
    token, gap, table, weights, plan, memory, filled, sums, head, scratch, readout, scores, at,
    pooling, keeps_last, over_channels, held, by_time,
):  # fmt: skip
    """token: (event,); gap: (event,), milliseconds; readout: (width + 1, classes padded) flat, biases last.

    scratch: (4, BLOCK x widest); scores: (output, classes) and at: (output,), the event that each came with,
    are filled from the start. Returns their number. `memory`, `filled`, `sums`, `head` go on from call to
    call. Relies on tokens that have a row, on a plan that fits weights and memory, and on room for all
    outputs.
    """
    x, u, y, g = scratch[0], scratch[1], scratch[2], scratch[3]
    row_width = 2 * plan[0, STATES] + 2 * plan[0, D_IN]
    width = head.size - 1
    classes = readout.size // head.size
    since, came = np.empty(BLOCK, gap.dtype), np.empty(BLOCK, np.int64)
    written = 0
    for begin in range(0, token.size, BLOCK):
        rows = min(BLOCK, token.size - begin)
        for k in range(rows):
            since[k], came[k] = gap[begin + k], begin + k
        for layer in range(plan.shape[0]):
            d_in, d_out, n = plan[layer, D_IN], plan[layer, D_OUT], plan[layer, STATES]
            state, stride = plan[layer, STATE], plan[layer, STRIDE]
            real, imag = plan[layer, REAL], plan[layer, IMAG]
            if layer > 0:
                for k in range(rows):
                    norm(
                        x, k * d_in, d_in, plan[layer, WIDTH], weights,
                        plan[layer, SLOPE], plan[layer, SHIFT], over_channels, u,
                    )  # fmt: skip
                clear(y, 0, rows * 2 * n)
                product(u, rows, d_in, weights, plan[layer, INTO], 2 * n, y)
            # one event after another, into groups
            through, skipped = plan[layer, THROUGH_SUM], plan[layer, SKIPPED_SUM]
            groups = 0
            for k in range(rows):
                row = token[begin + k] * row_width if layer == 0 else 0
                if layer == 0:
                    if begin + k + AHEAD < token.size:
                        announce(table, token[begin + k + AHEAD], row_width)
                    advance(memory, state, weights, real, imag, n, since[k], table, row, held)
                else:
                    advance(memory, state, weights, real, imag, n, since[k], y, k * 2 * n, held)
                member = filled[layer]
                if member == 0:
                    clear(memory, through, d_in)
                    clear(memory, skipped, d_in)
                    sums[layer, 0], sums[layer, 1] = 0, 0
                kept = member == (stride - 1 if keeps_last else 0)
                if kept:
                    copy(memory, state, 2 * n, memory, plan[layer, KEPT])
                weight = since[k] + sums.dtype.type(LEAST_WEIGHT) if pooling == TIME else sums.dtype.type(1)
                if kept or pooling != LAST:
                    if layer == 0:
                        add(table, row + 2 * n, d_in, weight, memory, through)
                        add(table, row + 2 * n + d_in, d_in, weight, memory, skipped)
                    else:
                        add(u, k * d_in, d_in, weight, memory, through)
                        add(x, k * d_in, d_in, weight, memory, skipped)
                    sums[layer, 1] += weight
                sums[layer, 0] += since[k]
                filled[layer] = member + 1
                if member + 1 == stride:  # a group: one event for the next layer, in a place that was read
                    share = sums.dtype.type(1) / sums[layer, 1]
                    copy(memory, plan[layer, KEPT], 2 * n, g, groups * 2 * n)
                    clear(u, groups * d_in, d_in)
                    add(memory, through, d_in, share, u, groups * d_in)
                    clear(x, groups * d_in, d_in)
                    add(memory, skipped, d_in, share, x, groups * d_in)
                    since[groups], came[groups] = sums[layer, 0], came[k]
                    filled[layer] = 0
                    groups += 1
            rows = groups
            # all groups of the block at once
            clear(y, 0, rows * d_out)
            product(g, rows, 2 * n, weights, plan[layer, OUT], d_out, y)
            if plan[layer, THROUGH_IS_MATRIX]:
                product(u, rows, d_in, weights, plan[layer, THROUGH], d_out, y)
            else:
                for k in range(rows):
                    add_product(u, k * d_out, d_out, weights, plan[layer, THROUGH], y, k * d_out)
            if plan[layer, SKIP_IS_MATRIX]:
                for k in range(rows):
                    copy(weights, plan[layer, SKIP_BIAS], d_out, u, k * d_out)
                product(x, rows, d_in, weights, plan[layer, SKIP], d_out, u)
                copy(u, 0, rows * d_out, x, 0)
            gelu(y, rows * d_out, g)
            for k in range(rows):
                copy(weights, plan[layer, GATE_BIAS], d_out, u, k * d_out)
            product(g, rows, d_out, weights, plan[layer, GATE], d_out, u)
            gate(y, u, rows * d_out, x)
        # outputs
        for k in range(rows):
            weight = since[k] + LEAST_WEIGHT if by_time else 1.0
            features, mean = x[k * width : (k + 1) * width], g[k * width : (k + 1) * width]
            head[width] += weight
            share = 1 / head[width]
            for i in range(width):
                head[i] += weight * features[i]
                mean[i] = head[i] * share
            copy(readout, width * classes, classes, y, k * classes)
        product(g, rows, width, readout, 0, classes, y)
        for k in range(rows):
            for c in range(scores.shape[1]):
                scores[written, c] = y[k * classes + c]
            at[written] = came[k]
            written += 1
    return written

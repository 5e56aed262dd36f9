r"""The forward kernel of the event-based GRU: one step costs one row of R per unit that spoke.

    q_t = b_r + sum over i with y_{t-1,i} != 0:  y_{t-1,i} R[i]
    z = sig(p_z + q_z)    r = sig(p_r + q_r)    g = tanh(p_g + r q_g)
    c_t = z h_{t-1} + (1 - z) g  [- y_{t-1} with reset "paper"]
    y_t = c_t where it exceeds theta, else 0;   h_t = c_t, less what an event takes away

With the reset gate before the recurrent matrix, a step has two rounds: r of every unit is known only when the
events have been added up, and then each event is sent a second time, scaled by the r of its sender:

    q_t,zr = b_r + sum over events: y_i R[i, zr]        r = sig(p_r + q_r)
    q_t,g  = b_r + sum over events: (r_i y_i) R[i, g]   g = tanh(p_g + q_g)

Two values an event, but each weight of its row is read once, as before: 2 H of them, then H.

Symbols and names: `eventbook.kernels.events.egru`. Which reset is meant enters as data, as two lane masks and
the vector `removed`, so that all resets run the same code and none of them costs a branch; so does the place
of the reset gate.

A state that is NaN is not below its threshold: it fires, and its NaN travels.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, unreachable, var-annotated"
# Kernels are typed by Numba, at every call.

import numpy as np
from numba import types
from numba.extending import overload

from eventbook.kernels.events.counters import BYTES, EVENTS, MACS
from eventbook.kernels.events.rows import add_columns, add_rows, bytes_each, find
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import inside
from eventbook.kernels.machinery.elementary import logistic, tanh
from eventbook.kernels.machinery.vectors import LANES, load, load_part, splat, store, store_part, where

_ZERO, _ONE = np.float32(0), np.float32(1)


@kernel(inline=True)
def _cell(p, q, carry, before, theta, removed, by_value, outside, gated):
    """(z, r, g, c, y, h) of sixteen units; `gated` where q_g holds the reset gate already."""
    z, r = logistic(p[0] + q[0]), logistic(p[1] + q[1])
    g = tanh(p[2] + where(gated, splat(_ONE), r) * q[2])
    c = z * carry + (_ONE - z) * g
    c = where(outside, c - before, c)
    silent = c <= theta
    y = where(silent, splat(_ZERO), c)
    return z, r, g, c, y, where(silent, c, c - where(by_value, c, removed))


@kernel()
def _advance_single(
    drive, t, q, carry, previous, threshold, removed, by_value, outside, gated, output, state, gates, cross
):  # fmt: skip
    units = threshold.size
    whole, n = units // LANES * LANES, units % LANES
    at, gate = t * units, 3 * t * units
    value_mask = splat(_ZERO) < splat(np.float32(by_value))
    outside_mask = splat(_ZERO) < splat(np.float32(outside))
    gated_mask = splat(_ZERO) < splat(np.float32(gated))
    for i in range(0, whole, LANES):
        p = load(drive, gate + i), load(drive, gate + units + i), load(drive, gate + 2 * units + i)
        qg = load(q, 2 * units + i)
        z, r, g, c, y, h = _cell(
            p, (load(q, i), load(q, units + i), qg), load(carry, i), load(previous, i),
            load(threshold, i), load(removed, i), value_mask, outside_mask, gated_mask,
        )  # fmt: skip
        store(gates, gate + i, z)
        store(gates, gate + units + i, r)
        store(gates, gate + 2 * units + i, g)
        store(cross, at + i, qg)
        store(state, at + i, c)
        store(output, at + i, y)
        store(previous, i, y)
        store(carry, i, h)
    if n:
        i = whole
        p = (
            load_part(drive, gate + i, n),
            load_part(drive, gate + units + i, n),
            load_part(drive, gate + 2 * units + i, n),
        )
        qg = load_part(q, 2 * units + i, n)
        z, r, g, c, y, h = _cell(
            p, (load_part(q, i, n), load_part(q, units + i, n), qg), load_part(carry, i, n),
            load_part(previous, i, n), load_part(threshold, i, n), load_part(removed, i, n),
            value_mask, outside_mask, gated_mask,
        )  # fmt: skip
        store_part(gates, gate + i, n, z)
        store_part(gates, gate + units + i, n, r)
        store_part(gates, gate + 2 * units + i, n, g)
        store_part(cross, at + i, n, qg)
        store_part(state, at + i, n, c)
        store_part(output, at + i, n, y)
        store_part(previous, i, n, y)
        store_part(carry, i, n, h)


@kernel()
def _advance_double(
    drive, t, q, carry, previous, threshold, removed, by_value, outside, gated, output, state, gates, cross
):  # fmt: skip
    units = threshold.size
    at, gate = t * units, 3 * t * units
    for i in range(units):
        z = 1 / (1 + np.exp(-(drive[gate + i] + q[i])))
        r = 1 / (1 + np.exp(-(drive[gate + units + i] + q[units + i])))
        qg = q[2 * units + i]
        g = np.tanh(drive[gate + 2 * units + i] + (qg if gated else r * qg))
        c = z * carry[i] + (1 - z) * g
        if outside:
            c -= previous[i]
        fires = not (c <= threshold[i])
        gates[gate + i], gates[gate + units + i], gates[gate + 2 * units + i] = z, r, g
        cross[at + i] = qg
        state[at + i] = c
        output[at + i] = previous[i] = c if fires else 0.0
        carry[i] = c - (c if by_value else removed[i]) if fires else c


def advance(
    drive, t, q, carry, previous, threshold, removed, by_value, outside, gated, output, state, gates, cross
):  # fmt: skip
    """Everything of step t that is elementwise."""
    raise NotImplementedError("callable from kernels alone")


@overload(advance)
def _(
    drive, t, q, carry, previous, threshold, removed, by_value, outside, gated, output, state, gates, cross
):  # fmt: skip
    step = _advance_single if drive.dtype is types.float32 else _advance_double

    def run(
        drive, t, q, carry, previous, threshold, removed, by_value, outside, gated, output, state, gates,
        cross,
    ):  # fmt: skip
        step(
            drive, t, q, carry, previous, threshold, removed, by_value, outside, gated, output, state, gates,
            cross,
        )  # fmt: skip

    return run


@kernel()
def _gate_single(drive, at, q, start, value, out):
    """out = r value of all units, r = sig(p_r + q_r), with p_r at `at` and q_r at `start`."""
    units = out.size
    whole, n = units // LANES * LANES, units % LANES
    for i in range(0, whole, LANES):
        r = logistic(load(drive, at + i) + load(q, start + i))
        store(out, i, r * load(value, i))
    if n:
        i = whole
        r = logistic(load_part(drive, at + i, n) + load_part(q, start + i, n))
        store_part(out, i, n, r * load_part(value, i, n))


@kernel()
def _gate_double(drive, at, q, start, value, out):
    for i in range(out.size):
        out[i] = value[i] / (1 + np.exp(-(drive[at + i] + q[start + i])))


def _gate(drive, at, q, start, value, out):
    raise NotImplementedError("callable from kernels alone")


@overload(_gate)
def _(drive, at, q, start, value, out):
    run = _gate_single if drive.dtype is types.float32 else _gate_double
    return lambda drive, at, q, start, value, out: run(drive, at, q, start, value, out)


@inside
@kernel()
def receive(drive, t, recurrent, previous, events, index, value, gated, q, scaled):
    """Add to q, which holds the bias, what the events of the step before sent; returns multiply-accumulates.

    `index` and `value` hold the events of `previous`; `scaled`: room for one number a unit. Relies on events
    that `find` wrote, of units that have a row.
    """
    if not gated:
        return add_rows(recurrent, index, value, events, q)
    units = previous.size
    done = add_columns(recurrent, 3 * units, 0, index, value, events, q[: 2 * units])
    _gate(drive, (3 * t + 1) * units, q, units, previous, scaled)
    for e in range(events):
        value[e] = scaled[index[e]]
    return done + add_columns(recurrent, 3 * units, 2 * units, index, value, events, q[2 * units :])


@kernel()
def forward(
    drive, output, state, gates, cross, carry, first, lengths, counts,
    recurrent, bias, threshold, removed, by_value, outside, gated, everything,
):  # fmt: skip
    """Run all steps of some batch rows.

    drive, gates: (batch, time * 3 H); output, state, cross: (batch, time * H); carry: (batch, H), h_0 on
    entry and the last h on return; first: (batch, H), y_0; lengths: (batch,), steps of each row, behind which
    output and state are 0; recurrent: flat, or `CompressedRows`. With `everything` the rows of silent units
    are read as well, from the second step on (the dense path needs no product with y_0 = 0 either).
    """
    units = threshold.size
    index, value = np.empty(units, np.int64), np.empty(units, drive.dtype)
    q, previous = np.empty(3 * units, drive.dtype), np.empty(units, drive.dtype)
    scaled, each = np.empty(units, drive.dtype), bytes_each(recurrent)
    for row in range(drive.shape[0]):
        previous[:] = first[row]
        for t in range(lengths[row]):
            q[:] = bias
            events = find(previous, 0, units, everything and t > 0, index, value)
            done = receive(drive[row], t, recurrent, previous, events, index, value, gated, q, scaled)
            counts[row, EVENTS] += events
            counts[row, MACS] += done
            counts[row, BYTES] += done * each
            advance(
                drive[row], t, q, carry[row], previous, threshold, removed, by_value, outside, gated,
                output[row], state[row], gates[row], cross[row],
            )  # fmt: skip
        end = lengths[row] * units
        output[row, end:] = 0
        state[row, end:] = 0
        cross[row, end:] = 0
        gates[row, 3 * end :] = 0

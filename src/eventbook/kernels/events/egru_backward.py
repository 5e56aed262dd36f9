r"""The backward kernel of the event-based GRU: messages arrive only where a gradient may pass.

With the gradients dy_t (which reaches the output), dh_t (the carried state), ex_t (the state before it):

    do = c dy - a dh              a = what an event takes away: theta, c or 0
    psi = gamma max(0, 1 - beta |c - theta|)
    dc = ex + dh + o (dy - v dh) + psi do                                           v = 1 if a = c, else 0
    dtheta += -psi do - o dh [the last term if a = theta]
    dg' = (1 - g^2)(1 - z) dc     dz' = (h_{t-1} - g) dc z (1 - z)     dr' = dg' q_g r (1 - r)
    dp = (dz', dr', dg')          dq = (dz', dr', r dg')               dh_{t-1} = z dc
    dy_{t-1,i} = external + R[i] . dq_t  [- dc_t with reset "paper"]   for i in need_{t-1}

    need_t = { i : c_i fires or psi_i > 0 }

Outside of need_t both o and psi are 0, so dy_t,i is multiplied by 0 in dc and dtheta: a message to such a
unit changes nothing, and its row of R is not read. The result is the whole gradient, not an approximation.

With the reset gate before the recurrent matrix, q_t,g is driven by r_i y_{t-1},i, so that a message comes
back in two rounds, too: first what the scaled values are worth, then, with the gradient of r, the rest.

    m_i = R[i, g] . dg'           i in need_{t-1}
    dr'_i = y_{t-1,i} m_i r_i (1 - r_i)              0 for units that were silent
    dy_{t-1,i} = external + R[i, zr] . (dz', dr') + r_i m_i
    dR[i, zr] += y_{t-1,i} (dz', dr')      dR[i, g] += r_i y_{t-1,i} dg'

Units that spoke are in need_{t-1}, so both rounds read the same rows, H of their weights and then 2 H: counts
are those of the other place. Only y_0, if it is not 0, adds H for each of its events even where nobody asks
for its gradient: r_0 depends on it.

Symbols and names: `eventbook.kernels.events.egru`. The gradient of R is a product of its own, see `matvec`.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, unreachable, var-annotated"
# Kernels are typed by Numba, at every call.

import numpy as np
from numba import types
from numba.extending import overload

from eventbook.kernels.events.counters import BYTES, MACS, NEEDED
from eventbook.kernels.events.rows import bytes_each, dot_columns, dot_rows, find
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.vectors import (
    LANES,
    absolute,
    load,
    load_part,
    maximum,
    splat,
    store,
    store_part,
    where,
)

_ZERO, _ONE = np.float32(0), np.float32(1)
_NONE, _SOME = np.uint64(0), np.uint64(1)


@kernel(inline=True)
def _cell(
    dy, dh, ex, c, before, theta, removed, z, r, g, qg, support, dampening, by_value, by_threshold, gated
):  # fmt: skip
    """(dz', dr', dg', dq_g, dh_{t-1}, dc, dtheta) of sixteen units."""
    zero = splat(_ZERO)
    silent = c <= theta
    pseudo = dampening * maximum(_ONE - support * absolute(c - theta), zero)
    through_event = pseudo * (c * dy - where(by_value, c, removed) * dh)
    dc = ex + dh + where(silent, zero, where(by_value, dy - dh, dy)) + through_event
    to_theta = -through_event - where(silent, zero, where(by_threshold, dh, zero))
    dg = (_ONE - g * g) * (_ONE - z) * dc
    dz = (before - g) * dc * z * (_ONE - z)
    dr = where(gated, zero, dg * qg * r * (_ONE - r))  # of gated values comes later
    return dz, dr, dg, where(gated, dg, r * dg), z * dc, dc, to_theta


@kernel()
def _withdraw_single(
    t, dy, dh, external, later, before, state, gates, cross, threshold, removed,
    support, dampening, by_value, by_threshold, outside, gated, to_p, to_q, to_threshold,
):  # fmt: skip
    units = threshold.size
    whole, n = units // LANES * LANES, units % LANES
    at, gate = t * units, 3 * t * units
    value_mask = splat(_ZERO) < splat(np.float32(by_value))
    threshold_mask = splat(_ZERO) < splat(np.float32(by_threshold))
    outside_mask = splat(_ZERO) < splat(np.float32(outside))
    gated_mask = splat(_ZERO) < splat(np.float32(gated))
    zero = splat(_ZERO)
    for i in range(0, whole, LANES):
        dz, dr, dg, dqg, falling, dc, to_theta = _cell(
            load(dy, i) - where(outside_mask, load(later, i), zero), load(dh, i), load(external, at + i),
            load(state, at + i), load(before, i), load(threshold, i), load(removed, i),
            load(gates, gate + i), load(gates, gate + units + i), load(gates, gate + 2 * units + i),
            load(cross, at + i), support, dampening, value_mask, threshold_mask, gated_mask,
        )  # fmt: skip
        store(to_p, gate + i, dz)
        store(to_p, gate + units + i, dr)
        store(to_p, gate + 2 * units + i, dg)
        store(to_q, gate + i, dz)
        store(to_q, gate + units + i, dr)
        store(to_q, gate + 2 * units + i, dqg)
        store(dh, i, falling)
        store(later, i, dc)
        store(to_threshold, i, load(to_threshold, i) + to_theta)
    if n:
        i = whole
        dz, dr, dg, dqg, falling, dc, to_theta = _cell(
            load_part(dy, i, n) - where(outside_mask, load_part(later, i, n), zero), load_part(dh, i, n),
            load_part(external, at + i, n), load_part(state, at + i, n), load_part(before, i, n),
            load_part(threshold, i, n), load_part(removed, i, n),
            load_part(gates, gate + i, n), load_part(gates, gate + units + i, n),
            load_part(gates, gate + 2 * units + i, n), load_part(cross, at + i, n),
            support, dampening, value_mask, threshold_mask, gated_mask,
        )  # fmt: skip
        store_part(to_p, gate + i, n, dz)
        store_part(to_p, gate + units + i, n, dr)
        store_part(to_p, gate + 2 * units + i, n, dg)
        store_part(to_q, gate + i, n, dz)
        store_part(to_q, gate + units + i, n, dr)
        store_part(to_q, gate + 2 * units + i, n, dqg)
        store_part(dh, i, n, falling)
        store_part(later, i, n, dc)
        store_part(to_threshold, i, n, load_part(to_threshold, i, n) + to_theta)


@kernel()
def _withdraw_double(
    t, dy, dh, external, later, before, state, gates, cross, threshold, removed,
    support, dampening, by_value, by_threshold, outside, gated, to_p, to_q, to_threshold,
):  # fmt: skip
    units = threshold.size
    at, gate = t * units, 3 * t * units
    for i in range(units):
        c, theta = state[at + i], threshold[i]
        z, r, g = gates[gate + i], gates[gate + units + i], gates[gate + 2 * units + i]
        arriving = dy[i] - later[i] if outside else dy[i]
        inside = 1 - support * abs(c - theta)
        pseudo = dampening * inside if inside > 0 else 0.0
        through_event = pseudo * (c * arriving - (c if by_value else removed[i]) * dh[i])
        dc = external[at + i] + dh[i] + through_event
        to_threshold[i] -= through_event
        if not (c <= theta):
            dc += arriving - dh[i] if by_value else arriving
            if by_threshold:
                to_threshold[i] -= dh[i]
        dg = (1 - g * g) * (1 - z) * dc
        dz = (before[i] - g) * dc * z * (1 - z)
        dr = 0.0 if gated else dg * cross[at + i] * r * (1 - r)
        to_p[gate + i] = to_q[gate + i] = dz
        to_p[gate + units + i] = to_q[gate + units + i] = dr
        to_p[gate + 2 * units + i] = dg
        to_q[gate + 2 * units + i] = dg if gated else r * dg
        dh[i] = z * dc
        later[i] = dc


def _withdraw(
    t, dy, dh, external, later, before, state, gates, cross, threshold, removed,
    support, dampening, by_value, by_threshold, outside, gated, to_p, to_q, to_threshold,
):  # fmt: skip
    """Everything of step t that is elementwise."""
    raise NotImplementedError("callable from kernels alone")


@overload(_withdraw)
def _(
    t, dy, dh, external, later, before, state, gates, cross, threshold, removed,
    support, dampening, by_value, by_threshold, outside, gated, to_p, to_q, to_threshold,
):  # fmt: skip
    step = _withdraw_single if dy.dtype is types.float32 else _withdraw_double

    def run(
        t, dy, dh, external, later, before, state, gates, cross, threshold, removed,
        support, dampening, by_value, by_threshold, outside, gated, to_p, to_q, to_threshold,
    ):  # fmt: skip
        step(
            t, dy, dh, external, later, before, state, gates, cross, threshold, removed,
            support, dampening, by_value, by_threshold, outside, gated, to_p, to_q, to_threshold,
        )  # fmt: skip

    return run


@kernel()
def _find_needed(state, at, threshold, support, everything, index):
    """Write the units that fire or lie in the window of the surrogate to `index`; returns how many.

    Relies on room for all units.
    """
    count = np.uint64(0)  # unsigned: no check for an index from the end
    for i in range(threshold.size):
        c, theta = state[at + i], threshold[i]
        fires, near = not (c <= theta), 1 - support * abs(c - theta) > 0
        index[count] = i
        count += _SOME if everything | fires | near else _NONE
    return np.int64(count)


@kernel()
def _send_back(recurrent, gates, gate, index, needed, spoke, to_p, to_q, worth, message, all_rows):
    """Both rounds of a step with gated values, see the module; returns multiply-accumulates.

    gates, to_p, to_q: of one row, the step beginning at `gate`; spoke: y of the step before; worth, message:
    room for one number a unit. Without `all_rows` only dr' is wanted. Relies on units that have a row.
    """
    units = spoke.size
    reset, candidate, end = gate + units, gate + 2 * units, gate + 3 * units
    done = dot_columns(recurrent, 3 * units, 2 * units, index, needed, to_q[candidate:end], worth)
    for e in range(needed):
        i = index[e]
        r = gates[reset + i]
        to_p[reset + i] = to_q[reset + i] = spoke[i] * worth[i] * r * (1 - r)
    if all_rows:
        done += dot_columns(recurrent, 3 * units, 0, index, needed, to_q[gate:candidate], message)
        for e in range(needed):
            i = index[e]
            message[i] += gates[reset + i] * worth[i]
    return done


@kernel()
def backward(
    arriving, external, dh, state, gates, cross, first, spoken, lengths, to_p, to_q, to_threshold, to_output,
    counts, recurrent, threshold, removed, support, dampening, by_value, by_threshold, outside, gated,
    everything, all_the_way,
):  # fmt: skip
    """Walk down all steps of some batch rows.

    arriving, external, state, cross: (batch, time * H); gates, to_p, to_q: (batch, time * 3 H); first,
    spoken: h_0 and y_0; lengths: (batch,), steps of each row, behind which gradients are 0; dh: (batch, H),
    gradient of the last h on entry and of h_0 on return; to_threshold: (batch, H), zeros on entry; to_output:
    gradient of y_0, all rows of which are needed, written only if `all_the_way`; recurrent: flat, or
    `CompressedRows`.
    """
    units = threshold.size
    index, value = np.empty(units, np.int64), np.empty(units, dh.dtype)
    later, before = np.empty(units, dh.dtype), np.empty(units, dh.dtype)
    message, dy = np.zeros(units, dh.dtype), np.empty(units, dh.dtype)
    spoke, worth = np.empty(units, dh.dtype), np.empty(units, dh.dtype)
    each = bytes_each(recurrent)
    for row in range(dh.shape[0]):
        later[:] = 0
        message[:] = 0
        states, falling = state[row], to_q[row]
        to_p[row, 3 * lengths[row] * units :] = 0
        falling[3 * lengths[row] * units :] = 0
        for t in range(lengths[row] - 1, -1, -1):
            at = t * units
            for i in range(units):
                dy[i] = arriving[row, at + i] + message[i]
            if t > 0:
                for i in range(units):
                    c = states[at - units + i]
                    taken = c if by_value else removed[i]
                    silent = c <= threshold[i]
                    before[i] = c if silent else c - taken
                    spoke[i] = dh.dtype.type(0) if silent else c
            else:
                before[:] = first[row]
                spoke[:] = spoken[row]
            _withdraw(
                t, dy, dh[row], external[row], later, before, states, gates[row], cross[row], threshold,
                removed, support, dampening, by_value, by_threshold, outside, gated, to_p[row], falling,
                to_threshold[row],
            )  # fmt: skip
            message[:] = 0
            all_rows = t > 0 or all_the_way
            if t > 0:
                needed = _find_needed(states, at - units, threshold, support, everything, index)
            elif all_the_way:
                needed = units
                for i in range(units):
                    index[i] = i
            else:
                needed = find(spoke, 0, units, False, index, value) if gated else 0
            if gated:
                done = _send_back(
                    recurrent, gates[row], 3 * at, index, needed, spoke, to_p[row], falling, worth, message,
                    all_rows,
                )  # fmt: skip
            else:
                done = dot_rows(recurrent, index, needed, falling[3 * at : 3 * (at + units)], message)
            counts[row, NEEDED] += needed
            counts[row, MACS] += done
            counts[row, BYTES] += done * each
        if all_the_way:
            for i in range(units):
                to_output[row, i] = message[i] - (later[i] if outside else 0)

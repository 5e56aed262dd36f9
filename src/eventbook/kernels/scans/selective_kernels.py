r"""The loops of the selective scan: x <- decay x + gain B u over (channel, state), read out by C, and back.

    forward    for 16 channels at a time: x_n <- a_n x_n + gain_n B_n u,   y = sum_n C_n x_n + D u
    backward   s_n = C_n gy + carry_n,   carry_n = a_n s_n

An array (batch, time, channel, state) would be 16 times as large as everything else, so it never exists.
The state lives in the innermost cache, 16 channels side by side and the states of a channel in the inner
loop. The backward pass needs the states again: the forward pass keeps one in every `CHUNK` elements of
time, and going back each chunk is computed once more. Sums over channels (the gradients to B and C) are
collected lane by lane for a whole chunk and added up once at its end. A block of channels is one cache line
of each element, so a walk through time jumps from line to line, which prefetchers do not follow: what the
next chunk will touch is announced.

| symbol | meaning | shape | name |
|---|---|---|---|
| u, y | input and output, flat in (time, channel) | (batch, time * channel) | `u`, `y` |
| delta | step of the input | as u | `delta` |
| delta_a | step of the state: delta, an array, or gap x rate | see `step_of` | `steps`, `gap`, `rate` |
| A log2 e | by blocks of 16 channels: (block, state, 16) | flat | `a2` |
| B, C | flat in (time, state) | (batch, time * state) | `b`, `c` |
| D | padded to whole blocks | (padded,) | `skip` |
| x | state, packed as a2 | (batch, packed) | `state` |

How input and state are discretised is fixed when a kernel is compiled: `rule` is a tuple whose length says
it, MAMBA, ZOH or BILINEAR.

| rule | decay a | gain | dgain/ddelta | dgain/dA |
|---|---|---|---|---|
| mamba | exp(step A) | delta | 1 | 0 |
| zoh | exp(step A) | expm1(delta A) / A | exp(delta A) | (delta exp(delta A) - gain) / A |
| bilinear | (1 + q) / (1 - q) | delta / (1 - p) | 1 / (1 - p)^2 | delta^2 / 2 / (1 - p)^2 |

with q = step A / 2 and p = delta A / 2.

Source: Gu and Dao 2023 (Mamba); Schöne et al. 2024 (STREAM) for a step of its own for the state. Gradients
and the organisation of memory are derived.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

import numpy as np

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.elementary import exp2, expm1
from eventbook.kernels.machinery.vectors import (
    LANES,
    absolute,
    announce_load,
    announce_store,
    lane_sum,
    load,
    load_first,
    scratch,
    splat,
    store,
    store_first,
    where,
)

CHUNK = 32  # elements of time between two kept states
# what is compiled is told apart by the length of a tuple, so that no loop has to ask
OWN: tuple[int, ...] = ()  # step of the state: delta itself, an array, gap x rate
GIVEN: tuple[int, ...] = (0,)
RANK_ONE: tuple[int, ...] = (0, 0)
MAMBA, ZOH, BILINEAR = (), (0,), (0, 0)

_LN2 = np.float32(np.log(2.0))
_ONE, _HALF, _TINY = np.float32(1), np.float32(0.5), np.float32(1e-30)
# (z e^z - e^z + 1) / z^2 around zero
_SLOPE = tuple(np.float32(v) for v in (1 / 2, 1 / 3, 1 / 8, 1 / 30, 1 / 144, 1 / 840, 1 / 5760, 1 / 45360))


# --- layout ------------------------------------------------------------------------------------------------


@kernel()
def pack(x, scale, packed):
    """x: (batch, channel, state), times a number -> packed: (batch, packed), whose missing channels stay."""
    for row in range(x.shape[0]):
        for d in range(x.shape[1]):
            for k in range(x.shape[2]):
                packed[row, (d // LANES * x.shape[2] + k) * LANES + d % LANES] = scale * x[row, d, k]


@kernel()
def unpack(packed, x):
    """The inverse of `pack` at scale 1."""
    for row in range(x.shape[0]):
        for d in range(x.shape[1]):
            for k in range(x.shape[2]):
                x[row, d, k] = packed[row, (d // LANES * x.shape[2] + k) * LANES + d % LANES]


# --- single precision --------------------------------------------------------------------------------------


@kernel(inline=True)
def step_of(kind, delta, steps, at, n, gap, t, rate, d):
    """Step of the state for the 16 channels from d on; `steps` and `gap` are of one batch row."""
    if len(kind) == 0:
        return delta
    if len(kind) == 1:
        return load_first(steps, at, n)
    return load(rate, d) * gap[t]


@kernel(inline=True)
def _decay(rule, step, a2):
    if len(rule) == 2:
        q = step * a2 * (_HALF * _LN2)
        return (_ONE + q) / (_ONE - q)
    return exp2(step * a2)


@kernel(inline=True)
def _gain(rule, delta, a2):
    """Gain of the input, for the rules where it depends on A."""
    if len(rule) == 2:
        return delta / (_ONE - delta * a2 * (_HALF * _LN2))
    if len(rule) == 1:
        a = a2 * _LN2
        gain = expm1(delta * a) / where(absolute(a) < _TINY, splat(_ONE), a)
        return where(absolute(a) < _TINY, delta, gain)
    return delta


@kernel(inline=True)
def _gain_slopes(rule, delta, a2, gain):
    """Derivatives of the gain to delta and to A."""
    a = a2 * _LN2
    if len(rule) == 2:
        slope = _ONE / (_ONE - delta * a * _HALF)
        slope = slope * slope
        return slope, delta * delta * slope * _HALF
    z = delta * a
    near = (((_SLOPE[7] * z + _SLOPE[6]) * z + _SLOPE[5]) * z + _SLOPE[4]) * z + _SLOPE[3]
    near = ((near * z + _SLOPE[2]) * z + _SLOPE[1]) * z + _SLOPE[0]
    growth = gain * a + _ONE
    safe = where(absolute(z) < _HALF, splat(_ONE), z)
    far = (growth - gain / where(absolute(delta) < _TINY, splat(_ONE), delta)) / safe
    return growth, delta * delta * where(absolute(z) < _HALF, near, far)


@kernel()
def forward(u, delta, steps, gap, b, c, y, state, checkpoints, kind, rule, rate, a2, skip, width, states):
    """Scan single-precision rows.

    The first nine arrays have the batch as their first axis. steps: as u, or empty; gap: (batch, time), or
    empty. state: h_0 on entry, h_L on return. checkpoints: (batch, chunks * packed) to be filled, or empty.
    """
    time, blocks, size = b.shape[1] // states, (width + LANES - 1) // LANES, states * LANES
    ahead = CHUNK * width
    for row in range(b.shape[0]):
        given, gaps, to_state, from_state = steps[row], gap[row], b[row], c[row]
        x_in, delta_in, out, carry, kept = u[row], delta[row], y[row], state[row], checkpoints[row]
        for first in range(0, time, CHUNK):
            for block in range(blocks):
                base, d = block * size, block * LANES
                n = min(LANES, width - d)
                if kept.size > 0:
                    place = first // CHUNK * blocks * size + base
                    for k in range(0, size, LANES):
                        store(kept, place + k, load(carry, base + k))
                for t in range(first, min(first + CHUNK, time)):
                    at, bt = t * width + d, t * states
                    announce_load(x_in, at + ahead)
                    announce_load(delta_in, at + ahead)
                    announce_store(out, at + ahead)
                    x, dt = load_first(x_in, at, n), load_first(delta_in, at, n)
                    step = step_of(kind, dt, given, at, n, gaps, t, rate, d)
                    drive, total = dt * x, x * load(skip, d)
                    for k in range(states):
                        i = base + k * LANES
                        a = load(a2, i)
                        if len(rule) > 0:
                            drive = _gain(rule, dt, a) * x
                        h = _decay(rule, step, a) * load(carry, i) + drive * to_state[bt + k]
                        store(carry, i, h)
                        total = total + h * from_state[bt + k]
                    store_first(out, at, n, total)


@kernel()
def backward(
    g, u, delta, steps, gap, b, c, checkpoints, carry,
    u_gradient, delta_gradient, steps_gradient, gap_gradient, b_gradient, c_gradient, sums,
    kind, rule, rate, a2, skip, width, states,
):  # fmt: skip
    """Go back through rows of `forward`.

    g: gradient to y. carry: (batch, packed), gradient to the last state on entry, to h_0 on return. The
    gradients are laid out as what they belong to; sums: (batch, packed + 2 padded) float64, zero on entry,
    for those to A (packed), D and the rate (padded each).
    """
    time, blocks, size = b.shape[1] // states, (width + LANES - 1) // LANES, states * LANES
    x = scratch((CHUNK + 1) * size)  # states before and after each element of a chunk
    decays, for_b, for_c = scratch(CHUNK * size), scratch(CHUNK * size), scratch(CHUNK * size)
    for_gap, for_a = scratch(CHUNK * LANES), scratch(size)
    packed, padded, ahead = blocks * size, blocks * LANES, CHUNK * width
    for row in range(b.shape[0]):
        given, gaps, to_state, from_state = steps[row], gap[row], b[row], c[row]
        x_in, delta_in, arriving, falling, kept = u[row], delta[row], g[row], carry[row], checkpoints[row]
        to_u, to_delta, to_steps, total = u_gradient[row], delta_gradient[row], steps_gradient[row], sums[row]
        for first in range((time - 1) // CHUNK * CHUNK, -1, -CHUNK):
            last = min(first + CHUNK, time)
            for_b[:], for_c[:], for_gap[:] = 0, 0, 0
            for block in range(blocks - 1, -1, -1):
                base, d = block * size, block * LANES
                n = min(LANES, width - d)
                place = first // CHUNK * packed + base
                for k in range(0, size, LANES):
                    store(x, k, load(kept, place + k))
                for t in range(first, last):
                    at, bt, now = t * width + d, t * states, (t - first) * size
                    announce_store(to_u, at)
                    announce_store(to_delta, at)
                    announce_load(arriving, at)
                    announce_load(x_in, at - ahead)
                    announce_load(delta_in, at - ahead)
                    dt = load_first(delta_in, at, n)
                    step = step_of(kind, dt, given, at, n, gaps, t, rate, d)
                    incoming = load_first(x_in, at, n)
                    drive = dt * incoming
                    for k in range(states):
                        i, a = now + k * LANES, load(a2, base + k * LANES)
                        if len(rule) > 0:
                            drive = _gain(rule, dt, a) * incoming
                        decay = _decay(rule, step, a)
                        store(decays, i, decay)
                        store(x, i + size, decay * load(x, i) + drive * to_state[bt + k])
                for_a[:] = 0
                for_skip, for_rate = splat(np.float32(0)), splat(np.float32(0))
                for t in range(last - 1, first - 1, -1):
                    at, bt, now = t * width + d, t * states, (t - first) * size
                    dt = load_first(delta_in, at, n)
                    step = step_of(kind, dt, given, at, n, gaps, t, rate, d)
                    incoming, gy = load_first(x_in, at, n), load_first(arriving, at, n)
                    drive = dt * incoming
                    # mamba: one sum of s B serves u and delta; other rules: a sum each
                    to_drive, to_gain, to_step = (
                        splat(np.float32(0)),
                        splat(np.float32(0)),
                        splat(np.float32(0)),
                    )
                    for k in range(states):
                        i, j = now + k * LANES, base + k * LANES
                        a, decay, before = load(a2, j), load(decays, i), load(x, i)
                        s = load(falling, j) + gy * from_state[bt + k]
                        store(for_c, i, load(for_c, i) + gy * load(x, i + size))
                        slope_a = splat(np.float32(0))
                        if len(rule) > 0:
                            gain = _gain(rule, dt, a)
                            by_delta, by_a = _gain_slopes(rule, dt, a, gain)
                            drive = gain * incoming
                            weighted = s * to_state[bt + k]
                            to_drive = to_drive + weighted * gain
                            to_gain = to_gain + weighted * by_delta
                            slope_a = weighted * by_a * incoming
                        else:
                            to_drive = to_drive + s * to_state[bt + k]
                        store(for_b, i, load(for_b, i) + s * drive)
                        down = s * decay
                        store(falling, j, down)
                        if len(rule) == 2:
                            half = decay * _HALF + _HALF  # 1 / (1 - q)
                            down = s * half * half
                        r = down * before
                        to_step = to_step + r * a
                        store(for_a, k * LANES, load(for_a, k * LANES) + (r * step + slope_a))
                    to_step = to_step * _LN2
                    for_skip = for_skip + gy * incoming
                    if len(rule) == 0:
                        to_gain = to_drive
                        to_drive = to_drive * dt
                    store_first(to_u, at, n, to_drive + gy * load(skip, d))
                    own = to_gain * incoming
                    if len(kind) == 0:
                        own = own + to_step
                    elif len(kind) == 1:
                        store_first(to_steps, at, n, to_step)
                    else:
                        i = (t - first) * LANES
                        store(for_gap, i, load(for_gap, i) + to_step * load(rate, d))
                        for_rate = for_rate + to_step * gaps[t]
                    store_first(to_delta, at, n, own)
                for k in range(size):
                    total[base + k] += for_a[k]
                store(for_a, 0, for_skip)
                for k in range(LANES):
                    total[packed + d + k] += for_a[k]
                store(for_a, 0, for_rate)
                for k in range(LANES):
                    total[packed + padded + d + k] += for_a[k]
            for t in range(first, last):
                for k in range(states):
                    i = (t - first) * size + k * LANES
                    b_gradient[row, t * states + k] = lane_sum(load(for_b, i))
                    c_gradient[row, t * states + k] = lane_sum(load(for_c, i))
                if len(kind) == 2:
                    gap_gradient[row, t] = lane_sum(load(for_gap, (t - first) * LANES))


# --- double precision: the same formulas in plain loops, one channel after the other -----------------------


@kernel()
def _decay_double(rule, step, a):
    if len(rule) == 2:
        return (1 + step * a / 2) / (1 - step * a / 2)
    return np.exp(step * a)


@kernel()
def _gain_double(rule, delta, a):
    """Gain, and its derivatives to delta and to A."""
    if len(rule) == 0:
        return delta, 1.0, 0.0
    if len(rule) == 2:
        slope = 1 / (1 - delta * a / 2)
        return delta * slope, slope * slope, delta * delta / 2 * slope * slope
    z = delta * a
    if abs(z) < 1e-3:  # series: the closed forms lose digits to cancellation
        gain = delta * (1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5 * (1 + z / 6)))))
        return gain, 1 + gain * a, delta * delta * (1 / 2 + z / 3 + z * z / 8 + z**3 / 30 + z**4 / 144)
    gain = np.expm1(z) / a
    return gain, np.exp(z), (delta * np.exp(z) - gain) / a


@kernel()
def forward_double(u, delta, step, b, c, y, state, rule, a, skip):
    """u, delta, step, y: (batch, time, channel); b, c: (batch, time, state); state: (batch, channel, state);
    a: (channel, state)."""
    for row in range(b.shape[0]):
        for d in range(u.shape[2]):
            for t in range(b.shape[1]):
                total = skip[d] * u[row, t, d]
                for k in range(b.shape[2]):
                    gain, _, _ = _gain_double(rule, delta[row, t, d], a[d, k])
                    x = _decay_double(rule, step[row, t, d], a[d, k]) * state[row, d, k]
                    state[row, d, k] = x + gain * b[row, t, k] * u[row, t, d]
                    total += c[row, t, k] * state[row, d, k]
                y[row, t, d] = total


@kernel()
def backward_double(
    g, u, delta, step, b, c, h0, carry, u_gradient, delta_gradient, step_gradient, b_gradient, c_gradient,
    a_gradient, skip_gradient, rule, a, skip,
):  # fmt: skip
    """As `backward`; every gradient but the first three, which are overwritten, is zero on entry."""
    time, states = b.shape[1], b.shape[2]
    x = np.zeros((time + 1, states))
    for row in range(b.shape[0]):
        for d in range(u.shape[2]):
            x[0] = h0[row, d]
            for t in range(time):
                for k in range(states):
                    gain, _, _ = _gain_double(rule, delta[row, t, d], a[d, k])
                    decay = _decay_double(rule, step[row, t, d], a[d, k])
                    x[t + 1, k] = decay * x[t, k] + gain * b[row, t, k] * u[row, t, d]
            for t in range(time - 1, -1, -1):
                gy, to_u, to_delta, to_step = g[row, t, d], 0.0, 0.0, 0.0
                for k in range(states):
                    gain, by_delta, by_a = _gain_double(rule, delta[row, t, d], a[d, k])
                    decay = _decay_double(rule, step[row, t, d], a[d, k])
                    s = carry[row, d, k] + c[row, t, k] * gy
                    weighted = s * b[row, t, k]
                    to_u += weighted * gain
                    to_delta += weighted * by_delta * u[row, t, d]
                    b_gradient[row, t, k] += s * gain * u[row, t, d]
                    c_gradient[row, t, k] += gy * x[t + 1, k]
                    carry[row, d, k] = decay * s
                    r = s * x[t, k] * (((decay + 1) / 2) ** 2 if len(rule) == 2 else decay)
                    to_step += r * a[d, k]
                    a_gradient[row, d, k] += r * step[row, t, d] + weighted * by_a * u[row, t, d]
                u_gradient[row, t, d] = to_u + gy * skip[d]
                delta_gradient[row, t, d], step_gradient[row, t, d] = to_delta, to_step
                skip_gradient[row, d] += gy * u[row, t, d]

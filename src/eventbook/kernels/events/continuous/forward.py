r"""The loop over events: flow to the next boundary, or to the first crossing before it, then jump.

    boundary    the next external event, asked time or end, in this order if they coincide
    stretch     from one jump or boundary to the next, in equal steps no longer than `step`; a long one is cut

A crossing comes before a boundary at the same time. Units that cross together fire one after another, those
of lower number first, and each sees what those before it sent. An asked state is the one after all that
happens at its time.

| recorded for each stretch | meaning | name |
|---|---|---|
| x | state at its beginning | `began`, (stretch, 4, unit) |
| h, l | length of all steps but the last, and of the last | `lengths`, (stretch, 2) |
| - | steps; what ended it (one of `END` to `INTERNAL`); its number | `marks`, (stretch, 3) |

That is all which `adjoint` needs: memory grows with events, and with one state in `LONGEST` steps.

Symbols and names: `eventbook.kernels.events.continuous.flow` and `jump`.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

import math

import numpy as np

from eventbook.kernels.events.continuous.crossing import first_crossing
from eventbook.kernels.events.continuous.flow import (
    A_R,
    A_U,
    A_Z,
    B_U,
    B_Z,
    C,
    advance,
    logistic,
    set_fade,
    slope_of,
    state_after,
)
from eventbook.kernels.events.continuous.jump import deliver
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import inside

END, ONWARD, ASKED, EXTERNAL, INTERNAL = range(5)
LONGEST = 256  # steps of a stretch, which `adjoint` holds in memory one stretch at a time
_ROOM = 64  # records to begin with


@inside
@kernel()
def doubled(array):
    """The array with as much room again."""
    return np.concatenate((array, np.empty_like(array)))


@inside
@kernel()
def run(
    time, value, token, asked, duration, weights, recurrent, bias, threshold, x, by_target, kept, graded,
    tau_s, tau_m, step, most,
):  # fmt: skip
    """Run one stream from time 0 to `duration`; x: (4, unit) is the first state and, on return, the last.

    time, value, token: (external,), sorted in time; asked: (asked,), sorted; weights: (token, 3 unit);
    recurrent: (unit, 3 unit); bias: (3, unit). Stops once more than `most` units have fired.

    Returns events (time, value, slope of c before it: (event, 3); unit), states at asked times, the integral
    of c, and the record of stretches. Relies on sorted times within 0..duration, on tokens that have a row,
    and on a state below its thresholds.
    """
    units = threshold.size
    events, fired, count = np.empty((_ROOM, 3)), np.empty(_ROOM, np.int64), 0
    began, lengths = np.empty((_ROOM, 4, units)), np.empty((_ROOM, 2))
    marks, stretches = np.empty((_ROOM, 3), np.int64), 0
    states, integral = np.empty((asked.size, 4, units)), np.zeros(units)
    ends, fade, room = np.empty(units), np.empty(4), np.empty(4)
    now, externals, answers = 0.0, 0, 0
    while count <= most:
        mark, number, boundary = END, 0, duration
        if answers < asked.size and asked[answers] <= boundary:
            mark, number, boundary = ASKED, answers, asked[answers]
        if externals < time.size and time[externals] <= boundary:
            mark, number, boundary = EXTERNAL, externals, time[externals]
        if boundary - now > LONGEST * step:
            mark, number, boundary = ONWARD, 0, now + LONGEST * step
        span = max(0.0, boundary - now)
        steps = max(1, math.ceil(span / step))
        length = span / steps
        last, unit = length, -1
        if stretches == marks.shape[0]:
            began, lengths, marks = doubled(began), doubled(lengths), doubled(marks)
        began[stretches] = x
        set_fade(length, tau_s, fade)
        taken = 0
        while taken < steps and unit < 0:
            for n in range(units):
                ends[n] = state_after(
                    x[C, n], x[A_U, n], x[A_Z, n], bias[B_U, n], bias[B_Z, n], fade, length / tau_m
                )
            last, unit = first_crossing(x, ends, bias, threshold, length, tau_s, tau_m, room)
            if unit < 0:
                last = length
            else:
                set_fade(last, tau_s, fade)
            advance(x, bias, last, fade, tau_m, integral)
            taken += 1
        if unit >= 0:
            now = min(boundary, now + (taken - 1) * length + last)
            mark, number = INTERNAL, count
            if count == fired.size:
                events, fired = doubled(events), doubled(fired)
            c = x[C, unit]
            sent = c if graded else 1.0
            slope = slope_of(c, x[A_U, unit], x[A_Z, unit], tau_m)
            events[count, 0], events[count, 1], events[count, 2] = now, sent, slope
            fired[count] = unit
            count += 1
            deliver(x, recurrent[unit], sent, by_target, logistic(x[A_R, unit]))
            x[C, unit] = c - threshold[unit] if kept else 0.0
        else:
            now = boundary
        lengths[stretches, 0], lengths[stretches, 1] = length, last
        marks[stretches, 0], marks[stretches, 1], marks[stretches, 2] = taken, mark, number
        stretches += 1
        if mark == EXTERNAL:
            deliver(x, weights[token[externals]], value[externals], by_target, 1.0)
            externals += 1
        elif mark == ASKED:
            states[answers] = x
            answers += 1
        elif mark == END:
            break
    return (
        events[:count].copy(), fired[:count].copy(), states, integral,
        began[:stretches].copy(), lengths[:stretches].copy(), marks[:stretches].copy(),
    )  # fmt: skip

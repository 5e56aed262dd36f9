r"""When a unit reaches its threshold inside a step: every crossing is found, the first one alone is one.

Between events a_z is monotone, so z = tanh(a_z) is. Let d = z - c, which has the sign of c'. Where d = 0,
d' = z'. So while z falls, d changes its sign at most once, from + to -, and while z rises at most once, from
- to +. In a step c therefore

    rises, falls,  or  rises and then falls (z falls: a peak)  or  falls and then rises (z rises: a dip)

and reaches theta from below at most once. Ends of the step and the sign of d at both say which case it is:

| d at start, end | c reaches theta |
|---|---|
| +, + | if c(end) >= theta |
| +, - | if c(end) >= theta, or else c(peak) > theta; the peak is the one zero of d |
| -, + | if c(end) >= theta |
| -, - | never |

so no crossing is missed, however long the step, as far as its quadrature is right. A unit that is at its
threshold already fires at once if it rises (units that cross together), and is left alone if something
turned it back. The time is bracketed by values on both sides, then found by Newton steps that must stay
within the bracket; each looks at c by a step of its own from the beginning of the step, so that the event's
state has the order of the step.

Symbols and names: `eventbook.kernels.events.continuous.flow`. Source: ours.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

import math

import numpy as np

from eventbook.kernels.events.continuous.flow import A_U, A_Z, B_U, B_Z, C, set_fade, slope_of, state_after
from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import inside

NEVER = -1.0
_ROUNDING = 2.0**-52
_MOST = (
    200  # steps of a search: bisection alone needs 53 to the last bit of a double, and some for small ones
)


@inside
@kernel()
def rise_after(c, a_u, a_z, b_u, b_z, s, tau_s, tau_m, fade):
    """(c, d) after a time s within a step; `fade` is room for four numbers."""
    set_fade(s, tau_s, fade)
    c = state_after(c, a_u, a_z, b_u, b_z, fade, s / tau_m)
    return c, math.tanh(b_z + (a_z - b_z) * fade[3]) - c


@inside
@kernel()
def turning(c, a_u, a_z, b_u, b_z, length, rising, tau_s, tau_m, fade):
    """Where c turns, by halving: the last time found at which d still has the sign it began with."""
    low, high = 0.0, length
    for _ in range(_MOST):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        _, d = rise_after(c, a_u, a_z, b_u, b_z, middle, tau_s, tau_m, fade)
        if (d > 0.0) == rising:
            low = middle
        else:
            high = middle
    return low


@inside
@kernel()
def crossing(c, a_u, a_z, b_u, b_z, theta, length, end, tau_s, tau_m, fade):
    """Time in 0..length at which a unit reaches its threshold from below, or `NEVER`.

    `end` is c after the step, already known. `fade` is room for four numbers.
    """
    z = math.tanh(a_z)
    rising = z > c
    if c >= theta and rising:
        return 0.0
    last = math.tanh(b_z + (a_z - b_z) * math.exp(-length / tau_s))
    low, high = 0.0, length
    if rising:
        if end < theta:
            # a peak has c = z there, and z falls towards it: none above theta if z begins below
            if last > end or z <= theta:
                return NEVER
            high = turning(c, a_u, a_z, b_u, b_z, length, True, tau_s, tau_m, fade)
            if not rise_after(c, a_u, a_z, b_u, b_z, high, tau_s, tau_m, fade)[0] > theta:
                return NEVER
    else:
        if not (last > end and end >= theta):
            return NEVER
        if c >= theta:  # reached before and turned back: it has to go below first
            low = turning(c, a_u, a_z, b_u, b_z, length, False, tau_s, tau_m, fade)
            if rise_after(c, a_u, a_z, b_u, b_z, low, tau_s, tau_m, fade)[0] >= theta:
                return low
    s = 0.5 * (low + high)
    for _ in range(_MOST):
        now, _ = rise_after(c, a_u, a_z, b_u, b_z, s, tau_s, tau_m, fade)
        if abs(now - theta) <= _ROUNDING * theta:
            break
        if now < theta:
            low = s
        else:
            high = s
        left = fade[3]
        slope = slope_of(now, b_u + (a_u - b_u) * left, b_z + (a_z - b_z) * left, tau_m)
        towards = s + (theta - now) / slope if slope > 0.0 else low
        if not low < towards < high:
            towards = 0.5 * (low + high)
        if not low < towards < high:
            break
        s = towards
    return s


@inside
@kernel()
def first_crossing(x, ends, bias, threshold, length, tau_s, tau_m, fade):
    """(time, unit) of the first unit that reaches its threshold in a step, of several at once the first.

    x: (4, unit), at the step's beginning; ends: (unit,), c at its end; time is `NEVER` if none does. Relies
    on these shapes.
    """
    first, unit = NEVER, -1
    for n in range(threshold.size):
        s = crossing(
            x[C, n], x[A_U, n], x[A_Z, n], bias[B_U, n], bias[B_Z, n], threshold[n],
            length, ends[n], tau_s, tau_m, fade,
        )  # fmt: skip
        if s >= 0.0 and (unit < 0 or s < first):
            first, unit = s, n
    return first, np.int64(unit)

r"""Level crossings: how a signal that changes becomes events.

A channel remembers the level it reported last, base + n theta with n whole, and reports each further level
that the signal reaches, one event a level:

    up      while s >= base + (n + 1) theta:  n <- n + 1
    down    while s <= base + (n - 1) theta:  n <- n - 1

So the remembered level moves by whole thresholds and stays within one of the signal. Between two samples s_0
and s_1 the signal is a straight line, and the crossing of a level l happens (l - s_0) / (s_1 - s_0) of the
way. A stamp is a whole number of microseconds, rounded up: an event is never stamped before it happens.
Stamps on the simulator's own grid are the same rule with a coarser unit, the next sample.

| symbol | meaning | name |
|---|---|---|
| theta | height of a level | `threshold` |
| base, n | the first value; levels reported since, up minus down | `base`, `count` |
| s_0, s_1 | the signal before and after | `before`, `now` |

Source: Lichtsteiner, Posch and Delbruck, IEEE JSSC 43(2), 2008 (change detection in a pixel); derived.
"""
# mypy: disable-error-code="no-untyped-def, call-arg"
# Kernels are typed by Numba, at every call.

import math

from eventbook.kernels.compile import kernel


@kernel(inline=True)
def next_move(now, base, count, threshold):
    """+1 or -1 if the signal has reached the level above or below the remembered one, else 0."""
    if now >= base + (count + 1) * threshold:
        return 1
    if now <= base + (count - 1) * threshold:
        return -1
    return 0


@kernel(inline=True)
def crossing_stamp(level, before, now, begin, step):
    """First whole microsecond in begin + 1 .. begin + step at which the line has reached the level."""
    way = math.ceil(step * ((level - before) / (now - before)))
    return begin + min(max(int(way), 1), step)

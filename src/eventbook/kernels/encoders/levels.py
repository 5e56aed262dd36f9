r"""Level crossings: how a signal that changes becomes events. Two rules, and one rule for the time.

A *pixel* remembers the level it reported last, base + n theta with n whole, and reports each further whole
threshold that the signal moves away from it. It does not report the way back over the same level
(hysteresis):

    up      while s >= base + (n + 1) theta:      n <- n + 1
    down    while s <= base + (n - 1) theta:      n <- n - 1       so that |s - (base + n theta)| < theta

A *cell coder* divides the axis into cells of height theta, its first value in the middle of cell 0, and
reports every change of cell, there and back:

    up      while s >= base + (n + 1/2) theta:    n <- n + 1
    down    while s <  base + (n - 1/2) theta:    n <- n - 1       so that |s - (base + n theta)| <= theta / 2

Between two samples s_0 and s_1 the signal is a straight line, and the crossing of a level l happens
(l - s_0) / (s_1 - s_0) of the way. A stamp is a whole number of microseconds, rounded up: an event is never
stamped before it happens. Stamps on the grid of the samples are the same rule with a coarser unit.

| symbol | meaning | name |
|---|---|---|
| theta | height of a level | `threshold` |
| base, n | the first value; events since, up minus down | `base`, `count` |
| s_0, s_1 | the signal before and after | `before`, `now` |

Levels that lie closer than `FINENESS` neighbouring floats are not told apart: sums round to one another, and
both rules would go on for ever. Encoders refuse such thresholds.

Source: Lichtsteiner, Posch and Delbruck, IEEE JSSC 43(2), 2008 (the pixel); derived.
"""
# mypy: disable-error-code="no-untyped-def, call-arg"
# Kernels are typed by Numba, at every call.

import math

from eventbook.kernels.machinery.compile import kernel

FINENESS = 4  # distances between neighbouring floats from level to level, at the least


@kernel(inline=True)
def next_move(now, base, count, threshold):
    """A pixel's rule: +1 or -1 if the signal is a threshold above or below the remembered level, else 0."""
    if now >= base + (count + 1) * threshold:
        return 1
    if now <= base + (count - 1) * threshold:
        return -1
    return 0


@kernel(inline=True)
def next_cell(now, base, count, threshold):
    """A cell coder's rule: +1 or -1 if the signal is in a cell above or below, else 0."""
    if now >= base + (count + 0.5) * threshold:
        return 1
    if now < base + (count - 0.5) * threshold:
        return -1
    return 0


@kernel(inline=True)
def crossing_stamp(level, before, now, begin, step):
    """First whole microsecond in begin + 1 .. begin + step at which the line has reached the level."""
    way = math.ceil(step * ((level - before) / (now - before)))
    return begin + min(max(int(way), 1), step)

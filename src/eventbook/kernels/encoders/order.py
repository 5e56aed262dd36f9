"""Sort events by time, stably: what happens at the same microsecond keeps the order it was written in.

Radix sort from the least significant digit, 11 bits a pass: stamps of an image (0.3 s) take two passes over
the events, whatever their number, where a comparison sort takes log2 of it.

Source: Knuth, The Art of Computer Programming 3, 5.2.5.
"""
# mypy: disable-error-code="no-untyped-def, call-arg"
# Kernels are typed by Numba, at every call.

import numpy as np

from eventbook.kernels.machinery.compile import kernel

DIGIT = 11  # bits; 2,048 counters of 8 bytes stay in the innermost cache


@kernel()
def sort_by_time(rows, scratch, count, column):
    """Sort rows[:count] by the non-negative integers in `column`; rows, scratch: (capacity, fields) int64."""
    latest = np.int64(0)
    for i in range(count):
        latest = max(latest, rows[i, column])
    starts = np.empty(1 << DIGIT, np.int64)
    source, target = rows, scratch
    shift = 0
    while (latest >> shift) > 0:
        for digit in range(starts.size):
            starts[digit] = 0
        for i in range(count):
            starts[(source[i, column] >> shift) & ((1 << DIGIT) - 1)] += 1
        total = np.int64(0)
        for digit in range(starts.size):
            here = starts[digit]
            starts[digit] = total
            total += here
        for i in range(count):
            digit = (source[i, column] >> shift) & ((1 << DIGIT) - 1)
            at = starts[digit]
            starts[digit] = at + 1
            for field in range(rows.shape[1]):
                target[at, field] = source[i, field]
        source, target = target, source
        shift += DIGIT
    if (shift // DIGIT) % 2 == 1:  # the last pass wrote into the scratch
        for i in range(count):
            for field in range(rows.shape[1]):
                rows[i, field] = scratch[i, field]

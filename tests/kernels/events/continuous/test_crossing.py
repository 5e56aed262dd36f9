"""Crossings inside a step: peaks that both ends hide, dips, and none that are not there."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.events.continuous.crossing import NEVER, crossing, first_crossing
from eventbook.kernels.events.continuous.flow import set_fade, state_after

TAU_S, TAU_M = 5.0, 20.0


def after(unit, length):
    fade = np.empty(4)
    set_fade.kernel(length, TAU_S, fade)
    return state_after.kernel(*unit, fade, length / TAU_M)


def found(unit, theta, length):
    return crossing.kernel(*unit, theta, length, after(unit, length), TAU_S, TAU_M, np.empty(4))


PEAK = (0.3, 3.0, 0.6, 3.0, -8.0)  # c, a_u, a_z, b_u, b_z: c rises for .17 ms, then z has fallen below it


def test_a_peak_that_both_ends_hide_is_found():
    times = np.linspace(0, 0.5, 4001)
    path = np.array([after(PEAK, s) for s in times])
    theta = path.max() - 1e-8
    assert path[0] < theta
    assert path[-1] < theta
    s = found(PEAK, theta, 0.5)
    assert 0 < s < times[path.argmax()]
    assert abs(after(PEAK, s) - theta) < 1e-15
    assert found(PEAK, path.max() + 1e-8, 0.5) == NEVER


def test_a_dip_is_passed_before_the_crossing():
    unit = (0.1, 3.0, -2.0, 3.0, 2.0)
    s = found(unit, 0.15, 12.0)
    assert after(unit, 1.0) < 0.1
    assert abs(after(unit, s) - 0.15) < 1e-15


def test_a_unit_at_its_threshold_fires_if_it_rises_and_waits_if_it_was_turned_back():
    rising, falling = (0.1, 3.0, 2.0, 0.0, 2.0), (0.1, 3.0, -2.0, 3.0, 2.0)
    assert found(rising, 0.1, 2.0) == 0.0
    assert found(falling, 0.1, 2.0) == NEVER
    s = found(falling, 0.1, 12.0)
    assert s > 2.0
    assert abs(after(falling, s) - 0.1) < 1e-15


def test_a_step_of_no_length_has_no_crossing_but_that_of_a_unit_at_its_threshold():
    assert found(PEAK, 0.4, 0.0) == NEVER
    assert found(PEAK, 0.3, 0.0) == 0.0
    assert found((0.3, 3.0, -0.6, 3.0, 2.0), 0.3, 0.0) == NEVER


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    c=st.floats(-0.9, 0.5),
    gates=st.tuples(*[st.floats(-4, 4)] * 4),
    above=st.floats(1e-3, 0.5),
    length=st.floats(0.01, 4.0),
)
def test_it_is_the_first_time_that_a_fine_path_is_above(c, gates, above, length):
    a_u, a_z, b_u, b_z = gates
    unit, theta = (c, a_u, a_z, b_u, b_z), c + above
    times = np.linspace(0, length, 401)
    path = np.array([after(unit, s) for s in times])
    s = found(unit, theta, length)
    if s == NEVER:
        assert path.max() <= theta + 1e-12
    else:
        assert abs(after(unit, s) - theta) < 1e-14
        assert not (path[times < s - 1e-9] > theta).any()


def test_the_first_of_several_units_and_of_equals_the_lower():
    early, late = (0.1, 3.0, 3.0, 3.0, 3.0), (0.05, 3.0, 3.0, 3.0, 3.0)

    def first(*units, theta=0.2):
        c, a_u, a_z, b_u, b_z = np.array(units).T
        x, bias = np.stack([c, a_u, 0 * c, a_z]), np.stack([b_u, 0 * c, b_z])
        ends = np.array([after(unit, 4.0) for unit in units])
        return first_crossing.kernel(
            x, ends, bias, np.full(len(units), theta), 4.0, TAU_S, TAU_M, np.empty(4)
        )

    assert first(late, early)[1] == 1
    assert first(late, early)[0] == found(early, 0.2, 4.0)
    assert first(early, late, early)[1] == 0
    assert first(early, late, theta=0.9) == (NEVER, -1)

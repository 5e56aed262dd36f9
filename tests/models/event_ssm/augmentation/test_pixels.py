"""Steps that move pixels: exact maps, spreads at fixed seeds, nothing off the sensor; the released ones."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.encoders import EVENT, check_events, tokens_of
from eventbook.models.event_ssm.augmentation.pixels import (
    add_pixel_noise,
    jitter_pixels,
    map_pixels,
    roll,
    rotate,
    scale,
)

WIDTH, HEIGHT = 12, 9


def every_pixel(width: int, height: int) -> np.ndarray:
    """One event a pixel, in order of stamps: event k has t = k."""
    y, x = (axis.ravel() for axis in np.mgrid[0:height, 0:width])
    events = np.zeros(x.size, EVENT)
    events["x"], events["y"], events["t"], events["p"] = x, y, np.arange(x.size), (x + y) % 2
    return events


def at(x: int, y: int, count: int) -> np.ndarray:
    events = np.zeros(count, EVENT)
    events["x"], events["y"], events["t"] = x, y, np.arange(count)
    return events


def within(value: float, expected: float, deviation: float) -> None:
    """Five standard errors."""
    assert abs(value - expected) < 5 * deviation, (value, expected, deviation)


# --- maps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width, height", [(1, 1), (4, 4), (5, 5), (12, 9)])
def test_half_a_turn_is_a_permutation(width, height):
    events = every_pixel(width, height)
    turned = map_pixels(events, width, height, -np.eye(2))
    np.testing.assert_array_equal(turned["x"], width - 1 - events["x"])
    np.testing.assert_array_equal(turned["y"], height - 1 - events["y"])
    for name in ("t", "p"):
        np.testing.assert_array_equal(turned[name], events[name])


@pytest.mark.parametrize("size", [4, 5, 128])
def test_a_quarter_turn_of_a_square_is_a_permutation(size):
    events = every_pixel(size, size)
    quarter = np.array([[math.cos(math.pi / 2), -1.0], [1.0, math.cos(math.pi / 2)]])
    turned = map_pixels(events, size, size, quarter)
    np.testing.assert_array_equal(turned["x"], size - 1 - events["y"])
    np.testing.assert_array_equal(turned["y"], events["x"])
    assert len(np.unique(tokens_of(turned, size, size))) == size * size


def test_the_identity_is_one():
    events = every_pixel(WIDTH, HEIGHT)
    np.testing.assert_array_equal(map_pixels(events, WIDTH, HEIGHT, np.eye(2)), events)


def test_the_released_half_turn_is_no_permutation():
    """Negative control: about (width / 2, height / 2), rounded towards zero, clipped one past the end."""
    x = every_pixel(128, 128)["x"]
    released = np.clip((-(x - 64.0) + 64.0).astype(np.int32), 0, 128)
    assert released.max() == 128  # no column of the sensor
    assert 0 not in released


def test_the_released_rotation_makes_tokens_out_of_range():
    events = every_pixel(128, 128)
    angle = math.radians(10)
    x, y = events["x"] - 64.0, events["y"] - 64.0
    new_x = np.clip((x * math.cos(angle) - y * math.sin(angle) + 64).astype(np.int32), 0, 128)
    new_y = np.clip((x * math.sin(angle) + y * math.cos(angle) + 64).astype(np.int32), 0, 128)
    released = events.copy()
    released["x"], released["y"] = new_x, new_y
    with pytest.raises(ValueError, match=r"must be on the sensor, 0\.\.127, got 128"):
        check_events(released, 128, 128)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    ours = map_pixels(events, 128, 128, turn)
    check_events(ours, 128, 128)
    lost = 1 - len(ours) / len(events)
    assert 0.05 < lost < 0.12  # the four corners; clipped, they would be drawn along the edges
    assert ((new_x == 128) | (new_y == 128)).mean() > 0.02


def test_scaling_up_loses_the_rim_and_down_loses_nothing():
    events = every_pixel(100, 100)
    larger, smaller = (map_pixels(events, 100, 100, factor * np.eye(2)) for factor in (1.25, 0.8))
    assert len(smaller) == len(events)
    assert (smaller["x"].min(), smaller["x"].max()) == (10, 89)  # 49.5 - 0.8 49.5 = 9.9
    assert len(larger) == 80 * 80
    assert (larger["x"].min(), larger["x"].max()) == (0, 99)


# --- random strengths --------------------------------------------------------------------------------------


def angles_of(degrees: float, rounds: int) -> list[float]:
    """Angles read off an event far to the right of the centre."""
    size = 2_000_001
    centre = size // 2
    event, rng = at(size - 1, centre, 1), np.random.default_rng(1)
    found = []
    for _ in range(rounds):
        turned = rotate(event, size, size, 1.0, degrees, rng)
        found.append(math.degrees(math.atan2(int(turned["y"][0]) - centre, int(turned["x"][0]) - centre)))
    return found


def test_rotations_are_uniform_in_their_range():
    angles = angles_of(10.0, 3_000)
    assert -10.0 <= min(angles) < -9.95
    assert 9.95 < max(angles) <= 10.0
    within(np.mean(angles), 0.0, 20 / math.sqrt(12 * 3_000))
    within(np.var(angles), 400 / 12, 400 / 12 / math.sqrt(3_000))


def test_scales_are_uniform_in_their_range():
    size, rng = 2_000_001, np.random.default_rng(2)
    centre = size // 2
    event = at(centre + 500_000, centre - 250_000, 1)
    factors = []
    for _ in range(3_000):
        scaled = scale(event, size, size, 1.0, 1.2, rng)
        factors.append((int(scaled["x"][0]) - centre) / 500_000)
        assert abs(int(scaled["y"][0]) - centre + 250_000 * factors[-1]) <= 1
    low, high = 1 / 1.2, 1.2
    assert low - 1e-5 <= min(factors) < low + 0.001
    assert high - 0.001 < max(factors) <= high + 1e-5
    within(np.mean(factors), (low + high) / 2, (high - low) / math.sqrt(12 * 3_000))


def test_a_roll_moves_all_by_one_vector_and_wraps_nothing():
    rng = np.random.default_rng(3)
    events = every_pixel(30, 20)
    rights, downs = [], []
    for _ in range(2_000):
        rolled = roll(events, 30, 20, 1.0, 4, rng)
        moves = {
            (int(x), int(y))
            for x, y in zip(
                rolled["x"] - events["x"][rolled["t"]], rolled["y"] - events["y"][rolled["t"]], strict=True
            )
        }
        ((right, down),) = moves
        assert len(rolled) == (30 - abs(right)) * (20 - abs(down))
        rights.append(right)
        downs.append(down)
    for values in (rights, downs):
        for move in range(-4, 5):  # 4 is among them, as released it is not
            within(values.count(move) / 2_000, 1 / 9, math.sqrt(8 / 81 / 2_000))
    within(np.corrcoef(rights, downs)[0, 1], 0.0, 1 / math.sqrt(2_000))


@pytest.mark.parametrize(
    "step",
    [
        lambda events, rng: roll(events, 64, 64, 0.3, 32, rng),
        lambda events, rng: rotate(events, 64, 64, 0.3, 10.0, rng),
        lambda events, rng: scale(events, 64, 64, 0.3, 1.2, rng),
    ],
    ids=["roll", "rotate", "scale"],
)
def test_maps_come_with_the_probability(step):
    rng, events = np.random.default_rng(4), every_pixel(64, 64)
    changed = [not np.array_equal(step(events, rng), events) for _ in range(1_500)]
    within(np.mean(changed), 0.3, math.sqrt(0.21 / 1_500))


def test_jitter_has_the_spread_and_no_drift():
    n, variance = 100_000, 0.3
    moved = jitter_pixels(at(50, 40, n), 100, 100, variance, np.random.default_rng(5))
    assert len(moved) == n
    normal = np.random.default_rng(6).normal(0.0, math.sqrt(variance), n)
    for name, start in (("x", 50), ("y", 40)):
        shift = moved[name] - start
        within(shift.mean(), 0.0, math.sqrt(0.4 / n))
        within((shift != 0).mean(), math.erfc(0.5 / math.sqrt(2 * variance)), math.sqrt(0.25 / n))
        assert abs(shift.var() - 0.38) < 0.01
    within(np.corrcoef(moved["x"], moved["y"])[0, 1], 0.0, 1 / math.sqrt(n))
    # Negative control: rounded down after the sum, as released, the picture drifts.
    released = np.trunc(50 + normal) - 50
    within(released.mean(), -0.5, math.sqrt(0.4 / n))
    assert abs(released.var() - 0.38) < 0.01


def test_jitter_off_the_sensor_is_removed():
    n = 50_000
    moved = jitter_pixels(at(0, 8, n), WIDTH, HEIGHT, 1.0, np.random.default_rng(7))
    check_events(moved, WIDTH, HEIGHT)
    stays = 1 - math.erfc(0.5 / math.sqrt(2)) / 2
    within(len(moved) / n, stays**2, math.sqrt(0.25 / n))
    assert len(jitter_pixels(at(0, 8, n), WIDTH, HEIGHT, 1e300, np.random.default_rng(0))) < 10


def test_noise_covers_sensor_polarities_and_time():
    rng = np.random.default_rng(8)
    ends = np.array([(0, 0, 100, 1), (1, 1, 900, 0)], EVENT)
    counts, noise = np.zeros(21), []
    for _ in range(3_000):
        result = add_pixel_noise(ends, WIDTH, HEIGHT, 20, rng)
        check_events(result, WIDTH, HEIGHT)
        counts[len(result) - 2] += 1
        noise.append(result[1:-1])
    for count in counts:
        within(count / 3_000, 1 / 21, math.sqrt(1 / 21 / 3_000))
    added = np.concatenate(noise)
    tokens = np.bincount((added["y"] * WIDTH + added["x"]) * 2 + added["p"], minlength=2 * WIDTH * HEIGHT)
    mean = tokens.sum() / tokens.size
    assert np.abs(tokens - mean).max() < 5.5 * math.sqrt(mean)
    within(added["t"].mean(), 500, 800 / math.sqrt(12 * len(added)))
    assert len(add_pixel_noise(ends[:0], WIDTH, HEIGHT, 20, rng)) == 0


# --- all of them -------------------------------------------------------------------------------------------

STEPS = {
    "add_pixel_noise": lambda events, rng: add_pixel_noise(events, WIDTH, HEIGHT, 6, rng),
    "jitter_pixels": lambda events, rng: jitter_pixels(events, WIDTH, HEIGHT, 2.0, rng),
    "roll": lambda events, rng: roll(events, WIDTH, HEIGHT, 0.7, 5, rng),
    "rotate": lambda events, rng: rotate(events, WIDTH, HEIGHT, 0.7, 180.0, rng),
    "scale": lambda events, rng: scale(events, WIDTH, HEIGHT, 0.7, 3.0, rng),
}


@st.composite
def pixel_streams(draw):
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(0, 50), st.integers(0, 1)
            ),
            max_size=12,
        )
    )
    events = np.array(rows, EVENT)
    events["t"].sort()
    events.setflags(write=False)
    return events


@pytest.mark.parametrize("name", STEPS)
@given(pixel_streams(), st.integers(0, 2**32), st.integers(-(10**12), 10**12))
@settings(max_examples=60, deadline=None)
def test_promises(name, events, seed, start):
    """Sorted, on the sensor, the argument untouched, and shifted with its stamps."""
    result = STEPS[name](events, np.random.default_rng(seed))
    check_events(result, WIDTH, HEIGHT)
    assert len(events) or not len(result)
    later = events.copy()
    later["t"] += start
    elsewhere = STEPS[name](later, np.random.default_rng(seed))
    elsewhere["t"] -= start
    np.testing.assert_array_equal(elsewhere, result)


GOOD = every_pixel(3, 2)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: add_pixel_noise(GOOD, 3, 2, -1, RNG),
            ValueError,
            r"most must be in 0\.\.20,000,000, got -1",
        ),
        (
            lambda: jitter_pixels(GOOD, 3, 2, -0.3, RNG),
            ValueError,
            r"variance must be >= 0 and finite, got -0\.3",
        ),
        (
            lambda: jitter_pixels(GOOD, 2, 2, 0.3, RNG),
            ValueError,
            r"events\[2\]\.x must be on the sensor, 0\.\.1, got 2",
        ),
        (lambda: roll(GOOD, 3, 2, -0.1, 3, RNG), ValueError, r"probability must be in 0\.\.1, got -0\.1"),
        (lambda: roll(GOOD, 3, 2, 0.3, -3, RNG), ValueError, r"pixels must be in 0\.\.2\^31 - 1, got -3"),
        (lambda: roll(GOOD, 3, 2, 0.3, 1.5, RNG), TypeError, r"pixels must be a whole number, got 1\.5"),
        (lambda: rotate(GOOD, 3, 2, 0.3, -10.0, RNG), ValueError, r"degrees must be in 0\.\.360, got -10\.0"),
        (lambda: rotate(GOOD, 3, 2, 0.3, 10.0, None), TypeError, r"rng must be .* got NoneType"),
        (lambda: rotate(GOOD[::-1], 3, 2, 0.3, 10.0, RNG), ValueError, r"events\[1\]\.t must be not earlier"),
        (lambda: scale(GOOD, 3, 2, 0.3, 0.8, RNG), ValueError, r"factor must be in 1\.\.100, got 0\.8"),
        (lambda: scale(([1], [2]), 3, 2, 0.3, 1.2, RNG), TypeError, "events must be an array of dtype"),
        (lambda: map_pixels(GOOD, 3, 2, np.ones(2)), ValueError, r"matrix must be \(2, 2\) with entries in"),
        (
            lambda: map_pixels(GOOD, 3, 2, np.full((2, 2), np.nan)),
            ValueError,
            r"matrix must be .* got \[\[nan, nan\], \[nan, nan\]\]",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)

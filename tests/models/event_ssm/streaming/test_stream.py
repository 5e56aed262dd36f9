"""Event by event as the equations and as the offline network, for any cut; prefixes, stamps, refusals."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from event_by_event import SMALL, event_by_event, network, relative, scores, stream, varied
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.models.event_ssm import EventSSM, EventSSMConfig, EventStream
from eventbook.models.event_ssm.streaming import loop

READINGS = {
    "async": {},
    "dirac, time, first": {"discretization": "dirac", "pooling": "time", "kept": "first", "head": "time"},
    "zoh, batch norm": {"discretization": "zoh", "norm": "batch", "expansion": 2, "layers": 2},
    "last": {"pooling": "last", "conj_sym": False, "clip_eigs": True, "stages": 1, "stride": 3},
    "last, first": {"pooling": "last", "kept": "first", "expansion": 3, "stages": 3},
    "stride 1": {"stride": 1, "layers": 2, "pooling": "time", "head": "time"},
    "as released": {"alignment": "as_released", "kept": "first", "discretization": "zoh"},
    "constant gap": {"constant_gap": 0.7, "pooling": "time", "head": "time"},
    "as released, constant gap": {"alignment": "as_released", "constant_gap": 0.7, "head": "time"},
    "wide": {"d_model": 35, "d_state": 72, "blocks": 4, "layers": 2},
}


@cache
def made(reading: str, dtype: torch.dtype = torch.float64) -> EventSSM:
    return network(replace(SMALL, **READINGS[reading]), seed=3, dtype=dtype)


def pushed(fed: EventStream, tokens, stamps, cuts) -> tuple[np.ndarray, list[int]]:
    """Scores, and the event that each came with, for a stream fed in pieces."""
    found, events = [], []
    for start, end in zip([0, *cuts], [*cuts, len(tokens)], strict=True):
        out = fed.push(tokens[start:end], stamps[start:end])
        found.append(out.scores)
        events += (start + out.at).tolist()
    return np.concatenate(found), events


# --- the equations, and the offline network ----------------------------------------------------------------


@pytest.mark.parametrize("reading", READINGS)
@given(n=st.integers(1, 40), cuts=st.lists(st.integers(0, 40), max_size=6), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_any_cut_of_a_stream_is_its_equations(reading, n, cuts, seed):
    """Every output, with every event as its own chunk too; the last output is the offline one."""
    model, (tokens, stamps) = made(reading), stream(n, seed)
    expected = event_by_event(model, tokens, stamps)
    waits = model.config.alignment == "as_released"
    for places in (sorted(min(cut, n) for cut in cuts), range(1, n)):
        fed = EventStream(model)
        found, events = pushed(fed, tokens, stamps, places)
        assert events == [output.event + waits for output in expected]
        assert fed.outputs == len(found) == max(n - waits, 0) // model.config.total_stride
        assert fed.events == n - waits
        if expected:
            assert relative(found, [output.scores for output in expected]) < 1e-12
    if expected:
        assert relative(found[-1], scores(model, [(tokens, stamps)])[0]) < 1e-12


@pytest.mark.parametrize("reading", READINGS)
def test_outputs_are_those_of_the_offline_prefixes(reading):
    """E7: as many as there are whole groups, each the offline scores of the events so far."""
    model, (tokens, stamps) = made(reading), stream(41)
    found, events = pushed(EventStream(model), tokens, stamps, [7, 30])
    usable = 41 - (model.config.alignment == "as_released")
    assert len(found) == usable // model.config.total_stride
    for event, one in zip(events, found, strict=True):
        assert relative(one, scores(model, [(tokens[: event + 1], stamps[: event + 1])])[0]) < 1e-12


@pytest.mark.parametrize("reading", READINGS)
def test_single_precision_is_the_offline_network_to_rounding(reading):
    model, (tokens, stamps) = made(reading, torch.float32), stream(200)
    found, _ = pushed(EventStream(model), tokens, stamps, [1, 100])
    assert found.dtype == np.float32
    assert relative(found[-1], scores(model, [(tokens, stamps)])[0]) < 2e-5
    double, _ = pushed(EventStream(copy.deepcopy(model).double()), tokens, stamps, [])
    assert relative(found, double) < 2e-5


def test_a_restart_at_every_chunk_is_another_network():
    """E4n: the negative control of carried state."""
    model, (tokens, stamps) = made("async"), stream(48)
    expected, _ = pushed(EventStream(model), tokens, stamps, [])
    fed, found = EventStream(model), []
    for start in range(0, 48, 8):
        fed.reset()
        found.append(fed.push(tokens[start : start + 8], stamps[start : start + 8]).scores)
    assert relative(np.concatenate(found), expected) > 0.1


@pytest.mark.parametrize("reading", ["async", "zoh, batch norm", "as released", "constant gap"])
def test_gaps_do_what_their_stamps_do(reading):
    model, (tokens, stamps) = made(reading), stream(40)
    batch = model.collate([(tokens, stamps)])
    expected, _ = pushed(EventStream(model), tokens, stamps, [13])
    fed = EventStream(model)
    n = int(batch.lengths[0])
    parts = [
        fed.push_gaps(batch.token[0, a:b].numpy(), batch.gap[0, a:b].numpy()).scores
        for a, b in ((0, 5), (5, 5), (5, n))
    ]
    assert np.array_equal(np.concatenate(parts), expected)


def test_gaps_of_double_precision_are_kept():
    model = made("async")
    tokens, gap = np.array([1, 2, 3, 4]), np.array([0.0, 1e-9 + 1, 2, 3])
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)[None], torch.from_numpy(gap)[None])[0]
    assert relative(EventStream(model).push_gaps(tokens, gap).scores[0], expected) < 1e-13


# --- what a stream is --------------------------------------------------------------------------------------


def test_a_stream_is_a_copy_of_the_network_in_evaluation():
    model = varied(norm="batch", dropout=0.5).train()
    tokens, stamps = stream(40)
    fed = EventStream(model)
    assert model.training
    assert model.layers[0].norm.training
    averages = [buffer.clone() for buffer in model.buffers()]
    found, _ = pushed(fed, tokens, stamps, [5])
    assert all(map(torch.equal, model.buffers(), averages))
    assert relative(found[-1], scores(model.eval(), [(tokens, stamps)])[0]) < 1e-12
    fed.reset()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert np.array_equal(pushed(fed, tokens, stamps, [5])[0], found)


def test_streams_of_one_network_do_not_meet():
    model, (tokens, stamps) = made("async"), stream(40)
    one, other = EventStream(model), EventStream(model)
    expected, _ = pushed(EventStream(model), tokens, stamps, [])
    found = []
    for k in range(40):
        found.append(one.push(tokens[k], stamps[k]).scores)
        other.push(tokens[-1 - k], stamps[k])
    assert np.array_equal(np.concatenate(found), expected)


def test_a_reset_stream_is_as_new():
    model, (tokens, stamps) = made("as released"), stream(40)
    fed = EventStream(model)
    expected, _ = pushed(fed, tokens, stamps, [3])
    fed.reset()
    assert (fed.events, fed.outputs) == (0, 0)
    again, _ = pushed(fed, tokens, stamps - 500_000, [3])  # earlier than before
    assert np.array_equal(again, expected)
    fed.reset()
    fed.push_gaps([1], [0.0])  # gaps instead of stamps
    fed.reset()
    assert np.array_equal(pushed(fed, tokens, stamps, [3])[0], expected)


def test_what_is_kept_does_not_grow():
    fed = EventStream(made("async"))
    sizes = [a.nbytes for a in (fed._memory, fed._sums, fed._head, fed._scratch)]
    fed.push(*stream(20_000))
    assert [a.nbytes for a in (fed._memory, fed._sums, fed._head, fed._scratch)] == sizes
    assert fed.events == 20_000


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.uint64])
def test_integers_of_any_width_are_taken(dtype):
    model = made("async")
    tokens, stamps = np.array([1, 5, 2, 3]), np.array([3, 90, 90, 120])
    expected = EventStream(model).push(tokens, stamps)
    found = EventStream(model).push(tokens.astype(dtype), stamps.astype(dtype))
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.at, expected.at)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_stamps_as_far_apart_as_there_are(cut):
    """Differences of 64-bit stamps are gaps, also where they are no 64-bit stamps themselves."""
    model = made("async")
    tokens, stamps = np.array([1, 2, 3, 4]), np.array([-(2**63), -(2**63) + 5, 2**63 - 9, 2**63 - 1])
    found, _ = pushed(EventStream(model), tokens, stamps, [cut])
    expected = scores(model, [(tokens, stamps)])
    assert np.isfinite(found).all()
    assert relative(found[-1], expected[0]) < 1e-12


def test_nothing_may_be_pushed():
    fed = EventStream(made("as released"))
    out = fed.push([], [])
    assert out.scores.shape == (0, 3)
    assert out.at.shape == (0,)
    tokens, stamps = stream(9)
    fed.push(tokens, stamps)
    assert fed.push([], []).scores.shape == (0, 3)
    assert fed.events == 8  # the last one still waits


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "stamp", "error", "message"),
    [
        ([1, 7], [10**7, 10**7], ValueError, r"token\[1\] must be in 0..6, got 7"),
        ([1, -1], [10**7, 10**7], ValueError, r"token\[1\] must be in 0..6, got -1"),
        ([1, 2], [10**7, 10**7 - 1], ValueError, r"stamp\[1\] must not be earlier than 10000000 us, got"),
        ([1, 2], [3, 10**7], ValueError, r"stamp\[0\] must not be earlier than \d+ us, got 3 us"),
        ([1, 2], [10**7], ValueError, r"stamp must be \(event,\) = \(2,\), got shape \(1,\)"),
        ([], [10**7], ValueError, r"stamp must be \(event,\) = \(0,\), got shape \(1,\)"),
        ([[1, 2]], [10**7, 10**7], ValueError, r"token must be \(event,\), got shape \(1, 2\)"),
        ([1.0], [10**7], TypeError, "token must be integers, got float64"),
        ([1], [1e7], TypeError, "stamp must be integers, got float64"),
        ([True], [10**7], TypeError, "token must be integers, got bool"),
        ([1], [np.uint64(2**63)], ValueError, r"stamp\[0\] must be below 2\^63, got 9223372036854775808"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("reading", ["async", "as released"])
def test_a_refused_push_leaves_the_stream_as_it_was(reading, token, stamp, error, message):
    model, (tokens, stamps) = made(reading), stream(30)
    fed, twin = EventStream(model), EventStream(model)
    for one in (fed, twin):
        one.push(tokens[:17], stamps[:17])
    with pytest.raises(error, match=message) as caught:
        fed.push(token, stamp)
    assert "\n" not in str(caught.value)
    assert (fed.events, fed.outputs) == (twin.events, twin.outputs)
    found, expected = (one.push(tokens[17:], stamps[17:]) for one in (fed, twin))
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.at, expected.at)


@pytest.mark.parametrize(
    ("token", "gap", "error", "message"),
    [
        ([1, 2], [0.5, -0.5], ValueError, r"gap must be >= 0, got -0.5 at \[0, 1\]"),
        ([1, 2], [np.nan, 0.5], ValueError, r"gap must be >= 0, got nan at \[0, 0\]"),
        ([1, 2], [0.5, np.inf], ValueError, r"gap must be <= 2\^100, got inf at \[0, 1\]"),
        ([1, 2], [0.5], ValueError, r"gap must be \(event,\) = \(2,\), got shape \(1,\)"),
        ([1, 7], [0.5, 0.5], ValueError, r"token\[1\] must be in 0..6, got 7"),
        ([1], [3], TypeError, r"gap must be floating-point numbers \(milliseconds\), got int64"),
    ],
)
def test_refused_gaps_leave_the_stream_as_it_was(token, gap, error, message):
    fed, twin = EventStream(made("async")), EventStream(made("async"))
    for one in (fed, twin):
        one.push_gaps([1, 2, 3], [0.0, 1.0, 2.0])
    with pytest.raises(error, match=message) as caught:
        fed.push_gaps(token, gap)
    assert "\n" not in str(caught.value)
    assert np.array_equal(fed.push_gaps([5], [1.0]).scores, twin.push_gaps([5], [1.0]).scores)


def test_gaps_and_stamps_do_not_mix():
    fed = EventStream(made("async"))
    fed.push(1, 10)
    with pytest.raises(
        ValueError, match="gap must not follow stamps in one stream: use push, or reset first"
    ):
        fed.push_gaps(1, 0.5)
    fed.reset()
    fed.push_gaps(1, 0.5)
    with pytest.raises(ValueError, match="stamp must not follow gaps in one stream: use push_gaps, or reset"):
        fed.push(1, 10)
    assert fed.events == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_precisions_are_refused(dtype):
    with pytest.raises(TypeError, match="model must be float32 or float64, got "):
        EventStream(varied().to(dtype))


def test_parts_of_the_loop_are_for_kernels():
    for part in (loop.product, loop.norm, loop.advance):
        with pytest.raises(TypeError, match="is callable from kernels alone"):
            part()


def test_only_a_network_with_finite_weights_becomes_a_stream():
    with pytest.raises(TypeError, match="model must be an EventSSM, got NoneType"):
        EventStream(None)
    made = EventSSM(EventSSMConfig(4, 2, d_model=8, d_state=8, blocks=1, stride=2))
    with torch.no_grad():
        made.readout.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"model must have finite weights, got others in readout\.bias"):
        EventStream(made)

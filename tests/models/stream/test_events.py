"""The classifier of event streams: batches, units of time, thinning, errors, weights as an object."""

from __future__ import annotations

import copy
import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from bad_events import AND_EMPTY_ROWS, assert_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from eventbook.models.stream import StreamConfig, StreamEvents
from eventbook.models.stream.events import parameter_groups

SMALL = StreamConfig(3, d_model=4, d_state=3, blocks=2, unit=40.0)
TOKENS = 7


def network(seed: int = 0, **changes) -> StreamEvents:
    """In double precision, with all weights away from zero."""
    made = StreamEvents(TOKENS, replace(SMALL, **changes), generator=torch.Generator().manual_seed(seed))
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for weight in made.double().parameters():
            weight += torch.from_numpy(0.2 * rng.standard_normal(tuple(weight.shape)))
        for block in made.blocks:
            block.out_proj *= 4
    return made


def stream(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, TOKENS, n), np.cumsum(rng.integers(0, 9_000, n))


def scores(made: StreamEvents, streams) -> torch.Tensor:
    with torch.no_grad():
        return made(*made.collate(streams).inputs)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


VARIANTS = [
    {},
    {"gap_feature": True},
    {"step": "learned"},
    {"step": "learned", "gap_feature": True, "conv_width": 4},
    {"conv_width": 4, "expand": 2, "discretization": "bilinear"},
    {"discretization": "async"},
]


# --- the equations of the network --------------------------------------------------------------------------


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_scores_are_the_mean_of_what_the_blocks_make_of_rows(changes):
    made, (tokens, stamps) = network(**changes), stream(12)
    gap = torch.from_numpy(np.diff(stamps, prepend=stamps[0]) / 1000 / 40)
    with torch.no_grad():
        v = made.embedding[torch.from_numpy(tokens)]
        if made.config.gap_feature:
            v = v + (1 + gap).log()[:, None] * made.gap_weight
        v = v[None]
        for block in made.blocks:
            v, _ = block(v, gap[None])
        expected = made.readout.weight @ v[0].mean(0) + made.readout.bias
    assert apart(scores(made, [(tokens, stamps)])[0], expected) < 1e-6  # collate rounds gaps
    batch = made.collate([(tokens, stamps)])
    with torch.no_grad():
        exact = made(batch.token, 40 * gap[None], batch.lengths)[0]
    assert apart(exact, expected) < 1e-13


# --- batches -----------------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5), more=st.integers(0, 20),
    changes=st.sampled_from(VARIANTS),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_a_stream_in_a_batch_is_what_it_is_alone_whatever_the_padding(lengths, more, changes):
    made = network(**changes)
    streams = [stream(n, k) for k, n in enumerate(lengths)]
    batch = made.collate(streams)
    alone = torch.cat([scores(made, [one]) for one in streams])
    assert apart(scores(made, streams), alone) < 1e-12
    for pad, since in ((TOKENS, 0.0), (2, 3.5)):  # also padding that looks like events
        token = torch.where(batch.mask, batch.token, torch.tensor(pad))
        gap = torch.where(batch.mask, batch.gap, torch.tensor(since))
        with torch.no_grad():
            found = made(
                functional.pad(token, (0, more), value=pad), functional.pad(gap, (0, more), value=since),
                batch.lengths,
            )  # fmt: skip
        assert apart(found, alone) < 1e-12


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_padding_that_counts_would_be_noticed(changes):
    """Negative control."""
    made = network(**changes)
    batch = made.collate([stream(20, 1), stream(8, 2)])
    with torch.no_grad():
        wrong = made(batch.token, batch.gap, torch.tensor([20, 20]))
        right = made(*batch.inputs)
    assert torch.equal(wrong[0], right[0])
    assert apart(wrong[1], right[1]) > 1e-3


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_gradients_do_not_depend_on_padding(changes):
    found = []
    for extra in (0, 7):
        made = network(**changes)
        token, gap, lengths = made.collate([stream(20, 1), stream(8, 2)]).inputs
        token, gap = functional.pad(token, (0, extra), value=3), functional.pad(gap, (0, extra), value=2.0)
        made(token, gap, lengths).square().sum().backward()
        found.append([weight.grad for weight in made.parameters()])
        assert all(grad is not None and grad.abs().sum() > 0 for grad in found[-1])
    assert max(map(apart, *found)) < 1e-11


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_carried_state_makes_pieces_the_whole(changes):
    made = network(**changes)
    batch = made.collate([stream(24, 1), stream(24, 2)])
    with torch.no_grad():
        whole, last = made.encode(batch.token, batch.gap)
        for cuts in ([0, 8, 9, 20], list(range(24))):
            carried, parts = None, []
            for start, end in zip(cuts, [*cuts[1:], 24], strict=True):
                part, carried = made.encode(batch.token[:, start:end], batch.gap[:, start:end], carried)
                parts.append(part)
            assert apart(torch.cat(parts, 1), whole) < 1e-12
            assert all(apart(a, b) < 1e-12 for one, other in zip(carried, last, strict=True)
                       for a, b in zip(one, other, strict=True) if a.numel())  # fmt: skip
        forgotten, _ = made.encode(batch.token[:, 8:], batch.gap[:, 8:])  # negative control
        assert apart(forgotten, whole[:, 8:]) > 1e-3


# --- time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_gaps_and_unit_scale_together(changes):
    """S8: by a power of two there is no rounding."""
    made = network(**changes)
    token, gap, lengths = made.collate([stream(20, 1), stream(8, 2)]).inputs
    slower = network(**changes, unit=320.0)
    with torch.no_grad():
        assert torch.equal(slower(token, 8 * gap, lengths), made(token, gap, lengths))
        sees_time = made.config.step == "coordinate" or made.config.gap_feature
        change = apart(slower(token, gap, lengths), made(token, gap, lengths))
    assert (change > 1e-4) if sees_time else (change == 0)  # negative control


def test_shifted_stamps_give_the_same_scores_to_the_bit():
    """S2."""
    made, (tokens, stamps) = network(), stream(30)
    assert torch.equal(scores(made, [(tokens, stamps + 10**15)]), scores(made, [(tokens, stamps)]))


@given(n=st.integers(2, 40), share=st.floats(0.1, 0.9), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_thinning_keeps_time(n, share, seed):
    """The gaps of events that are left out go to the next one that is kept: ages do not change."""
    tokens, stamps = stream(n, seed)
    keep = np.random.default_rng(seed).random(n) < share
    keep[0] = True
    made = network()
    whole, thinned = (made.collate([(tokens[k], stamps[k])]).gap[0].double() for k in (slice(None), keep))
    assert thinned.sum() <= whole.sum() + 1e-3
    assert apart(thinned.cumsum(0), whole.cumsum(0)[torch.from_numpy(keep)]) < 1e-3  # float32 milliseconds


def test_events_that_bring_nothing_leave_the_state_of_a_coordinate_step_alone():
    """S4 and S4n: null events split gaps; a learned step forgets at them all the same.

    A null token is null for the scan where norm and projections have no bias, in the first block.
    """
    rng = np.random.default_rng(0)
    tokens, stamps = stream(30)
    stamps = stamps + np.arange(30) * 1000
    between = stamps[:-1] + (rng.random(29) * np.diff(stamps)).astype(np.int64)
    more = np.insert(tokens, np.arange(1, 30), TOKENS), np.insert(stamps, np.arange(1, 30), between)
    for step, changes in (("coordinate", False), ("learned", True)):
        made = network(blocks=1, step=step)
        found = []
        with torch.no_grad():
            made.blocks[0].norm.bias.zero_()
            for token, stamp in ((tokens, stamps), more):
                gap = torch.from_numpy(np.diff(stamp, prepend=stamp[0]) / 1000)[None]
                _, (carried,) = made.encode(torch.from_numpy(token)[None], gap)
                found.append(carried.state)
        change = apart(*found) / float(found[0].abs().max())
        assert (change > 0.1) if changes else (change < 1e-12)


# --- a network as an object --------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_groups_are_a_partition_of_the_parameters(changes):
    made = network(**changes)
    dynamics, others = made.parameter_groups(lr=0.1, ssm_lr=0.5, weight_decay=0.2)
    assert (dynamics["lr"], dynamics["weight_decay"]) == (0.5, 0.0)
    assert (others["lr"], others["weight_decay"]) == (0.1, 0.2)
    names = {id(weight): name for name, weight in made.named_parameters()}
    found = [names[id(weight)] for group in (dynamics, others) for weight in group["params"]]
    assert sorted(found) == sorted(names.values())
    slow = {names[id(weight)].rpartition(".")[2] for weight in dynamics["params"]}
    expected = {"A_log", "D", "dt_bias"}
    expected |= {"beta"} if made.config.step == "coordinate" else set()
    if made.config.discretization == "async":
        expected = expected - {"dt_bias"} | {"own_step"}
    assert slow == expected
    again = parameter_groups(made, lr=0.1, ssm_lr=0.5, weight_decay=0.2)
    assert [list(map(id, g["params"])) for g in again] == [
        list(map(id, g["params"])) for g in (dynamics, others)
    ]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_saved_copied_and_converted_networks_are_the_same(changes):
    made = network(**changes)
    expected = scores(made, [stream(30)])
    buffer = io.BytesIO()
    torch.save(made.state_dict(), buffer)
    buffer.seek(0)
    other = network(1, **changes)
    assert apart(scores(other, [stream(30)]), expected) > 1e-3
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(scores(other, [stream(30)]), expected)
    assert torch.equal(scores(copy.deepcopy(made), [stream(30)]), expected)
    single = scores(copy.deepcopy(made).float(), [stream(30)])
    assert single.dtype == torch.float32
    assert apart(single.double(), expected) < 1e-4 * (1 + float(expected.abs().max()))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_first_weights_come_from_the_generator_alone(changes):
    def weights(seed):
        generator = torch.Generator().manual_seed(seed)
        return list(
            StreamEvents(TOKENS, replace(SMALL, **changes), generator=generator).state_dict().values()
        )

    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = weights(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    assert all(map(torch.equal, weights(0), first))
    assert not torch.equal(weights(1)[0], first[0])


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "change", "error", "message"), AND_EMPTY_ROWS)
@pytest.mark.parametrize("step", ["coordinate", "learned"])
def test_bad_input_gets_one_clear_line(step, name, change, error, message):
    made = network(step=step)
    assert_refused(made, name, change, error, message)
    if name != "lengths":
        assert_refused(lambda token, gap, lengths: made.encode(token, gap), name, change, error, message)


def test_a_stream_without_events_has_no_scores():
    made = network()
    with pytest.raises(ValueError, match=r"lengths\[1\] must be in 1..9 \(time\), got 0"):
        scores(made, [stream(9), stream(0)])


def test_streams_that_cannot_be_collated_are_named():
    with pytest.raises(ValueError, match=r"streams\[1\] tokens\[2\] must be in 0..6, got 7"):
        network().collate([stream(3), (np.array([0, 1, 7]), np.arange(3))])


def test_states_of_another_network_are_refused():
    made, batch = network(), network().collate([stream(9)])
    _, carried = made.encode(batch.token, batch.gap)
    with pytest.raises(ValueError, match="carried must have 2 states, one a block, got 1"):
        made.encode(batch.token, batch.gap, carried[:1])
    _, other = network(d_state=5).encode(batch.token, batch.gap)
    with pytest.raises(ValueError, match=r"carried.state must be \(1, 4, 3\), got \(1, 4, 5\)"):
        made.encode(batch.token, batch.gap, other)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_classes": 0}, ValueError, "n_classes must be >= 1, got 0"),
        ({"blocks": 0}, ValueError, "blocks must be >= 1, got 0"),
        ({"blocks": 1.5}, TypeError, "blocks must be a whole number, got 1.5"),
        ({"unit": 0.0}, ValueError, "unit must be > 0, got 0.0"),
        ({"unit": math.nan}, ValueError, "unit must be > 0, got nan"),
        ({"unit": math.inf}, ValueError, "unit must be > 0, got inf"),
        ({"d_model": 0}, ValueError, "d_model must be >= 1, got 0"),
        ({"d_model": -2}, ValueError, "d_model must be >= 1, got -2"),
        ({"step": "own"}, ValueError, "step must be one of coordinate, learned, got 'own'"),
        ({"discretization": "euler"}, ValueError, "discretization must be one of .*, got 'euler'"),
    ],
)
def test_a_network_that_makes_no_sense_is_refused(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        network(**changes)
    assert "\n" not in str(caught.value)


def test_the_token_map_has_a_whole_size():
    with pytest.raises(ValueError, match="n_tokens must be >= 1, got 0"):
        StreamEvents(0, SMALL)
    with pytest.raises(TypeError, match=r"n_tokens must be a whole number, got 2\.5"):
        StreamEvents(2.5, SMALL)

"""The network against its equations written event by event, exact properties, gradients, errors."""

from __future__ import annotations

import copy
import io
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
import torch
from bad_events import BAD_EVENTS, good_events, spoilt
from event_by_event import SMALL, event_by_event, network, relative, scores, stream, varied
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from eventbook.models import event_input
from eventbook.models.event_ssm import EventSSM, EventSSMConfig, classifier, layer

DIMENSIONS = {
    "discretization": ("async", "dirac", "zoh"),
    "pooling": ("last", "average", "time"),
    "kept": ("last", "first"),
    "alignment": ("aligned", "as_released"),
    "norm": ("layer", "batch"),
    "head": ("mean", "time"),
    "conj_sym": (True, False),
    "clip_eigs": (False, True),
    "constant_gap": (None, 0.7),
    "expansion": (1, 2),
    "stages": (1, 2, 3),
    "layers": (1, 2),
    "stride": (1, 2, 3),
}


def offline(model: EventSSM, tokens, stamps):
    """Scores, and what the last layer says, of one stream."""
    batch = model.collate([(tokens, stamps)])
    with torch.no_grad():
        encoded = model.encode(batch.token, batch.gap, batch.lengths)
        return model.readout(model.summary(encoded))[0], encoded


def assert_is_the_equations(model: EventSSM, tokens, stamps, tolerance: float = 1e-12) -> None:
    expected = event_by_event(model, tokens, stamps)
    found, encoded = offline(model, tokens, stamps)
    assert encoded.lengths.tolist() == [len(expected)]
    assert relative(encoded.values[0], [output.values for output in expected]) < tolerance
    assert encoded.gap[0].numpy() == pytest.approx([output.gap for output in expected], rel=tolerance)
    assert relative(found, expected[-1].scores) < tolerance


# --- the equations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("discretization", "pooling", "kept", "norm", "conj_sym"),
    [
        (*words, ("layer", "batch")[number % 2], number % 4 < 2)
        for number, words in enumerate(
            product(*(DIMENSIONS[name] for name in ("discretization", "pooling", "kept")))
        )
    ],
)
def test_every_reading_of_events_is_its_equations(discretization, pooling, kept, norm, conj_sym):
    model = varied(
        discretization=discretization, pooling=pooling, kept=kept, norm=norm, conj_sym=conj_sym, expansion=2,
        layers=2,
    )  # fmt: skip
    assert_is_the_equations(model, *stream(17))


@given(
    changes=st.fixed_dictionaries({name: st.sampled_from(words) for name, words in DIMENSIONS.items()}),
    extra=st.integers(0, 30),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_any_configuration_is_its_equations(changes, extra, seed):
    config = replace(SMALL, d_model=3, d_state=4, blocks=1, **changes)
    n = config.total_stride + extra + (config.alignment == "as_released")
    assert_is_the_equations(network(config, seed), *stream(n, seed))


def test_clipped_eigenvalues_are_those_of_the_equations():
    model = varied(clip_eigs=True)
    with torch.no_grad():
        for layer in model.layers:
            layer.lam_real[1] = 0.05
    assert_is_the_equations(model, *stream(20))
    model.config = replace(model.config, clip_eigs=False)  # of the equations alone
    with pytest.raises(AssertionError):
        assert_is_the_equations(model, *stream(20))


def test_single_precision_is_the_equations_to_rounding():
    assert_is_the_equations(varied(expansion=2).float(), *stream(40), 2e-5)


@pytest.mark.parametrize("change", [{"kept": "first"}, {"pooling": "time"}, {"head": "time"}])
def test_the_equations_notice_another_network(change):
    """Negative control: a tolerance of 1e-12 is not met by what is nearly the same."""
    model = varied()
    expected = event_by_event(model, *stream(20))[-1].scores
    model.config = replace(model.config, **change)
    assert relative(event_by_event(model, *stream(20))[-1].scores, expected) > 1e-3


# --- exact properties --------------------------------------------------------------------------------------


def with_null_events(tokens, stamps, seed: int = 0):
    """A null event, the token of the padding, at a random time of every gap."""
    rng = np.random.default_rng(seed)
    between = stamps[:-1] + (rng.random(len(stamps) - 1) * np.diff(stamps)).astype(np.int64)
    return (
        np.insert(tokens, np.arange(1, len(tokens)), SMALL.n_tokens),
        np.insert(stamps, np.arange(1, len(stamps)), between),
    )


@pytest.mark.parametrize(("discretization", "changes"), [("async", False), ("dirac", False), ("zoh", True)])
def test_null_events_leave_the_state_as_it_is_but_for_a_held_input(discretization, changes):
    """E1 and E1n, on the state after the first layer of the network; stamps are whole microseconds."""
    model = varied(discretization=discretization, stages=1, stride=1)
    tokens, stamps = stream(60)
    states = []
    for token, stamp in ((tokens, stamps), with_null_events(tokens, stamps)):
        gap = torch.from_numpy(np.diff(stamp, prepend=stamp[0]) / 1000)
        lengths = torch.tensor([len(token)])
        with torch.no_grad():
            states.append(
                model.layers[0].from_tokens(
                    model.embedding, torch.from_numpy(token)[None], gap[None], lengths
                )
            )
    change = relative(states[1].state, states[0].state)
    assert (change > 0.1) if changes else (change < 1e-12)


@pytest.mark.parametrize(("discretization", "changes"), [("async", False), ("dirac", False), ("zoh", True)])
def test_simultaneous_events_may_change_places(discretization, changes):
    """E2; under a held input the second of them has no weight."""
    model = varied(discretization=discretization, stages=1, stride=4)
    tokens, stamps = np.array([1, 4, 2, 5]), np.array([0, 2_000, 9_000, 9_000])
    found = [offline(model, order, stamps)[1] for order in (tokens, tokens[[0, 1, 3, 2]])]
    change = relative(found[1].values, found[0].values)
    assert (change > 0.01) if changes else (change < 1e-12)


@pytest.mark.parametrize("discretization", ["async", "dirac"])
def test_time_and_step_scale_together_in_the_decay_and_not_in_the_gain(discretization):
    """E5: exactly so with delta pulses, and for `async` once its gain is held fixed."""
    c = 2.5
    model = varied(discretization=discretization, head="mean")
    slower = copy.deepcopy(model)
    with torch.no_grad():
        for layer in slower.layers:
            layer.log_step -= np.log(c)
            ratio = layer.gain() / model.layers[0].gain()
            assert (discretization == "async") == bool(((ratio - 1).abs() > 0.01).any())
    batch = model.collate([stream(40)])
    found = [m.encode(batch.token, gap.double()) for m, gap in ((model, batch.gap), (slower, batch.gap))]
    assert relative(found[1].values, found[0].values) > 1e-3  # negative control: time did not follow
    found[1] = slower.encode(batch.token, c * batch.gap.double())
    assert (relative(found[1].values, found[0].values) < 1e-12) == (discretization == "dirac")
    with torch.no_grad():
        for own, its in zip(slower.layers, model.layers, strict=True):
            B = torch.view_as_complex(its.B.clone()) * (its.gain() / own.gain())[:, None]
            own.B.copy_(torch.view_as_real(B))
    again = slower.encode(batch.token, c * batch.gap.double())
    assert relative(again.values, found[0].values) < 1e-12


@pytest.mark.parametrize("alignment", ["aligned", "as_released"])
def test_shifted_stamps_give_the_same_scores_to_the_bit(alignment):
    """E6, also where float32 stamps would long have lost the microsecond."""
    model = varied(alignment=alignment)
    tokens, stamps = stream(40)
    assert torch.equal(scores(model, [(tokens, stamps)]), scores(model, [(tokens, stamps + 3 * 10**15)]))
    later = stamps + np.arange(40)  # negative control: one more microsecond between all
    assert not torch.equal(scores(model, [(tokens, stamps)]), scores(model, [(tokens, later)]))


@pytest.mark.parametrize("discretization", ["async", "dirac"])
def test_as_released_is_aligned_with_each_stamp_replaced_by_the_next(discretization):
    """E11, and the two alignments differ by more than five per cent."""
    released = varied(discretization=discretization, alignment="as_released")
    aligned = varied(discretization=discretization)
    tokens, stamps = stream(41)
    expected = scores(aligned, [(tokens[:-1], stamps[1:])])
    assert relative(scores(released, [(tokens, stamps)]), expected) < 1e-12
    assert relative(scores(released, [(tokens, stamps)]), scores(aligned, [(tokens, stamps)])) > 0.05


def test_async_is_dirac_with_the_gain_in_the_input_map():
    """E12."""
    model = varied(discretization="async", layers=2)
    dirac = varied(discretization="dirac", layers=2)
    dirac.load_state_dict(model.state_dict())
    expected = scores(model, [stream(40)])
    assert relative(scores(dirac, [stream(40)]), expected) > 1e-3  # negative control
    with torch.no_grad():
        for own, its in zip(dirac.layers, model.layers, strict=True):
            B = its.gain()[:, None] * torch.view_as_complex(its.B.clone())
            own.B.copy_(torch.view_as_real(B))
    assert relative(scores(dirac, [stream(40)]), expected) < 1e-12


@given(lengths=st.lists(st.integers(4, 40), min_size=1, max_size=5), more=st.integers(0, 30))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_padding_changes_nothing(norm, training, lengths, more):
    """E13: longer, and with tokens and gaps in it; scores and running averages to the bit.

    Gradients too, if it is longer; tokens in it change the order in which zeros are added to them.
    """
    found = []
    for extra, pad, since in ((0, SMALL.n_tokens, 0.0), (more, SMALL.n_tokens, 0.0), (more, 2, 3.5)):
        model = varied(norm=norm, pooling="time", head="time").train(training)
        batch = model.collate([stream(n, k) for k, n in enumerate(lengths)])
        token = torch.where(batch.mask, batch.token, torch.tensor(pad))
        gap = torch.where(batch.mask, batch.gap, torch.tensor(since))
        out = model(
            functional.pad(token, (0, extra), value=pad),
            functional.pad(gap, (0, extra), value=since),
            batch.lengths,
        )
        out.square().sum().backward()
        found.append(([out.detach(), *model.buffers()], [p.grad for p in model.parameters()]))
    for values, gradients in found[1:]:
        assert all(map(torch.equal, values, found[0][0]))
        assert max(map(relative, gradients, found[0][1])) < 1e-13
    assert all(map(torch.equal, found[1][1], found[0][1]))


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("discretization", ["async", "zoh"])
def test_a_stream_in_a_batch_is_what_it_is_alone(norm, discretization):
    model = varied(norm=norm, discretization=discretization, expansion=2)
    streams = [stream(n, n) for n in (23, 4, 60, 5)]
    together = scores(model, streams)
    for row, one in zip(together, streams, strict=True):
        assert relative(row, scores(model, [one])[0]) < 1e-13


@pytest.mark.parametrize("constant_gap", [None, 1.3])
@pytest.mark.parametrize("discretization", ["async", "dirac", "zoh"])
def test_carried_state_makes_pieces_the_whole(discretization, constant_gap):
    """E4 and E4n on the network, with gradients: pieces of whole groups, state carried or forgotten."""
    model = varied(discretization=discretization, layers=2, constant_gap=constant_gap)
    batch = model.collate([stream(24, 1), stream(24, 2)])

    def found(cuts, forget=False):
        model.zero_grad()
        state, parts = None, []
        for start, end in zip(cuts, [*cuts[1:], 24], strict=True):
            piece = model.encode(
                batch.token[:, start:end],
                batch.gap[:, start:end],
                state=None if forget else state,
                carry=True,
            )
            state = piece.state
            parts.append(piece.values)
        values = torch.cat(parts, 1)
        values.square().sum().backward()
        return [values.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    whole = found([0])
    assert max(relative(a, b) for a, b in zip(found([0, 8, 12]), whole, strict=True)) < 1e-11
    assert relative(found([0, 8, 12], forget=True)[0], whole[0]) > 0.1


def test_carried_state_goes_around_padding():
    model = varied()
    streams = [stream(24, 1), stream(24, 2)]
    batch = model.collate(streams)
    lengths = torch.tensor([16, 8])
    with torch.no_grad():
        first = model.encode(batch.token, batch.gap, lengths, carry=True)
        for row, n in enumerate(lengths.tolist()):
            alone = model.encode(batch.token[row : row + 1, :n], batch.gap[row : row + 1, :n], carry=True)
            for together, single in zip(first.state, alone.state, strict=True):
                assert relative(together[row], single[0]) < 1e-13


# --- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"discretization": "async", "pooling": "average", "norm": "layer", "expansion": 2},
        {"discretization": "zoh", "pooling": "time", "norm": "batch", "head": "time"},
        {"discretization": "dirac", "pooling": "last", "kept": "first", "conj_sym": False, "clip_eigs": True},
    ],
    ids=lambda changes: changes["discretization"],
)
def test_gradients_are_those_of_finite_differences(changes):
    """E9 on the loss of a network in training, for every weight and every gap."""
    config = replace(SMALL, n_tokens=4, n_classes=2, d_model=2, d_state=4, blocks=1, **changes)
    model = network(config).train()
    batch = model.collate([stream(9, 1, 4), stream(6, 2, 4)])
    gap = (batch.gap + 0.3).double().requires_grad_()  # zero has a neighbour on one side alone
    names = [name for name, _ in model.named_parameters()]

    def loss(gap, *weights):
        model.load_state_dict(buffers, strict=False)  # averages run at every call
        out = torch.func.functional_call(
            model, dict(zip(names, weights, strict=True)), (batch.token, gap, batch.lengths)
        )
        return functional.cross_entropy(out, torch.tensor([1, 0]))

    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert torch.autograd.gradcheck(loss, (gap, *model.parameters()), atol=1e-6)


# --- a network as an object --------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_saved_copied_and_converted_networks_are_the_same(norm):
    model = varied(norm=norm)
    expected = scores(model, [stream(30)])
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other = EventSSM(model.config).double().eval()
    assert not torch.equal(scores(other, [stream(30)]), expected)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(scores(other, [stream(30)]), expected)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model.embedding.zero_()
    assert torch.equal(scores(twin, [stream(30)]), expected)
    assert scores(twin.float(), [stream(30)]).dtype == torch.float32
    assert relative(scores(twin, [stream(30)]), expected) < 2e-5
    assert relative(scores(twin.double(), [stream(30)]), expected) < 2e-5


def test_weights_are_those_of_the_generator():
    first, same, other = (EventSSM(SMALL, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    for (name, a), b, c in zip(
        first.state_dict().items(), same.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
        random = name.rpartition(".")[2] in ("embedding", "log_step", "B", "C", "D") or "weight" in name
        assert torch.equal(a, c) == (not random or "norm" in name), name
    EventSSM(SMALL, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_gaps_of_another_precision_are_converted():
    model = varied().float()
    batch = model.collate([stream(20)])
    with torch.no_grad():
        assert torch.equal(
            model(batch.token, batch.gap.double(), batch.lengths), model(batch.token, batch.gap)
        )


def test_rows_without_events_stay_without_outputs():
    model = varied()
    batch = model.collate([stream(20), stream(0), stream(3)])
    with torch.no_grad():
        encoded = model.encode(batch.token, batch.gap, batch.lengths)
        assert encoded.lengths.tolist() == [5, 0, 0]
        nothing = model.encode(batch.token[:, :0], batch.gap[:, :0])
        assert nothing.values.shape == (3, 0, 5)
    for constant_gap in (None, 1.0):
        empty = varied(constant_gap=constant_gap).collate([])
        assert varied(constant_gap=constant_gap)(empty.token, empty.gap, empty.lengths).shape == (0, 3)


def test_state_space_parameters_have_a_group_of_their_own():
    model = varied()
    dynamics, others = model.parameter_groups(lr=0.2, ssm_lr=0.1, weight_decay=0.3)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)].rpartition(".")[2] for p in dynamics["params"]}
    assert found == {"B", "lam_real", "lam_imag"}
    assert (dynamics["lr"], dynamics["weight_decay"]) == (0.1, 0.0)
    assert (others["lr"], others["weight_decay"]) == (0.2, 0.3)
    assert sorted(names) == sorted(id(p) for group in (dynamics, others) for p in group["params"])


@pytest.mark.parametrize(("discretization", "whole"), [("async", True), ("zoh", False)])
def test_a_network_traces_as_one_graph_unless_inputs_are_held(discretization, whole):
    model = varied(discretization=discretization, pooling="time", head="time").train()
    batch = model.collate([stream(20), stream(9)])
    compiled = torch.compile(model, backend="aot_eager", fullgraph=whole)
    arguments = batch.token, batch.gap, batch.lengths
    parameters = list(model.parameters())
    found = torch.autograd.grad(compiled(*arguments).square().sum(), parameters)
    expected = torch.autograd.grad(model(*arguments).square().sum(), parameters)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours, theirs) < 1e-12


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("discretization", ["async", "zoh"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        *BAD_EVENTS,
        ("lengths", lambda n: n - 3, ValueError, r"lengths\[1\] must be at least 4, .* got 1"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_clear_line(discretization, training, name, change, error, message):
    model = varied(discretization=discretization, norm="batch").train(training)
    model(**good_events())  # what is good may count in a batch norm, what is not may not
    before = [buffer.clone() for buffer in model.buffers()]
    arguments = good_events()
    with pytest.raises(error, match=message) as caught:
        model(**{**arguments, name: change(arguments[name])})
    assert "\n" not in str(caught.value)
    assert all(map(torch.equal, model.buffers(), before))


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("training", [False, True])
def test_lengths_are_looked_at_once_and_gaps_no_more_than_needed(monkeypatch, norm, training):
    """By the network, and by its first layer, which is open to others too; gaps before they count."""
    seen = {"lengths": [], "times": []}
    true_lengths, true_times = event_input.check_lengths, layer.check_times
    monkeypatch.setattr(
        event_input, "check_lengths", lambda *given: seen["lengths"].append(1) or true_lengths(*given)
    )
    monkeypatch.setattr(layer, "check_times", lambda gap: seen["times"].append(1) or true_times(gap))
    model = varied(norm=norm).train(training)
    model(**good_events())
    assert len(seen["lengths"]) == 2
    assert len(seen["times"]) == (len(model.layers) if training and norm == "batch" else 0)


@pytest.mark.parametrize("value", [-0.5, np.nan])
def test_gaps_that_a_constant_replaces_are_looked_at(value):
    model = varied(constant_gap=1.0)
    batch = model.collate([stream(9)])
    with pytest.raises(ValueError, match=r"gap must be >= 0, got .* at \[0, 4\]"):
        model(batch.token, spoilt(batch.gap, 0, 4, value))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_tokens": 0}, ValueError, "n_tokens must be >= 1, got 0"),
        ({"n_classes": -2}, ValueError, "n_classes must be >= 1, got -2"),
        ({"d_model": 8.0}, TypeError, "d_model must be a whole number, got 8.0"),
        ({"stages": 0}, ValueError, "stages must be >= 1, got 0"),
        ({"layers": 0}, ValueError, "layers must be >= 1, got 0"),
        ({"stride": 0}, ValueError, "stride must be >= 1, got 0"),
        ({"expansion": "2"}, TypeError, "expansion must be a whole number, got '2'"),
        ({"d_state": 6, "blocks": 4}, ValueError, "d_state must be a positive multiple of blocks = 4, got 6"),
        ({"d_state": 8.5}, TypeError, "d_state must be a whole number, got 8.5"),
        ({"d_state": 6, "blocks": 2}, ValueError, "d_state / blocks must be even for conj_sym.* got 3"),
        ({"head": "last"}, ValueError, "head must be one of mean, time, got 'last'"),
        ({"alignment": "released"}, ValueError, "alignment must be one of aligned, as_released, got"),
        ({"discretization": "bilinear"}, ValueError, "discretization must be one of dirac, async, zoh"),
        ({"pooling": "max"}, ValueError, "pooling must be one of last, average, time, got 'max'"),
        ({"kept": "middle"}, ValueError, "kept must be one of last, first, got 'middle'"),
        ({"norm": "group"}, ValueError, "norm must be one of layer, batch, got 'group'"),
        ({"dropout": 1.0}, ValueError, "dropout must be in 0..1, below 1, got 1.0"),
        ({"constant_gap": -1.0}, ValueError, "constant_gap must be >= 0 milliseconds, got -1.0"),
        ({"constant_gap": np.nan}, ValueError, "constant_gap must be >= 0 milliseconds, got nan"),
        ({"dt_min": 0.0}, ValueError, "dt_min and dt_max must be 0 < dt_min <= dt_max, got 0.0 and 0.9"),
        ({"dt_min": 2.0}, ValueError, "dt_min and dt_max must be 0 < dt_min <= dt_max, got 2.0 and 0.9"),
    ],
)  # fmt: skip
def test_a_network_that_makes_no_sense_is_refused(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        EventSSM(replace(SMALL, **changes))
    assert "\n" not in str(caught.value)


def test_streams_are_checked_where_they_are_collated():
    model = varied()
    with pytest.raises(ValueError, match=r"streams\[1\] stamps\[1\] must not be earlier than 9 us, got 4 us"):
        model.collate([stream(5), (np.array([1, 2]), np.array([9, 4]))])
    with pytest.raises(ValueError, match=r"streams\[0\] tokens\[1\] must be in 0..6, got 7"):
        model.collate([(np.array([1, 7]), np.array([4, 9]))])


def test_state_that_does_not_fit_is_refused():
    model = varied(layers=2)
    batch = model.collate([stream(8)])
    with pytest.raises(ValueError, match=r"lengths\[0\] must be a multiple of 4 events .* got 7"):
        model.encode(batch.token, batch.gap, torch.tensor([7]), carry=True)
    state = model.encode(batch.token, batch.gap, carry=True).state
    for bad in (state[:2], []):
        with pytest.raises(ValueError, match=f"state must have 4 tensors, one a layer, got {len(bad)}"):
            model.encode(batch.token, batch.gap, state=bad)
    with pytest.raises(ValueError, match=r"h0 must be \(batch, state\) = \(1, 4\), got \(1, 3\)"):
        model.encode(batch.token, batch.gap, state=[s[:, :3] for s in state])


def test_a_batch_larger_than_memory_is_refused_before_it_begins(monkeypatch):
    model = varied()
    batch = model.collate([stream(20)])
    needed = 3 * 16 * 4 * 20  # three copies of complex128 states, 4 of them an event
    monkeypatch.setattr(classifier, "physical_memory", lambda: float(needed))
    model(batch.token, batch.gap)
    monkeypatch.setattr(classifier, "physical_memory", lambda: needed - 1.0)
    with pytest.raises(MemoryError, match=r"a batch of 1 x 20 events needs at least .* GB") as caught:
        model(batch.token, batch.gap)
    assert "\n" not in str(caught.value)


def test_memory_is_infinite_where_the_system_does_not_tell(monkeypatch):
    assert 1e8 < classifier.physical_memory() < 1e15

    def silent(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(classifier.os, "sysconf", silent)
    assert classifier.physical_memory() == float("inf")


def test_every_field_of_a_configuration_is_described():
    described = EventSSMConfig.__doc__ or ""
    assert [field.name for field in fields(EventSSMConfig) if field.name not in described] == []

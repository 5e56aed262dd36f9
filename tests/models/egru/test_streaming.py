"""A stream, step by step, is the offline network: every form, both precisions, any cut, states both ways."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.events.egru import GATES, RESETS
from eventbook.models.egru import (
    EGRU,
    EGRUState,
    EGRUStream,
    SigmoidThreshold,
    Threshold,
    compress,
    from_gru,
)
from eventbook.models.egru.streaming import run

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed=0, hidden=(19, 33, 12), dtype=F64, **options):
    options = {"batch_first": True, "threshold": partial(SigmoidThreshold, mean=-1.5, std=0.5)} | options
    model = EGRU(5, hidden, generator=seeded(seed), **options).to(dtype)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "bias" in name:
                p.copy_(0.3 * torch.randn(p.shape, generator=seeded(seed)))
    return model


def inputs(time=25, seed=1):
    """Some of them zero."""
    chance = seeded(seed)
    return torch.randn(time, 5, generator=chance, dtype=F64) * (torch.rand(time, 5, generator=chance) < 0.7)


def relative(found, expected):
    found, expected = (torch.as_tensor(x).detach().double() for x in (found, expected))
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / (expected.abs().max() or 1)) if found.numel() else 0.0


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
def test_a_stream_is_the_offline_network(gate, reset):
    model, x = network(reset=reset, reset_gate=gate), inputs()
    expected, state = model(x)
    stream = EGRUStream(model)
    found = np.stack([stream.push(row) for row in x.numpy()])
    assert found.dtype == np.float64
    assert relative(found, expected) <= 1e-12
    assert np.array_equal(found != 0, expected.detach().numpy() != 0)
    assert 0 < (found != 0).mean() < 0.9
    assert stream.steps == 25
    for its, other in zip(stream.state(), state, strict=True):
        assert relative(its.carry[0], other.carry) <= 1e-12
        assert relative(its.output[0], other.output) <= 1e-12


def pruned(model, density=0.3):
    """The network with some weights 0, and as `compress` makes it."""
    masks, chance = {}, seeded(3)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("kernel"):
                masks[name] = torch.rand(p.shape, generator=chance) < density
                p.mul_(masks[name])
    return model, compress(model, masks)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
def test_a_stream_of_a_compressed_network_reads_what_is_left(gate, reset, dtype):
    model, small = pruned(network(reset=reset, reset_gate=gate, event_input=True, dtype=dtype))
    x = inputs().to(dtype)
    dense, stream = EGRUStream(model), EGRUStream(small)
    found = stream.push(x.numpy())
    assert relative(found, dense.push(x.numpy())) <= (1e-12 if dtype == F64 else 1e-5)
    assert 0 < (found != 0).mean() < 0.9
    for layer, its in enumerate(small.run(x[None]).layers):
        for mine, other, every in (
            (stream.operations(layer), its.operations(), dense.operations(layer)),
            (stream.input_operations(layer), its.input_operations(), dense.input_operations(layer)),
        ):
            assert mine == other
            assert mine.events == every.events
            assert 0 < mine.multiply_accumulates < 0.5 * every.multiply_accumulates


def test_of_a_network_with_one_compressed_layer_all_are():
    model, small = pruned(network())
    small.cells[1] = copy.deepcopy(model.cells[1])
    x = inputs().numpy()
    assert relative(EGRUStream(small).push(x), EGRUStream(model).push(x)) <= 1e-12


@given(st.lists(st.integers(0, 25), max_size=5), st.sampled_from([torch.float32, F64]))
@settings(deadline=None, max_examples=20)
def test_any_cut_gives_the_same_bits(cuts, dtype):
    model, x = network(dtype=dtype), inputs().numpy()
    whole = EGRUStream(model).push(x)
    stream, parts = EGRUStream(model), []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 25], strict=True):
        parts.append(stream.push(x[start:end]))
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("hidden", [(1,), (16,), (17, 15), (64, 40)])
def test_single_precision_has_single_accuracy(gate, reset, hidden):
    model, x = network(hidden=hidden, reset=reset, reset_gate=gate), inputs(8)
    expected = model(x)[0].detach()
    found = EGRUStream(copy.deepcopy(model).float()).push(x.numpy())
    assert found.dtype == np.float32
    assert np.array_equal(found != 0, expected.numpy() != 0)
    assert relative(found, expected) < 1e-5


def test_a_gru_can_be_streamed():
    torch.manual_seed(0)
    gru, x = torch.nn.GRU(5, 9, 2, dtype=F64), inputs()
    assert relative(EGRUStream(from_gru(gru)).push(x.numpy()), gru(x)[0]) <= 1e-12


def test_states_go_both_ways():
    """Offline, then as a stream, then offline again: one long run."""
    model, x = network(), inputs()
    expected, _ = model(x)
    first, state = model(x[None, :10])
    stream = EGRUStream(model)
    stream.reset(state)
    second = stream.push(x[10:18].numpy())
    third, _ = model(x[None, 18:], stream.state())
    assert relative(torch.cat([first[0], torch.from_numpy(second), third[0]]), expected) <= 1e-12
    alone = tuple(EGRUState(*(part[0] for part in its)) for its in state)
    stream.reset(alone)
    assert np.array_equal(stream.push(x[10:18].numpy()), second)


def test_a_stream_that_forgets_is_another_network():
    model, x = network(), inputs().numpy()
    expected = EGRUStream(model).push(x)
    stream, found = EGRUStream(model), []
    for row in x:
        stream.reset()
        found.append(stream.push(row))
    assert relative(np.stack(found), expected) > 0.1


def test_operations_are_counted_as_offline():
    model, x = network(event_input=True), inputs()
    offline = model.run(x[None]).layers
    stream = EGRUStream(model)
    stream.push(x[:-1].numpy())
    before = [stream.operations(layer) for layer in range(3)]
    stream.push(x[-1].numpy())
    for layer, its in enumerate(offline):
        assert stream.operations(layer) == its.operations()
        assert stream.input_operations(layer) == its.input_operations()
        assert before[layer].events < stream.operations(layer).events
    stream.reset()
    assert stream.operations(0).multiply_accumulates == stream.steps == 0


def test_a_stream_is_a_copy_in_evaluation():
    model, x = network(dropout=0.5, drop_connect=0.5).train(), inputs().numpy()
    stream = EGRUStream(model)
    assert model.training
    expected = EGRUStream(network()).push(x)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert np.array_equal(stream.push(x), expected)


def test_streams_of_one_network_do_not_meet():
    model, x = network(), inputs().numpy()
    expected = EGRUStream(model).push(x)
    one, other = EGRUStream(model), EGRUStream(model)
    found = []
    for row in x:
        found.append(one.push(row))
        other.push(-row)
    assert np.array_equal(np.stack(found), expected)


def test_inputs_of_many_kinds_are_taken():
    model, x = network(dtype=torch.float32), inputs(6)
    expected = EGRUStream(model).push(x.numpy())
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    wide = np.repeat(x.numpy(), 2, 1)[:, ::2]
    for given_ in (x, x.float(), x.tolist(), frozen, wide, np.asfortranarray(x.numpy())):
        assert np.array_equal(EGRUStream(model).push(given_), expected)
    stream = EGRUStream(model)
    assert stream.push(np.empty((0, 5))).shape == (0, 12)
    assert stream.steps == 0


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_nan_travels_as_offline(dtype):
    model, x = network(dtype=dtype), inputs(6).to(dtype)
    x[2, 1] = math.nan
    found, expected = EGRUStream(model).push(x.numpy()), model(x)[0].detach().numpy()
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize(
    "x, complaint",
    [
        (np.ones(4), r"x must be .* with input_size 5, got shape \(4,\)"),
        (np.ones((2, 3, 5)), r"x must be .* got shape \(2, 3, 5\)"),
        (np.float64(1.0), r"x must be .* got shape \(\)"),
    ],
)
def test_inputs_of_another_shape_are_refused(x, complaint):
    stream = EGRUStream(network())
    stream.push(inputs(3).numpy())
    before = stream.state()
    with pytest.raises(ValueError, match=complaint):
        stream.push(x)
    assert all(
        torch.equal(a, b)
        for p, q in zip(stream.state(), before, strict=True)
        for a, b in zip(p, q, strict=True)
    )


@pytest.mark.parametrize(
    "x, kind",
    [
        (np.ones(5, complex), "complex128"),
        (["1", "2", "3", "4", "5"], "<U1"),
        ([None] * 5, "object"),
        (np.ones(5, "m8[us]"), r"timedelta64\[us\]"),
    ],
)
def test_inputs_that_are_no_real_numbers_are_refused(x, kind):
    stream = EGRUStream(network(dtype=torch.float32))
    before = stream.push(np.ones(5))
    with pytest.raises(TypeError, match=f"x must be real numbers, got {kind}"):
        stream.push(x)
    stream.reset()
    for same in (np.ones(5, bool), np.ones(5, np.uint8), np.ones(5, np.float16), np.ones(5, ">f8")):
        stream.reset()
        assert np.array_equal(stream.push(same), before)


def test_a_network_of_several_precisions_is_refused():
    """Whichever layer or part of it is another: nothing is rounded in silence."""
    for part in ("cells.1", "cells.2", "cells.0.threshold"):
        model = network(dtype=torch.float32)
        model.get_submodule(part).double()
        with pytest.raises(
            TypeError, match=f"weights of one dtype, torch.float32, got torch.float64 in {part}"
        ):
            EGRUStream(model)
    model = network(hidden=(4,), threshold=lambda units, generator: Wide(units))
    EGRUStream(model)
    with pytest.raises(TypeError, match=r"torch\.float32, got torch\.float64 in cells\.0\.threshold$"):
        EGRUStream(model.float())


class Wide(Threshold):
    """Of double precision whatever the weights are."""

    def forward(self):
        return torch.ones(self.size, dtype=F64)


@pytest.mark.parametrize(
    "spoil, error, complaint",
    [
        (
            lambda s: s.double(),
            TypeError,
            "must have the dtype of the weights, torch.float32, got torch.float64",
        ),
        (lambda s: s.to(torch.bfloat16), TypeError, "must have the dtype .* got torch.bfloat16"),
        (lambda s: s * math.nan, ValueError, "must be finite, got nan or inf"),
        (lambda s: s + math.inf, ValueError, "must be finite, got nan or inf"),
        (lambda s: s.numpy(), TypeError, "must be a tensor, got ndarray"),
    ],
)
@pytest.mark.parametrize("part", ["carry", "output"])
def test_a_state_that_is_none_is_refused_and_changes_nothing(spoil, error, complaint, part):
    stream = EGRUStream(network(dtype=torch.float32))
    stream.push(np.ones((3, 5)))
    before = stream.state()
    bad = before[1]._replace(**{part: spoil(getattr(before[1], part))})
    with pytest.raises(error, match=rf"state\[1\].{part} {complaint}"):
        stream.reset((before[0], bad, before[2]))
    assert stream.steps == 3
    for its, other in zip(stream.state(), before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(its, other, strict=True))
    with pytest.raises(TypeError, match="state must be an EGRUState for each layer, got Tensor"):
        stream.reset(before[0].carry)


def test_what_cannot_be_streamed_is_refused():
    with pytest.raises(TypeError, match="model must be an EGRU, got GRU"):
        EGRUStream(torch.nn.GRU(2, 3))
    with pytest.raises(TypeError, match="model must be float32 or float64, got bfloat16"):
        EGRUStream(network(dtype=torch.bfloat16))
    model = network()
    with torch.no_grad():
        model.cells[1].kernel[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"model must have finite weights, got others in cells\.1\.kernel"):
        EGRUStream(model)
    with torch.no_grad():
        model.cells[1].kernel[:] = -math.inf  # what a threshold may be
    with pytest.raises(ValueError, match=r"model must have finite weights, got others in cells\.1\.kernel"):
        EGRUStream(model)
    stream, state = EGRUStream(network()), EGRUStream(network()).state()
    with pytest.raises(ValueError, match="state must have 3 members, one a layer, got 2"):
        stream.reset(state[:2])
    with pytest.raises(ValueError, match=r"state\[0\].carry must be \(1, 19\) or \(19,\), got \(1, 12\)"):
        stream.reset(state[::-1])
    with pytest.raises(TypeError, match="run is callable from kernels alone"):
        run()

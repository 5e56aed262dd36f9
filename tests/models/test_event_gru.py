"""The GRU beside Event-SSM: written out, ragged batches, gaps only when asked, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bad_events import AND_EMPTY_ROWS, assert_refused, good_events, spoilt
from torch.nn import functional

from eventbook.models.event_gru import EventGRU


def gru(gap_feature: bool = False, seed: int = 0) -> EventGRU:
    torch.manual_seed(seed)
    return EventGRU(7, 3, 5, 4, gap_feature=gap_feature).double().eval()


def stream(n: int, seed: int = 0):
    rng = np.random.default_rng([n, seed])
    return rng.integers(0, 7, n), np.cumsum(rng.integers(0, 5_000, n))


def scores(model, streams):
    batch = model.collate(streams)
    with torch.no_grad():
        return model(batch.token, batch.gap, batch.lengths)


def written_out(model: EventGRU, tokens, stamps) -> np.ndarray:
    """Cho's cell, event by event; torch's reset gate acts after the product."""
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}
    h, states, last = np.zeros(4), [], stamps[0]
    for token, stamp in zip(tokens, stamps, strict=True):
        x = w["embedding"][token]
        if model.gap_feature:
            x = np.append(x, np.log1p(np.float32((stamp - last) / 1000)))
        last = stamp
        r_in, z_in, n_in = np.split(w["gru.weight_ih_l0"] @ x + w["gru.bias_ih_l0"], 3)
        r_h, z_h, n_h = np.split(w["gru.weight_hh_l0"] @ h + w["gru.bias_hh_l0"], 3)
        r, z = 1 / (1 + np.exp(-r_in - r_h)), 1 / (1 + np.exp(-z_in - z_h))
        h = (1 - z) * np.tanh(n_in + r * n_h) + z * h
        states.append(h)
    return w["readout.weight"] @ np.mean(states, axis=0) + w["readout.bias"]


@pytest.mark.parametrize("gap_feature", [False, True])
def test_scores_are_those_of_the_cell_written_out(gap_feature):
    model, one = gru(gap_feature), stream(20)
    # the feature is a float32 logarithm, as the gaps are float32
    assert np.abs(scores(model, [one])[0].numpy() - written_out(model, *one)).max() < 1e-7


@pytest.mark.parametrize("gap_feature", [False, True])
def test_a_stream_in_a_batch_is_what_it_is_alone(gap_feature):
    model, streams = gru(gap_feature), [stream(n) for n in (5, 30, 1, 12)]
    together = scores(model, streams)
    for row, one in zip(together, streams, strict=True):
        assert (row - scores(model, [one])[0]).abs().max() < 1e-14
    batch = model.collate(streams)
    longer = functional.pad(batch.token, (0, 9), value=3), functional.pad(batch.gap, (0, 9), value=2.0)
    assert (model(*longer, batch.lengths) - together).abs().max() < 1e-14


def test_gaps_are_seen_only_when_asked_for():
    tokens, stamps = stream(20)
    for gap_feature in (False, True):
        first, second = (scores(gru(gap_feature), [(tokens, s)]) for s in (stamps, 3 * stamps))
        assert torch.equal(first, second) != gap_feature
    order = np.arange(20)[::-1]
    assert not torch.equal(*(scores(gru(), [(t, stamps)]) for t in (tokens, tokens[order])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gaps_of_either_precision_are_taken(dtype):
    model = gru(gap_feature=True).to(dtype)
    batch = model.collate([stream(9)])
    found = [
        model(batch.token, batch.gap.to(other), batch.lengths) for other in (torch.float32, torch.float64)
    ]
    assert found[0].dtype == found[1].dtype == dtype
    assert torch.allclose(*found, atol=1e-6)


def test_all_parameters_are_in_one_group():
    model = gru()
    (group,) = model.parameter_groups(lr=0.1, ssm_lr=0.5, weight_decay=0.2)
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.2)


def test_gradients_reach_everything():
    model = gru(gap_feature=True).train()
    batch = model.collate([stream(9), stream(4)])
    model(batch.token, batch.gap, batch.lengths).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(("name", "change", "error", "message"), AND_EMPTY_ROWS)
@pytest.mark.parametrize("gap_feature", [False, True])
def test_bad_input_gets_one_clear_line(gap_feature, name, change, error, message):
    assert_refused(gru(gap_feature), name, change, error, message)


def test_a_compiled_network_scores_and_refuses_as_before():
    model, events = gru(gap_feature=True), good_events()
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(compiled(**events), model(**events))
    with pytest.raises(ValueError, match=r"gap must be >= 0, got -1 at \[0, 2\]"):
        compiled(**{**events, "gap": spoilt(events["gap"], 0, 2, -1.0)})


@pytest.mark.parametrize("position", range(4))
def test_sizes_are_whole_and_positive(position):
    name = ("n_tokens", "n_classes", "d_model", "hidden_size")[position]
    sizes = [7, 3, 5, 4]
    with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
        EventGRU(*sizes[:position], 0, *sizes[position + 1 :])
    with pytest.raises(TypeError, match=f"{name} must be a whole number, got 2.5"):
        EventGRU(*sizes[:position], 2.5, *sizes[position + 1 :])

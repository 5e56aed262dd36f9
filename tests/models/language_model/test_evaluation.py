"""Perplexity against a sum written out; activity, needs and operations against the runs themselves."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.models.language_model import LanguageModel, LanguageModelConfig, evaluate

CONFIG = LanguageModelConfig(30, 8, (12, 8), threshold_mean=-3.0, input_dropout=0.5)


def built(cell: str = "egru") -> LanguageModel:
    return LanguageModel(replace(CONFIG, cell=cell), torch.Generator().manual_seed(1)).double()


def text(words: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 30, words).astype(np.int32)


@pytest.mark.parametrize("cell", ["egru", "lstm", "gru"])
@settings(deadline=None, max_examples=15)
@given(st.integers(2, 60), st.integers(1, 70), st.integers(1, 9))
def test_every_word_but_the_first_is_predicted_once(cell: str, count: int, window: int, batch: int):
    model, tokens = built(cell), text(count)
    found = evaluate(model, tokens, batch=batch, window=window)
    assert found.tokens == count - 1
    pieces = min(batch, count - 1)
    steps = -(-(count - 1) // pieces)
    total = 0.0
    model.eval()
    for piece in range(pieces):
        some = torch.from_numpy(tokens[piece * steps : (piece + 1) * steps + 1].astype(np.int64))
        if len(some) > 1:
            scores, _ = model(some[None, :-1])
            total += float(torch.nn.functional.cross_entropy(scores[0].detach(), some[1:], reduction="sum"))
    assert found.loss == pytest.approx(total / (count - 1), rel=1e-10)
    assert found.perplexity == pytest.approx(math.exp(found.loss))


def test_what_an_egru_spends_is_what_its_runs_say():
    model, tokens = built(), text(41)
    found = evaluate(model, tokens, batch=4, window=10)  # 40 words in 4 pieces: nothing is padded
    model.eval()
    words = torch.from_numpy(tokens.astype(np.int64))[:40].view(4, 10)
    run = model.run(words)
    for at, layer in enumerate(run.layers):
        assert found.activity[at] == pytest.approx(layer.activity())
        assert found.need[at] == pytest.approx(layer.need_share())
        torch.testing.assert_close(
            found.unit_activity[at].double(), (layer.output != 0).double().mean((0, 1))
        )
    events = [(layer.output != 0) for layer in run.layers]
    before = [int(e[:, :-1].sum()) for e in events]  # the last step's events are not read in this window
    spent = 3 * 12 * (8 * 40 + before[0]) + 3 * 8 * (int(events[0].sum()) + before[1])
    assert found.operations.effective_macs == found.operations.executed == spent
    assert found.macs == pytest.approx(spent / 40)
    assert found.macs < found.dense_macs == CONFIG.dense_macs()
    share = (12 * found.activity[0] + 8 * found.activity[1]) / 20
    assert found.mean_activity == pytest.approx(share, rel=1e-6)
    needed = (12 * found.need[0] + 8 * found.need[1]) / 20
    assert found.backward_sparsity == pytest.approx(1 - needed)


def test_the_released_measure_counts_units_far_above_their_threshold():
    """With a narrow window nearly all units are far from it after the reset, those that spoke among them."""
    model = LanguageModel(
        replace(CONFIG, surrogate_support=200.0, reset="none"), torch.Generator().manual_seed(1)
    )
    found = evaluate(model, text(200))
    for silent, need, active in zip(found.silent_as_released, found.need, found.activity, strict=True):
        assert need >= active > 0.05
        assert silent > 1 - need + 0.5 * active  # and so silent + need > 1: some are counted twice


@pytest.mark.parametrize("reset", ["threshold", "none"])
def test_the_released_measure_is_a_count(reset: str):
    config = replace(CONFIG, surrogate_support=20.0, reset=reset)
    model, tokens = LanguageModel(config, torch.Generator().manual_seed(1)), text(41)
    found = evaluate(model, tokens, batch=4, window=10)
    model.eval()
    run = model.run(torch.from_numpy(tokens.astype(np.int64))[:40].view(4, 10))
    for silent, layer in zip(found.silent_as_released, run.layers, strict=True):
        taken = (layer.output != 0) * layer.threshold * (reset == "threshold")
        far = (layer.voltage - taken - layer.threshold).abs() > 1 / 20
        assert silent == pytest.approx(float(far.double().mean()))
        assert 0 < silent < 1


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_gated_models_spend_everything_but_their_first_state(cell: str, gates: int):
    found = evaluate(built(cell), text(50), batch=1)
    assert found.operations.dense == 49 * found.dense_macs == 49 * gates * (12 * 20 + 8 * 20)
    assert found.operations.effective_macs == found.operations.dense - gates * (12 * 12 + 8 * 8)
    assert found.operations.executed == found.operations.dense
    assert found.mean_activity == 1
    assert found.backward_sparsity == 0
    assert found.activity == ()


@pytest.mark.parametrize("cell", ["egru", "lstm", "gru"])
def test_pruned_weights_are_left_out_of_the_count(cell: str):
    model, tokens = built(cell), text(60)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and name != "embedding":
                weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(3)) < 0.7] = 0
    found = evaluate(model, tokens, batch=3)
    for product in found.products:
        by_source = sum(int(k) * int(n) for k, n in zip(product.spoken, product.kept, strict=True))
        assert product.effective == by_source
    assert len(found.products) == 4
    left = found.operations.effective_macs / found.operations.dense
    assert (0.05 if cell == "egru" else 0.25) < left < 0.35
    ratio = found.products[-1].ratio
    a, w = found.products[-1].activity(), found.products[-1].row_density()
    assert ratio == pytest.approx(float((a * w).mean()), rel=1e-12)


def test_windows_do_not_change_the_count():
    model, tokens = built(), text(90)
    first, second = evaluate(model, tokens, batch=2, window=7), evaluate(model, tokens, batch=2, window=50)
    assert first.operations.effective_macs == second.operations.effective_macs


def test_windows_that_begin_anew_are_told_apart():
    model, tokens = built(), text(80)
    carried = evaluate(model, tokens, batch=1, window=8)
    released = evaluate(model, tokens, batch=1, window=8, carry_state=False)
    assert carried.loss == pytest.approx(evaluate(model, tokens, batch=1, window=79).loss, rel=1e-12)
    assert abs(carried.loss - released.loss) > 1e-4


@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_as_it_was(training: bool):
    model = built().train(training)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    first, second = evaluate(model, text(50)), evaluate(model, text(50))
    assert first.loss == second.loss  # no dropout
    assert model.training is training
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    ("wrong", "kind", "line"),
    [
        (
            lambda m: evaluate(m, text(1)),
            ValueError,
            r"with two at least, got \(1,\)",
        ),
        (lambda m: evaluate(m, text(0)), ValueError, "two at least"),
        (lambda m: evaluate(m, text(9) + 25), ValueError, r"tokens\[0, \d\] must be in 0..29"),
        (lambda m: evaluate(m, text(9).astype(float)), TypeError, "tokens must be integers"),
        (lambda m: evaluate(m, text(9), batch=0), ValueError, "batch must be >= 1, got 0"),
        (lambda m: evaluate(m, text(9), window=1.5), TypeError, "window must be"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, kind, line):
    with pytest.raises(kind, match=line):
        wrong(built())

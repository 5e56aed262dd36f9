"""The model against the same written out, its carried state, its dropouts, and what it refuses."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from eventbook.models.egru import EGRUState
from eventbook.models.language_model import (
    LanguageModel,
    LanguageModelConfig,
    carried_as_released,
    detached,
)

CELLS = ("egru", "lstm", "gru")
CONFIG = LanguageModelConfig(30, 8, (12, 8), threshold_mean=-3.0)


def built(cell: str, **changes: object) -> LanguageModel:
    config = replace(CONFIG, cell=cell, **changes)  # type: ignore[arg-type]
    return LanguageModel(config, torch.Generator().manual_seed(1)).double().eval()


def words(batch: int = 3, time: int = 11, seed: int = 0) -> Tensor:
    return torch.randint(30, (batch, time), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cell", CELLS)
def test_scores_are_those_of_layers_put_together(cell: str):
    model, tokens = built(cell), words()
    x = model.embedding[tokens]
    if cell == "egru":
        x, _ = model.recurrent(x)
    else:
        for layer in model.recurrent.layers:
            x, _ = layer(x)  # torch's own module
    expected = functional.linear(x, model.embedding, model.bias)
    torch.testing.assert_close(model(tokens)[0], expected, rtol=1e-12, atol=1e-12)


def test_word_vectors_begin_with_the_spread_that_is_asked_for_and_nothing_else_does():
    small, large = built("egru", embedding_std=0.1), built("egru", embedding_std=0.3)
    torch.testing.assert_close(large.embedding, 3 * small.embedding, rtol=1e-6, atol=0)
    assert abs(float(small.embedding.detach().std()) - 0.1) < 0.02
    for name, weights in small.recurrent.state_dict().items():
        assert torch.equal(weights, large.recurrent.state_dict()[name]), name


@pytest.mark.parametrize("cell", CELLS)
def test_a_carried_state_is_one_long_text(cell: str):
    model, tokens = built(cell), words(time=20)
    whole, end = model(tokens)
    parts, state = [], None
    for first, last in pairwise((0, 1, 7, 20)):
        scores, state = model(tokens[:, first:last], state)
        parts.append(scores)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-12, atol=1e-12)
    for a, b in zip(state, end, strict=True):
        for x, y in zip(*((z,) if isinstance(z, Tensor) else z for z in (a, b)), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_what_the_released_code_carries_is_another_text():
    model, tokens = built("egru"), words(time=20)
    whole, _ = model(tokens)
    _, state = model(tokens[:, :10])
    rest, _ = model(tokens[:, 10:], carried_as_released(state))
    assert float((rest - whole[:, 10:]).detach().abs().max()) > 1e-3
    assert all(
        torch.equal(a.output, b.output) for a, b in zip(carried_as_released(state), state, strict=True)
    )
    _, both = built("lstm")(tokens)
    assert carried_as_released(both) == both


@pytest.mark.parametrize("cell", CELLS)
def test_a_detached_state_holds_no_history(cell: str):
    model = built(cell)
    _, state = model(words())
    for its in detached(state):
        for part in (its,) if isinstance(its, Tensor) else its:
            assert not part.requires_grad
    if cell == "egru":
        assert all(isinstance(its, EGRUState) for its in detached(state))


@pytest.mark.parametrize("cell", CELLS)
def test_loss_is_cross_entropy_and_reaches_every_weight(cell: str):
    model, tokens = built(cell), words(time=12)
    loss, run = model.loss(tokens[:, :-1], tokens[:, 1:])
    scores, _ = model(tokens[:, :-1])
    expected = functional.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    assert len(run.layers) == (2 if cell == "egru" else 0)
    got = torch.autograd.grad(loss, list(model.parameters()))
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    for (name, _), a, b in zip(model.named_parameters(), got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        assert float(a.abs().sum()) > 0, name


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "kind", ["word_dropout", "input_dropout", "layer_dropout", "output_dropout", "drop_connect"]
)
def test_each_dropout_acts_in_training_alone(cell: str, kind: str):
    model, tokens = built(cell, **{kind: 0.5}), words()
    plain = built(cell)(tokens)[0]
    torch.testing.assert_close(model(tokens)[0], plain)
    model.train()
    torch.manual_seed(0)
    first, second = model(tokens)[0], model(tokens)[0]
    assert not torch.allclose(first, plain)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["input_dropout", "output_dropout"])
def test_what_is_left_out_of_vectors_and_outputs_is_so_at_every_step(cell: str, kind: str):
    model, tokens = built(cell, **{kind: 0.4}).train(), words(time=200)
    run = model.run(tokens)
    before, after = (
        (model.embedding[tokens], run.vectors) if kind == "input_dropout" else (run.outputs[-1], run.hidden)
    )
    factor = torch.where(before == 0, torch.nan, after / before)  # an EGRU may have said nothing
    mask = factor.nanmean(1, keepdim=True)
    assert bool(((factor - mask).abs().nan_to_num() < 1e-12).all())
    known = mask[~mask.isnan()].detach()
    assert bool(((known - 1 / 0.6).abs().minimum(known.abs()) < 1e-12).all())
    assert {float(m) > 1 for m in known} == {True, False}
    assert not torch.equal(mask[0].nan_to_num(), mask[1].nan_to_num())  # each sequence its own


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_left_out_between_layers_is_so_at_every_step(cell: str):
    """The second layer alone, given the first one's outputs under one mask a sequence."""
    model, tokens = built(cell, layer_dropout=0.4).train(), words(time=20)
    torch.manual_seed(3)
    run = model.run(tokens)
    torch.manual_seed(3)
    if cell == "egru":
        mask = functional.dropout(run.outputs[0].new_ones(3, 1, 12), 0.4)
        upper = model.recurrent.cells[1]
        state, said = None, []
        for x in (run.outputs[0] * mask).unbind(1):
            state = upper(x, state)
            said.append(state.output)
        expected = torch.stack(said, 1)
    else:
        mask = run.outputs[0].new_empty(3, 1, 12).bernoulli_(0.6) / 0.6
        expected, _ = model.recurrent.layers[1](run.outputs[0] * mask)
    assert 0 < float((mask == 0).double().mean()) < 1
    torch.testing.assert_close(run.outputs[1], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_words_are_left_out_wherever_they_stand_and_can_be_answered_all_the_same(cell: str):
    model, tokens = built(cell, word_dropout=0.4).train(), words(time=100)
    torch.manual_seed(1)
    run = model.run(tokens)
    gone = {int(word) for word in tokens[(run.vectors == 0).all(2)]}
    assert 4 < len(gone) < 20
    stays = torch.tensor([int(word) not in gone for word in tokens.flatten()]).view(tokens.shape)
    expected = model.embedding[tokens] * stays[..., None] / 0.6
    torch.testing.assert_close(run.vectors, expected, rtol=1e-12, atol=1e-12)
    torch.manual_seed(1)
    scores, _ = model(tokens)
    torch.testing.assert_close(scores, functional.linear(run.hidden, model.embedding, model.bias))


@pytest.mark.parametrize("cell", CELLS)
def test_drop_connect_is_a_call_with_other_recurrent_weights(cell: str):
    model, other, tokens = built(cell, drop_connect=0.4).train(), built(cell), words()
    torch.manual_seed(2)
    scores, _ = model(tokens)
    torch.manual_seed(2)
    layers = other.recurrent.cells if cell == "egru" else other.recurrent.layers
    name = "recurrent_kernel" if cell == "egru" else "weight_hh_l0"
    with torch.no_grad():
        for layer in layers:
            weight = layer.get_parameter(name)
            weight.copy_(functional.dropout(weight, 0.4))
            assert 0.2 < float((weight == 0).double().mean()) < 0.6
    torch.testing.assert_close(scores, other(tokens)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_drop_connect_leaves_the_first_step_alone(cell: str):
    """Before anything was said, recurrent weights do not matter."""
    model = built(cell, drop_connect=0.9)
    plain = model(words())[0]
    model.train()
    scores = model(words())[0]
    torch.testing.assert_close(scores[:, 0], plain[:, 0])
    assert not torch.allclose(scores[:, 5:], plain[:, 5:])


@pytest.mark.parametrize("cell", CELLS)
def test_weights_round_trip(cell: str):
    model = built(cell)
    other = LanguageModel(model.config, torch.Generator().manual_seed(9)).double().eval()
    assert not torch.allclose(other(words())[0], model(words())[0])
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(words())[0], model(words())[0])


def test_thresholds_may_be_drawn_from_a_beta_distribution_and_kept():
    model = built("egru", threshold="beta", threshold_mean=0.1, threshold_trainable=False)
    names = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert len(names) == 2
    grouped = [p for group in model.parameter_groups(1e-3, 0.1) for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters() if p.requires_grad}


def test_matrices_decay_and_vectors_do_not():
    decayed, others = built("egru").parameter_groups(1e-3, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert others["weight_decay"] == 0
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in others["params"]} == {1}


@pytest.mark.parametrize("cell", CELLS)
def test_no_words_change_nothing(cell: str):
    model = built(cell)
    _, state = model(words())
    scores, after = model(words()[:, :0], state)
    assert scores.shape == (3, 0, 30)
    next_words = words(seed=5)
    assert torch.equal(model(next_words, after)[0], model(next_words, state)[0])


def test_the_forget_gate_begins_at_one():
    layer = built("lstm").recurrent.layers[0]
    assert isinstance(layer, nn.LSTM)
    assert (layer.bias_ih_l0 + layer.bias_hh_l0)[12:24].tolist() == [1.0] * 12


@pytest.mark.parametrize(
    ("wrong", "kind", "line"),
    [
        (lambda m: m(words().float()), TypeError, "tokens must be integers, got torch.float32"),
        (lambda m: m(words()[0]), ValueError, r"tokens must be \(batch, time\), got \(11,\)"),
        (lambda m: m(words() + 1), ValueError, r"tokens\[\d, \d+\] must be in 0..29, got 30"),
        (lambda m: m(words() - 30), ValueError, r"tokens\[0, 0\] must be in 0..29, got -\d+"),
        (lambda m: m([[1, 2]]), TypeError, "tokens must be a tensor, got list"),
        (lambda m: m.loss(words(), words(time=5)), ValueError, r"shape of tokens, \(3, 11\), got \(3, 5\)"),
        (lambda m: m.loss(words()[:, :0], words()[:, :0]), ValueError, "a token at least, got none"),
        (lambda m: m(words(), m(words(2))[1]), ValueError, r"state\[0\]"),
        (lambda m: m(words(), m(words())[1][:1]), ValueError, "state must have 2 members.* got 1"),
        (lambda m: m(words(), torch.zeros(2, 3, 8)), TypeError, "state must be what a call returned"),
        (lambda m: m(words(), ("a", "b")), TypeError, r"state\[0\] must be"),
    ],
)
@pytest.mark.parametrize("cell", CELLS)
def test_what_makes_no_sense_is_refused(cell, wrong, kind, line):
    with pytest.raises(kind, match=line):
        wrong(built(cell))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.uint32, torch.uint64])
def test_words_may_be_integers_of_any_width(dtype: torch.dtype):
    model, tokens = built("egru"), words()
    assert torch.equal(model(tokens.to(dtype))[0], model(tokens)[0])

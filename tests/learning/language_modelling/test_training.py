"""Training of language models: an independent loop, interruption, averages, terms, and refusals."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eventbook.learning.language_modelling import LanguageTraining, train_language_model
from eventbook.learning.pruning import (
    GradualPruning,
    Masks,
    connection_masks,
    prune,
    rewire,
    settle,
    sparsities,
)
from eventbook.learning.rewiring.deep_r import DeepR
from eventbook.models.language_model import (
    LanguageModel,
    LanguageModelConfig,
    carried_as_released,
    detached,
    evaluate,
)
from eventbook.models.sparsity import ConnectionSparsity

CONFIG = LanguageModelConfig(20, 8, (10, 8), threshold_mean=-3.0)
RECIPE = LanguageTraining(2, 4, 12, lr=1e-2, warmup=0.1, weight_decay=0.1)


def built(cell: str = "egru", **changes: object) -> LanguageModel:
    return LanguageModel(replace(CONFIG, cell=cell, **changes), torch.Generator().manual_seed(0))  # type: ignore[arg-type]


def text(words: int = 400) -> np.ndarray:
    """Each word is followed by one of two."""
    rng = np.random.default_rng(0)
    out = [0]
    for _ in range(words - 1):
        out.append((3 * out[-1] + int(rng.integers(2))) % 20)
    return np.array(out, dtype=np.int32)


def weights(model: LanguageModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("cell", ["egru", "lstm", "gru"])
@pytest.mark.parametrize("carry", [True, False])
def test_steps_are_those_of_a_loop_written_out(cell: str, carry: bool):
    recipe = replace(RECIPE, random_windows=False, carry_state=carry, beta1=0.5)
    model, other = built(cell), built(cell)
    history = train_language_model(model, text(), recipe)
    pieces = torch.from_numpy(text().astype(np.int64)).view(4, 100)
    optimizer = torch.optim.AdamW(other.parameter_groups(1e-2, 0.1), betas=(0.5, 0.999))
    losses = []
    for epoch in range(2):
        state = None
        for first in range(0, 99, 12):
            last = min(first + 12, 99)
            done = (99 * epoch + first) / 198
            for group in optimizer.param_groups:
                group["lr"] = (
                    1e-2 * min(1, done / 0.1) * (0.02 + 0.98 * (1 + np.cos(np.pi * done)) / 2)
                    * (last - first) / 12
                )  # fmt: skip
            loss, run = other.loss(pieces[:, first:last], pieces[:, first + 1 : last + 1], state)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(other.parameters(), 0.5)
            optimizer.step()
            state = detached(run.state if carry else carried_as_released(run.state))
            losses.append(float(loss.detach()) * (last - first))
    torch.testing.assert_close(weights(model), weights(other), rtol=1e-4, atol=1e-6)
    assert history == [{"epoch": 2.0, "tokens": 792.0, "loss": pytest.approx(sum(losses) / 198, rel=1e-5)}]
    assert not model.training


@pytest.mark.parametrize("cell", ["egru", "lstm", "gru"])
def test_it_learns(cell: str):
    """The text has one bit a word: perplexity 2."""
    model = built(cell, embedding=16, hidden_sizes=(16, 16))
    before = evaluate(model, text(3_000)).perplexity
    train_language_model(model, text(3_000), replace(RECIPE, epochs=8, lr=2e-2))
    assert before > 15
    assert evaluate(model, text(3_000)).perplexity < 2.6


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("cell", ["egru", "lstm", "gru"])
@pytest.mark.parametrize("after", [1, 5, 6, 13])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path, cell: str, after: int):
    recipe = replace(RECIPE, average_from=0.4)
    chances = {"layer_dropout": 0.3, "drop_connect": 0.2, "word_dropout": 0.1}
    whole, cut = built(cell, **chances), built(cell, **chances)
    expected = train_language_model(whole, text(), recipe, looks=3)
    steps = iter(range(1_000))

    def stop() -> None:
        if next(steps) == after:
            raise Interrupted

    path = tmp_path / "run.pt"
    with pytest.raises(Interrupted):
        train_language_model(cut, text(), recipe, looks=3, checkpoint=path, save_every=2, after_step=stop)
    assert path.exists() is (after >= 2)
    other = LanguageModel(cut.config, torch.Generator().manual_seed(5))  # what it began from does not matter
    other = built(cell, **chances) if after < 2 else other
    history = train_language_model(other, text(), recipe, looks=3, checkpoint=path, save_every=2)
    assert history == expected
    assert torch.equal(weights(other), weights(whole))
    again = built(cell, **chances)  # finished: read back
    assert train_language_model(again, text(), recipe, looks=3, checkpoint=path) == expected
    assert torch.equal(weights(again), weights(whole))


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "run.pt"
    train_language_model(built(), text(), RECIPE, checkpoint=path)
    before = path.read_bytes()
    for model, words, recipe, line in (
        (built(), text(), replace(RECIPE, lr=0.5), r"of this recipe, .* has lr = 0\.01, not 0\.5"),
        (built(reset="value"), text(), RECIPE, "of this model, .* has reset = threshold, not value"),
        (built(), text(404), RECIPE, "of this text, "),
        (built().double(), text(), RECIPE, "of this weights, "),
    ):
        with pytest.raises(ValueError, match=line):
            train_language_model(model, words, recipe, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("cell", ["egru", "lstm"])
def test_masks_hold_what_was_pruned_and_an_interrupted_run_goes_on(tmp_path: Path, cell: str):
    recipe = replace(RECIPE, beta1=0.9, clip=0.1)  # momentum, and a norm that pruned weights would enter

    def pruned() -> tuple[LanguageModel, Masks]:
        model = built(cell)
        return model, prune(model, 0.8)

    whole, masks = pruned()
    train_language_model(whole, text(), recipe, begin=masks.hold)
    for name, mask in masks.items():
        assert torch.equal(whole.get_parameter(name) != 0, mask)
    cut, others = pruned()
    path, steps = tmp_path / "run.pt", iter(range(1_000))

    def stop() -> None:
        if next(steps) == 7:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_language_model(
            cut, text(), recipe, begin=others.hold, after_step=stop, checkpoint=path, save_every=2
        )
    again, others = pruned()
    train_language_model(again, text(), recipe, begin=others.hold, checkpoint=path)
    assert torch.equal(weights(again), weights(whole))
    late, others = pruned()  # control: masks after each step alone let the norm of dead gradients in
    train_language_model(late, text(), recipe, after_step=others.apply)
    assert not torch.equal(weights(late), weights(whole))


@pytest.mark.parametrize("cell", ["egru", "lstm", "gru"])
def test_a_rewired_model_learns_and_is_read_back(tmp_path: Path, cell: str):
    def rewired() -> tuple[LanguageModel, DeepR]:
        model = rewire(built(cell), 0.5, seed=1)
        return model, DeepR(model, lr=0.05, l1=1e-3)  # type: ignore[arg-type]

    model, optimizer = rewired()
    path = tmp_path / "run.pt"
    train_language_model(model, text(), RECIPE, after_step=optimizer.step, checkpoint=path)
    assert optimizer.total_rewired > 0
    again, _ = rewired()
    train_language_model(again, text(), RECIPE, checkpoint=path)
    masks = connection_masks(again)
    assert all(torch.equal(mask, masks[name]) for name, mask in connection_masks(model).items())
    assert torch.equal(weights(again), weights(model))
    seen = evaluate(model, text())
    assert seen.loss < evaluate(rewired()[0], text()).loss
    settle(model)
    assert evaluate(model, text()).loss == seen.loss
    assert ConnectionSparsity.of(model).share >= 0.5


def test_each_window_of_each_epoch_draws_for_itself():
    seeds: list[int] = []
    for seed in (0, 1):
        train_language_model(
            built(layer_dropout=0.3), text(), replace(RECIPE, seed=seed),
            after_step=lambda: seeds.append(torch.initial_seed()),
        )  # fmt: skip
    assert len(set(seeds)) == len(seeds) > 30


def test_the_mean_of_the_weights_is_what_remains():
    seen: list[torch.Tensor] = []
    model = built()
    recipe = replace(RECIPE, average_from=0.5, random_windows=False)  # 9 windows an epoch
    train_language_model(model, text(), recipe, after_step=lambda: seen.append(weights(model)))
    assert len(seen) == 18
    torch.testing.assert_close(weights(model), torch.stack(seen[8:]).mean(0), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weights(model), seen[-1], atol=1e-4)


def test_watching_sees_the_mean_and_leaves_no_trace():
    seen: list[torch.Tensor] = []
    model, other = built(layer_dropout=0.3), built(layer_dropout=0.3)
    recipe = replace(RECIPE, average_from=0.5)

    def look() -> dict[str, float]:
        assert not model.training
        torch.rand(7)  # draws
        seen.append(weights(model))
        return {"perplexity": evaluate(model, text()).perplexity}

    history = train_language_model(model, text(), recipe, looks=4, watch=look)
    assert len(history) == len(seen) == 4
    assert {"epoch", "tokens", "loss", "perplexity"} == set(history[0])
    assert torch.equal(seen[-1], weights(model))
    train_language_model(other, text(), recipe)
    assert torch.equal(weights(other), weights(model))


def test_the_mean_of_weights_that_were_pruned_on_the_way_is_pruned():
    model, seen = built(), []
    pruning = GradualPruning(model, sparsities(0.8, 4), every=4)
    recipe = replace(RECIPE, average_from=0.1)

    def look() -> dict[str, float]:
        seen.append(ConnectionSparsity.of(model).share)
        return {}

    hooks = {"begin": pruning.masks.hold, "after_step": pruning.step, "watch": look}
    train_language_model(model, text(), recipe, looks=3, **hooks)
    assert pruning.masks.sparsity() == pytest.approx(0.8, abs=1e-3)
    for name, mask in pruning.masks.items():
        assert torch.equal(model.get_parameter(name) != 0, mask)
    assert seen[-1] == pytest.approx(0.8, abs=1e-3)
    assert 0 < seen[0] < seen[-1]


@pytest.mark.parametrize("after", [3, 6, 9, 14])
def test_a_pruning_on_the_way_goes_on_with_an_interrupted_run(tmp_path: Path, after: int):
    def pruned() -> tuple[LanguageModel, GradualPruning]:
        model = built()
        return model, GradualPruning(model, sparsities(0.8, 4), every=3)

    def run(path: Path, pair: tuple[LanguageModel, GradualPruning], stop: int = 1_000) -> None:
        model, pruning = pair

        def step() -> None:
            pruning.step()
            if pruning.steps == stop:
                raise Interrupted

        train_language_model(
            model, text(), replace(RECIPE, beta1=0.9), begin=pruning.masks.hold, after_step=step,
            along={"pruning": pruning}, checkpoint=path, save_every=2,
        )  # fmt: skip

    whole, cut, path = pruned(), pruned(), tmp_path / "cut.pt"
    run(tmp_path / "whole.pt", whole)
    with pytest.raises(Interrupted):
        run(path, cut, after)
    again = pruned()
    run(path, again)
    assert torch.equal(weights(again[0]), weights(whole[0]))
    assert again[1].masks.sparsity() == whole[1].masks.sparsity() == pytest.approx(0.8, abs=1e-3)
    with pytest.raises(ValueError, match=r"of this along, .* has pruning = GradualPruning, not none"):
        train_language_model(built(), text(), replace(RECIPE, beta1=0.9), checkpoint=path)


def test_connections_that_move_have_no_mean():
    model = rewire(built(), 0.5, seed=1)
    with pytest.raises(ValueError, match="average_from must be 1 where connections are rewired"):
        train_language_model(model, text(), replace(RECIPE, average_from=0.5))


def test_a_watch_that_fails_leaves_the_weights_of_the_last_step():
    model, seen = built(), []

    def look() -> dict[str, float]:
        raise Interrupted

    recipe = replace(RECIPE, average_from=0.1)
    with pytest.raises(Interrupted):
        train_language_model(
            model, text(), recipe, watch=look, after_step=lambda: seen.append(weights(model))
        )
    assert torch.equal(weights(model), seen[-1])


def test_the_activity_term_pulls_to_its_target():
    activity = {}
    for target in (0.02, 0.5):
        model = built()
        recipe = replace(RECIPE, epochs=10, activity_target=target, activity_strength=30.0)
        train_language_model(model, text(800), recipe)
        activity[target] = evaluate(model, text(800)).mean_activity
    free = built()
    train_language_model(free, text(800), replace(RECIPE, epochs=10))
    assert activity[0.02] < 0.15 < activity[0.5]
    assert activity[0.02] < evaluate(free, text(800)).mean_activity


def test_a_gradient_that_is_no_number_stops_the_run_before_its_step(tmp_path: Path):
    model, steps, before = built(), iter(range(100)), {}

    def spoil() -> None:
        if next(steps) == 4:
            before.update({name: w.detach().clone() for name, w in model.named_parameters()})
            model.bias.register_hook(lambda grad: grad * math.inf)

    for clip in (0.0, 0.5):
        with pytest.raises(FloatingPointError, match=r"gradient must be finite, got a norm of (inf|nan)"):
            train_language_model(model, text(800), replace(RECIPE, clip=clip), after_step=spoil)
        assert all(torch.equal(w, before[name]) for name, w in model.named_parameters())


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path):
    model, path = built(), tmp_path / "run.pt"
    steps = iter(range(100))

    def spoil() -> None:
        if next(steps) == 4:
            with torch.no_grad():
                model.bias[0] = float("nan")

    with pytest.raises(FloatingPointError, match="loss must be finite, got nan at step 5"):
        train_language_model(model, text(), RECIPE, checkpoint=path, save_every=4, after_step=spoil)
    fresh = built()
    with pytest.raises(Interrupted):
        train_language_model(fresh, text(), RECIPE, checkpoint=path, after_step=_interrupt)
    assert torch.isfinite(weights(fresh)).all()


def _interrupt() -> None:
    raise Interrupted


@pytest.mark.parametrize(
    ("wrong", "kind", "line"),
    [
        (lambda m: train_language_model(m, text(7), RECIPE), ValueError, r"each of 4 pieces.* got \(7,\)"),
        (lambda m: train_language_model(m, text() + 1, RECIPE), ValueError, "must be in 0..19, got 20"),
        (lambda m: train_language_model(m, text() / 2, RECIPE), TypeError, "tokens must be integers"),
        (lambda m: train_language_model(m, text(), RECIPE, looks=0), ValueError, "looks must be >= 1, got 0"),
        (lambda m: train_language_model(m, text(), RECIPE, watch=lambda: 3), TypeError, "watch must return"),
        (
            lambda m: train_language_model(built("gru"), text(), replace(RECIPE, activity_strength=1.0)),
            ValueError, "activity_strength must be 0 for a model of gru, which has no events",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong, kind, line):
    with pytest.raises(kind, match=line):
        wrong(built())

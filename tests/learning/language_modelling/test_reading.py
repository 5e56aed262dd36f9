"""A model that reads a text: it is a watched training, what decides about it, and refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eventbook.learning.language_modelling import (
    LanguageTraining,
    identity_of,
    read_text,
    reading,
    train_language_model,
)
from eventbook.models.language_model import LanguageModel, LanguageModelConfig, evaluate

CONFIG = LanguageModelConfig(20, 8, (10, 8), layer_dropout=0.2, threshold_mean=-3.0)
RECIPE = LanguageTraining(2, 4, 12, lr=1e-2, seed=3)
TEXT = np.random.default_rng(0).integers(0, 20, 400).astype(np.int32)
VALID = np.random.default_rng(1).integers(0, 20, 60).astype(np.int32)


@pytest.mark.parametrize("cell", ["egru", "lstm"])
@pytest.mark.parametrize("carry", [True, False])
def test_it_is_a_training_that_is_watched(cell: str, carry: bool):
    config, recipe = replace(CONFIG, cell=cell), replace(RECIPE, carry_state=carry)
    model, history = read_text(config, recipe, TEXT, VALID, looks=3)
    other = LanguageModel(config, torch.Generator().manual_seed(3))
    seen = []

    def watch() -> dict[str, float]:
        seen.append(evaluate(other, VALID, carry_state=carry))
        return {}

    plain = train_language_model(other, TEXT, recipe, looks=3, watch=watch)
    for its, weight in model.state_dict().items():
        assert torch.equal(weight, other.state_dict()[its])
    measured = [{"perplexity": s.perplexity, "activity": s.mean_activity} for s in seen]
    assert history == [look | its for look, its in zip(plain, measured, strict=True)]
    assert (history[-1]["activity"] == 1) is (cell == "lstm")
    assert not model.training


def test_validation_words_and_how_they_are_read_make_a_difference():
    """The control of the test above: other words, or a state that is carried, give another perplexity."""
    (_, first), (_, words), (_, carried) = (
        read_text(CONFIG, replace(RECIPE, carry_state=carry), TEXT, valid)
        for carry, valid in ((True, VALID), (True, VALID[::-1].copy()), (False, VALID))
    )
    assert first[0]["loss"] == words[0]["loss"] != carried[0]["loss"]
    assert len({history[0]["perplexity"] for history in (first, words, carried)}) == 3


def test_it_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, history = read_text(CONFIG, RECIPE, TEXT, VALID, looks=2, checkpoint=tmp_path / "run.pt")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is left to be looked at")

    monkeypatch.setattr(reading, "evaluate", never)
    again, same = read_text(CONFIG, RECIPE, TEXT, VALID, looks=2, checkpoint=tmp_path / "run.pt")
    assert same == history
    assert torch.equal(again.bias, model.bias)
    with pytest.raises(
        AssertionError, match="nothing is left"
    ):  # control: without the file it is trained anew
        read_text(CONFIG, RECIPE, TEXT, VALID, looks=2)
    with pytest.raises(ValueError, match=r"must be of this recipe, .* has seed = 3, not 4"):
        read_text(CONFIG, replace(RECIPE, seed=4), TEXT, VALID, looks=2, checkpoint=tmp_path / "run.pt")


def test_the_same_reading_is_the_same_in_whatever_form_its_words_came():
    here = identity_of(CONFIG, RECIPE, TEXT, VALID)
    assert here == identity_of(
        replace(CONFIG), replace(RECIPE), torch.from_numpy(TEXT), VALID.astype(np.int64)
    )
    longer = np.concatenate([TEXT, TEXT])
    assert here == identity_of(CONFIG, RECIPE, longer[:400], VALID, looks=1)
    assert repr(here) == repr(
        identity_of(CONFIG, RECIPE, TEXT.copy(), VALID.copy())
    )  # as names of files are made


@pytest.mark.parametrize(
    "change",
    [
        {"config": replace(CONFIG, reset="value")},
        {"recipe": replace(RECIPE, lr=2e-2)},
        {"text": TEXT[:-1]},
        {"text": TEXT[::-1].copy()},  # as many words, of the same vocabulary
        {"valid": VALID[1:]},
        {"valid": (VALID + 1) % 20},
        {"text": VALID, "valid": TEXT},
        {"looks": 2},
    ],
    ids=lambda change: "-".join(change),
)
def test_another_reading_is_another(change: dict[str, Any]):
    what = {"config": CONFIG, "recipe": RECIPE, "text": TEXT, "valid": VALID, "looks": 1}
    assert repr(identity_of(**what)) != repr(identity_of(**what | change))


@pytest.mark.parametrize(
    ("change", "kind", "line"),
    [
        ({"valid": VALID[:1]}, ValueError, r"valid must be \(token,\) with two at least, got \(1,\)"),
        ({"valid": VALID[None]}, ValueError, r"valid must be \(token,\) with two at least, got \(1, 60\)"),
        ({"valid": VALID + 1}, ValueError, "valid.* must be in 0..19, got 20"),
        ({"valid": VALID / 2}, TypeError, "valid must be integers, got"),
        ({"text": TEXT[:7]}, ValueError, r"tokens must be \(token,\) with two for each of 4 pieces"),
        ({"text": TEXT + 1}, ValueError, "tokens.* must be in 0..19, got 20"),
        ({"looks": 0}, ValueError, "looks must be >= 1, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_first_step(
    change: dict[str, Any], kind: type[Exception], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a step was taken")

    monkeypatch.setattr(LanguageModel, "loss", never)
    what = {"config": CONFIG, "recipe": RECIPE, "text": TEXT, "valid": VALID}
    with pytest.raises(kind, match=line) as refused:
        read_text(**what | change, checkpoint=tmp_path / "run.pt")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AssertionError, match="a step was taken"):  # control: steps would be noticed
        read_text(**what)

"""A language model that reads a text: built, trained, and looked at by words that it does not learn from.

    (model, history) = read_text(config, recipe, text, valid)

| meaning | shape | name |
|---|---|---|
| words to learn from | (token,) | `text` |
| words of which perplexity and activity are taken on the way | (token,) | `valid` |

Initial weights, windows and dropout are drawn from the recipe's seed, so what comes out is decided by
`identity_of` the arguments and nothing else: pages that name a checkpoint by it share their trainings.

Source: derived.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from eventbook.learning.checkpoints import digest
from eventbook.learning.language_modelling.recipe import LanguageTraining
from eventbook.learning.language_modelling.training import train_language_model
from eventbook.models.language_model import LanguageModel, LanguageModelConfig, evaluate

Words = Int[np.ndarray, "token"] | Int[Tensor, "token"]


def read_text(
    config: LanguageModelConfig,
    recipe: LanguageTraining,
    text: Words,
    valid: Words,
    *,
    looks: int = 1,
    checkpoint: Path | str | None = None,
) -> tuple[LanguageModel, list[dict[str, float]]]:
    """Build a model and train it on a text.

    Parameters
    ----------
    config, recipe
        What is trained and how; its initial weights are of the recipe's seed, too.
    text
        What to learn from, (token,) integers: at least two words for each piece.
    valid
        What is read at each look, (token,) integers, two at least, with the state carried as the recipe says.
    looks
        Entries of the history, evenly over the words of the run; the last at its end.
    checkpoint
        File from which an interrupted run goes on, bit for bit; None for none. Its name
        should hold `identity_of` these arguments.

    Returns
    -------
    model, history
        The model in the mode of evaluation; for each look "epoch", "tokens", "loss" of
        `train_language_model`, and "perplexity" and "activity" on `valid` (1 for a cell without events).

    Raises
    ------
    ValueError, TypeError, FloatingPointError
        As `train_language_model`; also, before the first step, if `valid` is too short, has a word that the
        model does not know, or is no integers.
    """
    model = LanguageModel(config, torch.Generator().manual_seed(recipe.seed))
    words = torch.as_tensor(valid)
    if words.ndim != 1 or len(words) < 2:
        raise ValueError(f"valid must be (token,) with two at least, got {tuple(words.shape)}")
    words = model.checked(words[None], "valid")[0]

    def watch() -> dict[str, float]:
        seen = evaluate(model, words, carry_state=recipe.carry_state)
        return {"perplexity": seen.perplexity, "activity": seen.mean_activity}

    history = train_language_model(model, text, recipe, looks=looks, watch=watch, checkpoint=checkpoint)
    return model, history


def identity_of(
    config: LanguageModelConfig, recipe: LanguageTraining, text: Words, valid: Words, *, looks: int = 1
) -> dict[str, Any]:
    """All that decides about what `read_text` returns, by name: what the name of a checkpoint should hold.

    Words enter by their digest, so that a text is the same under whatever name, in whatever integers and cut
    however it was loaded, and another one never is.
    """
    return {
        "config": config,
        "recipe": recipe,
        "text": digest(text),
        "valid": digest(valid),
        "looks": looks,
    }

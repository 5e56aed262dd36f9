"""Train the language models whose weights lie in data/language_models/, or go on where it was interrupted.

    python data/train_language_models.py state_of_the_union_egru

A good hour for each on one core. A checkpoint is written every few minutes beside the result, which
takes its place at the end; after an interruption the same command goes on from it. What is printed at the end
belongs into data/manifest.yml. On another processor the weights come out with other rounding, and, after so
many steps, as another model of the same quality.
"""

import argparse
import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from numpy.typing import NDArray

from eventbook.datasets import load_state_of_the_union
from eventbook.learning.language_modelling import LanguageTraining, train_language_model
from eventbook.models.language_model import (
    LanguageModel,
    LanguageModelConfig,
    evaluate,
    save_model,
)

EGRU = LanguageModelConfig(
    10_002, 256, (320, 256), embedding_std=0.3, input_dropout=0.05, layer_dropout=0.05, output_dropout=0.05,
    threshold_mean=-7.0, surrogate_support=5.0, surrogate_dampening=0.3,
)  # fmt: skip
LSTM = replace(
    EGRU, cell="lstm", hidden_sizes=(256, 256), input_dropout=0.15, layer_dropout=0.15, output_dropout=0.15
)
RECIPE = LanguageTraining(
    epochs=10, batch_size=32, window=64, lr=8e-3, weight_decay=0.1, beta1=0.0, beta2=0.999, clip=0.5
)
MODELS = {
    "state_of_the_union_egru": (EGRU, replace(RECIPE, warmup=0.2, weight_decay=0.08, beta2=0.99)),
    "state_of_the_union_lstm": (LSTM, RECIPE),
}
LOOKS = 20  # at the validation text, over a run
DIGITS = 6  # of the numbers that are kept beside the weights
BEGINNING = 0.02  # passes of a run that shows whether recipe and code are still those of the weights


def short(values: dict[str, float]) -> dict[str, float]:
    """Numbers with the digits that are kept of them."""
    return {name: float(f"{value:.{DIGITS}g}") for name, value in values.items()}


def beginning(config: LanguageModelConfig, recipe: LanguageTraining, text: NDArray[np.int32]) -> float:
    """Loss over the first words that a model sees, some twenty steps."""
    model = LanguageModel(config, torch.Generator().manual_seed(recipe.seed))
    (look,) = train_language_model(model, text, replace(recipe, epochs=BEGINNING))
    return look["loss"]


def train(name: str, folder: Path) -> Path:
    """Train a model; returns the file of its weights."""
    config, recipe = MODELS[name]
    text = load_state_of_the_union()
    model = LanguageModel(config, torch.Generator().manual_seed(recipe.seed))
    checkpoint = folder / f"{name}.pt"
    began = monotonic()

    def watch() -> dict[str, float]:
        seen = evaluate(model, text.valid)
        print(f"{(monotonic() - began) / 60:6.1f} min  valid {seen.perplexity:.2f}", flush=True)
        return {"perplexity": seen.perplexity, "activity": seen.mean_activity}

    history = train_language_model(
        model, text.train, recipe, looks=LOOKS, watch=watch, checkpoint=checkpoint, save_every=200
    )
    seen = evaluate(model, text.test)
    test = short({
        "perplexity": seen.perplexity,
        "activity": seen.mean_activity,
        "backward_sparsity": seen.backward_sparsity,
        "macs": seen.macs,
        "dense_macs": seen.dense_macs,
    })  # fmt: skip
    about = {
        "recipe": asdict(recipe),
        "text": {"name": "state_of_the_union", "sha256": hashlib.sha256(text.train.tobytes()).hexdigest()},
        **short({"beginning": beginning(config, recipe, text.train)}),
        "history": [short(look) for look in history],
        "test": test,
        "torch": torch.__version__,
    }
    path = folder / f"{name}.safetensors"
    save_model(model, path, about)
    checkpoint.unlink()
    print(test)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "language_models")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = train(given.name, given.out)
    content = path.read_bytes()
    print(f"{path}\n  bytes: {len(content)}\n  sha256: {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()

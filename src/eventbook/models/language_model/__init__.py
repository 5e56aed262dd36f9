"""Recurrent language models over EGRU, LSTM or GRU, their measures, and an n-gram model as an anchor.

| name | what it is |
|---|---|
| `LanguageModelConfig`, `RELEASED` | what forms a model; the published ones by name |
| `LanguageModel` | the model: tied vectors, dropouts shared over time, DropConnect, carried state |
| `evaluate` | perplexity, activity, and multiply-accumulates for a word |
| `KneserNey` | an n-gram model with interpolated Kneser-Ney smoothing |
| `save_model`, `load_model` | a trained model as a file |
"""

from eventbook.models.language_model.configuration import RELEASED, LanguageModelConfig
from eventbook.models.language_model.evaluation import Evaluation, evaluate
from eventbook.models.language_model.kneser_ney import KneserNey
from eventbook.models.language_model.network import (
    LanguageModel,
    LanguageRun,
    carried_as_released,
    detached,
)
from eventbook.models.language_model.weights import load_model, save_model

__all__ = [
    "RELEASED",
    "Evaluation",
    "KneserNey",
    "LanguageModel",
    "LanguageModelConfig",
    "LanguageRun",
    "carried_as_released",
    "detached",
    "evaluate",
    "load_model",
    "save_model",
]

"""Published models by name: their cost as in the literature, their parameters by an independent count."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventbook.models.language_model import RELEASED, LanguageModel, LanguageModelConfig


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("ptb_1350", 24_648_624), ("ptb_2000", 47_287_488), ("ptb_v0.2", 24_165_000),
        ("wikitext2_v0.2", 24_165_000), ("awd_lstm_ptb", 20_190_000),
    ],
)  # fmt: skip
def test_published_costs(name: str, macs: int):
    """24.65, 47.29, 24.165 and 20.19 million."""
    assert abs(RELEASED[name].dense_macs() - macs) < 5_000
    assert RELEASED[name].gates == (4 if name == "awd_lstm_ptb" else 3)


@pytest.mark.parametrize("name", ["ptb_1350", "ptb_v0.2", "awd_lstm_ptb"])
def test_published_parameters(name: str):
    config = RELEASED[name]
    E, (a, b, c), V = config.embedding, config.hidden_sizes, config.vocabulary
    G = config.gates
    matrices = V * E + G * (E * a + a * a + a * b + b * b + b * c + c * c)
    vectors = V + 2 * G * (a + b + c)
    thresholds = 0 if config.cell == "lstm" else a + b + c
    model = LanguageModel(config, torch.Generator().manual_seed(0))
    assert sum(p.numel() for p in model.parameters()) == matrices + vectors + thresholds


@given(
    st.sampled_from(["egru", "gru", "lstm"]), st.integers(1, 9), st.lists(st.integers(1, 9), max_size=3),
    st.integers(1, 20),
)  # fmt: skip
def test_dense_cost_is_the_number_of_recurrent_weights(cell, embedding, others, words):
    config = LanguageModelConfig(words, embedding, (*others, embedding), cell)
    model = LanguageModel(config, torch.Generator().manual_seed(0))
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name != "embedding"]
    assert config.dense_macs() == sum(p.numel() for p in matrices)


@pytest.mark.parametrize(
    ("wrong", "kind", "line"),
    [
        ({"vocabulary": 0}, ValueError, "vocabulary must be >= 1, got 0"),
        ({"hidden_sizes": ()}, ValueError, "hidden_sizes must have a layer at least, got none"),
        ({"hidden_sizes": (4, 0)}, ValueError, r"hidden_sizes\[1\] must be >= 1, got 0"),
        ({"hidden_sizes": (8, 4)}, ValueError, "the last of hidden_sizes must be the embedding's 8.* got 4"),
        ({"embedding": 2.5}, TypeError, "embedding must be"),
        ({"embedding_std": 0.0}, ValueError, "embedding_std must be > 0 and finite, got 0.0"),
        ({"embedding_std": float("nan")}, ValueError, "embedding_std must be > 0 and finite, got nan"),
        ({"cell": "rnn"}, ValueError, "cell must be one of egru, gru, lstm, got 'rnn'"),
        ({"threshold": "gamma"}, ValueError, "threshold must be one of sigmoid, beta, got 'gamma'"),
        ({"layer_dropout": 1.0}, ValueError, r"layer_dropout must be in 0..1, below 1, got 1.0"),
        ({"drop_connect": -0.1}, ValueError, r"drop_connect must be in 0..1, below 1, got -0.1"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, kind, line):
    with pytest.raises(kind, match=line):
        LanguageModelConfig(**({"vocabulary": 20, "embedding": 8, "hidden_sizes": (4, 8)} | wrong))


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"reset": "hard"}, "reset"),
        ({"reset_gate": "middle"}, "reset_gate"),
        ({"threshold": "beta", "threshold_mean": -4.0}, "mean must be between 0 and 1, got -4.0"),
        ({"surrogate_support": 0.0}, "surrogate_support"),
    ],
)
def test_options_of_the_egru_are_looked_at_when_it_is_built(wrong, line):
    with pytest.raises(ValueError, match=line):
        LanguageModel(LanguageModelConfig(20, 8, (4, 8), **wrong))

r"""What forms a language model, and the models that were published, by name.

| symbol | meaning | name |
|---|---|---|
| V | words, the two marks among them | `vocabulary` |
| E | size of a word's vector, and of the last layer, whose output the same vectors read | `embedding` |
| - | standard deviation of word vectors at first | `embedding_std` |
| H_l | units of each recurrent layer; the last has E | `hidden_sizes` |
| p | chances that something is left out in training | `word_dropout` ... `drop_connect` |
| theta, beta, gamma | threshold and surrogate of an EGRU | `threshold_mean` ..., `surrogate_support` ... |

Dense multiply-accumulates of the recurrent layers for a token, G = 3 gates of EGRU and GRU, 4 of LSTM:

    sum_l G H_l (H_{l-1} + H_l),    H_0 = E

Source: Merity et al. 2018 (AWD-LSTM) for the form; the released code of arXiv:2206.06178, versions 0.1.0 and
0.2.0, for the published EGRUs. Its third dropout, on the output of the last layer, is .5 whatever is asked
for, so that it stands here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from eventbook.kernels.encoders.arguments import whole
from eventbook.models.egru import Dynamics
from eventbook.models.sparsity.closed_forms import dense_macs

GATES = {"egru": 3, "gru": 3, "lstm": 4}
CHANCES = ("word_dropout", "input_dropout", "layer_dropout", "output_dropout", "drop_connect")
THRESHOLDS = ("sigmoid", "beta")


@dataclass(frozen=True)
class LanguageModelConfig:
    """A language model.

    Attributes
    ----------
    vocabulary, embedding, hidden_sizes
        V, E, and the units of each layer; the last layer must have E of them.
    cell
        "egru", "lstm" or "gru".
    embedding_std
        Of the components of word vectors at first, which are normal. Larger ones move states over thresholds
        from the beginning.
    word_dropout
        Chance that a word of the vocabulary is left out of a batch wherever it stands.
    input_dropout, layer_dropout, output_dropout
        Chances for each component of vectors, of outputs between layers, and of the last output; one mask
        for all steps of a sequence.
    drop_connect
        Chance for each recurrent weight, one mask for a batch.
    reset, reset_gate
        Of `eventbook.models.egru.EGRUCell`.
    threshold, threshold_mean, threshold_std, threshold_trainable
        "sigmoid": theta = sig(N(mean, std)); "beta": drawn from a Beta distribution of that mean.
    surrogate_support, surrogate_dampening
        beta and gamma.

    Raises
    ------
    TypeError
        If a size is no whole number, or there is one size in place of a sequence.
    ValueError
        If a size is not positive, a word is none of those named, a chance or number is out of range, or the
        last layer has not the size of the embedding.
    """

    vocabulary: int
    embedding: int = 256
    hidden_sizes: tuple[int, ...] = (320, 256)
    cell: str = "egru"
    embedding_std: float = 0.1
    word_dropout: float = 0.0
    input_dropout: float = 0.0
    layer_dropout: float = 0.0
    output_dropout: float = 0.0
    drop_connect: float = 0.0
    reset: str = "threshold"
    reset_gate: str = "after"
    threshold: str = "sigmoid"
    threshold_mean: float = -4.0
    threshold_std: float = 0.5
    threshold_trainable: bool = True
    surrogate_support: float = 2.2
    surrogate_dampening: float = 0.7

    def __post_init__(self) -> None:
        whole(self.vocabulary, "vocabulary", 1)
        whole(self.embedding, "embedding", 1)
        if not isinstance(self.hidden_sizes, Sequence):
            raise TypeError(f"hidden_sizes must be a size for each layer, got {self.hidden_sizes!r}")
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        if not self.hidden_sizes:
            raise ValueError("hidden_sizes must have a layer at least, got none")
        for at, size in enumerate(self.hidden_sizes):
            whole(size, f"hidden_sizes[{at}]", 1)
        if self.hidden_sizes[-1] != self.embedding:
            raise ValueError(
                f"the last of hidden_sizes must be the embedding's {self.embedding}, whose vectors read it, "
                f"got {self.hidden_sizes[-1]}"
            )
        for name, word, known in (("cell", self.cell, GATES), ("threshold", self.threshold, THRESHOLDS)):
            if word not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {word!r}")
        for name in CHANCES:
            chance = getattr(self, name)
            if not 0 <= chance < 1:
                raise ValueError(f"{name} must be in 0..1, below 1, got {chance}")
        if not 0 < self.embedding_std < math.inf:
            raise ValueError(f"embedding_std must be > 0 and finite, got {self.embedding_std}")
        Dynamics(self.reset, self.reset_gate, self.surrogate_support, self.surrogate_dampening)
        # thresholds are looked at by the EGRU itself, when it is built

    @property
    def gates(self) -> int:
        """G."""
        return GATES[self.cell]

    def dense_macs(self) -> int:
        """Multiply-accumulates of the recurrent layers for a word if every weight is used."""
        return dense_macs(self.embedding, self.hidden_sizes, self.gates)


_FIRST = LanguageModelConfig(
    10_000, 788, (1350, 1350, 788), word_dropout=0.055, input_dropout=0.707, layer_dropout=0.264,
    output_dropout=0.5, drop_connect=0.679, threshold_mean=-3.77, threshold_std=math.sqrt(2),
    surrogate_support=2.18,
)  # fmt: skip
_SECOND = LanguageModelConfig(
    10_000, 750, (1350, 1350, 750), word_dropout=0.1, input_dropout=0.6, layer_dropout=0.25,
    output_dropout=0.5, drop_connect=0.7, threshold="beta", threshold_mean=0.01,
    threshold_trainable=False, surrogate_support=3.6, surrogate_dampening=3.6,
)  # fmt: skip
RELEASED: Mapping[str, LanguageModelConfig] = MappingProxyType({
    "ptb_1350": _FIRST,
    "ptb_2000": replace(
        _FIRST, embedding=786, hidden_sizes=(2000, 2000, 786), word_dropout=0.149, input_dropout=0.765,
        layer_dropout=0.241, drop_connect=0.621, threshold_mean=-3.50, surrogate_support=2.35,
    ),
    "ptb_v0.2": _SECOND,
    "wikitext2_v0.2": replace(_SECOND, vocabulary=33_278, input_dropout=0.7),
    "awd_lstm_ptb": LanguageModelConfig(10_000, 400, (1150, 1150, 400), "lstm"),
})  # fmt: skip
"""The published EGRUs, and AWD-LSTM's sizes (whose dropouts no source of ours tells) for comparison."""

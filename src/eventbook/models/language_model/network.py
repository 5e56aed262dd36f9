r"""A recurrent language model over EGRU, LSTM or GRU, whose word vectors also read the answer.

    x_t = E[w_t],    y_t = recurrent layers(x_t),    p(w_{t+1} = v) = softmax_v(E[v] . y_t + b_v)

| symbol | meaning | shape | name |
|---|---|---|---|
| w | words | (batch, time) integers | `tokens` |
| E, b | vector and offset of each word | (word, embedding), (word,) | `embedding`, `bias` |
| y | what the last layer says | (batch, time, embedding) | `LanguageRun.hidden` |
| - | state of each layer | an `EGRUState`, (h, c), or h | `state` |

torch.compile traces the layers (`LanguageModel.recurrent`), and not a whole call, which looks at its words.

Dropouts are shared over time. A state that a call returns is where the next call goes on; `detached` cuts it
off from what made it, for back-propagation through windows of a text. The released code of arXiv:2206.06178
carries an EGRU's output from window to window and begins its state anew: `carried_as_released` does that.

Source: Merity et al. 2018 for the form; Press and Wolf 2017 for one table of vectors.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from eventbook.models.decay import matrices_decay
from eventbook.models.egru import EGRU, BetaThreshold, EGRUState, LayerRun, SigmoidThreshold
from eventbook.models.language_model.configuration import LanguageModelConfig
from eventbook.models.language_model.dropout import locked, without_words
from eventbook.models.language_model.gated import GatedStack
from eventbook.models.language_model.vocabulary import vocabulary_loss
from eventbook.models.sparsity.counting import products_of_run
from eventbook.models.sparsity.products import Product

State = tuple[Any, ...]  # of each layer: an EGRUState, (h, c), or h


class LanguageRun(NamedTuple):
    """What a call gives: the last layer's outputs after dropout, the state, and what went on between.

    `vectors` are those of the words, after dropout; `outputs` what each layer said, before it; `layers` what
    each layer of an EGRU did, and empty otherwise.
    """

    hidden: Float[Tensor, "batch time embedding"]
    state: State
    vectors: Float[Tensor, "batch time embedding"]
    outputs: tuple[Float[Tensor, "batch time unit"], ...]
    layers: tuple[LayerRun, ...]


class LanguageModel(nn.Module):
    """See the module.

    Parameters
    ----------
    config
        What forms it.
    generator
        Source of the initial weights; torch's own if not given. Masks of dropout come from torch's own.

    Raises
    ------
    ValueError
        As the layers of the EGRU, whose options are looked at here.

    Examples
    --------
    >>> model = LanguageModel(LanguageModelConfig(50, 8, (16, 8)), torch.Generator().manual_seed(0)).eval()
    >>> words = torch.arange(12).view(2, 6)
    >>> scores, state = model(words[:, :4])
    >>> rest, _ = model(words[:, 4:], state)      # goes on
    >>> scores.shape, torch.equal(model(words)[0][:, 4:], rest)
    (torch.Size([2, 4, 50]), True)
    """

    def __init__(self, config: LanguageModelConfig, generator: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        table = torch.randn(config.vocabulary, config.embedding, generator=generator)
        self.embedding = nn.Parameter(config.embedding_std * table)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.recurrent: EGRU | GatedStack
        if config.cell == "egru":
            threshold: Any = partial(
                SigmoidThreshold, mean=config.threshold_mean, std=config.threshold_std,
                trainable=config.threshold_trainable,
            )  # fmt: skip
            if config.threshold == "beta":
                threshold = partial(
                    BetaThreshold, mean=config.threshold_mean, trainable=config.threshold_trainable
                )
            self.recurrent = EGRU(
                config.embedding, config.hidden_sizes, batch_first=True, dropout=config.layer_dropout,
                dropout_over="sequence", drop_connect=config.drop_connect, threshold=threshold,
                reset=config.reset, reset_gate=config.reset_gate,
                surrogate_support=config.surrogate_support,
                surrogate_dampening=config.surrogate_dampening, generator=generator,
            )  # fmt: skip
        else:
            self.recurrent = GatedStack(
                config.cell, config.embedding, config.hidden_sizes, dropout=config.layer_dropout,
                drop_connect=config.drop_connect, generator=generator,
            )  # fmt: skip

    def forward(
        self, tokens: Int[Tensor, "batch time"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch time word"], State]:
        """Scores of the word that follows each, and the state after the last.

        Raises
        ------
        ValueError
            If tokens are not (batch, time), one is no word (names the first), or the state is not of this
            model and batch.
        TypeError
            If tokens are no integers, or the state is of another kind.
        """
        run = self.run(tokens, state)
        return functional.linear(run.hidden, self.embedding, self.bias), run.state

    def run(self, tokens: Int[Tensor, "batch time"], state: State | None = None) -> LanguageRun:
        """As a call, without scores, with what each layer did."""
        tokens = self.checked(tokens, "tokens")
        if state is not None:
            self._check_state(state, len(tokens))
        config, training = self.config, self.training
        vectors = without_words(self.embedding, config.word_dropout if training else 0.0)
        x = locked(functional.embedding(tokens, vectors), config.input_dropout if training else 0.0)
        layers: tuple[LayerRun, ...] = ()
        if isinstance(self.recurrent, EGRU):
            run = self.recurrent.run(x, state)
            end, layers = run.state, run.layers
            outputs = tuple(layer.output for layer in layers)
        else:
            outputs, end = self.recurrent(x, state)
        y = locked(outputs[-1], config.output_dropout if training else 0.0)
        return LanguageRun(y, end, x, outputs, layers)

    def products(self, run: LanguageRun, state: State | None, steps: Tensor) -> tuple[Product, ...]:
        """What went through each matrix of the recurrent layers in a run without dropout.

        Parameters
        ----------
        run, state
            Of a call in the mode of evaluation, and the state that it began with.
        steps
            Where there is no padding, (batch, time) bool.
        """
        if isinstance(self.recurrent, EGRU):
            return products_of_run(self.recurrent, run.vectors, state, run.layers, steps)
        return self.recurrent.products(run.vectors, state, run.outputs, steps)

    def loss(
        self,
        tokens: Int[Tensor, "batch time"],
        targets: Int[Tensor, "batch time"],
        state: State | None = None,
    ) -> tuple[Float[Tensor, ""], LanguageRun]:
        """Mean negative logarithm of what the targets' probabilities are, in nats, and the run.

        Raises
        ------
        ValueError, TypeError
            As a call; if targets have another shape than tokens, or there are none.
        """
        targets = self.checked(targets, "targets")
        if targets.shape != tokens.shape:
            raise ValueError(
                f"targets must have the shape of tokens, {tuple(tokens.shape)}, got {tuple(targets.shape)}"
            )
        run = self.run(tokens, state)
        loss = vocabulary_loss(run.hidden.flatten(0, 1), self.embedding, self.bias, targets.flatten())
        return loss, run

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """For an optimiser: matrices decay, offsets and thresholds do not."""
        return matrices_decay(self, lr, weight_decay)

    def checked(self, tokens: Any, name: str) -> Int[Tensor, "batch time"]:
        """The tokens as int64; an error in one line if they are not (batch, time) words."""
        if not isinstance(tokens, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tokens).__name__}")
        if tokens.ndim != 2:
            raise ValueError(f"{name} must be (batch, time), got {tuple(tokens.shape)}")
        if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
            raise TypeError(f"{name} must be integers, got {tokens.dtype}")
        words = tokens.long()  # unsigned numbers of 16 bits and more cannot be compared as they are
        wrong = (words < 0) | (words >= self.config.vocabulary)
        if wrong.any():
            row, step = (int(at) for at in wrong.nonzero()[0])
            raise ValueError(
                f"{name}[{row}, {step}] must be in 0..{self.config.vocabulary - 1}, "
                f"got {int(words[row, step])}"
            )
        return words

    def _check_state(self, state: Any, batch: int) -> None:
        if not isinstance(state, list | tuple) or isinstance(state, EGRUState):
            raise TypeError(f"state must be what a call returned, got {type(state).__name__}")
        sizes = self.config.hidden_sizes
        if len(state) != len(sizes):
            raise ValueError(f"state must have {len(sizes)} members, one a layer, got {len(state)}")
        if self.config.cell == "egru":
            return  # the EGRU looks at its own
        for at, (its, size) in enumerate(zip(state, sizes, strict=True)):
            parts = its if self.config.cell == "lstm" else (its,)
            kind = "(h, c)" if self.config.cell == "lstm" else "h"
            tensors = isinstance(parts, tuple) and all(isinstance(part, Tensor) for part in parts)
            if not tensors or len(parts) != (2 if self.config.cell == "lstm" else 1):
                raise TypeError(f"state[{at}] must be {kind}, got {type(its).__name__}")
            for part in parts:
                if tuple(part.shape) != (1, batch, size):
                    raise ValueError(
                        f"state[{at}] must be {kind} of (1, batch, hidden_size) = (1, {batch}, {size}), "
                        f"got {tuple(part.shape)}"
                    )
                if part.dtype != self.embedding.dtype:
                    raise TypeError(
                        f"state[{at}] must have the dtype of the weights, {self.embedding.dtype}, "
                        f"got {part.dtype}"
                    )


def detached(state: Sequence[Any]) -> State:
    """The state of a model, cut off from what made it: for gradients that end at a window."""
    return tuple(_detached(its) for its in state)


def carried_as_released(state: Sequence[Any]) -> State:
    """What the released code keeps of an EGRU's state between windows: its output alone."""
    return tuple(
        EGRUState(torch.zeros_like(its.carry), its.output) if isinstance(its, EGRUState) else its
        for its in state
    )


def _detached(its: Any) -> Any:
    if isinstance(its, Tensor):
        return its.detach()
    parts = tuple(part.detach() for part in its)
    return EGRUState(*parts) if isinstance(its, EGRUState) else parts

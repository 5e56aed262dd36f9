"""Language models that were trained, a word a call: what silence and missing weights save on real text.

python benchmarks/language_models.py [path of the JSON]

The EGRU and the LSTM are those of the project, the GRU has the sizes of the EGRU and is as it was drawn: its
work does not depend on what it says. Pruned networks keep the largest weights of each matrix and were not
trained after; their activity is measured on the words that are timed. Words come one after another from the
test text, the state is carried, and all ways to run one network must agree before any is timed. Times are
also counted for each multiply-accumulate that ours does, with both kinds of zeros left out.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from egru import agree, carrying, without_gradients
from eventbook.datasets import load_state_of_the_union, load_weights
from eventbook.learning.pruning import prune
from eventbook.models.egru import EGRU, EGRUCell, EGRUStream, compress
from eventbook.models.language_model import LanguageModel, load_model
from eventbook.models.language_model.gated import GatedStack
from harness import Case, Goal, Missing, Work, curve, main

WORDS = 512
GRU, LSTM = "torch.nn.GRU", "torch.nn.LSTM, trained"
STEP, DENSE = "ours, a call of the network a word", "ours, dense"
ROWS, CSR = "ours, whole rows", "torch, CSR"
PEERS = {GRU: "torch", LSTM: "torch", CSR: "torch"}


@cache
def trained(cell: str) -> LanguageModel:
    return load_model(load_weights(f"state_of_the_union_{cell}"))[0]


@cache
def vectors() -> Tensor:
    """Vectors of consecutive words of the test text, (word, embedding)."""
    words = torch.from_numpy(load_state_of_the_union().test[:WORDS]).long()
    return trained("egru").embedding.detach()[words]


def pruned(density: float) -> EGRU:
    """The recurrent layers of the trained EGRU with so many of their weights."""
    model = deepcopy(trained("egru"))
    if density < 1:
        prune(model, 1 - density)
    assert isinstance(model.recurrent, EGRU)
    return model.recurrent


class CompressedByTorch:
    """The dense recurrence with products of torch's CSR matrices; knows one form of the cell."""

    def __init__(self, network: EGRU) -> None:
        self.cells = [cell for cell in network.cells if isinstance(cell, EGRUCell)]
        assert all(cell.dynamics.reset == "threshold" for cell in self.cells)
        self.matrices = [
            (cell.kernel.detach().t().to_sparse_csr(), cell.recurrent_kernel.detach().t().to_sparse_csr())
            for cell in self.cells
        ]
        self.state = [(torch.zeros(cell.hidden_size), torch.zeros(cell.hidden_size)) for cell in self.cells]

    def __call__(self, x: Tensor) -> Tensor:
        for number, (cell, (kernel, recurrent)) in enumerate(zip(self.cells, self.matrices, strict=True)):
            h, y = self.state[number]
            p = kernel @ x if cell.bias is None else kernel @ x + cell.bias
            q = recurrent @ y + cell.recurrent_bias_or_zeros()
            (p_z, p_r, p_g), (q_z, q_r, q_g) = p.chunk(3), q.chunk(3)
            z, g = torch.sigmoid(p_z + q_z), torch.tanh(p_g + torch.sigmoid(p_r + q_r) * q_g)
            c, theta = z * h + (1 - z) * g, cell.threshold()
            said = c > theta
            x = torch.where(said, c, 0)
            self.state[number] = c - torch.where(said, theta, 0), x
        return x


def stacked(layers: Iterable[nn.Module]) -> Callable[[Tensor], Tensor]:
    """Layers of torch, one step a call, their states carried."""
    steps = [carrying(layer) for layer in layers]

    def work(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return work


def trained_lstm() -> Callable[[Tensor], Tensor]:
    """The recurrent layers of the trained LSTM, one step a call."""
    lstm = trained("lstm").recurrent
    assert isinstance(lstm, GatedStack)
    return stacked(lstm.layers)


def dense_gru(sizes: tuple[int, ...]) -> list[nn.Module]:
    torch.manual_seed(0)
    inputs = (vectors().shape[1], *sizes)
    return [nn.GRU(i, h) for i, h in zip(inputs, sizes, strict=False)]


def word_by_word(density: float, goals: list[Goal]) -> Case:
    network, words = pruned(density), vectors()
    small = compress(network) if density < 1 else network
    for parameter in (*network.parameters(), *small.parameters()):
        parameter.requires_grad_(False)
    expected = network(words[None])[0][0]
    stream = EGRUStream(small)
    agree("the stream", torch.from_numpy(stream.push(words.numpy())), expected)
    layers = range(len(network.hidden_sizes))
    counted = [its for n in layers for its in (stream.input_operations(n), stream.operations(n))]
    macs = sum(its.multiply_accumulates for its in counted) // WORDS
    spoken = [float((run.output != 0).float().mean()) for run in network.run(words[None]).layers]
    by_torch = CompressedByTorch(network)
    agree("torch's CSR", torch.stack([by_torch(x) for x in words]), expected)
    network.path = "dense"
    rows = list(words.split(1))
    ways: dict[str, Work | Missing] = {
        "ours": without_gradients(stream.push, list(words.numpy())),
        STEP: without_gradients(carrying(small), list(words[:, None, None].unbind())),
        DENSE: without_gradients(carrying(network), list(words[:, None, None].unbind())),
        GRU: without_gradients(stacked(dense_gru(network.hidden_sizes)), rows),
        LSTM: without_gradients(trained_lstm(), rows),
    }
    if density < 1:
        ways[ROWS] = without_gradients(EGRUStream(pruned(density)).push, list(words.numpy()))
        ways[CSR] = without_gradients(by_torch, list(words.unbind()))
    said = " and ".join(f"{share:.0%}" for share in spoken)
    return Case(
        "trained EGRU 320-256, a word a call",
        f"{density:.0%} of the weights, {said} active",
        ways,
        goals,
        {name: package for name, package in PEERS.items() if name in ways},
        per_call=macs,
        unit="multiply-accumulates",
    )


@torch.inference_mode()
def with_scores(goals: list[Goal]) -> Case:
    """The whole model, scores of all words included."""
    model, stream = trained("egru"), EGRUStream(pruned(1.0))
    table, bias = model.embedding.detach(), model.bias.detach()
    lstm = trained_lstm()

    def of_lstm(x: Tensor) -> Tensor:
        return functional.linear(lstm(x), table, bias)

    def of_egru(x: Any) -> Tensor:
        return functional.linear(torch.from_numpy(stream.push(x))[None], table, bias)

    return Case(
        "trained EGRU 320-256 with scores of 10,002 words",
        "a word a call",
        {
            "ours": without_gradients(of_egru, list(vectors().numpy())),
            LSTM: without_gradients(of_lstm, list(vectors().split(1))),
        },
        goals,
        {LSTM: "torch"},
        per_call=1,
        unit="words",
    )


def cases() -> Iterator[Case]:
    torch.set_num_threads(1)
    yield word_by_word(1.0, [Goal(GRU, 1), Goal(LSTM, 1), Goal(DENSE, 1)])
    for density in (0.5, 0.2, 0.1, 0.05):
        yield word_by_word(density, [Goal(GRU, 1), Goal(CSR, 1)])
    yield with_scores([])


def curves() -> Iterator[dict[str, Any]]:
    def ways(density: float) -> dict[str, Any]:
        case = word_by_word(density, [])
        drawn = {"ours": "ours, compressed rows", ROWS: ROWS, CSR: CSR, GRU: GRU}
        return {name: case.competitors[way] for way, name in drawn.items()}

    yield curve("trained EGRU, a word a call", "share of weights left", [0.05, 0.1, 0.2, 0.4], ways)


if __name__ == "__main__":
    main(__file__, "language models", cases, curves=curves)

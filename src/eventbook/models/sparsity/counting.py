r"""Run a recurrent network and count what it leaves out and what it does.

For each layer there are two products, of its input and of what its units said one step earlier. At the first
step nothing was said before, which is not work.

Source: derived.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from eventbook.kernels.machinery.lengths import check_lengths
from eventbook.models.egru import EGRU, EGRUState, LayerRun
from eventbook.models.egru.network import cells_of
from eventbook.models.sparsity.products import Product, kept_of_cell, one_step_before, product_of
from eventbook.models.sparsity.terms import ActivationSparsity, ConnectionSparsity, SynapticOperations


class Sparsity(NamedTuple):
    """What a call of a network left out and what it did: two products a layer, of input and state."""

    products: tuple[Product, ...]
    activation: ActivationSparsity
    connection: ConnectionSparsity
    operations: SynapticOperations


@torch.no_grad()
def measure_sparsity(
    model: EGRU | nn.GRU | nn.LSTM,
    input: Float[Tensor, "..."],
    state: Any = None,
    lengths: Int[Tensor, "batch"] | None = None,
) -> Sparsity:
    """Run a recurrent network in evaluation mode and count.

    Parameters
    ----------
    model
        An `EGRU`, compressed or not, or a torch.nn.GRU or LSTM of one direction.
    input
        (time, batch, input_size), or batch first if the model is so.
    state
        As the model takes it; silence if not given.
    lengths
        Steps of each row that are no padding; all if not given.

    Raises
    ------
    TypeError
        If the model is another network, input no tensor, or lengths are no integers.
    ValueError
        If it has two directions or projections, shapes do not fit, or a length is not in 0..time.

    Examples
    --------
    >>> measure_sparsity(nn.GRU(3, 4), torch.ones(5, 2, 3)).operations.dense  # 10 steps of 12 (3 + 4)
    840
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"input must be a tensor, got {type(input).__name__}")
    if input.ndim != 3:
        raise ValueError(f"input must have three axes, of time, batch and features, got {tuple(input.shape)}")
    with _evaluating(model):
        if isinstance(model, EGRU):
            products, activation = _of_egru(model, input, state, lengths)
        elif isinstance(model, nn.GRU | nn.LSTM):
            products, activation = _of_torch(model, input, state, lengths)
        else:
            raise TypeError(f"model must be an EGRU, torch.nn.GRU or LSTM, got {type(model).__name__}")
    return Sparsity(products, activation, ConnectionSparsity.of(model), SynapticOperations.of(products))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout; each module is then as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _activation(outputs: Sequence[Tensor], steps: Tensor) -> ActivationSparsity:
    places = sum(int(steps.sum()) * y.shape[2] for y in outputs)
    spoken = sum(int(((y != 0) & steps[..., None]).sum()) for y in outputs)
    return ActivationSparsity(places - spoken, places)


def products_of_run(
    model: EGRU,
    input: Float[Tensor, "batch time input"],
    state: Sequence[EGRUState] | None,
    layers: Sequence[LayerRun],
    steps: Bool[Tensor, "batch time"],
) -> tuple[Product, ...]:
    """Two products a layer of a run of an EGRU without dropout; `steps` says where there is no padding."""
    products, sent = [], input
    for number, (cell, layer) in enumerate(zip(cells_of(model), layers, strict=True)):
        first = cell.silent(len(sent)).output if state is None else state[number][1]
        targets = 3 * cell.hidden_size
        for name, values, done in (
            ("kernel", sent, layer.input_operations()),
            ("recurrent_kernel", one_step_before(layer.output, first), layer.operations()),
        ):
            executed = None if done is None else done.multiply_accumulates
            kept = kept_of_cell(cell, name)
            products.append(product_of(f"cells.{number}.{name}", values, steps, kept, targets, executed))
        sent = layer.output
    return tuple(products)


def products_of_layer(
    name: str,
    layer: nn.GRU | nn.LSTM,
    input: Float[Tensor, "batch time input"],
    first: Float[Tensor, "batch unit"],
    said: Float[Tensor, "batch time unit"],
    steps: Bool[Tensor, "batch time"],
) -> tuple[Product, Product]:
    """The two products of a module of one layer, from what it was given and what it said; `first` before."""
    targets = 4 * layer.hidden_size if isinstance(layer, nn.LSTM) else 3 * layer.hidden_size
    pairs = (("weight_ih", input), ("weight_hh", one_step_before(said, first)))
    found = []
    for part, values in pairs:
        kept = (getattr(layer, f"{part}_l0") != 0).sum(0)
        found.append(product_of(name.format(part), values, steps, kept, targets, None))
    return found[0], found[1]


def _of_egru(
    model: EGRU, input: Tensor, state: Any, lengths: Tensor | None
) -> tuple[tuple[Product, ...], ActivationSparsity]:
    layers = model.run(input, state, lengths).layers
    sent, steps = input if model.batch_first else input.transpose(0, 1), layers[0].steps()
    products = products_of_run(model, sent, state, layers, steps)
    return products, _activation([layer.output for layer in layers], steps)


def _of_torch(
    model: nn.GRU | nn.LSTM, input: Tensor, state: Any, lengths: Tensor | None
) -> tuple[tuple[Product, ...], ActivationSparsity]:
    """Layer by layer: torch shows what the last one says alone."""
    if model.bidirectional or model.proj_size:
        raise ValueError("model must have one direction and no projections, got two or some")
    kind = nn.LSTM if isinstance(model, nn.LSTM) else nn.GRU
    sent = input if model.batch_first else input.transpose(0, 1)
    batch, time, width = sent.shape
    if width != model.input_size:
        raise ValueError(f"input must have {model.input_size} features, the input_size, got {width}")
    steps = torch.ones(batch, time, dtype=torch.bool, device=sent.device)
    if lengths is not None:
        if lengths.shape != (batch,):
            raise ValueError(f"lengths must be (batch,) = ({batch},), got {tuple(lengths.shape)}")
        check_lengths(lengths, time)
        steps = torch.arange(time, device=sent.device) < lengths[:, None]
    if state is None:
        zeros = sent.new_zeros(model.num_layers, batch, model.hidden_size)
        state = (zeros, zeros) if isinstance(model, nn.LSTM) else zeros
    products: list[Product] = []
    outputs = []
    for number in range(model.num_layers):
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if model.bias else 2]
        own = {f"{part}_l0": getattr(model, f"{part}_l{number}").detach() for part in parts}
        alone = kind(sent.shape[2], model.hidden_size, bias=model.bias, batch_first=True).to(sent)
        alone.load_state_dict(own)
        its = (
            tuple(part[number : number + 1] for part in state)
            if isinstance(state, tuple)
            else state[number : number + 1]
        )
        said = alone(sent, its)[0] if time else sent.new_zeros(batch, 0, model.hidden_size)
        first = its[0][0] if isinstance(its, tuple) else its[0]
        products += products_of_layer(f"{{}}_l{number}", alone, sent, first, said, steps)
        sent = said
        outputs.append(said)
    return tuple(products), _activation(outputs, steps)

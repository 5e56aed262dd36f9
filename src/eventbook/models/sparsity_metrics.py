r"""What a recurrent network leaves out, in the terms of NeuroBench: silent units, missing weights, products.

    ActivationSparsity    share of outputs of units that are 0
    ConnectionSparsity    share of weights that are 0 or not stored
    SynapticOperations    products that a machine which skips both kinds of zeros does, beside the dense ones

    dense     = sum over products of  tokens * sources * targets
    effective = sum over products, tokens and sources i with x_i != 0 of  nnz(row i)
    effective / dense = mean_i(a_i w_i) = mean(a) mean(w) + Cov_i(a_i, w_i)              exactly

| symbol | meaning | shape | name |
|---|---|---|---|
| a_i | share of tokens at which source i sent something | (source,) | `Product.activity()` |
| w_i | share of its outgoing weights that are there | (source,) | `Product.row_density()` |
| G | gates: 3 of a GRU and an EGRU, 4 of an LSTM | scalar | `gates` |
| I_l, H_l | inputs and units of layer l | scalar | `input_size`, `hidden_sizes` |

"The two sparsities multiply" means that the covariance is small: it is 0 in expectation for random masks, and
large where masks keep the weights of active units. A product whose inputs are all -1, 0 or 1 counts as
accumulates (ACs), any other as multiply-accumulates (MACs); what an EGRU's units say is graded. A token is a
step of a row that is no padding. At the first step nothing was said before, which is not work.

Beside what could be skipped stands what was done, `executed`: as the kernels counted it where they ran, all
products with every weight where the product was dense, padding included. On compressed rows and inputs of
events both are the same number.

Source: Yik et al., NeuroBench, for the terms; the identity and the closed forms are derived.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eventbook.kernels.machinery.lengths import check_lengths
from eventbook.models.egru import EGRU, CompressedCell, EGRUCell
from eventbook.models.egru.network import cells_of

CONNECTIONS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase, nn.RNNCell, nn.GRUCell, nn.LSTMCell,
)  # fmt: skip


class Product(NamedTuple):
    """One matrix and what was sent through it."""

    name: str
    spoken: Int[Tensor, "source"]  # tokens at which each source sent something
    kept: Int[Tensor, "source"]  # weights of each source that are there
    targets: int
    tokens: int
    binary: bool  # whatever was sent is -1 or 1
    executed: int

    def activity(self) -> Float[Tensor, "source"]:
        """a_i, float64."""
        return self.spoken.double() / max(1, self.tokens)

    def row_density(self) -> Float[Tensor, "source"]:
        """w_i, float64."""
        return self.kept.double() / max(1, self.targets)

    @property
    def effective(self) -> int:
        """Products of something with something."""
        return int(self.spoken @ self.kept)

    @property
    def dense(self) -> int:
        """Products of everything with everything."""
        return self.tokens * len(self.spoken) * self.targets

    @property
    def ratio(self) -> float:
        """effective / dense."""
        return self.effective / self.dense if self.dense else 0.0


class ActivationSparsity(NamedTuple):
    """Outputs of units that are 0, of all; add up several batches with `plus`."""

    silent: int = 0
    places: int = 0

    @property
    def share(self) -> float:
        """0 of none at all."""
        return self.silent / self.places if self.places else 0.0

    def plus(self, other: "ActivationSparsity") -> "ActivationSparsity":
        """Both together."""
        return ActivationSparsity(*(a + b for a, b in zip(self, other, strict=True)))


class ConnectionSparsity(NamedTuple):
    """Weights that are 0 or not stored, of all."""

    zeros: int = 0
    weights: int = 0

    @property
    def share(self) -> float:
        """0 of none at all."""
        return self.zeros / self.weights if self.weights else 0.0

    @classmethod
    def of(cls, model: nn.Module) -> "ConnectionSparsity":
        """Of linear maps, convolutions and recurrent layers at any depth, torch's and this package's.

        Biases, embeddings and thresholds are no connections.

        Examples
        --------
        >>> layer = nn.Linear(4, 5)
        >>> with torch.no_grad():
        ...     _ = layer.weight[0].zero_()
        >>> ConnectionSparsity.of(layer)
        ConnectionSparsity(zeros=4, weights=20)
        """
        zeros = weights = 0
        for size, present in _matrices(model):
            zeros += size - present
            weights += size
        return cls(zeros, weights)


class SynapticOperations(NamedTuple):
    """Products over some tokens; add up several batches with `plus`."""

    effective_macs: int = 0
    effective_acs: int = 0
    dense: int = 0
    executed: int = 0
    tokens: int = 0

    @classmethod
    def of(cls, products: Sequence[Product]) -> "SynapticOperations":
        """Of all products of one measurement."""
        macs = sum(product.effective for product in products if not product.binary)
        acs = sum(product.effective for product in products if product.binary)
        dense, executed = (sum(getattr(p, name) for p in products) for name in ("dense", "executed"))
        return cls(macs, acs, dense, executed, products[0].tokens if products else 0)

    def plus(self, other: "SynapticOperations") -> "SynapticOperations":
        """Both together."""
        return SynapticOperations(*(a + b for a, b in zip(self, other, strict=True)))

    def per_token(self) -> dict[str, float]:
        """All but `tokens`, each per token; 0 of none at all."""
        counts = self._asdict()
        tokens = counts.pop("tokens")
        return {name: count / tokens if tokens else 0.0 for name, count in counts.items()}


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
        If the model is another network, or lengths are no integers.
    ValueError
        If it has two directions or projections, shapes do not fit, or a length is not in 0..time.

    Examples
    --------
    >>> found = measure_sparsity(nn.GRU(3, 4), torch.ones(5, 2, 3))
    >>> found.operations.dense == dense_macs(3, [4]) * 10
    True
    """
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


# --- closed forms ------------------------------------------------------------------------------------------


def dense_macs(input_size: int, hidden_sizes: Sequence[int], gates: int = 3) -> int:
    """sum_l G H_l (I_l + H_l): products of a token with every weight.

    Examples
    --------
    >>> dense_macs(750, [1350, 1350, 750])          # the released EGRU
    24165000
    >>> dense_macs(400, [1150, 1150, 400], gates=4)      # AWD-LSTM
    20190000
    """
    return int(modelled_macs(input_size, hidden_sizes, gates=gates))


def modelled_macs(
    input_size: int,
    hidden_sizes: Sequence[int],
    activity: Sequence[float] | None = None,
    input_density: Sequence[float] | None = None,
    recurrent_density: Sequence[float] | None = None,
    *,
    gates: int = 3,
    input_activity: float = 1.0,
) -> float:
    """sum_l G H_l (a_{l-1} w^W_l I_l + a_l w^R_l H_l): products of a token if activity and density multiply.

    Parameters
    ----------
    input_size, hidden_sizes, gates
        Of the stack.
    activity, input_density, recurrent_density
        A share for each layer, 1 if not given.
    input_activity
        a_0: 1 for an embedding, which is dense.

    Raises
    ------
    ValueError
        If there is not one share a layer, or it is no share.
    """
    layers = len(hidden_sizes)
    shares = {
        name: [1.0] * layers if given is None else list(given)
        for name, given in (
            ("activity", activity),
            ("input_density", input_density),
            ("recurrent_density", recurrent_density),
        )
    }
    for name, given in shares.items():
        if len(given) != layers:
            raise ValueError(f"{name} must have {layers} members, one a layer, got {len(given)}")
    for name, given in (*shares.items(), ("input_activity", [input_activity])):
        for share in given:
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be a share in [0, 1], got {share}")
    total, below, said = 0.0, input_size, input_activity
    for units, a, w, r in zip(hidden_sizes, *shares.values(), strict=True):
        total += gates * units * (said * w * below + a * r * units)
        below, said = units, a
    return total


def split_of_ratio(
    activity: Float[Tensor, "source"], row_density: Float[Tensor, "source"]
) -> tuple[float, float]:
    """mean(a) mean(w) and Cov(a_i, w_i), which add up to the share of products that are left.

    Raises
    ------
    ValueError
        If there is not one of each a source, or no source.
    """
    if activity.ndim != 1 or activity.shape != row_density.shape or not len(activity):
        raise ValueError(
            "activity and row_density must be (source,), of one length and not empty, got "
            f"{tuple(activity.shape)} and {tuple(row_density.shape)}"
        )
    a, w = activity.double(), row_density.double()
    return float(a.mean() * w.mean()), float(((a - a.mean()) * (w - w.mean())).mean())


def noise_of_random_masks(density: float, targets: int, spoken: Int[Tensor, "source"]) -> float:
    """Relative standard deviation of counted products over masks drawn at random, for given events.

        sqrt((1 - w) / (w targets n)),      n = (sum_i k_i)^2 / sum_i k_i^2

    Source i spoke k_i times. n is the number of events if no source spoke twice, and less otherwise: each
    time the same row is read, so that its chance density is drawn once.

    Raises
    ------
    ValueError
        If the density is not in (0, 1], there is no target, or nothing was spoken.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1], got {density}")
    if targets < 1 or not int(spoken.sum()):
        raise ValueError(f"targets and events must be >= 1, got {targets} and {int(spoken.sum())}")
    times = spoken.double()
    events = float(times.sum().square() / times.square().sum())
    return float(((1 - density) / (density * targets * events)) ** 0.5)


# --- counting ----------------------------------------------------------------------------------------------


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


def _product(
    name: str, sent: Tensor, steps: Tensor, kept: Tensor, targets: int, executed: int | None
) -> Product:
    """sent: (batch, time, source); steps: (batch, time), where there is no padding."""
    here = sent.masked_fill(~steps[..., None], 0)
    binary = bool(((here == 0) | (here.abs() == 1)).all())
    everything = sent.numel() * targets
    return Product(
        name,
        (here != 0).sum((0, 1)).cpu(),
        kept.long().cpu(),
        targets,
        int(steps.sum()),
        binary,
        everything if executed is None else executed,
    )


def _before(said: Tensor, first: Tensor) -> Tensor:
    """What was said one step earlier."""
    return torch.cat([first.unsqueeze(1), said], 1)[:, : said.shape[1]]


def _activation(outputs: Sequence[Tensor], steps: Tensor) -> ActivationSparsity:
    places = sum(int(steps.sum()) * y.shape[2] for y in outputs)
    spoken = sum(int(((y != 0) & steps[..., None]).sum()) for y in outputs)
    return ActivationSparsity(places - spoken, places)


def _kept_of_cell(cell: EGRUCell, name: str) -> Tensor:
    """Weights of each source that are there: stored ones of a compressed kernel, nonzero ones of a dense."""
    if isinstance(cell, CompressedCell):
        indptr: Tensor = getattr(cell, f"{name}_indptr")
        return indptr.diff()
    dense: Tensor = getattr(cell, name)
    return (dense != 0).sum(1)


def _of_egru(
    model: EGRU, input: Tensor, state: Any, lengths: Tensor | None
) -> tuple[tuple[Product, ...], ActivationSparsity]:
    run = model.run(input, state, lengths)
    sent = input if model.batch_first else input.transpose(0, 1)
    products = []
    for number, (cell, layer) in enumerate(zip(cells_of(model), run.layers, strict=True)):
        first = cell.silent(len(sent)).output if state is None else state[number][1]
        steps, targets = layer.steps(), 3 * cell.hidden_size
        for name, values, done in (
            ("kernel", sent, layer.input_operations()),
            ("recurrent_kernel", _before(layer.output, first), layer.operations()),
        ):
            executed = None if done is None else done.multiply_accumulates
            kept = _kept_of_cell(cell, name)
            products.append(_product(f"cells.{number}.{name}", values, steps, kept, targets, executed))
        sent = layer.output
    return tuple(products), _activation([layer.output for layer in run.layers], run.layers[0].steps())


def _of_torch(
    model: nn.GRU | nn.LSTM, input: Tensor, state: Any, lengths: Tensor | None
) -> tuple[tuple[Product, ...], ActivationSparsity]:
    """Layer by layer: torch shows what the last one says alone."""
    if model.bidirectional or model.proj_size:
        raise ValueError("model must have one direction and no projections, got two or some")
    kind, gates = (nn.LSTM, 4) if isinstance(model, nn.LSTM) else (nn.GRU, 3)
    sent = input if model.batch_first else input.transpose(0, 1)
    batch, time, _ = sent.shape
    steps = torch.ones(batch, time, dtype=torch.bool, device=sent.device)
    if lengths is not None:
        if lengths.shape != (batch,):
            raise ValueError(f"lengths must be (batch,) = ({batch},), got {tuple(lengths.shape)}")
        check_lengths(lengths, time)
        steps = torch.arange(time, device=sent.device) < lengths[:, None]
    if state is None:
        zeros = sent.new_zeros(model.num_layers, batch, model.hidden_size)
        state = (zeros, zeros) if isinstance(model, nn.LSTM) else zeros
    products, outputs, targets = [], [], gates * model.hidden_size
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
        said, _ = alone(sent, its)
        first = its[0][0] if isinstance(its, tuple) else its[0]
        for part, values in (("weight_ih", sent), ("weight_hh", _before(said, first))):
            kept = (own[f"{part}_l0"] != 0).sum(0)
            products.append(_product(f"{part}_l{number}", values, steps, kept, targets, None))
        sent = said
        outputs.append(said)
    return tuple(products), _activation(outputs, steps)


def _matrices(model: nn.Module) -> Iterator[tuple[int, int]]:
    """Size, and weights that are there, of each connection matrix."""
    for module in model.modules():
        if isinstance(module, EGRUCell):
            for name, sources in (
                ("kernel", module.input_size),
                ("recurrent_kernel", module.hidden_size),
            ):
                yield sources * 3 * module.hidden_size, int(_kept_of_cell(module, name).sum())
        elif isinstance(module, CONNECTIONS):
            own = [name for name, _ in module.named_parameters(recurse=False)]
            own += getattr(module, "parametrizations", {})
            for name in own:
                if name.startswith("weight"):  # weight_orig: masked by torch.nn.utils.prune
                    weight = getattr(module, name.removesuffix("_orig"))
                    yield weight.numel(), int(weight.count_nonzero())

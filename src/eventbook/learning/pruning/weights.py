r"""Which weights may be pruned, and the parts of them in which as many go.

    scope "matrix"    each weight matrix by itself
          "gate"      each gate's block of each matrix
          "layer"     all matrices of a layer together
          "global"    all matrices together

| symbol | meaning | shape | name |
|---|---|---|---|
| W | weights of a parameter | any | `Prunable.name` in the model |
| G | gates whose blocks lie side by side in it | scalar | `gates` |
| - | axis along which they do | scalar | `axis` |

A kernel of the event-based GRU is (source, 3 H), blocks z, r, g side by side; a weight of torch.nn.GRU or
LSTM is (G H, source), blocks one below the other. Pruned are the kernels of recurrent layers, of the input
and of the state; embeddings, biases, thresholds and readouts stay unless they are named.

Source: `sparse_language_models`, where the paper's own scope is unknown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from eventbook.models.egru import CompressedCell, EGRUCell

SCOPES = ("matrix", "gate", "layer", "global")
GATES: dict[type[nn.Module], int] = {
    nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4, nn.RNNCell: 1, nn.GRUCell: 3, nn.LSTMCell: 4,
}  # fmt: skip


@dataclass(frozen=True)
class Prunable:
    """A parameter to be pruned.

    Parameters
    ----------
    name
        As in `model.named_parameters()`.
    layer
        Which layer it belongs to, any word; the name if not given.
    gates, axis
        Number of gates whose blocks lie in it along an axis, all of one size.
    """

    name: str
    layer: str = ""
    gates: int = 1
    axis: int = 0

    def blocks(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Views of each gate's block of the parameter, or of something of its shape."""
        size = tensor.shape[self.axis] // self.gates
        return tuple(tensor.narrow(self.axis, gate * size, size) for gate in range(self.gates))


def recurrent_weights(
    model: nn.Module, *, inputs: bool = True, recurrent: bool = True
) -> tuple[Prunable, ...]:
    """Kernels of all recurrent layers of a model: of `EGRU`, torch.nn.GRU, LSTM, RNN and their cells.

    Parameters
    ----------
    model
        Holds them at any depth.
    inputs, recurrent
        Whether kernels that read the input, and those that read the state, are among them.

    Raises
    ------
    ValueError
        If the model has none of them, or a compressed one: prune first.

    Examples
    --------
    >>> [weight.name for weight in recurrent_weights(nn.LSTM(3, 4))]
    ['weight_ih_l0', 'weight_hh_l0']
    """
    found = []
    for path, module in model.named_modules():
        prefix = path + "." if path else ""
        if isinstance(module, CompressedCell):
            raise ValueError(f"model must have dense kernels, got {path or 'a cell'!r}, which is compressed")
        if isinstance(module, EGRUCell):
            kinds = [("kernel", inputs), ("recurrent_kernel", recurrent)]
            found += [Prunable(prefix + name, path or "cell", 3, 1) for name, wanted in kinds if wanted]
            continue
        gates = next((number for kind, number in GATES.items() if isinstance(module, kind)), 0)
        if gates:
            for name, _ in module.named_parameters(recurse=False):
                kind, _, layer = name.removeprefix("weight_").partition("_")
                if (kind, True) in (("ih", inputs), ("hh", recurrent)):
                    found.append(Prunable(prefix + name, prefix + (layer or "cell"), gates, 0))
    if not found:
        raise ValueError("model must have recurrent layers with kernels to prune, found none")
    return tuple(found)


def chosen(
    model: nn.Module, weights: Iterable[Prunable | str] | None
) -> tuple[tuple[Prunable, ...], dict[str, Tensor]]:
    """What is to be pruned, in order, and the parameters by name; the recurrent kernels if not given.

    Raises
    ------
    ValueError
        If a name is none of the model's parameters or comes twice, or its gates do not divide the axis.
    TypeError
        If a parameter holds no real floating-point numbers, or `weights` is one string.
    """
    if isinstance(weights, str):
        raise TypeError(f"weights must be a list of names, got the string {weights!r}")
    listed = recurrent_weights(model) if weights is None else weights
    named = dict(model.named_parameters())
    found = tuple(Prunable(w) if isinstance(w, str) else w for w in listed)
    parameters: dict[str, Tensor] = {}
    for weight in found:
        parameter = parameter_of(named, weight.name, "weights")
        if weight.name in parameters:
            raise ValueError(f"weights must name each parameter once, got {weight.name!r} twice")
        if weight.gates < 1 or not -parameter.ndim <= weight.axis < parameter.ndim:
            raise ValueError(
                f"weights must have gates along an axis of {weight.name!r}, which has {parameter.ndim}, "
                f"got {weight.gates} along {weight.axis}"
            )
        if parameter.shape[weight.axis] % weight.gates:
            raise ValueError(
                f"weights must have gates that divide axis {weight.axis} of {weight.name!r}, "
                f"{parameter.shape[weight.axis]}, got {weight.gates}"
            )
        parameters[weight.name] = parameter.detach()
    if not found:
        raise ValueError("weights must name a parameter at least, got none")
    return found, parameters


def parameter_of(named: dict[str, nn.Parameter], name: str, argument: str) -> nn.Parameter:
    """The parameter of that name; ValueError that names the argument if there is none."""
    if name not in named:
        raise ValueError(f"{argument} must name parameters of the model, got {name!r}, which is none of them")
    if not named[name].is_floating_point():
        raise TypeError(f"{argument} must name parameters of floats, got {name!r} of {named[name].dtype}")
    return named[name]


def check_scope(scope: str) -> None:
    """ValueError unless it is one of the four."""
    if scope not in SCOPES:
        raise ValueError(f"scope must be one of {', '.join(SCOPES)}, got {scope!r}")


def parts(
    weights: Sequence[Prunable], tensors: dict[str, Tensor], scope: str
) -> list[tuple[str, list[Tensor]]]:
    """For each part of a scope its name, and views of the tensors that make it up, in order."""
    groups: dict[str, list[Tensor]] = {}
    for weight in weights:
        tensor = tensors[weight.name]
        if scope == "gate":
            for gate, block in enumerate(weight.blocks(tensor)):
                groups[f"gate {gate} of {weight.name!r}"] = [block]
        else:
            words = {"matrix": repr(weight.name), "layer": f"layer {weight.layer or weight.name!r}"}
            groups.setdefault(words.get(scope, "all weights"), []).append(tensor)
    return list(groups.items())

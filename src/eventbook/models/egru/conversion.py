r"""From torch.nn.GRU and back, in the limit in which units always speak and nothing is taken from them.

    theta = -inf, no reset:    o = 1,  y = c = h,   h_t = z h_{t-1} + (1 - z) tanh(p_g + r q_g)

| torch | here | |
|---|---|---|
| weight_ih_l0 (3 H, I), blocks r, z, n | `cells[0].kernel` (I, 3 H), blocks z, r, g | transposed, reordered |
| weight_hh_l0 (3 H, H) | `cells[0].recurrent_kernel` (H, 3 H) | transposed, reordered |
| bias_ih_l0, bias_hh_l0 (3 H,) | `cells[0].bias`, `cells[0].recurrent_bias` | reordered |
| h (layer, batch, H) | `EGRUState` of each layer, carry = output = h | |

With another threshold and reset, a trained GRU is a beginning of an EGRU: `from_gru(gru, threshold=0.2,
reset="none")` only stops its small values from being said.

Source: derived; Cho et al. 2014 in the form of cuDNN, the reset gate after the recurrent product.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eventbook.models.egru.cell import EGRUState, check_tensor
from eventbook.models.egru.network import EGRU, cells_of, check_states
from eventbook.models.egru.thresholds import FixedThreshold, Threshold

PAIRS = {
    "weight_ih": "kernel",
    "weight_hh": "recurrent_kernel",
    "bias_ih": "bias",
    "bias_hh": "recurrent_bias",
}


def _reordered(blocks: Tensor) -> Tensor:
    """Blocks r, z, n of the first axis as z, r, n, and the other way round."""
    first, second, third = blocks.chunk(3)
    return torch.cat([second, first, third])


@torch.no_grad()
def from_gru(
    gru: nn.GRU,
    *,
    threshold: float | Callable[..., Threshold] = -math.inf,
    reset: str = "none",
    **options: Any,
) -> EGRU:
    """An EGRU with the weights of a GRU; as it stands, the same function.

    Parameters
    ----------
    gru
        One direction, no projections. Sizes, biases, dropout, `batch_first`, dtype and device are taken over.
    threshold, reset
        As `EGRUCell`; units always speak, and nothing is taken from them, if not given.
    options
        Others of `EGRU`.

    Raises
    ------
    TypeError
        If it is no GRU.
    ValueError
        If it has two directions or projections; otherwise as `EGRU`.

    Examples
    --------
    >>> gru = nn.GRU(3, 4)
    >>> x = torch.ones(5, 2, 3)
    >>> torch.allclose(from_gru(gru)(x)[0], gru(x)[0], atol=1e-6)
    True
    """
    if not isinstance(gru, nn.GRU):
        raise TypeError(f"gru must be a torch.nn.GRU, got {type(gru).__name__}")
    if gru.bidirectional or gru.proj_size:
        raise ValueError("gru must have one direction and no projections, got two or some")
    made = EGRU(
        gru.input_size, gru.hidden_size, gru.num_layers, gru.bias, gru.batch_first, gru.dropout,
        threshold=threshold, reset=reset, **options,
    ).to(gru.all_weights[0][0])  # fmt: skip
    for number, cell in enumerate(cells_of(made)):
        for theirs, ours in PAIRS.items():
            if gru.bias or "bias" not in theirs:
                getattr(cell, ours).copy_(_reordered(getattr(gru, f"{theirs}_l{number}")).t())
    return made.train(gru.training)


@torch.no_grad()
def to_gru(model: EGRU) -> nn.GRU:
    """The torch.nn.GRU that a model is, if it is one.

    Raises
    ------
    TypeError
        If it is no EGRU.
    ValueError
        If it is another function than any torch.nn.GRU; says why.
    """
    if not isinstance(model, EGRU):
        raise TypeError(f"model must be an EGRU, got {type(model).__name__}")
    for cell in cells_of(model):
        if not (isinstance(cell.threshold, FixedThreshold) and cell.threshold.always):
            raise ValueError("model must always fire, threshold -inf, got thresholds that can be missed")
        for name, word in (("reset", "none"), ("reset_gate", "after")):
            if (got := getattr(cell.dynamics, name)) != word:
                raise ValueError(f"model must have {name} {word!r} like a GRU, got {got!r}")
    if len(set(model.hidden_sizes)) > 1:
        raise ValueError(f"model must have layers of one size, got {model.hidden_sizes}")
    if model.drop_connect or (model.dropout and model.dropout_over != "step"):
        raise ValueError(
            "model must drop nothing but values between layers at each step, got another dropout"
        )
    first = cells_of(model)[0]
    gru = nn.GRU(
        model.input_size, model.hidden_size, model.num_layers, first.bias is not None, model.batch_first,
        model.dropout,
    ).to(first.kernel)  # fmt: skip
    for number, cell in enumerate(cells_of(model)):
        for theirs, ours in PAIRS.items():
            if gru.bias or "bias" not in theirs:
                getattr(gru, f"{theirs}_l{number}").copy_(_reordered(getattr(cell, ours).t()))
    return gru.train(model.training)


def state_from_gru(h: Float[Tensor, "layer batch hidden_size"]) -> tuple[EGRUState, ...]:
    """The state of a GRU as that of the EGRU which it is.

    Parameters
    ----------
    h
        (layer, batch, hidden_size), or (layer, hidden_size) of a single sequence.

    Returns
    -------
    tuple of EGRUState
        One a layer, carry = output = h, (batch, hidden_size) or (hidden_size,) each: views, not copies.

    Raises
    ------
    ValueError
        If it has another number of axes, or no layers.
    TypeError
        If it is no tensor.
    """
    check_tensor(h, "h")
    if h.ndim not in (2, 3) or not len(h):
        raise ValueError(
            f"h must be (layer, batch, hidden_size) or (layer, hidden_size) of a layer at least, "
            f"got {tuple(h.shape)}"
        )
    return tuple(EGRUState(its, its) for its in h)


def state_to_gru(state: Sequence[EGRUState]) -> Float[Tensor, "layer batch hidden_size"]:
    """Outputs of all layers, which are the state of the GRU that always fires.

    Parameters
    ----------
    state
        Of a network whose layers have one size, as a call returns it.

    Returns
    -------
    Tensor
        (layer, batch, hidden_size), or (layer, hidden_size) of a single sequence.

    Raises
    ------
    ValueError
        If there is no layer, or layers have different sizes.
    TypeError
        If it is no state of layers.
    """
    check_states(state)
    shapes = {tuple(its.output.shape) for its in state}
    if len(shapes) != 1:
        raise ValueError(f"state must have layers of one size, got {sorted(shapes)}")
    return torch.stack([its.output for its in state])

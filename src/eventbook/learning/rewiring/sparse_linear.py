r"""Linear layers that store K connections instead of a matrix, and learn with K gradients instead of n_out
n_in.

    SparseLinear        y = x W^T + b,   w_k = s_k theta_k if theta_k >= 0 else 0     (Deep Rewiring)
    FreeSparseLinear    y = x W^T + b,   w_k = value_k                                (fixed wiring, SET,
    RigL)

| symbol | meaning | shape | name |
|---|---|---|---|
| theta_k | parameter of connection k, active if theta_k >= 0 | (K,) | `theta` |
| s_k | sign, a hash of (seed, k), fixed for ever | (K,) | `sign` |
| w_k | weight | (K,) | `weight` |
| k | flat index i n_in + j, ascending | (K,) int64 | `index` |
| K, M, p | stored, potential connections; K / M | int, int, float | `budget`, `potential`, `connectivity` |

The gradient of theta is s_k dE/dw_k for active k and exists for no other connection. At theta_k = 0, where a
connection is born, it is this value too, not the 0 that a ReLU would give: else a new connection could not
grow.

Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018; initial theta as in the authors' code.
"""
# mypy: disable-error-code="no-untyped-def"
# Kernels are typed by Numba, at every call.

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.random import connection_sign, signs_at
from eventbook.kernels.machinery.tensors import FLOATING
from eventbook.kernels.rewiring.products import (
    sparse_gradients,
    sparse_product,
    sparse_weight_gradient,
    to_lanes,
)
from eventbook.learning.rewiring.state import Careful
from eventbook.learning.rewiring.wiring import Wired, check_layer, half_normal, replace_data, resolve_budget


@kernel()
def _slopes_of(theta, index, seed, out):
    """dw/dtheta: s_k where theta_k >= 0, else 0; so that w = out * theta. Relies on vectors of one length."""
    for k in range(theta.size):
        out[k] = connection_sign(seed, index[k]) if theta[k] >= 0 else 0.0


@kernel()
def _apply(x, values, slopes, index, out_features):
    """Relies on an index that `Wired.proved` gave."""
    weight = np.empty_like(values)
    for k in range(values.size):
        weight[k] = slopes[k] * values[k]
    lanes = to_lanes(x)
    y = np.empty((x.shape[0], out_features), x.dtype)
    sparse_product(lanes, weight, index, y)
    return y, lanes, weight, slopes


@kernel()
def _apply_signed(x, theta, index, seed, out_features):
    """Product of `SparseLinear`; returns y and what the gradients need. Relies on a proved index."""
    slopes = np.empty_like(theta)
    _slopes_of(theta, index, seed, slopes)
    return _apply(x, theta, slopes, index, out_features)


@kernel()
def _apply_free(x, value, index, seed, out_features):
    """Product of `FreeSparseLinear`, whose weights are its values. Relies on a proved index."""
    return _apply(x, value, np.ones_like(value), index, out_features)


@kernel()
def _values_gradient(y_gradient, lanes, slopes, index):
    """Relies on the index of the forward pass."""
    gradient = np.empty_like(slopes)
    sparse_weight_gradient(y_gradient, lanes, index, gradient)
    for k in range(gradient.size):
        gradient[k] *= slopes[k]
    return gradient


@kernel()
def _both_gradients(y_gradient, lanes, weight, slopes, index):
    """Relies on the index of the forward pass."""
    gradient = np.empty_like(slopes)
    x_gradient = np.empty((y_gradient.shape[0], lanes.shape[0]), lanes.dtype)
    sparse_gradients(y_gradient, lanes, weight, index, gradient, x_gradient)
    for k in range(gradient.size):
        gradient[k] *= slopes[k]
    return gradient, x_gradient


class _SparseProduct(torch.autograd.Function):
    """y = x W^T on the storage of the tensors, without copies, one kernel call in each direction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, index: Tensor, layer: "_Connections") -> Tensor:
        connections = index.numpy()
        y, *parts = layer.apply_kernel(
            x.detach().numpy(), values.detach().numpy(), connections, layer.seed, layer.out_features
        )
        ctx.save_for_backward(values, index)  # torch then notices a rewiring between forward and backward
        ctx.parts = (*parts, connections)
        return torch.from_numpy(y)

    @staticmethod
    def backward(ctx: Any, y_gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # what torch's `once_differentiable` checks, at a tenth of its cost
            raise RuntimeError(
                "sparse layers are differentiable once, got a backward pass with create_graph=True"
            )
        _ = ctx.saved_tensors  # raises if a step was taken since the forward pass
        lanes, weight, slopes, connections = ctx.parts
        outgoing = y_gradient.contiguous().numpy()
        if not ctx.needs_input_grad[0]:
            gradient = _values_gradient(outgoing, lanes, slopes, connections)
            return None, torch.from_numpy(gradient), None, None
        gradient, x_gradient = _both_gradients(outgoing, lanes, weight, slopes, connections)
        return torch.from_numpy(x_gradient), torch.from_numpy(gradient), None, None


class _Connections(Careful, Wired):
    """What both layers share: K flat indices, K values, a bias; the meaning of a value is the subclass's."""

    apply_kernel: Callable[..., Any]
    values_name: str  # of the (K,) parameter

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        connectivity: float | None = None,
        budget: int | None = None,
        bias: bool = False,
        init_scale: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_layer(in_features, out_features, dtype)
        self.in_features, self.out_features = in_features, out_features
        count = resolve_budget(connectivity, budget, self.potential)
        super().__init__(count, seed)
        self._initial = half_normal(count, init_scale / in_features**0.5, self.seed, dtype)
        self.bias = nn.Parameter(torch.zeros(out_features, dtype=dtype)) if bias else None

    @property
    def values(self) -> nn.Parameter:
        """The (K,) parameter of the layer."""
        values: nn.Parameter = getattr(self, self.values_name)
        return values

    @property
    def potential(self) -> int:
        """Number of potential connections, M = n_out n_in."""
        return self.in_features * self.out_features

    @property
    def budget(self) -> int:
        """Number of stored connections, K."""
        return self.index.numel()

    @property
    def connectivity(self) -> float:
        """Stored fraction K / M."""
        return self.budget / self.potential

    @property
    def weight(self) -> Float[Tensor, "K"]:
        """Weights of the stored connections, in the order of `index`, detached."""
        raise NotImplementedError

    def to_dense(self) -> Float[Tensor, "out_features in_features"]:
        """The weight matrix, for inspection; the layer itself never forms it."""
        dense = self.values.new_zeros(self.potential, requires_grad=False)
        dense[self.proved(self.values)] = self.weight
        return dense.view(self.out_features, self.in_features)

    def in_degree(self) -> Int[Tensor, "in_features"]:
        """How many stored connections leave each input."""
        return torch.bincount(self.proved(self.values) % self.in_features, minlength=self.in_features)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Apply the layer; ValueError if features, dtype or device of x do not fit."""
        values = self.values
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(f"x must end in {self.in_features} features, got shape {tuple(x.shape)}")
        if x.device.type != "cpu" or values.device.type != "cpu":
            raise ValueError(
                f"{type(self).__name__} runs on the CPU, got x on {x.device}, layer on {values.device}"
            )
        if x.dtype != values.dtype:
            raise ValueError(f"x must have the layer's dtype {values.dtype}, got {x.dtype}")
        if x.dtype not in FLOATING:
            raise ValueError(f"{type(self).__name__} runs in float32 or float64, got {x.dtype}")
        flat = x.contiguous() if x.ndim == 2 else x.reshape(-1, self.in_features).contiguous()
        y = _SparseProduct.apply(flat, values, self.proved(values), self)
        if x.ndim != 2:
            y = y.view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, budget={self.budget}, "
            f"connectivity={self.connectivity:.4g}, bias={self.bias is not None}"
        )

    def geometry(self) -> dict[str, int]:
        """Inputs and outputs; a checkpoint of another layer is refused."""
        return {"in_features": self.in_features, "out_features": self.out_features}

    def judge(self, state_dict: Mapping[str, Any], prefix: str) -> dict[str, int]:
        length = self.judge_wiring(state_dict, prefix, prefix + self.values_name)
        return {} if length is None else {"index": length, self.values_name: length}

    def make_room(self, sizes: Mapping[str, int]) -> None:
        # A global budget moves connections between layers, so K may differ from that of a fresh layer.
        length = sizes.get("index", self.budget)
        if length != self.budget:
            self.index = self.index.new_empty(length)
            replace_data(self.values, self.values.data.new_empty(length))


class SparseLinear(_Connections):
    """Linear layer for Deep Rewiring: weight s_k theta_k for active connections, nothing for dormant ones.

    Parameters
    ----------
    in_features, out_features
        n_in, n_out.
    connectivity, budget
        Stored fraction in (0, 1] or number K of connections; exactly one of them.
    bias
        Add a dense bias (n_out,), to be trained by another optimiser. The authors' networks have none.
    init_scale
        theta starts at init_scale * abs(N(0, 1)) / sqrt(n_in).
    seed
        Wiring, initial theta and all signs follow from it.
    dtype
        torch.float32 or torch.float64.

    Examples
    --------
    >>> layer = SparseLinear(784, 300, connectivity=0.01)
    >>> layer.budget, layer(torch.zeros(10, 784)).shape
    (2352, torch.Size([10, 300]))
    """

    apply_kernel = staticmethod(_apply_signed)
    values_name = "theta"

    def __init__(self, in_features: int, out_features: int, **options: Any) -> None:
        super().__init__(in_features, out_features, **options)
        self.theta = nn.Parameter(self.__dict__.pop("_initial"))

    @property
    def sign(self) -> Float[Tensor, "K"]:
        """Signs of the stored connections, -1 or +1."""
        sign = torch.empty_like(self.theta, requires_grad=False)
        signs_at(self.seed, self.proved(self.theta).numpy(), sign.numpy())
        return sign

    @property
    def weight(self) -> Float[Tensor, "K"]:
        theta = self.theta.detach()
        return self.sign * theta * (theta >= 0)


class FreeSparseLinear(_Connections):
    """Linear layer over K connections whose weights are free in sign: for fixed wiring, SET and RigL.

    Parameters as `SparseLinear`; the initial weight has the same size and a random sign.
    """

    apply_kernel = staticmethod(_apply_free)
    values_name = "value"

    def __init__(self, in_features: int, out_features: int, **options: Any) -> None:
        super().__init__(in_features, out_features, **options)
        initial = self.__dict__.pop("_initial")
        sign = torch.empty_like(initial)
        signs_at(self.seed, self.index.numpy(), sign.numpy())
        self.value = nn.Parameter(initial * sign)

    @property
    def weight(self) -> Float[Tensor, "K"]:
        return self.value.detach().clone()

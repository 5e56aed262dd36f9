r"""The layer of soft-DEEP R: all M potential connections are stored and diffuse; theta > 0 makes one active.

    y = x W^T + b,    w_k = s_k theta_k if theta_k > 0 else 0

| symbol | meaning | shape | name |
|---|---|---|---|
| theta_k | parameter of potential connection k | (n_out, n_in) | `theta` |
| s_k | sign, a hash of (seed, k) | - | `connection_sign` |
| p | target connectivity | scalar | `target` |

Theory needs every theta, so storage and gradient are dense here; only the weights are sparse.

Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018 (soft-DEEP R).
"""
# mypy: disable-error-code="no-untyped-def"
# Kernels are typed by Numba, at every call.

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.random import connection_sign
from eventbook.learning.rewiring.state import Careful, judge_extra
from eventbook.learning.rewiring.wiring import (
    check_layer,
    check_seed,
    half_normal,
    random_wiring,
    resolve_budget,
)


@kernel()
def _slopes_of_all(theta, seed, out):
    """dw/dtheta for every potential connection: s_k where theta_k > 0, else 0. Relies on equal lengths."""
    for k in range(theta.size):
        out[k] = connection_sign(seed, k) if theta[k] > 0 else 0.0


class _SignedWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, theta: Tensor, seed: int) -> Tensor:
        # in the order of flat indices, however theta lies in memory
        slopes = torch.empty_like(theta, memory_format=torch.contiguous_format)
        _slopes_of_all(theta.detach().numpy().reshape(-1), seed, slopes.view(-1).numpy())
        ctx.save_for_backward(slopes)
        return theta * slopes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * ctx.saved_tensors[0], None


class SoftSparseLinear(Careful):
    """Linear layer for `SoftDeepR`.

    Parameters as `SparseLinear`; `connectivity` (or `budget`) is the target p in (0, 1). That fraction
    starts active at init_scale * abs(N(0, 1)) / sqrt(n_in), the rest as far below zero, where the first
    step clips it.
    """

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
        super().__init__()
        check_layer(in_features, out_features, dtype)
        self.in_features, self.out_features, self.seed = in_features, out_features, check_seed(seed)
        self.potential = in_features * out_features
        count = resolve_budget(connectivity, budget, self.potential)
        if count == self.potential:
            raise ValueError(f"connectivity of a soft layer must be below 1, got {count} of {self.potential}")
        self.target = count / self.potential if connectivity is None else connectivity
        theta = -half_normal(self.potential, init_scale / in_features**0.5, seed, dtype)
        theta[random_wiring(count, self.potential, seed)] *= -1
        self.theta = nn.Parameter(theta.view(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features, dtype=dtype)) if bias else None

    @property
    def connectivity(self) -> float:
        """Measured fraction of active connections, theta > 0."""
        return int(np.count_nonzero(self.theta.detach().numpy() > 0)) / self.potential

    def to_dense(self) -> Float[Tensor, "out_features in_features"]:
        """The weight matrix; gradients flow to active thetas."""
        return _SignedWeight.apply(self.theta, self.seed)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Apply the layer."""
        return nn.functional.linear(x, self.to_dense(), self.bias)

    def get_extra_state(self) -> dict[str, float]:
        """The seed (signs follow from it) and the target."""
        return {"seed": self.seed, "target": self.target}

    def judge(self, state_dict: Mapping[str, Any], prefix: str) -> dict[str, int]:
        name = prefix + "_extra_state"
        if name in state_dict:
            extra = state_dict[name]
            judge_extra(name, extra, self.get_extra_state())
            check_seed(extra["seed"])
            if not 0.0 < extra["target"] < 1.0:
                raise ValueError(f"target of {name} must be in (0, 1), got {extra['target']}")
        return {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.seed, self.target = state["seed"], state["target"]

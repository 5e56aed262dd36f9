r"""Make the weight matrices of an existing network sparse, ready for Deep Rewiring.

    nn.Linear       -> SparseLinear with the same bias; O(K) memory
    anything else   -> its matrices become a function of K thetas, W[k] = s_k [theta_k]_+, by a torch
    parametrization

| symbol | meaning | shape | name |
|---|---|---|---|
| theta_k | parameters of the stored connections | (K,) | `parametrizations.<name>.original` |
| k | flat indices into the weight, ascending | (K,) int64 | `index` |

Source: derived.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from eventbook.kernels.machinery.random import derive, signs_at
from eventbook.learning.rewiring.sparse_linear import SparseLinear
from eventbook.learning.rewiring.wiring import Wired, check_seed, half_normal, replace_data, resolve_budget


class SparseWeight(Wired):
    """Parametrization of one weight: scatters K signed thetas into a zero array of the weight's shape.

    The dense weight and its dense gradient exist for the time of one forward and backward, because the module
    that owns it (LSTM, convolution) computes with a dense one; state, noise and rewiring are O(K).

    Parameters
    ----------
    shape
        Shape of the weight; the first axis counts outputs.
    budget
        Number K of connections.
    init_scale, seed
        As in `SparseLinear`; n_in is the product of the axes after the first.
    """

    def __init__(self, shape: torch.Size, budget: int, init_scale: float = 1.0, seed: int = 0) -> None:
        self.shape, self.init_scale = shape, init_scale
        super().__init__(resolve_budget(None, budget, self.potential), seed)

    @property
    def potential(self) -> int:
        """Number of potential connections, M."""
        return self.shape.numel()

    def right_inverse(self, weight: Tensor) -> Float[Tensor, "K"]:
        """Initial theta, drawn anew: what torch stores instead of the weight."""
        fan_in = self.potential // self.shape[0]
        return half_normal(self.index.numel(), self.init_scale / fan_in**0.5, self.seed, weight.dtype)

    def forward(self, theta: Float[Tensor, "K"]) -> Tensor:
        """The dense weight."""
        index = self.proved(theta)
        sign = np.empty(index.numel())
        signs_at.kernel(self.seed, index.numpy(), sign)
        slopes = torch.from_numpy(sign).to(theta.dtype) * (theta.detach() >= 0)
        flat = theta.new_zeros(self.potential).index_put((index,), theta * slopes)
        return flat.view(self.shape)

    def geometry(self) -> dict[str, list[int]]:
        """Shape of the weight."""
        return {"shape": list(self.shape)}


def _judge_weights(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a state is loaded: ValueError unless its wirings fit, else lengths as in the state.

    A hook of the module that owns the weights, for thetas and indices live in two modules below it.
    """
    lengths = []
    for name, (home, theta) in _sparse_weights(module).items():
        own = f"{prefix}parametrizations.{name}."
        lengths.append((home, theta, home.judge_wiring(state_dict, own + "0.", own + "original")))
    for home, theta, length in lengths:
        if length is not None and length != home.index.numel():  # after training with a global budget
            home.index = home.index.new_empty(length)
            replace_data(theta, theta.data.new_empty(length))


def _sparse_weights(module: nn.Module) -> dict[str, tuple[SparseWeight, nn.Parameter]]:
    """Parametrization and theta of each sparse weight of a module, by name of the weight."""
    found = {}
    for name, chain in getattr(module, "parametrizations", {}).items():
        if isinstance(chain[0], SparseWeight):
            found[name] = chain[0], chain.original
    return found


def sparsify_weight(module: nn.Module, name: str, budget: int, init_scale: float, seed: int) -> None:
    """Put one parameter of a module behind a `SparseWeight`, in place."""
    first = not _sparse_weights(module)
    sparse = SparseWeight(getattr(module, name).shape, budget, init_scale, seed)
    parametrize.register_parametrization(module, name, sparse)
    if first:
        module.register_load_state_dict_pre_hook(_judge_weights)


def _matrices(module: nn.Module) -> list[str]:
    """Names of the module's own parameters with at least two axes."""
    return [name for name, p in module.named_parameters(recurse=False) if p.ndim >= 2]


def _sparse_twin(dense: nn.Linear, budget: int, init_scale: float, seed: int) -> SparseLinear:
    sparse = SparseLinear(
        dense.in_features,
        dense.out_features,
        budget=budget,
        init_scale=init_scale,
        seed=seed,
        dtype=dense.weight.dtype,
    )
    sparse.bias = dense.bias
    return sparse.train(dense.training)


def sparsify(
    module: nn.Module,
    *,
    connectivity: float | None = None,
    budget: int | None = None,
    init_scale: float = 1.0,
    seed: int = 0,
) -> nn.Module:
    """Make every weight matrix of a network sparse, in place.

    Each `nn.Linear` is replaced by a `SparseLinear`. A parameter with two or more axes of any other module
    (LSTM, convolution, embedding) gets a `SparseWeight`, which forms the dense weight for each forward
    pass. Biases and other vectors stay as they are; weights are drawn anew.

    Parameters
    ----------
    module
        The network.
    connectivity, budget
        Fraction in (0, 1] of every matrix, or number of connections of the whole network, spread over the
        matrices in proportion to their size; exactly one of them.
    init_scale, seed
        As in `SparseLinear`.

    Returns
    -------
    nn.Module
        The same network, or its replacement if it is itself an `nn.Linear`.
    """
    counts = _counts(module, connectivity, budget)
    done: dict[int, nn.Module] = {}  # a module used twice stays one module

    def next_seed() -> int:
        return int(np.uint64(derive(check_seed(seed), len(counts))) >> np.uint64(1))

    def convert(part: nn.Module) -> nn.Module:
        if id(part) in done:
            return done[id(part)]
        result = part
        if type(part) is nn.Linear:  # a subclass may reach into its own weight
            result = _sparse_twin(part, counts.pop((id(part), "weight")), init_scale, next_seed())
        else:
            for name in _matrices(part):
                sparsify_weight(part, name, counts.pop((id(part), name)), init_scale, next_seed())
        done[id(part)] = result
        for name, child in list(part._modules.items()):  # named_children would skip repetitions
            if child is not None and name != "parametrizations":
                setattr(part, name, convert(child))
        return result

    return convert(module)


def _counts(module: nn.Module, connectivity: float | None, budget: int | None) -> dict[tuple[int, str], int]:
    """Connections of each matrix, by owner and name; they sum to the budget if there is one."""
    sizes = {(id(m), name): getattr(m, name).numel() for m in module.modules() for name in _matrices(m)}
    if not sizes:
        raise ValueError("module must have at least one weight matrix, found none")
    total = resolve_budget(connectivity, budget, sum(sizes.values()))
    if connectivity is not None:
        return {key: resolve_budget(connectivity, None, size) for key, size in sizes.items()}
    ends = np.round(np.cumsum(list(sizes.values())) * (total / sum(sizes.values()))).astype(int)
    counts = np.diff(ends, prepend=0)
    if counts.min() < 1:
        raise ValueError(
            f"budget must be large enough for a connection in each of {len(sizes)} matrices of "
            f"{list(sizes.values())} entries, got {budget}"
        )
    return dict(zip(sizes, counts.tolist(), strict=True))

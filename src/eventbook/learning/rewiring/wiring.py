r"""Which connections a layer has: drawn at the start, proved wherever they come from.

    index = K distinct integers in {0, ..., M - 1}, uniform and ascending, a function of (seed, K, M)

| symbol | meaning | shape | name |
|---|---|---|---|
| k | flat index i n_in + j, ascending | (K,) int64 | `index` |
| K, M | stored, potential connections | int | `budget`, `potential` |

Kernels read and write through `index` unchecked. `Wired.proved` is where they get it from: the indices are
walked through once and after each change, not at every call.

Source: derived; initial theta as in the code of Bellec, Kappel, Maass and Legenstein, ICLR 2018.
"""
# mypy: disable-error-code="no-untyped-def"
# Kernels are typed by Numba, at every call.

from collections.abc import Mapping
from operator import index as integer
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.indices import Proof, check_index
from eventbook.kernels.machinery.random import derive, fill_normal
from eventbook.kernels.rewiring.steps import distinct_ranks
from eventbook.learning.rewiring.state import judge_extra

_WIRING, _THETA = 101, 102  # what the numbers derived from a layer's seed are for


@kernel()
def _draw_wiring(seed, potential, index):
    """Relies on as many connections as potential ones at most."""
    distinct_ranks(index.size, potential, derive(seed, _WIRING), index)


@kernel()
def _draw_normals(seed, out):
    fill_normal(derive(seed, _THETA), 0, out)


def check_count(name: str, value: int) -> int:
    """The number itself; ValueError unless it is an integer >= 1."""
    try:
        count = integer(value)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value}")
    return count


def check_layer(in_features: int, out_features: int, dtype: torch.dtype) -> None:
    """ValueError unless a layer has inputs and outputs and a dtype that the kernels know."""
    check_count("in_features", in_features)
    check_count("out_features", out_features)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")


def check_seed(seed: int) -> int:
    """The seed itself; ValueError unless it is an integer in [0, 2^63)."""
    try:
        fits = 0 <= integer(seed) < 2**63
    except TypeError:
        fits = False
    if not fits:
        raise ValueError(f"seed must be an integer in [0, 2^63), got {seed}")
    return int(seed)


def resolve_budget(connectivity: float | None, budget: int | None, potential: int) -> int:
    """Number of connections K from a fraction or a count; ValueError unless exactly one is given and is
    possible."""
    if (connectivity is None) == (budget is None):
        raise ValueError(
            f"give either connectivity or budget, got connectivity={connectivity}, budget={budget}"
        )
    if connectivity is not None:
        if not 0.0 < connectivity <= 1.0:
            raise ValueError(f"connectivity must be in (0, 1], got {connectivity}")
        budget = max(1, round(connectivity * potential))
    assert budget is not None
    if not 1 <= budget <= potential:
        raise ValueError(
            f"budget must be between 1 and {potential} (all potential connections), got {budget}"
        )
    return budget


def random_wiring(budget: int, potential: int, seed: int) -> Int[Tensor, "K"]:
    """K distinct flat indices below `potential`, uniform and ascending, int64; time and memory O(K).

    ValueError unless 0 <= K <= potential < 2^63.
    """
    if not 0 <= budget <= potential < 2**63:
        raise ValueError(f"budget must be between 0 and potential = {potential} < 2^63, got {budget}")
    index = np.empty(budget, np.int64)
    _draw_wiring(check_seed(seed), potential, index)
    return torch.from_numpy(index)


def half_normal(size: int, scale: float, seed: int, dtype: torch.dtype) -> Float[Tensor, "size"]:
    """scale * abs(N(0, 1)), the initial theta."""
    nu = np.empty(size)
    _draw_normals(seed, nu)
    return torch.from_numpy(np.abs(nu) * scale).to(dtype)


def replace_data(parameter: nn.Parameter, data: Tensor) -> None:
    """Give a parameter data of another length, and forget its gradient.

    Graphs of earlier steps keep the parameter's gradient accumulator, with the old length, alive. Torch
    renews it on a change of dtype only, hence the detour.
    """
    parameter.grad = None
    parameter.data = data.new_empty(0, dtype=torch.float16)
    parameter.data = data


def _named(owner: str | None) -> str:
    return "index" if owner is None else f"index of {owner!r}"


class Wired(nn.Module):
    """What has connections: `index`, a buffer, and the seed that their signs follow from."""

    index: Tensor

    def __init__(self, budget: int, seed: int) -> None:
        super().__init__()
        self.seed = check_seed(seed)
        self.register_buffer("index", random_wiring(budget, self.potential, self.seed))
        self._proof = Proof()

    @property
    def potential(self) -> int:
        """Number of potential connections, M."""
        raise NotImplementedError

    def geometry(self) -> dict[str, Any]:
        """What gives a flat index its meaning; belongs to the state."""
        raise NotImplementedError

    def proved(self, values: Tensor, owner: str | None = None) -> Tensor:
        """`index`, for kernels: ascending, below `potential`, one for each of `values`.

        Raises
        ------
        ValueError
            If it is not so; nothing was read through it.
        """
        index, potential = self._buffers["index"], self.potential
        assert index is not None
        if not self._proof.stands(potential, index):
            check_index(index, potential, _named(owner))
            self._proof.remember(potential, index)
        if values.shape != index.shape:
            expected, found = tuple(values.shape), tuple(index.shape)
            raise ValueError(f"{_named(owner)} must have one entry per value, {expected}, got {found}")
        return index

    def keeps_proof(self) -> None:
        """Say that `index` was changed by kernels that keep it ascending and below `potential`."""
        index = self._buffers["index"]
        assert index is not None
        self._proof.remember(self.potential, index)

    def get_extra_state(self) -> dict[str, Any]:
        """The seed belongs to the state (signs follow from it), and what the indices mean."""
        return {"seed": self.seed, **self.geometry()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        judge_extra("extra state", state, self.get_extra_state())
        self.seed = check_seed(state["seed"])

    def judge_wiring(self, state_dict: Mapping[str, Any], own: str, values: str) -> int | None:
        """How many connections a stored state has, None if it has no wiring; ValueError if it is no good.

        Parameters
        ----------
        own
            Prefix of our keys in the state.
        values
            Key of the values.
        """
        if own + "_extra_state" in state_dict:
            extra = state_dict[own + "_extra_state"]
            judge_extra(own + "_extra_state", extra, self.get_extra_state())
            check_seed(extra["seed"])
        stored = {key: state_dict[key] for key in (own + "index", values) if key in state_dict}
        if not stored:
            return None
        for key in (own + "index", values):
            if not isinstance(stored.get(key), Tensor):
                found = type(stored.get(key)).__name__
                raise ValueError(f"{own}index and {values} must both be tensors, got {found} for {key}")
        index = stored[own + "index"]
        check_index(index.cpu() if index.is_cuda else index, self.potential, own + "index")
        if stored[values].shape != index.shape:
            raise ValueError(
                f"{values} must have one entry per entry of {own}index, {len(index)}, "
                f"got shape {tuple(stored[values].shape)}"
            )
        return len(index)

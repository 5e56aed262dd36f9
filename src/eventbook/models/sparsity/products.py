r"""One matrix and what is sent through it: which sources speak, and which of their weights are there.

    effective = sum over tokens and sources i with x_i != 0 of  nnz(row i)
    dense     = tokens * sources * targets
    effective / dense = mean_i(a_i w_i) = mean(a) mean(w) + Cov_i(a_i, w_i)              exactly

| symbol | meaning | shape | name |
|---|---|---|---|
| a_i | share of tokens at which source i sent something | (source,) | `Product.activity()` |
| w_i | share of its outgoing weights that are there | (source,) | `Product.row_density()` |

A token is a step of a row that is no padding.

Source: derived.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eventbook.models.egru import CompressedCell, EGRUCell


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

    def plus(self, other: "Product") -> "Product":
        """Of the same matrix over other tokens, both together.

        Raises
        ------
        ValueError
            If it is of another matrix.
        """
        same = (self.name, self.targets) == (other.name, other.targets)
        if not same or not torch.equal(self.kept, other.kept):
            raise ValueError(f"products must be of one matrix, got {self.name} and {other.name}")
        return self._replace(
            spoken=self.spoken + other.spoken, tokens=self.tokens + other.tokens,
            binary=self.binary and other.binary, executed=self.executed + other.executed,
        )  # fmt: skip


def product_of(
    name: str,
    sent: Float[Tensor, "batch time source"],
    steps: Bool[Tensor, "batch time"],
    kept: Int[Tensor, "source"],
    targets: int,
    executed: int | None,
) -> Product:
    """Count what was sent.

    Parameters
    ----------
    sent
        Values of the sources.
    steps
        Where there is no padding.
    kept, targets
        Weights of each source that are there, and how many there could be.
    executed
        Products that were done, if somebody counted; all with every weight otherwise.
    """
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


def one_step_before(
    said: Float[Tensor, "batch time unit"], first: Float[Tensor, "batch unit"]
) -> Float[Tensor, "batch time unit"]:
    """What was said one step earlier."""
    return torch.cat([first.unsqueeze(1), said], 1)[:, : said.shape[1]]


def kept_of_cell(cell: EGRUCell, name: str) -> Int[Tensor, "source"]:
    """Weights of each source that are there: stored ones of a compressed kernel, nonzero ones of a dense."""
    if isinstance(cell, CompressedCell):
        indptr: Tensor = getattr(cell, f"{name}_indptr")
        return indptr.diff()
    dense: Tensor = getattr(cell, name)
    return (dense != 0).sum(1)

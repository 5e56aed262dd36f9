"""Three measures in the terms of NeuroBench, of a network that leaves something out.

| name | what it is |
|---|---|
| `ActivationSparsity` | share of outputs of units that are 0 |
| `ConnectionSparsity` | share of weights that are 0 or not stored |
| `SynapticOperations` | products that a machine which skips both kinds of zeros does, beside the dense ones |

A product whose inputs are all -1, 0 or 1 counts as accumulates (ACs), any other as multiply-accumulates
(MACs); what an EGRU's units say is graded. Beside what could be skipped stands what was done, `executed`: as
the kernels counted it where they ran, all products with every weight where the product was dense, padding
included. On compressed rows and inputs of events both are the same number.

Source: Yik et al., NeuroBench, for the terms.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import nn

from eventbook.models.egru import EGRUCell
from eventbook.models.egru_continuous import EGRUContinuous
from eventbook.models.sparsity.products import Product, kept_of_cell

CONNECTIONS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase, nn.RNNCell, nn.GRUCell, nn.LSTMCell,
)  # fmt: skip


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
        """Of torch's linear maps, convolutions and recurrent layers, of `EGRU` and `EGRUContinuous`, and of
        layers with a `to_dense`, as those of Deep Rewiring; all at any depth.

        Biases, embeddings, thresholds and all that other modules hold are no connections.

        Examples
        --------
        >>> layer = nn.Linear(4, 5)
        >>> layer.weight.data[0] = 0
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


def _matrices(model: nn.Module) -> Iterator[tuple[int, int]]:
    """Size, and weights that are there, of each connection matrix."""
    for module in model.modules():
        if isinstance(module, EGRUCell):
            for name, sources in (
                ("kernel", module.input_size),
                ("recurrent_kernel", module.hidden_size),
            ):
                yield sources * 3 * module.hidden_size, int(kept_of_cell(module, name).sum())
        elif isinstance(module, EGRUContinuous):
            for weight in (module.kernel, module.recurrent):
                yield weight.numel(), int(weight.count_nonzero())
        elif callable(to_dense := getattr(module, "to_dense", None)):
            weight = to_dense()
            yield weight.numel(), int(weight.count_nonzero())
        elif isinstance(module, CONNECTIONS):
            own = [name for name, _ in module.named_parameters(recurse=False)]
            own += getattr(module, "parametrizations", {})
            for name in own:
                if name.startswith("weight"):  # weight_orig: masked by torch.nn.utils.prune
                    weight = getattr(module, name.removesuffix("_orig"))
                    yield weight.numel(), int(weight.count_nonzero())

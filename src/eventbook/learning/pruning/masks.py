r"""Masks that hold: pruned weights are 0, and an optimiser cannot bring them back.

    dE/dW <- M * dE/dW     as it arrives, so that clipping by norm does not see it either
    W     <- M * W         after every step
    state <- M * state     once, when an optimiser is taken on or the masks change

| symbol | meaning | shape | name |
|---|---|---|---|
| M | mask, True where a weight stays | as the weight | `masks[name]` |
| - | what an optimiser keeps for each weight: momentum, squares | as the weight | `optimizer.state` |

A masked gradient alone is not enough for an optimiser that goes on from before the pruning: its momentum
still moves weights that are gone. It is enough for one that is made anew or has no momentum (beta1 = 0).
Weight decay revives nothing: it takes a share of the weight, by itself or within the gradient, and a share of
0 is 0. A mask after the step alone is not enough either: the gradient that belongs to weights which do not
exist would enter the norm by which all gradients are clipped.

Source: `sparse_language_models`, fine-tuning of a pruned network.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from eventbook.learning.pruning.selection import check_mask, magnitude_masks
from eventbook.learning.pruning.weights import Prunable, parameter_of


class Masks:
    """Masks of some parameters of a model, applied at once and for as long as the object's `hold` lasts.

    Parameters
    ----------
    model
        The network; it is pruned in place and otherwise left as it is.
    masks
        True where a weight stays, by name of the parameter.

    Raises
    ------
    ValueError
        If a name is none of the model's, or a mask has another shape than its parameter.
    TypeError
        If a mask is not boolean.

    Examples
    --------
    >>> gru = nn.GRU(8, 16)
    >>> optimizer = torch.optim.AdamW(gru.parameters(), lr=1e-2, betas=(0.0, 0.999), weight_decay=0.1)
    >>> masks = prune(gru, 0.9).hold(optimizer)
    >>> gru(torch.ones(5, 2, 8))[0].sum().backward()
    >>> optimizer.step()
    >>> int(gru.weight_hh_l0.count_nonzero()), round(masks.sparsity(), 3)
    (77, 0.9)
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, Bool[Tensor, "..."]]) -> None:
        self._model = model
        self._masks: dict[str, Tensor] = {}
        self._optimizers: list[Optimizer] = []
        self._hooks: list[RemovableHandle] = []  # of gradients
        self._steps: list[RemovableHandle] = []  # of optimisers
        self.replace(masks)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the masked parameters."""
        return tuple(self._masks)

    def __getitem__(self, name: str) -> Bool[Tensor, "..."]:
        return self._masks[name]

    def items(self) -> Iterable[tuple[str, Bool[Tensor, "..."]]]:
        """Names and masks."""
        return self._masks.items()

    def sparsity(self, name: str | None = None) -> float:
        """Share of pruned weights of one parameter, or of all masked ones; 0 of none at all."""
        masks = list(self._masks.values()) if name is None else [self._masks[name]]
        total = sum(mask.numel() for mask in masks)
        return 1 - sum(int(mask.sum()) for mask in masks) / total if total else 0.0

    @torch.no_grad()
    def apply(self) -> None:
        """Set pruned weights to 0."""
        for parameter, mask in self._pairs():
            parameter.masked_fill_(~mask, 0)

    def replace(self, masks: Mapping[str, Bool[Tensor, "..."]]) -> None:
        """Other masks in place of all of these; errors as at construction, and then nothing has changed."""
        named = dict(self._model.named_parameters())
        for name, mask in masks.items():
            check_mask(name, mask, parameter_of(named, name, "masks"))
        self._masks = {name: mask.detach().to(named[name].device).clone() for name, mask in masks.items()}
        self.apply()
        if self._optimizers:
            self._catch_gradients()
        for optimizer in self._optimizers:
            self._clear(optimizer)

    def hold(self, optimizer: Optimizer) -> "Masks":
        """Keep the masks under every step of an optimiser, and drop what it remembers of pruned weights.

        Of several optimisers, each that has a masked parameter must be taken on. Returns the object itself.
        Weights that are loaded later are masked at the next step, or by `apply`. A parameter that asks for no
        gradient yet is masked at steps alone, and an optimiser that looks at other weights within a step, as
        LBFGS, looks at pruned ones, too.

        Raises
        ------
        ValueError
            If the optimiser has none of the masked parameters.
        """
        theirs = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(parameter) in theirs for parameter, _ in self._pairs()):
            raise ValueError("optimizer must have a masked parameter, got one that has none of them")
        if not self._optimizers:
            self._catch_gradients()
        if not any(known is optimizer for known in self._optimizers):
            self._optimizers.append(optimizer)
            self._steps.append(optimizer.register_step_pre_hook(self._before))
            self._steps.append(optimizer.register_step_post_hook(self._after))
        self._clear(optimizer)
        return self

    def release(self) -> None:
        """Let go: from here on pruned weights are trained like others."""
        for hook in (*self._hooks, *self._steps):
            hook.remove()
        self._hooks, self._steps, self._optimizers = [], [], []

    def state_dict(self) -> dict[str, Bool[Tensor, "..."]]:
        """A copy of the masks by name."""
        return {name: mask.clone() for name, mask in self._masks.items()}

    def load_state_dict(self, state_dict: Mapping[str, Bool[Tensor, "..."]]) -> None:
        """Take on stored masks of the same parameters; ValueError or TypeError if they are of others."""
        if set(state_dict) != set(self._masks):
            raise ValueError(
                f"state_dict must have masks of {', '.join(self._masks)}, got {', '.join(state_dict)}"
            )
        self.replace(state_dict)

    # --- what optimisers call ------------------------------------------------------------------------------

    def _pairs(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Parameters as they are now, with their masks on the same device."""
        found = []
        for name, mask in self._masks.items():
            parameter = self._model.get_parameter(name)
            check_mask(name, mask, parameter)
            if mask.device != parameter.device:
                mask = self._masks[name] = mask.to(parameter.device)
            found.append((parameter, mask))
        return found

    def _catch_gradients(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = [
            parameter.register_hook(lambda given, mask=mask: given.masked_fill(~mask, 0))
            for parameter, mask in self._pairs()
            if parameter.requires_grad
        ]

    @torch.no_grad()
    def _before(self, *_: Any) -> None:
        """Gradients that were written, not propagated."""
        for parameter, mask in self._pairs():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(~mask, 0)

    def _after(self, *_: Any) -> None:
        self.apply()

    @torch.no_grad()
    def _clear(self, optimizer: Optimizer) -> None:
        for parameter, mask in self._pairs():
            for kept in optimizer.state.get(parameter, {}).values():
                if isinstance(kept, Tensor) and kept.shape == parameter.shape and kept.ndim:
                    kept.masked_fill_(~mask.to(kept.device), 0)


def prune(
    model: nn.Module,
    sparsity: float,
    scope: str = "matrix",
    weights: Iterable[Prunable | str] | None = None,
) -> Masks:
    """Prune by magnitude, in place, in one go; arguments and errors as `magnitude_masks`."""
    return Masks(model, magnitude_masks(model, sparsity, scope, weights))

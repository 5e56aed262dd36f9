"""Loading a state that may be another layer's: what is refused leaves the layer as it was.

Torch copies what fits and complains afterwards; a sparse layer half of whose state is another's would read
and write through foreign indices. So a state is judged first: by the layer (indices, geometry, seed), then
by torch, which loads it into a stand-in of the layer's shapes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class _StandIn(nn.Module):
    """Parameters and buffers of a layer by name and shape; `sizes` gives some of them another length."""

    def __init__(self, layer: nn.Module, sizes: Mapping[str, int]) -> None:
        super().__init__()
        for name, parameter in layer._parameters.items():
            self.register_parameter(
                name, None if parameter is None else nn.Parameter(_empty(parameter, sizes.get(name)))
            )
        for name, buffer in layer._buffers.items():
            self.register_buffer(name, None if buffer is None else _empty(buffer, sizes.get(name)))

    def get_extra_state(self) -> Any:
        return None

    def set_extra_state(self, state: Any) -> None:
        """The layer has judged it."""


def _empty(tensor: Tensor, length: int | None) -> Tensor:
    return torch.empty_like(tensor.detach()) if length is None else tensor.detach().new_empty(length)


class Careful(nn.Module):
    """A layer without children that loads a state whole or not at all."""

    def judge(self, state_dict: Mapping[str, Any], prefix: str) -> dict[str, int]:
        """ValueError unless the state is one of such a layer; new lengths of tensors, by name.

        Also called for states that lack some keys, of which torch complains.
        """
        raise NotImplementedError

    def make_room(self, sizes: Mapping[str, int]) -> None:
        """Give tensors their new lengths; a state follows that has been judged."""

    def _stand_in(self, state_dict: Mapping[str, Any], prefix: str) -> nn.Module:
        named = type(type(self).__name__, (_StandIn,), {})  # torch names the class in its complaint
        stand_in: nn.Module = named(self, self.judge(state_dict, prefix))
        return stand_in

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As torch's; a state that is refused leaves the layer as it was.

        Raises
        ------
        ValueError
            If indices, geometry or seed are not those of such a layer.
        RuntimeError
            If torch misses a key, knows one not, or finds another shape.
        """
        self._stand_in(state_dict, "").load_state_dict(state_dict, strict)
        return super().load_state_dict(state_dict, strict, assign)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        # Torch calls this for a layer inside a network, after those before it have been loaded.
        complaints: list[str] = []
        stand_in = self._stand_in(state_dict, prefix)
        stand_in._load_from_state_dict(state_dict, prefix, local_metadata, False, [], [], complaints)
        if complaints:
            error_msgs += complaints
            return
        self.make_room(self.judge(state_dict, prefix))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def judge_extra(name: str, stored: Any, own: Mapping[str, Any]) -> None:
    """ValueError unless a stored extra state has the keys and, seed and target apart, the values of ours."""
    if not isinstance(stored, Mapping) or set(stored) != set(own):
        found = sorted(map(str, stored)) if isinstance(stored, Mapping) else type(stored).__name__
        raise ValueError(f"{name} must have {', '.join(own)}, got {found}")
    for key, value in own.items():
        if key not in ("seed", "target") and stored[key] != value:
            raise ValueError(f"{name} must be that of a layer with {key} {value}, got {stored[key]}")

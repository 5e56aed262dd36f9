r"""Files from which a training goes on: whole or not at all, and only for what wrote them.

A checkpoint has a part ``about``, tables of plain values that say what it belongs to (recipe, model, data),
and a state, whatever `torch.save` can write and read back without running code. It is written under another
name first, so that what stands under its own is whole.

Source: derived.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

About = Mapping[str, Mapping[str, Any]]


def shapes(model: nn.Module) -> dict[str, list[Any]]:
    """Dtype and sizes of each weight: what tells models of one kind apart.

    What a module keeps besides tensors, as one that is rewired does, is not looked at.
    """
    kept = model.state_dict().items()
    return {name: [str(its.dtype), *its.shape] for name, its in kept if isinstance(its, Tensor)}


def digest(tokens: Int[np.ndarray, "..."] | Int[Tensor, "..."]) -> str:
    """sha256 over integers in their order, of whatever width and on whatever device: what tells texts apart.

    Raises
    ------
    TypeError
        If they are no integers.
    """
    values = torch.as_tensor(tokens)
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"tokens must be integers, got {values.dtype}")
    return hashlib.sha256(values.long().cpu().numpy().astype("<i8").tobytes()).hexdigest()


def write_checkpoint(path: Path, about: About, state: Mapping[str, Any]) -> None:
    """Write a checkpoint in place of an older one; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        torch.save({"about": {part: dict(values) for part, values in about.items()}, **state}, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(path: Path, about: About, parts: tuple[str, ...]) -> dict[str, Any] | None:
    """The parts of a checkpoint by name; None if there is none.

    Raises
    ------
    ValueError
        If it is no file that `write_checkpoint` wrote, lacks a part, or is of something else; names the first
        value that differs, what it is there and what it is here. The file is left as it is.
    """
    if path.is_dir():
        raise ValueError(f"checkpoint must be a file, {path} is a folder")
    if not path.is_file():
        return None
    try:
        state = torch.load(path, weights_only=True)
        found = {part: dict(state["about"][part]) for part in about}
        wanted = {part: state[part] for part in parts}
    except Exception as error:  # torch.load fails in many ways on a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"checkpoint must be a file that this function wrote, got {path}: {reason}"
        ) from None
    for part, expected in about.items():
        for name in [*expected, *found[part]]:
            was, now = (values.get(name, "none") for values in (found[part], expected))
            if was != now:
                raise ValueError(f"checkpoint must be of this {part}, {path} has {name} = {was}, not {now}")
    return wanted

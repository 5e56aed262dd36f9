"""Where torch meets the kernels: checks in the user's words, NumPy views without copies, registration.

sizes = axes(a=(a, "batch time state"), h0=(h0, "batch state"))       lengths by name, or one clear error
same_dtype(a=a, b=b)
array(x)                                                              a NumPy view of the tensor's storage
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad

from eventbook.kernels.machinery.memory import take

FLOATING = (torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
POOLED_BYTES = 1 << 22  # results of this size and more share a pool of memory
ALIGNMENT = 64  # bytes; of an address that may be written past the caches
CACHE_BYTES = 1 << 23  # results above this size are written so
_PARTS: dict[Any, Any] = {np.dtype(np.complex64): np.float32, np.dtype(np.complex128): np.float64}


def _shape(of: Sequence[Any]) -> str:
    return "(" + ", ".join(map(str, of)) + ("," if len(of) == 1 else "") + ")"


def axes(**tensors: tuple[Tensor | None, str]) -> dict[str, int]:
    """Bind axis names to lengths.

    Parameters
    ----------
    tensors
        ``name=(tensor, "batch time state")``; None is left out. The first tensor that has an axis decides its
        length.

    Returns
    -------
    dict
        Length by axis name.

    Raises
    ------
    ValueError
        If a tensor has another number of axes, or an axis another length than before, or does not live on
        the CPU. The message names the argument, what was expected and what came. Tensors of torch's device
        "meta", which have a shape and no memory, pass where all are such.
    TypeError
        If an argument is no tensor.
    NotImplementedError
        If it carries a derivative that kernels do not have: forwards, or by torch.func.
    """
    sizes: dict[str, int] = {}
    elsewhere = []
    for name, (tensor, spelled) in tensors.items():
        if tensor is None:
            continue
        try:
            names, lengths = spelled.split(), tensor.shape
            if not tensor.is_cpu:
                elsewhere.append(name)
        except AttributeError:
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}") from None
        fits = len(lengths) == len(names)
        expected = [sizes.get(axis, axis) for axis in names]
        for axis, length in zip(names, lengths, strict=False):
            fits = fits and sizes.setdefault(axis, length) == length
        if not fits:
            meaning = f" = {_shape(expected)}" if expected != names else ""
            raise ValueError(f"{name} must be {_shape(names)}{meaning}, got {_shape(lengths)}")
    if forward_ad._current_level >= 0:
        _refuse_tangents({name: tensor for name, (tensor, _) in tensors.items() if tensor is not None})
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        _refuse_transforms({name: tensor for name, (tensor, _) in tensors.items() if tensor is not None})
    if elsewhere:
        _check_devices({name: tensor for name, (tensor, _) in tensors.items() if tensor is not None})
    return sizes


def _refuse_tangents(tensors: dict[str, Tensor]) -> None:
    """Kernels have reverse derivatives alone; torch would take the forward ones for zero."""
    for name, tensor in tensors.items():
        if forward_ad.unpack_dual(tensor).tangent is not None:
            raise NotImplementedError(
                f"{name} carries a tangent, and kernels have no forward-mode derivatives; use reverse mode"
            )


def _refuse_transforms(tensors: dict[str, Tensor]) -> None:
    """Custom operators of torch have derivatives by torch.autograd alone, not by torch.func."""
    layers = torch._C._functorch
    for name, tensor in tensors.items():
        inner = tensor
        while torch.is_grad_enabled() and layers.is_functorch_wrapped_tensor(inner):
            if layers.is_gradtrackingtensor(inner) and inner.requires_grad:
                raise NotImplementedError(
                    f"{name} is differentiated by torch.func, which reaches no kernel; use torch.autograd"
                )
            inner = layers.get_unwrapped(inner)


def _check_devices(tensors: dict[str, Tensor]) -> None:
    """Accept shapes without memory among themselves alone: a kernel would leave its results unwritten."""
    if all(tensor.is_meta for tensor in tensors.values()):
        return
    name, tensor = next((name, tensor) for name, tensor in tensors.items() if not tensor.is_cpu)
    raise ValueError(f"{name} must be on the CPU, where the kernels run, got {tensor.device}")


def same_dtype(allowed: Sequence[torch.dtype] = FLOATING + COMPLEX, **tensors: Tensor | None) -> torch.dtype:
    """The one dtype of all given tensors; TypeError if they differ or it is none of `allowed`."""
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    (first, tensor), *others = given.items()
    if tensor.dtype not in allowed:
        expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        raise TypeError(f"{first} must be {expected}, got {str(tensor.dtype).removeprefix('torch.')}")
    for name, other in others:
        if other.dtype != tensor.dtype:
            raise TypeError(f"{name} must have the dtype of {first}, {tensor.dtype}, got {other.dtype}")
    return tensor.dtype


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 of complex64, float64 of complex128; a real dtype is itself."""
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def array(tensor: Tensor) -> NDArray[Any]:
    """The tensor as a C-contiguous NumPy array: a view where it can be, one copy where it is strided.

    Gradients often arrive as lazy conjugates or expanded scalars; both are resolved here.
    """
    return (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy(force=True)


def new(shape: Sequence[int], like: Tensor) -> Tensor:
    """An uninitialised tensor of the dtype of `like`, aligned to 64 bytes; a large one from the pool."""
    size = prod(shape) * like.element_size()
    if size < POOLED_BYTES:
        return torch.empty(shape, dtype=like.dtype)
    return torch.from_numpy(take(size)).view(like.dtype).view(shape)


def copy(tensor: Tensor) -> Tensor:
    """A contiguous copy that a kernel may overwrite."""
    return tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


def flat(values: NDArray[Any]) -> NDArray[Any]:
    """The rows of a (batch, ...) array as (batch, elements) real numbers, complex ones interleaved."""
    real: NDArray[Any] = values.view(_PARTS.get(values.dtype, values.dtype))
    return real.reshape(len(values), -1) if values.size else np.empty((len(values), 0), real.dtype)


def beyond_cache(output: NDArray[Any]) -> bool:
    """True if an output is too large to be read back from a cache, and aligned for writing past it."""
    row = output.shape[-1] * output.itemsize
    return output.nbytes > CACHE_BYTES and output.ctypes.data % ALIGNMENT == 0 and row % ALIGNMENT == 0


def forbid_second_backward(operator: Any, name: str) -> None:
    """Register an autograd formula for a backward operator that says there is none."""

    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(f"{name} is differentiable once, got a backward pass through its gradient")

    operator.register_autograd(backward)


def fold_into_batch(operator: Any, has_batch: Sequence[bool | None]) -> None:
    """Let an operator be vmapped: the mapped axis is folded into the batch, which every output must have.

    Parameters
    ----------
    operator
        A custom operator, its batch first in every tensor that has one.
    has_batch
        For each argument: True for a tensor with a batch axis (or None in its place), False for one without,
        None for no tensor.

    A mapped argument without a batch axis cannot be folded; the operator then runs once per slice.
    """

    def vmapped(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
        count = info.batch_size

        def unfolded(x: Tensor) -> Tensor:
            return x.unflatten(0, (count, len(x) // count))

        mapped = [
            argument.movedim(dim, 0) if dim is not None else argument
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]
        foldable = all(batch or dim is None for batch, dim in zip(has_batch, in_dims, strict=True))
        if not foldable:
            slices = [
                operator(*(m[k] if d is not None else m for m, d in zip(mapped, in_dims, strict=True)))
                for k in range(count)
            ]
            if isinstance(slices[0], Tensor):
                return torch.stack(slices), 0
            return tuple(map(torch.stack, zip(*slices, strict=True))), (0,) * len(slices[0])
        folded = [
            (m if d is not None else m.expand(count, *m.shape)).flatten(0, 1)
            if batch and m is not None
            else m
            for m, d, batch in zip(mapped, in_dims, has_batch, strict=True)
        ]
        result = operator(*folded)
        if isinstance(result, Tensor):
            return unfolded(result), 0
        return tuple(map(unfolded, result)), (0,) * len(result)

    operator.register_vmap(vmapped)

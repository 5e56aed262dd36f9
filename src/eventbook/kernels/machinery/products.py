"""Dense products of long sequences with a weight, by the faster of the two libraries that torch brings.

    linear(x, weight)     x weight^T, as torch.nn.functional.linear

torch hands matrices in single precision to MKL, which takes its code for older processors where the processor
is not Intel's: about half of what a recent AMD does. Convolutions it hands to oneDNN, which asks what a
processor can do. A product is a convolution with a kernel of one element, features for channels and elements
of the sequence for pixels, and where x lies in memory as it is, as ``channels_last``. Derivatives are torch's
own. On one thread torch takes oneDNN for such a kernel only from 16 images on, so sequences are cut into that
many.

Who sets MKL_CBWR asks MKL for the same bytes on every processor. oneDNN makes no such promise, for it cuts
its loops by the sizes of caches. So all products are then left to MKL.

Source: conditions of torch's convolution, ``aten/src/ATen/native/Convolution.cpp``, `use_mkldnn`.
"""

import os
from functools import cache
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

IMAGES = 16  # torch takes oneDNN from so many on
LEAST_PRODUCTS = 1 << 23  # multiplications; below, what a call costs takes what the faster product gains


@cache
def prefers_convolution() -> bool:
    """True where oneDNN is there, the processor one for which it has code, and no reproducible product is
    asked for by MKL_CBWR when this is first called."""
    if os.environ.get("MKL_CBWR"):
        return False
    return torch.backends.mkldnn.is_available() and "AVX" in torch.backends.cpu.get_cpu_capability()


def cut(batch: int, time: int) -> int:
    """Parts of a sequence for `IMAGES` images at least; 0 if there are none of four elements or more."""
    for parts in range(-(-IMAGES // max(batch, 1)), time // 4 + 1):
        if time % parts == 0:
            return parts
    return 0


def linear(
    x: Float[Tensor, "batch time into"], weight: Float[Tensor, "out into"]
) -> Float[Tensor, "batch time out"]:
    """x weight^T, to rounding.

    Parameters
    ----------
    x
        (batch, time, into).
    weight
        (out, into), of the same dtype.

    Returns
    -------
    Tensor
        (batch, time, out).

    Raises
    ------
    RuntimeError
        torch's own, if shapes or dtypes do not fit.
    """
    single = x.dtype == weight.dtype == torch.float32 and x.ndim == 3 and weight.ndim == 2
    if not single or prod(x.shape) * len(weight) < LEAST_PRODUCTS or not prefers_convolution():
        return functional.linear(x, weight)
    batch, time, into = x.shape
    parts = cut(batch, time)
    if not parts:
        return functional.linear(x, weight)
    images = x.reshape(batch * parts, time // parts, 1, into).permute(0, 3, 1, 2)
    y = functional.conv2d(images, weight[:, :, None, None])
    return y.permute(0, 2, 3, 1).reshape(batch, time, len(weight))

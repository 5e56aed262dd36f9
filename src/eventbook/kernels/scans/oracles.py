r"""Two other ways to compute the same scans, for checking and for explaining: all pairs, and doubling.

    pairs      h_t = exp(lambda T_t) h_0 + sum_{j <= t} exp(lambda (T_t - T_j)) b_j,  T_t = gap_1 + .. + gap_t
    doubling   (a, b)_t <- (a_t a_{t-k}, a_t b_{t-k} + b_t)  for k = 1, 2, 4, ...

The first costs O(L^2) and shows what O(L) steps of a recurrence have computed; exponents are *differences* of
times, never products exp(lambda T_t) exp(-lambda T_j), which overflow. The second takes log L rounds that
could run in parallel, and moves log L times as much memory.

Source: derived; the doubling is that of Hillis and Steele, Communications of the ACM 1986.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eventbook.kernels.scans.linear import Scan


def pairwise_events(
    lam: Complex[Tensor, "state"],
    gap: Float[Tensor, "batch time"],
    b: Complex[Tensor, "batch time state"],
    h0: Complex[Tensor, "batch state"] | None = None,
) -> Complex[Tensor, "batch time state"]:
    """States of `event_scan` as an explicit sum over all pairs of elements."""
    time = gap.cumsum(1)
    distance = time[:, :, None] - time[:, None, :]
    causal = torch.ones(time.shape[1], time.shape[1], dtype=torch.bool).tril()
    weight = torch.exp(lam * distance.clamp(min=0)[..., None]) * causal[..., None]
    h = torch.einsum("btjp,bjp->btp", weight, b)
    return h if h0 is None else h + torch.exp(lam * time[..., None]) * h0[:, None]


def pairwise_coordinates(
    u: Float[Tensor, "batch time channel"],
    gap: Float[Tensor, "batch time"],
    rate: Float[Tensor, "channel"],
    delta: Float[Tensor, "batch time channel"],
    A: Float[Tensor, "channel state"],
    B: Float[Tensor, "batch time state"],
    C: Float[Tensor, "batch time state"],
    D: Float[Tensor, "channel"] | None = None,
) -> Float[Tensor, "batch time channel"]:
    """Outputs of `coordinate_scan` as an explicit sum over all pairs of elements."""
    time = gap.cumsum(1)
    distance = (time[:, :, None] - time[:, None, :]).clamp(min=0)
    causal = torch.ones(time.shape[1], time.shape[1], dtype=u.dtype).tril()
    weight = torch.exp(distance[..., None, None] * (rate[:, None] * A)) * causal[..., None, None]
    y = torch.einsum("bin,bijdn,bjd,bjn->bid", C, weight, delta * u, B)
    return y if D is None else y + D * u


def associative_scan_reference(a: Scan, b: Scan) -> Scan:
    """States of `linear_scan` from zero, by doubling."""
    reach = 1
    while reach < a.shape[1]:
        b = torch.cat([b[:, :reach], a[:, reach:] * b[:, :-reach] + b[:, reach:]], 1)
        a = torch.cat([a[:, :reach], a[:, reach:] * a[:, :-reach]], 1)
        reach *= 2
    return b

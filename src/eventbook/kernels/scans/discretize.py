r"""From continuous time to a scan: decay and gain of dh/dt = lambda h + B u, for three readings of an event.

    decay = exp(lambda step gap)
    gain      dirac  1                                 an event is a delta pulse
              async  (exp(lambda step) - 1) / lambda   an event holds for one step, whatever the gap is
              zoh    (exp(lambda step gap) - 1) / lambda   an event holds until the next one

| symbol | meaning | shape | name |
|---|---|---|---|
| lambda | eigenvalues | (state,) complex | `lam` |
| step | learnt time scale | (state,) real | `step` |
| gap | time since the element before | (batch, time) real | `gap` |
| decay | factor of the state | (batch, time, state) | `decay` |
| gain | factor of the input | (state,), for zoh (batch, time, state) | `gain` |

This is the readable form, in torch operations, and the one to use for zoh, whose gain depends on the gap. For
the other two `event_scan` forms the decay itself. lambda = 0 is an integrator: async then gains `step`, zoh
`step gap`.

Source: Schöne et al. 2024 (Event-SSM), asynchronous discretisation; Smith et al. 2023 (S5) for zoh.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eventbook.kernels.machinery.tensors import COMPLEX, array, axes, real_dtype, same_dtype
from eventbook.kernels.scans.event import check_gaps

MODES = ("dirac", "async", "zoh")


def held(lam: Tensor, time: Tensor) -> Tensor:
    """(exp(lam time) - 1) / lam without cancellation, and its limit `time` where lam is 0; any shapes."""
    integrator = lam == 0
    safe = torch.where(integrator, torch.ones_like(lam), lam)
    return torch.where(integrator, time.to(lam.dtype), torch.expm1(lam * time) / safe)


def discretize(
    mode: str,
    lam: Complex[Tensor, "state"],
    step: Float[Tensor, "state"],
    gap: Float[Tensor, "batch time"],
) -> tuple[Complex[Tensor, "batch time state"], Complex[Tensor, "..."]]:
    """Decay and gain of every element; differentiable in `lam`, `step` and `gap`.

    Parameters
    ----------
    mode
        "dirac", "async" or "zoh".
    lam, step, gap
        Eigenvalues (state,), time scales (state,), gaps (batch, time) in 0..2^100.

    Returns
    -------
    decay
        (batch, time, state).
    gain
        (state,), for zoh (batch, time, state).

    Raises
    ------
    ValueError
        If the mode is unknown, shapes do not fit, or a gap is negative, not a number or above 2^100.
    TypeError
        If lam is not complex, or step and gap are not of its real dtype.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    axes(lam=(lam, "state"), step=(step, "state"), gap=(gap, "batch time"))
    same_dtype((real_dtype(same_dtype(COMPLEX, lam=lam)),), step=step, gap=gap)
    check_gaps(array(gap))
    scaled = lam * step
    decay = torch.exp(scaled * gap[..., None])
    if mode == "dirac":
        return decay, torch.ones_like(lam)
    return decay, held(lam, step if mode == "async" else step * gap[..., None])

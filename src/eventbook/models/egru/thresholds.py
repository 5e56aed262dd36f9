r"""Thresholds, one a unit: how they are drawn, and what keeps them where a threshold may be.

    SigmoidThreshold    theta = sig(a),  a ~ N(mean, std)             trained; the released code up to 0.1
    BetaThreshold       theta = min(max(a, 0), 1),  a ~ Beta(3 m / (1 - m), 3), of mean m
                                                                      fixed as published; from 0.2 on
    FixedThreshold      theta given, > 0, or -inf: a unit that always fires

| symbol | meaning | shape | name |
|---|---|---|---|
| theta | threshold | (unit,) | what a call returns |
| a | what is stored and, if at all, trained | (unit,) | `raw` |

The sigmoid is between 0 and 1 whatever a becomes, and d theta / d a = theta (1 - theta). The clamp passes the
gradient within [0, 1] and none outside: a unit that was driven out stays out until something else moves it.

Everything random comes from the generator that is given.

Source: the released code of arXiv:2206.06178, versions 0.1.0 (sigmoid, std sqrt 2) and 0.2.0 (Beta).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from eventbook.kernels.encoders.arguments import whole


def normal_numbers(*shape: int, generator: Generator | None) -> Tensor:
    """N(0, 1) in double precision, drawn where the generator is."""
    where = None if generator is None else generator.device
    return torch.randn(shape, dtype=torch.float64, generator=generator, device=where)


def placed(values: Tensor, device: Any, dtype: torch.dtype | None) -> Tensor:
    """The values of a device and dtype, by default of torch's own."""
    return values.to(
        torch.get_default_device() if device is None else device, dtype or torch.get_default_dtype()
    )


class Threshold(nn.Module):
    """What all of them are: a module that, called, gives (size,) thresholds."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = whole(size, "size", 1)

    def forward(self) -> Float[Tensor, "unit"]:
        """theta, (size,), of the dtype and device of the weights; differentiable where it is trained.

        Raises
        ------
        NotImplementedError
            By this class, which others inherit.
        """
        raise NotImplementedError

    def judge(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Before a state is loaded: ValueError if what it stores could make no threshold; here all can."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self.judge(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return str(self.size)


class SigmoidThreshold(Threshold):
    """theta = sig(a), a normal.

    Parameters
    ----------
    size
        Units.
    mean, std
        Of a at first. The published language models begin at means of -3.5 and -3.8: theta around 0.03.
    trainable
        False to keep theta as drawn.
    generator
        Source of a; torch's own if not given.
    device, dtype
        Of a, as in modules of torch.

    Raises
    ------
    ValueError
        If the mean is not finite or the standard deviation negative or not finite.
    """

    def __init__(
        self,
        size: int,
        mean: float = 0.0,
        std: float = math.sqrt(2),
        *,
        trainable: bool = True,
        generator: Generator | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size)
        if not math.isfinite(mean):
            raise ValueError(f"mean must be finite, got {mean}")
        if not 0 <= std < math.inf:
            raise ValueError(f"std must be >= 0 and finite, got {std}")
        drawn = mean + std * normal_numbers(size, generator=generator)
        self.raw = nn.Parameter(placed(drawn, device, dtype), requires_grad=trainable)

    def forward(self) -> Float[Tensor, "unit"]:
        """sig(a), (size,)."""
        return torch.sigmoid(self.raw)


class BetaThreshold(Threshold):
    """theta drawn from a Beta distribution and clamped to [0, 1] whenever it is read.

    Parameters
    ----------
    size
        Units.
    mean
        m, between 0 and 1.
    trainable
        True to train a; the published language models do not.
    generator
        Source of a; torch's own if not given.
    device, dtype
        Of a, as in modules of torch.

    Raises
    ------
    ValueError
        If the mean is not between 0 and 1.
    """

    def __init__(
        self,
        size: int,
        mean: float,
        *,
        trainable: bool = False,
        generator: Generator | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size)
        if not 0 < mean < 1:
            raise ValueError(f"mean must be between 0 and 1, got {mean}")
        # torch draws no Beta from a generator that is given
        where = "cpu" if generator is None else generator.device
        seed = int(torch.randint(2**62, (), generator=generator, device=where))
        drawn = np.random.default_rng(seed).beta(3 * mean / (1 - mean), 3, size)
        self.raw = nn.Parameter(placed(torch.from_numpy(drawn), device, dtype), requires_grad=trainable)

    def forward(self) -> Float[Tensor, "unit"]:
        """min(max(a, 0), 1), (size,)."""
        return self.raw.clamp(0, 1)


class FixedThreshold(Threshold):
    """theta as given, never trained.

    Parameters
    ----------
    size
        Units.
    value
        One number for all units, or (size,) numbers, each > 0; or -inf for all, and every unit always fires.
    device, dtype
        Of theta, as in modules of torch.

    Raises
    ------
    ValueError
        If a threshold is something else, or there are not as many as units; names the first. A state that is
        loaded is looked at in the same way, before anything is taken from it.
    TypeError
        If it is no number or numbers.
    """

    def __init__(
        self,
        size: int,
        value: float | Float[Tensor, "unit"],
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(size)
        try:
            where = value.device if isinstance(value, Tensor) else "cpu"
            given = torch.as_tensor(value, dtype=dtype or torch.get_default_dtype(), device=where).detach()
        except (TypeError, ValueError, RuntimeError):  # which of them depends on the value
            raise TypeError(f"value must be a number or ({size},) numbers, got {value!r}") from None
        if given.ndim > 1 or (given.ndim == 1 and len(given) != size):
            raise ValueError(f"value must be a number or ({size},), got shape {tuple(given.shape)}")
        theta = given.expand(size).clone()
        _check_theta(theta, "threshold")
        self.theta: Tensor
        if device is None and isinstance(value, Tensor):
            device = value.device
        self.register_buffer("theta", placed(theta, device, dtype))

    @property
    def always(self) -> bool:
        """Whether all are -inf, so that every unit always fires."""
        return fires_always(self.theta)

    def judge(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Before a state is loaded: ValueError unless its numbers are thresholds."""
        theta = state_dict.get(f"{prefix}theta")
        if isinstance(theta, Tensor) and theta.shape == self.theta.shape:  # of others torch complains
            _check_theta(theta.to(self.theta.dtype), f"{prefix}theta")

    def forward(self) -> Float[Tensor, "unit"]:
        """theta as given, (size,)."""
        return self.theta


def fires_always(theta: Float[Tensor, "unit"]) -> bool:
    """Whether all thresholds are -inf; not where there are no values, on torch's device "meta"."""
    return not theta.is_meta and bool((theta == -math.inf).all())


def _check_theta(theta: Tensor, name: str) -> None:
    """ValueError that names the first which is neither > 0 and finite nor -inf with all others."""
    if theta.is_meta:
        return
    wrong = ~((theta > 0) & (theta < math.inf))
    if wrong.any() and not fires_always(theta):
        raise ValueError(
            f"{name} must be > 0 and finite, or -inf for all to fire always, "
            f"got {float(theta[wrong.int().argmax()])}"
        )

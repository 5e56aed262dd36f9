"""Every configuration that the authors released, by name: network, recipe of training, and what it counts.

    released("shd_medium").network        an `EventSSMConfig`
    as_released(config)                   the same with the released gaps and pooling

Networks are stated with aligned gaps and the last member of a group, which is what this package does unless
told otherwise. `as_released` turns both back (margin notes 2 and 3 of the chapter); it changes no parameter.

Learning rates are per sample: the rate of a step is the base times all samples in it.

Source: the released code of arXiv:2404.18508, versions 0.1 and 0.2; numbers of parameters are derived.
"""

from dataclasses import dataclass, replace
from typing import Any

from eventbook.models.event_ssm.classifier import EventSSMConfig

SHD_TOKENS, DVS_TOKENS = 700, 128 * 128 * 2


@dataclass(frozen=True)
class Recipe:
    """How a released network was trained.

    Attributes
    ----------
    epochs, warmup_epochs, batch_size, accumulate
        Passes over the training set, linear warm-up before the cosine, samples in a batch, batches in a step.
    ssm_base_lr, lr_factor
        Rate of B and lambda for each sample in a step; the rate of all others is this many times larger.
    weight_decay, cut_mix
        Of AdamW, but for B and lambda; probability that a batch is mixed.
    augmentation
        Name of the strengths in `augmentation`.
    """

    epochs: int
    warmup_epochs: int
    batch_size: int
    accumulate: int
    ssm_base_lr: float
    lr_factor: float
    weight_decay: float
    cut_mix: float
    augmentation: str

    @property
    def ssm_lr(self) -> float:
        """Learning rate of B and lambda on one device."""
        return self.ssm_base_lr * self.batch_size * self.accumulate

    @property
    def lr(self) -> float:
        """Learning rate of everything else."""
        return self.ssm_lr * self.lr_factor


@dataclass(frozen=True)
class Released:
    """A released configuration and the number of its parameters."""

    network: EventSSMConfig
    recipe: Recipe
    parameters: int


def _channels(classes: int, **network: Any) -> EventSSMConfig:
    return EventSSMConfig(n_tokens=SHD_TOKENS, n_classes=classes, **network)


def _pixels(**network: Any) -> EventSSMConfig:
    return EventSSMConfig(
        n_tokens=DVS_TOKENS, n_classes=11, blocks=16, stages=2, stride=16, expansion=2,
        clip_eigs=True, dropout=0.25, dt_min=1e-3, **network,
    )  # fmt: skip


_SSC = Recipe(200, 20, 64, 1, 5e-6, 5, 0.05, 0.3, "SSC")
_DVS = Recipe(200, 10, 32, 1, 1.2e-5, 6, 0.02, 0.4, "DVS")

RELEASED: dict[str, Released] = {
    "shd_medium": Released(
        _channels(20, d_model=96, d_state=128, conj_sym=False, stages=2, dropout=0.23),
        Recipe(30, 3, 32, 1, 1.7e-5, 10, 0.03, 0.3, "SHD"),
        423_956,
    ),
    "ssc_medium": Released(
        _channels(
            35, d_model=96, d_state=128, blocks=16, stages=2, expansion=2, norm="batch",
            dropout=0.23, dt_min=1.5e-3,
        ),
        _SSC,
        598_115,
    ),
    "ssc_small": Released(
        _channels(
            35, layers=6, pooling="time", norm="batch", dropout=0.27, head="time", dt_min=2e-3
        ),
        _SSC,
        122_915,
    ),
    "shd_tiny": Released(
        _channels(
            20, d_model=16, d_state=16, conj_sym=False, layers=6, stride=32, pooling="time",
            dropout=0.1, head="time",
        ),
        Recipe(5, 1, 16, 1, 5e-5, 10, 0.01, 0.3, "SHD"),
        19_892,
    ),
    "dvs_small_v0.1": Released(
        _pixels(d_model=128, d_state=128, conj_sym=False, pooling="time", head="time"),
        Recipe(100, 10, 16, 4, 1.2e-5, 6, 0.02, 0.4, "DVS"),
        5_433_739,
    ),
    "dvs_small_v0.2": Released(_pixels(d_model=32, d_state=128), _DVS, 1_186_251),
    "dvs_medium_v0.2": Released(_pixels(d_model=128, d_state=64), _DVS, 4_743_019),
}  # fmt: skip


def released(name: str) -> Released:
    """A released configuration.

    Raises
    ------
    ValueError
        If there is none of this name; lists all.
    """
    if name not in RELEASED:
        raise ValueError(f"name must be one of {', '.join(RELEASED)}, got {name!r}")
    return RELEASED[name]


def as_released(config: EventSSMConfig) -> EventSSMConfig:
    """The same network with the gap after each event, and the first member of each group kept."""
    return replace(config, alignment="as_released", kept="first")

"""Released configurations: parameters by a formula, recipes as in the table, and back to as released."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from eventbook.models.event_ssm import RELEASED, EventSSM, EventSSMConfig, as_released, released
from eventbook.models.event_ssm.augmentation import chains
from eventbook.models.event_ssm.configurations import DVS_TOKENS, SHD_TOKENS

# name: parameters; H, P, blocks, conjugate symmetry, stages x layers, stride, pooling, expansion, norm, clip
NETWORKS = {
    "shd_medium": (423_956, 96, 128, 8, False, 2, 3, 8, "average", 1, "layer", False),
    "ssc_medium": (598_115, 96, 128, 16, True, 2, 3, 8, "average", 2, "batch", False),
    "ssc_small": (122_915, 64, 64, 8, True, 1, 6, 8, "time", 1, "batch", False),
    "shd_tiny": (19_892, 16, 16, 8, False, 1, 6, 32, "time", 1, "layer", False),
    "dvs_small_v0.1": (5_433_739, 128, 128, 16, False, 2, 3, 16, "time", 2, "layer", True),
    "dvs_small_v0.2": (1_186_251, 32, 128, 16, True, 2, 3, 16, "average", 2, "layer", True),
    "dvs_medium_v0.2": (4_743_019, 128, 64, 16, True, 2, 3, 16, "average", 2, "layer", True),
}
# name: classes, dt_min, dropout, head; epochs, batch, accumulate, base rate, factor, decay, warm-up, CutMix
RECIPES = {
    "shd_medium": (20, 0.004, 0.23, "mean", 30, 32, 1, 1.7e-5, 10, 0.03, 3, 0.3),
    "ssc_medium": (35, 0.0015, 0.23, "mean", 200, 64, 1, 5e-6, 5, 0.05, 20, 0.3),
    "ssc_small": (35, 0.002, 0.27, "time", 200, 64, 1, 5e-6, 5, 0.05, 20, 0.3),
    "shd_tiny": (20, 0.004, 0.1, "time", 5, 16, 1, 5e-5, 10, 0.01, 1, 0.3),
    "dvs_small_v0.1": (11, 0.001, 0.25, "time", 100, 16, 4, 1.2e-5, 6, 0.02, 10, 0.4),
    "dvs_small_v0.2": (11, 0.001, 0.25, "mean", 200, 32, 1, 1.2e-5, 6, 0.02, 10, 0.4),
    "dvs_medium_v0.2": (11, 0.001, 0.25, "mean", 200, 32, 1, 1.2e-5, 6, 0.02, 10, 0.4),
}


def counted(c: EventSSMConfig) -> int:
    """Parameters by formula: embedding, layers, read-out."""
    total, width = c.n_tokens * c.d_model, c.d_model
    for stage in range(c.stages):
        h, p = c.d_model * c.expansion**stage, c.d_state * c.expansion**stage
        p //= 2 if c.conj_sym else 1  # complex numbers that are stored
        for _ in range(c.layers):
            total += 2 * width  # norm
            total += 3 * p + 2 * p * width + 2 * p * h  # lambda and step, B, C
            total += h if width == h else width * h + (width * h + h)  # D; or D and skip
            total += h * h + h  # gate
            width = h
    return total + width * c.n_classes + c.n_classes


def test_all_of_the_table_are_there():
    assert list(RELEASED) == list(NETWORKS) == list(RECIPES)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_those_of_the_formula(name):
    parameters, H, P, blocks, conj_sym, stages, layers, stride, pooling, expansion, norm, clip = NETWORKS[
        name
    ]
    c = released(name).network
    assert (c.d_model, c.d_state, c.blocks, c.conj_sym, c.stages, c.layers) == (
        H, P, blocks, conj_sym, stages, layers,
    )  # fmt: skip
    assert (c.stride, c.pooling, c.expansion, c.norm, c.clip_eigs) == (stride, pooling, expansion, norm, clip)
    assert c.n_tokens == (DVS_TOKENS if name.startswith("dvs") else SHD_TOKENS)
    with torch.device("meta"):  # the count needs no numbers
        sizes = {key: w.numel() for key, w in EventSSM(replace(c, n_tokens=1)).named_parameters()}
    assert sum(sizes.values()) - sizes["embedding"] + c.n_tokens * c.d_model == parameters
    assert counted(c) == released(name).parameters == parameters
    assert c.discretization == "async"


def test_sizes_of_sensors():
    assert (SHD_TOKENS, DVS_TOKENS) == (700, 32_768)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_those_of_the_table(name):
    classes, dt_min, dropout, head, epochs, batch, accumulate, base, factor, decay, warm, mix = RECIPES[name]
    found = released(name)
    network, recipe = found.network, found.recipe
    assert (network.n_classes, network.dt_min, network.dt_max) == (classes, dt_min, 0.1)
    assert (network.dropout, network.head) == (dropout, head)
    assert asdict(recipe) == {
        "epochs": epochs, "warmup_epochs": warm, "batch_size": batch, "accumulate": accumulate,
        "ssm_base_lr": base, "lr_factor": factor, "weight_decay": decay, "cut_mix": mix,
        "augmentation": name[:3].upper(),
    }  # fmt: skip
    assert hasattr(chains, recipe.augmentation)
    assert recipe.ssm_lr == pytest.approx(base * batch * accumulate)
    assert recipe.lr == pytest.approx(recipe.ssm_lr * factor)


def test_shd_medium_trains_at_the_rates_of_one_device():
    recipe = released("shd_medium").recipe
    assert (recipe.ssm_lr, recipe.lr) == (pytest.approx(5.44e-4), pytest.approx(5.44e-3))


@pytest.mark.parametrize("name", NETWORKS)
def test_as_released_turns_gaps_and_groups_back_and_nothing_else(name):
    network = released(name).network
    assert (network.alignment, network.kept) == ("aligned", "last")
    back = as_released(network)
    assert (back.alignment, back.kept) == ("as_released", "first")
    assert replace(back, alignment="aligned", kept="last") == network
    assert counted(back) == counted(network)


def test_an_unknown_name_lists_all():
    with pytest.raises(ValueError, match=r"name must be one of shd_medium, .*dvs_medium_v0\.2, got 'shd'"):
        released("shd")


def test_the_tiny_network_runs():
    model = EventSSM(released("shd_tiny").network, generator=torch.Generator().manual_seed(0))
    assert sum(p.numel() for p in model.parameters()) == 19_892
    token = torch.randint(700, (2, 70), generator=torch.Generator().manual_seed(0))
    assert model(token, torch.ones(2, 70)).isfinite().all()

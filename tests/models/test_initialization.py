"""Weights that are drawn: variances, cuts, the generator; jax as an oracle where it is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from eventbook.models.initialization import dense, truncated_normal


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_truncated_normal_numbers():
    x = truncated_normal(200_000, variance=4.0, generator=generator())
    bound = 2 / stats.truncnorm(-2, 2).std()
    assert x.abs().max() < 2 * bound + 1e-9
    assert x.var() == pytest.approx(4.0, rel=0.01)
    assert (
        stats.kstest(x.numpy() / 2 * stats.truncnorm(-2, 2).std(), stats.truncnorm(-2, 2).cdf).pvalue > 1e-3
    )


@pytest.mark.parametrize("d", [16, 48])
def test_variances_are_those_that_jax_draws(d):
    jax = pytest.importorskip("jax", reason="jax is an optional peer")
    draw = jax.nn.initializers.lecun_normal()
    P, key = 64, jax.random.PRNGKey(0)
    drawn = np.concatenate([np.asarray(draw(k, (P, d))).ravel() for k in jax.random.split(key, 40)])
    ours = truncated_normal(40 * P, d, variance=1 / P, generator=generator()).flatten().numpy()
    assert stats.ks_2samp(ours, drawn).pvalue > 1e-3


def test_dense_maps_begin_without_bias_and_within_two_deviations():
    made = dense(50, 400, generator())
    assert not made.bias.any()
    assert abs(made.weight.var() * 50 - 1) < 0.05
    assert made.weight.abs().max() * 50**0.5 * 0.8796 < 2.0001


@pytest.mark.parametrize("draw", [lambda g: truncated_normal(5, variance=1.0, generator=g),
                                  lambda g: dense(3, 5, g).weight], ids=["numbers", "map"])  # fmt: skip
def test_the_generator_decides(draw):
    assert torch.equal(draw(generator(4)), draw(generator(4)))
    assert not torch.equal(draw(generator(4)), draw(generator(5)))
    torch.manual_seed(1)
    first = draw(None)
    torch.manual_seed(1)
    assert torch.equal(draw(None), first)
    before = torch.random.get_rng_state()
    draw(generator())
    assert torch.equal(torch.random.get_rng_state(), before)

"""HiPPO's normal part and its spectrum, variances of the maps, steps; jax as an oracle where it is there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from eventbook.models.event_ssm.initialization import (
    hippo_legs,
    hippo_normal,
    input_map,
    log_steps,
    output_map,
    spectrum,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_hippo_is_written_out():
    for n in range(5):
        for k in range(5):
            expected = -math.sqrt((2 * n + 1) * (2 * k + 1)) if n > k else -(n + 1) if n == k else 0
            assert hippo_legs(5)[n, k] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_the_normal_part_is_minus_one_half_and_something_skew(size):
    S, A = hippo_normal(size), hippo_legs(size)
    assert (S + S.T + torch.eye(size)).abs().max() < 1e-15 * size**2
    assert torch.linalg.matrix_rank(S - A) == 1
    assert (S @ S.T - S.T @ S).abs().max() < 1e-15 * size**4  # normal
    if size > 1:
        assert (A @ A.T - A.T @ A).abs().max() > 0.1  # HiPPO itself is not


@pytest.mark.parametrize(("size", "blocks"), [(1, 1), (6, 1), (7, 1), (32, 1), (64, 8), (12, 3)])
def test_the_spectrum_is_that_of_the_blocks(size, blocks):
    eigenvalues, basis = spectrum(size, blocks, conj_sym=False)
    assert eigenvalues.dtype == basis.dtype == torch.complex128
    assert torch.equal(eigenvalues.real, torch.full((size,), eigenvalues.real[0].item(), dtype=torch.float64))
    assert eigenvalues.real[0] == pytest.approx(-0.5, abs=1e-13)
    assert (basis.mH @ basis - torch.eye(size)).abs().max() < 1e-13
    S = torch.block_diag(*[hippo_normal(size // blocks)] * blocks).to(torch.complex128)
    assert (basis @ torch.diag(eigenvalues) @ basis.mH - S).abs().max() < 1e-12 * size
    for block in eigenvalues.reshape(blocks, -1):
        pairs = block.imag.sort().values
        assert (pairs + pairs.flip(0)).abs().max() < 1e-11
    # an independent solver
    theirs = np.sort(np.tile(np.linalg.eigvals(hippo_normal(size // blocks).numpy()).imag, blocks))
    assert np.abs(np.sort(eigenvalues.imag.numpy()) - theirs).max() < 1e-10


def test_of_conjugate_pairs_one_is_kept():
    half, whole = spectrum(12, 3, conj_sym=True), spectrum(12, 3, conj_sym=False)
    kept = torch.arange(12).reshape(3, 4)[:, :2].flatten()
    assert (half.eigenvalues.imag < 0).all()
    assert torch.equal(half.eigenvalues, whole.eigenvalues[kept])
    assert torch.equal(half.basis, whole.basis[:, kept])
    both = torch.cat([half.eigenvalues, half.eigenvalues.conj()]).imag.sort().values
    assert (both - whole.eigenvalues.imag.sort().values).abs().max() < 1e-12
    # twice the real part of one is the sum over both: the map that the layer relies on
    x = torch.randn(12, dtype=torch.float64, generator=generator()).to(torch.complex128)
    S = torch.block_diag(*[hippo_normal(4)] * 3)
    out = 2 * (half.basis @ (half.eigenvalues * (half.basis.mH @ x))).real
    assert (out - S @ x.real).abs().max() < 1e-12


def test_phases_do_not_depend_on_the_library():
    _, basis = spectrum(8, 1, conj_sym=True)
    largest = basis[basis.abs().argmax(0), torch.arange(4)]
    assert largest.imag.abs().max() < 1e-14
    assert (largest.real > 0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1, False), ValueError, "d_state must be a positive multiple of blocks = 1, got 0"),
        ((8, 0, False), ValueError, "d_state must be a positive multiple of blocks = 0, got 8"),
        ((8, 3, False), ValueError, "d_state must be a positive multiple of blocks = 3, got 8"),
        ((9, 3, True), ValueError, "d_state / blocks must be even for conj_sym, .* got 3"),
        ((8.0, 2, True), TypeError, "d_state must be a whole number, got 8.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        spectrum(*arguments)


# --- random weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("P", "d", "conj_sym"), [(64, 300, False), (32, 500, True)])
def test_maps_have_the_variances_of_the_released_code(P, d, conj_sym):
    """1/P for B and 1/(P d_out) for C: a unitary basis keeps them, and the number of columns is no matter."""
    _, basis = spectrum(P, 2, conj_sym)
    B, C = input_map(basis, d, generator(1)), output_map(basis, d, generator(2))
    assert B.shape == (basis.shape[1], d)
    assert C.shape == (d, basis.shape[1])
    assert B.abs().square().mean() == pytest.approx(1 / P, rel=0.05)
    assert (C.abs().square().mean() / 2) == pytest.approx(1 / (P * d), rel=0.05)  # of each part
    for wrong in (1 / d, 1 / math.sqrt(P)):
        assert B.abs().square().mean() != pytest.approx(wrong, rel=0.3)
    if not conj_sym:
        real = basis @ B  # the map before the change of basis is real
        assert real.imag.abs().max() < 1e-13
        assert real.real.var() == pytest.approx(1 / P, rel=0.05)


@pytest.mark.parametrize("d", [16, 48])
def test_variances_are_those_that_jax_draws(d):
    jax = pytest.importorskip("jax", reason="jax is an optional peer")
    draw = jax.nn.initializers.lecun_normal()
    P, key = 64, jax.random.PRNGKey(0)
    B = np.concatenate([np.asarray(draw(k, (P, d))).ravel() for k in jax.random.split(key, 40)])
    C = np.concatenate([np.asarray(draw(k, (d, P, 2))).ravel() for k in jax.random.split(key, 40)])
    assert B.var() == pytest.approx(1 / P, rel=0.03)
    assert C.var() == pytest.approx(1 / (P * d), rel=0.03)


def test_steps_are_uniform_in_their_logarithm():
    steps = log_steps(20_000, 2e-3, 0.3, generator())
    low, high = math.log(2e-3), math.log(0.3)
    assert stats.kstest((steps.numpy() - low) / (high - low), "uniform").pvalue > 1e-3
    assert log_steps(3, 0.1, 0.1, generator()).tolist() == [math.log(0.1)] * 3


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.2, 0.1), (0.1, math.inf), (math.nan, 1.0)])
def test_steps_without_a_range_are_refused(bounds):
    with pytest.raises(ValueError, match="dt_min and dt_max must be 0 < dt_min <= dt_max, got "):
        log_steps(3, *bounds, generator())


def test_the_generator_decides():
    _, basis = spectrum(8, 1, True)
    for draw in (
        lambda g: input_map(basis, 3, g),
        lambda g: output_map(basis, 3, g),
        lambda g: log_steps(4, 0.1, 1.0, g),
    ):
        assert torch.equal(draw(generator(4)), draw(generator(4)))
        assert not torch.equal(draw(generator(4)), draw(generator(5)))
        torch.manual_seed(1)
        first = draw(None)
        torch.manual_seed(1)
        assert torch.equal(draw(None), first)

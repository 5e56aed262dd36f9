r"""How the weights of Event-SSM begin: the normal part of HiPPO-LegS in blocks, as in S5.

    A_nk = -sqrt((2n + 1)(2k + 1)) for n > k,   A_nn = -(n + 1),   0 above the diagonal
    p_n  = sqrt(n + 1/2),     S = A + p p^T,    S + S^T = -I
    Re(lambda) = mean(diag S) = -1/2,           Im(lambda), V = eigh(-i S)
    B~ = V^H B,   C~ = C V,   log step ~ U(log dt_min, log dt_max)

| symbol | meaning | shape | name |
|---|---|---|---|
| P | states; with conjugate symmetry P/2 numbers are stored | number | `d_state` |
| S | normal part of HiPPO-LegS | (block, block) | `hippo_normal` |
| lambda, V | eigenvalues and eigenvectors of all blocks | (state,), (P, state) | `eigenvalues`, `basis` |
| B~, C~ | input and output map, complex | (state, d_in), (d_out, state) | `input_map`, `output_map` |

S is minus one half plus something skew-symmetric: it can be diagonalised by a unitary matrix, which HiPPO
itself cannot, and all modes decay alike at first. What tells them apart are frequency and step.

The variances are those that the released code gets from its framework: 1/P for B and 1/(P d_out) for C, where
one would expect 1/d_in and 1/P.

Source: Gu et al. 2020 (HiPPO), Smith et al. 2023 (S5), the released code of arXiv:2404.18508.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Generator, Tensor

from eventbook.kernels.encoders.arguments import whole
from eventbook.models.initialization import truncated_normal


class Spectrum(NamedTuple):
    """Eigenvalues (state,) complex128 and the basis (P, state) complex128 of all blocks."""

    eigenvalues: Complex[Tensor, "state"]
    basis: Complex[Tensor, "P state"]


def hippo_legs(size: int) -> Float[Tensor, "size size"]:
    """The HiPPO-LegS matrix A, float64."""
    n = torch.arange(size, dtype=torch.float64)
    root = torch.sqrt(2 * n + 1)
    return torch.tril(-torch.outer(root, root), -1) - torch.diag(n + 1)


def hippo_normal(size: int) -> Float[Tensor, "size size"]:
    """Its normal part S = A + p p^T, float64."""
    p = torch.sqrt(torch.arange(size, dtype=torch.float64) + 0.5)
    return hippo_legs(size) + torch.outer(p, p)


def spectrum(d_state: int, blocks: int, conj_sym: bool) -> Spectrum:
    """Diagonalise the normal part, block by block.

    Parameters
    ----------
    d_state
        States P in all.
    blocks
        Equal blocks that P is divided into.
    conj_sym
        Keep one of each pair of conjugate eigenvalues: of each block, the half with the lower frequencies
        Im(lambda) < 0.

    Raises
    ------
    ValueError
        If P is not a multiple of the blocks, or a block of odd size is to be halved.
    TypeError
        If either is no whole number.
    """
    if whole(d_state, "d_state") < 1 or whole(blocks, "blocks") < 1 or d_state % blocks:
        raise ValueError(f"d_state must be a positive multiple of blocks = {blocks}, got {d_state}")
    size = d_state // blocks
    if conj_sym and size % 2:
        raise ValueError(
            f"d_state / blocks must be even for conj_sym, which keeps half of each block, got {size}"
        )
    normal = hippo_normal(size)
    frequencies, vectors = torch.linalg.eigh(-1j * normal.to(torch.complex128))
    # An eigenvector is defined up to a phase, which libraries choose differently.
    largest = vectors.abs().argmax(0)
    phase = vectors[largest, torch.arange(size)]
    vectors = vectors * (phase.abs() / phase)
    kept = size // 2 if conj_sym else size
    one = torch.complex(normal.diagonal().mean().expand(kept), frequencies[:kept])
    return Spectrum(one.repeat(blocks), torch.block_diag(*[vectors[:, :kept]] * blocks))


def input_map(
    basis: Complex[Tensor, "P state"], d_in: int, generator: Generator | None
) -> Complex[Tensor, "state d_in"]:
    """B~ = V^H B with B (P, d_in) real of variance 1/P."""
    P = basis.shape[0]
    real = truncated_normal(P, d_in, variance=1 / P, generator=generator)
    return basis.mH @ real.to(basis.dtype)


def output_map(
    basis: Complex[Tensor, "P state"], d_out: int, generator: Generator | None
) -> Complex[Tensor, "d_out state"]:
    """C~ = C V with C (d_out, P), real and imaginary parts of variance 1/(P d_out)."""
    P = basis.shape[0]
    parts = truncated_normal(d_out, P, 2, variance=1 / (P * d_out), generator=generator)
    return torch.view_as_complex(parts) @ basis


def log_steps(
    states: int, dt_min: float, dt_max: float, generator: Generator | None
) -> Float[Tensor, "state"]:
    """Logarithms of the steps, uniform between those of `dt_min` and `dt_max`, float64.

    Raises
    ------
    ValueError
        Unless 0 < dt_min <= dt_max.
    """
    if not 0 < dt_min <= dt_max < math.inf:
        raise ValueError(f"dt_min and dt_max must be 0 < dt_min <= dt_max, got {dt_min} and {dt_max}")
    unit = torch.rand(states, dtype=torch.float64, generator=generator)
    return math.log(dt_min) + unit * (math.log(dt_max) - math.log(dt_min))

r"""Does Deep Rewiring sample the posterior it claims to sample? A problem small enough to know the answer
exactly.

    E(w) = 1/2 w'Hw - b'w,    w_k = s_k [theta_k]_+
    hard:  P(c) ∝ integral over theta_c >= 0 of exp(-(E + alpha sum theta) / T),           |c| = K
    soft:  P(c) ∝ |theta_min|^(M - |c|) times the same integral over the |c| active thetas, any |c|

Exact probabilities come from Gauss-Legendre quadrature on [0, 12]^|c|, samples from long chains that call
the very step kernels that train networks.

| symbol | meaning | shape | name |
|---|---|---|---|
| H, b | quadratic energy | (M, M), (M,) | `hessian`, `linear` |
| s | signs | (M,) | `sign` |
| c | configuration: which connections are active | bit k of an integer < 2^M | `configuration` |
| K, M | budget, potential connections | int | `budget`, `linear.size` |
| alpha, T, eta | L1, temperature, learning rate | float | `l1`, `temperature`, `learning_rate` |
| theta_min | lower wall (soft rule) | float < 0 | `theta_min` |

Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018, for the statement on stationarity; the reduction
to quadrature is derived.
"""
# mypy: disable-error-code="no-untyped-def"
# Kernels are typed by Numba, at every call.

from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray as Array
from scipy.sparse import coo_matrix, identity
from scipy.sparse.linalg import splu
from scipy.special import ndtr

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.random import normal
from eventbook.kernels.rewiring.steps import (
    deep_r_step,
    deep_r_step_excluding_dropped,
    drop_negative,
    insert_at_zero,
    ranks_to_dormant,
    refill,
    soft_deep_r_step,
    soft_deep_r_step_reflecting,
    step_key,
    update_active,
)
from eventbook.learning.rewiring.deep_r import soft_theta_min, temperature_from_gdnoise
from eventbook.learning.rewiring.wiring import check_count, check_seed, resolve_budget

MOST = 24  # potential connections: 2^M configurations are counted
CELLS = 100_000  # of the grid of `clip_rule_exact`: a few seconds
UPPER = 12.0  # end of the quadrature; the density is negligible there for energies of order T
NODES = 80
EDGE, NEGLIGIBLE = 0.9, 1e-3  # beyond this part of the quadrature there must be less than this share


class Chain(NamedTuple):
    """What a long chain visited."""

    counts: Int[Array, "configurations"]  # visits of each configuration, 2^M entries
    mean_theta: Float[Array, "M"]  # time average of [theta_k]_+
    bound_violations: int  # steps with another number of active connections than K (0 for the soft rule)

    @property
    def probabilities(self) -> Float[Array, "configurations"]:
        """Visited fraction of each configuration."""
        return self.counts / self.counts.sum()


def least_squares_problem(
    potential: int, rows: int, noise: float, seed: int
) -> tuple[Float[Array, "M M"], Float[Array, "M"], Float[Array, "M"]]:
    """A random regression as (H, b, sign): H = A'A, b = A'y, y = A w* + noise, A (rows, M) standard
    normal."""
    rng = np.random.default_rng(seed)
    design = rng.standard_normal((rows, potential))
    target = design @ rng.standard_normal(potential) + noise * rng.standard_normal(rows)
    return design.T @ design, design.T @ target, rng.choice([-1.0, 1.0], potential)


def total_variation(p: Float[Array, "n"], q: Float[Array, "n"]) -> float:
    """Half the sum of absolute differences; ValueError unless p and q have the same events."""
    if np.shape(p) != np.shape(q):
        raise ValueError(f"q must have the shape of p, {np.shape(p)}, got {np.shape(q)}")
    return float(np.abs(np.asarray(p) - np.asarray(q)).sum() / 2)


def configuration_of(active: tuple[int, ...]) -> int:
    """Connections as bits of an integer, the index into all arrays of probabilities."""
    return sum(1 << k for k in active)


def _integrals(
    active: tuple[int, ...], hessian: Array, linear: Array, sign: Array, l1: float, temperature: float
) -> Array:
    """Integral of exp(-(E + alpha sum theta) / T) over the active thetas, of theta_k times it for each of
    them, and what of it lies near the end of the quadrature."""
    if not active:
        return np.array([1.0, 0.0])  # energy 0, nothing to integrate over
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    nodes, weights = (nodes + 1) * UPPER / 2, weights * UPPER / 2
    chosen = list(active)
    theta = np.stack(np.meshgrid(*[nodes] * len(chosen), indexing="ij"), -1).reshape(-1, len(chosen))
    measure = np.ones(1)
    for _ in chosen:
        measure = np.multiply.outer(measure, weights).reshape(-1)
    weight = theta * sign[chosen]
    energy = 0.5 * np.einsum("ni,ij,nj->n", weight, hessian[np.ix_(chosen, chosen)], weight)
    energy += l1 * theta.sum(1) - weight @ linear[chosen]
    with np.errstate(over="ignore"):
        density = measure * np.exp(-energy / temperature)
    edge = density[(theta > EDGE * UPPER).any(1)].sum()
    return np.concatenate([[density.sum()], density @ theta, [edge]])


def _exact(
    configurations: list[tuple[int, ...]], hessian: Array, linear: Array, sign: Array, l1: float,
    temperature: float, dormant_mass: float,
) -> tuple[Array, Array]:  # fmt: skip
    potential = linear.size
    probability, mean_theta, edge = np.zeros(2**potential), np.zeros(potential), 0.0
    for active in configurations:
        moments = _integrals(active, hessian, linear, sign, l1, temperature)
        moments *= dormant_mass ** (potential - len(active))
        probability[configuration_of(active)] = moments[0]
        mean_theta[list(active)] += moments[1:-1]
        edge += moments[-1]
    total = probability.sum()
    if not (0.0 < total < np.inf and edge < NEGLIGIBLE * total):
        raise ValueError(
            f"temperature and l1 must give a law that lies within theta < {UPPER:g}, where it is integrated, "
            f"got {temperature:g} and {l1:g}"
        )
    return probability / total, mean_theta / total


def _check_problem(hessian: Array, linear: Array, sign: Array, l1: float, temperature: float) -> None:
    m = linear.size
    if linear.shape != (m,) or not 1 <= m <= MOST:
        raise ValueError(f"linear must be a vector of 1 to {MOST} numbers, got shape {linear.shape}")
    if hessian.shape != (m, m) or sign.shape != (m,):
        raise ValueError(f"hessian must be ({m}, {m}) and sign ({m},), got {hessian.shape} and {sign.shape}")
    if not (np.isfinite(hessian).all() and np.isfinite(linear).all()):
        raise ValueError("hessian and linear must be finite, got inf or nan")
    if not np.allclose(hessian, hessian.T):
        raise ValueError("hessian must be symmetric, got another matrix")
    if not np.isin(sign, (-1, 1)).all():
        raise ValueError(f"sign must be -1 or 1, got {sign}")
    if not np.isfinite(l1):
        raise ValueError(f"l1 must be finite, got {l1}")
    _check_positive(temperature=temperature)


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0.0 < number < np.inf:
            raise ValueError(f"{name} must be > 0 and finite, got {number}")


def _recorded_from(steps: int, burn_in: float) -> int:
    """First step that is recorded; ValueError unless there is one."""
    check_count("steps", steps)
    if not 0.0 <= burn_in < 1.0:
        raise ValueError(f"burn_in must be in [0, 1), a fraction of the steps, got {burn_in}")
    return int(burn_in * steps)


def exact_configuration_probabilities(
    hessian: Float[Array, "M M"],
    linear: Float[Array, "M"],
    sign: Float[Array, "M"],
    budget: int,
    l1: float,
    temperature: float,
) -> tuple[Float[Array, "configurations"], Float[Array, "M"]]:
    """Stationary law of hard DEEP R as eta -> 0: P(c) over all 2^M configurations (0 unless |c| = K), and
    E[theta].

    Costs NODES^K evaluations per configuration: meant for K <= 3.
    """
    _check_problem(hessian, linear, sign, l1, temperature)
    resolve_budget(None, budget, linear.size)
    configurations = list(combinations(range(linear.size), budget))
    return _exact(configurations, hessian, linear, sign, l1, temperature, 1.0)


def exact_pattern_probabilities(
    hessian: Float[Array, "M M"],
    linear: Float[Array, "M"],
    sign: Float[Array, "M"],
    l1: float,
    temperature: float,
    theta_min: float,
) -> tuple[Float[Array, "configurations"], Float[Array, "M"]]:
    """Stationary law of soft-DEEP R as eta -> 0: P(c) over all 2^M patterns, and E[[theta]_+]; meant for M
    <= 3."""
    _check_problem(hessian, linear, sign, l1, temperature)
    _check_wall(theta_min)
    configurations = [c for size in range(linear.size + 1) for c in combinations(range(linear.size), size)]
    return _exact(configurations, hessian, linear, sign, l1, temperature, -theta_min)


def _check_wall(theta_min: float) -> None:
    if not -np.inf < theta_min < 0:
        raise ValueError(f"theta_min must be < 0, got {theta_min}")


@kernel()
def _gradient_of_active(theta, index, hessian, linear, sign, gradient):
    """dE/dtheta of the stored connections. Relies on indices below the size of the problem."""
    for k in range(index.size):
        slope = -linear[index[k]]
        for j in range(index.size):
            slope += hessian[index[k], index[j]] * sign[index[j]] * max(theta[j], 0.0)
        gradient[k] = sign[index[k]] * slope


@kernel()
def _record(theta, index, budget, counts, mean_theta):
    """Count the configuration, add [theta]_+; returns 1 if the number of active connections is not the
    budget. Relies on indices below the size of the problem.
    """
    configuration, active = 0, 0
    for k in range(index.size):
        if theta[k] >= 0:
            configuration |= 1 << index[k]
            active += 1
            mean_theta[index[k]] += theta[k]
    counts[configuration] += 1
    return int(active != budget)


@kernel()
def _hard_chain(theta, index, hessian, linear, sign, l1, lr, noise, steps, burn_in, seed, counts, mean):
    """Relies on indices below the size of the problem, which `_run` makes."""
    gradient, violations = np.empty_like(theta), 0
    for step in range(steps):
        _gradient_of_active(theta, index, hessian, linear, sign, gradient)
        deep_r_step(theta, index, gradient, linear.size, seed, 0, step, lr, l1, noise)
        if step >= burn_in:
            violations += _record(theta, index, theta.size, counts, mean)
    return violations


@kernel()
def _excluding_chain(theta, index, hessian, linear, sign, l1, lr, noise, steps, burn_in, seed, counts, mean):
    """Relies on indices below the size of the problem, which `_run` makes."""
    gradient, violations = np.empty_like(theta), 0
    for step in range(steps):
        _gradient_of_active(theta, index, hessian, linear, sign, gradient)
        deep_r_step_excluding_dropped(theta, index, gradient, linear.size, seed, 0, step, lr, l1, noise)
        if step >= burn_in:
            violations += _record(theta, index, theta.size, counts, mean)
    return violations


@kernel()
def _biased_step(theta, index, gradient, potential, seed, stream, step, learning_rate, l1, noise):
    """A wrong DEEP R, for a negative control: every other lottery goes to the first dormant connections.

    Relies on ascending indices below `potential`.
    """
    update_active(theta, gradient, index, seed, stream, step, learning_rate, l1, noise)
    kept = drop_negative(theta, index)
    key = step_key(seed, stream, step, 1)
    if step % 2 == 0:
        refill(theta, index, kept, potential, key)
    else:
        first = np.arange(theta.size - kept)
        ranks_to_dormant(first, index[:kept])
        insert_at_zero(theta, index, kept, first)


@kernel()
def _biased_chain(theta, index, hessian, linear, sign, l1, lr, noise, steps, burn_in, seed, counts, mean):
    """Relies on indices below the size of the problem, which `_run` makes."""
    gradient, violations = np.empty_like(theta), 0
    for step in range(steps):
        _gradient_of_active(theta, index, hessian, linear, sign, gradient)
        _biased_step(theta, index, gradient, linear.size, seed, 0, step, lr, l1, noise)
        if step >= burn_in:
            violations += _record(theta, index, theta.size, counts, mean)
    return violations


@kernel()
def _soft_chain(
    theta, index, hessian, linear, sign, l1, lr, noise, theta_min, steps, burn_in, seed, counts, mean
):
    """Relies on indices below the size of the problem, which `_run` makes."""
    gradient, violations = np.empty_like(theta), 0
    for step in range(steps):
        _gradient_of_active(theta, index, hessian, linear, sign, gradient)
        soft_deep_r_step_reflecting(theta, gradient, seed, 0, step, lr, l1, noise, theta_min)
        if step >= burn_in:
            # no budget here: any number of active connections is right
            violations += _record(theta, index, np.sum(theta >= 0), counts, mean)
    return violations


def _run(chain, hessian, linear, sign, stored, settings, steps, burn_in, seed) -> Chain:
    resolve_budget(None, stored, linear.size)
    recorded_from, seed = _recorded_from(steps, burn_in), check_seed(seed)
    counts, mean_theta = np.zeros(2**linear.size, np.int64), np.zeros(linear.size)
    theta, index = np.zeros(stored), np.arange(stored, dtype=np.int64)
    violations = chain(
        theta, index, hessian, linear, sign, *settings, steps, recorded_from, seed, counts, mean_theta
    )
    return Chain(counts, mean_theta / counts.sum(), violations)


def _langevin_noise(learning_rate: float, temperature: float) -> float:
    _check_positive(learning_rate=learning_rate, temperature=temperature)
    return float(np.sqrt(2 * learning_rate * temperature))


def sample_deep_r(
    hessian: Float[Array, "M M"],
    linear: Float[Array, "M"],
    sign: Float[Array, "M"],
    budget: int,
    l1: float,
    temperature: float,
    *,
    learning_rate: float,
    steps: int,
    burn_in: float = 0.05,
    seed: int = 0,
) -> Chain:
    """Run DEEP R on the quadratic energy, float64.

    Parameters
    ----------
    hessian, linear, sign, budget, l1, temperature
        The problem, see the head of this file.
    learning_rate, steps
        Step size eta, number of steps.
    burn_in
        Fraction of the steps that is not recorded.
    """
    _check_problem(hessian, linear, sign, l1, temperature)
    settings = (l1, learning_rate, _langevin_noise(learning_rate, temperature))
    return _run(_hard_chain, hessian, linear, sign, budget, settings, steps, burn_in, seed)


def sample_deep_r_excluding_dropped(
    hessian: Float[Array, "M M"],
    linear: Float[Array, "M"],
    sign: Float[Array, "M"],
    budget: int,
    l1: float,
    temperature: float,
    *,
    learning_rate: float,
    steps: int,
    burn_in: float = 0.05,
    seed: int = 0,
) -> Chain:
    """As `sample_deep_r`, with the lottery among connections that were not just dropped (2 K <= M)."""
    _check_problem(hessian, linear, sign, l1, temperature)
    if 2 * budget > linear.size:
        raise ValueError(f"budget must be at most M/2 = {linear.size / 2} for this lottery, got {budget}")
    settings = (l1, learning_rate, _langevin_noise(learning_rate, temperature))
    return _run(_excluding_chain, hessian, linear, sign, budget, settings, steps, burn_in, seed)


def sample_biased_deep_r(
    hessian: Float[Array, "M M"],
    linear: Float[Array, "M"],
    sign: Float[Array, "M"],
    budget: int,
    l1: float,
    temperature: float,
    *,
    learning_rate: float,
    steps: int,
    burn_in: float = 0.05,
    seed: int = 0,
) -> Chain:
    """A negative control: every other lottery goes to the first dormant one, and the law comes out wrong."""
    _check_problem(hessian, linear, sign, l1, temperature)
    settings = (l1, learning_rate, _langevin_noise(learning_rate, temperature))
    return _run(_biased_chain, hessian, linear, sign, budget, settings, steps, burn_in, seed)


def sample_soft_deep_r(
    hessian: Float[Array, "M M"],
    linear: Float[Array, "M"],
    sign: Float[Array, "M"],
    l1: float,
    temperature: float,
    theta_min: float,
    *,
    learning_rate: float,
    steps: int,
    burn_in: float = 0.05,
    seed: int = 0,
) -> Chain:
    """Run soft-DEEP R, reflecting at theta_min, on the quadratic energy, float64."""
    _check_problem(hessian, linear, sign, l1, temperature)
    _check_wall(theta_min)
    settings = (l1, learning_rate, _langevin_noise(learning_rate, temperature), theta_min)
    return _run(_soft_chain, hessian, linear, sign, linear.size, settings, steps, burn_in, seed)


@kernel()
def _reflected_chain(l1, lr, noise, seed, thin, samples):
    key = step_key(seed, 0, 0, 0)
    theta, step = 0.0, 0
    for i in range(samples.size):
        for _ in range(thin):
            theta = abs(theta - lr * l1 + noise * normal(key, step))
            step += 1
        samples[i] = theta


def reflected_langevin(
    l1: float, temperature: float, *, learning_rate: float, samples: int, thin: int = 1, seed: int = 0
) -> Float[Array, "samples"]:
    """One connection with zero loss, reflected at 0: its density is beta exp(-beta theta), beta = alpha /
    T."""
    _check_positive(l1=l1)
    check_count("samples", samples)
    check_count("thin", thin)
    out = np.empty(samples)
    _reflected_chain(
        l1, learning_rate, _langevin_noise(learning_rate, temperature), check_seed(seed), thin, out
    )
    return out


@kernel()
def _occupancy(theta, l1, lr, noise, theta_min, steps, burn_in, seed):
    gradient = np.zeros_like(theta)
    active = 0
    for step in range(steps):
        soft_deep_r_step(theta, gradient, seed, 0, step, lr, l1, noise, theta_min)
        if step >= burn_in:
            for k in range(theta.size):
                active += theta[k] > 0
    return active / (theta.size * (steps - burn_in))


def clip_rule_occupancy(
    connectivity: float,
    l1: float,
    gdnoise: float,
    *,
    learning_rate: float = 0.05,
    connections: int = 1000,
    steps: int = 20_000,
    burn_in: float = 0.25,
    seed: int = 0,
) -> float:
    """Measured P(theta > 0) of soft-DEEP R at zero loss, where the clip rule promises `connectivity`.

    The rule is exact for fine steps; one noise step over the length 1 / beta is 2 l1 / gdnoise. All
    connections start uniformly on the whole of [theta_min, 1 / beta].
    """
    _check_positive(l1=l1, gdnoise=gdnoise, learning_rate=learning_rate)
    check_count("connections", connections)
    recorded_from = _recorded_from(steps, burn_in)
    temperature = temperature_from_gdnoise(learning_rate, gdnoise)
    theta_min = soft_theta_min(connectivity, l1, temperature)
    theta = np.random.default_rng(seed).uniform(theta_min, temperature / l1, connections)
    noise = learning_rate * gdnoise
    return float(
        _occupancy(theta, l1, learning_rate, noise, theta_min, steps, recorded_from, check_seed(seed))
    )


def clip_rule_exact(connectivity: float, step_ratio: float, *, cells_per_step: int = 6) -> float:
    """Stationary P(theta > 0) of soft-DEEP R at zero loss for steps of finite length, without sampling.

    In units of 1 / beta the chain depends on the target p and on the length r of a noise step alone:
    theta <- max(theta - [theta > 0] r^2 / 2 + r nu, theta_min), theta_min = -(1 - p) / p. Its transition
    matrix on a
    grid is banded; its stationary law solves a banded linear system.

    Parameters
    ----------
    connectivity
        Target p in (0, 1).
    step_ratio
        r, the standard deviation of the noise over 1 / beta; 2 l1 / gdnoise.
    cells_per_step
        Resolution of the grid.
    """
    if not (0.0 < connectivity < 1.0 and 0.0 < step_ratio < np.inf):
        raise ValueError(f"connectivity must be in (0, 1), step_ratio > 0, got {connectivity}, {step_ratio}")
    check_count("cells_per_step", cells_per_step)
    lower, upper = -(1 - connectivity) / connectivity, 12.0 + 8.0 * step_ratio
    width = step_ratio / cells_per_step
    if not (upper - lower) / width <= CELLS:
        raise ValueError(
            f"the grid must have at most {CELLS} cells, got {(upper - lower) / width:.3g}: connectivity or "
            "step_ratio is too small, or cells_per_step too large"
        )
    below = int(np.ceil(-lower / width))  # cells between the wall and zero; the wall itself is a place, too
    width = -lower / below
    centres = np.concatenate([[lower], np.arange(lower, upper, width) + width / 2])
    edges = np.concatenate([[-np.inf, lower], np.arange(lower, upper, width)[1:], [np.inf]])
    means = centres - np.where(centres > 0, step_ratio**2 / 2, 0.0)
    reach = int(np.ceil(8 * cells_per_step)) + int(np.ceil(step_ratio**2 / 2 / width)) + 2
    rows, columns, values = [], [], []
    for i, mean in enumerate(means):
        first, last = max(0, i - reach), min(centres.size, i + reach)
        mass = np.diff(ndtr((edges[first : last + 1] - mean) / step_ratio))
        if first > 0:
            mass[0] += ndtr((edges[first] - mean) / step_ratio)
        rows.append(np.arange(first, last))
        columns.append(np.full(last - first, i))
        values.append(mass / mass.sum())
    n = centres.size
    flow = coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (n, n)
    ).tocsc()
    # law = flow law, up to a factor: give the wall the mass 1 and solve for the other cells; the matrix is
    # banded
    others = splu((identity(n - 1, format="csc") - flow[1:, 1:]).tocsc(), permc_spec="NATURAL")
    law = np.concatenate([[1.0], others.solve(flow[1:, 0].toarray().ravel())])
    return float(law[centres > 0].sum() / law.sum())

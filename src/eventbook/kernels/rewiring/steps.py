r"""One step of Deep Rewiring over K stored connections, in time and memory O(K) whatever the size of the
layer.

    theta_k <- theta_k - eta (dE/dtheta_k + alpha) + sigma nu_k        for active k (theta_k >= 0)
    every k with theta_k < 0 becomes dormant; dormant connections, drawn uniformly, replace them at theta = 0

| symbol | meaning | shape | name |
|---|---|---|---|
| theta_k | parameter of a connection; active means theta_k >= 0 | (K,) | `theta` |
| k | flat index i n_in + j of a potential connection, ascending | (K,) int64 | `index` |
| dE/dtheta_k | gradient, s_k dE/dw_k | (K,) | `gradient` |
| K, M | stored, potential connections | int | `theta.size`, `potential` |
| eta, alpha | learning rate, L1 strength | float | `learning_rate`, `l1` |
| sigma | standard deviation of the noise, sqrt(2 eta T) | float | `noise` |
| nu_k | standard normal of (seed, stream, step, k) | - | `normal` |

The lottery is exact and never rejects a draw because it hit an active connection: n distinct ranks among the
dormant connections are drawn by Floyd's method, and one walk through the gaps of the sorted active indices
turns ranks into flat indices. It costs O(K) at every density, up to K = M.

Random numbers depend on (seed, stream, step) and the connection alone: `stream` tells layers apart.

Source: Bellec, Kappel, Maass and Legenstein, ICLR 2018 (DEEP R and soft-DEEP R); the authors' code for
the global budget. Floyd's method: Bentley and Floyd, Communications of the ACM 1987. The walk is derived.
"""
# mypy: disable-error-code="no-untyped-def"
# Kernels are typed by Numba, at every call.

import numpy as np

from eventbook.kernels.machinery.compile import kernel
from eventbook.kernels.machinery.doors import door
from eventbook.kernels.machinery.random import derive, normal, normals_at, uniform, uniform_below
from eventbook.kernels.rewiring.checks import (
    check_connections,
    check_dormant,
    check_drop,
    check_gradient,
    check_half,
    check_half_step,
    check_insert,
    check_keep,
    check_layers,
    check_parallel,
    check_ranks,
    check_refill,
    check_step,
    check_update,
)

_NOISE, _LOTTERY = 0, 1  # what a random number of one step is for


@kernel()
def step_key(seed, stream, step, purpose):
    """Key of the random numbers for one purpose (0 noise, 1 lottery) of one step of one layer."""
    return derive(derive(derive(seed, stream), step), purpose)


@door(check_update)
@kernel()
def update_active(theta, gradient, index, seed, stream, step, learning_rate, l1, noise):
    """theta_k <- theta_k - eta (dE/dtheta_k + alpha) + sigma nu_k in place, where theta_k >= 0."""
    if noise == 0.0:
        for k in range(theta.size):
            moved = theta[k] - learning_rate * (gradient[k] + l1)
            theta[k] = theta[k] if theta[k] < 0 else moved
    else:
        key = step_key(seed, stream, step, _NOISE)
        for k in range(theta.size):
            moved = theta[k] - learning_rate * (gradient[k] + l1) + noise * normal(key, index[k])
            theta[k] = theta[k] if theta[k] < 0 else moved


@door(check_keep)
@kernel()
def keep_where(keep, values, index):
    """Move the connections with keep[k] to the front, in order; return how many they are."""
    kept = 0
    for k in range(values.size):
        values[kept], index[kept] = values[k], index[k]
        kept += keep[k]
    return kept


@door(check_drop)
@kernel()
def drop_negative(theta, index):
    """Move the connections with theta >= 0 to the front, in order; return how many they are.

    A theta that is not a number stays, so that a diverged run is reported and not rewired away.
    """
    kept = 0
    for k in range(theta.size):
        value = theta[k]
        theta[kept], index[kept] = value, index[k]
        kept += not (value < 0)
    return kept


@door(check_ranks)
@kernel()
def distinct_ranks(n, size, key, ranks):
    """Fill ranks[:n] with a uniform random subset of {0, ..., size - 1}, ascending (n <= size).

    Floyd's method needs a set. This one places rank r near slot r 2n / size, so that reading it out is
    almost a sort already.
    """
    cells = 2 * n
    table = np.full(
        cells + n, -1, np.int64
    )  # probing runs to the right, at most n slots beyond the last cell
    scale = cells / size
    for draw in range(n):
        last = size - n + draw
        rank = uniform_below(key, draw, last + 1)
        slot = np.int64(rank * scale)
        while table[slot] >= 0 and table[slot] != rank:
            slot += 1
        if table[slot] == rank:  # drawn before: Floyd takes the last one, which cannot have been
            rank = last
            slot = np.int64(rank * scale)
            while table[slot] >= 0:
                slot += 1
        table[slot] = rank
    count = 0
    for cell in range(table.size):
        rank = table[cell]
        if rank >= 0:
            place = count
            while place > 0 and ranks[place - 1] > rank:
                ranks[place] = ranks[place - 1]
                place -= 1
            ranks[place] = rank
            count += 1


@door(check_dormant)
@kernel()
def ranks_to_dormant(ranks, taken):
    """Turn sorted ranks among indices not in sorted `taken` into these, in place."""
    passed = 0
    for j in range(ranks.size):
        while passed < taken.size and taken[passed] - passed <= ranks[j]:
            passed += 1
        ranks[j] += passed


@door(check_insert)
@kernel()
def insert_at_zero(theta, index, kept, new):
    """Merge ascending `new` connections at theta = 0 into the first `kept`, from the back and in place."""
    i, j, k = kept - 1, new.size - 1, kept + new.size - 1
    while j >= 0:
        if i >= 0 and index[i] > new[j]:
            theta[k], index[k] = theta[i], index[i]
            i -= 1
        else:
            theta[k], index[k] = 0, new[j]
            j -= 1
        k -= 1


@door(check_refill)
@kernel()
def refill(theta, index, kept, potential, key):
    """Fill the places behind the first `kept` with dormant connections, drawn uniformly."""
    new = np.empty(theta.size - kept, np.int64)
    if new.size > 0:
        distinct_ranks(new.size, potential - kept, key, new)
        ranks_to_dormant(new, index[:kept])
        insert_at_zero(theta, index, kept, new)


@door(check_connections)
@kernel()
def rewire(theta, index, potential, seed, stream, step):
    """Drop and refill; the dropped take part in the lottery. Returns their number."""
    kept = drop_negative(theta, index)
    if kept < theta.size:
        refill(theta, index, kept, potential, step_key(seed, stream, step, _LOTTERY))
    return theta.size - kept


@door(check_half)
@kernel()
def rewire_excluding_dropped(theta, index, potential, seed, stream, step):
    """Drop and refill; a connection dropped in this very step takes no part in the lottery (needs 2 K <=
    M)."""
    n = 0
    for k in range(theta.size):
        n += theta[k] < 0
    if n > 0:
        new = np.empty(n, np.int64)
        distinct_ranks(n, potential - theta.size, step_key(seed, stream, step, _LOTTERY), new)
        ranks_to_dormant(new, index)
        kept = drop_negative(theta, index)
        insert_at_zero(theta, index, kept, new)
    return n


@door(check_step)
@kernel()
def deep_r_step(theta, index, gradient, potential, seed, stream, step, learning_rate, l1, noise):
    """One step of DEEP R in place.

    Parameters
    ----------
    theta : (K,) float32 or float64
    index : (K,) int64, ascending, within [0, potential)
    gradient : (K,), dE/dtheta
    potential : int, M
    seed, stream, step : int >= 0, name the random numbers
    learning_rate, l1, noise : float; noise is a standard deviation, sqrt(2 eta T)

    Returns
    -------
    int
        How many connections were replaced.
    """
    update_active(theta, gradient, index, seed, stream, step, learning_rate, l1, noise)
    return rewire(theta, index, potential, seed, stream, step)


@door(check_half_step)
@kernel()
def deep_r_step_excluding_dropped(
    theta, index, gradient, potential, seed, stream, step, learning_rate, l1, noise
):
    """As `deep_r_step`, but the connections just dropped take no part in the lottery (needs 2 K <= M)."""
    update_active(theta, gradient, index, seed, stream, step, learning_rate, l1, noise)
    return rewire_excluding_dropped(theta, index, potential, seed, stream, step)


@door(check_gradient)
@kernel()
def soft_deep_r_step(theta, gradient, seed, stream, step, learning_rate, l1, noise, theta_min):
    """One step of soft-DEEP R over all M connections, in place, clipped at theta_min (as the authors do).

    Noise acts on every connection, gradient and L1 where theta > 0.
    """
    key = step_key(seed, stream, step, _NOISE)
    for k in range(theta.size):
        drift = learning_rate * (gradient[k] + l1) if theta[k] > 0 else 0.0
        theta[k] = max(theta[k] - drift + noise * normal(key, k), theta_min)


@door(check_gradient)
@kernel()
def soft_deep_r_step_reflecting(theta, gradient, seed, stream, step, learning_rate, l1, noise, theta_min):
    """As `soft_deep_r_step`, but reflected at theta_min: less biased at coarse steps."""
    key = step_key(seed, stream, step, _NOISE)
    for k in range(theta.size):
        drift = learning_rate * (gradient[k] + l1) if theta[k] > 0 else 0.0
        moved = theta[k] - drift + noise * normal(key, k)
        theta[k] = moved if moved >= theta_min else 2.0 * theta_min - moved


@door(check_layers)
@kernel()
def draw_layers(n, score, room, seed, stream, step):
    """Assign n new connections to layers: layer l with probability proportional to score[l] while it has
    room.

    Parameters
    ----------
    score : (layers,) float64, size_l p_l in the authors' code
    room : (layers,) int64, dormant connections of each layer; their sum is at least n

    Returns
    -------
    (layers,) int64
    """
    key = step_key(seed, stream, step, _LOTTERY)
    counts = np.zeros(score.size, np.int64)
    for draw in range(n):
        total = 0.0
        for layer in range(score.size):
            total += score[layer] if counts[layer] < room[layer] else 0.0
        left = uniform(key, draw) * total
        chosen = -1
        for layer in range(score.size):
            if counts[layer] < room[layer] and left >= 0.0:
                chosen = layer
                left -= score[layer]
        counts[chosen] += 1
    return counts


@door(check_parallel)
@kernel()
def count_active(theta, index, potential):
    """Number of connections with theta >= 0; -1 if indices are not strictly ascending within [0,
    potential)."""
    active, before = 0, np.int64(-1)
    for k in range(theta.size):
        if index[k] <= before or index[k] >= potential:
            return -1
        before = index[k]
        active += theta[k] >= 0
    return active


def distinct_ranks_reference(n, size, key):
    """Readable twin of `distinct_ranks`: Floyd's method with a set."""
    chosen: set[int] = set()
    for draw in range(n):
        last = size - n + draw
        rank = int(uniform_below(key, draw, last + 1))
        chosen.add(last if rank in chosen else rank)
    return np.array(sorted(chosen), np.int64)


# A page of the book shows this function and holds 86 columns; the formatter would join its lines.
# fmt: off
def deep_r_step_reference(
    theta, index, gradient, potential, seed, stream, step, learning_rate, l1, noise
):
    """Readable twin of `deep_r_step`, in O(M); new theta and index, n replaced."""
    nu = np.empty(theta.size)
    normals_at(np.uint64(step_key(seed, stream, step, _NOISE)), index, nu)
    drift = learning_rate * (gradient + l1)
    theta = np.where(theta >= 0, theta - drift + noise * nu, theta)
    kept = theta >= 0
    dormant = np.setdiff1d(np.arange(potential), index[kept])
    n = int(np.sum(~kept))
    key = np.uint64(step_key(seed, stream, step, _LOTTERY))  # Numba gives an int
    new = dormant[distinct_ranks_reference(n, dormant.size, key)]
    index = np.concatenate([index[kept], new])
    theta = np.concatenate([theta[kept], np.zeros(n)])
    order = np.argsort(index)
    return theta[order], index[order], n
# fmt: on


def soft_deep_r_step_reference(theta, gradient, seed, stream, step, learning_rate, l1, noise, theta_min):
    """Readable twin of `soft_deep_r_step`; returns the new theta (M,)."""
    nu = np.empty(theta.size)
    normals_at(np.uint64(step_key(seed, stream, step, _NOISE)), np.arange(theta.size), nu)
    drift = np.where(theta > 0, learning_rate * (gradient + l1), 0.0)
    return np.maximum(theta - drift + noise * nu, theta_min)

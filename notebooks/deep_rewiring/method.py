# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Method: sampling a network under a budget
#
# A network may have $M$ connections, but there is room for $K$ of them. Which $K$? Pruning answers by training all $M$ first.
# Deep Rewiring {cite}`bellec2018deep` never has more than $K$, from the first step to the last: it lets
# connections die, replaces each by one drawn at random, and claims that this is no heuristic but a sampler, which visits
# every wiring as often as the data and the prior say it should.
#
# A claim like that can be checked exactly on problems that are small enough. This page does so.

# %% tags=["remove-cell"]
# On Colab the package is missing: fetch the project, install what else is missing.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("eventbook") is None:
    home = os.path.abspath("eventbook-main")  # "eventbook" would pass for the package
    if not os.path.isdir(home):
        source = "https://github.com/eventbook/eventbook"
        subprocess.check_call(["git", "clone", "--depth", "1", source, home])
    subprocess.check_call([sys.executable, f"{home}/scripts/install_missing.py"])
    importlib.invalidate_caches()
    sys.path.insert(0, f"{home}/src")
    os.chdir(f"{home}/notebooks/deep_rewiring")

# %% tags=["parameters"]
chain_steps: int = 10000000  # steps of each long chain
chain_rate: float = 1e-3  # step size eta of the long chains
chain_temperature: float = 1.0  # temperature T of the sampled posterior
chain_l1: float = 0.5  # L1 strength alpha of the sampled posterior
rates: list[float] = [0.1, 0.01, 0.001]  # step sizes for the convergence figure
chain_seed: int = 0  # seed of all chains

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import torch

from eventbook.companion.notebook import PALETTE, bound, record, show_code, use_theme
from eventbook.kernels.rewiring import steps
from eventbook.learning.rewiring import posterior
from eventbook.learning.rewiring.deep_r import (
    DeepR,
    SparseLinear,
    temperature_from_gdnoise,
)
from eventbook.learning.rewiring.mlp_classifier import sparse_mlp

torch.set_num_threads(1)
use_theme()

# %% [markdown]
# ## One connection
#
# Every potential connection $k$ has a parameter $\theta_k$ and a sign $s_k \in \{-1, +1\}$ that is drawn once and for ever. The
# connection is active while $\theta_k \ge 0$ and then has the weight $w_k = s_k \theta_k$; otherwise it is dormant
# and has none. With a loss $E$ and the prior $e^{-\alpha \theta}$, the parameter of an active connection moves like a
# particle in a viscous medium of temperature $T$,
#
# $$\theta_k \leftarrow \theta_k - \eta \, \frac{\partial E}{\partial \theta_k} - \eta \, \alpha + \sqrt{2 \eta T} \; \nu_k ,
# \qquad \nu_k \sim \mathcal{N}(0, 1).$$ (eq-dr-step)
#
# Take the loss away and put a wall at zero. What is left falls at a constant speed, is kicked about, and bounces. In the
# long run it is found at height $\theta$ with probability density $\beta e^{-\beta \theta}$, where $\beta = \alpha / T$.

# %%
heights = posterior.reflected_langevin(
    2.0, 1.0, learning_rate=1e-3, samples=40_000, thin=500, seed=chain_seed
)

# %% mystnb={"figure": {"caption": "One connection without loss: histogram of its parameter (20 million steps) and the exponential law.", "name": "fig-dr-langevin"}, "image": {"alt": "A histogram that follows an exponential curve"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.4, 3.0))
axis.hist(
    heights, bins=60, range=(0, 3), density=True, color=PALETTE["sky"], label="chain"
)
grid = np.linspace(0, 3, 200)
axis.plot(
    grid,
    2 * np.exp(-2 * grid),
    color=PALETTE["black"],
    label=r"$\beta e^{-\beta\theta}$, $\beta = 2$",
)
axis.set(xlabel=r"$\theta$", ylabel="density")
axis.legend()
plt.show()

# %%
ordered = np.sort(heights)
exact_law = 1 - np.exp(-2 * ordered)
record(
    dr_langevin_distance=np.abs(
        np.arange(1, ordered.size + 1) / ordered.size - exact_law
    ).max()
)

# %% [markdown]
# ## The algorithm
#
# Now let there be $K$ of them, and no wall. A parameter that becomes negative means that the connection is dropped, and a
# dormant one, drawn uniformly, takes its place at $\theta = 0$. That is all of Deep Rewiring. In numbers:

# %%
show_code(steps.deep_r_step_reference)

# %% [markdown]
# This readable version looks at all $M$ potential connections in order to find the dormant ones. The kernel
# that trains networks stores only $K$ indices and parameters: it draws *ranks* among the dormant connections and finds
# them by one walk through the gaps between the active ones, which costs $O(K)$ at any size of the layer.
#
# ```{margin} Zero, or a little above
# The authors' code tests $\theta > 0$ and revives connections at $10^{-12}$; the description has $\theta \ge 0$ and revival at
# zero. Both are consistent. Mixing them is not, as the control below shows.
# ```

# %%
show_code(steps.rewire, steps.ranks_to_dormant)

# %% [markdown]
# Step by step, on a layer with eight potential connections and room for three:

# %% tags=["hide-input"]
theta, index = np.array([0.30, 0.10, 0.02]), np.array([1, 4, 6])
lines = []
for step in range(6):
    lines.append(
        "  ".join(
            f"{theta[list(index).index(k)]:5.2f}" if k in index else "    ."
            for k in range(8)
        )
    )
    pull = np.array([0.02, 0.01, 0.03])
    steps.deep_r_step(theta, index, pull, 8, 7, 0, step, 1.0, 0.02, 0.04)
print("step   " + "  ".join(f"  k={k}" for k in range(8)))
for step, line in enumerate(lines):
    print(f"{step:4d}   {line}")

# %% [markdown]
# The compiled step has to be the readable step. And the gradient that drives it has to be the one that automatic
# differentiation finds on the dense network, masked: both are compared in double precision, on a layer from 30 to 20 units with
# a tenth of its connections, over 300 steps with the same random numbers.

# %%
layer = SparseLinear(30, 20, connectivity=0.1, dtype=torch.float64, seed=3)
rng = np.random.default_rng(0)
error = 0.0
theta_twin, index_twin = (
    layer.theta.detach().numpy().copy(),
    layer.index.numpy().copy(),
)
optimizer = DeepR(layer, lr=0.05, l1=1e-3, temperature=1e-4, seed=5)
for step in range(300):
    x, target = (torch.from_numpy(rng.standard_normal((16, n))) for n in (30, 20))
    optimizer.zero_grad()
    (layer(x) - target).square().mean().backward()
    # the same by automatic differentiation of the dense, masked matrix
    dense = layer.to_dense().requires_grad_()
    (x @ dense.T - target).square().mean().backward()
    masked = dense.grad.view(-1)[layer.index] * layer.sign
    error = max(error, float((layer.theta.grad - masked).abs().max()))
    before = (theta_twin, index_twin, masked.numpy(), 600, 5, 0, step)
    noise = (2 * 0.05 * 1e-4) ** 0.5
    theta_twin, index_twin, _ = steps.deep_r_step_reference(
        *before, 0.05, 1e-3, noise
    )
    optimizer.step()
    assert np.array_equal(index_twin, layer.index.numpy()), (
        f"other connections were drawn in step {step}"
    )
    error = max(error, float(np.abs(theta_twin - layer.theta.detach().numpy()).max()))
record(dr_twin_error=bound(error), dr_twin_rewired=optimizer.total_rewired)

# %% [markdown]
# In these steps {glue:text}`dr_twin_rewired` connections were replaced, each by the same one in both.
#
# ## Does it sample the posterior?
#
# With a wall at zero for every connection the dynamics would sample the density
#
# $$p^*(\theta)^{1/T} \propto \exp\!\Big(-\frac{E(w(\theta)) + \alpha \sum_k \theta_k}{T}\Big), \qquad \theta \ge 0,$$
#
# for one fixed wiring $c$. Deep Rewiring instead leaves the wiring at the wall and continues in another. Think of each wiring as a sheet
# with $K$ coordinates. Sheets are glued along their faces $\theta_k = 0$, where the dropped connection and
# the new one both have weight zero, so that the energies of the two sheets agree there; and the uniform lottery
# crosses every seam in both directions equally often. Then the density above, taken over all
# sheets together, is continuous across the seams and no probability flows: it is stationary. The
# probability of a wiring is its share of the total mass,
#
# $$P(c) = \frac{Z_c}{\sum_{c'} Z_{c'}}, \qquad Z_c = \int_{\theta \ge 0} \exp\!\Big(-\frac{E + \alpha \sum \theta}{T}\Big)
# \, \mathrm{d}^K\theta .$$ (eq-dr-posterior)
#
# For a quadratic energy with $M = 5$ potential connections and $K = 2$ there are ten wirings, and each $Z_c$ is an integral over
# a quadrant, which quadrature gives far more precisely than a chain can resolve. (The random regression behind the energy was chosen among sixty such that all
# ten wirings are plausible and the temperature matters.) Beside it, a chain of {glue:text}`dr_chain_steps:,` steps, made with the very kernel
# that trains networks.

# %%
hessian, linear, sign = posterior.least_squares_problem(5, rows=8, noise=0.3, seed=52)
problem = (hessian, linear, sign, 2, chain_l1, chain_temperature)
options = {"learning_rate": chain_rate, "steps": chain_steps, "seed": chain_seed}
exact, exact_theta = posterior.exact_configuration_probabilities(*problem)
chain = posterior.sample_deep_r(*problem, **options)

# %% [markdown]
# Three further chains tell us what this comparison is worth. In one, the connection that was just dropped takes no part in the lottery, which
# should not matter in the limit. The other two are wrong on purpose: a lottery that goes to the first dormant
# connection in every other step, and noise for half the temperature.

# %%
excluding = posterior.sample_deep_r_excluding_dropped(*problem, **options)
biased = posterior.sample_biased_deep_r(*problem, **options)
cold = posterior.sample_deep_r(*problem[:-1], chain_temperature / 2, **options)

# %% mystnb={"figure": {"caption": "Probability of each of the ten wirings: computed by quadrature, sampled by Deep Rewiring, and sampled by the two controls.", "name": "fig-dr-posterior"}, "image": {"alt": "Bars in groups of four; exact and sampled bars have the same height in every group, the controls do not"}} tags=["hide-input"]
wirings = [c for c in range(32) if bin(c).count("1") == 2]
names = [",".join(str(k + 1) for k in range(5) if c >> k & 1) for c in wirings]
figure, axis = plt.subplots(figsize=(7.6, 3.6))
bars = (
    ("exact", exact, "black"),
    ("DEEP R", chain.probabilities, "blue"),
    ("control: T / 2", cold.probabilities, "orange"),
    ("control: biased lottery", biased.probabilities, "vermilion"),
)
for i, (name, probability, color) in enumerate(bars):
    axis.bar(
        np.arange(10) + 0.2 * (i - 1.5),
        probability[wirings],
        0.2,
        color=PALETTE[color],
        label=name,
    )
axis.set_xticks(range(10), names)
axis.set(
    xlabel="active connections", ylabel="probability", ylim=(0, 1.75 * exact.max())
)
axis.grid(axis="x", visible=False)
axis.legend()
plt.show()

# %%
record(
    dr_chain_steps=chain_steps,
    dr_tv=posterior.total_variation(chain.probabilities, exact),
    dr_mean_theta_error=np.abs(chain.mean_theta - exact_theta).max(),
    dr_tv_excluding=posterior.total_variation(excluding.probabilities, exact),
    dr_tv_biased=posterior.total_variation(biased.probabilities, exact),
    dr_tv_cold=posterior.total_variation(cold.probabilities, exact),
)

# %% [markdown]
# The distance between the sampled and the exact law is {glue:text}`dr_tv:.4f` in total variation, and
# {glue:text}`dr_tv_excluding:.4f` with the other honest lottery, against {glue:text}`dr_tv_cold:.2f` and
# {glue:text}`dr_tv_biased:.2f` for the controls. It shrinks with the step size until the noise of a finite chain takes over.

# %% mystnb={"figure": {"caption": "Total variation to the exact law against the step size, chains of equal length.", "name": "fig-dr-rates"}, "image": {"alt": "The distance falls roughly with the square root of the step size"}} tags=["hide-input"]
distances = []
for rate in rates:
    sampled = posterior.sample_deep_r(*problem, **{**options, "learning_rate": rate})
    distances.append(posterior.total_variation(sampled.probabilities, exact))
figure, axis = plt.subplots(figsize=(6.4, 3.2))
axis.loglog(rates, distances, "o-", color=PALETTE["blue"], label="DEEP R")
slope = np.array([min(rates), max(rates)])
axis.loglog(
    slope,
    distances[int(np.argmax(rates))] * np.sqrt(slope / max(rates)),
    ":",
    color=PALETTE["grey"],
    label=r"$\propto \sqrt{\eta}$",
)
axis.axhline(
    0.02,
    color=PALETTE["vermilion"],
    linestyle="--",
    linewidth=1.2,
    label="threshold of the ledger",
)
axis.set(xlabel=r"step size $\eta$", ylabel="total variation")
axis.legend()
plt.show()

# %% [markdown]
# ```{margin} Where the released settings stand
# With $\eta = 0.5$ and noise of amplitude $\eta \cdot 10^{-5}$ the temperature of the released MNIST run is
# $T = \eta \cdot (10^{-5})^2 / 2$, about {glue:text}`dr_temperature:.1e`. Sampling is the theory; the published training sits at
# its cold edge, where Deep Rewiring is an optimiser that happens to rewire.
# ```
#
# ## Without a budget: soft-DEEP R
#
# The theory is simpler when nothing limits the number of active connections. In soft-DEEP R every potential connection keeps its
# parameter and its noise; gradient and prior act only on active ones, and a lower wall at $\theta_\text{min} < 0$ keeps
# dormant ones from wandering off. A dormant connection then has a flat density on
# $[\theta_\text{min}, 0]$, and a pattern with $|c|$ active ones out of $M$ has the probability
#
# $$P(c) \propto |\theta_\text{min}|^{M - |c|} \int_{\theta_c \ge 0} e^{-(E + \alpha \sum \theta)/T}\, \mathrm{d}\theta_c .$$
#
# Three connections have eight patterns:

# %%
small = posterior.least_squares_problem(3, rows=8, noise=0.3, seed=47)
exact_soft, _ = posterior.exact_pattern_probabilities(*small, 0.7, 1.0, -1.5)
soft = posterior.sample_soft_deep_r(
    *small,
    0.7,
    1.0,
    -1.5,
    learning_rate=chain_rate,
    steps=chain_steps,
    seed=chain_seed,
)

# %% mystnb={"figure": {"caption": "soft-DEEP R: probability of each pattern of active connections, exact and sampled.", "name": "fig-dr-soft"}, "image": {"alt": "Eight pairs of bars of equal height"}} tags=["hide-input"]
patterns = [
    "none" if c == 0 else ",".join(str(k + 1) for k in range(3) if c >> k & 1)
    for c in range(8)
]
figure, axis = plt.subplots(figsize=(6.4, 3.0))
axis.bar(np.arange(8) - 0.2, exact_soft, 0.4, color=PALETTE["black"], label="exact")
axis.bar(
    np.arange(8) + 0.2,
    soft.probabilities,
    0.4,
    color=PALETTE["blue"],
    label="soft-DEEP R",
)
axis.set_xticks(range(8), patterns)
axis.set(xlabel="active connections", ylabel="probability")
axis.grid(axis="x", visible=False)
axis.legend()
plt.show()

# %%
record(dr_tv_soft=posterior.total_variation(soft.probabilities, exact_soft))

# %% [markdown]
# ### Aiming at a connectivity
#
# Without a budget, how sparse will it be? With no loss, the active side has mass $1/\beta$ and the dormant side
# $|\theta_\text{min}|$, so the choice
#
# $$\theta_\text{min} = -\frac{1 - p}{p\,\beta}$$ (eq-dr-clip)
#
# makes a fraction $p$ active. That is the rule in the authors' code. It assumes steps that resolve the exponential law, whose width
# is $1/\beta$. One step of noise in units of that width is $2\alpha / \text{gdnoise}$, which is 2 for the released
# setting.

# %% [markdown]
# For zero loss a connection is a Markov chain on a line, and its stationary law can be computed for steps of any length: on
# a grid it solves a banded linear system. The lines in the figure are that exact answer, the points are measured on
# the training kernel.

# %%
targets = (0.05, 0.1, 0.2, 0.3)
ratios = {
    2.0: 1e-5,
    0.5: 4e-5,
    0.05: 4e-4,
}  # step over 1 / beta -> gdnoise, at l1 = 1e-5
occupancy = {
    ratio: [
        posterior.clip_rule_occupancy(p, 1e-5, noise, steps=100_000, seed=chain_seed)
        for p in targets
    ]
    for ratio, noise in ratios.items()
}
predicted = {
    ratio: [posterior.clip_rule_exact(p, ratio) for p in targets] for ratio in ratios
}

# %% mystnb={"figure": {"caption": "Fraction of active connections at zero loss, relative to the target of the clip rule, for three lengths of a noise step in units of the width of the exponential law. Lines: exact law of the discrete chain. Points: measured; their scatter at fine steps is that of slow chains.", "name": "fig-dr-clip"}, "image": {"alt": "Three lines; the finest stays near one, the coarsest falls to 0.85 at a target of 0.3; measured points lie on the lines"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.4, 3.2))
for (ratio, measured), color in zip(
    occupancy.items(), ("vermilion", "orange", "blue"), strict=True
):
    label = f"step ratio {ratio:g}" + (" (released)" if ratio == 2.0 else "")
    axis.plot(
        targets,
        np.array(predicted[ratio]) / targets,
        color=PALETTE[color],
        label=label,
    )
    axis.plot(targets, np.array(measured) / targets, "o", color=PALETTE[color])
axis.axhline(1.0, color=PALETTE["grey"], linestyle="--", linewidth=1)
axis.set(xlabel="target connectivity $p$", ylabel="active / target", ylim=(0.8, 1.1))
axis.legend()
plt.show()

# %%
temperature = temperature_from_gdnoise(0.5, 1e-5)
one_step = np.zeros(200_000)
steps.update_active(
    one_step,
    np.zeros_like(one_step),
    np.arange(one_step.size),
    chain_seed,
    0,
    0,
    0.5,
    0.0,
    0.5 * 1e-5,
)
record(
    dr_clip_fine=occupancy[0.05][targets.index(0.1)],
    dr_clip_released=occupancy[2.0][targets.index(0.3)],
    dr_clip_released_exact=predicted[2.0][targets.index(0.3)],
    dr_clip_missing=1 - occupancy[2.0][targets.index(0.1)] / 0.1,
    dr_temperature=temperature,
    dr_temperature_error=abs(one_step.var() / (2 * 0.5 * temperature) - 1),
)

# %% [markdown]
# For a target of 0.3 the released setting gives {glue:text}`dr_clip_released:.3f`; the exact law of its steps says
# {glue:text}`dr_clip_released_exact:.3f`. At 0.1, the largest connectivity that the soft script asks for, {glue:text}`dr_clip_missing:.0%` are missing. With a loss
# that pulls on connections the rule has more to answer for: on the [comparison page](comparison.ipynb) we see where
# soft-DEEP R ends.
#
# ## What holds at every step
#
# Three things must be true not on average but always. We watch a small network for 2,000 steps: the number of active connections in each layer after every
# step, and the sign of every potential connection whenever it is active.

# %%
network = sparse_mlp((64, 40, 10), (0.05, 0.2), seed=1)
optimizer = DeepR(network, lr=0.1, l1=1e-3, gdnoise=1e-2, seed=2)
layers = network[::2]
budgets = [layer.budget for layer in layers]
first_sign = [np.zeros(layer.potential) for layer in layers]  # 0: never active so far
violations = sign_changes = 0
rng = np.random.default_rng(1)
for _ in range(2000):
    pixels, classes = (
        torch.from_numpy(rng.random((10, 64), dtype=np.float32)),
        torch.from_numpy(rng.integers(0, 10, 10)),
    )
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(pixels), classes).backward()
    optimizer.step()
    for layer, budget, seen in zip(layers, budgets, first_sign, strict=True):
        weight, places = layer.weight.numpy(), layer.index.numpy()
        violations += (
            int((layer.theta.detach() >= 0).sum()) != budget
            or np.unique(places).size != budget
        )
        lit = weight != 0
        now, before = np.sign(weight[lit]), seen[places[lit]]
        sign_changes += int(((before != 0) & (before != now)).sum())
        seen[places[lit]] = now

chains = (chain, excluding, biased, cold)
record(
    dr_bound_violations=violations + sum(c.bound_violations for c in chains),
    dr_sign_changes=sign_changes,
    dr_watched_rewirings=optimizer.total_rewired,
    dr_watched_share=np.mean([np.mean(seen != 0) for seen in first_sign]),
)

# %% [markdown]
# {glue:text}`dr_watched_rewirings:,` rewirings later, {glue:text}`dr_watched_share:.0%` of all potential connections have been active at
# some time, and none has come back with another sign. The signs need no table: each is a hash of the
# layer's seed and the place of the connection.
#
# Would the count notice a mistake? Here is one that is easy to make: treat
# $\theta \ge 0$ as active in the forward pass, but count $\theta > 0$ when refilling. Connections revived at exactly zero that receive no
# gradient are then active and not counted.

# %%
rng = np.random.default_rng(0)
naive = np.full(
    1000, -1.0
)  # one parameter for each potential connection, negative means dormant
naive[rng.choice(1000, 100, replace=False)] = 0.1
caught = 0
for _ in range(300):
    naive[naive > 0] -= 0.01 * rng.random(
        np.sum(naive > 0)
    )  # some shrink; no noise, no gradient at zero
    missing = 100 - np.sum(naive > 0)  # should count naive >= 0
    dormant = np.flatnonzero(naive < 0)
    naive[rng.choice(dormant, min(missing, dormant.size), replace=False)] = 0.0
    caught += np.sum(naive >= 0) != 100
record(dr_naive_violations=int(caught), dr_naive_active=int(np.sum(naive >= 0)))

# %% [markdown]
# The check reports {glue:text}`dr_naive_violations` violations in 300 steps, and {glue:text}`dr_naive_active` connections in a network that was promised 100.
#
# Finally, dormant connections must cost nothing. A layer of a million by a million units has $10^{12}$ potential connections; its dense
# gradient alone would fill four terabytes. With ten thousand connections it takes a training step like any
# other:

# %%
giant = SparseLinear(1_000_000, 1_000_000, budget=10_000, seed=0)
optimizer = DeepR(giant, lr=0.1, l1=1e-3, temperature=1e-6)
giant(torch.ones(1, 1_000_000)).square().sum().backward()
optimizer.step()
record(
    dr_gradient_share=giant.theta.grad.numel() / giant.potential,
    dr_giant_active=optimizer.active()[0],
)

# %% [markdown]
# The gradient has one entry per connection, and after the step {glue:text}`dr_giant_active:,` connections are active. Nothing in
# the step has the size of the matrix.
#
# ## What to remember
#
# Deep Rewiring with a budget samples wirings from the posterior, restricted to exactly $K$ connections, in the limit of
# small steps. The bound holds at any step. At the temperature of the released experiments this sampler is cold: what remains is gradient descent that
# refuses to spend more than it was given. Whether that learns is the question of the [next page](experiments.ipynb).

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
# # Method: two kinds of zeros
#
# An {term}`EGRU` is silent most of the time, and a silent unit is a row of weights that need not be read: this is
# {term}`activity sparsity`. Of the rows that are read, most weights can be pruned after training: {term}`weight sparsity`.
# The paper {cite}`mukherji2024weight` asks whether the two can be had together, and whether their gains multiply.
#
# What of this is arithmetic, and what must be measured? This page does the arithmetic. It counts, says exactly what
# "multiply" means and when it fails, and looks at what pruning does to weights, to an optimiser and to a bill.

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
    os.chdir(f"{home}/notebooks/sparse_language_models")

# %% tags=["parameters"]
seed: int = 0  # of everything random on this page
units: int = 64  # of the random networks in exact checks
steps: int = 40  # that they run
check_seeds: list[int] = [0]  # of these networks
grid_units: int = 256  # of the layer with random masks
grid_activities: list[float] = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]  # of its sources
grid_densities: list[float] = [0.05, 0.1, 0.2, 0.5]  # of its weights
grid_tokens: int = 8  # products for each of them
mask_draws: int = 400  # masks from which the noise is estimated
vocabulary: int = 2000  # words of the language model, without two marks
hidden_size: int = 96  # units of its first layer
embedding: int = 64  # units of its second, which is the size of a word's vector
train_words: int = 60_000  # that it is trained on, once
sparsity: float = 0.9  # to which its kernels are pruned

# %% tags=["hide-input"]
from copy import deepcopy
from itertools import pairwise, product

import matplotlib.pyplot as plt
import numpy as np
import torch
from myst_nb import glue

from eventbook.companion.files import read_json
from eventbook.companion.notebook import PALETTE, bound, record, show_body, use_theme
from eventbook.companion.project import Project
from eventbook.datasets.text.sets import load_text
from eventbook.kernels.events import (
    CSRBySource,
    egru_csr_gradients,
    egru_csr_sequence,
    egru_need,
    egru_sequence,
    event_csr_counted,
)
from eventbook.kernels.events.compressed_rows import scatter
from eventbook.kernels.events.egru import RESETS
from eventbook.learning.language_modelling import (
    RELEASED,
    LanguageTraining,
    course,
    rate,
    train_language_model,
)
from eventbook.learning.pruning import (
    SCOPES,
    DecayMeter,
    Masks,
    efolds,
    magnitude_masks,
    recurrent_weights,
    shrinkage,
)
from eventbook.models.egru import compress
from eventbook.models.language_model import RELEASED as STACKS
from eventbook.models.language_model import LanguageModel, LanguageModelConfig
from eventbook.models.sparsity import (
    dense_macs,
    measure_sparsity,
    modelled_macs,
    noise_of_random_masks,
    split_of_ratio,
)

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
use_theme()

# %% tags=["hide-input"]
whole = {  # and the least that leaves something to look at
    "seed": (seed, 0),
    "units": (units, 8),
    "steps": (steps, 4),
    "grid_units": (grid_units, 16),
    "grid_tokens": (grid_tokens, 2),
    "mask_draws": (mask_draws, 2),
    "vocabulary": (vocabulary, 1),
    "hidden_size": (hidden_size, 8),
    "embedding": (embedding, 8),
    "train_words": (train_words, 2000),
}
for name, (number, least) in whole.items():
    if number < least:
        raise ValueError(f"{name} must be {least} or more, got {number}")
lists = {
    "check_seeds": check_seeds,
    "grid_activities": grid_activities,
    "grid_densities": grid_densities,
}
for name, given in lists.items():
    if not given:
        raise ValueError(f"{name} must be one at least, got none")
speaking = [round(share * grid_units) for share in grid_activities]
if not 1 <= min(speaking) < grid_units or max(speaking) > grid_units:
    raise ValueError(
        f"grid_activities must let 1 to {grid_units} of {grid_units} sources speak, "
        f"not all of them in each, got {grid_activities}"
    )
for share in grid_densities:
    if not 0.01 <= share < 1:
        raise ValueError(f"grid_densities must be in 0.01..1, below 1, got {share}")
smallest = min(hidden_size, embedding) ** 2  # weights of a gate's block
if not 0 < sparsity < 1 or not 0 < round(sparsity * smallest) < smallest:
    raise ValueError(
        f"sparsity must be in 0..1 and take and leave one of {smallest} weights, "
        f"got {sparsity}"
    )

# %% [markdown]
# ## Two zeros in one product
#
# What a layer hears from another is a product of what was said, $y$, with a matrix $W$ whose row $i$ holds the outgoing
# weights of source $i$. A zero in $y$ takes out a row. A zero in $W$ takes out a single entry.


# %%
def spoken_by(share, tokens, sources, generator):
    """What some sources say: each token, a given number of them, drawn anew."""
    count = round(share * sources)
    values = torch.zeros(tokens, sources)
    for row in values:
        who = torch.randperm(sources, generator=generator)[:count]
        row[who] = torch.randn(count, generator=generator)
    return values


generator = torch.Generator().manual_seed(seed)
sources, targets = 100, 300
full = torch.randn(sources, targets, generator=generator)
keep = torch.rand(sources, targets, generator=generator) < 0.25
matrices = {"dense": CSRBySource.from_dense(full)}
matrices["pruned"] = CSRBySource.from_dense(full, keep)
(said,) = spoken_by(0.2, 1, sources, generator)
table = {
    f"sl_cell_{name}_{'every' if every else 'event'}": event_csr_counted(
        said[None], matrix, every_row=every
    )[1].multiply_accumulates
    for (name, matrix), every in product(matrices.items(), (True, False))
}
fewer = table["sl_cell_dense_every"] / table["sl_cell_pruned_event"]
record(**table, sl_cell_fewer=fewer)

# %% mystnb={"figure": {"caption": "A corner of the matrix of the table below. Rows are sources, columns are targets. Grey: rows of silent sources, of which nothing is read. Blue: what is left of the rows of those that spoke.", "name": "fig-sl-zeros"}, "image": {"alt": "A grid of small squares in 20 rows; most rows are pale grey with random gaps, a few are blue with random gaps"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(7.2, 3.2))
for spoke, shade in ((False, "grey"), (True, "blue")):
    for row in range(20):
        if bool(said[row] != 0) == spoke:
            there = keep[row, :50].nonzero().flatten().tolist()
            spans = [(column - 0.42, 0.84) for column in there]
            look = dict(
                facecolor=PALETTE[shade], linewidth=0, alpha=1 if spoke else 0.3
            )
            axis.broken_barh(spans, (row - 0.4, 0.8), **look)
axis.set(xlabel="target", ylabel="source", xlim=(-0.6, 49.6), ylim=(19.6, -0.6))
axis.set_yticks(range(0, 20, 5))
axis.grid(False)
glue("sl_zeros", figure)
plt.close(figure)

# %% [markdown]
# One product of 100 sources with 300 targets, a fifth of the sources speaking and a quarter of the weights kept,
# {term}`multiply-accumulates <effective MACs>` as the kernel counts them:
#
# | | every row | rows of events |
# |---|---|---|
# | all weights | {glue:text}`sl_cell_dense_every:,` | {glue:text}`sl_cell_dense_event:,` |
# | what is left of them | {glue:text}`sl_cell_pruned_every:,` | {glue:text}`sl_cell_pruned_event:,` |
#
# Together they leave one in {glue:text}`sl_cell_fewer:.0f`. The paper's predecessor reports up to about 20 times fewer on
# Penn Treebank, at a perplexity below 60. We know this number from others who quote it, who do not say what it is compared with.
#
# ```{margin} An embedding never is silent
# The first layer reads word vectors, all of whose components are there. So activity applies to all inputs of the stack but
# the first. In the stack that the README of the released code has for version 0.2.0, 750-1350-1350-750, the same two shares
# leave one in {glue:text}`sl_stack_fewer:.1f`, not one in 20. In the {term}`EGRU` of the first paper, 788-1350-1350-788 by the
# README of version 0.1.0, 20.3 % of the units speak, as others quote it. In every layer alike, that would leave
# {glue:text}`sl_stack_share:.0%` of the products, not 20.3 %.
# ```
#
# For a whole stack with $G$ gates, input sizes $I_l$, units $H_l$, activities $a_l$ and densities $w_l$:
#
# $$
# \begin{aligned}
# \text{dense} &= \sum_l G H_l\, (I_l + H_l), \\
# \text{modelled} &= \sum_l G H_l\, (a_{l-1} w^W_l I_l + a_l w^R_l H_l), \quad a_0 = 1.
# \end{aligned}
# $$ (eq-sl-stack)

# %%
released, first_paper = (
    (its.embedding, its.hidden_sizes)
    for its in (STACKS["ptb_v0.2"], STACKS["ptb_1350"])
)
left = modelled_macs(*released, [0.2] * 3, [0.25] * 3, [0.25] * 3)
share = modelled_macs(*first_paper, [0.203] * 3) / dense_macs(*first_paper)
record(
    sl_stack_dense=dense_macs(*released) / 1e6,
    sl_stack_lstm=STACKS["awd_lstm_ptb"].dense_macs() / 1e6,
    sl_stack_fewer=dense_macs(*released) / left,
    sl_stack_share=share,
)

# %% [markdown]
# The released stack has {glue:text}`sl_stack_dense:.2f` million dense products for a word. {term}`AWD-LSTM`, with layers of
# 400-1150-1150-400 and four gates, has {glue:text}`sl_stack_lstm:.2f` million: that is the densely active model of the
# paper's comparison, as others quote it. The products are our arithmetic.
#
# ```{margin} None of it is saved in the released code
# Its kernels are dense, so that neither kind of zero makes anything cheaper: [what speaking
# costs](../egru/method.ipynb#what-speaking-costs). The gains of the paper are counted, not run.
# ```
#
# ## Counting exactly
#
# In compressed rows only what is there is stored: for source $i$ the weights from `indptr[i]` to `indptr[i + 1]` and their
# targets. The kernel walks events, scatters the row of each over what is heard, and counts what it did.

# %%
show_body(scatter)

# %% [markdown]
# So the count should be the sum, over all events, of the lengths of their rows. And the recurrence on compressed rows
# should be the dense one whose pruned weights are zero, forward and back: back, a message to unit $i$ costs its row once
# more, for units in the {term}`need set`, and the gradient of the weights arises at those that are there. With $y_0 = 0$ and
# $n_i$ weights in row $i$:
#
# $$\text{forward} = \sum_{t=0}^{T-2} \sum_{i \in \text{events}_t} n_i, \qquad
#   \text{backward} = \sum_{t=0}^{T-2} \Big( \sum_{i \in \text{need}_t} n_i + \sum_{i \in \text{events}_t} n_i \Big).$$ (eq-sl-macs)


# %%
def problem(seed, density=0.2, batch=3):
    """Projected inputs that wander, and weights of which a share is kept."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    drive = normal(batch, steps, 3 * units)
    for t in range(1, steps):
        drive[:, t] = 0.9 * drive[:, t - 1] + 0.19**0.5 * drive[:, t]
    recurrent = normal(units, 3 * units) / (density * units) ** 0.5
    mask = torch.rand(units, 3 * units, generator=generator) < density
    bias, theta = 0.2 * normal(3 * units), 0.05 + 0.5 * normal(units).abs()
    return drive, recurrent * mask, mask, bias, theta


def relative(found, expected):
    """Largest difference over the largest number."""
    error = (found - expected).detach().abs().max()
    return float(error / expected.detach().abs().max())


def compare(seed, reset):
    """Compressed rows beside the dense recurrence whose pruned weights are zero."""
    drive, masked, mask, bias, theta = problem(seed)
    matrix = CSRBySource.from_dense(masked, mask)
    own = dict(reset=reset, surrogate_support=3.6)
    ours, theirs = (
        [leaf.clone().requires_grad_() for leaf in (drive, weights, bias, theta)]
        for weights in (matrix.values, masked)
    )
    dense = egru_sequence(*theirs, **own)
    rows = matrix.with_values(ours[1])
    sparse = egru_csr_sequence(ours[0], rows, *ours[2:], **own)
    to_said = torch.randn(dense.output.shape, generator=generator)
    silent = silence(to_said, drive, matrix, bias, theta, own)
    to_ours = list(torch.autograd.grad((sparse.output * to_said).sum(), ours))
    to_theirs = list(torch.autograd.grad((dense.output * to_said).sum(), theirs))
    to_theirs[1] = to_theirs[1][mask]  # there, pruned weights have a gradient as well
    same = [(sparse.output, dense.output), (sparse.state, dense.state)]
    same += zip(to_ours, to_theirs, strict=True)
    said, need = dense.output != 0, egru_need(dense.state, theta, 3.6)
    length = mask.sum(1)
    events, needs = (int((who[:, :-1] * length).sum()) for who in (said, need))
    given = drive, matrix, bias, theta
    every = egru_csr_sequence(*given, **own, every_row=True)
    _, back = egru_csr_gradients(to_said, *given, **own)
    # Control: the largest weight of the unit that speaks most is forgotten.
    fewer, busy = mask.clone(), said[:, :-1].sum((0, 1)).argmax()
    fewer[busy, masked[busy].abs().argmax()] = False
    forgot = CSRBySource.from_dense(masked, fewer)
    without = egru_csr_sequence(drive, forgot, bias, theta, **own)
    return dict(
        error=max(relative(*pair) for pair in same),
        events=int(((sparse.output != 0) != said).sum()),
        forward=abs(sparse.operations().multiply_accumulates - events),
        backward=abs(back.multiply_accumulates - events - needs),
        every=abs(
            every.operations().multiply_accumulates
            - len(drive) * (steps - 1) * len(matrix.values)
        ),
        checked=events,
        control=relative(without.state, dense.state),
        **silent,
    )


def silence(to_said, drive, matrix, bias, theta, own):
    """What changes when the rows of units that never speak are spoilt."""
    theta, values = theta.clone(), matrix.values.clone()
    theta[: units // 8] = 2  # no state is above one, so these units say nothing
    values[: matrix.indptr[units // 8]] = torch.nan
    given = (matrix, bias, theta), (matrix.with_values(values), bias, theta)
    clean, spoilt = (
        [*egru_csr_sequence(drive, *its, **own)[:2], *to_all[:4]]
        for its in given
        for to_all, _ in [egru_csr_gradients(to_said, drive, *its, **own)]
    )
    read = egru_csr_sequence(drive, *given[1], **own, every_row=True)
    return dict(
        leaked=sum(int((a != b).sum()) for a, b in zip(clean, spoilt, strict=True)),
        read=int(read.state.isnan().sum()),
    )


found = [compare(s, r) for s, r in product(check_seeds, RESETS)]
checked = {name: [of[name] for of in found] for name in found[0]}
record(
    sl_csr=bound(max(checked["error"])),
    sl_csr_forgot=min(checked["control"]),
    sl_csr_events=sum(checked["events"]),
    sl_macs_forward=sum(checked["forward"]),
    sl_macs_backward=sum(checked["backward"]),
    sl_macs_every=sum(checked["every"]),
    sl_macs_checked=sum(checked["checked"]),
    sl_silent_leaked=sum(checked["leaked"]),
    sl_silent_read=min(checked["read"]),
)

# %% [markdown]
# {glue:text}`sl_macs_checked:,` products went into this, of networks under all resets. The two paths agree to rounding,
# gradients of inputs, weights, biases and thresholds included. They have the same events, and no operation is miscounted in
# either direction. One weight forgotten changes states. And a count is only what a kernel says of itself, so here is
# what it does: the rows of units that never speak are filled with NaN, and {glue:text}`sl_silent_leaked` numbers among states,
# outputs and gradients change. Told to read rows of silent units, too, the kernel counts every stored weight in each step, and
# {glue:text}`sl_silent_read:,` states or more become NaN.
#
# ### What "multiply" means
#
# Let source $i$ speak in a share $a_i$ of the tokens and keep a share $w_i$ of its outgoing weights. The products that are
# left, as a share of the dense ones, are the mean of $a_i w_i$, and the mean of a product is
#
# $$\frac{\text{effective}}{\text{dense}} = \frac1H \sum_i a_i w_i = \bar a\, \bar w + \operatorname{Cov}_i(a_i, w_i).$$ (eq-sl-cov)
#
# This holds for every mask and every recording. So the paper's statement that the gains multiply is a statement about a
# covariance: that it does not matter for how many weights a unit keeps how often it speaks. Masks that know nothing of activity
# have none, on average. Others can be made to have any. Four masks of like density, for one recording of one network:

# %%
drive, masked, _, bias, theta = problem(seed)
said = egru_sequence(drive, masked, bias, theta).output.flatten(0, 1)
activity = (said != 0).double().mean(0)
draw = torch.rand(units, 3 * units, generator=generator)
density = 0.2
often = activity.argsort(descending=True, stable=True)
rank = torch.empty(units).scatter_(0, often, torch.arange(units).double())
masks = {
    "random": draw < density,
    "towards": draw < 2 * density * (1 - rank / (units - 1))[:, None],
    "active": (draw < 2 * density) & (rank < units // 2)[:, None],
    "silent": (draw < 2 * density) & (rank >= units // 2)[:, None],
}
found, worst = {}, 0.0
for name, mask in masks.items():
    kept = mask.double().mean(1)
    counted = event_csr_counted(said, CSRBySource.from_dense(mask.double(), mask))[1]
    share = counted.multiply_accumulates / (len(said) * mask.numel())
    product_of_means, covariance = split_of_ratio(activity, kept)
    worst = max(worst, abs(share - product_of_means - covariance))
    found[f"sl_ratio_{name}"] = share / product_of_means
    found[f"sl_density_{name}"] = float(kept.mean())
    found[f"sl_cov_{name}"] = covariance
record(sl_covariance=bound(worst), sl_mask_activity=float(activity.mean()), **found)

# %% [markdown]
# | mask keeps | density | covariance | counted over $\bar a\, \bar w$ dense |
# |---|---|---|---|
# | any weight, by chance | {glue:text}`sl_density_random:.3f` | {glue:text}`sl_cov_random:.4f` | {glue:text}`sl_ratio_random:.3f` |
# | the more, the more a unit speaks | {glue:text}`sl_density_towards:.3f` | {glue:text}`sl_cov_towards:.4f` | {glue:text}`sl_ratio_towards:.3f` |
# | weights of the more active half | {glue:text}`sl_density_active:.3f` | {glue:text}`sl_cov_active:.4f` | {glue:text}`sl_ratio_active:.3f` |
# | weights of the less active half | {glue:text}`sl_density_silent:.3f` | {glue:text}`sl_cov_silent:.4f` | {glue:text}`sl_ratio_silent:.3f` |
#
# At an activity of {glue:text}`sl_mask_activity:.2f` the identity holds for all four. The rule of the product does not: with masks that prefer active units more is left than
# it says, with masks that avoid them less. Whether a *trained* mask is one of these is a question for an experiment.
#
# ### How close is chance?
#
# A random mask has no covariance on average, but one mask is one draw. Let each weight be kept with probability $w$, and
# let source $i$ speak $k_i$ times to $N$ targets. The count is $\sum_i k_i n_i$ with binomial $n_i$, so its relative
# standard deviation is
#
# $$\sigma = \sqrt{\frac{1-w}{w N n}}, \qquad n = \frac{\big(\sum_i k_i\big)^2}{\sum_i k_i^2}.$$ (eq-sl-noise)
#
# ```{margin} Events are not independent looks
# If no source speaks twice, $n$ is the number of events. That is the formula one writes down first, and it is too small for any
# recording of more than one token: a source that speaks again reads the same row, not a new draw.
# ```
#
# Part of this is no failure of the product: a mask that keeps more weights than $w$ has more products. The ratio in the table
# above divides by the density $\bar w$ that the mask came to have. To first order, one weight more in row $i$ moves this ratio by
# $\big(k_i / \sum_j k_j - 1/H\big) / (w N)$, for it is counted $k_i$ times above and once below. The $n_i$ are
# independent, each of variance $w N (1 - w)$, and the squares of the brackets sum to $1/n - 1/H$:
#
# $$\sigma_{\text{ratio}} = \sqrt{\frac{1-w}{w N} \Big(\frac1n - \frac1H\Big)}.$$ (eq-sl-noise-ratio)
#
# Where all sources speak equally often, $n = H$: whatever the mask, the covariance is zero. Both formulas, for the recording
# above and {glue:text}`sl_noise_draws` masks:


# %%
def noise_of_ratio(density, targets, times):
    """Relative deviation of the count over masks, and without that of the density."""
    of_count = noise_of_random_masks(density, targets, times)
    of_density = noise_of_random_masks(density, targets, torch.ones_like(times))
    return of_count, max(0.0, of_count**2 - of_density**2) ** 0.5


times = (said != 0).sum(0)
events = int(times.sum())
counts, ratios = [], []
for _ in range(mask_draws):
    kept = (torch.rand(units, 3 * units, generator=generator) < density).sum(1)
    counts.append(int(times @ kept) / (density * 3 * units * events))
    ratios.append(int(times @ kept) / (float(kept.double().mean()) * events))
once = ((1 - density) / (density * 3 * units * events)) ** 0.5
of_count, of_ratio = noise_of_ratio(density, 3 * units, times)
record(
    sl_noise_draws=mask_draws,
    sl_noise_events=events,
    sl_noise_seen=float(np.std(counts)),
    sl_noise_general=of_count,
    sl_noise_once=once,
    sl_noise_over_general=float(np.std(counts)) / of_count,
    sl_noise_over_once=float(np.std(counts)) / once,
    sl_noise_ratio_seen=float(np.std(ratios)),
    sl_noise_ratio=of_ratio,
    sl_noise_ratio_over=float(np.std(ratios)) / of_ratio,
    sl_noise_ratio_over_count=float(np.std(ratios)) / of_count,
)

# %% [markdown]
# With {glue:text}`sl_noise_events:,` events the count spreads by {glue:text}`sl_noise_seen:.2%`. The formula gives
# {glue:text}`sl_noise_general:.2%`; with the number of events in place of $n$ it would be {glue:text}`sl_noise_once:.2%`. The
# ratio spreads by {glue:text}`sl_noise_ratio_seen:.2%`, and its formula gives {glue:text}`sl_noise_ratio:.2%`.
#
# Now a grid of activities and densities, each for one token, where no source speaks twice, and for several. Every cell has a
# recording and a mask of its own.


# %%
def counted_over_rule(share, density, tokens):
    """Counted products over those of the rule, and the noise of chance."""
    said = spoken_by(share, tokens, grid_units, generator)
    mask = torch.rand(grid_units, 3 * grid_units, generator=generator) < density
    matrix = CSRBySource.from_dense(mask.double(), mask)
    counted = event_csr_counted(said, matrix)[1].multiply_accumulates
    times = (said != 0).sum(0)
    rule = int(times.sum()) * int(mask.sum()) / grid_units
    return counted / rule, noise_of_ratio(density, 3 * grid_units, times)[1]


grid = {
    (tokens, a, w): counted_over_rule(a, w, tokens)
    for tokens, w, a in product((1, grid_tokens), grid_densities, grid_activities)
}
drawn = [its for its in grid.values() if its[1] > 0]  # the others are one by algebra
ratios = [ratio for ratio, _ in drawn]
deviations = [abs(ratio - 1) / noise for ratio, noise in drawn]
allowed = [abs(ratio - 1) / max(0.02, 3 * noise) for ratio, noise in drawn]
record(
    sl_random_units=grid_units,
    sl_random_cells=len(drawn),
    sl_random_even=len(grid) - len(drawn),
    sl_random_within=sum(3 * noise <= 0.02 for _, noise in drawn),
    sl_random_least=min(ratios),
    sl_random_most=max(ratios),
    sl_random_deviations=max(deviations),
    sl_random_multiplies=max(allowed),
)

# %% mystnb={"figure": {"caption": "Random masks: counted products over what the rule of the product says for the density that the mask has. One mark for each activity and density, left for one token, right for several. Bars: three standard deviations by the second formula of this page; where all speak there is nothing to vary.", "name": "fig-sl-grid"}, "image": {"alt": "Two panels of marks with bars around a line at one; bars are longest for low activities and densities, shorter in the right panel, and gone where all sources speak"}} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.4), sharey=True)
shades = ("vermilion", "orange", "green", "blue", "purple", "sky")
for axis, tokens in zip(axes, (1, grid_tokens), strict=True):
    for place, w in enumerate(grid_densities):
        cells = [grid[tokens, a, w] for a in grid_activities]
        where = np.array(grid_activities) * 1.06 ** (place - 1.5)
        axis.errorbar(
            where,
            [ratio for ratio, _ in cells],
            yerr=[3 * noise for _, noise in cells],
            fmt="o",
            ms=4,
            linewidth=1,
            color=PALETTE[shades[place % len(shades)]],
            label=f"density {w:g}",
        )
    axis.axhline(1, color=PALETTE["grey"], linewidth=1)
    title = "one token" if tokens == 1 else f"{tokens} tokens"
    axis.set(xscale="log", xlabel="activity", title=title)
axes[0].set_ylabel("counted over product")
figure.legend(
    *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4
)
plt.show()

# %% [markdown]
# In {glue:text}`sl_random_cells` cells of a layer of {glue:text}`sl_random_units` units the ratio goes from
# {glue:text}`sl_random_least:.3f` to {glue:text}`sl_random_most:.3f`, and is never more than
# {glue:text}`sl_random_deviations:.1f` standard deviations from one. For random masks the gains multiply, as closely as chance
# lets one see: in {glue:text}`sl_random_within` of the cells three standard deviations are 2 % or less. In
# {glue:text}`sl_random_even` further cells, where all speak, the ratio is one by algebra.
#
# ## Rows of sources
#
# Libraries compress a matrix that multiplies a vector by target: row $j$ holds what target $j$ hears. Then a silent source
# is an entry in every row, and each stored weight must be looked at to find that its factor is zero. Compressed by source, a
# silent source is a row that is not looked at.

# %%
kept = masks["random"]
matrix = CSRBySource.from_dense(kept.double(), kept)
by_target = CSRBySource.from_dense(kept.double().t().contiguous())
one = said[(said != 0).any(1)][:1]
y, of_events = event_csr_counted(one, matrix)
heard, looked_at = torch.zeros(3 * units), 0
for target, (first, last) in enumerate(pairwise(by_target.indptr.tolist())):
    listed = by_target.indices[first:last].long()
    heard[target] = one[0, listed] @ by_target.values[first:last]
    looked_at += len(listed)
record(
    sl_rows_same=bound(relative(heard, y[0])),
    sl_rows_stored=len(matrix.values),
    sl_rows_by_target=looked_at,
    sl_rows_by_source=of_events.multiply_accumulates,
    sl_rows_activity=float((one != 0).double().mean()),
    sl_rows_bytes=of_events.bytes_read / of_events.multiply_accumulates,
)

# %% [markdown]
# For one token of the recording, at an activity of {glue:text}`sl_rows_activity:.0%`, {glue:text}`sl_rows_by_source:,` of
# {glue:text}`sl_rows_stored:,` stored weights are read by source, and {glue:text}`sl_rows_by_target:,` by target, with the same result.
#
# What remains to be paid is knowing where the weights are. Here an entry takes {glue:text}`sl_rows_bytes:.0f` bytes in
# double precision, eight of them the weight and four its target, and a source takes another eight for where its row begins.
# On a chip with little memory one counts more carefully: weights of 16 or 8 bits, targets of 16, or one bit for each
# possible target whether it is there.


# %%
def bytes_of_source(width, density, targets, index=None):
    """Bytes for a source: dense, with an index for each weight, or in bits."""
    kept = density * targets
    if index is None:
        return np.full_like(density, width * targets)
    if index == "bit":
        return width * kept + targets / 8
    return (width + index) * kept + 8


share, wide = np.geomspace(0.005, 1, 200), 3 * released[1][0]
ways = {
    "dense": (None, "grey"),
    "targets of 32 bits": (4, "orange"),
    "targets of 16 bits": (2, "blue"),
    "a bit for each target": ("bit", "green"),
}
where = {
    (width, name): bytes_of_source(width, share, wide, index)
    for width in (4, 1)
    for name, (index, _) in ways.items()
}


def break_even(width, index):
    """Density at which compressed rows are as large as dense ones."""
    if index == "bit":
        return 1 - 1 / (8 * width)
    return (width * wide - 8) / ((width + index) * wide)


def crossing(width):
    """Density at which a bit for each target is as large as targets of 16 bits."""
    return (wide / 8 - 8) / (2 * wide)


record(
    sl_bytes_even=break_even(4, 4),
    sl_bytes_even_small=break_even(1, 2),
    sl_bytes_even_bits=break_even(1, "bit"),
    sl_bytes_crossing=crossing(1),
    sl_bytes_pointer=8 / ((1 + 2) * 0.1 * wide),
)

# %% mystnb={"figure": {"caption": "Memory of a source with 4,050 possible targets, as a share of a dense row. Left: weights of 32 bits. Right: weights of 8 bits, as on a chip.", "name": "fig-sl-bytes"}, "image": {"alt": "Two panels with curves that rise with density and cross the line of dense rows; with small weights each crosses it at a lower density, one bit for each target last"}} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.4), sharey=True)
for axis, width in zip(axes, (4, 1), strict=True):
    for name, (_, shade) in ways.items():
        relative_size = where[width, name] / (width * wide)
        axis.loglog(share, relative_size, color=PALETTE[shade], label=name)
    axis.set(xlabel="density", title=f"weights of {8 * width} bits", ylim=(0.006, 4))
axes[0].set_ylabel("bytes over dense bytes")
figure.legend(
    *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2
)
plt.show()

# %% [markdown]
# In single precision with targets of 32 bits, compressed rows are smaller below a density of {glue:text}`sl_bytes_even:.2f`;
# with weights of 8 bits and targets of 16, below {glue:text}`sl_bytes_even_small:.2f`. There, one bit for each target
# is smaller than dense up to {glue:text}`sl_bytes_even_bits:.2f`, and smaller than targets of 16 bits down to {glue:text}`sl_bytes_crossing:.3f`. The beginning of a row does not matter: at a density of a
# tenth, eight bytes are {glue:text}`sl_bytes_pointer:.1%` of what such weights and targets of 16 bits take. The question comes back in the chapter that puts such a
# network on SpiNNaker 2.

# %% [markdown]
# ## Pruning as code
#
# {term}`Magnitude pruning <magnitude pruning>` takes out the $k = \operatorname{round}(s\,n)$ smallest of $n$ weights. Of
# which $n$? The paper's choice is not known to us. Here it is an option, `scope`: each matrix by itself, each gate's block of
# it, the matrices of a layer, or all together. What is pruned are the kernels of input and state; word vectors, biases and
# thresholds stay.
#
# ```{margin} No script to compare with
# No pruning script of this paper is public. The history of the released code has another pruning, of whole units that speak
# least; it was removed in May 2024. Here it is `prune_units`.
# ```

# %% [markdown]
# For something to prune, a small language model: the first of the State of the Union addresses, an EGRU of two layers, some
# seconds of training. Its {term}`perplexity` stands beside that of the frequencies of words, to show that it learned something. It is
# little; what pruning does to a model that is worth pruning is not for this page.

# %%
corpus = load_text("state_of_the_union", words=vocabulary)
config = LanguageModelConfig(
    len(corpus.vocabulary),
    embedding,
    (hidden_size, embedding),
    threshold="beta",
    threshold_mean=0.01,
    threshold_trainable=False,
    surrogate_support=3.6,
    surrogate_dampening=3.6,
)
model = LanguageModel(config, torch.Generator().manual_seed(seed))
recipe = LanguageTraining(1.0, 8, 35, lr=8e-3, weight_decay=0.1, seed=seed)
text = corpus.train[:train_words]
trained_steps = len(list(course(recipe, train_words // recipe.batch_size - 1)))
held_out = torch.as_tensor(corpus.valid[: 16 * 12 * 36]).view(12, 16, 36).long()


def products_of_pruned(model):
    """Each product of the pruned, compressed model on held-out text, counted."""
    masks = magnitude_masks(model.recurrent, sparsity)
    Masks(pruned := deepcopy(model.recurrent), masks)
    stack = compress(pruned, masks)
    stack.path = "event"
    vectors = model.embedding.detach()[held_out[:4].flatten(0, 1)]
    return measure_sparsity(stack, vectors).products


def over_rule(its):
    """Counted products over activity times density times dense ones."""
    return its.ratio / float(its.activity().mean() * its.row_density().mean())


def watch():
    """The largest such ratio, word vectors aside, which are never silent."""
    return {"ratio": max(over_rule(its) for its in products_of_pruned(model)[1:])}


history = train_language_model(model, text, recipe, looks=4, watch=watch)
counts = np.bincount(text, minlength=len(corpus.vocabulary)) + 1
surprise = -np.log(counts / counts.sum())[held_out[..., 1:].numpy()]
with torch.no_grad():
    losses = [float(model.loss(part[:, :-1], part[:, 1:])[0]) for part in held_out]
record(
    sl_lm_steps=trained_steps,
    sl_lm_perplexity=float(np.exp(np.mean(losses))),
    sl_lm_unigram=float(np.exp(surprise.mean())),
)

# %% [markdown]
# After {glue:text}`sl_lm_steps` steps it is {glue:text}`sl_lm_perplexity:.0f` on held-out text, where frequencies of words
# alone give {glue:text}`sl_lm_unigram:.0f`. This is what its weights look like.

# %%
gate_names = ("update z", "reset r", "candidate g")
gate_shades = ("blue", "orange", "green")
listed = recurrent_weights(model)
short = {w.name: w.name.removeprefix("recurrent.cells.") for w in listed}
labels = {
    name: f"{'R' if 'recurrent_' in its else 'W'}, layer {int(its[0]) + 1}"
    for name, its in short.items()
}
blocks = {
    (labels[w.name], gate): block.detach()
    for w in listed
    for gate, block in zip(
        gate_names, w.blocks(model.get_parameter(w.name)), strict=True
    )
}
spread = {key: float(block.abs().median()) for key, block in blocks.items()}
record(sl_median_least=min(spread.values()), sl_median_most=max(spread.values()))

# %% mystnb={"figure": {"caption": "Magnitudes of the weights of the trained model by gate, for each kernel. Dashed: where pruning each matrix by itself cuts.", "name": "fig-sl-gates"}, "image": {"alt": "Four panels of three curves each that fall with magnitude, with a dashed line at the right part of each"}} tags=["hide-input"]
figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.0), sharex=True)
for axis, label in zip(axes.flat, labels.values(), strict=True):
    every = torch.cat([blocks[label, gate].flatten() for gate in gate_names]).abs()
    edges = np.linspace(0, 0.4, 33)
    for gate, shade in zip(gate_names, gate_shades, strict=True):
        height, _ = np.histogram(blocks[label, gate].abs(), edges, density=True)
        axis.stairs(height, edges, color=PALETTE[shade], label=gate, linewidth=1.5)
    cut = float(every.sort().values[round(sparsity * len(every)) - 1])
    axis.axvline(cut, color=PALETTE["grey"], linestyle="--", linewidth=1)
    axis.set(title=label, yticks=[])
for axis in axes[1]:
    axis.set_xlabel("magnitude")
for axis in axes[:, 0]:
    axis.set_ylabel("density of weights")
figure.legend(
    *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3
)
plt.show()

# %% [markdown]
# Medians of the magnitudes go from {glue:text}`sl_median_least:.3f` to {glue:text}`sl_median_most:.3f`. So it matters what
# is compared with what. The same share of weights goes in every scope, but from other places.

# %%
scoped = {scope: magnitude_masks(model, sparsity, scope) for scope in SCOPES}
left = {
    scope: {
        (labels[w.name], gate): float(block.double().mean())
        for w in listed
        for gate, block in zip(gate_names, w.blocks(masks[w.name]), strict=True)
    }
    for scope, masks in scoped.items()
}
record(
    sl_scope_share=sparsity,
    **{f"sl_scope_least_{scope}": min(of.values()) for scope, of in left.items()},
    **{f"sl_scope_most_{scope}": max(of.values()) for scope, of in left.items()},
)

# %% mystnb={"figure": {"caption": "What is left of each gate's block of each kernel when the same share of all weights is pruned in four scopes. Dashed: the share that is left of all.", "name": "fig-sl-scopes"}, "image": {"alt": "Four rows of twelve marks, for each scope; on the dashed line for the scope gate, scattered around it for the others"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(7.2, 3.4))
for place, scope in enumerate(("gate", "matrix", "layer", "global")):
    for gate, shade, off in zip(
        gate_names, gate_shades, (-0.15, 0, 0.15), strict=True
    ):
        dots = [share for (_, its), share in left[scope].items() if its == gate]
        look = dict(color=PALETTE[shade], ms=6, alpha=0.8)
        name = gate if not place else None
        axis.plot(dots, [place + off] * len(dots), "o", label=name, **look)
axis.axvline(1 - sparsity, color=PALETTE["grey"], linestyle="--", linewidth=1)
axis.set(xlabel="share of weights that is left", yticks=range(4), ylim=(3.5, -0.5))
axis.set_yticklabels(["each gate", "each matrix", "each layer", "all together"])
figure.legend(loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# At {glue:text}`sl_scope_share:.0%` sparsity of each matrix, what is left of a gate's block goes from
# {glue:text}`sl_scope_least_matrix:.1%` to {glue:text}`sl_scope_most_matrix:.1%`; of all together, from
# {glue:text}`sl_scope_least_global:.1%` to {glue:text}`sl_scope_most_global:.1%`, of each layer from
# {glue:text}`sl_scope_least_layer:.1%` to {glue:text}`sl_scope_most_layer:.1%`, and of each gate from
# {glue:text}`sl_scope_least_gate:.1%` to {glue:text}`sl_scope_most_gate:.1%`. "90 % sparse" names different networks.
#
# The number that goes is exact. A threshold at the $k$-th smallest magnitude is not enough for this: as soon as weights
# are equal, as quantised ones are, all that are equal to it go, or none. Here are both, on the trained weights and on the
# same weights rounded to sixteenths.

# %%
rounded = deepcopy(model)
with torch.no_grad():
    for w in listed:
        parameter = rounded.get_parameter(w.name)
        parameter.copy_((16 * parameter).round() / 16)


def parts_of(scope):
    """Names of kernels and gates of each part of a scope, written out by hand."""
    part = {
        "matrix": lambda name, gate: name,
        "gate": lambda name, gate: (name, gate),
        "layer": lambda name, gate: name.rsplit(".", 1)[0],
        "global": lambda name, gate: None,
    }[scope]
    found = {}
    for w, gate in product(listed, range(3)):
        found.setdefault(part(w.name, gate), []).append((w, gate))
    return found.values()


def joined(part, tensors):
    """All numbers of a part in a row."""
    return torch.cat([w.blocks(tensors[w.name])[g].flatten() for w, g in part])


miscounted = above = threshold_off = parts_checked = 0
for network, scope, share in product((model, rounded), SCOPES, (0.5, 0.8, 0.9, 0.95)):
    weights = {w.name: network.get_parameter(w.name).detach().abs() for w in listed}
    masks = magnitude_masks(network, share, scope)
    for part in parts_of(scope):
        size, stays = joined(part, weights), joined(part, masks)
        count = round(share * len(size))
        miscounted += abs(int((~stays).sum()) - count)
        above += int(size[~stays].max() > size[stays].min())
        gone = int((size <= size.sort().values[count - 1]).sum())
        threshold_off = max(threshold_off, abs(gone - count) / len(size))
        parts_checked += 1
record(
    sl_scope_parts=parts_checked,
    sl_scope_counts=miscounted,
    sl_scope_order=above,
    sl_threshold_off=threshold_off,
)

# %% [markdown]
# In {glue:text}`sl_scope_parts` parts no weight too many or too few went, and none that is larger than one that stayed. By
# the threshold alone up to {glue:text}`sl_threshold_off:.0%` of the weights of a part would go without having been asked for.
#
# ### Masks and the optimiser
#
# Pruned weights are then to stay at zero while the rest is trained on, in {term}`fine-tuning`. Adam remembers. Below a copy of
# the model is trained for some steps with momentum and {term}`weight decay`, pruned, and trained on by the same Adam: with masks
# that are held, and with what one may write first, masked gradients.
#
# ```{margin} What brings weights back
# Not decay: $0 \cdot (1 - \eta\lambda) = 0$ as AdamW has it, and as part of the gradient $\lambda \cdot 0 = 0$. It is
# momentum from before the pruning. With masked gradients alone, {glue:text}`sl_mask_alone_others` pruned weights come back
# if Adam has no momentum, or begins anew, with decay of either kind. The fine-tuning of the [experiments](experiments.ipynb) does
# both, and would need no more.
# ```

# %%
show_body(Masks._catch_gradients, Masks._before, Masks._after, Masks._clear)


# %%
def fine_tune(held, beta1=0.9, anew=False, kind=torch.optim.AdamW):
    """Train, prune, train; what became of pruned weights and what Adam remembers."""
    network, gone = deepcopy(model), {}
    options = dict(lr=2e-3, betas=(beta1, 0.999), weight_decay=0.1)
    optimizer = kind(network.parameters(), **options)
    before, after, rows, length = 4, 6, 8, 20
    words = torch.as_tensor(text[: (before + after) * rows * (length + 1)]).long()
    batches = words.view(before + after, rows, length + 1)

    def gradients_of(part):
        optimizer.zero_grad()
        network.loss(part[:, :-1], part[:, 1:])[0].backward()
        return {name: network.get_parameter(name).grad for name in gone}

    def of_gone(tensors):
        return sum(float(tensors[name][g].square().sum()) for name, g in gone.items())

    def momentum():
        kept = {name: optimizer.state[network.get_parameter(name)] for name in gone}
        return of_gone({name: its["exp_avg"] for name, its in kept.items()}) ** 0.5

    for part in batches[:before]:
        gradients_of(part)
        optimizer.step()
    masks = magnitude_masks(network, sparsity)
    gone = {name: ~mask for name, mask in masks.items()}
    found = dict(remembered=momentum())
    pruned = Masks(network, masks)  # from here on they are zero
    raw = gradients_of(batches[before])
    found["norm"] = of_gone(raw) / sum(float(g.square().sum()) for g in raw.values())
    if anew:
        optimizer = kind(network.parameters(), **options)
    if held:
        pruned.hold(optimizer)
    else:
        for name, g in gone.items():
            hide = lambda gradient, g=g: gradient.masked_fill(g, 0)  # noqa: E731
            network.get_parameter(name).register_hook(hide)
    found["arrived"] = 0.0
    for part in batches[before:]:
        found["arrived"] += of_gone(gradients_of(part))
        optimizer.step()
    there = {name: network.get_parameter(name) != 0 for name in gone}
    return found | dict(
        alive=sum(int(there[name][g].sum()) for name, g in gone.items()),
        moved=sum(int((there[name] == g).sum()) for name, g in gone.items()),
        momentum=momentum(),
        pruned=sum(int(g.sum()) for g in gone.values()),
    )


held, alone = fine_tune(held=True), fine_tune(held=False)
others = [
    fine_tune(held=False, beta1=0.0),
    fine_tune(held=False, anew=True),
    fine_tune(held=False, anew=True, kind=torch.optim.Adam),
]
record(
    sl_mask_alive=held["alive"],
    sl_mask_moved=held["moved"],
    sl_mask_momentum_before=held["remembered"],
    sl_mask_momentum_after=held["momentum"],
    sl_mask_arrived=held["arrived"],
    sl_mask_norm=held["norm"],
    sl_mask_gradient_only=alone["alive"] / alone["pruned"],
    sl_mask_alone_moved=alone["moved"],
    sl_mask_alone_others=sum(its["alive"] for its in others),
)

# %% [markdown]
# Held masks leave every pruned weight at exactly zero and every other one in place, and nothing of pruned weights in Adam's
# state, where momenta of norm {glue:text}`sl_mask_momentum_before:.2f` had been. With masked gradients alone
# {glue:text}`sl_mask_gradient_only:.0%` of the pruned weights are back, and {glue:text}`sl_mask_alone_moved:,` places are not as
# the mask says.
#
# Why then mask gradients as well, and as soon as they arrive? Of the squared norm of the kernels' gradient,
# {glue:text}`sl_mask_norm:.0%` is that of weights which no longer exist, and clipping by norm would see it. Clipping comes before
# the step. So `_catch_gradients` hangs a hook on each parameter, and `_before`, at the step itself, is for gradients that
# somebody wrote there by hand.
#
# ### The trained mask
#
# Here is the identity {eq}`eq-sl-cov` again, for the pruned model on held-out text. The network is compressed, and on its left
# side stands what the kernels did in the three products that read units; the first reads word vectors and is dense.

# %%
products = products_of_pruned(model)
worst, trained = 0.0, {}
for place, its in enumerate(products):
    means, covariance = split_of_ratio(its.activity(), its.row_density())
    if place:
        worst = max(worst, abs(its.executed / its.dense - means - covariance))
    trained[f"sl_trained_activity_{place}"] = float(its.activity().mean())
    trained[f"sl_trained_cov_{place}"] = covariance
    trained[f"sl_trained_ratio_{place}"] = over_rule(its)
record(
    sl_trained_covariance=bound(worst),
    sl_trained_macs=sum(abs(its.executed - its.effective) for its in products[1:]),
    sl_trained_early=history[0]["ratio"],
    sl_trained_end=history[-1]["ratio"],
    **trained,
)

# %% [markdown]
# | product | activity | covariance | counted over product |
# |---|---|---|---|
# | W, layer 1 | {glue:text}`sl_trained_activity_0:.2f` | {glue:text}`sl_trained_cov_0:.4f` | {glue:text}`sl_trained_ratio_0:.3f` |
# | R, layer 1 | {glue:text}`sl_trained_activity_1:.2f` | {glue:text}`sl_trained_cov_1:.4f` | {glue:text}`sl_trained_ratio_1:.3f` |
# | W, layer 2 | {glue:text}`sl_trained_activity_2:.2f` | {glue:text}`sl_trained_cov_2:.4f` | {glue:text}`sl_trained_ratio_2:.3f` |
# | R, layer 2 | {glue:text}`sl_trained_activity_3:.2f` | {glue:text}`sl_trained_cov_3:.4f` | {glue:text}`sl_trained_ratio_3:.3f` |
#
# The first row has no covariance, since word vectors are never silent. The largest ratio of the others is
# {glue:text}`sl_trained_early:.3f` after a quarter of the training and {glue:text}`sl_trained_end:.3f` at its end. These are
# numbers of one short training, and no claim; but they say that the term must be measured, not taken to be zero.
#
# ```{margin} What a script prints
# The released script collects its {term}`backward sparsity`, the share of units with $|h - \theta| > 1/\beta$
# ([why that is not what its name says](../egru/method.ipynb)), batch by batch, each time the same tensor object, which is
# written over. Repeated here in {glue:text}`sl_printed_batches` batches, it prints {glue:text}`sl_printed:.4f`, the value of
# the last; the mean is {glue:text}`sl_printed_mean:.4f`.
# ```

# %% tags=["hide-input"]
written, collected, copied = torch.zeros(()), [], []


def far_from_threshold(words):
    """The share that the released script calls backward sparsity."""
    limit = 1 / config.surrogate_support
    with torch.no_grad():
        layers = model.run(words).layers
        far = [(run.after_reset() - run.threshold).abs() > limit for run in layers]
        return torch.stack([its.double().mean() for its in far]).mean()


for part in held_out:
    written.copy_(far_from_threshold(part[:, :-1]))
    collected.append(written)
    copied.append(written.clone())
at_once = float(far_from_threshold(held_out[..., :-1].flatten(0, 1)))
printed, mean = (float(torch.stack(each).mean()) for each in (collected, copied))
record(
    sl_printed_batches=len(held_out),
    sl_printed=printed,
    sl_printed_mean=mean,
    sl_printed_off=abs(printed - mean),
    sl_printed_copied=bound(abs(mean - at_once)),
)

# %% [markdown]
# ## Weight decay in e-folds
#
# The paper is said to tune activity by {term}`weight decay`. How much decay is much? A weight without gradient shrinks in each
# step of AdamW by $1 - \eta_t \lambda$. Over a run that is
#
# $$\prod_t (1 - \eta_t \lambda) \approx e^{-E}, \qquad E = \sum_t \eta_t \lambda,$$ (eq-sl-efolds)
#
# and $E$, the number of {term}`e-folds`, says what $\lambda$ alone does not: how much decay leaves of a first value.

# %%
rates = [0.01 * (1 + np.cos(np.pi * t / 500)) / 2 for t in range(500)]


def without_gradient(kind, **options):
    """What is left of a weight of one after gradients of zero."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = kind([weight], lr=0.01, weight_decay=0.5, **options)
    meter = DecayMeter(optimizer) if kind is torch.optim.AdamW else None
    for now in rates:
        optimizer.param_groups[0]["lr"] = now
        weight.grad = torch.zeros(1)
        optimizer.step()
    return float(weight.detach()), meter


left_over, meter = without_gradient(torch.optim.AdamW, betas=(0.0, 0.999))
expected = float(np.prod([1 - now * 0.5 for now in rates]))
in_gradient, _ = without_gradient(torch.optim.Adam, betas=(0.0, 0.999))
record(
    sl_decay=bound(abs(left_over - expected)),
    sl_decay_meter=bound(
        abs(meter.shrinkage[0] - left_over) + abs(shrinkage(rates, 0.5) - expected)
    ),
    sl_decay_left=left_over,
    sl_decay_efolds=efolds(rates, 0.5),
    sl_decay_exponential=float(np.exp(-efolds(rates, 0.5))),
    sl_decay_adam=abs(in_gradient - expected),
)

# %% [markdown]
# In a run of 500 steps with {glue:text}`sl_decay_efolds:.2f` e-folds {glue:text}`sl_decay_left:.4f` is left of a weight of one, where
# $e^{-E}$ is {glue:text}`sl_decay_exponential:.4f`. Of decay that is part of the gradient, as in Adam, nothing like this
# holds, because Adam divides it by its own size: there the weight ends {glue:text}`sl_decay_adam:.2f` away from this.
#
# Now the released recipes on one axis with short runs, of the length that a notebook allows.


# %%
def efolds_of(recipe, words):
    """Of a recipe on a text of so many words, windows of the mean length."""
    steps = int(recipe.epochs * (words // recipe.batch_size) / recipe.window)
    shares = (np.arange(steps) + 0.5) / steps
    return efolds((rate(recipe, share) for share in shares), recipe.weight_decay)


toy = dict(epochs=4, batch_size=32, window=35, lr=2e-3, warmup=0, final_rate=0)
lengths = {  # words of the training texts, ends of sentences or lines among them
    "Penn Treebank, released": (RELEASED["ptb_v0.2"], 929_589),
    "WikiText-2, released": (RELEASED["wikitext2_v0.2"], 2_088_628),
    "570 steps, decay 2": (LanguageTraining(**toy, weight_decay=2.0), 160_000),
    "570 steps, decay 0.5": (LanguageTraining(**toy, weight_decay=0.5), 160_000),
    "570 steps, decay 0.1": (LanguageTraining(**toy, weight_decay=0.1), 160_000),
    "the model of this page": (recipe, train_words),
}
folds = {name: efolds_of(*its) for name, its in lengths.items()}
record(
    sl_efolds_ptb=folds["Penn Treebank, released"],
    sl_efolds_wikitext2=folds["WikiText-2, released"],
    sl_efolds_toy=folds["570 steps, decay 0.5"],
    sl_efolds_here=folds["the model of this page"],
)

# %% mystnb={"figure": {"caption": "Weight decay in e-folds: what a weight without gradient goes through in a run. Left of the dashed line, at one, more than $1/e$ of its first value is left.", "name": "fig-sl-efolds"}, "image": {"alt": "Six marks on a logarithmic axis: the two released recipes near twenty, four short runs from a twentieth to one"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(7.2, 2.8))
for place, (name, value) in enumerate(folds.items()):
    shade = PALETTE["blue" if "released" in name else "orange"]
    axis.plot([1e-2, value], [place, place], color=shade, linewidth=1)
    axis.plot(value, place, "o", color=shade)
axis.axvline(1, color=PALETTE["grey"], linestyle="--", linewidth=1)
axis.set(xscale="log", xlabel="e-folds", xlim=(1e-2, 60), ylim=(5.5, -0.5))
axis.set_yticks(range(len(folds)), list(folds))
axis.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# The released recipe for Penn Treebank has {glue:text}`sl_efolds_ptb:.0f` e-folds, that for WikiText-2
# {glue:text}`sl_efolds_wikitext2:.0f`: long enough that first values are forgotten. This is arithmetic on the recipes of the
# README of version 0.2.0; what their weights are in the end was not measured. Five times as large a $\lambda$ in 570 steps
# has {glue:text}`sl_efolds_toy:.2f`, and the model of this page {glue:text}`sl_efolds_here:.2f`. Such runs begin and end near
# their first weights, as far as decay goes: a sweep over $\lambda$ in them says nothing about a run that forgets them, and an
# axis of $E$ shows it.
#
# ```{margin} What else comes with the recipe
# Every published command clips gradients inside of the kernel, which reads uninitialised memory. Between windows the
# cell's state restarts at zero. And its dropout masks are shared by a batch and new at each step. All three are [repeated
# for the EGRU](../egru/method.ipynb), as small computations.
# ```
#
# ## Where sparse stops paying
#
# Counts are not time. Adding a dense row is one sweep over memory; adding a compressed one writes here and there. For 1,344
# sources, a tenth of which speak, and 4,032 targets, this is how many products each way has at several densities:

# %%
wide, targets_of_wide = 1344, 4032  # the size of the recorded benchmark
said = spoken_by(0.1, 1, wide, generator)
products = {}
for density in (0.01, 0.02, 0.05, 0.1, 0.2):
    mask = torch.rand(wide, targets_of_wide, generator=generator) < density
    matrix = CSRBySource.from_dense(mask.double(), mask)
    _, products[density] = event_csr_counted(said, matrix)
rows = int((said != 0).sum()) * targets_of_wide
print("density              " + "".join(f"{density:8.2f}" for density in products))
counted = [p.multiply_accumulates for p in products.values()]
print("rows of events       " + f"{rows:8d}" * len(counted))
print("of these, compressed " + "".join(f"{n:8d}" for n in counted))
record(sl_pay_rows=rows, sl_pay_compressed=counted[3], sl_pay_ratio=rows / counted[3])

# %% [markdown]
# At a density of a tenth the compressed rows have {glue:text}`sl_pay_compressed:,` products instead of
# {glue:text}`sl_pay_rows:,`, {glue:text}`sl_pay_ratio:.0f` times fewer. What that is worth was measured once, at this size:
#
# ```{figure} ../../book/_generated/measured_events_curves.svg
# :name: fig-sl-crossover
# :alt: Time against activity and against density for dense products, rows by events and compressed rows, with their crossings
#
# Time of one product of 1,344 sources with 4,032 targets in single precision, on one thread, as recorded for the [page on kernels](../../book/kernels.md). Left: against activity, weights dense. Middle and right: against the density of the weights, with a tenth of the sources active and with all. Rows by events do not care about density; compressed rows cross them.
# ```
#
# The points of this figure, read by the program: where do compressed rows take as long as whole ones?

# %%
benchmark = read_json(Project.find().root / "benchmarks" / "results" / "events.json")
by_activity, some, every = benchmark["curves"]


def slowdown(curve):
    """Time of compressed rows over that of whole ones, density by density."""
    seconds = curve["seconds"]
    return np.divide(seconds["ours, compressed rows"], seconds["ours, rows"])


def crossing_of_times(curve):
    """The density of equal times, on the line between two points of the figure."""
    density, slower = np.log(curve["x"]), np.log(slowdown(curve))
    (at,) = np.flatnonzero((slower[:-1] < 0) & (slower[1:] >= 0))  # one, or no answer
    between = slice(at, at + 2)
    return float(np.exp(np.interp(0, slower[between], density[between])))


at_density = dict(zip(some["x"], slowdown(some), strict=True))
of_activity = dict(
    zip(by_activity["x"], by_activity["seconds"]["ours, rows"], strict=True)
)
record(
    sl_pay_silence=of_activity[1.0] / of_activity[0.1],
    sl_pay_gain=1 / at_density[0.1],
    sl_pay_loss=at_density[0.2],
    sl_pay_crossing=crossing_of_times(some),
    sl_pay_crossing_all=crossing_of_times(every),
)

# %% [markdown]
# Activity pays at once: with a tenth of the sources active, rows of events take {glue:text}`sl_pay_silence:.1f` times less time
# than with all. Density pays late: the {glue:text}`sl_pay_ratio:.0f` times fewer products above take
# {glue:text}`sl_pay_gain:.1f` times less time. Compressed rows are faster below a density of
# {glue:text}`sl_pay_crossing:.2f` with a tenth of the sources active, and of {glue:text}`sl_pay_crossing_all:.2f` with all;
# above, reading the zeros of whole rows is cheaper than to step around them. A model that is 80 % pruned has a fifth of the
# products and takes {glue:text}`sl_pay_loss:.1f` times as long as with whole rows, on the processor of the benchmark. The paper's gains are
# about hardware that can use both, and in this book a density is not a time. `event_product` measures the crossing on the
# machine at hand and chooses.
#
# ## What to remember
#
# Both kinds of zeros can be skipped in one kernel, forward and back, without changing any number, and what is left can be
# counted exactly. That their gains multiply is an identity with one more term, the covariance of how often a unit speaks and how
# many weights it keeps. For random masks it is noise, whose size can be given; a mask can be made to break the rule in either
# direction. "Sparsity" names different networks in different scopes, decay means nothing without the length of a run, and
# products are not time. What training and pruning make of quality, activity and covariance is a matter of experiment.

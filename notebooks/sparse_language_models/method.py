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
grid_activities: list[float] = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
grid_densities: list[float] = [0.05, 0.1, 0.2, 0.5]
grid_tokens: int = 8  # products for each of them
mask_draws: int = 400  # masks from which the noise is estimated
vocabulary: int = 2000  # words of the language model, without two marks
hidden_size: int = 96  # units of its first layer
embedding: int = 64  # units of its second, which is the size of a word's vector
train_words: int = 30_000  # that it is trained on, once
sparsity: float = 0.9  # to which its kernels are pruned

# %% tags=["hide-input"]
from copy import deepcopy
from inspect import getsource
from itertools import product
from textwrap import dedent

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display
from myst_nb import glue

from eventbook.companion.notebook import PALETTE, bound, record, show_code, use_theme
from eventbook.datasets.text.sets import load_text
from eventbook.kernels.events import (
    CSRBySource,
    Operations,
    egru_csr_gradients,
    egru_csr_sequence,
    egru_need,
    egru_sequence,
    event_csr_counted,
)
from eventbook.kernels.events.csr import _forward
from eventbook.kernels.events.egru import RESETS
from eventbook.learning.language_modelling import (
    RELEASED,
    LanguageTraining,
    rate,
    train_language_model,
    windows,
)
from eventbook.learning.pruning import (
    SCOPES,
    DecayMeter,
    Masks,
    Prunable,
    efolds,
    magnitude_masks,
    recurrent_weights,
    shrinkage,
)
from eventbook.learning.pruning.selection import _keep_highest
from eventbook.models.egru import compress
from eventbook.models.language_model import LanguageModel, LanguageModelConfig
from eventbook.models.sparsity_metrics import (
    dense_macs,
    measure_sparsity,
    modelled_macs,
    noise_of_random_masks,
    split_of_ratio,
)


def show_body(*functions):
    """Show what functions do, without their signatures, wider than a page."""
    bodies = (getsource(f).split('"""')[2].strip("\n") for f in functions)
    code = "\n\n".join(
        f"# {f.__name__}\n{dedent(body)}"
        for f, body in zip(functions, bodies, strict=True)
    )
    display(Markdown(f"```python\n{code.strip()}\n```"))


torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
use_theme()

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
            look = dict(facecolor=PALETTE[shade], linewidth=0, alpha=1 if spoke else 0.3)
            axis.broken_barh(spans, (row - 0.4, 0.8), **look)
axis.set(xlabel="target", ylabel="source", xlim=(-0.6, 49.6), ylim=(19.6, -0.6))
axis.grid(False)
glue("sl_zeros", figure)
plt.close(figure)

# %% [markdown]
# ```{glue:figure} sl_zeros
# ```
#
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
# the first. In the released stack, 750-1350-1350-750, the same two shares leave one in {glue:text}`sl_stack_fewer:.1f`, not
# one in 20. In the {term}`EGRU` of the first paper, 788-1350-1350-788, an activity of 20.3 % in every layer would leave
# {glue:text}`sl_stack_share:.0%` of the products, not 20.3 %.
# ```
#
# For a whole stack with $G$ gates, input sizes $I_l$, units $H_l$, activities $a_l$ and densities $w_l$:
#
# $$\text{dense} = \sum_l G H_l (I_l + H_l), \qquad
#   \text{modelled} = \sum_l G H_l\,(a_{l-1} w^W_l I_l + a_l w^R_l H_l), \qquad a_0 = 1.$$ (eq-sl-stack)

# %%
released = 750, [1350, 1350, 750]
left = modelled_macs(*released, [0.2] * 3, [0.25] * 3, [0.25] * 3)
first_paper = 788, [1350, 1350, 788]
record(
    sl_stack_dense=dense_macs(*released) / 1e6,
    sl_stack_lstm=dense_macs(400, [1150, 1150, 400], gates=4) / 1e6,
    sl_stack_fewer=dense_macs(*released) / left,
    sl_stack_share=modelled_macs(*first_paper, [0.203] * 3) / dense_macs(*first_paper),
)

# %% [markdown]
# The released stack has {glue:text}`sl_stack_dense:.2f` million dense products for a word, the densely active AWD-LSTM that
# it is compared with, 400-1150-1150-400 with four gates, {glue:text}`sl_stack_lstm:.2f` million.
#
# ```{margin} None of it is saved in the released code
# Its kernels are dense, so that neither kind of zero makes anything cheaper: [what speaking
# costs](../egru/method.ipynb#what-speaking-costs). The gains of the paper are counted, not run.
# ```
#
# ## Counting exactly
#
# In compressed rows only what is there is stored: for source $i$ the weights from `indptr[i]` to `indptr[i + 1]` and their
# targets. The kernel walks events and their rows, and counts what it did.

# %%
show_code(_forward)

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
    """Error, events that differ, and operations miscounted, forward and back."""
    drive, masked, mask, bias, theta = problem(seed)
    matrix = CSRBySource.from_dense(masked, mask)
    own = dict(reset=reset, surrogate_support=3.6)
    leaf = masked.clone().requires_grad_(), matrix.values.clone().requires_grad_()
    drives = drive.clone().requires_grad_(), drive.clone().requires_grad_()
    dense = egru_sequence(drives[0], leaf[0], bias, theta, **own)
    events = matrix.with_values(leaf[1])
    sparse = egru_csr_sequence(drives[1], events, bias, theta, **own)
    to_said = torch.randn(dense.output.shape, generator=generator)
    theirs = torch.autograd.grad((dense.output * to_said).sum(), [leaf[0], drives[0]])
    ours = torch.autograd.grad((sparse.output * to_said).sum(), [leaf[1], drives[1]])
    pairs = (
        (sparse.output, dense.output),
        (sparse.state, dense.state),
        (ours[0], theirs[0][mask]),
        (ours[1], theirs[1]),
    )
    length, said = mask.sum(1), (dense.output != 0)[:, :-1]
    need = egru_need(dense.state, theta, 3.6)[:, :-1]
    there = drive, matrix, bias, theta
    _, back = egru_csr_gradients(to_said, *there, **own)
    counted = sparse.operations().multiply_accumulates, back.multiply_accumulates
    events_cost = int((said * length).sum())
    expected = events_cost, events_cost + int((need * length).sum())
    return (
        max(relative(*pair) for pair in pairs),
        int(((sparse.output != 0) != (dense.output != 0)).sum()),
        [abs(a - b) for a, b in zip(counted, expected, strict=True)],
        events_cost,
    )


checked = [compare(s, r) for s, r in product(check_seeds, RESETS)]
record(
    sl_csr=bound(max(error for error, *_ in checked)),
    sl_csr_events=sum(differ for _, differ, _, _ in checked),
    sl_macs_forward=sum(wrong[0] for _, _, wrong, _ in checked),
    sl_macs_backward=sum(wrong[1] for _, _, wrong, _ in checked),
    sl_macs_checked=sum(cost for *_, cost in checked),
)

# %% [markdown]
# {glue:text}`sl_macs_checked:,` products went into this, of networks under all resets. The two paths agree to rounding and
# have the same events, and no operation is miscounted in either direction.
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
# The identity holds for all four. The rule of the product does not: with masks that prefer active units more is left than
# it says, with masks that avoid them less. Whether a *trained* mask is one of these is a question for an experiment.
#
# ### How close is chance?
#
# A random mask has no covariance on average, but one mask is one draw. Let each weight be kept with probability $w$, and
# let source $i$ speak $k_i$ times to $N$ targets. The count is $\sum_i k_i n_i$ with binomial $n_i$, so its relative
# standard deviation is
#
# $$\sqrt{\frac{1-w}{w N n}}, \qquad n = \frac{\big(\sum_i k_i\big)^2}{\sum_i k_i^2}.$$ (eq-sl-noise)
#
# ```{margin} Events are not independent looks
# If no source speaks twice, $n$ is the number of events. That is the formula one writes down first, and it is too small for any
# recording of more than one token: a source that speaks again reads the same row, not a new draw.
# ```
#
# The recording above, and {glue:text}`sl_noise_draws` masks:

# %%
times = (said != 0).sum(0)
events = int(times.sum())
shares = []
for _ in range(mask_draws):
    kept = (torch.rand(units, 3 * units, generator=generator) < density).sum(1)
    shares.append(float(times @ kept) / (density * 3 * units * events))
once = ((1 - density) / (density * 3 * units * events)) ** 0.5
general = noise_of_random_masks(density, 3 * units, times)
record(
    sl_noise_draws=mask_draws,
    sl_noise_events=events,
    sl_noise_seen=float(np.std(shares)),
    sl_noise_general=general,
    sl_noise_once=once,
    sl_noise_over_general=float(np.std(shares)) / general,
    sl_noise_over_once=float(np.std(shares)) / once,
)

# %% [markdown]
# With {glue:text}`sl_noise_events:,` events the spread is {glue:text}`sl_noise_seen:.2%`. The formula gives
# {glue:text}`sl_noise_general:.2%`; with the number of events in place of $n$ it would be {glue:text}`sl_noise_once:.2%`.
#
# Now a grid of activities and densities. Each cell has a mask of its own and is counted twice, for one token, where no
# source speaks twice, and for several.


# %%
def counted_over_rule(share, density, tokens):
    """Counted products over activity times density times dense ones, and the noise."""
    said = spoken_by(share, tokens, grid_units, generator)
    mask = torch.rand(grid_units, 3 * grid_units, generator=generator) < density
    matrix = CSRBySource.from_dense(mask.double(), mask)
    counted = event_csr_counted(said, matrix)[1].multiply_accumulates
    times = (said != 0).sum(0)
    rule = int(times.sum()) * density * 3 * grid_units
    return counted / rule, noise_of_random_masks(density, 3 * grid_units, times)


grid = {
    (tokens, a, w): counted_over_rule(a, w, tokens)
    for tokens, w, a in product((1, grid_tokens), grid_densities, grid_activities)
}
ratios = [ratio for ratio, _ in grid.values()]
deviations = [abs(ratio - 1) / noise for ratio, noise in grid.values()]
allowed = [abs(ratio - 1) / max(0.02, 3 * noise) for ratio, noise in grid.values()]
record(
    sl_random_units=grid_units,
    sl_random_cells=len(grid),
    sl_random_least=min(ratios),
    sl_random_most=max(ratios),
    sl_random_deviations=max(deviations),
    sl_random_multiplies=max(allowed),
)

# %% mystnb={"figure": {"caption": "Random masks: counted products over what the rule of the product says. One mark for each activity and density, left for one token, right for several. Bars: three standard deviations by the formula of this page.", "name": "fig-sl-grid"}, "image": {"alt": "Two panels of marks with bars around a line at one; bars are longest for low activities and densities, and shorter in the right panel"}} tags=["hide-input"]
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
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %% [markdown]
# In {glue:text}`sl_random_cells` cells of a layer of {glue:text}`sl_random_units` units the ratio goes from
# {glue:text}`sl_random_least:.3f` to {glue:text}`sl_random_most:.3f`, and is never more than
# {glue:text}`sl_random_deviations:.1f` standard deviations from one. For random masks the gains multiply.
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
quiet = said[(said != 0).sum(1) > 0][:1]
# By target: whatever the input, each target walks its row.
_, walked = event_csr_counted(torch.ones(1, by_target.sources), by_target)
_, of_events = event_csr_counted(quiet, matrix)
record(
    sl_rows_stored=len(matrix.values),
    sl_rows_by_target=walked.multiply_accumulates,
    sl_rows_by_source=of_events.multiply_accumulates,
    sl_rows_activity=float((quiet != 0).double().mean()),
    sl_rows_bytes=of_events.bytes_read / of_events.multiply_accumulates,
)

# %% [markdown]
# For one token of the recording, at an activity of {glue:text}`sl_rows_activity:.0%`, {glue:text}`sl_rows_by_source:,` of
# {glue:text}`sl_rows_stored:,` stored weights are read by source, and {glue:text}`sl_rows_by_target:,` by target.
#
# What remains to be paid is knowing where the weights are. Here an entry takes {glue:text}`sl_rows_bytes:.0f` bytes in
# double precision, eight of them the weight and four its target, and a source takes another eight for where its row begins.
# On a chip with little memory one counts more carefully: weights of 16 or 8 bits, targets of 16, or one bit for each
# possible target whether it is there.


# %%
def bytes_of_source(width, density, targets, index=None):
    """Bytes for a source: dense, with an index for each weight, or with a bit for each."""
    kept = density * targets
    if index is None:
        return np.full_like(density, width * targets)
    if index == "bit":
        return width * kept + targets / 8
    return (width + index) * kept + 8


share, wide = np.geomspace(0.005, 1, 200), 3 * 1350
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
    sl_bytes_pointer=8 / ((4 + 4) * 0.1 * wide),
)

# %% mystnb={"figure": {"caption": "Memory of a source with 4,050 possible targets, as a share of a dense row. Left: weights of 32 bits. Right: weights of 8 bits, as on a chip.", "name": "fig-sl-bytes"}, "image": {"alt": "Two panels with curves that rise with density and cross the line of dense rows; with small weights they cross it at lower densities, except one bit for each target"}} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.4), sharey=True)
for axis, width in zip(axes, (4, 1), strict=True):
    for name, (_, shade) in ways.items():
        relative_size = where[width, name] / (width * wide)
        axis.loglog(share, relative_size, color=PALETTE[shade], label=name)
    axis.set(xlabel="density", title=f"weights of {8 * width} bits", ylim=(0.006, 4))
axes[0].set_ylabel("bytes over dense bytes")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# In single precision with targets of 32 bits, compressed rows are smaller below a density of {glue:text}`sl_bytes_even:.2f`;
# with weights of 8 bits and targets of 16, below {glue:text}`sl_bytes_even_small:.2f`. One bit for each target is smaller
# than either down to a density of {glue:text}`sl_bytes_crossing:.3f`. The beginning of a row does not matter: at a density of a
# tenth it is {glue:text}`sl_bytes_pointer:.1%` of the row. The question comes back in the chapter that puts such a
# network on SpiNNaker 2.

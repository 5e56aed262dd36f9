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
# # Method: a distance is enough
#
# A sequence model sees a list. It does not know whether two neighbours in the list are close together or far apart; it has
# to guess that from what they say. For words that is all there is. For points in space and events in time it is a strange
# thing to throw away, because the distances *are* the data.
#
# STREAM {cite}`schoene2024stream` changes one factor in one recurrence: the state of a {term}`selective state-space model`
# forgets by the distance between neighbours and no longer by a step that it has guessed. This page shows what that gives
# exactly, and what it does not.

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
    os.chdir(f"{home}/notebooks/stream")

# %% tags=["parameters"]
seed: int = 0  # of everything random on this page
table_points: int = 60  # points of the explicit table of all pairs
rate_min: float = 0.5  # range of the rates of a fresh block, per unit
rate_max: float = 10.0  # the other end of it
scan_lengths: list[int] = []  # points to time the scan with; empty: recorded times
table_lengths: list[int] = [
    150,
    210,
    300,
    420,
    600,
    850,
]  # and the table of all pairs

# %% tags=["hide-input"]
import time
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch

from eventbook.companion.notebook import (
    PALETTE,
    bound,
    keep,
    record,
    recorded,
    show_code,
    use_theme,
)
from eventbook.datasets import load_cad_parts
from eventbook.kernels.scans import (
    coordinate_scan,
    linear_scan,
    selective_scan,
    selective_step,
)
from eventbook.kernels.scans.oracles import pairwise_coordinates
from eventbook.kernels.scans.selective import selective_scan_reference
from eventbook.models.stream import (
    StreamBlock,
    StreamConfig,
    StreamPoints,
    sort_along_axes,
)
from eventbook.models.stream.baselines import farthest_points

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
use_theme()
full = recorded("stream")  # the recorded full run, for times

# %% [markdown]
# ## Points, and what is between them
#
# A part from a library of real electronic components: 512 points on its surface. There is no first point. But there are
# three orders that need no decision: along $x$, along $y$, along $z$. Each makes the cloud a sequence ({term}`axis
# sorting`), and each neighbour has a distance, the {term}`gap`.

# %%
parts = load_cad_parts("train")
print(fill(str(parts.source), 86))
chosen = int(np.flatnonzero(parts.labels == parts.classes.index("Connector_Dsub"))[3])
cloud = torch.from_numpy(parts.points[chosen]).double()[None]
order, gap = sort_along_axes(cloud)
every = sort_along_axes(torch.from_numpy(parts.points)).gap
record(
    st_parts=len(parts),
    st_zero_gaps=float((every[..., 1:] == 0).double().mean()),
    st_negative_gaps=int((every < 0).sum()),
)

# %% mystnb={"figure": {"caption": "A connector from the library, and the distances between neighbours when its points are sorted along each axis. Most are zero: the points lie on a grid, and on flat faces.", "name": "fig-st-part"}, "image": {"alt": "A cloud of points in the shape of a connector, and three bar charts of gaps with few tall bars"}} tags=["hide-input"]
figure = plt.figure(figsize=(8.6, 4.0))
axis = figure.add_subplot(1, 2, 1)
x, y, z = cloud[0].T
far_first = np.argsort(-y.numpy(), kind="stable")
axis.scatter(
    (x + 0.45 * y)[far_first],
    (z + 0.35 * y)[far_first],
    s=10,
    c=-y[far_first],
    cmap="cividis",
)
axis.set(aspect="equal")
axis.axis("off")
axes = figure.subplots(3, 2, sharex=True, gridspec_kw={"hspace": 0.35})
for row, name in enumerate("xyz"):
    axes[row, 0].remove()
    axes[row, 1].vlines(range(512), 0, gap[0, row], PALETTE["blue"], linewidth=0.8)
    axes[row, 1].set(ylabel=f"gap in {name}", xlim=(0, 512), ylim=0)
axes[2, 1].set(xlabel="position in the order", xticks=[0, 256, 512])
plt.show()

# %% [markdown]
# ```{margin} Ties
# Coordinates are whole numbers up to 127, so ties are the rule: {glue:text}`st_zero_gaps:.0%` of the gaps in
# {glue:text}`st_parts:,` parts are zero. Points that share a coordinate are ordered by the next one, so that the order does
# not depend on how the file listed them.
# ```
#
# ## Two things that one step did
#
# In Mamba {cite}`gu2023mamba` one number $\Delta$, computed from the input, does two things. It says how much of the state
# is forgotten, and how strongly the input is taken in:
#
# $$h_i = e^{\Delta_i A}\, h_{i-1} + \Delta_i B_i\, u_i, \qquad y_i = C_i h_i + D u_i .$$ (eq-st-mamba)
#
# STREAM separates them. Forgetting is a matter of where the point is; taking in is a matter of what it is:
#
# $$h_i = e^{(t_i - t_{i-1})\, r\, A}\, h_{i-1} + \Delta_i B_i\, u_i, \qquad r = \mathrm{softplus}(\beta) .$$ (eq-st-step)
#
# The rate $r$ is learnt for each channel and does not depend on the input. $A$ is real and negative, $-1 \ldots -n$ at
# first, so that a channel holds states of $n$ time scales.
#
# ```{margin} Where this is from
# The abstract says that relative differences of coordinates enter the step size. That only the decay takes them, and that
# the input keeps Mamba's learned step, is how [lrnnx](https://github.com/SforAiDl/lrnnx) does it, a library whose first
# author is one of the paper's first authors. It is the *released library* of this chapter. The paper's own code, which it
# names as its source, was not public to us.
# ```

# %%
show_code(selective_scan_reference)

# %% [markdown]
# A random problem, to check things on: a few channels, real points along one axis.

# %%
generator = torch.Generator().manual_seed(seed)
points, channels, states = 257, 6, 5


def normal(*shape):
    return torch.randn(shape, generator=generator)


t = torch.sort(72 * torch.rand(points, generator=generator)).values
gap = torch.diff(t, prepend=t[:1])[None]
u, B, C = (
    normal(1, points, channels),
    normal(1, points, states),
    normal(1, points, states),
)
delta = torch.nn.functional.softplus(normal(1, points, channels))
A = -torch.arange(1.0, states + 1).repeat(channels, 1)
rate = torch.exp(torch.empty(channels).uniform_(-2, 2, generator=generator))
D = normal(channels)


def outputs(gap=gap, u=u, delta=delta, B=B, C=C, rate=rate):
    return coordinate_scan(u, gap, rate, delta, A, B, C, D)[0]


def learned(u=u, delta=delta, B=B, C=C):
    """The same with the learned step everywhere: Mamba."""
    return selective_scan(u, delta, A, B, C, D)[0]


y = outputs()

# %% [markdown]
# ## All pairs in one pass
#
# Written out, the recurrence is a sum over all earlier points, each weighted by its distance and by what both points are:
#
# $$y_i = \sum_{j \le i} C_i^\top e^{\,r A (t_i - t_j)}\, \Delta_j B_j\, u_j + D u_i .$$ (eq-st-pairs)
#
# So one pass over $N$ points computes the interactions of all pairs, $N^2/2$ of them. All ordered pairs: a point acts on
# those after it, and half of the table stays empty. Exponents are formed from differences of coordinates; a product of
# $e^{At_i}$ and $e^{-At_j}$ would overflow long before.

# %%
table = pairwise_coordinates(u, gap, rate, delta, A, B, C, D)
record(st_pairs=bound(float((y - table).abs().max())))

# %% mystnb={"figure": {"caption": "Weight of the pair (i, j) for a slow and a fast channel (rates 2 and 20, the state with A = -1), some points of the connector along x. Upper row: against the index, as a list has it. Lower row: against the coordinate, where the same weights are a function of distance alone.", "name": "fig-st-table"}, "image": {"alt": "Four triangular heat maps; against the index they are blotchy, against the coordinate smooth"}} tags=["hide-input"]
if not 2 <= table_points <= 512:
    raise ValueError(f"table_points must be in 2..512, got {table_points}")
chosen = np.linspace(0, cloud.shape[1] - 1, table_points).astype(int)
some = np.sort(cloud[0, chosen, 0].numpy())
distance = some[:, None] - some[None]
figure, axes = plt.subplots(2, 2, figsize=(7.2, 6.4))
for column, (r, name) in enumerate(((2.0, "slow"), (20.0, "fast"))):
    earlier = np.tri(len(some), dtype=bool)
    weight = np.where(earlier, np.exp(-r * np.abs(distance)), np.nan)
    axes[0, column].imshow(weight, cmap="cividis", vmin=0, vmax=1)
    axes[0, column].set(title=f"{name} channel", xlabel="index j")
    axes[1, column].pcolormesh(some, some, weight, cmap="cividis", vmin=0, vmax=1)
    axes[1, column].set(
        xlabel="coordinate of j", ylim=(some[-1], some[0]), aspect="equal"
    )
axes[0, 0].set_ylabel("index i")
axes[1, 0].set_ylabel("coordinate of i")
for axis in axes.flat:
    axis.grid(False)
plt.show()

# %% [markdown]
# ## What follows exactly
#
# **It does not matter where the origin is.** Only differences enter.

# %%
shifted = t + 10.0
record(
    st_shift=bound(
        float(
            (outputs(torch.diff(shifted, prepend=shifted[:1])[None]) - y).abs().max()
        ),
        floor=1e-11,
    )
)

# %% [markdown]
# **It does not matter in which order the points were listed.** They are sorted first, and with distinct keys there is one
# order. With ties the *state* after the tied points is still the same, while the outputs of the tied points themselves
# depend on which came first.

# %%
shuffle = torch.randperm(points, generator=generator)
again_sorted = sort_along_axes(t[shuffle][None, :, None], (0,))
back = again_sorted.order[0, 0]
again = outputs(
    again_sorted.gap[0],
    u=u[:, shuffle][:, back],
    delta=delta[:, shuffle][:, back],
    B=B[:, shuffle][:, back],
    C=C[:, shuffle][:, back],
)
tied = gap.clone()
tied[0, 100] = 0.0
swap = torch.arange(points)
swap[[99, 100]] = torch.tensor([100, 99])
first = outputs(tied)
second = outputs(tied, u[:, swap], delta[:, swap], B[:, swap], C[:, swap])
record(
    st_permutation=bound(float((again - y).abs().max())),
    st_ties_after=bound(float((first - second)[:, 101:].abs().max())),
    st_ties_within=float((first[:, swap] - second)[:, 99:101].abs().max()),
)

# %% [markdown]
# With ties the outputs would depend on the listing after all, so a rule must decide them. Here the other two coordinates
# do, in turn; points that agree in all three are the same point. A whole network then gives the same scores for a real
# part, where ties are the rule, however its points are listed. Sorted along the scanned axis alone, in the order of the
# listing among ties, it does not.

# %%
network = StreamPoints(
    StreamConfig(41, d_model=16, unit=0.05), generator=generator
).eval()


def by_listing(points, axes=(0, 1, 2)):
    """Orders whose ties stand as they were listed."""
    order = torch.stack([points[..., a].argsort(dim=1, stable=True) for a in axes], 1)
    along = points[..., list(axes)].mT.gather(2, order)
    return order, torch.diff(along, dim=2, prepend=along[..., :1])


def scores(points, rule):
    """What the network says of the three orders that a rule makes."""
    order, gap = rule(points)
    v = network.embed(points)[0, order] + network.axis_vector[:, None]
    v, gap = v[0], gap[0] / network.config.unit
    for block in network.blocks:
        v, _ = block(v, gap)
    return network.readout(network.norm(v.mean((0, 1))))


listing = torch.randperm(512, generator=generator)
with torch.no_grad():
    apart = (network(cloud) - network(cloud[:, listing])).abs().max()
    same = (network(cloud) - scores(cloud, sort_along_axes)).abs().max()
    loose = (
        (scores(cloud, by_listing) - scores(cloud[:, listing], by_listing))
        .abs()
        .max()
    )
record(
    st_listing=bound(float(torch.maximum(apart, same))), st_listing_loose=float(loose)
)

# %% [markdown]
# **A point that says nothing changes nothing.** A {term}`null point`, $u = 0$, is put somewhere into every gap. With
# learned steps it does: it has a step like any other, and the state forgets.

# %%
share = torch.rand(points - 1, generator=generator)
denser = torch.cat(
    [
        gap[0, :1],
        torch.stack([share * gap[0, 1:], (1 - share) * gap[0, 1:]], 1).flatten(),
    ]
)[None]


def with_nulls(x, value=None):
    """Every second element is new: zero, or random where it must be something."""
    longer = (
        normal(1, 2 * points - 1, x.shape[2])
        if value is None
        else torch.zeros(1, 2 * points - 1, x.shape[2])
    )
    longer[:, ::2] = x
    return longer


longer = dict(
    u=with_nulls(u, 0),
    B=with_nulls(B),
    C=with_nulls(C),
    delta=with_nulls(delta).abs(),
)
record(
    st_null=bound(float((outputs(denser, **longer)[:, ::2] - y).abs().max())),
    st_null_learned=float((learned(**longer)[:, ::2] - learned()).abs().max()),
)

# %% [markdown]
# This is a property of the scan, not of every block around it. A fresh block of ours, without a convolution, inherits it,
# because nothing before its scan adds a constant. Its norm has a bias, however, zero at first and learned: with that a null
# point says something, and a *trained* block has the property no longer. The convolution of width 4 that Mamba has, and the
# released library with it, mixes neighbours by their *index*, whatever their distance, and a null point pushes the others
# apart.

# %%
v = normal(1, points, 16)
changed = {}
for width in (0, 4):
    small = StreamBlock(16, 4, conv_width=width, generator=generator)
    with torch.no_grad():
        alone = small(v, gap)[0]
        among = small(with_nulls(v, 0), denser)[0][:, ::2]
        small.norm.bias.copy_(torch.linspace(-1, 1, 16))
        biased = small(with_nulls(v, 0), denser)[0][:, ::2] - small(v, gap)[0]
    changed[width] = float((alone - among).abs().max())
    changed[width, "bias"] = float(biased.abs().max())
record(
    st_block_null=bound(changed[0]),
    st_block_null_conv=changed[4],
    st_block_null_bias=changed[0, "bias"],
)

# %% [markdown]
# **Units are a matter of taste.** Coordinates in millimetres with rates per millimetre, or in inches with rates per inch,
# are the same operator.
#
# **One point at a time** gives the very numbers of the scan, from a state of fixed size.
#
# **With $\Delta^A = \Delta$ it is Mamba.** And **with constant $B$, $C$ and $\Delta$** it is the scan of
# [Event-SSM](../event_ssm/index.md), a real diagonal recurrence that decays by the gap: the two chapters are two corners of
# one family.

# %%
state = torch.zeros(1, channels, states)
one_by_one = []
for i in range(points):
    step = gap[:, i, None] * rate
    out, state = selective_step(
        u[:, i], delta[:, i], A, B[:, i], C[:, i], state, D, delta_a=step
    )
    one_by_one.append(out)
mamba = selective_scan_reference(u, delta, A, B, C, D)[0]
given = selective_scan(u, delta, A, B, C, D, delta_a=delta)[0]
ones = torch.ones(1, points, states)
constant = coordinate_scan(u, gap, rate, torch.ones_like(delta), A, ones, ones)[0]
decay = torch.exp(
    gap[0, :, None, None] * rate[:, None] * A
)  # (point, channel, state)
driven = u[0, :, :, None].expand(-1, -1, states)
diagonal = linear_scan(decay.flatten(1)[None], driven.flatten(1)[None])[0]
summed = diagonal.view(1, points, channels, states).sum(3)
record(
    st_units=bound(float((outputs(25.4 * gap, rate=rate / 25.4) - y).abs().max())),
    st_steps=bound(float((torch.stack(one_by_one, 1) - y).abs().max())),
    st_mamba=bound(float((given - mamba).abs().max())),
    st_bridge=bound(float((constant - summed).abs().max())),
)

# %% [markdown]
# **Gaps are never negative.** Three sorted copies of a cloud, placed end to end, have a negative gap at each joint, from
# the last point along $x$ back to the first along $y$. There the decay exceeds one and the state grows. Here the copies are
# rows of a batch, each begins with an empty state, and a negative gap is an error that names its place.

# %%
end_to_end = torch.cat([cloud[0, order[0, axis], axis] for axis in range(3)])
joint_gap = torch.diff(end_to_end, prepend=end_to_end[:1])
growth = torch.exp(joint_gap.min() * rate.max() * A.min())
crafted = gap.clone()
crafted[0, [100, 200]] = -0.5
try:
    outputs(crafted)
    refused = ""
except ValueError as error:
    refused = str(error)
print(refused)
record(
    st_joints=int((joint_gap < 0).sum()),
    st_joint_growth=float(growth.log10()),
    st_refused=refused.startswith("gap must be >= 0") and "[0, 100]" in refused,
)

# %% [markdown]
# At the {glue:text}`st_joints` joints of this part the fastest state of the random problem would grow by a factor of
# $10^{{glue:text}`st_joint_growth:.0f`}$.
#
# ```{margin} A port that sorts twice
# In an earlier port by the same author ([jax-pt-mamba](https://github.com/karannb/jax-pt-mamba)) the centres, already
# sorted and placed end to end, are indexed by the orders a second time, and $x$ drives all three copies. On the centres of
# this part {glue:text}`st_twice:.0%` of all steps then go backwards.
# ```

# %%
centres = cloud[0, farthest_points(cloud, 64)[0]]
orders = sort_along_axes(centres[None]).order[0].flatten()
placed = centres[orders]  # x-sorted, y-sorted, z-sorted: 192 points
twice = placed[orders]  # the second indexing: orders point into the first copy
record(st_twice=float((torch.diff(twice[:, 0]) < 0).double().mean()))

# %% [markdown]
# ## In the kernel
#
# Mamba's kernel needs one more pointer: the step of the decay is loaded beside that of the input and used in the
# exponential alone. Here it has rank one, a gap for each point times a rate for each channel, so that nothing of the size
# of the input is stored for it. Backwards, with $\bar A_i = e^{(t_i - t_{i-1}) r A}$ and the gradient $\bar y$ of the
# outputs, one carries
#
# $$\bar h_i = C_i\, \bar y_i + \bar A_{i+1} \bar h_{i+1}$$ (eq-st-adjoint)
#
# from the end to the start, beginning with the gradient of the last state, and reads off it, for each channel,
#
# $$\bar u_i = \Delta_i B_i^\top \bar h_i + D \bar y_i, \qquad
#   \bar\Delta_i = u_i B_i^\top \bar h_i, \qquad
#   \bar g_i = \textstyle\sum_n A\, \bar A_i\, h_{i-1} \bar h_i .$$ (eq-st-gradients)
#
# The last one is the gradient of the decay's step, $(t_i - t_{i-1})\, r$: summed over channels with $r$ it is that of the
# gap, summed over points with the gap that of the rate. Here are these lines beside the kernel.


# %%
def adjoint(y_bar, last_bar):
    """Gradients to u, delta, gap and rate by the formulas above."""
    decay = torch.exp(gap[0, :, None, None] * rate[:, None] * A)
    h, before = torch.zeros(channels, states), []
    for i in range(points):
        before.append(h)
        h = decay[i] * h + (delta[0, i] * u[0, i])[:, None] * B[0, i]
    h_bar, found = last_bar, []
    for i in reversed(range(points)):
        h_bar = C[0, i] * y_bar[i][:, None] + h_bar
        into = (h_bar * B[0, i]).sum(1)
        step_bar = (A * decay[i] * before[i] * h_bar).sum(1)
        found.append((delta[0, i] * into + D * y_bar[i], u[0, i] * into, step_bar))
        h_bar = decay[i] * h_bar
    to_u, to_delta, to_step = map(torch.stack, zip(*found[::-1], strict=True))
    return to_u, to_delta, to_step @ rate, gap[0] @ to_step


# %%
leaves = [x.clone().requires_grad_() for x in (u, delta, gap, rate)]
y_bar, last_bar = normal(points, channels), normal(channels, states)
out, last = coordinate_scan(leaves[0], leaves[2], leaves[3], leaves[1], A, B, C, D)
loss = (out[0] * y_bar).sum() + (last[0] * last_bar).sum()
kernel = torch.autograd.grad(loss, leaves, retain_graph=True)
apart = [
    (ours - theirs.reshape(ours.shape)).abs().max() / ours.abs().max()
    for ours, theirs in zip(adjoint(y_bar, last_bar), kernel, strict=True)
]
of_last = torch.autograd.grad((last[0] * last_bar).sum(), leaves)
record(
    st_adjoint=bound(float(max(apart))),
    st_last_gradient=float(of_last[2].abs().max()),
)

# %% [markdown]
# ```{margin} The last state
# The compiled scans of Mamba and of the released library return the last state on demand and ignore its gradient. A loss on
# the state alone then trains nothing. And the released library cannot be imported without a GPU: its compiled module is
# loaded unconditionally.
# ```
#
# And **gradients agree with finite differences**: to the points, the gaps, the rates, both steps, the matrices and the
# state.

# %%
few, some = slice(1, 13), slice(0, 3)
leaves = [
    x.detach().clone().requires_grad_()
    for x in (
        u[:, few, some],
        gap[:, few],
        rate[some],
        delta[:, few, some],
        A[some],
        B[:, few],
        C[:, few],
        D[some],
        normal(1, 3, states),
    )
]


def scan(u, gap, rate, delta, A, B, C, D, h0):
    return coordinate_scan(u, gap, rate, delta, A, B, C, D, h0=h0)


def scan_given(u, delta_a, delta, A, B, C, D, h0):
    return selective_scan(u, delta, A, B, C, D, delta_a=delta_a, h0=h0)


given = [leaves[0], normal(1, 12, 3).abs().requires_grad_(), *leaves[3:]]
record(
    st_gradcheck=bool(torch.autograd.gradcheck(scan, leaves)),
    st_gradcheck_given=bool(torch.autograd.gradcheck(scan_given, given)),
)

# %% [markdown]
# ## Cost
#
# Twice the points cost the scan twice the time, and the table of all pairs four times. Times are no results of a page that
# must come out alike everywhere, so these are those of the recorded full run. (The table ends where it no longer fits into
# the cache; beyond, it costs still more.) How the scan compares with others is on the [kernels
# page](../../book/kernels.md).


# %%
def seconds(function, arguments):
    """Shortest of several calls."""
    taken = []
    for _ in range(7):
        begin = time.perf_counter()
        function(**arguments)
        taken.append(time.perf_counter() - begin)
    return min(taken)


def problem(length, channels, states):
    """Arguments of a scan over random points."""
    return dict(
        u=normal(1, length, channels),
        gap=normal(1, length).abs(),
        rate=torch.ones(channels),
        delta=normal(1, length, channels).abs(),
        A=-torch.arange(1.0, states + 1).repeat(channels, 1),
        B=normal(1, length, states),
        C=normal(1, length, states),
    )


cost = full.get("st_cost", {})
if scan_lengths:
    cost = {"scan": [], "table of all pairs": []}
    for n in scan_lengths:
        cost["scan"].append([n, seconds(coordinate_scan, problem(n, 64, 16))])
    for n in table_lengths:
        taken = seconds(pairwise_coordinates, problem(n, 1, 1))
        cost["table of all pairs"].append([n, taken])
    keep(st_cost=cost)
powers = {name: np.polyfit(*np.log(pairs).T, 1) for name, pairs in cost.items()}
if powers:
    record(
        measured=bool(scan_lengths),
        st_growth_scan=powers["scan"][0],
        st_growth_table=powers["table of all pairs"][0],
    )

# %% mystnb={"figure": {"caption": "Time of one call against the number of elements: the scan with 64 channels of 16 states, and the table of all pairs with one channel of one state. Lines: the fitted powers. From the recorded full run.", "name": "fig-st-cost"}, "image": {"alt": "Two straight lines on logarithmic axes, the one of the table twice as steep"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.4, 3.0))
for name, pairs in cost.items():
    color = "blue" if name == "scan" else "vermilion"
    lengths, taken = np.array(pairs).T
    exponent, height = powers[name]
    fitted = 1e3 * np.exp(height) * lengths**exponent
    axis.plot(lengths, fitted, color=PALETTE[color])
    label = f"{name}: exponent {exponent:.2f}"
    axis.plot(lengths, 1e3 * taken, "o", color=PALETTE[color], label=label)
axis.set(xscale="log", yscale="log", xlabel="elements", ylabel="time (ms)")
if cost:
    axis.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## A block
#
# Around the scan everything is Mamba's: two branches, an optional convolution, a gate. What differs is where the decay
# comes from: `step` is `coordinate` for STREAM and `learned` for Mamba.

# %%
show_code(StreamBlock._run, StreamBlock.scan)

# %% [markdown]
# ```{margin} Initial rates
# In the released library the rates are the bias of a linear layer whose weight is never used, at its usual initial values,
# whose range is one over the root of the layer's inputs (one for every sixteen features):
# {glue:text}`st_rate_released_low:.2f` to {glue:text}`st_rate_released_high:.2f` for all channels of this block, close to
# one time scale. Ours span {glue:text}`st_rate_low:.1f` to {glue:text}`st_rate_high:.1f` per unit.
# ```
#
# A rate says how far a channel can see: one over the rate, in units. With all rates near one over the size of a part no
# channel would notice neighbours; with all of them near one over the mean distance between neighbours none would see the
# other end. So rates are drawn over both, and the unit is a parameter.

# %%
block = StreamBlock(64, 8, rate_min=rate_min, rate_max=rate_max, generator=generator)
rates = block.rate.detach()
torch.manual_seed(seed)
bias = torch.nn.Linear(block.rank, 64).bias  # as wide as the input's step is ranked
released_rates = torch.nn.functional.softplus(bias).detach()
record(
    st_rate_low=float(rates.min()),
    st_rate_high=float(rates.max()),
    st_rate_released_ratio=float(released_rates.max() / released_rates.min()),
    st_rate_released_low=float(released_rates.min()),
    st_rate_released_high=float(released_rates.max()),
)

# %% [markdown]
# ## Two slips in the released library
#
# For layers whose step is not learnt the same library has rules of its own, and two of them are off. Its asynchronous gain,
# kept there "for legacy reasons", takes the exponential of $A$ times the step *times the gap*, which is a held input: an
# event that comes at the time of another counts for nothing. And its bilinear rule has numerator and denominator exchanged,
# so that what should decay grows. The path that STREAM uses is right. Beside them stand the rules as our scan has them:
# what one event leaves in an empty state after gaps of 0, 1 and 3, and what is left of a state of 1.

# %%
a, width = -torch.ones(1, 1), 0.5
gaps = torch.tensor([0.0, 1.0, 3.0])[:, None, None]  # a row of the batch for each
one = torch.ones(3, 1, 1)
step = dict(delta=width * one, A=a, B=one, C=one, h0=0 * one)
asynchronous = selective_scan(one, delta_a=width * gaps, rule="zoh", **step)[1]
as_released = torch.expm1(a * width * gaps) / a  # gap 0: nothing
step = dict(delta=width * one, A=a, B=one, C=one, h0=one)
bilinear = selective_scan(0 * one, rule="bilinear", **step)[1].max()
exchanged = (1 - a * width / 2) / (1 + a * width / 2)
record(
    st_async_spread=float(asynchronous.max() - asynchronous.min()),
    st_async_released=float(as_released[0].abs()),
    st_bilinear=float(bilinear),
    st_bilinear_released=float(exchanged),
)

# %% [markdown]
# ## What to remember
#
# Put the distance into the decay, and geometry need not be guessed: origins and null points drop out of the scan exactly, a
# unit is absorbed by the rates, one pass computes all ordered pairs, and what is left of the learned step is the question
# of what to take in. Whether this helps is an empirical question, and on [the next page](experiments.ipynb) it is answered
# by yes where all depends on the timing, and stays open elsewhere.

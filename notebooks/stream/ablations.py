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
# # Ablations: which part does the work?
#
# STREAM is one change to one recurrence, and a few decisions around it: how the input is taken in, which rates one starts
# with, whether there is a convolution, which axes are scanned and what happens where one scan ends and the next begins.
# This page takes them back one at a time. Its numbers come from the recorded full run, three seeds each, in quick builds;
# in the full profile they are made.

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
ablation_seeds: list[int] = []  # one run of each variant; empty: recorded results
timing_variant_steps: int = 300  # steps on the timing-only task
part_variant_epochs: int = 60  # passes over the parts
variant_rates: list[float] = [0.01]  # learning rates, of which validation chooses
variant_rate_epochs: int = 10  # passes of each in that search
variant_points: int = 256  # points of a part in training and test

# %% tags=["hide-input"]
from dataclasses import replace
from math import log

import matplotlib.pyplot as plt
import numpy as np
import torch

from eventbook.companion.notebook import (
    PALETTE,
    checkpoint,
    generator,
    keep,
    record,
    recorded,
    use_theme,
)
from eventbook.datasets import load_cad_parts, timing_task
from eventbook.learning.classification import Training, accuracy, train
from eventbook.models.stream import (
    StreamConfig,
    StreamEvents,
    StreamPoints,
    sort_along_axes,
)

torch.set_num_threads(1)
use_theme()
full = recorded("stream")  # the recorded full run


# %%
def fit(name, model, data, training, **options):
    """Train a model on one part and return it."""
    learned = data["train"]
    file = checkpoint(
        name,
        model=str(model),
        config=model.config,
        training=training,
        page=variant_points,
    )
    streams = getattr(learned, "points", learned)
    train(model, streams, learned.labels, training, checkpoint=file, **options)
    return model


# %% [markdown]
# ## Time, one change at a time
#
# The timing-only task, with all events and with every second one taken out of the test. Rates *as released* are softplus(0)
# for every channel, the middle of what the released linear layer begins with ([method](method.ipynb)).

# %%
reference = StreamConfig(8)
softplus_0 = log(2)
TIMING = {
    "STREAM (reference)": {},
    "input: zoh": {"discretization": "zoh"},
    "input: bilinear": {"discretization": "bilinear"},
    "input: dirac": {"discretization": "dirac"},
    "input: async": {"discretization": "async"},
    "told the gap, too": {"gap_feature": True},
    "convolution of width 4": {"conv_width": 4},
    "rates as released": {"rate_min": softplus_0, "rate_max": softplus_0},
    "learned step": {"step": "learned"},
    "learned, told the gap": {"step": "learned", "gap_feature": True},
    "learned, convolution": {"step": "learned", "conv_width": 4},
    "learned, both": {"step": "learned", "conv_width": 4, "gap_feature": True},
}


def timing_variant(number, change, seed, timing):
    """Accuracy with all events, and with every second one."""
    model = StreamEvents(64, replace(reference, **change), generator=generator(seed))
    recipe = Training(steps=timing_variant_steps, seed=seed)
    fit(f"timing-{number}", model, timing, recipe)
    test = timing["test"]
    fewer = [(token[1::2], stamp[1::2]) for token, stamp in test]
    return [accuracy(model, some, test.labels) for some in (test, fewer)]


if ablation_seeds:
    timing = {"train": timing_task(2048, seed=0), "test": timing_task(512, seed=1)}
    timing_variants = {
        name: [timing_variant(n, change, seed, timing) for seed in ablation_seeds]
        for n, (name, change) in enumerate(TIMING.items())
    }
    keep(st_timing_variants=timing_variants)
else:
    timing_variants = full.get("st_timing_variants", {})


# %% tags=["hide-input"]
def spread(axis, runs, color, shift=0.0, marker="o", label=None):
    """Mean as a bar of its own colour, runs as dots."""
    for place, each in enumerate(runs):
        y = [place + shift] * len(each)
        axis.plot(
            100 * np.array(each),
            y,
            marker,
            color=PALETTE[color],
            alpha=0.55,
            markersize=5,
        )
        mean = 100 * np.mean(each)
        only = label if place == 0 else None
        axis.plot(
            [mean, mean],
            [place + shift - 0.2, place + shift + 0.2],
            color=PALETTE[color],
            linewidth=2.5,
            label=only,
        )


def named(axis, names, lead):
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.axhline(lead, color=PALETTE["grey"], linewidth=0.8)
    axis.set_xlabel("right (%)")


# %% mystnb={"figure": {"caption": "Timing-only task, variants of STREAM and (below the line) of the learned step. Dots: seeds of the recorded full run, bars: their mean. Blue with all events of the test, orange with every second one.", "name": "fig-st-timing-variants"}, "image": {"alt": "Twelve rows of dots; those with the decay by distance lie far to the right of those with a learned step"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(7.0, 4.6))
if timing_variants:
    both = np.array(list(timing_variants.values()))  # (variant, seed, which test)
    spread(axis, both[..., 0], "blue", -0.14, label="all events")
    spread(axis, both[..., 1], "orange", 0.14, label="every second event")
    named(axis, list(timing_variants), 7.5)
    axis.legend(loc="lower right")
plt.show()


# %% tags=["hide-input"]
def points(runs, name, other="STREAM (reference)"):
    """Difference of two means in points."""
    return 100 * (np.mean(runs[name], 0) - np.mean(runs[other], 0))


if timing_variants:
    for name, runs in timing_variants.items():
        every, second = 100 * np.mean(runs, 0)
        print(f"{name:24} {every:5.1f} %   every second event {second:5.1f} %")
    learned = [name for name in TIMING if name.startswith("learned")]
    others = [name for name in TIMING if name not in learned]
    means = {name: np.mean(runs, 0) for name, runs in timing_variants.items()}
    record(
        measured=bool(ablation_seeds),
        st_abl_worst_distance=min(means[name][0] for name in others),
        st_abl_best_learned=max(means[name][0] for name in learned),
        st_abl_released_rates=points(timing_variants, "rates as released")[0],
        st_abl_conv=points(timing_variants, "convolution of width 4")[0],
        st_abl_conv_thin=points(timing_variants, "convolution of width 4")[1],
        st_abl_told_too=points(timing_variants, "told the gap, too")[0],
    )

# %% [markdown]
# Every variant with a decay by distance is at {glue:text}`st_abl_worst_distance:.1%` or more, and the best of those without
# is at {glue:text}`st_abl_best_learned:.1%`. How the input is taken in hardly matters with all events. `dirac`, in which
# the step of the input is not learnt, is as good as any and loses least when events are taken away. Rates as released, one
# time scale, make a difference of {glue:text}`st_abl_released_rates:+.1f` points, perhaps because the states of a channel,
# $-1 \ldots -n$, span a range by themselves. To be told the gap on top of it makes one of
# {glue:text}`st_abl_told_too:+.1f`. The convolution, which mixes by index, makes {glue:text}`st_abl_conv:+.1f`, and
# {glue:text}`st_abl_conv_thin:+.1f` when every second event is gone.
#
# ## Space, one change at a time
#
# The CAD parts, split by family, each seed on a split of its own. *End to end* places the three scans in one row, as the
# earlier port did, with a gap of zero at the joints and without emptying the state there: each axis then begins with what
# the one before has left. (With the negative gap itself there is nothing to train, as the [method page](method.ipynb)
# shows.)


# %% tags=["hide-input"]
class EndToEnd(StreamPoints):
    """The scans of the axes in one row, the state carried over the joints."""

    def forward(self, points):
        order, gap = sort_along_axes(points, self.scan_axes)
        rows = torch.arange(len(points))[:, None, None]
        v = self.embed(points)[rows, order] + self.axis_vector[:, None]
        v, gap = v.flatten(1, 2), gap.flatten(1) / self.config.unit
        for block in self.blocks:
            v, _ = block(v, gap)
        return self.readout(self.norm(v.mean(1)))


parts = StreamConfig(41, unit=1.0, rate_min=0.5, rate_max=100.0)
SPACE = {  # name: change of the configuration, network, axes
    "STREAM (reference)": ({}, StreamPoints, (0, 1, 2)),
    "along x alone": ({}, StreamPoints, (0,)),
    "along y alone": ({}, StreamPoints, (1,)),
    "along z alone": ({}, StreamPoints, (2,)),
    "end to end": ({}, EndToEnd, (0, 1, 2)),
    "input: dirac": ({"discretization": "dirac"}, StreamPoints, (0, 1, 2)),
    "told the gap, too": ({"gap_feature": True}, StreamPoints, (0, 1, 2)),
    "convolution of width 4": ({"conv_width": 4}, StreamPoints, (0, 1, 2)),
    "rates as released": (
        {"rate_min": softplus_0, "rate_max": softplus_0},
        StreamPoints,
        (0, 1, 2),
    ),
    "learned step": ({"step": "learned"}, StreamPoints, (0, 1, 2)),
    "learned, convolution": (
        {"step": "learned", "conv_width": 4},
        StreamPoints,
        (0, 1, 2),
    ),
}


def some_points(cloud, rng):
    return cloud[rng.choice(len(cloud), variant_points, replace=False)]


def part_model(name, seed, rate, epochs=part_variant_epochs):
    """A trained network, on the split of this seed."""
    change, network, axes = SPACE[name]
    data = {"train": load_cad_parts("train", seed=seed)}
    config = replace(parts, **change)
    model = network(config, scan_axes=axes, generator=generator(seed))
    recipe = Training(epochs, 24, lr=rate, weight_decay=0.05, seed=seed)
    fit(f"parts-{list(SPACE).index(name)}", model, data, recipe, augment=some_points)
    return model


def part_accuracy(model, seed, part="test"):
    data, rng = load_cad_parts(part, seed=seed), np.random.default_rng(variant_points)
    seen = np.stack([some_points(cloud, rng) for cloud in data.points])
    return accuracy(model, seen, data.labels)


def searched(name):
    """What each learning rate gives on validation parts of the first split."""
    seed, epochs = ablation_seeds[0], variant_rate_epochs
    return {
        str(rate): part_accuracy(part_model(name, seed, rate, epochs), seed, "valid")
        for rate in variant_rates
    }


if ablation_seeds:
    with_convolution = [
        n for n, (change, *_) in SPACE.items() if "conv_width" in change
    ]
    searches = {name: searched(name) for name in with_convolution}
    rates = {
        name: float(max(found, key=found.get)) for name, found in searches.items()
    }
    part_models = {
        name: [
            part_model(name, seed, rates.get(name, 0.01)) for seed in ablation_seeds
        ]
        for name in SPACE
    }
    part_variants = {
        name: [
            part_accuracy(*pair) for pair in zip(models, ablation_seeds, strict=True)
        ]
        for name, models in part_models.items()
    }
    began_alike = [
        block.rate.detach().numpy()
        for model in part_models["rates as released"]
        for block in model.blocks
    ]
    rates_spread = min(float(rate.max() / rate.min()) for rate in began_alike)
    keep(
        st_part_variants=part_variants,
        st_variant_search=searches,
    )
else:
    part_variants = full.get("st_part_variants", {})
    searches = full.get("st_variant_search", {})
    rates_spread = full.get("st_abl_rates_spread")

# %% mystnb={"figure": {"caption": "CAD parts, variants of STREAM and (below the line) of the learned step. Dots: seeds of the recorded full run, each on a split of its own; bars: their mean.", "name": "fig-st-part-variants"}, "image": {"alt": "Eleven rows of dots with their means, which overlap"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(7.0, 4.0))
if part_variants:
    spread(axis, list(part_variants.values()), "blue")
    named(axis, list(part_variants), 8.5)
plt.show()

# %% tags=["hide-input"]
if part_variants:
    for name, runs in part_variants.items():
        each = ", ".join(f"{100 * run:.1f}" for run in runs)
        print(f"{name:30} {100 * np.mean(runs):5.1f} %  ({each})")
    for name, found in searches.items():
        tried = ", ".join(
            f"{rate}: {100 * right:.1f} %" for rate, right in found.items()
        )
        print(f"learning rates, {name:24} {tried}")
    alone = [part_variants[f"along {axis} alone"] for axis in "xyz"]
    record(
        measured=bool(ablation_seeds),
        st_abl_one_axis=100
        * (max(map(np.mean, alone)) - np.mean(part_variants["STREAM (reference)"])),
        st_abl_end_to_end=points(part_variants, "end to end"),
        st_abl_part_dirac=points(part_variants, "input: dirac"),
        st_abl_part_conv=points(part_variants, "convolution of width 4"),
        st_abl_part_rates=points(part_variants, "rates as released"),
        st_abl_rates_spread=rates_spread,
        st_abl_part_learned=points(part_variants, "learned step"),
        st_abl_part_learned_conv=points(part_variants, "learned, convolution"),
        st_abl_part_told=points(part_variants, "told the gap, too"),
        st_abl_part_both_conv=points(
            part_variants, "convolution of width 4", "learned, convolution"
        ),
    )

# %% [markdown]
# No change on this list makes more than five points. The best single axis is at {glue:text}`st_abl_one_axis:+.1f` points,
# `dirac` at {glue:text}`st_abl_part_dirac:+.1f`, the gap as a further input at {glue:text}`st_abl_part_told:+.1f`. One
# change is small and of the same sign and size on every split: that the state goes on from one axis to the next, where we
# empty it, makes {glue:text}`st_abl_end_to_end:+.1f`. An axis then begins with a summary of the whole part.
#
# **Rates.** A part is 2 long, and with the released rates, all the same, every channel sees most of it at first. After
# training this makes {glue:text}`st_abl_part_rates:+.1f` points, perhaps because rates are learnt: in every block the
# fastest channel has become at least {glue:text}`st_abl_rates_spread:.1f` times as fast as the slowest.
#
# **The convolution** mixes a point with its last three neighbours, whatever their distance. For STREAM it makes
# {glue:text}`st_abl_part_conv:+.1f` points. The learned step is at {glue:text}`st_abl_part_learned:+.1f` without it and at
# {glue:text}`st_abl_part_learned_conv:+.1f` with it. With the convolution in *both*, as the released library has it, the
# distance is worth {glue:text}`st_abl_part_both_conv:+.1f` points. Variants with a convolution have a search for their
# learning rate of their own, the others train with that of the [experiments](experiments.ipynb).

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
# Event-SSM is a handful of decisions: how an event is read, which gap belongs to it, how groups are pooled, what training
# does to the streams. This page takes them back one at a time. Most of its numbers come from the recorded full run, three
# seeds each; the first section runs live.

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
    os.chdir(f"{home}/notebooks/event_ssm")

# %% tags=["parameters"]
tick_steps: int = 150  # steps of training on coarse stamps
tick_seeds: list[int] = [0]  # one run each
ablation_seeds: list[int] = []  # variants on spoken digits; empty: recorded results
ablation_epochs: int = 20  # passes of each variant over the digits
eye_seeds: list[int] = []  # variants on saccades; empty: recorded results
eye_images: int = 5000  # training images there, first movement only
eye_epochs: int = 5  # passes over them

# %% tags=["hide-input"]
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch

from eventbook.companion.notebook import (
    PALETTE,
    checkpoint,
    keep,
    record,
    recorded,
    use_theme,
)
from eventbook.datasets import load_event_streams, load_spoken_digits, timing_task
from eventbook.learning.classification import Training, accuracy, train
from eventbook.models.event_gru import EventGRU
from eventbook.models.event_ssm import EventSSM, EventSSMConfig, as_released
from eventbook.models.event_ssm.augmentation import SHD, cutmix_batch

torch.set_num_threads(1)
use_theme()
full = recorded("event_ssm")  # the recorded full run, shown beside this one


# %%
def fit(name, model, data, training, **options):
    """Train a model on one part and return its accuracy on the other."""
    learned = data["train"]
    about = {
        "shape": [tuple(p.shape) for p in model.parameters()],
        "training": training,
    }
    config = getattr(model, "config", None)
    file = checkpoint(name, config=config, of=str(learned.source), **about)
    train(model, learned, learned.labels, training, checkpoint=file, **options)
    return accuracy(model, data["test"], data["test"].labels)


def event_ssm(config, seed):
    return EventSSM(config, generator=torch.Generator().manual_seed(seed))


# %% [markdown]
# ## A clock that ticks
#
# The exact result of the [method page](method.ipynb) was that a held input (`zoh`) sees only the first of simultaneous
# events. How bad is that for learning? The timing-only task is learnt with its true stamps, and with those of a clock that
# ticks every 40 ms, of which a held input sees one event for each tick.

# %%
MODES = {"dirac": "orange", "async": "blue", "zoh": "vermilion"}
CLOCKS = {"true stamps": 1, "ticks of 40 ms": 40_000}  # microseconds
small = EventSSMConfig(64, 8, d_model=32, d_state=16, blocks=1, layers=3, stride=4)
if not tick_seeds:
    raise ValueError("tick_seeds must be at least one, got none")
ticked = {}
for clock, grid in CLOCKS.items():
    timing = {
        part: timing_task(count, seed=number, grid=grid)
        for number, (part, count) in enumerate((("train", 2048), ("test", 512)))
    }
    for mode in MODES:
        ticked[f"{mode}, {clock}"] = [
            fit(
                "tick",
                event_ssm(replace(small, discretization=mode), seed),
                timing,
                Training(steps=tick_steps, seed=seed),
            )
            for seed in tick_seeds
        ]
stamps = [stamp for _, stamp in timing["train"]]
record(
    es_tick_shared=np.mean([np.mean(np.diff(stamp) == 0) for stamp in stamps]),
    es_tick_async=np.mean(ticked["async, ticks of 40 ms"]),
    es_tick_dirac=np.mean(ticked["dirac, ticks of 40 ms"]),
    es_tick_zoh=np.mean(ticked["zoh, ticks of 40 ms"]),
    es_modes_lowest=min(np.mean(ticked[f"{mode}, true stamps"]) for mode in MODES),
)
keep(es_tick_runs=ticked)

# %% mystnb={"figure": {"caption": "Timing-only task for the three readings of an event, with its true stamps (left) and with stamps that are multiples of 40 ms (right): this run, and the seeds of the recorded full run (crosses).", "name": "fig-es-tick"}, "image": {"alt": "Two groups of three bars of accuracy for dirac, async and zoh with crosses of the recorded run, all near one hundred percent"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.4, 2.8))
for place, (name, runs) in enumerate(ticked.items()):
    mode, x = name.split(",")[0], place + place // 3
    axis.bar(x, 100 * np.mean(runs), 0.7, color=PALETTE[MODES[mode]])
    earlier = full.get("es_tick_runs", {}).get(name, [])
    axis.plot(
        [x] * len(earlier), 100 * np.array(earlier), "x", color=PALETTE["black"]
    )
axis.set_xticks([0, 1, 2, 4, 5, 6], 2 * list(MODES))
axis.set(ylabel="right (%)", ylim=(0, 105))
axis.grid(axis="x", visible=False)
plt.show()

# %% [markdown]
# With true stamps the lowest of the three is at {glue:text}`es_modes_lowest:.1%`. Of the ticked stamps
# {glue:text}`es_tick_shared:.0%` are those of the event before. `async` gets {glue:text}`es_tick_async:.1%` right, `dirac`
# {glue:text}`es_tick_dirac:.1%`, `zoh` {glue:text}`es_tick_zoh:.1%`. The held input does not fail: the feed-through and the
# skip path see every event whatever its gain, and the task is easy. What a held input loses is in the states, and there it
# is exact.
#
# ## Spoken digits, one change at a time
# The network of the [experiments](experiments.ipynb), trained anew for each change, `ablation_epochs` times over the clips.
# Each line of the figure is one change. The test part has 300 clips: near 98 % the sampling error of one run is
# {glue:text}`es_sampling:.1f` points, so that differences of a point say nothing.


# %% tags=["hide-input"]
def words(**encoding):
    parts = ("train", "test")
    return {
        part: load_event_streams("spoken_digits", part, **encoding) for part in parts
    }


def augment(stream, rng):
    return SHD(stream, 26, rng, kinds=2)


def mix(streams, labels, rng):
    return cutmix_batch(streams, labels, 10, 0.5, rng)


base = EventSSMConfig(26, 10, stages=2, layers=2, stride=4, dropout=0.2)
finely, coarsely = words(), words(stamps="frame")
mean_gap = float(
    np.mean([np.diff(stamp).mean() for _, stamp in finely["train"]]) / 1e3
)
CHANGES = {  # name: change of the network, data, training options
    "async (reference)": ({}, finely, {"augment": augment}),
    "dirac": ({"discretization": "dirac"}, finely, {"augment": augment}),
    "zoh": ({"discretization": "zoh"}, finely, {"augment": augment}),
    "frame stamps, async": ({}, coarsely, {"augment": augment}),
    "frame stamps, zoh": ({"discretization": "zoh"}, coarsely, {"augment": augment}),
    "one gap for all": ({"constant_gap": mean_gap}, finely, {"augment": augment}),
    "gaps and pooling as released": (None, finely, {"augment": augment}),
    "pooling: last": ({"pooling": "last"}, finely, {"augment": augment}),
    "pooling and head: time": (
        {"pooling": "time", "head": "time"},
        finely,
        {"augment": augment},
    ),
    "stride 2": ({"stride": 2}, finely, {"augment": augment}),
    "stride 8": ({"stride": 8}, finely, {"augment": augment}),
    "augmentation and CutMix": ({}, finely, {"augment": augment, "mix": mix}),
    "CutMix alone": ({}, finely, {"mix": mix}),
    "no augmentation": ({}, finely, {}),
}


def changed(change, seed):
    config = as_released(base) if change is None else replace(base, **change)
    return event_ssm(config, seed)


record(es_sampling=100 * np.sqrt(0.98 * 0.02 / 300))
if ablation_seeds:
    digit_runs = {
        name: [
            fit(
                f"digits-{number}",
                changed(change, seed),
                data,
                Training(ablation_epochs, seed=seed),
                **options,
            )
            for seed in ablation_seeds
        ]
        for number, (name, (change, data, options)) in enumerate(CHANGES.items())
    }
    keep(es_digit_runs=digit_runs)
else:
    digit_runs = full.get("es_digit_runs", {})

# %% [markdown]
# **Baselines.** A GRU of the same size reads the tokens, with and without the logarithm of the gap as a further input, under
# the same augmentation. Another reads what the events were made from, the cepstral frames, without augmentation: to be
# compared with our line *no augmentation*. The learning rate of each is the one of three that was best on the validation
# part.


# %% tags=["hide-input"]
class FrameGRU(torch.nn.Module):
    """A GRU over cepstral frames, mean over time, read out."""

    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(13, 128, batch_first=True)
        self.readout = torch.nn.Linear(128, 10)

    def forward(self, frames, lengths):
        mask = torch.arange(frames.shape[1]) < lengths[:, None]
        states = self.gru(frames)[0] * mask[..., None]
        return self.readout(states.sum(1) / lengths[:, None])


def run_frames(seed, rate, part_of_test="test", epochs=ablation_epochs):
    """Accuracy of the GRU on frames, on a part of the clips."""
    torch.manual_seed(seed)
    model, raw = FrameGRU(), load_spoken_digits("train").frames
    parts = {}
    for part in ("train", part_of_test):
        clips = load_spoken_digits(part)
        frames = torch.from_numpy((clips.padded() - raw.mean(0)) / raw.std(0)).float()
        parts[part] = (
            frames,
            torch.from_numpy(clips.lengths),
            torch.from_numpy(clips.labels),
        )
    frames, lengths, labels = parts["train"]
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    batches = -(-len(labels) // 32)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * batches + 1)
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(labels))
        for some in np.array_split(order, batches):
            longest = int(lengths[some].max())
            scores = model(frames[some, :longest], lengths[some])
            loss = torch.nn.functional.cross_entropy(scores, labels[some])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            cycle.step()
    frames, lengths, labels = parts[part_of_test]
    with torch.no_grad():
        return (model(frames, lengths).argmax(1) == labels).double().mean().item()


def event_gru(seed, gap_feature):
    torch.manual_seed(seed)
    return EventGRU(26, 10, 32, 112, gap_feature=gap_feature)


GRU_RATES = (4e-3, 8e-3, 1.6e-2)


def run_tokens(told, seed, rate, data):
    """Accuracy of the GRU on tokens, on the part that `data` calls test."""
    training = Training(ablation_epochs, lr=rate, seed=seed)
    try:
        return fit("gru", event_gru(seed, told), data, training, augment=augment)
    except FloatingPointError:  # the rate is too large
        return 0.0


if ablation_seeds:
    valid = {
        "train": finely["train"],
        "test": load_event_streams("spoken_digits", "valid"),
    }
    searched = {
        "GRU on frames": {r: run_frames(0, r, "valid") for r in (1e-3, 2e-3, 4e-3)},
        "GRU on tokens and gaps": {
            r: run_tokens(True, 0, r, valid) for r in GRU_RATES
        },
        "GRU on tokens": {r: run_tokens(False, 0, r, valid) for r in GRU_RATES},
    }
    best = {name: max(found, key=found.get) for name, found in searched.items()}
    baseline_runs = {
        "GRU on frames": [
            run_frames(s, best["GRU on frames"]) for s in ablation_seeds
        ]
    }
    for name, told in (("GRU on tokens and gaps", True), ("GRU on tokens", False)):
        baseline_runs[name] = [
            run_tokens(told, seed, best[name], finely) for seed in ablation_seeds
        ]
    keep(
        es_baseline_runs=baseline_runs,
        es_baseline_rates={
            name: [[rate, right] for rate, right in found.items()]
            for name, found in searched.items()
        },
    )
else:
    baseline_runs = full.get("es_baseline_runs", {})

# %% mystnb={"figure": {"caption": "Spoken digits: accuracy of each variant on the 300 test clips, one dot a seed, the mean as a line. The band spans the seeds of the reference. Recorded full run.", "name": "fig-es-ablations"}, "image": {"alt": "Rows of dots for each variant against accuracy"}} tags=["hide-input"]
every = {**digit_runs, **baseline_runs}
if every:
    figure, axis = plt.subplots(figsize=(8.2, 5.6))
    reference = 100 * np.array(digit_runs["async (reference)"])
    axis.axvspan(reference.min(), reference.max(), color=PALETTE["blue"], alpha=0.15)
    for place, (name, runs) in enumerate(every.items()):
        color = PALETTE["purple" if name in baseline_runs else "blue"]
        shown = 100 * np.array(runs)
        axis.plot(
            shown, [place] * len(runs), "o", color=color, markersize=5, alpha=0.8
        )
        axis.plot([shown.mean()] * 2, [place - 0.3, place + 0.3], color=color)
    axis.set_yticks(range(len(every)), list(every))
    axis.invert_yaxis()
    axis.set(xlabel="right (%)")
    plt.show()


# %% tags=["hide-input"]
def points(name, other="async (reference)", of=None):
    """Difference of two means in points."""
    runs = of or every
    return 100 * (np.mean(runs[name]) - np.mean(runs[other]))


for name, found in full.get("es_baseline_rates", {}).items():
    each = ", ".join(f"{rate:g} {100 * right:.1f}" for rate, right in found)
    print(f"{name:23} on validation, by rate  {each}")
if every:
    for name, runs in every.items():
        each = ", ".join(f"{100 * run:.1f}" for run in runs)
        print(f"{name:30} {100 * np.mean(runs):5.1f} %  ({each})")
    record(
        measured=bool(ablation_seeds),
        es_dirac=points("dirac"),
        es_zoh=points("zoh"),
        es_frame_async=points("frame stamps, async"),
        es_frame_zoh=points("frame stamps, zoh", "frame stamps, async"),
        es_constant=points("one gap for all"),
        es_released=points("gaps and pooling as released"),
        es_cutmix_alone=points("CutMix alone"),
        es_no_augmentation=points("no augmentation"),
        es_gru_told=points("GRU on tokens and gaps"),
        es_gru=points("GRU on tokens"),
        es_frames=points("GRU on frames", "no augmentation"),
    )

# %% [markdown]
# **Readings.** With stamps that are all distinct, `dirac` and `zoh` differ from `async` by {glue:text}`es_dirac:+.1f` and
# {glue:text}`es_zoh:+.1f` points: nothing that three seeds could tell apart. With all crossings of a frame on one stamp they
# part. `async` is at {glue:text}`es_frame_async:+.1f` points, and `zoh` at {glue:text}`es_frame_zoh:+.1f` against `async` on
# the same stamps. This is the exact property of the method page at work: of the crossings of a frame a held input sees one,
# and the order in which an encoder happens to list them decides which.
#
# **Time.** One gap for all makes a difference of {glue:text}`es_constant:+.1f` points. Order and rate carry these words. The
# released gaps and pooling, consistently late, make one of {glue:text}`es_released:+.1f`.
#
# **Training.** CutMix alone is at {glue:text}`es_cutmix_alone:+.1f` points, no augmentation at all at
# {glue:text}`es_no_augmentation:+.1f`.
#
# **Baselines.** A GRU on the tokens is at {glue:text}`es_gru:+.1f` points, one that is told the gaps at
# {glue:text}`es_gru_told:+.1f`. On the frames themselves, without events, a GRU is at {glue:text}`es_frames:+.1f` against
# our network without augmentation: the events have kept what matters.
#
# ## Saccades without time
#
# The same question for digits under a moving eye, first movement only: true gaps, one gap for all, and stamps on the
# one-millisecond grid of the simulation, where most events share theirs.

# %% tags=["hide-input"]
EYE = {
    "async": ({}, "interpolated"),
    "one gap for all": ({"constant_gap": True}, "interpolated"),
    "grid stamps, async": ({}, "grid"),
    "grid stamps, zoh": ({"discretization": "zoh"}, "grid"),
}


def eye_parts(stamps):
    counts = {"train": eye_images, "test": 2_000}
    return {
        part: load_event_streams(
            "saccade_mnist", part, count=count, stamps=stamps, saccades=1
        )
        for part, count in counts.items()
    }


eye_runs = full.get("es_eye_runs", {})
if eye_seeds:
    parts = {stamps: eye_parts(stamps) for stamps in ("interpolated", "grid")}
    plain = EventSSMConfig(2_312, 10, layers=2, stride=8, dropout=0.1)
    eye_runs = {}
    for number, (name, (change, stamps)) in enumerate(EYE.items()):
        data = parts[stamps]
        if "constant_gap" in change:
            gaps = [np.diff(stamp).mean() for _, stamp in data["train"]]
            change = {"constant_gap": float(np.mean(gaps) / 1e3)}
        eye_runs[name] = [
            fit(
                f"eye-{number}",
                event_ssm(replace(plain, **change), seed),
                data,
                Training(eye_epochs, seed=seed),
            )
            for seed in eye_seeds
        ]
    keep(es_eye_runs=eye_runs)
if eye_runs:
    for name, runs in eye_runs.items():
        each = ", ".join(f"{100 * run:.1f}" for run in runs)
        print(f"{name:20} {100 * np.mean(runs):5.1f} %  ({each})")
    record(
        measured=bool(eye_seeds),
        es_eye=np.mean(eye_runs["async"]),
        es_eye_constant=points("one gap for all", "async", eye_runs),
        es_eye_grid=points("grid stamps, async", "async", eye_runs),
        es_eye_zoh=points("grid stamps, zoh", "grid stamps, async", eye_runs),
    )

# %% [markdown]
# With true gaps {glue:text}`es_eye:.1%` of the digits are right. One gap for all makes a difference of
# {glue:text}`es_eye_constant:+.1f` points, the grid one of {glue:text}`es_eye_grid:+.1f`, and on the grid a held input is at
# {glue:text}`es_eye_zoh:+.1f` points against `async`. A still image has no timing of its own: what an eye sees is given by
# where it looks, in which order, and the network needs no more.
#
# ## What to remember
#
# Where the answer is in the timing, the gaps are worth half of all streams. Where order suffices, they are worth little, and
# with distinct stamps the readings of an event cannot be told apart by accuracy; `async` and `dirac` are one class of
# functions anyway. Give many events one stamp, as frames and clocks do, and the reading matters: a held input then drops
# most of what it is given, and it shows.

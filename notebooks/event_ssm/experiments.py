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
# # Experiments: time is data
#
# The method page shows what an Event-SSM computes. Here it learns: a task made so that the answer is in the timing and
# nowhere else, spoken digits as events, digits seen by an eye that moves. Then a trained network listens to a word event by
# event, and a stream of a real camera runs through one without ever being cut.

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

# %% [markdown]
# The parameters of this page. Every one of them can be changed in a [fork](../../book/how_to_fork.md).

# %% tags=["parameters"]
seeds: list[int] = [0]  # one run of everything for each
discretization: str = "async"  # async, dirac or zoh
gap_alignment: str = "aligned"  # aligned or as_released
pooling_mode: str = "average"  # last, average or time
constant_gap: float = 0.0  # ms that replace every gap; 0: the true gaps
stamps: str = "interpolated"  # of our encoders; "coarse": frames, ticks
d_model: int = 64  # features of an event in the networks of the digits
d_state: int = 64  # states of a layer there, a multiple of 16
conj_sym: bool = True  # store one of two conjugate states
dt_min: float = 0.004  # range of the initial time scales
dt_max: float = 0.1  # the other end of it
stride: int = 4  # events that a stage makes one, spoken digits
timing_steps: int = 150  # steps on the timing-only task
event_set: str = "spoken_digits"  # or shd, ssc, dvs128, nmnist: your own copy
delta_threshold: float = 0.25  # levels of our encoding, standard deviations
cut_mix: float = 0.0  # probability of mixing a batch
digit_epochs: int = 6  # passes over the spoken digits
event_threshold: float = 0.25  # change of log intensity that makes an event
saccades: int = 1  # of the three eye movements
saccade_images: int = 1500  # training images; a third as many for the test
saccade_stride: int = 16  # events that a stage makes one there
saccade_epochs: int = 1  # passes over them

# %% tags=["hide-input"]
import time
from dataclasses import replace
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch
from myst_nb import glue
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eventbook.companion.notebook import (
    PALETTE,
    bound,
    checkpoint,
    keep,
    record,
    recorded,
    use_theme,
)
from eventbook.datasets import load_davis_recording, load_event_streams, timing_task
from eventbook.kernels.encoders import collate, tokens_of
from eventbook.learning.classification import Training, accuracy, scores_of, train
from eventbook.models.event_ssm import EventSSM, EventSSMConfig, EventStream, released
from eventbook.models.event_ssm.augmentation import SHD, cutmix_batch

torch.set_num_threads(1)
use_theme()
full = recorded("event_ssm")  # the recorded full run, shown beside this one

# %% [markdown]
# One kind of network for all of this page: an embedding, stages of layers, a mean over what is left of the events. What the
# parameters above say goes into the configuration of those that learn.


# %% tags=["hide-input"]
if stamps not in ("interpolated", "coarse"):
    raise ValueError(f"stamps must be interpolated or coarse, got {stamps!r}")
if not seeds:
    raise ValueError("seeds must be at least one, got none")


def network(n_tokens, n_classes, **sizes):
    """The configuration that the parameters of this page ask for."""
    return EventSSMConfig(
        n_tokens=n_tokens,
        n_classes=n_classes,
        discretization=discretization,
        alignment=gap_alignment,
        kept="last" if gap_alignment == "aligned" else "first",
        pooling=pooling_mode,
        constant_gap=constant_gap or None,
        conj_sym=conj_sym,
        dt_min=dt_min,
        dt_max=dt_max,
        **sizes,
    )


def fit(name, config, data, training, **options):
    """Train a network; returns it with its accuracy on the test part."""
    model = EventSSM(config, generator=torch.Generator().manual_seed(training.seed))
    learned = data["train"]
    shortest = min(int(part.lengths.min()) for part in data.values())
    if shortest < config.total_stride:
        raise ValueError(
            f"{name}: the shortest stream has {shortest} events, fewer than the "
            f"{config.total_stride} of one output: lower its threshold or the stride"
        )
    file = checkpoint(name, config=config, training=training, of=str(learned.source))
    train(model, learned, learned.labels, training, checkpoint=file, **options)
    return model, accuracy(model, data["test"], data["test"].labels)


def percent(runs):
    """Mean and single runs, in words."""
    each = ", ".join(f"{100 * run:.1f}" for run in runs)
    return f"{100 * np.mean(runs):.1f} %  (runs: {each})" if len(runs) else "none"


# %% [markdown]
# ## The answer is in the timing
#
# Two chirps run over 64 channels, one low, one high, each up or down: two bits that a network can see from which channels
# follow which. The third bit is *when*. Half of the streams play the first half of their events in 35 % of the time, the
# others in 65 %. Take the stamps away, and what is left of this bit is where a few events of noise fell.
#
# ```{margin} A made task
# The streams are synthetic, with {glue:text}`es_timing_events:.0f` events on average. This is a control: nothing on this
# page shows more clearly what the stamps are worth, and nothing says less about real data. The trace that noise leaves is
# not nothing: told the counts of channels by sixteenths of the sequence, a random forest does better than a coin at the third
# bit. The networks without stamps do not find it.
# ```

# %% tags=["hide-input"]
timing = {"train": timing_task(2048, seed=0), "test": timing_task(512, seed=1)}
mean_gap = np.mean([np.diff(stamp).mean() for _, stamp in timing["train"]]) / 1e3
small = network(64, 8, d_model=32, d_state=16, blocks=1, layers=3, stride=4)
# a fork may take the true gaps away from all of this page
given = f"gap of {constant_gap:g} ms" if constant_gap else "true gaps"
ways = {
    given: small,
    "constant gap": replace(small, constant_gap=float(mean_gap)),
    "gap of 1 µs": replace(small, constant_gap=0.001),
}


def bits_right(model):
    """Share of the test streams in which each of the three bits is right."""
    guess = scores_of(model, timing["test"]).argmax(1)
    return [
        np.mean((guess >> b & 1) == (timing["test"].labels >> b & 1))
        for b in range(3)
    ]


timing_runs, timing_bits = {}, {}
for way, config in ways.items():
    recipe = [Training(steps=timing_steps, seed=seed) for seed in seeds]
    trained = [fit("timing", config, timing, r) for r in recipe]
    timing_runs[way] = [right for _, right in trained]
    timing_bits[way] = np.mean([bits_right(model) for model, _ in trained], 0)

# %%
gap_of_runs = np.mean(timing_runs[given]) - np.mean(timing_runs["constant gap"])
record(
    es_timing_events=timing["train"].lengths.mean(),
    es_timing=np.mean(timing_runs[given]),
    es_timing_constant=np.mean(timing_runs["constant gap"]),
    es_timing_worth=100 * gap_of_runs,
    es_timing_bit=timing_bits["constant gap"][2],
    es_timing_released=np.mean(timing_runs["gap of 1 µs"]),
    es_timing_released_order=min(timing_bits["gap of 1 µs"][:2]),
)
keep(es_timing_runs=timing_runs)
for way, runs in timing_runs.items():
    earlier = full.get("es_timing_runs", {}).get(way, [])
    print(f"{way:13} this run           {percent(runs)}")
    print(f"{'':13} recorded full run  {percent(earlier)}")

# %% mystnb={"figure": {"caption": "Timing-only task: share of test streams in which each bit is right, with the true gaps, with one gap for all, and with the gap of the released ablation, at which nothing decays. A coin would get half.", "name": "fig-es-bits"}, "image": {"alt": "Three groups of bars; for the two directions all are near one hundred percent, for the timing bit those without time are near fifty"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.4, 3.0))
for side, (way, color) in enumerate(zip(ways, ("blue", "grey", "sky"), strict=True)):
    axis.bar(
        np.arange(3) + 0.28 * (side - 1),
        100 * timing_bits[way],
        0.26,
        color=PALETTE[color],
        label=way,
    )
axis.axhline(50, color=PALETTE["black"], linestyle=":", linewidth=1.2)
axis.set_xticks(range(3), ["low chirp", "high chirp", "timing"])
axis.set(ylabel="right (%)", ylim=(0, 132), yticks=range(0, 101, 20))
axis.grid(axis="x", visible=False)
axis.legend(ncols=3, loc="upper left")
plt.show()

# %% [markdown]
# With the stamps {glue:text}`es_timing:.1%` of the streams are classified, without {glue:text}`es_timing_constant:.1%`: both
# directions are still there, the third bit is right in {glue:text}`es_timing_bit:.0%` of the cases.
#
# The third way is the released ablation, in which an event takes a thousandth of a millisecond and nothing decays. It loses
# the same bit and no other ({glue:text}`es_timing_released:.1%` of the streams, directions right in
# {glue:text}`es_timing_released_order:.0%`): a mean over the course of running sums still knows what came first.
#
# All three readings of an event solve this task, as the [ablations](ablations.ipynb) show, so it says nothing about which of
# them is best. What separates them are the exact properties of the [method page](method.ipynb).
#
# ## Spoken digits
#
# ```{margin} Our events, not SHD
# Spiking Heidelberg Digits, on which the paper reports 95.9 %, come from a model of the cochlea with 700 channels, with two
# speakers in the test set alone. These are the Free Spoken Digits in our own encoding; the split shares its speakers, so the
# numbers are optimistic. With your own copy of the original, set `event_set` to `shd`.
# ```
#
# Real speech: 3,000 clips of six people saying digits, as thirteen cepstral coefficients. Each coefficient sends an event
# when it crosses one of its levels, upwards or downwards, a quarter of a standard deviation apart. A word becomes
# {glue:text}`es_words_events:.0f` events on average, on 26 channels ({term}`delta coding`). Networks learn on 2,400 clips;
# the size of the network and the augmentation were chosen on 300 others, and the accuracy is that on the last 300.

# %%
encoding = {}
if event_set == "spoken_digits":
    coarse = "frame" if stamps == "coarse" else stamps
    encoding = {"threshold": delta_threshold, "stamps": coarse}
words = {
    part: load_event_streams(event_set, part, **encoding)
    for part in ("train", "test")
}
print(fill(str(words["train"].source), 86))
for part, some in words.items():
    print(
        f"{len(some):,} {part} streams of {some.lengths.mean():.0f} events on average"
    )


# %% [markdown]
# The recipe is AdamW with one cycle of the learning rate and the released augmentation: some events are dropped, time is
# stretched, noise is added. For an original set the network and the recipe are those of the released configuration.

# %% tags=["hide-input"]
RELEASED = {"shd": "shd_medium", "ssc": "ssc_medium", "dvs128": "dvs_small_v0.2"}
n_tokens, n_classes = words["train"].n_tokens, len(words["train"].classes)
if event_set in RELEASED:
    original = released(RELEASED[event_set])
    speech, about = original.network, original.recipe
    recipe = Training(
        digit_epochs,
        about.batch_size,
        lr=about.lr,
        ssm_lr=about.ssm_lr,
        weight_decay=about.weight_decay,
        schedule="cosine",
        warmup=about.warmup_epochs / about.epochs,
        clip=0,
    )
else:
    sizes = {"d_model": d_model, "d_state": d_state, "stages": 2, "layers": 2}
    speech = network(n_tokens, n_classes, stride=stride, dropout=0.2, **sizes)
    recipe = Training(digit_epochs)


def augment(stream, rng):
    """The released chain for channels; of ours two tokens are one channel."""
    kinds = 2 if event_set == "spoken_digits" else 1
    return SHD(stream, n_tokens, rng, kinds=kinds)


def mix(streams, labels, rng):
    return cutmix_batch(streams, labels, n_classes, cut_mix, rng)


options = {"mix": mix if cut_mix else None}
if words["train"].sensor is None:
    options["augment"] = augment
heard = [
    fit("words", speech, words, replace(recipe, seed=seed), **options)
    for seed in seeds
]
listener = heard[0][0]

# %% [markdown]
# What would one get without any order or time? A histogram of the channels, logarithms of how often each one spoke, and
# logistic regression:


# %%
def histograms(streams):
    """log(1 + events) of each token, (stream, token)."""
    return np.log1p([np.bincount(token, minlength=n_tokens) for token, _ in streams])


regression = make_pipeline(
    StandardScaler(), LogisticRegression(C=0.1, max_iter=2_000)
)
regression.fit(histograms(words["train"]), words["train"].labels)
no_order = regression.score(histograms(words["test"]), words["test"].labels)
word_runs = [right for _, right in heard]
record(
    es_words_events=words["train"].lengths.mean(),
    es_words=np.mean(word_runs),
    es_words_histogram=no_order,
    es_words_gain=100 * (np.mean(word_runs) - no_order),
    es_words_parameters=sum(p.numel() for p in listener.parameters()),
)
keep(es_words_runs=word_runs)
print("Event-SSM  this run", percent(word_runs))
print("           recorded full run", percent(full.get("es_words_runs", [])))
print("histogram ", percent([no_order]))

# %% [markdown]
# The network, with {glue:text}`es_words_parameters:,` parameters, is right in {glue:text}`es_words:.1%` of the clips, the
# histogram in {glue:text}`es_words_histogram:.1%`.
#
# ### Listening
#
# The network need not wait for the end of a word. `EventStream` takes one event at a time and gives scores whenever a group
# of events is complete. So we can watch it decide: above the events of one word, below what it would answer at each moment.

# %%
scored = scores_of(listener, words["test"])
right = np.flatnonzero(scored.argmax(1) == words["test"].labels)
clip = int(right[np.argsort(words["test"].lengths[right])[len(right) // 2]])
token, stamp = words["test"][clip]
said = EventStream(listener).push(token, stamp)
chance = np.exp(said.scores - said.scores.max(1, keepdims=True))
chance /= chance.sum(1, keepdims=True)
answer = int(words["test"].labels[clip])

# %% mystnb={"figure": {"caption": "A spoken digit as events (above; crossings of levels upwards in orange, downwards in blue) and the probabilities that the network of this run gives after every group of events (below). A word of median length among those that it gets right.", "name": "fig-es-listening"}, "image": {"alt": "Above a raster of events of thirteen coefficients, below curves of the probability of each digit that cross until the right one wins"}} tags=["hide-input"]
figure, axes = plt.subplots(
    2, 1, figsize=(8.0, 4.6), sharex=True, height_ratios=(1.3, 1)
)
up = token % 2 == 1
for some, color, name in ((up, "orange", "up"), (~up, "blue", "down")):
    axes[0].scatter(
        stamp[some] / 1e3,
        token[some] // 2,
        s=16,
        marker="|",
        color=PALETTE[color],
        label=name,
    )
axes[0].set(ylabel="coefficient" if event_set == "spoken_digits" else "channel")
moments = stamp[said.at] / 1e3
for k in np.argsort(chance.max(0))[::-1]:
    best = chance[:, k].max() > 0.5
    color = PALETTE["green"] if k == answer else PALETTE["grey"]
    label = words["test"].classes[k] if best else None
    axes[1].step(
        moments,
        chance[:, k],
        where="post",
        color=color,
        linewidth=2.4 if k == answer else 1,
    )
    if best:
        at = int(chance[:, k].argmax())
        axes[1].annotate(
            label,
            (moments[at], chance[at, k]),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right" if k == answer else "center",
            color=color,
        )
axes[1].set(xlabel="time (ms)", ylabel="probability", ylim=(0, 1.18))
glue("es_listening", figure)
plt.close(figure)

# %% [markdown]
# Over all words of the test part: how much of a word does it take?

# %%
shares = np.linspace(0.1, 1.0, 10)


def early(model):
    """Accuracy after a share of the events of each stream."""
    hits = np.zeros(len(shares))
    stream = EventStream(model)
    for (token, stamp), label in zip(
        words["test"], words["test"].labels, strict=True
    ):
        stream.reset()
        said = stream.push(token, stamp)
        heard = np.searchsorted(said.at, shares * len(token) - 1, side="right") - 1
        hits += (said.scores.argmax(1)[np.maximum(heard, 0)] == label) & (heard >= 0)
    return (hits / len(words["test"])).tolist()


curves = [early(model) for model, _ in heard]
record(es_words_half=np.mean([curve[4] for curve in curves]))
keep(es_early=curves)

# %% mystnb={"figure": {"caption": "Accuracy on the spoken digits of the test part if the network has to answer early, against the share of the word that it has heard. Dashed: seeds of the recorded full run.", "name": "fig-es-anytime"}, "image": {"alt": "Curves that rise from chance to their final height over the course of a word"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.4, 3.0))
for number, curve in enumerate(full.get("es_early", [])):
    label = "recorded full run" if number == 0 else None
    axis.plot(
        100 * shares,
        100 * np.array(curve),
        "--",
        color=PALETTE["black"],
        linewidth=1,
        label=label,
    )
for number, curve in enumerate(curves):
    label = "this run" if number == 0 else None
    axis.plot(
        100 * shares, 100 * np.array(curve), "o-", color=PALETTE["blue"], label=label
    )
axis.set(xlabel="heard (% of the events)", ylabel="right (%)", ylim=(0, 102))
axis.legend(loc="lower right")
plt.show()

# %% [markdown]
# After half of a word the network is right in {glue:text}`es_words_half:.0%` of the cases. It was trained on whole words and
# averages over everything that it has heard, so an early answer is not what it learned to give; a network that must decide
# early would have to be trained for that.
#
# ## An eye that moves
#
# ```{margin} Simulated events
# The images are MNIST's. The events are computed, after the protocol of N-MNIST: three small eye movements of 100 ms, an
# event whenever the log intensity of a pixel has changed by a quarter. The original has a real camera's noise; `event_set`
# takes it as `nmnist`.
# ```
#
# A camera that sees only change sees nothing of a still picture. So the eye moves, as ours do, in a few {term}`saccades
# <saccade>`. A digit becomes {glue:text}`es_saccade_events:,.0f` events on 34 x 34 pixels of two polarities, 2,312 tokens;
# the network must find out by itself which of them are neighbours.

# %% tags=["hide-input"]
grid = "grid" if stamps == "coarse" else stamps
look = {"saccades": saccades, "threshold": event_threshold, "stamps": grid}
counts = {"train": saccade_images, "test": max(1, min(10_000, saccade_images // 3))}
seen = {
    part: load_event_streams("saccade_mnist", part, count=count, **look)
    for part, count in counts.items()
}
viewer = network(
    2_312,
    10,
    d_model=d_model,
    d_state=d_state,
    stages=1 if saccades == 1 else 2,
    layers=2,
    stride=saccade_stride,
    dropout=0.1,
)
recipe = Training(saccade_epochs)
saccade_runs = [
    fit("saccades", viewer, seen, replace(recipe, seed=seed))[1] for seed in seeds
]
record(
    es_saccade_events=seen["train"].lengths.mean(),
    es_saccade_images=saccade_images,
    es_saccade=np.mean(saccade_runs),
)
keep(es_saccade_runs=saccade_runs)
print("this run         ", percent(saccade_runs), f"after {saccade_images:,} images")
print("recorded full run", percent(full.get("es_saccade_runs", [])))

# %% mystnb={"figure": {"caption": "One test digit as events, brighter in orange, darker in blue; left as an image, right as it arrives.", "name": "fig-es-saccade"}, "image": {"alt": "Left a digit drawn by dots, right the rows of its events against time, curved bands"}} tags=["hide-input"]
token, stamp = seen["test"][0]
place, polarity = np.divmod(token, 2)
row, column = np.divmod(place, 34)
figure, axes = plt.subplots(1, 2, figsize=(8.0, 3.0), width_ratios=(1, 2.2))
for p, color in ((1, "orange"), (0, "blue")):
    some = polarity == p
    axes[0].scatter(
        column[some], 33 - row[some], s=3, color=PALETTE[color], alpha=0.6
    )
    axes[1].scatter(
        stamp[some] / 1e3, column[some], s=3, color=PALETTE[color], alpha=0.6
    )
axes[0].set(xlim=(-1, 34), ylim=(-1, 34), aspect="equal")
axes[0].axis("off")
axes[1].set(xlabel="time (ms)", ylabel="column")
plt.show()

# %% [markdown]
# In this run the network saw {glue:text}`es_saccade_images:,` images once, of which it got {glue:text}`es_saccade:.1%` of
# the test images right. What the recorded run reached, with more images and all three movements, stands beside it.
#
# ## A stream that is not cut
#
# Back to the recording of the [method page](method.ipynb): 346 x 260 pixels, 179,920 tokens. Its
# {glue:text}`es_camera_rate:,.0f` events a second run through a network of two layers, untrained, as they would arrive, and
# through the same network offline, all at once.
#
# ```{margin} Not a classifier
# There is nothing to classify in two seconds of a scene. What is tested is that the stream is the network, at the size of a
# real sensor.
# ```

# %%
recording = load_davis_recording()
width, height, events = recording.width, recording.height, recording.events
camera = EventSSM(
    EventSSMConfig(
        2 * width * height, 10, d_model=32, d_state=64, layers=2, stride=8
    ),
    generator=torch.Generator().manual_seed(0),
).eval()
token, stamp = tokens_of(events, width, height), events["t"]
stream = EventStream(camera)
stream.push(token[:1], stamp[:1])  # compiles
stream.reset()

# %%
begin = time.perf_counter()
streamed = stream.push(token, stamp)
seconds = time.perf_counter() - begin
with torch.no_grad():
    batch = collate([(token, stamp)], camera.config.n_tokens)
    encoded = camera.encode(batch.token, batch.gap, batch.lengths)
    so_far = (
        encoded.values[0].double().cumsum(0)
        / torch.arange(1, len(streamed.at) + 1)[:, None]
    )
    offline = camera.readout(so_far.float()).numpy()
apart = np.abs(streamed.scores - offline).max() / np.abs(offline).max()
rate = len(events) / (recording.duration / 1e6)
record(
    es_davis_stream=bound(apart, floor=1e-5),
    es_davis_outputs=len(streamed.at),
    es_davis_real_time=bool(len(events) / seconds > rate),
    es_camera_rate=rate,
)

# %% [markdown]
# {glue:text}`es_davis_outputs:,` answers came out, one for every eight events, each that of the offline network on the
# stream so far, to the rounding of single precision. And the network was done before the camera: how many events a second it
# takes stands, with its competitors, on the [page about kernels](../../book/kernels.md).
#
# ## What to remember
#
# Stamps carried one bit in three where the task was made so. Words and digits, as events, are learnt by the same network
# without a frame anywhere. And once trained, it listens: one event at a time, with a state that does not grow, and answers
# that are those of the network that has seen everything.

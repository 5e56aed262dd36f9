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
# # Experiments: how much is said, and what silence costs
#
# The [method page](method.ipynb) shows that the work of an {term}`EGRU` is counted in events, forwards and backwards. How
# many events a trained network sends is not a matter of algebra. This page trains: on words, where the paper has its
# headline, on images that are read pixel by pixel, and on what a camera of events sees.

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
    os.chdir(f"{home}/notebooks/egru")

# %% tags=["parameters"]
seeds: list[int] = [0]  # one run of everything for each
reset: str = "threshold"  # what an event takes: threshold, value, paper or none
reset_gate: str = "after"  # of the recurrent matrix, or before
threshold_init: float = -4.0  # mean of the thresholds before their sigmoid
threshold_spread: float = 0.5  # standard deviation of that
threshold_trainable: bool = True  # or as drawn
text_set: str = "state_of_the_union"  # or penn_treebank, wikitext2: your own copy
vocabulary: int = 2000  # words, most frequent first; all others are <unk>
train_words: int = 60000  # of the training text; 0: all of it
test_words: int = 10000  # of the other two parts; 0: all of them
embedding: int = 64  # size of a word's vector, and of the last layer
hidden_size: int = 96  # units of the layers before the last
layers: int = 2  # layers of the word models
lstm_size: int = 75  # hidden_size of the LSTM, for as many parameters
text_support: float = 10.0  # beta on words, inverse half-width of the window
text_dampening: float = 0.2  # gamma there, its height
dropout: float = 0.1  # of vectors, between layers, of the last output
text_epochs: float = 2.0  # passes over the words
text_batch: int = 16  # pieces of the text that are read at once
bptt: int = 32  # words that gradients see
egru_rate: float = 0.008  # learning rate of the EGRU on words
gru_rate: float = 0.008  # of the GRU
lstm_rate: float = 0.008  # of the LSTM
beta1: float = 0.0  # of Adam; the usual is 0.9
carry_state: bool = True  # false: between windows an EGRU keeps only its output
activity_target: float = 0.2  # of the term on words
activity_strength: float = 0.0  # of it; 0 for none
pixel_set: str = "digits"  # or mnist, 784 steps
pixel_orders: list[str] = ["plain"]  # in which pixels are read; bit_reversal
pixel_images: int = 0  # training images; 0: all of them
pixel_units: int = 64  # units there
surrogate_support: float = 1.0  # beta on pixels, inverse half-width of the window
surrogate_dampening: float = 0.7  # gamma there, its height
pixel_rate: float = 0.02  # learning rate of all three networks there
pixel_epochs: int = 6  # passes over the images
pixel_batch: int = 16  # images of a step
pixel_target: float = 0.05  # of the activity term there
pixel_strength: float = 0.1  # of it
sweep_epochs: int = 3  # passes of each network in the sweeps
sweep_strengths: list[float] = [0.0, 0.1, 1.0, 10.0]  # of the activity term
sweep_supports: list[float] = [1.0, 3.0, 10.0]  # values of beta
eye_images: int = 0  # images seen in a saccade; 0: the recorded full run
eye_epochs: int = 3  # passes over them
eye_rate: float = 0.005  # learning rate of all three networks there
eye_frames: int = 20  # frames of a saccade
frame_time: int = 5000  # microseconds of a frame of the camera
ablation_seeds: list[int] = []  # of the ablations; empty: the recorded full run
ablation_size: int = 64  # units of each layer, and of the vectors, there
ablation_words: int = 100000  # training words of an ablation
ablation_epochs: float = 4.0  # passes over them

# %% tags=["hide-input"]
from dataclasses import replace
from functools import partial
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import spearmanr
from torch.nn import functional

from eventbook.companion.notebook import (
    PALETTE,
    bound,
    checkpoint,
    keep,
    record,
    recorded,
    use_theme,
)
from eventbook.datasets import (
    load_davis_recording,
    load_digits,
    load_event_streams,
    load_mnist,
    load_text,
)
from eventbook.learning.classification import Training, accuracy, train
from eventbook.learning.language_modelling import (
    LanguageTraining,
    train_language_model,
)
from eventbook.models.egru import EGRU, SigmoidThreshold
from eventbook.models.language_model import (
    KneserNey,
    LanguageModel,
    LanguageModelConfig,
    evaluate,
)
from eventbook.models.language_model.vocabulary import vocabulary_loss
from eventbook.models.sequence_classifier import SequenceClassifier

torch.set_num_threads(1)
use_theme()
full = recorded("egru")  # the recorded full run, shown beside this one
COLORS = {
    "EGRU": "blue",
    "GRU": "orange",
    "LSTM": "green",
    "trigram": "grey",
    "unigram": "grey",
}
NOT_YET = "not computed in this run, and no full run of it is recorded"


# %% tags=["hide-input"]
if not seeds:
    raise ValueError("seeds must be at least one, got none")
if layers < 1:
    raise ValueError(f"layers must be 1 or more, got {layers}")
least_words = max(65, 2 * text_batch)
for name, count in {"train_words": train_words, "test_words": test_words}.items():
    if count != 0 and count < least_words:
        raise ValueError(f"{name} must be 0 or at least {least_words}, got {count}")
if pixel_set not in ("digits", "mnist"):
    raise ValueError(f"pixel_set must be digits or mnist, got {pixel_set!r}")
if not pixel_orders or set(pixel_orders) - {"plain", "bit_reversal"}:
    raise ValueError(
        f"pixel_orders must be of plain and bit_reversal, got {pixel_orders}"
    )
for name, sweep in {
    "sweep_strengths": sweep_strengths,
    "sweep_supports": sweep_supports,
}.items():
    if len(sweep) < 2 or sorted(set(sweep)) != sweep:
        raise ValueError(f"{name} must be two or more that rise, got {sweep}")
for name, count in {"pixel_images": pixel_images, "eye_images": eye_images}.items():
    if count < 0:
        raise ValueError(f"{name} must be 0 or more, got {count}")
for name, count in {"eye_frames": eye_frames, "frame_time": frame_time}.items():
    if count < 1:
        raise ValueError(f"{name} must be 1 or more, got {count}")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def parameters_of(model):
    return sum(p.numel() for p in model.parameters())


def mean_of(runs):
    return float(np.mean(runs))


def listed(runs, form=".1f"):
    """Mean and single runs, in words."""
    if not len(runs):
        return "none"
    return f"{np.mean(runs):{form}}  ({', '.join(format(run, form) for run in runs)})"


# %% [markdown]
# ## Words
#
# Two centuries of State of the Union addresses, word by word. An EGRU, a GRU and an LSTM of the same number of parameters
# predict the next word, each as an AWD-LSTM does: one table of vectors reads the input and the answer, dropouts are shared
# over time, the state is carried from window to window. Two models that only count stand beside them, on the same words:
# the frequencies alone (unigram) and a trigram with Kneser-Ney smoothing.
#
# ```{margin} Perplexities and vocabularies
# Rare words are read as `<unk>`, and the fewer words there are the easier is the next one. Perplexities of this run are
# comparable with each other and with none of another vocabulary.
# ```
#
# ```{margin} Recipes
# Thresholds, surrogate and learning rate of the EGRU, and the rate of the LSTM, come from a search with the models of the
# full profile. The GRU's was not searched: there it takes the LSTM's. In this short run all three learn at the EGRU's rate.
# All have Adam's $\beta_1 = 0$, as the released EGRUs.
# ```

# %%
corpus = load_text(text_set, words=vocabulary)
learnt = corpus.train[: train_words or None]
held_out = corpus.valid[: test_words or None]
unseen = corpus.test[: test_words or None]
n_words = len(corpus.vocabulary)
counted = {
    name: KneserNey(learnt, n_words, order).perplexity(unseen)
    for name, order in {"unigram": 1, "trigram": 3}.items()
}
print(fill(str(corpus.source), 86))
print(f"{len(learnt):,} words to learn from, {len(unseen):,} to be predicted")

# %%
egru_text = LanguageModelConfig(
    n_words,
    embedding,
    (hidden_size,) * (layers - 1) + (embedding,),
    input_dropout=dropout,
    layer_dropout=dropout,
    output_dropout=dropout,
    reset=reset,
    reset_gate=reset_gate,
    threshold_mean=threshold_init,
    threshold_std=threshold_spread,
    threshold_trainable=threshold_trainable,
    surrogate_support=text_support,
    surrogate_dampening=text_dampening,
)
lstm_sizes = (lstm_size,) * (layers - 1) + (embedding,)
text_models = {
    "EGRU": egru_text,
    "GRU": replace(egru_text, cell="gru"),
    "LSTM": replace(egru_text, cell="lstm", hidden_sizes=lstm_sizes),
}
text_recipe = LanguageTraining(
    epochs=text_epochs,
    batch_size=text_batch,
    window=bptt,
    carry_state=carry_state,
    beta1=beta1,
    beta2=0.99,
    activity_target=activity_target,
)
text_rates = {"EGRU": egru_rate, "GRU": gru_rate, "LSTM": lstm_rate}
LOOKS = 5  # at the validation words, over a run


def recipe_of(name, seed, recipe=text_recipe):
    """The recipe of a network: its rate, a seed, and a term for events."""
    strength = activity_strength if name == "EGRU" else 0.0
    rate = text_rates[name]
    return replace(recipe, lr=rate, seed=seed, activity_strength=strength)


def read(name, config, recipe, text, seed, looks=LOOKS):
    """Train a word model; returns it and what was seen on the way."""
    model = LanguageModel(config, generator(seed))
    file = checkpoint(f"words-{name}", config=config, recipe=recipe, text=len(text))

    def watch():
        seen = evaluate(model, held_out, carry_state=recipe.carry_state)
        return {"perplexity": seen.perplexity, "activity": seen.mean_activity}

    history = train_language_model(
        model, text, recipe, looks=looks, watch=watch, checkpoint=file
    )
    return model, history


readers = {
    name: [read(name, config, recipe_of(name, seed), learnt, seed) for seed in seeds]
    for name, config in text_models.items()
}
results = {
    name: [evaluate(model, unseen, carry_state=carry_state) for model, _ in runs]
    for name, runs in readers.items()
}

# %%
perplexities = {name: [r.perplexity for r in runs] for name, runs in results.items()}
macs = {name: [r.macs for r in runs] for name, runs in results.items()}
egru_runs = results["EGRU"]
per_layer = {
    "activity": np.mean([r.activity for r in egru_runs], 0),
    "need": np.mean([r.need for r in egru_runs], 0),
    "released": np.mean([r.silent_as_released for r in egru_runs], 0),
}
sizes = {name: parameters_of(runs[0][0]) for name, runs in readers.items()}
unit_shares = np.array(egru_text.hidden_sizes) / sum(egru_text.hidden_sizes)
lm_egru, lm_gru, lm_lstm = (mean_of(perplexities[n]) for n in text_models)
record(
    eg_lm_vocabulary=n_words,
    eg_lm_words=len(learnt),
    eg_lm_parameters=sizes["EGRU"],
    eg_lm_size_spread=max(sizes.values()) / min(sizes.values()) - 1,
    eg_lm_unigram=counted["unigram"],
    eg_lm_trigram=counted["trigram"],
    eg_lm_egru=lm_egru,
    eg_lm_gru=lm_gru,
    eg_lm_lstm=lm_lstm,
    eg_lm_ratio_gru=lm_egru / lm_gru,
    eg_lm_ratio_lstm=lm_egru / lm_lstm,
    eg_lm_ratio_unigram=lm_egru / counted["unigram"],
    eg_lm_activity=mean_of([r.mean_activity for r in egru_runs]),
    eg_lm_backward=mean_of([r.backward_sparsity for r in egru_runs]),
    eg_lm_backward_released=float(per_layer["released"] @ unit_shares),
    eg_lm_macs=mean_of(macs["EGRU"]),
    eg_lm_macs_dense=egru_runs[0].dense_macs,
    eg_lm_macs_share=mean_of(macs["EGRU"]) / egru_runs[0].dense_macs,
)
curves = {
    name: [
        [[h["tokens"], h["perplexity"], h["activity"]] for h in history]
        for _, history in runs
    ]
    for name, runs in readers.items()
}
keep(
    eg_lm_perplexities=perplexities,
    eg_lm_macs_runs=macs,
    eg_lm_curves=curves,
    eg_lm_counted=counted,
)
print("test perplexity")
for name, runs in perplexities.items():
    print(f"{name:8} {sizes[name]:>9,} parameters   this run  {listed(runs)}")
    earlier = full.get("eg_lm_perplexities", {}).get(name, [])
    print(f"{'':8} {'':>9}              full run  {listed(earlier)}")
for name, value in counted.items():
    print(f"{name:8} {'':>9}              this run  {value:.1f}")
for number, (said, needed, quiet) in enumerate(
    zip(*per_layer.values(), strict=True), 1
):
    print(
        f"layer {number}: {said:.1%} events, {needed:.1%} needed, "
        f"{1 - needed:.1%} silent (released formula: {quiet:.1%})"
    )

# %% mystnb={"figure": {"caption": "Left: test perplexity against counted multiply-accumulates of the recurrent layers for a word, a point for each seed. Right: perplexity on validation words during training, mean over seeds. Dashed: the trigram on the same words. Dotted: the unigram. The second row, where there is one, is the recorded full run, with more words.", "name": "fig-eg-words"}, "image": {"alt": "Left a scatter of three kinds of points, the EGRU to the left of GRU and LSTM; right three falling curves with a dashed and a dotted horizontal line"}} tags=["hide-input"]
runs_shown = [(perplexities, macs, curves, counted)]
if "eg_lm_curves" in full:
    names = ("eg_lm_perplexities", "eg_lm_macs_runs", "eg_lm_curves", "eg_lm_counted")
    runs_shown.append(tuple(full[name] for name in names))
figure, grid = plt.subplots(
    len(runs_shown), 2, figsize=(8.2, 3.6 * len(runs_shown)), squeeze=False
)
for axes, (found, spent, seen, anchors) in zip(grid, runs_shown, strict=True):
    for name, runs in found.items():
        color = PALETTE[COLORS[name]]
        at = np.array(spent[name]) / 1e3
        axes[0].plot(at, runs, "o", color=color, label=name)
        read_words, curve, _ = np.mean(seen[name], 0).T
        axes[1].plot(read_words / 1e3, curve, "o-", ms=3, color=color, label=name)
    for axis in axes:
        for name, line in {"trigram": "--", "unigram": ":"}.items():
            color = PALETTE[COLORS[name]]
            axis.axhline(anchors[name], color=color, ls=line, lw=1.2, label=name)
    most = max(max(its) for its in spent.values()) / 1e3
    axes[0].set(xlim=(0, 1.15 * most), ylabel="test perplexity")
    axes[0].set(xlabel="multiply-accumulates for a word (thousands)")
    axes[1].set(xlabel="words read (thousands)", ylabel="validation perplexity")
    axes[0].legend(fontsize="small", loc="center left")
plt.show()

# %% [markdown]
# In this run, with {glue:text}`eg_lm_vocabulary:,` words, {glue:text}`eg_lm_words:,` of the training text and
# {glue:text}`eg_lm_parameters:,` parameters (the three networks differ by {glue:text}`eg_lm_size_spread:.1%` at most), the
# EGRU is at a perplexity of {glue:text}`eg_lm_egru:.1f`, the GRU at {glue:text}`eg_lm_gru:.1f`, the LSTM at
# {glue:text}`eg_lm_lstm:.1f`; the unigram at {glue:text}`eg_lm_unigram:.1f`, the trigram at {glue:text}`eg_lm_trigram:.1f`.
# So the EGRU is at {glue:text}`eg_lm_ratio_gru:.2f` of the GRU's perplexity and {glue:text}`eg_lm_ratio_lstm:.2f` of the
# LSTM's, and at {glue:text}`eg_lm_ratio_unigram:.2f` of the unigram's.
#
# Of its units {glue:text}`eg_lm_activity:.1%` speak in a step. A word costs {glue:text}`eg_lm_macs:,.0f`
# multiply-accumulates in the recurrent layers, counted by the kernels, of {glue:text}`eg_lm_macs_dense:,` if every weight
# were used: {glue:text}`eg_lm_macs_share:.1%`. That is more than the activity, for the first layer reads word vectors, and
# these are dense.
#
# Going back, {glue:text}`eg_lm_backward:.1%` of the units of a step need no message. The released script reports another
# number under that name, the share of units whose state *after* the reset is far from the threshold: a unit that spoke is
# judged by what the reset left of it, and one that is far above counts as silent ([method](method.ipynb)). That would be
# {glue:text}`eg_lm_backward_released:.1%` here.
#
# What others quote from the paper, for comparison of kind and not of size. It is other data at another scale, and every
# number is from a secondary source.
#
# | | perplexity, Penn Treebank | units silent | messages back silent |
# |---|---|---|---|
# | EGRU, 1350 units | 57.2 | 79.7 % | |
# | EGRU, 2000 units | 57.0 | 84.8 % | |
# | EGRU, language modelling | | | 42-46 % |
# | GRU, 1350 units | 66.3 | | 0 |
# | AWD-LSTM | 57.3 | | |
#
# ```{margin} Penn Treebank
# The table is of the Penn Treebank, which cannot be shared. With your own copy set `text_set` to `penn_treebank` and
# `vocabulary` to 9998; the sizes and recipes of the released models are `RELEASED` in `eventbook.models.language_model` and
# in `eventbook.learning.language_modelling`.
# ```
#
# ### Must silence be learnt?
#
# Is a threshold all there is to it? Take the trained GRU and let its units speak only when the size of their state exceeds a
# limit, one for each layer, chosen on the validation words such that each layer is as active as the EGRU's. Positive and
# negative states may speak, which is generous: a unit of an EGRU speaks above its threshold only. Nothing is trained anew.
# With a limit of zero it is the GRU that was trained.


# %%
def silenced(layer, y, limit):
    """What a GRU layer says if only what exceeds a limit is said."""
    kernel, recurrent, bias, recurrent_bias = layer.parameters()
    given = functional.linear(y.transpose(0, 1), kernel, bias)
    size = recurrent.shape[1]
    state = said = given.new_zeros(len(y), size)
    out = []
    for now in given:
        heard = functional.linear(said, recurrent, recurrent_bias)
        gates = torch.sigmoid(now[:, : 2 * size] + heard[:, : 2 * size])
        r, z = gates.chunk(2, 1)
        n = torch.tanh(now[:, 2 * size :] + r * heard[:, 2 * size :])
        state = n + z * (state - n)
        said = state * (state.abs() > limit)
        out.append(said)
    return torch.stack(out, 1)


# %% tags=["hide-input"]
PIECES = 32  # of a text that are read at once


def pieces_of(model, words):
    """Vectors of the words, (piece, time, embedding), and the words that follow."""
    steps = (len(words) - 1) // PIECES
    text = torch.as_tensor(words[: PIECES * steps + 1]).long()
    begun = text[:-1].view(PIECES, steps)
    return functional.embedding(begun, model.embedding), text[1:]


def share(y):
    return float((y != 0).double().mean())


@torch.no_grad()
def limits_for(model, words, activities):
    """The limit of each layer with which it says so much, by bisection."""
    y, _ = pieces_of(model, words)
    limits = []
    for layer, wanted in zip(model.recurrent.layers, activities, strict=True):
        low, high = 0.0, 1.0  # states of a GRU are between -1 and 1
        for _ in range(12):
            middle = (low + high) / 2
            too_much = share(silenced(layer, y, middle)) > wanted
            low, high = (middle, high) if too_much else (low, middle)
        y = silenced(layer, y, high)
        limits.append(high)
    return limits


@torch.no_grad()
def spoken(model, words, limits):
    """Loss of the silenced GRU, and the activity of all its units."""
    y, answers = pieces_of(model, words)
    shares = []
    for layer, limit in zip(model.recurrent.layers, limits, strict=True):
        y = silenced(layer, y, limit)
        shares.append(share(y))
    loss = vocabulary_loss(y.flatten(0, 1), model.embedding, model.bias, answers)
    return float(loss), float(np.dot(shares, unit_shares))


calibration = held_out[:50_000]
posthoc, unchanged = [], []
for (model, _), result in zip(readers["GRU"], egru_runs, strict=True):
    posthoc.append(
        spoken(model, unseen, limits_for(model, calibration, result.activity))
    )
    whole = unseen[: PIECES * ((len(unseen) - 1) // PIECES) + 1]
    as_trained = evaluate(model, whole).loss
    unchanged.append(abs(spoken(model, whole, [0.0] * layers)[0] - as_trained))
LIMITS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)  # for all layers alike
levels, common = [], []
for (model, _), result in zip(readers["GRU"], egru_runs, strict=True):
    losses, said = np.transpose(
        [spoken(model, unseen, [limit] * layers) for limit in LIMITS]
    )
    levels.append((losses, said))
    common.append(np.interp(result.mean_activity, said[::-1], losses[::-1]))

# %%
posthoc_loss, posthoc_activity = np.transpose(posthoc)
record(
    eg_posthoc=np.exp(posthoc_loss).mean(),
    eg_posthoc_activity=posthoc_activity.mean(),
    eg_posthoc_worse=np.exp(posthoc_loss).mean() / lm_egru,
    eg_posthoc_common=np.exp(common).mean(),
    eg_posthoc_common_worse=np.exp(common).mean() / lm_egru,
    eg_posthoc_limit=bound(max(unchanged), floor=1e-4),
)

# %% mystnb={"figure": {"caption": "Perplexity against activity. Orange: trained GRUs, a line for each seed, with one limit for all layers, from none to 0.8. Diamonds: limits such that each layer is as active as the EGRU's. Blue: the EGRU, which was trained with its thresholds. Dotted: the unigram.", "name": "fig-eg-posthoc"}, "image": {"alt": "A curve that is flat at high activity and rises steeply to the left, where less is said, with a diamond above it and the point of the EGRU near it"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.4, 3.6))
for number, (losses, said) in enumerate(levels):
    label = None if number else "GRU, one limit"
    axis.plot(100 * said, np.exp(losses), "o-", color=PALETTE["orange"], label=label)
values, label = np.exp(posthoc_loss), "GRU, as active in each layer"
axis.plot(
    100 * posthoc_activity, values, "D", color=PALETTE["vermilion"], label=label
)
at = [100 * r.mean_activity for r in egru_runs]
axis.plot(at, perplexities["EGRU"], "s", color=PALETTE["blue"], label="EGRU")
axis.axhline(counted["unigram"], color=PALETTE["grey"], ls=":", lw=1.2)
axis.set(xlabel="units that speak (%)", ylabel="test perplexity", xlim=(0, 105))
axis.set(ylim=(0, 1.6 * max(counted["unigram"], values.max())))
axis.legend()
plt.show()

# %% [markdown]
# At an activity of {glue:text}`eg_posthoc_activity:.1%`, layer by layer as the EGRU's, the silenced GRU has a perplexity of
# {glue:text}`eg_posthoc:.1f`, {glue:text}`eg_posthoc_worse:.2f` times that of the EGRU. Without limits its loss differs from
# the trained GRU's by {glue:text}`eg_posthoc_limit:.0e` at most.
#
# But the split over layers is the EGRU's choice, not the GRU's. With one limit for all layers and as many events in all, read
# off the orange curve, the silenced GRU is at {glue:text}`eg_posthoc_common:.1f`, {glue:text}`eg_posthoc_common_worse:.2f`
# times the EGRU. This is the stronger control: below one, a short training that learns silence has not paid, and a GRU that
# is told to be silent afterwards is better. The full profile has to show what remains of that where the EGRU has had the
# words to learn, and says less.
#
# ## Pixel by pixel
#
# An image is read one pixel at a time, and after the last one a network must say what it was. With the digits of
# scikit-learn that takes 64 steps, with MNIST 784. The answer is read from a low-pass trace of what the units said, which
# still knows something of a unit that spoke ten steps ago; GRU and LSTM are read by the same trace. The EGRU is trained with
# the term of the released code, {glue:text}`eg_pixel_strength` times the squared distance of its mean activity from
# {glue:text}`eg_pixel_target` (`activity_target` in `eventbook.models.egru.regularisation`).
#
# ```{margin} Bit reversal
# The released code permutes pixels by reversing the bits of their number. 784 is no power of two: we reverse ten bits and
# leave out what is beyond the image. How the released code does that we do not know.
# ```
#
# The full profile also reads the pixels in an order that tears neighbours apart.


# %% tags=["hide-input"]
def bit_reversal(count):
    """The numbers below a count in the order of their reversed bits."""
    bits = max(1, (count - 1).bit_length())
    order = np.array([int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)])
    return order[order < count]


load_images = {"digits": load_digits, "mnist": load_mnist}[pixel_set]
brightest = {"digits": 16, "mnist": 255}[pixel_set]
images = {part: load_images(part) for part in ("train", "test")}
if pixel_images:
    images["train"] = images["train"][:pixel_images]
n_pixels = images["train"].images[0].size


def pixels(part, order):
    """Images as sequences of one number a step, between 0 and 1."""
    chosen = np.arange(n_pixels) if order == "plain" else bit_reversal(n_pixels)
    flat = images[part].images.reshape(-1, n_pixels)[:, chosen, None]
    return list((flat / brightest).astype(np.float32))


def event_options(support=surrogate_support):
    """What the parameters above ask of an EGRU on pixels and frames."""
    return {
        "threshold": partial(
            SigmoidThreshold,
            mean=threshold_init,
            std=threshold_spread,
            trainable=threshold_trainable,
        ),
        "reset": reset,
        "reset_gate": reset_gate,
        "surrogate_support": support,
        "surrogate_dampening": surrogate_dampening,
    }


def pixel_model(name, seed, support=surrogate_support, strength=pixel_strength):
    options = {}
    if name == "EGRU":
        term = {"activity_target": pixel_target, "activity_strength": strength}
        options = event_options(support) | term
    return SequenceClassifier(
        1, pixel_units, 10, cell=name.lower(), generator=generator(seed), **options
    )


def look(model, sequences, labels, epochs, seed, what, rate=pixel_rate):
    """Train a classifier; returns it."""
    recipe = Training(epochs, pixel_batch, lr=rate, seed=seed)
    options = [str(model), getattr(model, "activity_strength", 0.0), pixel_target]
    dynamics = [vars(c.dynamics) for c in getattr(model.recurrent, "cells", [])]
    thresholds = [threshold_init, threshold_spread, threshold_trainable]
    file = checkpoint(what, recipe=recipe, model=[options, dynamics, thresholds])
    train(model, sequences, labels, recipe, checkpoint=file)
    return model


@torch.no_grad()
def doing(model, sequences, size=64):
    """What an EGRU does on sequences: activity by step, and need share."""
    said, needed = [], []
    for first in range(0, len(sequences), size):
        some = model.collate(sequences[first : first + size])
        (layer,) = model.run(*some.inputs).layers
        said.append((layer.output != 0).double().mean(2).numpy())
        needed.append(layer.need().double().mean(2).numpy())
    return np.concatenate(said).mean(0), float(np.concatenate(needed).mean())


pixel_right, pixel_steps, pixel_need = {}, {}, {}
for order in pixel_orders:
    sequences = {part: pixels(part, order) for part in images}
    for name in ("EGRU", "GRU", "LSTM"):
        trained = [
            look(
                pixel_model(name, seed),
                sequences["train"],
                images["train"].labels,
                pixel_epochs,
                seed,
                f"pixels-{order}-{name}",
            )
            for seed in seeds
        ]
        right = [
            accuracy(m, sequences["test"], images["test"].labels) for m in trained
        ]
        pixel_right.setdefault(order, {})[name] = right
        if name == "EGRU":
            seen = [doing(model, sequences["test"]) for model in trained]
            pixel_steps[order] = np.mean([steps for steps, _ in seen], 0)
            pixel_need[order] = mean_of([need for _, need in seen])

# %%
first_order = pixel_orders[0]
shown_right = {name: mean_of(r) for name, r in pixel_right[first_order].items()}
record(
    eg_pixel_strength=pixel_strength,
    eg_pixel_target=pixel_target,
    eg_pixel_steps=n_pixels,
    eg_pixel_units=pixel_units,
    eg_pixel_images=len(images["train"]),
    eg_pixel_egru=shown_right["EGRU"],
    eg_pixel_gru=shown_right["GRU"],
    eg_pixel_lstm=shown_right["LSTM"],
    eg_pixel_activity=float(pixel_steps[first_order].mean()),
    eg_pixel_need=pixel_need[first_order],
)
keep(
    eg_pixel_right=pixel_right,
    eg_pixel_by_step={order: list(s) for order, s in pixel_steps.items()},
)
print("test images classified right (%)")
for order, by_name in pixel_right.items():
    for name, right in by_name.items():
        print(f"{order:12} {name:5} this run  {listed(100 * np.array(right))}")
for order, by_name in full.get("eg_pixel_right", {}).items():
    for name, right in by_name.items():
        print(f"{order:12} {name:5} full run  {listed(100 * np.array(right))}")

# %% mystnb={"figure": {"caption": "Activity over time within an image: share of units that speak at each pixel, mean over the test images and seeds. Dashed: target of the activity term. Grey, right axis: mean brightness of the pixel. Further panels, where there are any, are the recorded full run, in both orders.", "name": "fig-eg-pixels"}, "image": {"alt": "A curve of activity over the steps of an image, above a grey curve of brightness that rises and falls once a row"}} tags=["hide-input"]
panels = [(f"{order}", steps, True) for order, steps in pixel_steps.items()]
for order, steps in full.get("eg_pixel_by_step", {}).items():
    panels.append((f"{order}, full run", steps, False))
figure, axes = plt.subplots(
    len(panels), 1, figsize=(7.2, 2.9 * len(panels)), squeeze=False
)
for axis, (order, steps, here) in zip(axes[:, 0], panels, strict=True):
    if here:
        bright = axis.twinx()
        values = np.mean(pixels("test", order), 0)[:, 0]
        bright.plot(values, color=PALETTE["grey"], lw=1)
        bright.set(ylabel="brightness", ylim=0)
        bright.grid(visible=False)
        axis.set_zorder(bright.get_zorder() + 1)
        axis.patch.set_visible(False)
    axis.plot(100 * np.array(steps), color=PALETTE["blue"])
    axis.axhline(100 * pixel_target, color=PALETTE["vermilion"], ls="--", lw=1)
    axis.set(xlabel=f"pixel, order: {order.replace('_', ' ')}", ylim=0)
    axis.set(ylabel="units that speak (%)")
plt.show()

# %% [markdown]
# After {glue:text}`eg_pixel_steps` pixels of each of {glue:text}`eg_pixel_images:,` training images the EGRU gets
# {glue:text}`eg_pixel_egru:.1%` of the test images right, the GRU {glue:text}`eg_pixel_gru:.1%`, the LSTM
# {glue:text}`eg_pixel_lstm:.1%`, all with {glue:text}`eg_pixel_units` units. The learning rate is one for all three, from a
# handful of trials that looked at the same test images: these numbers say that all of them learn, and rank none. In a step
# {glue:text}`eg_pixel_activity:.1%` of the EGRU's units speak (the dashed line is the target of its term), and
# {glue:text}`eg_pixel_need:.1%` can pass a gradient. The paper's result on sequential MNIST with 590 units is quoted as
# 98.3 % right with 72.1 % of units silent (secondary source; other data, other scale).
#
# ## How much silence can be asked for?
#
# The same network with the term in several strengths, for fewer epochs.

# %% tags=["hide-input"]
sequences = {part: pixels(part, "plain") for part in images}
probe = slice(0, 64)  # test images on which gradients are compared


def gradient_norm(model):
    """Norm of the gradient of the loss on some test images, all weights together."""
    some = model.collate(sequences["test"][probe])
    scores = model.run(*some.inputs).scores
    loss = functional.cross_entropy(
        scores, torch.as_tensor(images["test"].labels[probe])
    )
    grads = torch.autograd.grad(
        loss, [p for p in model.parameters() if p.requires_grad]
    )
    return float(torch.stack([g.double().square().sum() for g in grads]).sum().sqrt())


def swept(**change):
    """Accuracy, activity, need share, norm of the gradient; a row for each seed."""
    rows = []
    for seed in seeds:
        options = {"strength": 0.0, "support": surrogate_support} | change
        model = look(
            pixel_model("EGRU", seed, **options),
            sequences["train"],
            images["train"].labels,
            sweep_epochs,
            seed,
            "sweep",
        )
        steps, need = doing(model, sequences["test"])
        right = accuracy(model, sequences["test"], images["test"].labels)
        rows.append([right, float(steps.mean()), need, gradient_norm(model)])
    return rows


plainly = swept()
by_strength = {
    str(strength): swept(strength=strength) if strength else plainly
    for strength in sweep_strengths
}
by_support = {
    str(beta): swept(support=beta) if beta != surrogate_support else plainly
    for beta in sweep_supports
}

# %%
strength_right, strength_activity, *_ = np.mean(list(by_strength.values()), 1).T
support_right, _, support_need, support_norm = np.mean(list(by_support.values()), 1).T
record(
    eg_sweep_rank=spearmanr(sweep_strengths, strength_activity).statistic,
    eg_sweep_drop=strength_activity[0] - strength_activity[-1],
    eg_sweep_activity=strength_activity[0],
    eg_sweep_least=strength_activity[-1],
    eg_sweep_right=strength_right[0],
    eg_sweep_right_least=strength_right[-1],
)
record(
    eg_support_rank=spearmanr(sweep_supports, support_need).statistic,
    eg_support_widest=support_need[0],
    eg_support_narrowest=support_need[-1],
    eg_support_norm_widest=support_norm[0],
    eg_support_norm_narrowest=support_norm[-1],
    eg_support_right_widest=support_right[0],
    eg_support_right_narrowest=support_right[-1],
)
keep(
    eg_sweep_strengths=by_strength,
    eg_sweep_supports=by_support,
)

# %% mystnb={"figure": {"caption": "Activity (blue) and accuracy (orange) of EGRUs that were trained with an activity term of several strengths. Crosses: seeds of the recorded full run, where there is one.", "name": "fig-eg-strengths"}, "image": {"alt": "Two falling curves against strength; activity falls first, accuracy follows"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.4, 3.2))
known = full.get("eg_sweep_strengths", {})
for column, name, color in ((1, "activity", "blue"), (0, "accuracy", "orange")):
    values = 100 * np.mean([np.array(r)[:, column] for r in by_strength.values()], 1)
    axis.plot(sweep_strengths, values, "o-", color=PALETTE[color], label=name)
    for strength, runs in known.items():
        marks = 100 * np.array(runs)[:, column]
        axis.plot([float(strength)] * len(marks), marks, "x", color=PALETTE[color])
least = min(s for s in sweep_strengths if s > 0)
axis.set_xscale("symlog", linthresh=least)
axis.set_xticks(sweep_strengths, [f"{s:g}" for s in sweep_strengths])
axis.minorticks_off()
axis.set(xlabel="strength of the activity term", ylabel="share (%)", ylim=0)
axis.legend()
plt.show()

# %% [markdown]
# From no term to the strongest, activity goes from {glue:text}`eg_sweep_activity:.1%` to {glue:text}`eg_sweep_least:.1%`,
# by {glue:text}`eg_sweep_drop:.1%` of all units, with a rank correlation of {glue:text}`eg_sweep_rank:.2f`. It is not free:
# accuracy goes from {glue:text}`eg_sweep_right:.1%` to {glue:text}`eg_sweep_right_least:.1%`, and a tenth would be chance.
#
# ## How narrow may the window be?
#
# Only units within $1/\beta$ of their threshold, and those that spoke, pass a gradient. A larger $\beta$ saves messages. What
# does it cost? Networks without an activity term, trained for as long.

# %% mystnb={"figure": {"caption": "Need share, norm of the gradient on the first test images, and accuracy after training with several inverse half-widths of the surrogate's window; its height is the same. Crosses: seeds of the recorded full run, where there is one.", "name": "fig-eg-supports"}, "image": {"alt": "Three panels with a curve each against the inverse width of the window"}} tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(8.2, 2.9))
known = full.get("eg_sweep_supports", {})
panels = (
    (2, 100, "need share (%)", "blue"),
    (3, 1, "gradient norm", "purple"),
    (0, 100, "right (%)", "orange"),
)
for axis, (column, scale, name, color) in zip(axes, panels, strict=True):
    values = [
        scale * np.array(runs)[:, column].mean() for runs in by_support.values()
    ]
    axis.plot(sweep_supports, values, "o-", color=PALETTE[color])
    for beta, runs in known.items():
        marks = scale * np.array(runs)[:, column]
        axis.plot([float(beta)] * len(marks), marks, "x", color=PALETTE[color])
    axis.set(xlabel="β", ylabel=name, ylim=0, xscale="log")
    axis.set_xticks(sweep_supports, [f"{beta:g}" for beta in sweep_supports])
    axis.minorticks_off()
plt.show()

# %% [markdown]
# From the widest window to the narrowest the share of units in the {term}`need set` goes from
# {glue:text}`eg_support_widest:.1%` to {glue:text}`eg_support_narrowest:.1%` (rank correlation
# {glue:text}`eg_support_rank:.2f`), the norm of the gradient from {glue:text}`eg_support_norm_widest:.3f` to
# {glue:text}`eg_support_norm_narrowest:.3f`, and the images that are classified right from
# {glue:text}`eg_support_right_widest:.1%` to {glue:text}`eg_support_right_narrowest:.1%`. On one trajectory the need set can
# only shrink (the [method page](method.ipynb) shows it); here every network was trained with its own window.
#
# ## What a camera of events sees
#
# One task of the paper is to tell gestures seen by an event camera. We have no such recordings that could be shared, and
# look at two things instead. First, images of MNIST during one {term}`saccade` (real images, simulated events), as frames of
# counts: the input itself is events, so that the first layer, too, reads only the rows of pixels that changed. The answer is
# read from the mean trace, as the released code reads gestures.


# %% tags=["hide-input"]
def as_frames(stream, n_tokens, count=eye_frames, time=100_000):
    """Counts of events by frame and token; at most 255 of each."""
    token, stamp = (np.asarray(column, np.int64) for column in stream)
    frame = np.minimum(stamp * count // time, count - 1)
    counts = np.bincount(frame * n_tokens + token, minlength=count * n_tokens)
    return np.minimum(counts, 255).astype(np.uint8).reshape(count, n_tokens)


EYE_TOKENS = 2 * 34 * 34


def eye_model(name, seed):
    options = {"cell": name.lower(), "readout": "mean", "generator": generator(seed)}
    if name == "EGRU":
        options |= event_options() | {"event_input": True}
    return SequenceClassifier(EYE_TOKENS, pixel_units, 10, **options)


@torch.no_grad()
def eye_work(model, frames):
    """Counted multiply-accumulates for a frame, and those of a dense network."""
    some = model.collate(frames)
    (layer,) = model.run(*some.inputs).layers
    spent = layer.operations().multiply_accumulates
    spent += layer.input_operations().multiply_accumulates
    steps = len(frames) * eye_frames
    return spent / steps, 3 * pixel_units * (EYE_TOKENS + pixel_units)


if eye_images:
    look_at = {"train": eye_images, "test": max(1, min(10_000, eye_images // 5))}
    seen = {
        part: load_event_streams("saccade_mnist", part, count=count, saccades=1)
        for part, count in look_at.items()
    }
    framed = {
        part: [as_frames(stream, EYE_TOKENS) for stream in some]
        for part, some in seen.items()
    }
    eye_right, eye_macs = {}, []
    for name in ("EGRU", "GRU", "LSTM"):
        trained = [
            look(
                eye_model(name, seed),
                framed["train"],
                seen["train"].labels,
                eye_epochs,
                seed,
                f"eye-{name}",
                rate=eye_rate,
            )
            for seed in seeds
        ]
        eye_right[name] = [
            accuracy(model, framed["test"], seen["test"].labels) for model in trained
        ]
        if name == "EGRU":
            eye_macs = [list(eye_work(m, framed["test"][:100])) for m in trained]
    keep(eg_eye_right=eye_right, eg_eye_macs=eye_macs)
else:
    eye_right = full.get("eg_eye_right", {})
    eye_macs = full.get("eg_eye_macs", [])
print("saccades:" if eye_right else f"saccades: {NOT_YET}")
for name, right in eye_right.items():
    print(f"{name:5} right (%)  {listed(100 * np.array(right))}")
if eye_macs:
    spent, dense = np.mean(eye_macs, 0)
    print(
        f"multiply-accumulates for a frame: {spent:,.0f} counted, {dense:,.0f} dense"
    )

# %% [markdown]
# Second, a real event camera: the recording of a DAVIS346, in frames of {glue:text}`eg_davis_frame:.0f` ms, an input for each
# pixel and polarity. It has no labels, so the network is untrained and small, {glue:text}`eg_davis_units` units; what is
# asked is only whether the work follows what happens.

# %%
recording = load_davis_recording()
happened, n_inputs = recording.events, 2 * recording.width * recording.height
place = happened["p"] * recording.height + happened["y"]
place = place * recording.width + happened["x"]
frame = (happened["t"] - happened["t"][0]) // frame_time
rate = np.bincount(frame)  # events of each frame
WATCHERS = 16
watcher = EGRU(
    n_inputs,
    WATCHERS,
    batch_first=True,
    event_input=True,
    generator=generator(seeds[0]),
    **event_options(),
)
state, work, by_hand = None, [], []
with torch.no_grad():
    for number in range(len(rate)):
        counts = np.bincount(place[frame == number], minlength=n_inputs)
        one = torch.from_numpy(counts.astype(np.float32))[None, None]
        said = 0 if state is None else int((state[0].output != 0).sum())
        by_hand.append(3 * WATCHERS * (int((counts != 0).sum()) + said))
        run = watcher.run(one, state)
        state, (layer,) = run.state, run.layers
        spent = layer.input_operations().multiply_accumulates
        work.append(spent + layer.operations().multiply_accumulates)
work = np.array(work)
record(
    eg_davis_frame=frame_time / 1000,
    eg_davis_units=WATCHERS,
    eg_davis_frames=len(rate),
    eg_davis_events=len(happened),
    eg_davis_miscounted=int(np.abs(work - by_hand).sum()),
    eg_davis_rank=spearmanr(rate, work).statistic,
    eg_davis_share=work.mean() / (3 * WATCHERS * (n_inputs + WATCHERS)),
)

# %% mystnb={"figure": {"caption": "A recording of an event camera through an untrained EGRU, frame by frame: multiply-accumulates that the kernels counted against events of the frame. Line: 3 H for each event.", "name": "fig-eg-davis"}, "image": {"alt": "A narrow cloud of points along a rising line, bending slightly below it where there are many events"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(5.6, 3.4))
axis.plot(rate, work / 1e3, "o", ms=3, alpha=0.5, color=PALETTE["blue"])
ends = np.array([0, rate.max()])
axis.plot(ends, 3 * WATCHERS * ends / 1e3, "--", color=PALETTE["grey"], lw=1.2)
axis.set(xlabel="events in a frame", xlim=0, ylim=0)
axis.set(ylabel="multiply-accumulates\n(thousands)")
plt.show()

# %% [markdown]
# In {glue:text}`eg_davis_frames` frames with {glue:text}`eg_davis_events:,` events the counted work follows the events (rank
# correlation {glue:text}`eg_davis_rank:.3f`); it is {glue:text}`eg_davis_share:.2%` of what reading every weight would be,
# and exactly $3H$ for each input that had an event and each unit that spoke (operations miscounted:
# {glue:text}`eg_davis_miscounted`). Where a pixel sends twice within a frame it is read once: that bends the cloud below the
# line. On the gestures of DVS128 the paper is quoted with 97.8 % and 4.8 million parameters (secondary source; other data,
# other scale); nothing on this page is to be compared with that.
#
# ## What matters of the details
#
# The word model again, smaller, with one thing changed at a time: what an event takes, where the reset gate is, thresholds
# that are drawn and kept, a state that begins anew in every window as in the released code, the surrogate, and the moving
# mean of Adam.

# %% tags=["hide-input"]
ABLATIONS = {  # changes of the model, changes of the recipe
    "as above": ({}, {}),
    "reset: value": ({"reset": "value"}, {}),
    "reset: paper": ({"reset": "paper"}, {}),
    "reset: none": ({"reset": "none"}, {}),
    "reset gate before": ({"reset_gate": "before"}, {}),
    "thresholds kept": ({"threshold_trainable": False}, {}),
    "thresholds Beta, kept": (
        {"threshold": "beta", "threshold_mean": 0.01, "threshold_trainable": False},
        {},
    ),
    "state not carried": ({}, {"carry_state": False}),
    "γ = 0.7": ({"surrogate_dampening": 0.7}, {}),
    "β = 3.6": ({"surrogate_support": 3.6}, {}),
    "β₁ = 0.9": ({}, {"beta1": 0.9}),
    "activity term, 10": ({}, {"activity_strength": 10.0, "activity_target": 0.2}),
}


def ablated(change, recipe_change, seed):
    """Perplexity, activity and backward sparsity of a smaller word model."""
    small = {"embedding": ablation_size, "hidden_sizes": (ablation_size,) * layers}
    config = replace(egru_text, **small, **change)
    recipe = replace(recipe_of("EGRU", seed), epochs=ablation_epochs, **recipe_change)
    text = corpus.train[:ablation_words]
    model, _ = read("ablation", config, recipe, text, seed, looks=1)
    result = evaluate(model, unseen, carry_state=recipe.carry_state)
    return [result.perplexity, result.mean_activity, result.backward_sparsity]


if ablation_seeds:
    ablation_runs = {
        name: [ablated(*changes, seed) for seed in ablation_seeds]
        for name, changes in ABLATIONS.items()
    }
    keep(eg_ablation_runs=ablation_runs)
else:
    ablation_runs = full.get("eg_ablation_runs", {})
print("ablations:" if ablation_runs else f"ablations: {NOT_YET}")
for name, runs in ablation_runs.items():
    perplexity, said, quiet = np.array(runs).T
    print(
        f"{name:22} perplexity {listed(perplexity)}\n{'':22} activity "
        f"{said.mean():.1%}, silent backwards {quiet.mean():.1%}"
    )

# %% [markdown]
# ## What to remember
#
# The counts are exact in training, too: what the kernels did is $3H$ for each event, and a need set that is smaller than the
# layer. How many events there are is what a network learns under its thresholds, its surrogate and, if there is one, its
# activity term; it is no property of the cell. A short run says that it learns, what is saved, and that in so few words it
# is behind a GRU of its size. Whether it stays there is a question for the full profile, which is not recorded yet.

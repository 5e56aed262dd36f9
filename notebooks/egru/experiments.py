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
# # Experiments: how many words are left unsaid
#
# The [method page](method.ipynb) shows that the work of an {term}`EGRU` is counted in events, forwards and backwards. How
# many events a trained network sends is not a matter of algebra. This page trains on words, where the paper has its
# headline: four networks side by side, then two that read for long. What matters of the details is taken apart on
# [a page of its own](ablations.ipynb). Images that are read pixel by pixel, and what a camera of events sees, are on
# [another page](pixels.ipynb).

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
threshold_init: float = -5.0  # mean of the thresholds before their sigmoid
threshold_spread: float = 0.5  # standard deviation of that
threshold_trainable: bool = True  # or as drawn
text_support: float = 5.0  # beta, inverse half-width of the surrogate's window
text_dampening: float = 0.3  # gamma, its height
text_set: str = "state_of_the_union"  # or penn_treebank, wikitext2: your own copy
vocabulary: int = 2000  # words, most frequent first; all others are <unk>
train_words: int = 60000  # of the training text; 0: all of it
test_words: int = 10000  # of the other two parts; 0: all of them
embedding: int = 64  # size of a word's vector, and of the last layer
embedding_std: float = 0.3  # standard deviation of its components at first
hidden_size: int = 96  # units of the layers before the last
layers: int = 2  # of the word models
lstm_size: int = 75  # hidden_size of the LSTM, for as many parameters
dropout: float = 0.1  # of vectors, between layers, of the last output
epochs: float = 2.0  # passes over the words
batch: int = 16  # pieces of the text that are read at once
bptt: int = 32  # words that gradients see
warmup: float = 0.02  # share of a training in which the learning rate rises
event_warmup: float = 0.02  # the same for the networks with events
weight_decay: float = 0.02  # of AdamW, on matrices
rates: list[float] = [0.008]  # learning rates; each network takes its best
beta1: float = 0.0  # of Adam; the usual is 0.9
carry_state: bool = True  # false: between windows an EGRU keeps only its output
text_target: float = 0.2  # of the activity term
text_strength: float = 0.0  # of it; 0 for none
long_words: int = 20000  # test words for the two models that read for long; 0: all

# %% tags=["hide-input"]
from dataclasses import replace
from functools import partial
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn import functional

from eventbook.companion.notebook import (
    PALETTE,
    bound,
    checkpoint,
    generator,
    keep,
    listed,
    parameters_of,
    record,
    record_or_recall,
    recorded,
    use_theme,
)
from eventbook.datasets import load_state_of_the_union, load_text, load_weights
from eventbook.learning.language_modelling import (
    LanguageTraining,
    identity_of,
    read_text,
)
from eventbook.learning.rate_search import find_rate, told
from eventbook.models.language_model import (
    KneserNey,
    LanguageModel,
    LanguageModelConfig,
    evaluate,
    load_model,
)
from eventbook.models.language_model.vocabulary import vocabulary_loss

torch.set_num_threads(1)
use_theme()
full = recorded("egru")  # the recorded full run, shown beside this one
COLORS = {
    "EGRU": "blue",
    "rectified": "purple",
    "GRU": "orange",
    "LSTM": "green",
    "trigram": "grey",
    "unigram": "grey",
}


# %% tags=["hide-input"]
if not seeds:
    raise ValueError("seeds must be at least one, got none")
for name, share_of_run in {"warmup": warmup, "event_warmup": event_warmup}.items():
    if not 0 <= share_of_run <= 1:
        raise ValueError(f"{name} must be a share in 0..1, got {share_of_run}")
whole = {"layers": layers, "hidden_size": hidden_size, "lstm_size": lstm_size}
whole |= {"embedding": embedding, "batch": batch, "bptt": bptt}
for name, count in whole.items():
    if count < 1:
        raise ValueError(f"{name} must be 1 or more, got {count}")
positive = {
    "text_support": text_support,
    "embedding_std": embedding_std,
    "epochs": epochs,
}
for name, number in positive.items():
    if not number > 0:
        raise ValueError(f"{name} must be > 0, got {number}")
for name, number in {
    "text_dampening": text_dampening,
    "threshold_spread": threshold_spread,
    "weight_decay": weight_decay,
}.items():
    if not number >= 0:
        raise ValueError(f"{name} must be 0 or more, got {number}")
least_words = max(65, 2 * batch)
counts = {
    "train_words": train_words,
    "test_words": test_words,
    "long_words": long_words,
}
for name, count in counts.items():
    if count != 0 and count < least_words:
        raise ValueError(f"{name} must be 0 or at least {least_words}, got {count}")


# %% [markdown]
# ## Words
#
# Two centuries of State of the Union addresses, word by word. An EGRU, a GRU and an LSTM of the same number of parameters
# predict the next word, each in the form of an {term}`AWD-LSTM`: one table of vectors reads the input and the answer, dropouts
# are shared over time, the state is carried from window to window. Two models that only count stand beside them, on the
# same words: the frequencies alone (unigram) and a trigram with {term}`Kneser-Ney smoothing`.
#
# A fourth network keeps us honest. Where thresholds are near zero, an event takes next to nothing from the state, and what is
# left of the EGRU is a GRU whose outputs are cut off below zero. So there is one with just that: no threshold, no reset,
# outputs *rectified*. Whatever an EGRU has over it is due to its thresholds.
#
# ```{margin} Perplexities and vocabularies
# Rare words are read as `<unk>`, and the fewer words there are the easier is the next one. Perplexities of this run are
# comparable with each other and with none of another vocabulary.
# ```
#
# ```{margin} Recipes
# Where several learning rates are given, as in the full profile, each network is trained with all of them with the first
# seed, and with half or twice as much where the best is the lowest or the highest. It takes the one that is best for it on
# validation words in the end. All have Adam's $\beta_1 = 0$, as the released EGRUs, and $\beta_2 = .99$. What else they share was
# looked for with EGRUs of 320 and 256 units in about a hundred recipes of 1.5 to 10 passes (rates, warm-up, $\beta_1$, $\beta_2$,
# clipping, dropouts, weight decay, first weights, thresholds, resets, surrogates, sizes of layers), with LSTMs in forty and
# with GRUs in a dozen, one seed each. Thresholds and surrogate are the EGRU's alone; in the full profile so is a warm-up
# of a fifth of the training, which helps it, and neither LSTM nor GRU.
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
    embedding_std=embedding_std,
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
never_less = {"reset": "none", "threshold_mean": -30.0, "threshold_trainable": False}
text_models = {
    "EGRU": egru_text,
    "rectified": replace(egru_text, **never_less),
    "GRU": replace(egru_text, cell="gru"),
    "LSTM": replace(egru_text, cell="lstm", hidden_sizes=lstm_sizes),
}
text_recipe = LanguageTraining(
    epochs=epochs,
    batch_size=batch,
    window=bptt,
    carry_state=carry_state,
    warmup=warmup,
    weight_decay=weight_decay,
    beta1=beta1,
    beta2=0.99,
    activity_target=text_target,
)
recipes = dict.fromkeys(text_models, text_recipe)
recipes["rectified"] = replace(text_recipe, warmup=event_warmup)
recipes["EGRU"] = replace(recipes["rectified"], activity_strength=text_strength)
LOOKS = 5  # at the validation words, over a run
MOST_RATES = 5  # that are tried, while the best is the lowest or the highest


def read(name, config, recipe):
    """Train a word model; returns it and what was seen on the way."""
    what = config, recipe, learnt, held_out
    file = checkpoint(f"words-{name}", shared=True, **identity_of(*what, looks=LOOKS))
    return read_text(*what, looks=LOOKS, checkpoint=file)


def tried(name, config, rate):
    """Validation perplexity after a training with a rate."""
    recipe = replace(recipes[name], lr=rate, seed=seeds[0])
    _, history = read(name, config, recipe)
    return history[-1]["perplexity"]


found_rates = {
    name: find_rate(rates, partial(tried, name, config), most=MOST_RATES)
    for name, config in text_models.items()
}
text_rates = {name: found.rate for name, found in found_rates.items()}
trials = {name: [f.rates, f.figures] for name, f in found_rates.items() if f.rates}
recipes = {name: replace(recipes[name], lr=lr) for name, lr in text_rates.items()}
readers = {
    name: [read(name, config, replace(recipes[name], seed=seed)) for seed in seeds]
    for name, config in text_models.items()
}
results = {
    name: [evaluate(model, unseen, carry_state=carry_state) for model, _ in runs]
    for name, runs in readers.items()
}

# %% tags=["hide-input"]
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
lm_egru, lm_rectified, lm_gru, lm_lstm = (
    np.mean(perplexities[n]) for n in text_models
)
thetas = [
    cell.threshold().detach()
    for model, _ in readers["EGRU"]
    for cell in model.recurrent.cells
]
untrained = LanguageModel(egru_text, generator(seeds[0]))
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
    eg_lm_ratio_rectified=lm_egru / lm_rectified,
    eg_lm_ratio_unigram=lm_egru / counted["unigram"],
    eg_lm_ratio_trigram=lm_egru / counted["trigram"],
    eg_lm_theta=float(torch.cat(thetas).median()),
    eg_lm_activity_first=evaluate(untrained, held_out[:2000]).mean_activity,
    eg_lm_activity_rectified=np.mean([r.mean_activity for r in results["rectified"]]),
    eg_lm_activity=np.mean([r.mean_activity for r in egru_runs]),
    eg_lm_backward=np.mean([r.backward_sparsity for r in egru_runs]),
    eg_lm_backward_released=float(per_layer["released"] @ unit_shares),
    eg_lm_macs=np.mean(macs["EGRU"]),
    eg_lm_macs_dense=egru_runs[0].dense_macs,
    eg_lm_macs_share=np.mean(macs["EGRU"]) / egru_runs[0].dense_macs,
)
record_or_recall(
    full,
    len(seeds) > 1,
    eg_full_seeds=len(seeds),
    eg_full_vocabulary=n_words,
    eg_full_parameters=sizes["EGRU"],
    eg_full_unseen=len(unseen),
    eg_full_trigram=counted["trigram"],
    eg_full_egru=lm_egru,
    eg_full_rectified=lm_rectified,
    eg_full_gru=lm_gru,
    eg_full_lstm=lm_lstm,
    eg_full_ratio_gru=lm_egru / lm_gru,
    eg_full_ratio_lstm=lm_egru / lm_lstm,
    eg_full_ratio_rectified=lm_egru / lm_rectified,
    eg_full_activity=np.mean([r.mean_activity for r in egru_runs]),
    eg_full_rectified_activity=np.mean(
        [r.mean_activity for r in results["rectified"]]
    ),
    eg_full_backward=np.mean([r.backward_sparsity for r in egru_runs]),
    eg_full_macs_share=np.mean(macs["EGRU"]) / egru_runs[0].dense_macs,
)
probe = LanguageModel(egru_text, generator(seeds[0]))
probe.load_state_dict(readers["EGRU"][0][0].state_dict())
probe.recurrent.path = "event"
inside = [
    its
    for its in evaluate(probe, unseen[:129], batch=1).products
    if "recurrent" in its.name
]
record(
    eg_lm_done=sum(its.executed for its in inside),
    eg_lm_miscounted=sum(abs(its.executed - its.effective) for its in inside),
    eg_lm_scores=embedding * n_words,
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
keep(eg_lm_rates=text_rates, eg_lm_trials=trials)


def table(perplexities, macs, acts, backs, rates):
    """A row for each network, its mean and its seeds."""
    for name, runs in perplexities.items():
        row = f"{name:9} {rates[name]:<6} {listed(runs):28}"
        events = f"{np.mean(acts[name]):.1%}", f"{np.mean(backs[name]):.1%}"
        print(f"{row} {events[0]:>7} {events[1]:>7} {np.mean(macs[name]):>11,.0f}")


acts = {name: [r.mean_activity for r in runs] for name, runs in results.items()}
backs = {name: [r.backward_sparsity for r in runs] for name, runs in results.items()}
keep(eg_lm_acts=acts, eg_lm_backs=backs)
print(
    f"{'':9} {'rate':6} {'test perplexity':28} "
    f"{'events':>7} {'silent':>7} {'MACs':>11}"
)
table(perplexities, macs, acts, backs, text_rates)
if "eg_lm_acts" in full:
    print("full run")
    names = ("eg_lm_perplexities", "eg_lm_macs_runs", "eg_lm_acts", "eg_lm_backs")
    table(*(full[name] for name in names), full["eg_lm_rates"])
for name, (with_rates, found) in (trials or full.get("eg_lm_trials", {})).items():
    print(f"{name:9} with rates of {told(with_rates, 'g')}: {told(found)}")
for number, (said, needed, _) in enumerate(zip(*per_layer.values(), strict=True), 1):
    print(
        f"layer {number} of the EGRU: {said:.1%} events, "
        f"{needed:.1%} needed backwards"
    )

# %% mystnb={"figure": {"caption": "Left: test perplexity against counted multiply-accumulates of the recurrent layers for a word, a point for each seed. Right: perplexity on validation words during training, mean over seeds. Dashed: the trigram on the same words. Dotted: the unigram. The second row, where there is one, is the recorded full run, with more words.", "name": "fig-eg-words"}, "image": {"alt": "Left points of four colours, those of the EGRU and of the rectified network left of GRU and LSTM; right four falling curves with a dashed and a dotted horizontal line"}} tags=["hide-input"]
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
        marks = [60, 80, 100, 150, 200, 300, 400, 600, 1000]
        axis.set_yscale("log")
        limits = axis.get_ylim()
        axis.set_yticks(marks, map(str, marks))
        axis.minorticks_off()
        axis.set_ylim(limits)
    most = max(max(its) for its in spent.values()) / 1e3
    axes[0].set(xlim=(0, 1.15 * most), ylabel="test perplexity")
    axes[0].set(xlabel="multiply-accumulates for a word (thousands)")
    axes[1].set(xlabel="words read (thousands)", ylabel="validation perplexity")
    axes[0].legend(fontsize="small", loc="center left")
plt.show()

# %% [markdown]
# In this run, with {glue:text}`eg_lm_vocabulary:,` words, {glue:text}`eg_lm_words:,` of the training text and
# {glue:text}`eg_lm_parameters:,` parameters (the four networks differ by {glue:text}`eg_lm_size_spread:.1%` at most), the
# EGRU is at a perplexity of {glue:text}`eg_lm_egru:.1f`, the GRU at {glue:text}`eg_lm_gru:.1f`, the LSTM at
# {glue:text}`eg_lm_lstm:.1f`; the unigram at {glue:text}`eg_lm_unigram:.1f`, the trigram at {glue:text}`eg_lm_trigram:.1f`.
# So the EGRU is at {glue:text}`eg_lm_ratio_gru:.2f` of the GRU's perplexity and {glue:text}`eg_lm_ratio_lstm:.2f` of the
# LSTM's, at {glue:text}`eg_lm_ratio_unigram:.2f` of the unigram's and at {glue:text}`eg_lm_ratio_trigram:.2f` of the trigram's.
#
# Its thresholds are small, {glue:text}`eg_lm_theta:.3f` at the median, and {glue:text}`eg_lm_activity_first:.1%` of its units
# spoke before it was trained. The rectified network, whose units speak in {glue:text}`eg_lm_activity_rectified:.1%` of all
# steps, is the one to compare it with: the EGRU is at {glue:text}`eg_lm_ratio_rectified:.3f` of its perplexity, which one seed
# cannot tell from one.
#
# Of its units {glue:text}`eg_lm_activity:.1%` speak in a step. A word costs {glue:text}`eg_lm_macs:,.0f`
# {term}`multiply-accumulates <effective MACs>` of something with something in the recurrent layers, of {glue:text}`eg_lm_macs_dense:,.0f` if every weight
# were used: {glue:text}`eg_lm_macs_share:.1%`. That is more than the activity, for the first layer reads word vectors, and
# these are dense. On some hundred words, read one by one, the kernels of the recurrence did
# {glue:text}`eg_lm_done:,` products, {glue:text}`eg_lm_miscounted` more or fewer than this count says. The scores of all words,
# {glue:text}`eg_lm_scores:,` products for a word whatever was said, are not in it.
#
# Going back, {glue:text}`eg_lm_backward:.1%` of the units of a step need no message. The released script reports another
# number under that name, the share of units whose state *after* the reset is far from the threshold: a unit that spoke is
# judged by what the reset left of it, and one that is far above counts as silent ([method](method.ipynb)). That would be
# {glue:text}`eg_lm_backward_released:.1%` here. Both depend on $\beta$.
#
# ### With the whole text
#
# The recorded full run is larger: {glue:text}`eg_full_vocabulary:,` words, {glue:text}`eg_full_parameters:,` parameters, one pass
# over 1.9 million words, {glue:text}`eg_full_seeds` seeds of each network, and is asked for the first
# {glue:text}`eg_full_unseen:,` words of the test. There the EGRU is at a perplexity of
# {glue:text}`eg_full_egru:.1f`, the rectified network at {glue:text}`eg_full_rectified:.1f`, the GRU at {glue:text}`eg_full_gru:.1f`,
# the LSTM at {glue:text}`eg_full_lstm:.1f`, and the trigram, which counted the same words, at {glue:text}`eg_full_trigram:.1f`. So
# the EGRU is at {glue:text}`eg_full_ratio_gru:.2f` of the GRU's perplexity, at {glue:text}`eg_full_ratio_lstm:.2f` of the LSTM's and
# at {glue:text}`eg_full_ratio_rectified:.3f` of that of the rectified network. Of its units {glue:text}`eg_full_activity:.1%` speak
# (of the rectified network's {glue:text}`eg_full_rectified_activity:.1%`), {glue:text}`eg_full_backward:.1%` need no message
# backwards, and {glue:text}`eg_full_macs_share:.1%` of the products are done.
#
# So thresholds bring little here, where training leaves them near zero: a GRU whose outputs are cut off below zero is as silent,
# and nearly as good. What the EGRU lacks against the GRU it shares with that network. From the GRU both differ in more than
# what they say: in first weights, and in a warm-up that is longer. Which of these it is, the comparison does not tell.
#
# What others quote from the paper, for comparison of kind and not of size. It is other data at another scale, and every
# number is from a secondary source. By which of the two rules the backward sparsity was taken, and at which $\beta$, we do
# not know.
#
# | | perplexity, Penn Treebank | units silent | backward sparsity, as quoted |
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

# %% [markdown]
# ## Two that read for long
#
# ```{margin} Two recipes
# They share the learning rate, first vectors and the number of passes. Dropout is .05 and .15, weight decay .08 and .1,
# $\beta_2$ .99 and .999, warm-up .2 and .02 of the training, by trials with validation words of mostly one change at a time:
# neither was tried as it stands. The EGRU's decay lies between two that were tried, so that about a quarter of its units
# speak. Both recipes stand in `data/train_language_models.py`, which makes the weights anew.
# ```
#
# A short training says little about a language model. Two networks with 10,000 words, an EGRU and an LSTM of as many
# parameters, read the whole text {glue:text}`eg_long_epochs:.0f` times, a good hour each on one core. Their weights,
# in half precision, are part of the project, with their recipe in the file: other chapters start from them, and so can you.

# %%
SETS = {"EGRU": "state_of_the_union_egru", "LSTM": "state_of_the_union_lstm"}
long_text = load_state_of_the_union()
long_unseen = long_text.test[: long_words or None]
veterans = {name: load_model(load_weights(file)) for name, file in SETS.items()}
long_results = {name: evaluate(m, long_unseen) for name, (m, _) in veterans.items()}
counters = {
    name: KneserNey(long_text.train, len(long_text.vocabulary), order)
    for name, order in {"unigram": 1, "trigram": 3}.items()
}
long_counted = {name: m.perplexity(long_unseen) for name, m in counters.items()}

# %% tags=["hide-input"]
shuffled = np.random.default_rng(0).permutation(long_unseen)
disordered = evaluate(veterans["EGRU"][0], shuffled).perplexity
long_egru, long_lstm = (long_results[name] for name in SETS)
record(
    eg_long_epochs=veterans["EGRU"][1]["recipe"]["epochs"],
    eg_long_words=len(long_unseen),
    eg_long_parameters=parameters_of(veterans["EGRU"][0]),
    eg_long_size_ratio=parameters_of(veterans["LSTM"][0])
    / parameters_of(veterans["EGRU"][0]),
    eg_long_egru=long_egru.perplexity,
    eg_long_lstm=long_lstm.perplexity,
    eg_long_trigram=long_counted["trigram"],
    eg_long_ratio_trigram=long_egru.perplexity / long_counted["trigram"],
    eg_long_ratio_lstm=long_egru.perplexity / long_lstm.perplexity,
    eg_long_activity=long_egru.mean_activity,
    eg_long_backward=long_egru.backward_sparsity,
    eg_long_macs=long_egru.macs,
    eg_long_macs_lstm=long_lstm.macs,
    eg_long_macs_saved=long_lstm.macs / long_egru.macs,
    eg_long_scores=veterans["EGRU"][0].embedding.numel(),
    eg_long_all_saved=(long_lstm.macs + veterans["LSTM"][0].embedding.numel())
    / (long_egru.macs + veterans["EGRU"][0].embedding.numel()),
    eg_long_disordered=disordered / long_counted["unigram"],
)
record_or_recall(
    full,
    not long_words,
    eg_full_long_words=len(long_unseen),
    eg_full_long_egru=long_egru.perplexity,
    eg_full_long_lstm=long_lstm.perplexity,
    eg_full_long_trigram=long_counted["trigram"],
)

# %% mystnb={"figure": {"caption": "The two networks as they read, looked at twenty times. Left: perplexity on the validation text, dashed that of the trigram. Right: share of the EGRU's units that speak.", "name": "fig-eg-long"}, "image": {"alt": "Left two falling curves that cross a dashed line early and go on falling; right a curve of activity that falls steeply and then rises a little"}} tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.2))
for name, (_, about) in veterans.items():
    at, seen, said = np.transpose(
        [[h["epoch"], h["perplexity"], h["activity"]] for h in about["history"]]
    )
    left.plot(at, seen, "o-", ms=3, color=PALETTE[COLORS[name]], label=name)
    if name == "EGRU":
        right.plot(at, 100 * said, "o-", ms=3, color=PALETTE["blue"])
counted_valid = counters["trigram"].perplexity(long_text.valid)
left.axhline(counted_valid, color=PALETTE["grey"], ls="--", label="trigram")
left.set(xlabel="times read", ylabel="validation perplexity")
left.legend()
right.set(xlabel="times read", ylabel="units that speak (%)", ylim=0)
plt.show()

# %% [markdown]
# On {glue:text}`eg_long_words:,` words that neither has read the EGRU is at a perplexity of {glue:text}`eg_long_egru:.1f`, the
# LSTM at {glue:text}`eg_long_lstm:.1f`, and a trigram that counted the whole training text at
# {glue:text}`eg_long_trigram:.1f`. So the EGRU is at {glue:text}`eg_long_ratio_trigram:.2f` of the trigram's perplexity and at
# {glue:text}`eg_long_ratio_lstm:.3f` of the LSTM's, with {glue:text}`eg_long_parameters:,` parameters (the LSTM has
# {glue:text}`eg_long_size_ratio:.3f` times as many). No term asks it to be silent, though its weight decay was chosen with an eye
# on that, and {glue:text}`eg_long_activity:.1%` of its units speak in a step; {glue:text}`eg_long_backward:.1%` need no message
# backwards. A word costs it
# {glue:text}`eg_long_macs:,.0f` multiply-accumulates in the recurrent layers, the LSTM {glue:text}`eg_long_macs_lstm:,.0f`,
# {glue:text}`eg_long_macs_saved:.1f` times as many. The scores of all words cost both {glue:text}`eg_long_scores:,` more; with
# them it is a factor of {glue:text}`eg_long_all_saved:.2f`: they are computed densely, from silent units, too. On all
# {glue:text}`eg_full_long_words:,` words of the test, which are harder than the first ones, the recorded full run has
# {glue:text}`eg_full_long_egru:.1f`, {glue:text}`eg_full_long_lstm:.1f` and {glue:text}`eg_full_long_trigram:.1f`.
#
# The control: the same words in random order, where what came before says nothing. There the network is at
# {glue:text}`eg_long_disordered:.2f` times the perplexity of the unigram, which does not care.
#
# ## Must silence be learnt?
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


def least(too_much):
    """The least limit with which too much is said no longer, by bisection."""
    low, high = 0.0, 1.0  # states of a GRU are between -1 and 1
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if too_much(middle) else (low, middle)
    return high


@torch.no_grad()
def limits_for(model, words, activities):
    """The limit of each layer with which it says so much."""

    def limit_of(layer, y, wanted):
        return least(lambda limit: share(silenced(layer, y, limit)) > wanted)

    y, _ = pieces_of(model, words)
    limits = []
    for layer, wanted in zip(model.recurrent.layers, activities, strict=True):
        limits.append(limit_of(layer, y, wanted))
        y = silenced(layer, y, limits[-1])
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


def one_limit(model, words, activity):
    """The limit for all layers with which all units together say so much."""
    return least(lambda limit: spoken(model, words, [limit] * layers)[1] > activity)


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
    limit = one_limit(model, calibration, result.mean_activity)
    common.append(spoken(model, unseen, [limit] * layers))

# %%
posthoc_loss, posthoc_activity = np.transpose(posthoc)
common_loss, common_activity = np.transpose(common)
by_layer = np.exp(posthoc_loss).mean() / lm_egru
by_one = np.exp(common_loss).mean() / lm_egru
record(
    eg_posthoc=np.exp(posthoc_loss).mean(),
    eg_posthoc_activity=posthoc_activity.mean(),
    eg_posthoc_worse=by_layer,
    eg_posthoc_common=np.exp(common_loss).mean(),
    eg_posthoc_common_activity=common_activity.mean(),
    eg_posthoc_common_worse=by_one,
    eg_posthoc_least=min(by_layer, by_one),
    eg_posthoc_limit=bound(max(unchanged), floor=1e-4),
)
record_or_recall(
    full,
    len(seeds) > 1,
    eg_full_posthoc_worse=by_layer,
    eg_full_posthoc_common_worse=by_one,
)

# %% mystnb={"figure": {"caption": "Perplexity against activity. Orange: trained GRUs, a line for each seed, with one limit for all layers, from none (right) to the highest that still fits the figure. Diamonds: limits such that each layer is as active as the EGRU's; triangles: one limit such that all units together are. Blue: the EGRU, which was trained with its thresholds. Dotted: the unigram.", "name": "fig-eg-posthoc"}, "image": {"alt": "A curve that is flat at high activity and rises steeply to the left, where less is said, with a triangle on it, a diamond above it and the point of the EGRU below"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.4, 3.6))
for number, (losses, said) in enumerate(levels):
    label = None if number else "GRU, one limit"
    axis.plot(100 * said, np.exp(losses), "o-", color=PALETTE["orange"], label=label)
values, color = np.exp(posthoc_loss), PALETTE["vermilion"]
label = "GRU, as active in each layer"
axis.plot(100 * posthoc_activity, values, "D", color=color, label=label)
label = "GRU, as active in all"
axis.plot(100 * common_activity, np.exp(common_loss), "^", color=color, label=label)
at = [100 * r.mean_activity for r in egru_runs]
axis.plot(at, perplexities["EGRU"], "s", color=PALETTE["blue"], label="EGRU")
axis.axhline(
    counted["unigram"], color=PALETTE["grey"], ls=":", label="unigram", lw=1.2
)
axis.set(xlabel="units that speak (%)", ylabel="test perplexity", xlim=(0, 105))
axis.set(ylim=(0, 1.6 * max(counted["unigram"], values.max())))
axis.legend()
plt.show()

# %% [markdown]
# At an activity of {glue:text}`eg_posthoc_activity:.1%`, layer by layer as the EGRU's, the silenced GRU has a perplexity of
# {glue:text}`eg_posthoc:.1f`, {glue:text}`eg_posthoc_worse:.2f` times that of the EGRU. Without limits its loss differs from
# the trained GRU's by {glue:text}`eg_posthoc_limit:.0e` at most.
#
# But the split over layers is the EGRU's choice, not the GRU's. With one limit for all layers, chosen such that as much is said
# in all ({glue:text}`eg_posthoc_common_activity:.1%` of these words), the silenced GRU is at
# {glue:text}`eg_posthoc_common:.1f`, {glue:text}`eg_posthoc_common_worse:.2f` times the EGRU. The smaller of the two ratios is
# the control that counts, {glue:text}`eg_posthoc_least:.2f`: above one, silence that was learnt is worth more than silence
# that is imposed. In the recorded full run, whose networks have had more words to learn from, the two are
# {glue:text}`eg_full_posthoc_worse:.2f` and {glue:text}`eg_full_posthoc_common_worse:.2f`.

# %% [markdown]
# ## What to remember
#
# What a recurrence does is $3H$ for each event, in training, too. How many events there are is what a network learns under
# its thresholds, its surrogate and, if there is one, its activity term; it is no property of the cell. In a short training,
# with few words, the GRU is better and the trigram better still; but a GRU that is silenced afterwards is worse than the
# EGRU, {glue:text}`eg_posthoc_least:.2f` times its perplexity. With the whole text, once, the EGRU is at
# {glue:text}`eg_full_ratio_gru:.2f` of the GRU's perplexity, and a GRU that is rectified and has no thresholds at all is
# nearly as good and as silent. An EGRU that has read for long is far below the trigram, at
# {glue:text}`eg_long_ratio_lstm:.2f` of the perplexity of an LSTM of its size, and {glue:text}`eg_long_activity:.0%` of its
# units speak, without an activity term. The recurrent layers are then {glue:text}`eg_long_macs_saved:.1f` times cheaper
# than the LSTM's, the whole model, whose scores are dense, {glue:text}`eg_long_all_saved:.2f` times.

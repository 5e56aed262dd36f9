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
# # Ablations: what matters of the details
#
# What an event takes, where the reset gate is, thresholds that are drawn and kept, a state of which only the output goes from
# window to window as in the released code, the surrogate, where thresholds and word vectors begin, and the recipe: a word
# model smaller than [that of the experiments](experiments.ipynb), with fewer words, and one thing changed at a time.

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
ablation_seeds: list[int] = [0]  # one run of each variant
variants: list[str] = [
    "as above",
    "reset: none",
    "rectified",
    "a GRU instead",
]  # []: all
reset: str = "threshold"  # what an event takes: threshold, value, paper or none
reset_gate: str = "after"  # of the recurrent matrix, or before
threshold_init: float = -5.0  # mean of the thresholds before their sigmoid
threshold_spread: float = 0.5  # standard deviation of that
threshold_trainable: bool = True  # or as drawn
text_support: float = 5.0  # beta, inverse half-width of the surrogate's window
text_dampening: float = 0.3  # gamma, its height
text_set: str = "state_of_the_union"  # or penn_treebank, wikitext2: your own copy
ablation_vocabulary: int = 2000  # words, most frequent first; all others are <unk>
ablation_words: int = 30000  # of the training text, and of each other part at most
ablation_size: int = 64  # units of each layer, and of a word's vector
embedding_std: float = 0.3  # standard deviation of its components at first
layers: int = 2  # of the word models
dropout: float = 0.1  # of vectors, between layers, of the last output
ablation_epochs: float = 2.0  # passes over the words
batch: int = 16  # pieces of the text that are read at once
bptt: int = 32  # words that gradients see
warmup: float = 0.02  # share of a training in which the learning rate rises
event_warmup: float = 0.02  # the same for the networks with events
weight_decay: float = 0.02  # of AdamW, on matrices
ablation_rate: float = 0.008  # learning rate
beta1: float = 0.0  # of Adam; the usual is 0.9

# %% tags=["hide-input"]
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch

from eventbook.companion.notebook import (
    PALETTE,
    checkpoint,
    keep,
    listed,
    record,
    recorded,
    use_theme,
)
from eventbook.datasets import load_text
from eventbook.learning.language_modelling import (
    LanguageTraining,
    identity_of,
    read_text,
)
from eventbook.models.language_model import LanguageModelConfig, evaluate

torch.set_num_threads(1)
use_theme()
full = recorded("egru")  # the recorded full run, shown beside this one

# %% [markdown]
# The model and its recipe, and what is changed: of the model, of the recipe. Everything else, words and seeds too, is as above.
# A GRU of that size stands beside it. Both begin with the learning rate that was best with the whole text; half and twice that
# are among the changes.

# %%
corpus = load_text(text_set, words=ablation_vocabulary)
learnt, held_out, unseen = (
    part[:ablation_words] for part in (corpus.train, corpus.valid, corpus.test)
)
model = LanguageModelConfig(
    len(corpus.vocabulary),
    ablation_size,
    (ablation_size,) * layers,
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
recipe = LanguageTraining(
    epochs=ablation_epochs,
    batch_size=batch,
    window=bptt,
    lr=ablation_rate,
    warmup=event_warmup,
    weight_decay=weight_decay,
    beta1=beta1,
    beta2=0.99,
)
DROPOUTS = ("input_dropout", "layer_dropout", "output_dropout")
never_less = {"reset": "none", "threshold_mean": -30.0, "threshold_trainable": False}
drawn = {"threshold": "beta", "threshold_mean": 0.01, "threshold_trainable": False}
ABLATIONS = {  # changes of the model, changes of the recipe
    "as above": ({}, {}),
    "reset: value": ({"reset": "value"}, {}),
    "reset: paper": ({"reset": "paper"}, {}),
    "reset: none": ({"reset": "none"}, {}),
    "reset gate before": ({"reset_gate": "before"}, {}),
    "reset: paper, gate before": ({"reset": "paper", "reset_gate": "before"}, {}),
    "rectified": (never_less, {}),
    "thresholds kept": ({"threshold_trainable": False}, {}),
    "thresholds Beta, kept": (drawn, {}),
    "state not carried": ({}, {"carry_state": False}),
    "γ = 0.7": ({"surrogate_dampening": 0.7}, {}),
    "β = 3.6": ({"surrogate_support": 3.6}, {}),
    "thresholds at -3 first": ({"threshold_mean": -3.0}, {}),
    "thresholds at -1 first": ({"threshold_mean": -1.0}, {}),
    "thresholds at 0 first": ({"threshold_mean": 0.0}, {}),
    "thresholds at -7 first": ({"threshold_mean": -7.0}, {}),
    "vectors a third as large": ({"embedding_std": embedding_std / 3}, {}),
    "no dropout": (dict.fromkeys(DROPOUTS, 0.0), {}),
    "β₁ = 0.9": ({}, {"beta1": 0.9}),
    "weight decay 0.02": ({}, {"weight_decay": 0.02}),
    "warm-up 0.02": ({}, {"warmup": 0.02}),
    "half the rate": ({}, {"lr": ablation_rate / 2}),
    "twice the rate": ({}, {"lr": 2 * ablation_rate}),
    "pieces and windows doubled": ({}, {"batch_size": 2 * batch, "window": 2 * bptt}),
    "twice the passes": ({}, {"epochs": 2 * ablation_epochs}),
    "activity term, 10": ({}, {"activity_strength": 10.0, "activity_target": 0.2}),
    "a GRU instead": ({"cell": "gru"}, {"warmup": warmup}),
    "a GRU, twice the rate": (
        {"cell": "gru"},
        {"warmup": warmup, "lr": 2 * ablation_rate},
    ),
}
chosen = variants or list(ABLATIONS)
if unknown := [name for name in chosen if name not in ABLATIONS]:
    raise ValueError(
        f"variants must be of {', '.join(ABLATIONS)}, got {unknown[0]!r}"
    )
if not ablation_seeds:
    raise ValueError("ablation_seeds must be at least one, got none")
if ablation_words < max(65, 2 * batch):
    least = max(65, 2 * batch)
    raise ValueError(f"ablation_words must be at least {least}, got {ablation_words}")


# %% tags=["hide-input"]
def ablated(change, recipe_change, seed):
    """Perplexity, activity and backward sparsity of a variant."""
    what = replace(model, **change), replace(recipe, seed=seed, **recipe_change)
    parts = learnt, held_out
    file = checkpoint("ablation", **identity_of(*what, *parts, looks=1))
    network, _ = read_text(*what, *parts, looks=1, checkpoint=file)
    found = evaluate(network, unseen, carry_state=what[1].carry_state)
    return [found.perplexity, found.mean_activity, found.backward_sparsity]


runs = {
    name: [ablated(*ABLATIONS[name], seed) for seed in ablation_seeds]
    for name in chosen
}
keep(eg_ablation_runs=runs)


def show(title, runs):
    print(f"{title:27} test perplexity              events  silent backwards")
    for name, found in runs.items():
        perplexity, said, quiet = np.transpose(found)
        print(
            f"{name:27} {listed(perplexity):27} "
            f"{said.mean():7.1%} {quiet.mean():8.1%}"
        )


show("this run", runs)
if "eg_ablation_runs" in full:
    show("full run", full["eg_ablation_runs"])
CITED = {
    "egru": "as above",
    "gru": "a GRU instead",
    "gru_faster": "a GRU, twice the rate",
    "rectified": "rectified",
    "paper": "reset: paper",
    "paper_before": "reset: paper, gate before",
    "some": "thresholds at -1 first",
    "more": "thresholds at 0 first",
    "vectors": "vectors a third as large",
    "beta1": "β₁ = 0.9",
    "decay": "weight decay 0.02",
    "half": "half the rate",
    "twice": "twice the rate",
    "doubled": "pieces and windows doubled",
    "passes": "twice the passes",
    "warmup": "warm-up 0.02",
    "forgetful": "state not carried",
    "term": "activity term, 10",
}
several = len(ablation_seeds) > 1 and set(CITED.values()) <= runs.keys()
spoken_of = runs if several else full.get("eg_ablation_runs", {})  # in the text
if set(CITED.values()) <= spoken_of.keys():
    means = {name: np.mean(rows, 0) for name, rows in spoken_of.items()}
    base, gru = means["as above"], means["a GRU instead"]
    seeds_apart = [
        np.ptp(rows, 0)[0] / np.mean(rows, 0)[0] for rows in spoken_of.values()
    ]
    near = [abs(its[0] / base[0] - 1) <= 0.01 for its in means.values()]
    record(
        measured=several,
        **{f"eg_ab_{what}": means[name][0] for what, name in CITED.items()},
        eg_ab_variants=len(means) - 1,
        eg_ab_near=sum(near) - 1,
        eg_ab_apart=np.median(seeds_apart),
        eg_ab_apart_most=max(seeds_apart),
        eg_ab_ratio=base[0] / gru[0],
        eg_ab_ratio_twice=means["twice the rate"][0]
        / means["a GRU, twice the rate"][0],
        eg_ab_activity=base[1],
        eg_ab_some_activity=means["thresholds at -1 first"][1],
        eg_ab_more_activity=means["thresholds at 0 first"][1],
        eg_ab_term_activity=means["activity term, 10"][1],
    )

# %% mystnb={"figure": {"caption": "Test perplexity (left) and share of units that speak (right) of each variant, a mark for each seed. Dashed: the mean of the model as above. The lower panels, where there are any, are the recorded full run, with more words and seeds.", "name": "fig-eg-ablations"}, "image": {"alt": "Rows of marks, a row for each variant, beside a dashed line; the GRU far to the left in perplexity and at the right end in activity"}} tags=["hide-input"]
panels = [runs]
if "eg_ablation_runs" in full:
    panels.append(full["eg_ablation_runs"])
heights = [0.9 + 0.26 * len(found) for found in panels]


def color_of(name):
    """As on the other pages."""
    return "orange" if "GRU" in name else "purple" if name == "rectified" else "blue"


figure, grid = plt.subplots(
    len(panels),
    2,
    figsize=(8.2, sum(heights)),
    height_ratios=heights,
    squeeze=False,
    sharey="row",
)
for axes, found in zip(grid, panels, strict=True):
    for axis, column, scale in zip(axes, (0, 1), (1, 100), strict=True):
        for place, (name, rows) in enumerate(found.items()):
            values = scale * np.array(rows)[:, column]
            color = PALETTE[color_of(name)]
            axis.plot(values, [place] * len(values), "o", ms=4, color=color)
        if "as above" in found:
            base = scale * np.mean(found["as above"], 0)[column]
            axis.axvline(base, color=PALETTE["grey"], ls="--", lw=1.2)
    axes[0].set_yticks(range(len(found)), found)
    axes[0].invert_yaxis()
    axes[0].set(xlabel="test perplexity")
    axes[1].set(xlabel="units that speak (%)", xlim=(0, 104))
plt.show()

# %% [markdown]
# What the full run says, with three seeds of each variant, whose perplexities lie {glue:text}`eg_ab_apart:.1%` apart at the
# median and {glue:text}`eg_ab_apart_most:.1%` at most:
#
# - *Many details do not matter here, where thresholds are near zero.* Of {glue:text}`eg_ab_variants` changes
#   {glue:text}`eg_ab_near` leave the mean perplexity within 1 % of {glue:text}`eg_ab_egru:.1f`: what an event takes (but for
#   one), where the reset gate is, how small thresholds are drawn and whether they are trained, height and width of the
#   surrogate. Without thresholds or resets it is {glue:text}`eg_ab_rectified:.1f`.
# - *Thresholds that take something do.* Begun around 0.27 and 0.5 ($\sigma(-1)$ and $\sigma(0)$) they come to
#   {glue:text}`eg_ab_some:.1f` and {glue:text}`eg_ab_more:.1f`, with {glue:text}`eg_ab_some_activity:.0%` and
#   {glue:text}`eg_ab_more_activity:.0%` of the units speaking instead of {glue:text}`eg_ab_activity:.0%`.
# - *One reset does.* That of the paper's text, which lowers the next state by all that was said, outside of the leak, comes to
#   {glue:text}`eg_ab_paper:.1f`, with the gate before the matrix, as the text has it, to {glue:text}`eg_ab_paper_before:.1f`.
# - *So does how it is trained.* With half the learning rate: {glue:text}`eg_ab_half:.1f`; with twice that:
#   {glue:text}`eg_ab_twice:.1f`. Pieces and windows twice as large, so that there are a quarter of the steps:
#   {glue:text}`eg_ab_doubled:.1f`. First vectors a third as large: {glue:text}`eg_ab_vectors:.1f`. Twice the passes:
#   {glue:text}`eg_ab_passes:.1f`. A short warm-up, {glue:text}`eg_ab_warmup:.1f`, is better here; with the whole text it was
#   the long one that helped. The usual $\beta_1$ of Adam, {glue:text}`eg_ab_beta1:.1f`, and less weight decay,
#   {glue:text}`eg_ab_decay:.1f`, change nothing.
# - *Forgetting does no harm.* If only the output goes on from window to window, as in the released code, it is
#   {glue:text}`eg_ab_forgetful:.1f`.
# - *Silence has a price.* A term that asks for 20 % gets {glue:text}`eg_ab_term_activity:.0%`, and
#   {glue:text}`eg_ab_term:.1f`.
#
# The GRU is at {glue:text}`eg_ab_gru:.1f`, and with twice the rate at {glue:text}`eg_ab_gru_faster:.1f`. The EGRU comes to
# {glue:text}`eg_ab_ratio:.2f` and {glue:text}`eg_ab_ratio_twice:.2f` of that with the same rates, and no single change closes
# the distance. As with [the whole text](experiments.ipynb), the rectified network shares it, so thresholds are not its cause.

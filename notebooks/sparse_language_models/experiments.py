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
# # Experiments: a silent network, pruned
#
# The [method page](method.ipynb) says what silent units and missing weights leave of a product, and that the gains multiply
# but for a covariance. What a trained network loses when it is pruned, whether it then speaks as before, and what sign that
# covariance has, no algebra can say. This page prunes word models: EGRUs, and gated networks that speak all the time.

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
seeds: list[int] = [0]  # one run of everything for each
networks: list[str] = ["EGRU", "LSTM"]  # to be pruned; GRU if all are trained here
base_epochs: float = 0.0  # passes before pruning; 0: the project's trained weights
text_set: str = "state_of_the_union"  # or penn_treebank, wikitext2: your own copy
text_vocabulary: int = 10000  # words, most frequent first; all others are <unk>
test_words: int = 5000  # of validation and test text; 0: all of it
base_embedding: int = 256  # size of a word's vector, and of the last layer
base_embedding_std: float = 0.3  # standard deviation of its components at first
base_units: int = 320  # units of the layers before the last, EGRU and GRU
lstm_units: int = 256  # of the LSTM
base_layers: int = 2  # layers
reset: str = "threshold"  # what an event takes: threshold, value, paper or none
reset_gate: str = "after"  # of the recurrent matrix, or before
threshold_init: float = -7.0  # mean of the thresholds before their sigmoid
threshold_spread: float = 0.5  # standard deviation of that
threshold_trainable: bool = True  # or as drawn
surrogate_support: float = 5.0  # beta, inverse half-width of the window
surrogate_dampening: float = 0.3  # gamma, its height
dropout: float = 0.05  # of vectors, between layers, of the last output
base_rates: list[float] = [0.008]  # its best for each; empty: as the EGRU's chapter
base_batch: int = 32  # pieces of the text that are read at once
base_window: int = 64  # words that gradients see
base_warmup: float = 0.02  # share of a training in which the learning rate rises
base_event_warmup: float = 0.2  # the same for EGRUs
beta1: float = 0.0  # of Adam; the usual is 0.9
weight_decay: float = 0.08  # of AdamW, before and after pruning
carry_state: bool = True  # false: between windows an EGRU keeps only its output
activity_target: float = 0.2  # of the term for events
activity_strength: float = 0.0  # of it; 0 for none
sparsities: list[float] = [0.0, 0.8, 0.95]  # shares of weights that go
moderate: float = 0.8  # one of them, of which the text speaks
method: str = "magnitude"  # or random, deep_rewiring, unit_frequency (EGRU alone)
scope: str = "matrix"  # in which as many go: matrix, gate, layer or global
schedule: int = 1  # prunings on the way to the sparsity; 1: one shot
prune_input: bool = True  # kernels that read what comes from below
prune_recurrent: bool = True  # kernels that read the layer's own output
finetune_words: int = 7000  # words of training after pruning
finetune_batch: int = 8  # pieces that are read at once there
finetune_window: int = 32  # words that gradients see there
finetune_rates: list[float] = [0.5]  # learning rate there, shares of the network's
longer_words: int = 0  # words of a longer training after pruning; 0: the full run's
dense_rates: list[float] = [0.05]  # the same where nothing was pruned; best of each
variant_seeds: list[int] = []  # of the variants; empty: the recorded full run
variant_sparsity: float = 0.9  # of them all
variant_words: int = 7000  # words of training after pruning
decay_efolds: list[float] = []  # e-folds of decay; empty: the recorded full run
small_vocabulary: int = 2000  # words of the small models there
small_units: int = 96  # their units, in one layer
small_words: int = 150000  # their words
small_epochs: float = 4.0  # passes over them
small_rate: float = 0.008  # their learning rate
small_batch: int = 16  # pieces that are read at once there
small_window: int = 32  # words that gradients see there

# %% tags=["hide-input"]
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from hashlib import sha256
from textwrap import fill
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from myst_nb import glue
from scipy.stats import spearmanr

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
from eventbook.datasets import load_text, load_weights
from eventbook.learning.checkpoints import digest
from eventbook.learning.language_modelling import (
    LanguageTraining,
    course,
    identity_of,
    read_text,
    train_language_model,
)
from eventbook.learning.pruning import (
    SCOPES,
    GradualPruning,
    Masks,
    magnitude_masks,
    prune_units,
    random_masks,
    recurrent_weights,
    rewire,
    settle,
)
from eventbook.learning.pruning import (
    sparsities as gradually,
)
from eventbook.learning.rate_search import FoundRate, find_rate, told
from eventbook.learning.rewiring.deep_r import DeepR, sparse_connections
from eventbook.models.egru import compress
from eventbook.models.language_model import (
    Evaluation,
    KneserNey,
    LanguageModel,
    LanguageModelConfig,
    evaluate,
    load_model,
)
from eventbook.models.sparsity import measure_sparsity, modelled_macs, split_of_ratio

torch.set_num_threads(1)
use_theme()
full = recorded("sparse_language_models")  # the recorded full run, shown beside this
COLORS = {
    "EGRU": "blue",
    "GRU": "orange",
    "LSTM": "green",
    "trigram": "grey",
    "unigram": "grey",
}
METHODS = ("magnitude", "random", "deep_rewiring", "unit_frequency")
NOT_YET = "not computed in this run, and no full run of it is recorded"


# %% tags=["hide-input"]
lists = {"seeds": seeds, "base_rates": base_rates}
lists |= {"finetune_rates": finetune_rates, "dense_rates": dense_rates}
for name, given in lists.items():
    if not given and name != "base_rates":
        raise ValueError(f"{name} must be one at least, got none")
    if name != "seeds" and given and not 0 < min(given) <= max(given) < np.inf:
        raise ValueError(f"{name} must be > 0, got {given}")
if "EGRU" not in networks or set(networks) - {"EGRU", "GRU", "LSTM"}:
    raise ValueError(f"networks must be EGRU, and GRU or LSTM, got {networks}")
if not base_epochs and "GRU" in networks:
    raise ValueError(
        "base_epochs must be > 0 for a GRU, of which no weights are here"
    )
if not 0 <= base_epochs < np.inf:
    raise ValueError(f"base_epochs must be 0 or more, got {base_epochs}")
if not base_epochs and text_set != "state_of_the_union":
    raise ValueError(
        f"base_epochs must be > 0 for {text_set}, of which no weights are"
    )
rising = len(sparsities) > 1 and sorted(set(sparsities)) == sparsities
if not rising or sparsities[0] != 0 or sparsities[-1] >= 1:
    raise ValueError(
        f"sparsities must be two or more, from 0 to below 1, got {sparsities}"
    )
if moderate not in sparsities[1:]:
    raise ValueError(f"moderate must be one of {sparsities[1:]}, got {moderate}")
if not 0 < variant_sparsity < 1:
    raise ValueError(f"variant_sparsity must be in 0..1, got {variant_sparsity}")
if method not in METHODS:
    raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
if scope not in SCOPES:
    raise ValueError(f"scope must be one of {', '.join(SCOPES)}, got {scope!r}")
if schedule < 1 or (schedule > 1 and method != "magnitude"):
    raise ValueError(f"schedule must be 1, or more for magnitude, got {schedule}")
if method == "unit_frequency" and not (
    scope == "matrix" and prune_input and prune_recurrent
):
    raise ValueError(
        "method must be another than unit_frequency, which takes whole units, "
        f"for scope {scope!r}, prune_input {prune_input}, "
        f"prune_recurrent {prune_recurrent}"
    )
if not (prune_input or prune_recurrent):
    raise ValueError("prune_input or prune_recurrent must be true, got neither")
for name, count in {
    "base_layers": base_layers,
    "finetune_batch": finetune_batch,
    "finetune_window": finetune_window,
}.items():
    if count < 1:
        raise ValueError(f"{name} must be 1 or more, got {count}")
for name, count in {
    "finetune_words": finetune_words,
    "variant_words": variant_words,
}.items():
    if count < 8 * finetune_batch:
        raise ValueError(f"{name} must be at least {8 * finetune_batch}, got {count}")
if test_words != 0 and test_words < 1000:
    raise ValueError(f"test_words must be 0 or at least 1000, got {test_words}")
if any(not 0 <= e < np.inf for e in decay_efolds) or len(decay_efolds) == 1:
    raise ValueError(f"decay_efolds must be two or more from 0, got {decay_efolds}")


# %% [markdown]
# ## Trained networks
#
# To be pruned, a network must have learned something. The quick form of this page begins with weights of the project, an
# EGRU and an LSTM that were trained on State of the Union addresses; the full profile trains its own, three of each, and a
# GRU with them. All are built as in [the chapter on the EGRU](../egru/experiments.ipynb): one table of word vectors reads the
# input and the answer, two recurrent layers between, the state carried along the text.
#
# ```{margin} The paper's data
# The paper works with the Penn Treebank and WikiText-2, which cannot be shared; the released language models, of the same
# time, have layers of 1,350 units. With your own copy of a text set `text_set`, and `base_epochs`, for weights of these are
# not here.
# ```


# %% tags=["hide-input"]
class Texts(NamedTuple):
    """Words to learn from, to look at on the way, and to be predicted."""

    learnt: np.ndarray
    held_out: np.ndarray
    unseen: np.ndarray


def texts_of(corpus, count=0):
    return Texts(
        corpus.train[: count or None],
        corpus.valid[: test_words or None],
        corpus.test[: test_words or None],
    )


corpus = load_text(text_set, words=text_vocabulary)
texts, n_words = texts_of(corpus), len(corpus.vocabulary)
anchors = {
    name: KneserNey(texts.learnt, n_words, order).perplexity(texts.unseen)
    for name, order in {"unigram": 1, "trigram": 3}.items()
}
print(fill(str(corpus.source), 86))

# %% tags=["hide-input"]
egru_text = LanguageModelConfig(
    n_words,
    base_embedding,
    (base_units,) * (base_layers - 1) + (base_embedding,),
    embedding_std=base_embedding_std,
    input_dropout=dropout,
    layer_dropout=dropout,
    output_dropout=dropout,
    reset=reset,
    reset_gate=reset_gate,
    threshold_mean=threshold_init,
    threshold_std=threshold_spread,
    threshold_trainable=threshold_trainable,
    surrogate_support=surrogate_support,
    surrogate_dampening=surrogate_dampening,
)
lstm_sizes = (lstm_units,) * (base_layers - 1) + (base_embedding,)
text_models = {
    "EGRU": egru_text,
    "GRU": replace(egru_text, cell="gru"),
    "LSTM": replace(egru_text, cell="lstm", hidden_sizes=lstm_sizes),
}
text_recipe = LanguageTraining(
    epochs=base_epochs or 1.0,
    batch_size=base_batch,
    window=base_window,
    carry_state=carry_state,
    warmup=base_warmup,
    weight_decay=weight_decay,
    beta1=beta1,
    beta2=0.99,
    activity_target=activity_target,
)
recipes = dict.fromkeys(text_models, text_recipe)
recipes["EGRU"] = replace(
    text_recipe, warmup=base_event_warmup, activity_strength=activity_strength
)
WEIGHTS = {"EGRU": "state_of_the_union_egru", "LSTM": "state_of_the_union_lstm"}
LOOKS = 5  # at the validation words, over a training
MOST_RATES = 5  # that are tried, while the best is the lowest or the highest


def read(name, config, recipe, texts):
    """Train a word model; returns it and what was seen on the way."""
    what = config, recipe, texts.learnt, texts.held_out
    file = checkpoint(f"words-{name}", shared=True, **identity_of(*what, looks=LOOKS))
    return read_text(*what, looks=LOOKS, checkpoint=file)


def tried(name, config, recipe, rate):
    """Validation perplexity after a training with a rate."""
    _, history = read(name, config, replace(recipe, lr=rate), texts)
    return history[-1]["perplexity"]


found_before = recorded("egru").get("eg_lm_rates", {})  # the same networks there
if not base_rates and not set(networks) <= set(found_before):
    raise ValueError(
        f"base_rates must be one at least: no rates of {', '.join(networks)} are "
        "recorded for the EGRU's chapter, got none"
    )


@cache
def rate_of(name):
    """The learning rate that is best for a network on validation words."""
    if not base_rates:
        return found_before[name]
    recipe = replace(recipes[name], seed=seeds[0])
    trial = partial(tried, name, text_models[name], recipe)
    return find_rate(base_rates, trial, most=MOST_RATES).rate


# %% tags=["hide-input"]
class Start(NamedTuple):
    """A trained network, how it was trained, and on what."""

    name: str
    model: LanguageModel
    recipe: LanguageTraining
    texts: Texts
    seen: Evaluation


@cache
def start(name, seed):
    """A network to be pruned."""
    if base_epochs:
        recipe = replace(recipes[name], lr=rate_of(name), seed=seed)
        model, _ = read(name, text_models[name], recipe, texts)
        return Start(name, model, recipe, texts, seen_by(model))
    model, about = load_model(load_weights(WEIGHTS[name]))
    recipe = LanguageTraining(**about["recipe"])
    asked = asdict(text_models[name]) | asdict(recipes[name])
    there = asdict(model.config) | asdict(recipe)
    which = asked if name == "EGRU" else ("vocabulary", "embedding", "hidden_sizes")
    for what in which:
        if asked[what] != there[what] and what not in ("epochs", "lr", "seed"):
            raise ValueError(
                "base_epochs must be > 0 for networks unlike those that are here: "
                f"{what} of the {name} is {there[what]}, got {asked[what]}"
            )
    return Start(name, model, recipe, texts, seen_by(model))


def seen_by(model, texts=texts):
    """Perplexity, activity and products on the words of the test."""
    return evaluate(model, texts.unseen, carry_state=carry_state)


bases = {name: [start(name, seed) for seed in seeds] for name in networks}
dense = {name: [base.seen for base in its] for name, its in bases.items()}


def over(runs, of):
    """The mean of something over runs."""
    return float(np.mean([of(run) for run in runs]))


# %% tags=["hide-input"]
perplexity = {n: over(runs, lambda r: r.perplexity) for n, runs in dense.items()}
egru_dense = dense["EGRU"]
egru_macs = over(egru_dense, lambda r: r.macs)
whole_macs = egru_dense[0].dense_macs
scores = bases["EGRU"][0].model.embedding.numel()
of_vectors = over(
    egru_dense, lambda r: r.products[0].effective / r.products[0].tokens
)
record(
    sl_x_words=len(texts.unseen),
    sl_x_vocabulary=n_words,
    sl_x_parameters=parameters_of(bases["EGRU"][0].model),
    sl_x_egru=perplexity["EGRU"],
    sl_x_unigram=anchors["unigram"],
    sl_x_trigram=anchors["trigram"],
    sl_x_activity=over(egru_dense, lambda r: r.mean_activity),
    sl_x_macs=egru_macs,
    sl_x_macs_dense=whole_macs,
    sl_x_silence=whole_macs / egru_macs,
    sl_x_vectors=of_vectors / egru_macs,
    sl_x_scores=scores,
)
keep(
    sl_x_rates={name: bases[name][0].recipe.lr for name in networks},
    sl_x_start={
        n: [[r.perplexity, r.macs] for r in runs] for n, runs in dense.items()
    },
    sl_x_anchors=anchors,
)
for name, runs in dense.items():
    count = parameters_of(bases[name][0].model)
    found = listed([r.perplexity for r in runs])
    spent, whole = over(runs, lambda r: r.macs), runs[0].dense_macs
    print(f"{name:5} {count:>9,} parameters, test perplexity {found}")
    print(f"      {spent:>9,.0f} products for a word, {whole:,.0f} with every unit")
if not base_epochs and len(seeds) > 1:
    print("one network of each, seeds are those of the training after pruning")
for number, shares in enumerate(
    zip(*[r.activity for r in egru_dense], strict=True), 1
):
    print(
        f"EGRU, layer {number}: {listed(100 * np.array(shares))} % of the units speak"
    )
for name, runs in full.get("sl_x_start", {}).items():
    found, spent = np.transpose(runs)
    products, rate = spent.mean(), full["sl_x_rates"][name]
    print(f"full run: {name:5} {listed(found)}, {products:,.0f} products for a word")
    print(f"          learning rate {rate:g}")

# %% [markdown]
# On {glue:text}`sl_x_words:,` words of the test, with a vocabulary of {glue:text}`sl_x_vocabulary:,`, the EGRU with its
# {glue:text}`sl_x_parameters:,` parameters has a
# {term}`perplexity` of {glue:text}`sl_x_egru:.1f`. On the same words a trigram with {term}`Kneser-Ney smoothing`, counted on
# the whole training text, has {glue:text}`sl_x_trigram:.1f`, the frequencies of words alone {glue:text}`sl_x_unigram:.0f`.
#
# Of the EGRU's units {glue:text}`sl_x_activity:.1%` speak in a step. A word costs {glue:text}`sl_x_macs:,.0f` products of
# something with something in the recurrent layers, of {glue:text}`sl_x_macs_dense:,.0f` with every unit: silence alone saves a
# factor of {glue:text}`sl_x_silence:.2f`. It is not the inverse of the activity, for the first layer reads word vectors, which
# are never silent; {glue:text}`sl_x_vectors:.0%` of what is left is theirs. Only pruning can touch these.
#
# ```{margin} What is not counted
# The scores of all words take {glue:text}`sl_x_scores:,` products more for each word. They are computed densely; of an EGRU
# rows of silent units could be skipped there, too. An LSTM has a little less than with every unit, for its pieces of the
# text begin in silence.
# ```
#
# ## Pruned, and trained on
#
# Each network loses the smallest of its weights, in one go, each kernel by itself, and is then trained for
# {glue:text}`sl_x_ft_words:,` words more with the masks held, from pieces all over the text. The dense network reads *the same
# words once more*: without that, whatever is gained by further training would pass for a gain by pruning. Adam begins anew.
# The learning rate is a share of that before: {glue:text}`sl_x_ft_rate:.2g` of it for the EGRU when it is pruned, and has
# something to repair, and {glue:text}`sl_x_ft_dense_rate:.2g` when nothing was taken from it. In the quick form of this page
# these shares are given, in the full profile they are the best of several on validation words, for the first seed of each
# network and sparsity.
#
# ```{margin} What we do not know of the paper
# The paper's scope, schedule and length of fine-tuning are not known to us, nor is a script public. They are parameters here:
# `scope`, `schedule`, `finetune_words`; and `method` for how weights are chosen.
# ```


# %%
@dataclass(frozen=True)
class Plan:
    """Which weights go."""

    sparsity: float
    method: str = method
    scope: str = scope
    turns: int = schedule
    inputs: bool = prune_input
    recurrent: bool = prune_recurrent


SHORT = {  # changes of the recipe after pruning
    "epochs": 1.0,
    "batch_size": finetune_batch,
    "window": finetune_window,
    "warmup": 0.1,
}


# %% tags=["hide-input"]
class Pruner(NamedTuple):
    """What a pruning does in a training: before the first step, after each, last."""

    begin: Callable | None = None
    step: Callable | None = None
    end: Callable = lambda: None
    at_once: bool = True


DRIFT, HEAT = 1e-4, 5e-9  # of Deep Rewiring for a step: l1, temperature


def share_left(sizes, embedding, fraction):
    """Weights that are left if a share of each layer's units goes, and all."""
    left = [size - round(fraction * size) for size in sizes]
    below = (embedding, *left[:-1]), (embedding, *sizes[:-1])
    kept = sum(h * (i + h) for h, i in zip(left, below[0], strict=True))
    return kept / sum(h * (i + h) for h, i in zip(sizes, below[1], strict=True))


def least_active(model, sparsity, words):
    """Masks without the units that speak least, with so many weights left at most."""
    sizes, embedding = model.config.hidden_sizes, model.config.embedding
    for fraction in np.linspace(0, 1, 401):
        if share_left(sizes, embedding, fraction) <= 1 - sparsity:
            break
    heard = evaluate(model, words, carry_state=carry_state)
    found = prune_units(model.recurrent, heard.unit_activity, float(fraction))
    return {f"recurrent.{name}": mask for name, mask in found.masks.items()}


def pruner(base, model, plan, seed, steps):
    """Prune a model in place, now or on the way."""
    if not plan.sparsity:
        return Pruner(at_once=False)
    how = plan.method
    if base.name != "EGRU" and how in ("deep_rewiring", "unit_frequency"):
        how = "magnitude"  # no events to go by, and torch's layers cannot be rewired
    which = recurrent_weights(model, inputs=plan.inputs, recurrent=plan.recurrent)
    if how == "deep_rewiring":
        rewire(model, plan.sparsity, which, seed=seed)
        rewiring = DeepR(model, 1.0, l1=DRIFT, temperature=HEAT, seed=seed)

        def turn():
            for its in sparse_connections(model):  # AdamW took the gradient's step
                its.theta.grad = torch.zeros_like(its.theta)
            rewiring.step()

        return Pruner(step=turn, end=lambda: settle(model))
    if plan.turns > 1:
        path = gradually(plan.sparsity, plan.turns)
        every = steps // (2 * plan.turns)  # in the first half
        if not every:
            raise ValueError(
                f"schedule must be at most {steps // 2}, half the steps, "
                f"got {plan.turns}"
            )
        gradual = GradualPruning(model, path, plan.scope, which, every=every)
        return Pruner(gradual.masks.hold, gradual.step, at_once=False)
    if how == "magnitude":
        masks = magnitude_masks(model, plan.sparsity, plan.scope, which)
    elif how == "random":
        draw = generator(seed)
        masks = random_masks(model, plan.sparsity, plan.scope, which, generator=draw)
    else:
        masks = least_active(model, plan.sparsity, base.texts.held_out[:20_000])
    return Pruner(Masks(model, masks).hold)


# %%
def spread(text, count):
    """Words from all over a text: a piece of it for each that is read at once."""
    size = min(count, len(text)) // finetune_batch
    begin = np.linspace(0, len(text) - size, finetune_batch).astype(int)
    return np.concatenate([text[at : at + size] for at in begin])


def thinned(base, plan, share, seed, words):
    """Prune a copy of a network and train it on with a share of its learning rate."""
    model = deepcopy(base.model)
    recipe = replace(base.recipe, lr=share * base.recipe.lr, seed=seed, **SHORT)
    text = spread(base.texts.learnt, words)
    steps = len(list(course(recipe, len(text) // recipe.batch_size - 1)))
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    of = sha256(weights.numpy().tobytes()).hexdigest()
    what = {"of": of, "plan": plan, "recipe": recipe, "text": digest(text)}
    pruning = pruner(base, model, plan, seed, steps)
    before = deepcopy(model) if pruning.at_once else base.model
    train_language_model(
        model,
        text,
        recipe,
        begin=pruning.begin,
        after_step=pruning.step,
        checkpoint=checkpoint(f"pruned-{base.name}", **what),
        save_every=10**9,  # at the end alone: masks on the way are in no checkpoint
    )
    pruning.end()
    return before, model


# %% tags=["hide-input"]
class Pruned(NamedTuple):
    """A pruned network, read right after pruning and at the end."""

    model: LanguageModel
    before: Evaluation
    after: Evaluation


class Alike(NamedTuple):
    """Networks that were pruned alike, and their share of the learning rate."""

    share: FoundRate
    runs: list[Pruned]


TRIAL_WORDS = 40_000
MOST_SHARES = 8  # that are tried, while the best is the lowest or the highest


def share_of(base, plan, seed, words):
    """The share of the learning rate that is best on validation words."""

    def trial(share):
        _, model = thinned(base, plan, share, seed, words)
        some = base.texts.held_out[:TRIAL_WORDS]
        return evaluate(model, some, carry_state=carry_state).perplexity

    shares = finetune_rates if plan.sparsity else dense_rates
    return find_rate(shares, trial, most=MOST_SHARES)


def pruned(base, plan, share, seed, words=finetune_words):
    """A network, pruned and trained on, and read before and after."""
    before, after = thinned(base, plan, share, seed, words)
    untouched = before is base.model
    first = base.seen if untouched else seen_by(before, base.texts)
    return Pruned(after, first, seen_by(after, base.texts))


def pruned_alike(its, plan, its_seeds=seeds, words=finetune_words):
    """Networks, a seed each, pruned with the share that is best for the first."""
    share = share_of(its[0], plan, its_seeds[0], words)
    pairs = zip(its, its_seeds, strict=True)
    return Alike(share, [pruned(b, plan, share.rate, s, words) for b, s in pairs])


alike = {
    (name, sparsity): pruned_alike(bases[name], Plan(sparsity))
    for name in networks
    for sparsity in sparsities
}
trained = {which: its.runs for which, its in alike.items()}


# %% tags=["hide-input"]
def kept_of(run):
    """What is kept of a pruned network."""
    return {
        "before": run.before.perplexity,
        "after": run.after.perplexity,
        "macs": run.after.macs,
        "activity before": list(run.before.activity),
        "activity": list(run.after.activity),
        "mean activity": run.after.mean_activity,
    }


table = {
    name: {str(s): [kept_of(run) for run in trained[name, s]] for s in sparsities}
    for name in networks
}


def column(rows, what):
    return np.array([row[what] for row in rows])


def ratio_to_dense(rows, sparsity):
    """Perplexity after fine-tuning over that of the dense network, for each seed."""
    return column(rows[str(sparsity)], "after") / column(rows["0.0"], "after")


hardest = sparsities[-1]
egru_rows = table["EGRU"]
loss = {s: float(ratio_to_dense(egru_rows, s).mean()) for s in sparsities}
saved = {s: whole_macs / column(egru_rows[str(s)], "macs").mean() for s in sparsities}
affordable = [s for s in sparsities if loss[s] <= 1.05]
beyond = next((s for s in sparsities if s > affordable[-1]), hardest)
usual = [s for s in sparsities if moderate <= s <= 0.9] or [moderate]
rival = next((name for name in ("GRU", "LSTM") if name in networks), "EGRU")
rival_loss = {s: float(ratio_to_dense(table[rival], s).mean()) for s in sparsities}


def unhealed_at(sparsity):
    """Perplexity right after pruning over that after fine-tuning, mean over seeds."""
    runs = egru_rows[str(sparsity)]
    return float((column(runs, "before") / column(runs, "after")).mean())


spent = column(egru_rows[str(moderate)], "macs").mean()
says = column(egru_rows[str(moderate)], "activity")[:, -1].mean()  # the last layer
share_trials = [[f"{n} {s:.0%}", *its.share] for (n, s), its in alike.items()]
further = column(egru_rows["0.0"], "after") / column(egru_rows["0.0"], "before")
record(
    sl_x_ft_words=finetune_words,
    sl_x_ft_rate=alike["EGRU", moderate].share.rate,
    sl_x_ft_dense_rate=alike["EGRU", 0.0].share.rate,
    sl_x_extra=float(further.mean()),
    sl_x_moderate=moderate,
    sl_x_hardest=hardest,
    sl_x_loss_moderate=loss[moderate],
    sl_x_loss_hardest=loss[hardest],
    sl_x_rival_moderate=rival_loss[moderate],
    sl_x_rival_hardest=rival_loss[hardest],
    sl_x_against=max(loss[s] / rival_loss[s] for s in usual),
    sl_x_knee=loss[hardest] / loss[moderate],
    sl_x_saved_moderate=saved[moderate],
    sl_x_saved_hardest=saved[hardest],
    sl_x_unhealed_at=usual[-1],
    sl_x_unhealed=unhealed_at(usual[-1]),
    sl_x_unhealed_hardest=unhealed_at(hardest),
    sl_x_affordable=saved[affordable[-1]],
    sl_x_affordable_at=affordable[-1],
    sl_x_all_saved=(whole_macs + scores) / (spent + scores),
    sl_x_all_saved_silent=(whole_macs + scores) / (spent + scores * says),
)


def in_full(**values):
    """Record what the text cites of the full run, or of this one if it is like it."""
    values = {f"sl_full_{name}": value for name, value in values.items()}
    record_or_recall(full, len(seeds) > 1, **values)


in_full(
    seeds=len(seeds),
    words=finetune_words,
    egru=perplexity["EGRU"],
    rival=perplexity[rival],
    trigram=anchors["trigram"],
    silence=whole_macs / egru_macs,
    extra=float(further.mean()),
    loss_moderate=loss[moderate],
    loss_usual=loss[usual[-1]],
    loss_hardest=loss[hardest],
    rival_moderate=rival_loss[moderate],
    rival_hardest=rival_loss[hardest],
    usual=usual[-1],
    hardest=hardest,
    unhealed=unhealed_at(usual[-1]),
    saved_moderate=saved[moderate],
    saved_hardest=saved[hardest],
    affordable=saved[affordable[-1]],
    affordable_at=affordable[-1],
    affordable_loss=loss[affordable[-1]],
    beyond=beyond,
    beyond_loss=loss[beyond],
)


def at_products(rows, products):
    """Perplexity with so many products for a word, between two sparsities."""
    spent = [column(runs, "macs").mean() for runs in rows.values()][::-1]
    found = [column(runs, "after").mean() for runs in rows.values()][::-1]
    logs = np.log(products), np.log(spent), np.log(found)
    return float(np.exp(np.interp(*logs, left=np.nan, right=np.nan)))


in_text = table if len(seeds) > 1 else full.get("sl_x_pruned", {})
if {"GRU", "LSTM"} <= in_text.keys() and str(moderate) in in_text["EGRU"]:
    its, first = in_text["EGRU"][str(moderate)], in_text["EGRU"]["0.0"]
    spent, at_first = column(its, "macs").mean(), column(first, "macs").mean()
    beside = [at_products(in_text[name], at_first) for name in ("GRU", "LSTM")]
    record(
        measured=len(seeds) > 1,
        sl_equal=column(its, "after").mean(),
        sl_equal_macs=spent,
        sl_equal_gru=at_products(in_text["GRU"], spent),
        sl_equal_lstm=at_products(in_text["LSTM"], spent),
        sl_equal_dense=column(first, "after").mean() / min(beside),
    )
longer = full.get("sl_x_longer", {})
longer_shares = full.get("sl_x_longer_shares", [])
if longer_words:
    longer_alike = {
        s: pruned_alike(bases["EGRU"], Plan(s), words=longer_words)
        for s in (0.0, moderate)
    }
    longer = {
        str(s): [run.after.perplexity for run in its.runs]
        for s, its in longer_alike.items()
    }
    longer_shares = [[f"EGRU {s:.0%}", *a.share] for s, a in longer_alike.items()]
    keep(sl_x_longer=longer, sl_x_longer_shares=longer_shares)
if longer:
    dense_longer, pruned_longer = map(np.array, longer.values())
    record(
        measured=bool(longer_words),
        sl_longer_words=longer_words or full["sl_longer_words"],
        sl_longer_dense=dense_longer.mean(),
        sl_longer_pruned=pruned_longer.mean(),
        sl_longer_loss=(pruned_longer / dense_longer).mean(),
    )
keep(
    sl_x_pruned=table,
    sl_x_shares=share_trials,
)


def show(name, rows):
    for sparsity, runs in rows.items():
        before, after, macs = (column(runs, w) for w in ("before", "after", "macs"))
        print(
            f"{name:5} {float(sparsity):4.0%} {listed(before):>31} "
            f"{listed(after):>29} {macs.mean():>11,.0f}"
        )


print(f"pruned {'perplexity, right after':>35} {'trained on':>29} {'products':>11}")
print("this run")
for name in networks:
    show(name, table[name])
print("full run" if "sl_x_pruned" in full else f"full run: {NOT_YET}")
for name, rows in full.get("sl_x_pruned", {}).items():
    show(name, rows)
print("trained on for longer" if longer else f"trained on for longer: {NOT_YET}")
for sparsity, runs in longer.items():
    print(f"EGRU  {float(sparsity):4.0%} {'':31} {listed(runs):>29}")
if schedule > 1:
    print("pruned in several steps: right after pruning is the dense network")


# %% tags=["hide-cell"]
def show_shares(rows):
    """The best share for each, those that were tried, and what they came to."""
    for what, best, rates, tried_ in rows:
        print(f"{what:26} {best:.2g}")
        if rates:
            print(f"  of {told(rates, '.2g')}\n     {told(tried_)}")


print("shares of the learning rate (validation perplexity of each that was tried)")
full_trials = full.get("sl_x_shares", [])
for title, rows in (("this run", share_trials), ("full run", full_trials)):
    print(title if rows else f"{title}: {NOT_YET}")
    show_shares(rows)
print("trained on for longer" if longer else f"trained on for longer: {NOT_YET}")
show_shares(longer_shares)
last = [w for w, best, rates, _ in full_trials if best in (*rates[:1], *rates[-1:])]
print(
    "of these in the full run, best is the last that was tried:",
    ", ".join(last) or "nowhere",
)

# %% mystnb={"figure": {"caption": "Test perplexity against the share of the kernels' weights that is left. Full lines: trained on after pruning, mean and seeds. Thin, dashed: right after pruning. Grey: a trigram (dashed) and the unigram (dotted) on the same words. The right panel, where there is one, is the recorded full run; diamonds: trained on for longer.", "name": "fig-sl-knee"}, "image": {"alt": "Falling curves from few weights to many, steep at the left and flat at the right; the dashed ones rise far above the full ones at the left"}} tags=["hide-input"]
panels = [("this run", table, anchors)]
if "sl_x_pruned" in full:
    panels.append(("full run", full["sl_x_pruned"], full["sl_x_anchors"]))
figure, axes = plt.subplots(
    1, len(panels), figsize=(3.4 + 2.4 * len(panels), 3.8), squeeze=False
)
for axis, (title, found, lines) in zip(axes[0], panels, strict=True):
    for name, rows in found.items():
        left = [100 * (1 - float(s)) for s in rows]
        color = PALETTE[COLORS[name]]
        for what, line, label in (("after", "o-", name), ("before", "--", None)):
            runs = np.array([column(its, what) for its in rows.values()])
            width = 1.8 if label else 1.0
            axis.plot(left, runs.mean(1), line, color=color, label=label, lw=width)
            if label and runs.shape[1] > 1:
                axis.plot(left, runs, "x", color=color, ms=4)
    if longer and title == "full run":
        at = [100 * (1 - float(s)) for s in longer]
        its = [np.mean(runs) for runs in longer.values()]
        color = PALETTE["vermilion"]
        axis.plot(at, its, "D", color=color, label="EGRU, longer")
    for name, line in {"trigram": "--", "unigram": ":"}.items():
        axis.axhline(lines[name], color=PALETTE[COLORS[name]], ls=line, lw=1.2)
    axis.set(xscale="log", yscale="log", title=title, xlabel="weights left (%)")
    axis.set(ylabel="test perplexity", ylim=(40, 3000))
    marks = [100, 50, 20, 10, 5] + [1] * (min(left) < 4)
    axis.set_xticks(marks, [str(mark) for mark in marks])
    axis.set_yticks(
        [50, 100, 200, 500, 1000, 2000], ["50", "100", "200", "500", "1,000", "2,000"]
    )
    axis.minorticks_off()
axes[0, -1].legend()
plt.show()

# %% [markdown]
# What it reads once more takes the dense EGRU to {glue:text}`sl_x_extra:.3f` of its perplexity. Against *that*, the EGRU that
# is {glue:text}`sl_x_moderate:.0%` pruned has {glue:text}`sl_x_loss_moderate:.3f` times the perplexity, and that at
# {glue:text}`sl_x_hardest:.0%` {glue:text}`sl_x_loss_hardest:.2f` times. Right after pruning and before fine-tuning it is
# worse: at {glue:text}`sl_x_unhealed_at:.0%`, {glue:text}`sl_x_unhealed:.2f` times what it is after, at
# {glue:text}`sl_x_hardest:.0%` {glue:text}`sl_x_unhealed_hardest:.2f` times. From the moderate to the
# hardest pruning the perplexity rises {glue:text}`sl_x_knee:.2f` times. The paper is quoted with little loss up to about 85 %
# (secondary source; other data, other scale).
#
# Does a silent network lose more by pruning than one that speaks all the time? The dense network beside it, an LSTM in the
# quick form of this page, has {glue:text}`sl_x_rival_moderate:.3f` and {glue:text}`sl_x_rival_hardest:.2f` times its own
# perplexity. At
# {glue:text}`sl_x_moderate:.0%` the EGRU's ratio is {glue:text}`sl_x_against:.3f` of that (in the full profile: there or at
# 90 %, whichever is more); above one, it is the EGRU that loses more.
#
# What has been saved by then? At {glue:text}`sl_x_moderate:.0%`, a word costs {glue:text}`sl_x_saved_moderate:.1f` times fewer
# products in the recurrent layers than with every unit and every weight; at {glue:text}`sl_x_hardest:.0%`,
# {glue:text}`sl_x_saved_hardest:.1f` times fewer. With the scores of all words, which are dense, the first of these is a factor of
# {glue:text}`sl_x_all_saved:.2f`: in so small a network with so many words it is there that the work is. It would be
# {glue:text}`sl_x_all_saved_silent:.1f` if the scores, too, were summed over units that speak. If a perplexity 5 %
# above the dense network's is what one can afford, this run affords {glue:text}`sl_x_affordable:.1f` times fewer, at a sparsity
# of {glue:text}`sl_x_affordable_at:.0%`. The workshop version of the paper is quoted with up to about 20 times fewer at a
# perplexity below 60 on the Penn Treebank (secondary source, which does not say than what; other data, other scale).
#
# ### Three seeds, and longer
#
# The recorded full run has smaller networks, {glue:text}`sl_full_seeds` of each kind, which were trained here on the whole text,
# and lets them read {glue:text}`sl_full_words:,` words after pruning, with a learning rate for each network and each sparsity, the
# best of several that were tried: never lower the more is gone. The EGRU begins at a perplexity of
# {glue:text}`sl_full_egru:.1f`, a GRU of its size at {glue:text}`sl_full_rival:.1f`, the trigram is at
# {glue:text}`sl_full_trigram:.1f`: it is behind before anything is pruned. To a dense EGRU the further words do next to nothing
# ({glue:text}`sl_full_extra:.3f` of its perplexity). Without {glue:text}`sl_full_affordable_at:.0%` of its weights it is at
# {glue:text}`sl_full_affordable_loss:.3f` of the dense one's perplexity, without {glue:text}`sl_full_beyond:.0%` at
# {glue:text}`sl_full_beyond_loss:.3f`, without {glue:text}`sl_x_moderate:.0%` at {glue:text}`sl_full_loss_moderate:.3f`: there is
# no knee, it bends. At {glue:text}`sl_full_usual:.0%` it is {glue:text}`sl_full_loss_usual:.2f`, at
# {glue:text}`sl_full_hardest:.0%` {glue:text}`sl_full_loss_hardest:.2f`. The further training is what keeps it so low: without it
# the perplexity at {glue:text}`sl_full_usual:.0%` is {glue:text}`sl_full_unhealed:.1f` times as high.
#
# The GRU loses more, {glue:text}`sl_full_rival_moderate:.3f` times its own perplexity at {glue:text}`sl_x_moderate:.0%`,
# {glue:text}`sl_full_rival_hardest:.2f` times at {glue:text}`sl_full_hardest:.0%`. It also had more to lose: in absolute numbers
# GRU and LSTM stay ahead at every sparsity, while the EGRU is ahead in products. Silence alone saves it a factor of
# {glue:text}`sl_full_silence:.2f`, with {glue:text}`sl_x_moderate:.0%` of the weights gone it is
# {glue:text}`sl_full_saved_moderate:.1f`, with {glue:text}`sl_full_hardest:.0%` {glue:text}`sl_full_saved_hardest:.0f`. For 5 % of
# perplexity one can afford {glue:text}`sl_full_affordable:.1f` times fewer, of the sparsities that were tried.
#
# What if all three may do equally much? With {glue:text}`sl_equal_macs:,.0f` products for a word, which the EGRU does without
# {glue:text}`sl_x_moderate:.0%` of its weights, it is at {glue:text}`sl_equal:.1f`. Of GRU and LSTM more weights must go until they
# do no more: they are then at {glue:text}`sl_equal_gru:.1f` and {glue:text}`sl_equal_lstm:.1f`, on the lines of
# {numref}`fig-sl-macs`. That is the EGRU's best place. With all its weights it has {glue:text}`sl_equal_dense:.2f` times the
# perplexity of the better of the two at as few products, and with hardly any weights the LSTM is ahead again.
#
# Part of the loss is a matter of time. With {glue:text}`sl_longer_words:,` words after pruning the EGRU without
# {glue:text}`sl_x_moderate:.0%` of its weights comes to {glue:text}`sl_longer_pruned:.1f` and the
# dense one, which was tried with a tenth of its rate at most, to {glue:text}`sl_longer_dense:.1f` (diamonds):
# {glue:text}`sl_longer_loss:.3f` instead of {glue:text}`sl_full_loss_moderate:.3f`.


# %% mystnb={"figure": {"caption": "Test perplexity against products in the recurrent layers for a word, of something with something, after pruning and further training; numbers are shares of weights that went (below, of the EGRU). Dashed: a trigram. Arrows below: how the moderately pruned EGRU gets there from a network in which every unit speaks, by the factors of activity before pruning, of its change since, of density, and of what their product leaves out. The lower panel, where there is one, is the recorded full run.", "name": "fig-sl-macs"}, "image": {"alt": "Curves of perplexity against products on a logarithmic axis, the EGRU left of the others by the factor of its silence; below four arrows one after the other, two long ones to the left, two short ones"}} tags=["hide-input"]
def factors(base, run):
    """Dense; with units as they spoke; as they speak; with weights left; counted."""
    config, pairs = run.model.config, run.after.products
    sizes = (config.embedding, config.hidden_sizes)
    spoke, speak = (
        [float(its.activity().mean()) for its in seen.products[1::2]]
        for seen in (base.seen, run.after)
    )
    kept = [float(its.row_density().mean()) for its in pairs]
    silent = [modelled_macs(*sizes, said) for said in (spoke, speak)]
    both = modelled_macs(*sizes, speak, kept[::2], kept[1::2])
    return [run.after.dense_macs, *silent, both, run.after.macs]


steps_down = np.mean(list(map(factors, bases["EGRU"], trained["EGRU", moderate])), 0)
keep(sl_x_steps=list(steps_down))
panels = [(table, steps_down, anchors)]
if "sl_x_pruned" in full:
    panels.append((full["sl_x_pruned"], full["sl_x_steps"], full["sl_x_anchors"]))
figure, axes = plt.subplots(
    len(panels), 1, figsize=(7.2, 3.9 * len(panels)), squeeze=False
)
for axis, (found, down, lines) in zip(axes[:, 0], panels, strict=True):
    for name, rows in found.items():
        color = PALETTE[COLORS[name]]
        spent = (
            np.array([column(runs, "macs").mean() for runs in rows.values()]) / 1e3
        )
        reached = np.array([column(runs, "after").mean() for runs in rows.values()])
        axis.plot(spent, reached, "o-", color=color, label=name)
        room = 0.0  # to the right of the last number
        for s, x, y in list(zip(rows, spent, reached, strict=True))[::-1]:
            named = float(s) and y < 500 and (name == "EGRU" or len(found) < 3)
            if named and x > room:
                text, room = f"{float(s):.0%}", 1.5 * x
                axis.annotate(text, (x, y), (4, 6), textcoords="offset points")
    least = min(
        column(its, "after").min() for r in found.values() for its in r.values()
    )
    words = ("activity", "its change", "density", "covariance")
    down, low = np.array(down) / 1e3, axis.get_xaxis_transform()
    for place, word in enumerate(words):
        y = 0.24 - 0.07 * place
        tail, head = down[place], down[place + 1]
        look = dict(arrowstyle="-|>", color=PALETTE["vermilion"], lw=1.6)
        axis.annotate("", (head, y), (tail, y), low, low, arrowprops=look)
        text = f"{word}, times {head / tail:.2f}"
        beside = dict(va="center", fontsize=9, color=PALETTE["vermilion"])
        axis.text(max(tail, head) * 1.08, y, text, transform=low, **beside)
    axis.axhline(lines["trigram"], color=PALETTE["grey"], ls="--", lw=1.2)
    axis.set(xscale="log", yscale="log", ylim=(0.4 * least, 500), xlim=(None, 4e3))
    axis.set(ylabel="test perplexity")
    marks = [30, 50, 70, 100, 150, 200, 300, 500]
    axis.set_yticks(marks, [str(mark) for mark in marks])
    axis.set_xticks([10, 30, 100, 300, 1000], ["10", "30", "100", "300", "1,000"])
    axis.minorticks_off()
    axis.legend()
axes[-1, 0].set_xlabel("products in the recurrent layers for a word (thousands)")
glue("sl_macs", figure)
plt.close(figure)

# %% [markdown]
# The vermilion arrows take the EGRU at {glue:text}`sl_x_moderate:.0%` apart, from a network in which every unit speaks and
# every weight is there. Two go to the left, one for each kind of zeros. One is what pruning has changed in how much is said,
# and the last what the product of the two leaves out.
#
# ## Does pruning change what is said?
#
# If the two kinds of zeros complement each other, pruning must leave activity alone. Activity in each layer, right after
# pruning and after fine-tuning:

# %% tags=["hide-input"]
base_activity = over(egru_dense, lambda r: r.mean_activity)
as_fast = [  # the dense network with the rate of the pruned ones
    pruned(base, Plan(0.0), alike["EGRU", usual[-1]].share.rate, seed).after
    for base, seed in zip(bases["EGRU"], seeds, strict=True)
]
activity_at = {
    s: over(trained["EGRU", s], lambda r: r.after.mean_activity) for s in sparsities
}
activity_fast = over(as_fast, lambda r: r.mean_activity)
record(
    sl_x_moved=max((activity_at[s] - base_activity for s in usual), key=abs),
    sl_x_activity_dense=activity_at[0.0],
    sl_x_activity_fast=activity_fast,
    sl_x_moved_fast=activity_fast - base_activity,
    sl_x_activity_moderate=activity_at[moderate],
    sl_x_activity_hardest=activity_at[hardest],
)
in_full(
    activity=base_activity,
    activity_dense=activity_at[0.0],
    activity_fast=activity_fast,
    fast=over(as_fast, lambda r: r.perplexity),
    activity_moderate=activity_at[moderate],
    activity_usual=activity_at[usual[-1]],
    activity_hardest=activity_at[hardest],
)


def show_activity(rows):
    for sparsity, runs in rows.items():
        pairs = [
            column(runs, what).mean(0) for what in ("activity before", "activity")
        ]
        shares = "   ".join(
            f"layer {number}: {before:5.1%} -> {after:5.1%}"
            for number, (before, after) in enumerate(zip(*pairs, strict=True), 1)
        )
        print(f"EGRU {float(sparsity):4.0%} pruned   {shares}")


print("this run")
show_activity(egru_rows)
print("full run" if "sl_x_pruned" in full else f"full run: {NOT_YET}")
show_activity(full.get("sl_x_pruned", {}).get("EGRU", {}))

# %% [markdown]
# Of the units {glue:text}`sl_x_activity:.1%` spoke before; after pruning and further training it is
# {glue:text}`sl_x_activity_moderate:.1%` at {glue:text}`sl_x_moderate:.0%` and {glue:text}`sl_x_activity_hardest:.1%` at
# {glue:text}`sl_x_hardest:.0%`. Is that pruning, or the training after it? The dense network, trained on for as long, is at
# {glue:text}`sl_x_activity_dense:.1%`; but its learning rate is far lower. With that of the pruned ones it is at
# {glue:text}`sl_x_activity_fast:.1%`.
#
# In the full run {glue:text}`sl_full_activity:.1%` spoke before, {glue:text}`sl_full_activity_moderate:.1%` do at
# {glue:text}`sl_x_moderate:.0%`, {glue:text}`sl_full_activity_usual:.1%` at {glue:text}`sl_full_usual:.0%`, and
# {glue:text}`sl_full_activity_hardest:.1%` at {glue:text}`sl_full_hardest:.0%`. Here, too, the dense network stays where it was
# ({glue:text}`sl_full_activity_dense:.1%`), and with the rate that is best at {glue:text}`sl_full_usual:.0%`, which spoils it to
# a perplexity of {glue:text}`sl_full_fast:.1f`, it says rather less ({glue:text}`sl_full_activity_fast:.1%`). So the rate alone
# does not do it. Right after pruning the second layer speaks more, and the first less where most is gone. After training the
# first speaks more than before at every sparsity, most where a twentieth of the weights is left; the second, from
# {glue:text}`sl_x_moderate:.0%` on, comes back most of the way, and with a hundredth of the weights says less than it did.
#
# ### Do the gains multiply?
#
# They do but for the covariance of how often unit $i$ speaks, $a_i$, and the share of its outgoing weights that is left,
# $w_i$ ({eq}`eq-sl-cov`). For three of the four kernels of two layers these are units; the first reads word vectors, whose
# activity is one, and has no covariance.


# %%
DRAWS = 100  # of masks by chance


def by_units(evaluation):
    """Products whose sources are units."""
    return evaluation.products[1:]


def over_rule(products):
    """Products that are left over what activity times density says."""
    products = list(products)
    rule = sum(
        float(its.activity().mean() * its.row_density().mean()) * its.dense
        for its in products
    )
    return sum(its.effective for its in products) / rule


def drawn(product, density, draw):
    """The same with a mask by chance."""
    kept = torch.rand(len(product.spoken), product.targets, generator=draw) < density
    return product._replace(kept=kept.sum(1))


pruned_at = {s: trained["EGRU", s] for s in sparsities[1:]}
ratio_at = {
    s: [over_rule(by_units(run.after)) for run in runs]
    for s, runs in pruned_at.items()
}
shown = pruned_at[moderate][0]  # in the figure
draw = generator(seeds[0])
by_luck = [
    [drawn(its, 1 - moderate, draw) for its in by_units(shown.after)]
    for _ in range(DRAWS)
]
luck = np.array([over_rule(products) for products in by_luck])

# %% tags=["hide-input"]
each = [
    [over_rule([its]) for its in by_units(run.after)] for run in pruned_at[moderate]
]
whole_word = steps_down[-1] / steps_down[-2]
record(
    sl_x_multiplies=float(np.mean(ratio_at[moderate])),
    sl_x_multiplies_hardest=float(np.mean(ratio_at[hardest])),
    sl_x_multiplies_least=float(np.mean(each, 0).min()),
    sl_x_multiplies_most=float(np.mean(each, 0).max()),
    sl_x_multiplies_word=float(whole_word),
    sl_x_multiplies_chance=float(luck.mean()),
    sl_x_multiplies_noise=float(3 * luck.std()),
    sl_x_multiplies_beyond=float(
        abs(np.mean(ratio_at[moderate]) - 1) / (3 * luck.std())
    ),
)
in_full(
    multiplies=float(np.mean(ratio_at[moderate])),
    multiplies_hardest=float(np.mean(ratio_at[hardest])),
)
keep(sl_x_ratios={str(s): ratios for s, ratios in ratio_at.items()})
for title, found in (
    ("this run", {str(s): ratios for s, ratios in ratio_at.items()}),
    ("full run", full.get("sl_x_ratios", {})),
):
    print(f"{title}, products left over the rule" if found else f"{title}: {NOT_YET}")
    for sparsity, ratios in found.items():
        print(f"{float(sparsity):4.0%} pruned   {listed(ratios, '.3f')}")


# %% mystnb={"figure": {"caption": "Units of the moderately pruned EGRU: the share of outgoing weights that is left against the share of steps in which the unit speaks, for the three kernels whose sources are units. Blue: by magnitude, then trained. Grey: a mask by chance of the same density. Above each: the covariance of the blue points.", "name": "fig-sl-rows"}, "image": {"alt": "Three clouds of blue points, two of them flat, in the third a column at the left edge that reaches down to no weights, and flat grey bands of points"}} tags=["hide-input"]
def name_of(product):
    """As W, layer 2."""
    _, layer, kernel = product.name.split(".")
    return f"{'R' if 'recurrent' in kernel else 'W'}, layer {int(layer) + 1}"


pairs = list(zip(by_units(shown.after), by_luck[0], strict=True))
figure, axes = plt.subplots(
    1, len(pairs), figsize=(7.2, 3.2), sharey=True, squeeze=False
)
for axis, (its, random) in zip(axes[0], pairs, strict=True):
    for which, shade in ((random, "grey"), (its, "blue")):
        x, y = 100 * which.activity(), 100 * which.row_density()
        axis.plot(x, y, ".", ms=4, alpha=0.6, color=PALETTE[shade])
    _, covariance = split_of_ratio(its.activity(), its.row_density())
    axis.set(title=f"{name_of(its)}: {covariance:+.4f}", xlabel="steps spoken (%)")
axes[0, 0].set(ylabel="weights left (%)", ylim=0)
plt.show()

# %% [markdown]
# {glue:text}`sl_x_multiplies:.3f` times what activity and density say is left at {glue:text}`sl_x_moderate:.0%`, kernel by kernel
# from {glue:text}`sl_x_multiplies_least:.2f` to {glue:text}`sl_x_multiplies_most:.2f`; at {glue:text}`sl_x_hardest:.0%` it is
# {glue:text}`sl_x_multiplies_hardest:.3f`. Of a hundred masks by chance the mean is {glue:text}`sl_x_multiplies_chance:.4f`, and
# three standard deviations are {glue:text}`sl_x_multiplies_noise:.4f`: the distance of the trained ones from one is
# {glue:text}`sl_x_multiplies_beyond:.0f` times that. For a whole word, with the kernel that reads vectors and has no covariance, it
# comes to a factor of {glue:text}`sl_x_multiplies_word:.3f`. In the full run it is {glue:text}`sl_full_multiplies:.3f` at
# {glue:text}`sl_x_moderate:.0%` and {glue:text}`sl_full_multiplies_hardest:.3f` at {glue:text}`sl_full_hardest:.0%`, over three
# networks: more than the rule says, each time.
#
# What is counted is what is done: below, the pruned network on compressed rows, with the products that its kernels did on
# the first words of the test.

# %%
stack = deepcopy(shown.model.recurrent)
stack = compress(
    stack, {n: p != 0 for n, p in stack.named_parameters() if "kernel" in n}
)
stack.path = "event"
first_words = torch.as_tensor(texts.unseen[:960]).long().view(16, 60)
done = measure_sparsity(stack, shown.model.embedding.detach()[first_words]).products
recurrent = [its for its in done if "recurrent" in its.name]
of_rule = [sum(split_of_ratio(r.activity(), r.row_density())) for r in recurrent]
worst = max(
    abs(its.executed / its.dense - said)
    for its, said in zip(recurrent, of_rule, strict=True)
)
record(
    sl_x_kernels=sum(abs(its.executed - its.effective) for its in recurrent),
    sl_x_kernels_did=sum(its.executed for its in recurrent),
    sl_x_identity=bound(worst),
)

# %% [markdown]
# They did {glue:text}`sl_x_kernels_did:,` products in the recurrence, {glue:text}`sl_x_kernels` more or fewer than counted, and
# as a share of all they are activity times density plus the covariance, to {glue:text}`sl_x_identity:.0e`.
#
# ### Whose covariance?
#
# Look at the blue points again. Some units hardly ever speak, and these keep few weights. Say that a unit is all but mute if
# it speaks in fewer than one step of a hundred, and leave these out. And before anything was pruned: how large were the
# outgoing weights of each unit? The size of row $i$ is its root mean square; pruning by magnitude keeps what is large.


# %%
MUTE = 0.01  # share of steps


def speaking(product):
    """The product without sources that are all but mute."""
    often = product.activity() >= MUTE
    return product._replace(spoken=product.spoken[often], kept=product.kept[often])


def rows_of(model, product):
    """The outgoing weights of each source, (source, target)."""
    return model.get_parameter(f"recurrent.{product.name}").detach().double()


def sizes_of(model, product):
    return rows_of(model, product).square().mean(1).sqrt()


# %% tags=["hide-input"]
def rank(x, y):
    return float(spearmanr(x, y).statistic)


def rates_of(recipe, words):
    """Sum of the learning rates of all steps."""
    steps = words // recipe.batch_size - 1  # predicted words of a piece
    return sum(window.rate for window in course(recipe, steps))


growth, by_kernel, decayed_to = [], [], []
for base, run in zip(bases["EGRU"], pruned_at[moderate], strict=True):
    new = LanguageModel(base.model.config, generator(base.recipe.seed))
    summed = rates_of(base.recipe, len(base.texts.learnt))
    decayed_to.append(np.exp(-summed * base.recipe.weight_decay))
    rows = {}
    for its, then in zip(by_units(run.after), by_units(base.seen), strict=True):
        a = then.activity()
        often = a >= MUTE
        after, before = (sizes_of(model, its) for model in (base.model, new))
        growth.append((name_of(its), a, after / before))
        rows[name_of(its)] = [
            float((~often).double().mean()),
            over_rule([its]),
            over_rule([speaking(its)]),
            rank(a, after),
            rank(a[often], after[often]),
            rank(a, before),
        ]
    by_kernel.append(rows)
others = [over_rule(map(speaking, by_units(r.after))) for r in pruned_at[moderate]]
kernel_rows = np.mean([list(rows.values()) for rows in by_kernel], 0)
decay_alone = float(np.mean(decayed_to))
grown = {
    which: torch.cat(
        [size[(a < MUTE) == which] for _, a, size in growth if min(a) < MUTE]
    )
    for which in (True, False)
}
never = (grown[True] / decay_alone - 1).abs() < 0.1
record(
    sl_x_multiplies_speaking=float(np.mean(others)),
    sl_x_mute_least=kernel_rows[:, 0].min(),
    sl_x_mute_most=kernel_rows[:, 0].max(),
    sl_x_rank_least=kernel_rows[:, 3].min(),
    sl_x_rank_most=kernel_rows[:, 3].max(),
    sl_x_rank_first=float(np.abs(kernel_rows[:, 5]).max()),
    sl_x_grown_mute=float(grown[True].mean()),
    sl_x_grown_often=float(grown[False].mean()),
    sl_x_grown_ratio=float(grown[True].mean() / grown[False].mean()),
    sl_x_decay_alone=decay_alone,
    sl_x_never_learnt=float(never.double().mean()),
)
keep(sl_x_by_kernel=by_kernel)
for title, runs in (
    ("this run", by_kernel),
    ("full run", full.get("sl_x_by_kernel", [])),
):
    print(f"{title}     mute   over the rule: all  speaking   size: all  speaking")
    for kernel in runs[0] if runs else ():
        means = np.mean([rows[kernel] for rows in runs], 0)
        mute, every, spoke, among, among_spoke, _ = means
        print(
            f"{kernel:11} {mute:6.1%} {every:20.3f} {spoke:9.3f} {among:11.2f} "
            f"{among_spoke:9.2f}"
        )
    if not runs:
        print(NOT_YET)
print("size: rank correlation of a unit's activity with the size of its weights")

# %% mystnb={"figure": {"caption": "Size of each unit's outgoing weights in the trained, dense EGRU over its size before training, against the share of steps in which the unit speaks. Full line: no change. Dashed: what weight decay alone would have left.", "name": "fig-sl-growth"}, "image": {"alt": "Points of three colours on a logarithmic axis; at the left edge, where units hardly speak, a column that reaches far down, to the right flat clouds"}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.4, 3.6))
shades = ("blue", "orange", "green", "purple", "sky") * 3
for (label, a, size), shade in zip(growth[: len(pairs)], shades, strict=False):
    axis.plot(100 * a, size, ".", ms=5, alpha=0.6, color=PALETTE[shade], label=label)
axis.axhline(1, color=PALETTE["grey"], lw=1.2)
axis.axhline(decay_alone, color=PALETTE["grey"], lw=1.2, ls="--")
axis.set(xlabel="steps in which the unit speaks (%)", yscale="log")
marks = [0.1, 0.2, 0.5, 1, 2, 5]
axis.set_yticks(marks, [f"{mark:g}" for mark in marks])
axis.minorticks_off()
axis.set_ylabel("size of its weights,\ntrained over untrained")
axis.legend()
plt.show()

# %% [markdown]
# So it is a matter of the kernel. From {glue:text}`sl_x_mute_least:.0%` to {glue:text}`sl_x_mute_most:.0%` of the sources of a
# kernel are all but mute. Without them {glue:text}`sl_x_multiplies_speaking:.3f` times what the rule says is left, instead of
# {glue:text}`sl_x_multiplies:.3f`. Activity and size go together where there are many mute units (rank correlation up to
# {glue:text}`sl_x_rank_most:.2f`), and against each other elsewhere (down to {glue:text}`sl_x_rank_least:.2f`). With
# first weights there is nothing of either ({glue:text}`sl_x_rank_first:.2f` at most, up or down).
#
# In training the rows of mute units shrank to {glue:text}`sl_x_grown_mute:.2f` of their size, those of others in the same
# kernels became {glue:text}`sl_x_grown_often:.2f` times as large. Weight decay alone would have left {glue:text}`sl_x_decay_alone:.2f`;
# {glue:text}`sl_x_never_learnt:.0%` of the mute rows are where it would have left them, to a tenth. The others have been moved
# by something else. A likely reason, which is not tested here: the gradient of row $i$ is a sum over the events of unit $i$
# ([EGRU, method](../egru/method.ipynb)), so that what is hardly ever said is hardly ever learnt, and decay has its way. Such
# rows go first when it is size that counts; and that saves little, for they were hardly ever read.
#
# What would it cost to have no covariance at all? Below, all rows keep the same number of weights; beside it a mask by
# chance. Nothing is trained after pruning.


# %%
def balanced(model):
    """Masks that keep the largest of each row, as many in all rows."""
    masks = {}
    for its in recurrent_weights(model):
        weight = model.get_parameter(its.name).detach().abs()
        kept = weight.shape[1] - round(moderate * weight.shape[1])
        masks[its.name] = torch.zeros_like(weight, dtype=torch.bool)
        masks[its.name].scatter_(1, weight.topk(kept).indices, True)
    return masks


def masked(base, masks):
    Masks(model := deepcopy(base.model), masks)
    return seen_by(model)


plain = Plan(moderate, "magnitude", "matrix", 1, True, True)


def by_magnitude(sparsity):
    """Right after pruning by magnitude: as above, if it was done so."""
    if Plan(sparsity) == replace(plain, sparsity=sparsity):
        return [run.before for run in trained["EGRU", sparsity]]
    return [masked(b, magnitude_masks(b.model, sparsity)) for b in bases["EGRU"]]


# %% tags=["hide-input"]
by_size, by_size_hardest = by_magnitude(moderate), by_magnitude(hardest)
by_row, by_chance, by_chance_hardest = [], [], []
for base, seed in zip(bases["EGRU"], seeds, strict=True):
    by_row.append(masked(base, balanced(base.model)))
    for sparsity, found in ((moderate, by_chance), (hardest, by_chance_hardest)):
        options = {"generator": generator(seed)}
        found.append(masked(base, random_masks(base.model, sparsity, **options)))
by_what = {
    "size": by_size,
    "row": by_row,
    "chance": by_chance,
    "size_hardest": by_size_hardest,
    "chance_hardest": by_chance_hardest,
}
at_once = {what: over(runs, lambda r: r.perplexity) for what, runs in by_what.items()}
record(
    sl_x_by_size=at_once["size"],
    sl_x_by_row=at_once["row"],
    sl_x_by_row_macs=over(by_row, lambda r: r.macs) / over(by_size, lambda r: r.macs),
    sl_x_by_row_ratio=over(by_row, lambda r: over_rule(by_units(r))),
    sl_x_by_chance=at_once["chance"],
    sl_x_chance_worse=at_once["chance"] / at_once["size"],
    sl_x_by_size_hardest=at_once["size_hardest"],
    sl_x_by_chance_hardest=at_once["chance_hardest"],
    sl_x_chance_worse_hardest=at_once["chance_hardest"] / at_once["size_hardest"],
)

# %% [markdown]
# At {glue:text}`sl_x_moderate:.0%`, before any further training, pruning by size has a perplexity of
# {glue:text}`sl_x_by_size:.1f`, rows of equal number {glue:text}`sl_x_by_row:.1f`, with a ratio of
# {glue:text}`sl_x_by_row_ratio:.3f` and {glue:text}`sl_x_by_row_macs:.2f` times the products. The control: a mask by chance has
# {glue:text}`sl_x_by_chance:,.0f`, {glue:text}`sl_x_chance_worse:.2f` times that of magnitude. At
# {glue:text}`sl_x_hardest:.0%` it is {glue:text}`sl_x_by_chance_hardest:,.0f` against
# {glue:text}`sl_x_by_size_hardest:,.0f` by size, {glue:text}`sl_x_chance_worse_hardest:.2f` times. A perplexity above that of the
# unigram, {glue:text}`sl_x_unigram:.0f`, says that nothing is left to be compared: both predict worse than one who hears nothing.
#
# ## Does decay tune activity?
#
# The paper is said to tune activity by weight decay (secondary source). Decay acts over {term}`e-folds`
# ([method](method.ipynb)), so that is the axis here: small EGRUs of one layer, on fewer words, whose weight decay is
# chosen such that a weight without gradient would shrink by $e^{-E}$ in the whole training. All matrices decay, that
# of word vectors, too; biases and thresholds do not.


# %% tags=["hide-input"]
@cache
def small_texts():
    corpus = load_text(text_set, words=small_vocabulary)
    its_texts = texts_of(corpus, small_words)
    return len(corpus.vocabulary), its_texts


def small(seed, change=None, efolds=None, **recipe_change):
    """A small EGRU, trained."""
    vocabulary, its_texts = small_texts()
    sizes = {"embedding": small_units, "hidden_sizes": (small_units,)}
    config = replace(egru_text, vocabulary=vocabulary, **sizes, **(change or {}))
    recipe = replace(
        recipes["EGRU"],
        lr=small_rate,
        seed=seed,
        epochs=small_epochs,
        batch_size=small_batch,
        window=small_window,
        warmup=base_warmup,
    )
    recipe = replace(recipe, **recipe_change)
    if efolds is not None:
        decay = efolds / rates_of(recipe, len(its_texts.learnt))
        recipe = replace(recipe, weight_decay=decay)
    model, _ = read("small", config, recipe, its_texts)
    return Start("EGRU", model, recipe, its_texts, seen_by(model, its_texts))


def decayed(efolds, seed):
    """Perplexity, activity, mean magnitude of the recurrent kernel."""
    base = small(seed, efolds=efolds)
    seen = base.seen
    size = base.model.recurrent.cells[0].recurrent_kernel.detach().abs().mean()
    return [seen.perplexity, seen.mean_activity, float(size)]


def same_sign(ranks):
    return min(ranks) > 0 or max(ranks) < 0


decay_runs = full.get("sl_x_decay", {})
if decay_efolds:
    decay_runs = {
        str(efolds): [decayed(efolds, seed) for seed in variant_seeds or seeds]
        for efolds in decay_efolds
    }
    keep(sl_x_decay=decay_runs)
if decay_runs:
    at = [float(efolds) for efolds in decay_runs]
    found, said, _ = np.moveaxis(np.array(list(decay_runs.values())), 2, 0)
    ranks = [rank(at, its) for its in said.T]
    enough = len(ranks) >= 3 and max(at) >= 3
    best = int(found.mean(1).argmin())
    record(
        measured=bool(decay_efolds),
        sl_x_decay_rank=min(ranks, key=abs) if enough and same_sign(ranks) else 0.0,
        sl_x_decay_none=said[0].mean(),
        sl_x_decay_most=said[-1].mean(),
        sl_x_decay_efolds=at[-1],
        sl_x_decay_best=at[best],
        sl_x_decay_best_activity=said[best].mean(),
        sl_x_decay_best_perplexity=found[best].mean(),
        sl_x_decay_none_perplexity=found[0].mean(),
        sl_x_decay_most_perplexity=found[-1].mean(),
    )
print("weight decay:" if decay_runs else f"weight decay: {NOT_YET}")
for efolds, runs in decay_runs.items():
    found, said, size = np.transpose(runs)
    print(
        f"E = {float(efolds):5.1f}   perplexity {listed(found)}\n{'':12}activity (%) "
        f"{listed(100 * said)}   mean |R| {size.mean():.4f}"
    )

# %% mystnb={"figure": {"caption": "Small EGRUs that were trained with weight decay of so many e-folds, a mark for each seed: share of units that speak (left) and test perplexity (right).", "name": "fig-sl-decay"}, "image": {"alt": "Two panels of marks and lines of their means against e-folds of weight decay"}} tags=["hide-input"]
if decay_runs:
    at = np.array([float(efolds) for efolds in decay_runs])
    runs = np.array(list(decay_runs.values()))
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.3))
    for axis, column_, scale in zip(axes, (1, 0), (100, 1), strict=True):
        color = PALETTE["blue"]
        axis.plot(at, scale * runs[:, :, column_].mean(1), "-", color=color)
        axis.plot(at, scale * runs[:, :, column_], "x", color=color)
        axis.set_xscale("symlog", linthresh=min(at[at > 0]))
        axis.set(xlabel="e-folds of decay")
        axis.set_xticks(at, [f"{e:g}" for e in at])
        axis.minorticks_off()
    axes[0].set(ylabel="units that speak (%)", ylim=0)
    axes[1].set(ylabel="test perplexity")
    plt.show()

# %% [markdown]
# It does, and at this scale it turns activity up. In the recorded full run {glue:text}`sl_x_decay_none:.1%` of the units speak
# without decay and {glue:text}`sl_x_decay_most:.1%` with {glue:text}`sl_x_decay_efolds:.0f` e-folds, in every seed alike (smallest
# rank correlation of e-folds and activity: {glue:text}`sl_x_decay_rank:.2f`). Some decay is good for the model: the best
# perplexity is {glue:text}`sl_x_decay_best_perplexity:.1f`, at {glue:text}`sl_x_decay_best:.1f` e-folds, against
# {glue:text}`sl_x_decay_none_perplexity:.1f` without, at an activity of {glue:text}`sl_x_decay_best_activity:.1%`. From three
# e-folds on it costs, up to {glue:text}`sl_x_decay_most_perplexity:.0f` in the end. So decay is no way
# to silence here. Thresholds and the activity term are, below and in [the chapter on the EGRU](../egru/pixels.ipynb).

# %% [markdown]
# ## Variants
#
# The same EGRU, with one thing changed at a time, at equal density where that can be: in which part of the network as many
# weights go; in four steps instead of one; which weights, among them a mask by chance, whole units by how often they speak
# (as the history of the released code had it), and {term}`Deep Rewiring <DEEP R>`, which chooses connections while it trains; input
# kernels $W$ or recurrent kernels $R$ alone, which leaves more weights. In the full profile they read as many words after
# pruning as the networks above, each variant with the learning rate that is best for it.
#
# ```{margin} Deep Rewiring after training
# It begins with connections at random places, so what the kernels had learnt is lost, and here it is trained for no
# longer than the others. Values are moved by AdamW, without its decay, for they are stored as a vector; places are chosen by
# Deep Rewiring.
# ```

# %% tags=["hide-input"]
plain = replace(plain, sparsity=variant_sparsity)
VARIANTS = {
    "dense": replace(plain, sparsity=0.0),
    "each kernel": plain,
    "each gate": replace(plain, scope="gate"),
    "each layer": replace(plain, scope="layer"),
    "all together": replace(plain, scope="global"),
    "four steps": replace(plain, turns=4),
    "by chance": replace(plain, method="random"),
    "Deep Rewiring": replace(plain, method="deep_rewiring"),
    "units": replace(plain, method="unit_frequency"),
    "W alone": replace(plain, recurrent=False),
    "R alone": replace(plain, inputs=False),
}


def row_of(run):
    """Perplexity right after pruning and at the end, activity, products, density."""
    seen = run.after
    kept = sum(int(its.kept.sum()) for its in seen.products)
    every = sum(len(its.kept) * its.targets for its in seen.products)
    return [
        run.before.perplexity,
        seen.perplexity,
        seen.mean_activity,
        seen.macs,
        kept / every,
        over_rule(by_units(seen)),
    ]


variant_runs = full.get("sl_x_variants", {})
variant_shares = full.get("sl_x_variant_shares", [])
if variant_seeds:
    to_vary = [start("EGRU", seed) for seed in variant_seeds]
    varied = {
        name: pruned_alike(to_vary, plan, variant_seeds, variant_words)
        for name, plan in VARIANTS.items()
    }
    variant_runs = {n: [row_of(run) for run in its.runs] for n, its in varied.items()}
    variant_shares = [[name, *its.share] for name, its in varied.items()]
    keep(sl_x_variants=variant_runs, sl_x_variant_shares=variant_shares)
print("variants:" if variant_runs else f"variants: {NOT_YET}")
for name, runs in variant_runs.items():
    before, after, said, spent, left, over_ = np.transpose(runs)
    print(
        f"{name:14} {left.mean():6.1%} left, perplexity {before.mean():.1f}, then "
        f"{listed(after)}\n{'':14} activity {said.mean():.1%}, "
        f"{spent.mean():,.0f} products, {over_.mean():.2f} of the rule"
    )
CITED = {
    "dense": "dense",
    "kernel": "each kernel",
    "gate": "each gate",
    "layer": "each layer",
    "all": "all together",
    "steps": "four steps",
    "chance": "by chance",
    "rewired": "Deep Rewiring",
    "units": "units",
    "w": "W alone",
    "r": "R alone",
}
if variant_runs:
    means = {what: np.mean(variant_runs[name], 0) for what, name in CITED.items()}
    record(
        measured=bool(variant_seeds),
        sl_v_sparsity=variant_sparsity if variant_seeds else full["sl_v_sparsity"],
        **{f"sl_v_{what}": its[1] for what, its in means.items()},
        sl_v_units_activity=means["units"][2],
        **{f"sl_v_{what}_macs": means[what][3] for what in ("kernel", "units")},
        **{f"sl_v_{what}_left": means[what][4] for what in ("w", "r")},
        **{
            f"sl_v_{what}_over": means[what][5]
            for what in ("kernel", "layer", "all", "chance", "units")
        },
    )

# %% tags=["hide-cell"]
print("shares of the learning rate (validation perplexity of each that was tried)")
show_shares(variant_shares)

# %% [markdown]
# In the full run, with three seeds and {glue:text}`sl_v_sparsity:.0%` of the weights gone, the dense network is at
# {glue:text}`sl_v_dense:.1f`.
#
# - *Where as many weights go matters a little.* From each kernel alike, as above, {glue:text}`sl_v_kernel:.1f`; from each gate
#   {glue:text}`sl_v_gate:.1f`, each layer {glue:text}`sl_v_layer:.1f`, all together {glue:text}`sl_v_all:.1f`, which is less with
#   every seed. In four steps, {glue:text}`sl_v_steps:.1f`. It also decides on the covariance: products over the rule are
#   {glue:text}`sl_v_kernel_over:.2f` for each kernel, {glue:text}`sl_v_layer_over:.2f` and {glue:text}`sl_v_all_over:.2f` for
#   layers and all together.
# - *Which weights go matters more.* A mask by chance ends at {glue:text}`sl_v_chance:.1f`, and obeys the rule
#   ({glue:text}`sl_v_chance_over:.2f`). Deep Rewiring, which begins anew, is at {glue:text}`sl_v_rewired:.1f` after so few words.
# - *Whole units*, those that speak least, cost more than single weights: {glue:text}`sl_v_units:.1f`, and
#   {glue:text}`sl_v_units_macs:,.0f` products against {glue:text}`sl_v_kernel_macs:,.0f`. They go from the last layer, too, so that
#   an answer has fewer numbers, and the scores, not counted here, cost less. Products are
#   {glue:text}`sl_v_units_over:.1f` times the rule, which is one over the share of units that are left, whichever they are: mean
#   activity, {glue:text}`sl_v_units_activity:.0%`, and mean density both count those that were taken away.
# - *Input kernels are the ones that count.* Without {glue:text}`sl_v_sparsity:.0%` of $R$ it is {glue:text}`sl_v_r:.1f`
#   ({glue:text}`sl_v_r_left:.0%` of all weights left), without as many of $W$
#   {glue:text}`sl_v_w:.1f` ({glue:text}`sl_v_w_left:.0%`).

# %% [markdown]
# A small dense GRU with as many weights in its kernels as the pruned EGRU has left asks whether one should not have begun
# with a small network. It is small in all: what its last layer says is as long as a word's vector, so that its vectors shrink
# with it. It reads the same words as the others, those after pruning, too, with learning rates of its own.


# %% tags=["hide-input"]
def small_grus():
    """Dense GRUs as small, trained, and trained on."""
    left = (1 - variant_sparsity) * egru_text.dense_macs()
    width = round((left / (6 * base_layers)) ** 0.5)
    sizes = {"embedding": width, "hidden_sizes": (width,) * base_layers}
    config, recipe = replace(text_models["GRU"], **sizes), recipes["GRU"]
    rates = [rate_of("GRU"), 2 * rate_of("GRU")]
    first = replace(recipe, seed=variant_seeds[0])
    trial = partial(tried, "small-GRU", config, first)
    best = find_rate(rates, trial, most=MOST_RATES)
    its = []
    for seed in variant_seeds:
        its_recipe = replace(recipe, lr=best.rate, seed=seed)
        model, _ = read("small-GRU", config, its_recipe, texts)
        its.append(Start("GRU", model, its_recipe, texts, seen_by(model)))
    nothing = replace(plain, sparsity=0.0)
    return best, pruned_alike(its, nothing, variant_seeds, variant_words)


gru_runs = full.get("sl_x_small_gru", [])
gru_rates = full.get("sl_x_small_gru_rates", [])
if variant_seeds:
    best, gru_alike = small_grus()
    gru_runs = [
        [
            run.after.perplexity,
            run.after.macs,
            run.model.config.embedding,
            parameters_of(run.model),
        ]
        for run in gru_alike.runs
    ]
    gru_rates = [["learning rate", *best], ["share after it", *gru_alike.share]]
    keep(sl_x_small_gru=gru_runs, sl_x_small_gru_rates=gru_rates)
print("small GRU:" if gru_runs else f"small GRU: {NOT_YET}")
if gru_runs:
    found = [runs[0] for runs in gru_runs]
    _, spent, width, size = np.mean(gru_runs, 0)
    print(
        f"{width:.0f} units in a layer, {size:,.0f} parameters, "
        f"{spent:,.0f} products\nperplexity {listed(found)}"
    )
    show_shares(gru_rates)
    record(
        measured=bool(variant_seeds),
        sl_gru=np.mean(found),
        sl_gru_units=int(width),
        sl_gru_macs=spent,
        sl_gru_parameters=int(size),
    )
    record(
        measured=bool(variant_seeds) and len(seeds) > 1,
        sl_gru_egru=at_products(in_text["EGRU"], spent) if in_text else np.nan,
    )

# %% [markdown]
# The small GRU has {glue:text}`sl_gru_units:.0f` units in a layer and {glue:text}`sl_gru_parameters:,` parameters in all. In the
# full run it comes to {glue:text}`sl_gru:.1f` with {glue:text}`sl_gru_macs:,.0f` products for a word; the EGRU, pruned to as
# many weights, to {glue:text}`sl_v_kernel:.1f` with {glue:text}`sl_v_kernel_macs:,.0f`. With as many products as the small GRU, on
# its line in {numref}`fig-sl-macs`, the EGRU is at {glue:text}`sl_gru_egru:.1f`. So a small network is the simpler way there, and
# the better one, unless one trains on for longer: the EGRU without {glue:text}`sl_x_moderate:.0%` of its weights then came to
# {glue:text}`sl_longer_pruned:.1f`, above, which is nearly as good.
#
# And thresholds: small EGRUs, of one layer, whose thresholds are as above, drawn around 0.01 or 0.3 and kept, or pulled to an
# activity of 0.2 by a term, each trained, pruned and trained on, again with learning rates of their own after pruning.

# %% tags=["hide-input"]
THRESHOLDS = {  # changes of the small model, and of its recipe
    "as above": ({}, {}),
    "around 0.01, kept": (
        {"threshold": "beta", "threshold_mean": 0.01, "threshold_trainable": False},
        {},
    ),
    "around 0.3, kept": (
        {"threshold": "beta", "threshold_mean": 0.3, "threshold_trainable": False},
        {},
    ),
    "term for 0.2": ({}, {"activity_target": 0.2, "activity_strength": 10.0}),
}


def with_thresholds(change, recipe_change):
    """Small EGRUs, trained on dense, and pruned."""
    its = [small(seed, change, **recipe_change) for seed in variant_seeds]
    words = len(its[0].texts.learnt)
    plans = replace(plain, sparsity=0.0), plain
    return [pruned_alike(its, plan, variant_seeds, words) for plan in plans]


threshold_runs = full.get("sl_x_thresholds", {})
threshold_shares = full.get("sl_x_threshold_shares", [])
if variant_seeds:
    both = {name: with_thresholds(*change) for name, change in THRESHOLDS.items()}
    threshold_runs = {
        name: [
            [
                as_dense.after.mean_activity,
                as_dense.after.perplexity,
                as_pruned.after.mean_activity,
                as_pruned.after.perplexity,
            ]
            for as_dense, as_pruned in zip(*(its.runs for its in pair), strict=True)
        ]
        for name, pair in both.items()
    }
    threshold_shares = [
        [f"{name}, {what}", *its.share]
        for name, pair in both.items()
        for what, its in zip(("dense", "pruned"), pair, strict=True)
    ]
    keep(sl_x_thresholds=threshold_runs, sl_x_threshold_shares=threshold_shares)
print("thresholds:" if threshold_runs else f"thresholds: {NOT_YET}")
for name, runs in threshold_runs.items():
    said, found, said_pruned, found_pruned = np.transpose(runs)
    print(
        f"{name:18} dense  {said.mean():5.1%} speak, perplexity {listed(found)}\n"
        f"{'':18} pruned {said_pruned.mean():5.1%} speak, "
        f"perplexity {listed(found_pruned)}"
    )
show_shares(threshold_shares)
if threshold_runs:
    names = dict(zip(("none", "low", "high", "term"), threshold_runs, strict=True))
    means = {what: np.mean(threshold_runs[name], 0) for what, name in names.items()}
    record(
        measured=bool(variant_seeds),
        **{f"sl_t_{what}": its[1] for what, its in means.items()},
        **{f"sl_t_{what}_pruned": its[3] for what, its in means.items()},
        **{f"sl_t_{what}_activity": its[0] for what, its in means.items()},
        **{f"sl_t_{what}_activity_pruned": its[2] for what, its in means.items()},
    )

# %% [markdown]
# Of the small EGRUs, those with thresholds around 0.3 speak in {glue:text}`sl_t_high_activity:.0%` of the steps, those under a
# term in {glue:text}`sl_t_term_activity:.0%`, those as above in {glue:text}`sl_t_none_activity:.0%`; the first two pay alike for
# it, with perplexities of {glue:text}`sl_t_high:.1f` and {glue:text}`sl_t_term:.1f` against {glue:text}`sl_t_none:.1f`. Of
# the weights of their kernels {glue:text}`sl_v_sparsity:.0%` go, and they read the whole of their text once more. That costs
# next to nothing, with whatever thresholds: they come to {glue:text}`sl_t_high_pruned:.1f`, {glue:text}`sl_t_term_pruned:.1f`
# and {glue:text}`sl_t_none_pruned:.1f` (thresholds around 0.01: {glue:text}`sl_t_low_pruned:.1f` from
# {glue:text}`sl_t_low:.1f`). Of the dense ones, which were tried with a tenth of the rate at most, the least trained on are the
# best. These networks have few words to know, and after pruning they read a fourth of what they had read before, the large ones
# a fourteenth.
#
# Nor do they speak more. With the high learning rate that is best for them they say less than before:
# {glue:text}`sl_t_high_activity_pruned:.0%`, {glue:text}`sl_t_term_activity_pruned:.0%` and
# {glue:text}`sl_t_none_activity_pruned:.0%` ({glue:text}`sl_t_low_activity:.0%` and {glue:text}`sl_t_low_activity_pruned:.0%`
# around 0.01); what of this is the rate's doing is not taken apart. So the rise of activity above is nothing that pruning must
# bring.

# %% [markdown]
# ## What to remember
#
# A network that is silent most of the time can be pruned, and then does both: it reads few rows, and little of each. The
# two gains multiply but for one term, and in trained networks that term is no chance. Units that are all but mute have small
# weights and lose them first, but their rows were hardly ever read: where there are many such units, less is saved than activity
# times density says. Without them it is the other way round in what the first layer says, and less in size. So, all kernels
# taken together, the two are nearly independent, and what is counted on a trained network is the number to quote. It is a number
# of the recurrent layers; the scores of ten thousand words cost more than all the rest.
#
# How far can it go? In the full run {glue:text}`sl_full_affordable_at:.0%` of the weights go for a perplexity
# {glue:text}`sl_full_affordable_loss:.2f` times as high, and leave {glue:text}`sl_full_affordable:.1f` times fewer products than
# without either kind of zeros; {glue:text}`sl_x_moderate:.0%` go for {glue:text}`sl_full_loss_moderate:.2f`, or
# {glue:text}`sl_longer_loss:.2f` after longer training. There an EGRU bears it no worse than a GRU, and down to a twentieth of the
# weights no worse than an LSTM; it also begins behind both, and a GRU that was small from the start does better with as few
# products, unless one trains on for longer. Pruning does not leave activity alone: large networks with few weights left say more,
# and small ones, trained on with a high rate, less. Weight decay made the small ones here speak.

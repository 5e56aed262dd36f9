"""Weights and the recipe that made them belong together: same models, text, course and results."""

import hashlib
import importlib.util
from dataclasses import asdict, replace

import pytest

from eventbook.datasets import load_state_of_the_union, load_weights, weight_sets
from eventbook.datasets.storage.manifest import checkout
from eventbook.models.language_model import evaluate, load_model

FINE = 1e-3  # what half precision and another processor may change, relative


@pytest.fixture(scope="module")
def script():
    path = checkout() / "data" / "train_language_models.py"
    spec = importlib.util.spec_from_file_location("train_language_models", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def text():
    return load_state_of_the_union()


def test_there_is_a_recipe_for_all_weights(script):
    assert weight_sets() == list(script.MODELS)


@pytest.mark.parametrize("name", ["state_of_the_union_egru", "state_of_the_union_lstm"])
def test_weights_belong_to_their_recipe(script, text, name):
    content = load_weights(name)
    assert len(content) < 10_000_000
    model, about = load_model(content)
    config, recipe = script.MODELS[name]
    assert model.config == config
    assert about["recipe"] == asdict(recipe)
    assert about["text"]["sha256"] == hashlib.sha256(text.train.tobytes()).hexdigest()
    assert len(about["history"]) == script.LOOKS
    last = about["history"][-1]
    assert last["epoch"] == recipe.epochs
    seen = evaluate(model, text.valid)
    assert seen.perplexity == pytest.approx(last["perplexity"], rel=FINE)
    assert seen.mean_activity == pytest.approx(last["activity"], rel=FINE)


@pytest.mark.parametrize("name", ["state_of_the_union_egru", "state_of_the_union_lstm"])
def test_the_recipe_still_begins_as_it_did(script, text, name):
    _, about = load_model(load_weights(name))
    config, recipe = script.MODELS[name]
    loss = script.beginning(config, recipe, text.train)
    assert loss == pytest.approx(about["beginning"], rel=FINE)
    assert loss < 9  # nats; knowing nothing is log 10,002 = 9.2
    other = script.beginning(config, replace(recipe, lr=recipe.lr / 2), text.train)
    assert other != pytest.approx(about["beginning"], rel=FINE)

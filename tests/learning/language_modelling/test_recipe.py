"""Recipes of language models: the law of random windows, rates, what was published, and refusals."""

from dataclasses import replace

import numpy as np
import pytest

from eventbook.learning.language_modelling import RELEASED, LanguageTraining, course, rate, windows
from eventbook.learning.language_modelling.recipe import LEAST


def test_random_windows_cover_the_text_and_have_their_law():
    recipe = LanguageTraining(window=70)
    lengths = []
    for epoch in range(40):
        at = 0
        for first, length in windows(recipe, epoch, 7_000):
            assert first == at
            assert length >= LEAST or at + length == 7_000
            at += length
            lengths.append(length)
        assert at == 7_000
    few = np.array(lengths) < 52  # 3.6 deviations above the one mean, and below the other
    assert 0.03 < few.mean() < 0.08
    assert abs(np.mean(np.array(lengths)[~few]) - 70) < 0.5
    assert 4.5 < np.std(np.array(lengths)[~few]) < 5.5
    assert list(windows(recipe, 0, 500)) == list(windows(recipe, 0, 500))
    assert list(windows(recipe, 0, 500)) != list(windows(recipe, 1, 500))
    fixed = list(windows(replace(recipe, random_windows=False), 0, 100))
    assert fixed == [(0, 70), (70, 30)]


def test_rates():
    recipe = LanguageTraining(lr=2.0, warmup=0.1, decay_from=0.5, final_rate=0.1)
    assert [rate(recipe, share) for share in (0.0, 0.05, 0.1, 0.5)] == pytest.approx([0, 1, 2, 2])
    assert [rate(recipe, share) for share in (0.75, 1.0)] == pytest.approx([1.1, 0.2])


@pytest.mark.parametrize("epochs", [0.3, 1.0, 2.5, 3.0])
def test_the_course_of_a_run_is_its_epochs_windows_and_goes_on_anywhere(epochs):
    recipe = LanguageTraining(epochs=epochs, window=20, warmup=0.3)
    run = list(course(recipe, 333))
    total = round(333 * epochs)
    done = np.cumsum([0, *(window.length for window in run)])
    assert done[-1] == total
    assert [window.epoch * 333 + window.first for window in run] == list(done[:-1])
    for number in {window.epoch for window in run}:
        planned = dict(windows(recipe, number, 333))
        own = [window for window in run if window.epoch == number]
        assert all(window.length == planned[window.first] for window in own[:-1])
        assert own[-1].length <= planned[own[-1].first]
    rates = [rate(recipe, at / total) * w.length / 20 for at, w in zip(done, run, strict=False)]
    assert [window.rate for window in run] == rates
    for at in (1, len(run) // 2, len(run) - 1):
        assert list(course(recipe, 333, done[at])) == run[at:]
    assert list(course(recipe, 333, total)) == []


def test_the_published_recipes():
    assert set(RELEASED) == {"ptb_v0.2", "wikitext2_v0.2"}
    assert all(recipe.beta1 == 0 and not recipe.carry_state for recipe in RELEASED.values())
    recipe = RELEASED["ptb_v0.2"]
    mean = np.mean([rate(recipe, share) for share in np.linspace(0, 1, 10_001)])
    steps = recipe.epochs * 929_589 / 64 / 70  # words of the treebank
    assert mean * recipe.weight_decay * steps == pytest.approx(21.2, abs=0.2)  # e-folds of weight decay


@pytest.mark.parametrize(
    ("wrong", "kind", "line"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        ({"window": 2.5}, TypeError, "window must be"),
        ({"window": 4}, ValueError, "window must be >= 5 where windows are random, got 4"),
        ({"epochs": 0}, ValueError, "epochs must be > 0 and finite, got 0"),
        ({"lr": float("nan")}, ValueError, "lr must be > 0 and finite, got nan"),
        ({"clip": -1.0}, ValueError, "clip must be >= 0 and finite, got -1.0"),
        ({"warmup": 1.5}, ValueError, r"warmup must be a share in \[0, 1\], got 1.5"),
        ({"beta1": 1.0}, ValueError, "beta1 must be in 0..1, below 1, got 1.0"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(wrong, kind, line):
    with pytest.raises(kind, match=line):
        LanguageTraining(**wrong)

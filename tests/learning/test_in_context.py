"""Training on fresh tasks: the recipe, what a checkpoint resumes, and that something is learnt."""

from dataclasses import replace

import pytest
import torch

from eventbook.learning.in_context import FAST, RELEASED, Recipe, share_of_rate, train_in_context
from eventbook.models.in_context.agreement import agreement
from eventbook.models.in_context.layer import GDLayer
from eventbook.models.in_context.tasks import Tasks, half_square, vector_tasks


def draw(count, generator):
    return vector_tasks(count, context=4, features=3, generator=generator)


def layer(seed=0):
    return GDLayer(3, generator=torch.Generator().manual_seed(seed))


def test_one_update_is_that_of_adamw():
    recipe = Recipe(steps=2, passes_per_batch=3, lr=1e-2, ssm_lr=1e-3, weight_decay=0.3, seed=4)
    made, other = layer(), layer()
    history = train_in_context(made, draw, recipe)
    slow = [other.Lambda, other.log_step]
    optimizers = [
        torch.optim.AdamW([other.window_attention, other.C, other.gate], lr=1e-2, weight_decay=0.3),
        torch.optim.Adam(slow, lr=1e-3),
    ]
    generator, losses = torch.Generator().manual_seed(4), []
    for _ in range(2):
        tasks = draw(64, generator)
        for _ in range(3):
            loss = half_square(other.predict(tasks.tokens()), tasks.answer)
            losses.append(float(loss.detach()))
            other.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
    for one, two in zip(made.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    assert history == [{"step": 2.0, "loss": pytest.approx(sum(losses) / 6)}]


@pytest.mark.slow
def test_a_layer_learns_to_do_a_step():
    made = layer()
    train_in_context(made, draw, Recipe(steps=1500, lr=5e-3, ssm_lr=5e-3))
    tasks = draw(2000, torch.Generator().manual_seed(9))
    found = agreement(made, tasks)
    assert found.loss < 1.02 * found.gd_loss
    assert found.cosine > 0.98
    assert agreement(layer(), tasks).cosine < 0.5  # negative control: before


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path):
    recipe, path = Recipe(steps=6), tmp_path / "deep" / "run.pt"
    whole = layer()
    watched = {"every": 2, "watch": lambda step: {"seen": float(step)}}
    expected = train_in_context(whole, draw, recipe, **watched)
    assert [entry["seen"] for entry in expected] == [2, 4, 6]

    class Cut(Exception):
        pass

    def breaks(step):
        if step == 4:
            raise Cut
        return {"seen": float(step)}

    made = layer()
    with pytest.raises(Cut):
        train_in_context(made, draw, recipe, every=2, watch=breaks, checkpoint=path)
    again = layer(1)  # other values: everything comes from the file
    assert train_in_context(again, draw, recipe, checkpoint=path, **watched) == expected
    assert all(map(torch.equal, again.parameters(), whole.parameters()))
    calls = []
    finished = layer(2)
    train_in_context(finished, lambda n, g: calls.append(n), recipe, checkpoint=path, **watched)
    assert not calls
    assert all(map(torch.equal, finished.parameters(), whole.parameters()))
    assert list(path.parent.iterdir()) == [path]


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    train_in_context(layer(), draw, Recipe(steps=2), checkpoint=path)
    with pytest.raises(ValueError, match=r"checkpoint must be of this recipe, .* has steps = 2, not 3"):
        train_in_context(layer(), draw, Recipe(steps=3), checkpoint=path)
    path.write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="checkpoint must be a file that this function wrote") as caught:
        train_in_context(layer(), draw, Recipe(steps=2), checkpoint=path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"rubbish"


def test_a_loss_that_is_not_finite_stops_before_the_step():
    made = layer()
    before = [p.clone() for p in made.parameters()]

    def spoilt(count, generator):
        tasks = draw(count, generator)
        return Tasks(tasks.x, tasks.y, tasks.query, tasks.answer * float("inf"))

    with pytest.raises(FloatingPointError, match="loss must be finite, got inf at step 0"):
        train_in_context(made, spoilt, Recipe(steps=2))
    assert all(map(torch.equal, made.parameters(), before))


def test_recipes_are_the_released_one_and_a_fast_one():
    assert (RELEASED.steps, RELEASED.passes_per_batch, RELEASED.batch_size) == (10_000, 3, 64)
    assert (RELEASED.lr, RELEASED.ssm_lr, RELEASED.weight_decay) == (2e-4, 1e-4, 0.05)
    assert FAST.passes_per_batch == 1
    assert replace(FAST, steps=750).steps == 750


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be >= 1, got 0"),
        ({"passes_per_batch": 1.5}, TypeError, "passes_per_batch must be a whole number, got 1.5"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
        ({"lr": 0.0}, ValueError, "lr must be finite and > 0, got 0.0"),
        ({"ssm_lr": float("nan")}, ValueError, "ssm_lr must be finite and > 0, got nan"),
        ({"schedule": "linear"}, ValueError, "schedule must be one of constant, cosine, got 'linear'"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay must be finite and >= 0, got -1.0"),
    ],
)
def test_bad_recipes_get_one_clear_line(changes, error, message):
    with pytest.raises(error, match=message):
        Recipe(**changes)


def test_rates_rise_and_fall():
    recipe = Recipe(steps=100, schedule="cosine")
    shares = [share_of_rate(recipe, step) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[9] == pytest.approx(0.98, abs=0.01)
    assert shares[50] == pytest.approx(0.5)
    assert 0 < shares[99] < 1e-3
    assert {share_of_rate(Recipe(steps=100), step) for step in range(100)} == {1.0}


def test_a_schedule_reaches_the_optimiser():

    constant, cosine = layer(), layer()
    train_in_context(constant, draw, Recipe(steps=1, lr=1e-2))
    train_in_context(cosine, draw, Recipe(steps=1, lr=1e-2, schedule="cosine"))
    assert all(map(torch.equal, constant.parameters(), cosine.parameters()))  # one step is at its full rate
    train_in_context(constant, draw, Recipe(steps=2, lr=1e-2))
    train_in_context(cosine, draw, Recipe(steps=2, lr=1e-2, schedule="cosine"))
    assert not torch.equal(constant.C, cosine.C)


def test_models_and_intervals_are_checked():
    with pytest.raises(TypeError, match="model must have a method predict, got Linear"):
        train_in_context(torch.nn.Linear(1, 1), draw, Recipe())
    with pytest.raises(ValueError, match="every must be >= 0, got -1"):
        train_in_context(layer(), draw, Recipe(), every=-1)

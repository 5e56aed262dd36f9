"""The compiled loop walks the trajectory of the readable one, and refuses what it cannot walk."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from eventbook.learning.rewiring.baselines import SET, FixedRandom
from eventbook.learning.rewiring.compiled_training import train_compiled
from eventbook.learning.rewiring.deep_r import BudgetError, DeepR, GlobalDeepR, SoftDeepR, SoftSparseLinear
from eventbook.learning.rewiring.mlp_classifier import (
    accuracy,
    dense_mlp,
    exponential_decay,
    sparse_mlp,
    train,
)
from eventbook.learning.rewiring.sparse_linear import FreeSparseLinear, SparseLinear

SIZES, PS = (12, 20, 16, 3), (0.3, 0.2, 0.5)


def data(n=203, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (n,), generator=generator)
    centers = torch.randn(3, 12, generator=generator, dtype=dtype)
    return centers[labels] + torch.randn(n, 12, generator=generator, dtype=dtype) / 2, labels


def deep_r(dtype=torch.float64, **options):
    model = sparse_mlp(SIZES, PS, seed=4, dtype=dtype)
    return model, DeepR(model, **{"lr": 0.1, "l1": 1e-3, "gdnoise": 0.05, "seed": 7, **options})


def fixed(dtype=torch.float64):
    model = sparse_mlp(SIZES, PS, seed=4, dtype=dtype, layer=FreeSparseLinear)
    return model, FixedRandom(model, 0.1)


METHODS = {
    "deep_r": deep_r,
    "deep_r_every_3": lambda: deep_r(rewire_every=3),
    "deep_r_temperature": lambda: deep_r(gdnoise=0.0, temperature=1e-4, l1=1e-2),
    "deep_r_plain": lambda: deep_r(gdnoise=0.0, l1=0.0),
    "fixed": fixed,
}


def layers(model):
    return [m for m in model if not isinstance(m, nn.ReLU)]


def counters(optimizer):
    return [getattr(optimizer, name, None) for name in ("steps", "rewired", "total_rewired")]


def assert_same(one, two):
    """Models and optimisers are in the same state: wiring and counters exactly, values to rounding."""
    for left, right in zip(layers(one[0]), layers(two[0]), strict=True):
        assert torch.equal(left.index, right.index)
        torch.testing.assert_close(left.values, right.values, rtol=1e-9, atol=1e-11)
    assert counters(one[1]) == counters(two[1])
    assert [g["lr"] for g in one[1].param_groups] == [g["lr"] for g in two[1].param_groups]


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("method", METHODS)
def test_equals_train(method, batch_size):
    images, labels = data()
    plain, compiled = METHODS[method](), METHODS[method]()
    before = [layer.index.clone() for layer in layers(plain[0])]
    untrained = accuracy(plain[0], images, labels)
    options = {
        "batch_size": batch_size,
        "epochs": 3,
        "learning_rates": exponential_decay(0.1, 0.8),
        "seed": 5,
    }

    def watched(model):
        return lambda epoch: {"accuracy": accuracy(model, images, labels)}

    expected = train(*plain, images, labels, **options, callback=watched(plain[0]))
    found = train_compiled(*compiled, images, labels, **options, callback=watched(compiled[0]))
    assert_same(plain, compiled)
    assert [h.pop("loss") for h in found] == pytest.approx([h.pop("loss") for h in expected], rel=1e-10)
    assert found == expected  # epoch, lr, accuracy, and rewired where it is counted
    assert found[-1]["accuracy"] > untrained + 0.2
    moved = any(not torch.equal(a, b.index) for a, b in zip(before, layers(compiled[0]), strict=True))
    assert moved == (method != "fixed")
    if method != "fixed":
        assert compiled[1].total_rewired == sum(h["rewired"] for h in found) > 0


def test_the_comparison_notices_another_seed():
    images, labels = data()
    one, two = deep_r(), deep_r(seed=8)
    for model in (one, two):
        train_compiled(*model, images, labels, batch_size=10, epochs=1)
    with pytest.raises(AssertionError):
        assert_same(one, two)


@pytest.mark.parametrize("method", ["deep_r", "deep_r_every_3", "fixed"])
@pytest.mark.parametrize(
    "first, second", [(train_compiled, train_compiled), (train, train_compiled), (train_compiled, train)]
)
def test_goes_on_where_another_loop_stopped(method, first, second):
    images, labels = data()
    reference, mixed = METHODS[method](), METHODS[method]()
    for seed in (0, 1):
        train(*reference, images, labels, batch_size=10, epochs=2, seed=seed)
    first(*mixed, images, labels, batch_size=10, epochs=2, seed=0)
    second(*mixed, images, labels, batch_size=10, epochs=2, seed=1)
    assert_same(reference, mixed)


@pytest.mark.parametrize("method", ["deep_r", "fixed"])
def test_epochs_of_one_call_are_those_of_a_call_each(method, monkeypatch):
    """An order is a function of (seed, epoch), so a call of one epoch repeats epoch 0: state is carried."""
    images, labels = data()
    together, apart = METHODS[method](), METHODS[method]()
    monkeypatch.setattr(
        "eventbook.learning.rewiring.compiled_training.epoch_order", lambda n, epoch, seed: torch.arange(n)
    )
    train_compiled(*together, images, labels, batch_size=10, epochs=4)
    for epochs in (1, 3):
        train_compiled(*apart, images, labels, batch_size=10, epochs=epochs)
    assert_same(together, apart)


def test_a_resumed_optimiser_draws_the_same_numbers():
    images, labels = data()
    straight = deep_r()
    train_compiled(*straight, images, labels, batch_size=10, epochs=1)
    model, optimizer = deep_r(seed=99)
    model.load_state_dict(copy.deepcopy(straight[0].state_dict()))
    optimizer.load_state_dict(copy.deepcopy(straight[1].state_dict()))
    for pair in (straight, (model, optimizer)):
        train_compiled(*pair, images, labels, batch_size=10, epochs=1)
    assert_same(straight, (model, optimizer))


def test_float32_learns_as_train_does():
    images, labels = data(dtype=torch.float32)
    plain, compiled = deep_r(torch.float32), deep_r(torch.float32)
    expected = train(*plain, images, labels, batch_size=10, epochs=2)
    found = train_compiled(*compiled, images, labels, batch_size=10, epochs=2)
    assert [h["loss"] for h in found] == pytest.approx([h["loss"] for h in expected], rel=1e-4)
    assert counters(compiled[1])[0] == counters(plain[1])[0]


def test_images_that_are_not_contiguous():
    images, labels = data()
    one, two = deep_r(), deep_r()
    train_compiled(*one, images, labels, batch_size=10, epochs=1)
    doubled = labels.repeat_interleave(2)
    train_compiled(*two, images.T.contiguous().T, doubled[::2], batch_size=10, epochs=1)
    assert_same(one, two)


def test_torch_notices_the_training():
    """Going backward through a forward pass older than the training would use weights that are gone."""
    images, labels = data()
    model, optimizer = deep_r()
    loss = model(images[:10]).square().mean()
    train_compiled(model, optimizer, images, labels, batch_size=10, epochs=1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def with_bias():
    model = nn.Sequential(SparseLinear(12, 3, budget=9, bias=True, dtype=torch.float64))
    return model, DeepR(model, 0.1)


def with_sigmoid():
    model = sparse_mlp(SIZES, PS, dtype=torch.float64)
    model[1] = nn.Sigmoid()
    return model, DeepR(model, 0.1)


def soft():
    model = sparse_mlp(SIZES, PS, dtype=torch.float64, layer=SoftSparseLinear)
    return model, SoftDeepR(model, 0.1, 1e-3, temperature=1e-3)


def of_another_model(method):
    return METHODS[method]()[0], METHODS[method]()[1]


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: (m := deep_r()[0], GlobalDeepR(m, 0.1)), "must be DeepR or FixedRandom, got GlobalDeepR"),
        (soft, "must be DeepR or FixedRandom, got SoftDeepR"),
        (lambda: (m := fixed()[0], SET(m, 0.1)), "must be DeepR or FixedRandom, got SET"),
        (with_bias, "must alternate SparseLinear without bias and ReLU"),
        (with_sigmoid, "must alternate SparseLinear without bias and ReLU"),
        (lambda: (dense_mlp(SIZES), deep_r()[1]), "must alternate SparseLinear without bias and ReLU"),
        (lambda: (deep_r()[0], fixed()[1]), "must alternate FreeSparseLinear without bias and ReLU"),
        (lambda: of_another_model("deep_r"), "optimizer must be one of this model"),
        (lambda: of_another_model("fixed"), "optimizer must be one of this model"),
    ],
)
def test_models_and_optimisers_that_it_cannot_train(build, message):
    images, labels = data()
    with pytest.raises(ValueError, match=message):
        train_compiled(*build(), images, labels, batch_size=10, epochs=1)


@pytest.mark.parametrize("method", ["deep_r", "fixed"])
@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda x, t: (x.float(), t),
            r"images must be \(images, 12\) of float64, got \(203, 12\) of float32",
        ),
        (
            lambda x, t: (x[:, :11], t),
            r"images must be \(images, 12\) of float64, got \(203, 11\) of float64",
        ),
        (lambda x, t: (x[:, 0], t), r"images must be \(images, 12\) of float64, got \(203,\) of float64"),
        (lambda x, t: (x, t[:-1]), "equally many, got 203 and 202"),
        (lambda x, t: (x, t.double()), r"labels must be \(images,\) of int64, got \(203,\) of float64"),
        (lambda x, t: (x, t[:, None]), r"labels must be \(images,\) of int64, got \(203, 1\) of int64"),
        (lambda x, t: (x, t + 1), r"labels must be in 0\.\.2, got 1\.\.3"),
        (lambda x, t: (x, t - 1), r"labels must be in 0\.\.2, got -1\.\.1"),
        (lambda x, t: (x[:5], t[:5]), "batch_size must be between 1 and 5 images, got 10"),
    ],
)
def test_data_that_does_not_fit(method, spoil, message):
    model, optimizer = METHODS[method]()
    before = [layer.values.detach().clone() for layer in layers(model)]
    with pytest.raises(ValueError, match=message):
        train_compiled(model, optimizer, *spoil(*data()), batch_size=10, epochs=1)
    assert all(torch.equal(a, b.values) for a, b in zip(before, layers(model), strict=True))


@pytest.mark.parametrize("name", ["lr", "l1", "temperature", "gdnoise"])
def test_rates_that_differ_between_layers_are_refused(name):
    images, labels = data()
    model, optimizer = deep_r(gdnoise=0.0)
    optimizer.param_groups[1][name] = 0.01
    with pytest.raises(ValueError, match=f"{name} must be the same for all layers, got .*0.01"):
        train_compiled(model, optimizer, images, labels, batch_size=10, epochs=1)
    assert optimizer.steps == 0


def test_a_schedule_sets_the_rates_of_all_layers():
    images, labels = data()
    model, optimizer = deep_r()
    optimizer.param_groups[1]["lr"] = 0.01
    rate = exponential_decay(0.1, 0.5)
    history = train_compiled(model, optimizer, images, labels, batch_size=10, epochs=2, learning_rates=rate)
    assert [h["lr"] for h in history] == [0.1, 0.05]


@pytest.mark.parametrize("method", ["deep_r", "fixed"])
@pytest.mark.parametrize("entry, value", [(1, lambda i: i[0]), (0, lambda i: i[2]), (-1, lambda i: 10**9)])
def test_corrupt_indices_are_noticed_before_they_are_used(method, entry, value):
    images, labels = data()
    model, optimizer = METHODS[method]()

    def corrupt(epoch):
        index = layers(model)[1].index
        index[entry] = value(index)
        return {}

    with pytest.raises(ValueError, match=r"index of 'layer 1' must (ascend|be in 0\.\.319), got"):
        train_compiled(model, optimizer, images, labels, batch_size=10, epochs=2, callback=corrupt)


def test_theta_that_is_no_number_breaks_the_bound():
    images, labels = data()
    model, optimizer = deep_r(l1=0.0, gdnoise=0.0)
    images[17] = float("nan")
    with pytest.raises(BudgetError, match="must be finite, got inf or nan: training has diverged"):
        train_compiled(model, optimizer, images, labels, batch_size=10, epochs=1)
    model, optimizer = deep_r(l1=0.0, gdnoise=0.0)
    with pytest.raises(BudgetError, match="must be finite, got inf or nan: training has diverged"):
        train(model, optimizer, images, labels, batch_size=10, epochs=1)


def test_no_epochs_change_nothing():
    model, optimizer = deep_r()
    before = copy.deepcopy(model.state_dict())
    assert train_compiled(model, optimizer, *data(), batch_size=10, epochs=0) == []
    assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())
    assert counters(optimizer) == [0, 0, 0]


@pytest.mark.parametrize(
    "second, message",
    [
        (
            lambda: SparseLinear(3000, 3, budget=900, dtype=torch.float64),
            "take the 20 outputs .* got 3000 inputs",
        ),
        (lambda: SparseLinear(20, 3, budget=9), ".*torch.float64, got 20 inputs, torch.float32"),
    ],
)
def test_layers_that_do_not_follow_each_other(second, message):
    model = nn.Sequential(SparseLinear(12, 20, budget=30, dtype=torch.float64), nn.ReLU(), second())
    with pytest.raises(ValueError, match=f"layer 1 must {message}"):
        train_compiled(model, DeepR(model, 0.1), *data(), batch_size=10, epochs=1)


@pytest.mark.parametrize("method", ["deep_r", "fixed"])
def test_a_wiring_that_a_callback_loads_is_trained_on(method):
    """Another number of connections gives the layer other arrays: those are then trained."""
    images, labels = data()
    plain, compiled = METHODS[method](), METHODS[method]()
    kind = type(layers(plain[0])[1])
    other = kind(20, 16, budget=99, seed=3, dtype=torch.float64).state_dict()

    def loading(model):
        def callback(epoch):
            if epoch == 0:
                layers(model)[1].load_state_dict(other)
            return {}

        return callback

    options = {"batch_size": 10, "epochs": 3}
    train(*plain, images, labels, **options, callback=loading(plain[0]))
    train_compiled(*compiled, images, labels, **options, callback=loading(compiled[0]))
    assert layers(compiled[0])[1].budget == 99
    assert_same(plain, compiled)

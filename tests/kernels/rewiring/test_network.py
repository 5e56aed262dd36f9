"""Loss and gradients of a whole sparse network against the dense twin and against torch's autograd."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, linear, relu

from eventbook.kernels.machinery.lanes import LANES
from eventbook.kernels.rewiring.network import (
    activity_buffers,
    network_gradients,
    network_gradients_reference,
    softmax_cross_entropy,
)


def problem(sizes, density, batch, seed=0, dtype=np.float64, images=50):
    """Images, labels, a batch of them, and the weights and indices of a random network."""
    rng = np.random.default_rng(seed)
    weight, index = [], []
    for n_in, n_out in pairwise(sizes):
        stored = max(1, round(density * n_in * n_out))
        index.append(np.sort(rng.choice(n_in * n_out, stored, replace=False)).astype(np.int64))
        weight.append(rng.standard_normal(stored).astype(dtype))
    x = rng.standard_normal((images, sizes[0])).astype(dtype)
    labels = rng.integers(0, sizes[-1], images)
    return x, labels, rng.choice(images, batch, replace=False), tuple(weight), tuple(index)


def run(sizes, x, labels, chosen, weight, index):
    """Loss, gradients, and the scratch as the kernel left it."""
    activity = activity_buffers(sizes, chosen.size, x.dtype)
    delta = activity_buffers(sizes, chosen.size, x.dtype)
    gradient = tuple(np.full_like(w, np.nan) for w in weight)
    loss = network_gradients(x, labels, chosen, weight, index, activity, delta, gradient)
    return loss, gradient, activity, delta


def dense(sizes, weight, index):
    matrices = []
    for (n_in, n_out), w, k in zip(pairwise(sizes), weight, index, strict=True):
        matrices.append(np.zeros((n_out, n_in), w.dtype))
        matrices[-1].flat[k] = w
    return matrices


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 24), min_size=2, max_size=4).map(tuple),
    density=st.floats(0.0, 1.0),
    batch=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_equals_twin(sizes, density, batch, seed):
    x, labels, chosen, weight, index = problem(sizes, density, batch, seed)
    loss, gradient, *_ = run(sizes, x, labels, chosen, weight, index)
    expected_loss, expected = network_gradients_reference(
        x[chosen], labels[chosen], dense(sizes, weight, index)
    )
    close(loss, expected_loss)
    for own, matrix, k in zip(gradient, expected, index, strict=True):
        close(own, matrix.flat[k])


def by_autograd(sizes, x, labels, chosen, weight, index):
    """Oracle: dense matrices times a fixed mask, cross entropy, backward."""
    matrices = [torch.tensor(m, requires_grad=True) for m in dense(sizes, weight, index)]
    masks = [torch.tensor(m) for m in dense(sizes, [np.ones_like(w) for w in weight], index)]
    a = torch.tensor(x[chosen])
    for layer, (matrix, mask) in enumerate(zip(matrices, masks, strict=True)):
        a = linear(a, matrix * mask)
        a = relu(a) if layer < len(matrices) - 1 else a
    loss = cross_entropy(a, torch.tensor(labels[chosen]))
    loss.backward()
    return loss.item(), [m.grad.numpy().flat[k] for m, k in zip(matrices, index, strict=True)]


@pytest.mark.parametrize("batch", [1, 2, 10, 16, 17, 32, 40])
@pytest.mark.parametrize("sizes", [(30, 7), (30, 20, 7), (30, 20, 15, 7)])
def test_equals_autograd(sizes, batch):
    given_problem = problem(sizes, 0.2, batch)
    loss, gradient, *_ = run(sizes, *given_problem)
    expected_loss, expected = by_autograd(sizes, *given_problem)
    close(loss, expected_loss)
    for own, oracle in zip(gradient, expected, strict=True):
        close(own, oracle)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_comparison_notices_one_wrong_sign(layer):
    sizes = (30, 20, 15, 7)
    x, labels, chosen, weight, index = problem(sizes, 0.5, 10)
    loss, gradient, *_ = run(sizes, x, labels, chosen, weight, index)
    wrong = tuple(w.copy() for w in weight)
    largest = np.abs(gradient[layer]).argmax()
    wrong[layer][largest] *= -1
    expected_loss, expected = by_autograd(sizes, x, labels, chosen, wrong, index)
    with pytest.raises(AssertionError):
        close(loss, expected_loss)
    with pytest.raises(AssertionError):
        close(gradient[layer], expected[layer])


@pytest.mark.parametrize("batch, lanes", [(1, 1), (2, 16), (10, 16), (16, 16), (17, 32), (33, 48)])
def test_padded_lanes_contribute_nothing(batch, lanes):
    sizes = (12, 9, 5)
    x, labels, chosen, weight, index = problem(sizes, 0.4, batch)
    loss, gradient, activity, delta = run(sizes, x, labels, chosen, weight, index)
    assert [a.shape for a in activity] == [(n, lanes) for n in sizes]
    for array in (*activity, *delta[1:]):
        assert array[:, :batch].any()
        assert not array[:, batch:].any()
    # a batch is the mean of its examples, each of which has a lane to itself and no padding
    alone = [run(sizes, x, labels, chosen[b : b + 1], weight, index) for b in range(batch)]
    close(loss, np.mean([single[0] for single in alone]))
    for layer, own in enumerate(gradient):
        close(own, np.mean([single[1][layer] for single in alone], axis=0))


def test_something_in_a_padded_lane_would_be_noticed():
    sizes = (12, 9, 5)
    x, labels, chosen, weight, index = problem(sizes, 0.4, 10)
    _, clean, *_ = run(sizes, x, labels, chosen, weight, index)
    activity, delta = activity_buffers(sizes, 10, x.dtype), activity_buffers(sizes, 10, x.dtype)
    activity[0][:, LANES - 1] = delta[-1][:, LANES - 1] = 1.0
    gradient = tuple(np.empty_like(w) for w in weight)
    network_gradients(x, labels, chosen, weight, index, activity, delta, gradient)
    with pytest.raises(AssertionError):
        close(gradient[0], clean[0])


def test_scratch_can_be_used_again():
    sizes = (12, 9, 5)
    x, labels, chosen, weight, index = problem(sizes, 0.4, 10)
    activity, delta = activity_buffers(sizes, 10, x.dtype), activity_buffers(sizes, 10, x.dtype)
    gradient = tuple(np.empty_like(w) for w in weight)
    others = np.setdiff1d(np.arange(len(x)), chosen)[:10]
    network_gradients(x, labels, others, weight, index, activity, delta, gradient)
    loss = network_gradients(x, labels, chosen, weight, index, activity, delta, gradient)
    expected_loss, expected, *_ = run(sizes, x, labels, chosen, weight, index)
    assert loss == expected_loss
    for own, fresh in zip(gradient, expected, strict=True):
        np.testing.assert_array_equal(own, fresh)


@pytest.mark.parametrize("dtype, size", [(np.float64, 1e300), (np.float32, 1e30)])
def test_extreme_logits_stay_finite(dtype, size):
    # classes x examples: two ties, one certain and right, one certain and wrong
    logits = np.zeros((3, LANES), dtype)
    logits[:, :4] = np.array([[size, -size, size, size], [size, -size, 0, -size], [size, -size, -size, 0]])
    delta = np.zeros_like(logits)
    labels = np.array([2, 1, 0, 1])
    with np.errstate(over="raise", invalid="raise"):
        loss = softmax_cross_entropy(logits, labels, np.arange(4), delta)
    assert loss == pytest.approx((np.log(3) * 2 + 0 + 2 * float(dtype(size))) / 4, rel=1e-6)
    expected = np.array([[1 / 3, 1 / 3, 0, 1], [1 / 3, -2 / 3, 0, -1], [-2 / 3, 1 / 3, 0, 0]]) / 4
    np.testing.assert_allclose(delta[:, :4], expected, rtol=0, atol=1e-7)
    assert not delta[:, 4:].any()


def test_large_weights_give_finite_gradients():
    sizes = (30, 20, 7)
    x, labels, chosen, weight, index = problem(sizes, 0.5, 10, dtype=np.float32)
    big = tuple(w * np.float32(1e6) for w in weight)
    loss, gradient, *_ = run(sizes, x, labels, chosen, big, index)
    assert np.isfinite(loss)
    assert loss > 1e6
    assert all(np.isfinite(g).all() for g in gradient)


@pytest.mark.parametrize("batch", [1, 10])
def test_float32_is_float32_accurate(batch):
    sizes = (784, 300, 100, 10)
    x, labels, chosen, weight, index = problem(sizes, 0.02, batch)
    scaled = tuple(w / 4 for w in weight)
    exact_loss, exact, *_ = run(sizes, x, labels, chosen, scaled, index)
    single = tuple(w.astype(np.float32) for w in scaled)
    loss, gradient, *_ = run(sizes, x.astype(np.float32), labels, chosen, single, index)
    assert loss == pytest.approx(exact_loss, rel=1e-5)
    for own, double in zip(gradient, exact, strict=True):
        assert own.dtype == np.float32
        np.testing.assert_allclose(own, double, rtol=0, atol=2e-5)


SIZES = (12, 9, 5)


def buffers(*sizes, batch=10):
    return activity_buffers(sizes, batch, np.float64)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: {**a, "weight": a["weight"][:1]}, "index must have one array per layer, 1, got 2"),
        (lambda a: {**a, "gradient": a["gradient"][:1]}, "gradient must have one array per layer, 2, got 1"),
        (
            lambda a: {**a, "activity": a["activity"][:2]},
            "activity must have one array per layer",
        ),
        (
            lambda a: {**a, "delta": a["delta"][1:]},
            "delta must have one array per layer",
        ),
        (lambda a: {**a, "images": a["images"][:, :11]}, r"images must be \(any, 12\)"),
        (lambda a: {**a, "labels": a["labels"][:9]}, "images must have one entry per entry of labels, 9"),
        (lambda a: {**a, "chosen": a["chosen"][:0]}, "activity 0 must be"),
        (
            lambda a: {**a, "delta": buffers(12, 8, 5)},
            r"delta 1 must be \(9, any\)",
        ),
        (
            lambda a: {**a, "activity": buffers(*SIZES, batch=17)},
            r"activity 0 must be \(any, 16\)",
        ),
        (
            lambda a: {**a, "activity": buffers(12, 3, 5)},
            r"index of layer 0 must be in",
        ),
        (
            lambda a: {**a, "index": (a["index"][0], a["index"][1][:3])},
            "index of layer 1 must",
        ),
    ],
)
def test_networks_that_do_not_hang_together(change, message):
    x, labels, chosen, weight, index = problem(SIZES, 0.4, 10)
    arguments = {
        "images": x, "labels": labels, "chosen": chosen, "weight": weight, "index": index,
        "activity": activity_buffers(SIZES, 10, x.dtype), "delta": activity_buffers(SIZES, 10, x.dtype),
        "gradient": tuple(np.empty_like(w) for w in weight),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        network_gradients(**change(arguments))

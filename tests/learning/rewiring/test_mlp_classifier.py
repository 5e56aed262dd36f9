"""Builders and the training loop: budgets, determinism, schedules."""

from itertools import pairwise

import pytest
import torch

from eventbook.learning.rewiring import mlp_classifier as mc
from eventbook.learning.rewiring.deep_r import DeepR


def data(n=200):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 12, generator=generator), torch.randint(0, 3, (n,), generator=generator)


def test_authors_network():
    net = mc.sparse_mlp((784, 300, 100, 10), (0.01, 0.03, 0.30))
    budgets = [m.budget for m in net if hasattr(m, "budget")]
    assert budgets == [2352, 900, 300]
    assert sum(budgets) == 3552
    assert len({m.seed for m in net if hasattr(m, "seed")}) == 3
    dense = mc.dense_mlp((784, 300, 100, 10))
    assert sum(p.numel() for p in dense.parameters()) == 266_200
    assert float(dense[0].weight.detach().std()) == pytest.approx(1 / 28, rel=0.02)
    with pytest.raises(ValueError, match="must have 3 entries, got 2"):
        mc.sparse_mlp((784, 300, 100, 10), (0.01, 0.03))


def test_training_is_a_function_of_its_seed():
    images, labels = data()

    def run(seed):
        net = mc.sparse_mlp((12, 20, 3), (0.3, 0.5))
        optimizer = DeepR(net, 0.5, 1e-4, gdnoise=1e-3)
        rates = mc.exponential_decay(0.5, 0.8)
        history = mc.train(
            net, optimizer, images, labels, batch_size=7, epochs=3, learning_rates=rates, seed=seed,
            callback=lambda epoch: {"accuracy": mc.accuracy(net, images, labels)},
        )  # fmt: skip
        assert optimizer.steps == 3 * (200 // 7)
        assert sum(h["rewired"] for h in history) == optimizer.total_rewired
        return history

    first = run(0)
    assert first == run(0)
    assert first != run(1)
    assert [h["lr"] for h in first] == pytest.approx([0.5, 0.4, 0.32])
    assert [h["epoch"] for h in first] == [0, 1, 2]


def test_each_epoch_sees_every_image_once_in_its_own_order():
    orders = [mc.epoch_order(100, epoch, 5) for epoch in range(3)]
    assert all(sorted(o.tolist()) == list(range(100)) for o in orders)
    assert not torch.equal(orders[0], orders[1])


def test_chip_schedule():
    rate = mc.halving_until(0.05, 2, 0.005)
    assert [rate(e) for e in range(0, 14, 2)] == pytest.approx(
        [0.05, 0.025, 0.0125, 0.00625, 0.003125, 0.003125, 0.003125]
    )


def test_accuracy_counts():
    net = torch.nn.Identity()
    assert mc.accuracy(net, torch.eye(4), torch.tensor([0, 1, 2, 0]), batch_size=3) == 0.75


def test_errors():
    images, labels = data()
    net = mc.sparse_mlp((12, 3), (0.5,))
    optimizer = DeepR(net, 0.1)
    with pytest.raises(ValueError, match="equally many"):
        mc.train(net, optimizer, images, labels[:5], batch_size=5, epochs=1)
    with pytest.raises(ValueError, match="batch_size must be between 1 and 200"):
        mc.train(net, optimizer, images, labels, batch_size=500, epochs=1)


def test_exponential_decay():
    rate = mc.exponential_decay(0.5, 0.8)
    assert rate(0) == 0.5
    assert [rate(e + 1) / rate(e) for e in range(5)] == pytest.approx([0.8] * 5)
    assert [mc.exponential_decay(0.5, 1.0)(e) for e in range(3)] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("start, every, floor", [(0.05, 2, 0.005), (0.5, 3, 0.1), (1.0, 1, 0.25)])
def test_halving_goes_below_the_floor_once_and_stays(start, every, floor):
    rate = mc.halving_until(start, every, floor)
    rates = [rate(e) for e in range(12 * every)]
    blocks = [rates[i : i + every] for i in range(0, len(rates), every)]
    assert all(len(set(block)) == 1 for block in blocks)
    values = [block[0] for block in blocks]
    assert values[0] == start
    for before, after in pairwise(values):
        assert after == (before / 2 if before >= floor else before)
    assert floor / 2 <= values[-1] < floor


def test_halving_leaves_a_rate_below_the_floor_alone():
    assert [mc.halving_until(0.001, 2, 0.005)(e) for e in (0, 2, 10)] == [0.001] * 3


@pytest.mark.parametrize(
    "labels, batch_size, message",
    [
        (9, 5, "equally many, got 10 and 9"),
        (10, 0, "an integer >= 1, got 0"),
        (10, 11, "between 1 and 10 images, got 11"),
    ],
)
def test_training_needs_a_label_for_every_image_and_a_batch(labels, batch_size, message):
    with pytest.raises(ValueError, match=message):
        mc.check_training(torch.zeros(10, 3), torch.zeros(labels, dtype=torch.int64), batch_size)


@pytest.mark.parametrize("images, labels", [(5, 1), (5, 4), (0, 0)])
def test_accuracy_needs_a_label_for_each_image(images, labels):
    model = mc.dense_mlp((4, 3))
    with pytest.raises(ValueError, match=r"equally many|images must be at least one"):
        mc.accuracy(model, torch.zeros(images, 4), torch.zeros(labels, dtype=torch.int64))


def test_halving_needs_a_number_of_epochs():
    with pytest.raises(ValueError, match="every must be an integer >= 1, got 0"):
        mc.halving_until(0.5, 0, 0.01)

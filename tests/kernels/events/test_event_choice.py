"""The choice between ways: a pure decision, a measured crossover, results that do not depend on it."""

import math

import pytest
import torch

from eventbook.kernels.events import choice
from eventbook.kernels.events.choice import Crossover, Weights, choose, event_product, measure_crossover
from eventbook.kernels.events.csr import CSRBySource


@pytest.mark.parametrize(
    "crossover, activity, density, way",
    [
        (Crossover(0.5, 0.1), 0.49, 1.0, "rows"),
        (Crossover(0.5, 0.1), 0.5, 1.0, "dense"),
        (Crossover(0.5, 0.1), 0.4, 0.099, "csr"),
        (Crossover(0.5, 0.1), 0.4, 0.1, "rows"),
        (Crossover(0.5, 0.1), 1.0, 0.04, "csr"),  # 2 x 0.4 of the dense product
        (Crossover(0.5, 0.1), 1.0, 0.06, "dense"),
        (Crossover(2.3, 0.1), 1.0, 1.0, "rows"),  # a machine whose dense product is never faster
        (Crossover(math.inf, 0.1), 1.0, 1.0, "rows"),
        (Crossover(1e-6, 1e-6), 0.01, 0.01, "dense"),
        (Crossover(0.5, 0.1), 0.0, 1.0, "rows"),
    ],
)
def test_decision_by_made_up_crossovers(crossover, activity, density, way):
    assert choose(crossover, activity, density) == way


def test_only_shares_are_decided_on():
    with pytest.raises(ValueError, match=r"activity must be a share in \[0, 1\], got 1\.5"):
        choose(Crossover(0.5, 0.1), 1.5)
    with pytest.raises(ValueError, match=r"density must be a share in \[0, 1\], got -1"):
        choose(Crossover(0.5, 0.1), 0.5, -1)


def test_result_and_gradient_do_not_depend_on_the_way(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(40, 50, generator=generator) < 0.3
    matrix = torch.randn(40, 50, generator=generator, dtype=torch.float64) * mask
    x = torch.randn(2, 40, generator=generator, dtype=torch.float64) * (
        torch.rand(2, 40, generator=generator) < 0.2
    )
    x.requires_grad_()
    weights = Weights(matrix, CSRBySource.from_dense(matrix, mask))
    taken, results = [], []
    for name in ("event_csr", "event_matvec"):
        kernel = getattr(choice, name)
        monkeypatch.setattr(
            choice, name, lambda *a, name=name, kernel=kernel: (taken.append(name), kernel(*a))[1]
        )
    for crossover in (Crossover(1e-6, 1e-6), Crossover(1.0, 1e-6), Crossover(1.0, 0.9)):
        y = event_product(x, weights, crossover)
        results.append((y.detach(), torch.autograd.grad(y.sum(), x)[0]))
    assert taken == ["event_matvec", "event_csr"]  # and the first one was torch's
    for y, to_x in results:
        torch.testing.assert_close(y, (x @ matrix).detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(to_x, matrix.sum(1).expand(2, -1), rtol=0, atol=1e-12)


def test_crossover_is_measured_once_per_size_class(monkeypatch):
    calls = []
    monkeypatch.setattr(choice, "_seconds", lambda product, inputs: calls.append(1) or 1e-5 * len(calls))
    choice._measured.cache_clear()
    try:
        first = measure_crossover(100, 120)
        assert len(calls) == 1 + 2 + 2
        assert measure_crossover(140, 91) is first
        assert len(calls) == 5
        measure_crossover(140, 90)  # nearer to 64
        assert len(calls) == 10
    finally:
        choice._measured.cache_clear()


def test_lines_meet_where_they_should():
    meets = choice._meets
    assert meets((0.0, 1.0), (1.0, 3.0), 2.0) == pytest.approx(0.5)
    assert meets((0.0, 1.0), (1.0, 1.0), 2.0) == math.inf
    assert meets((0.0, 1.0), (3.0, 3.0), 2.0) < 1e-5
    assert meets((0.0, 1.0), (1.0, 3.0), 0.5) < 1e-5


def test_real_measurement_gives_positive_crossovers_and_a_product():
    crossover = measure_crossover(64, 200)
    assert crossover.activity > 0
    assert crossover.density > 0
    x, matrix = torch.eye(64)[:3], torch.randn(64, 200)
    assert torch.allclose(event_product(x, Weights(matrix)), matrix[:3])
    assert event_product(torch.zeros(0, 64), Weights(matrix)).shape == (0, 200)


def test_forms_must_belong_together():
    with pytest.raises(ValueError, match=r"compressed must be \(3, 2\) like dense, got \(2, 3\)"):
        Weights(torch.ones(3, 2), CSRBySource.from_dense(torch.ones(2, 3)))
    with pytest.raises(ValueError, match="dense must be"):
        event_product(torch.zeros(1, 4), Weights(torch.ones(3, 2)))


def test_ties_go_to_the_simpler_way():
    crossover = Crossover(activity=0.5, density=0.1)
    assert choose(crossover, activity=0.25, density=0.1) == "rows"
    assert choose(crossover, activity=0.25, density=0.0999) == "csr"
    assert choose(crossover, activity=0.5) == "dense"
    assert choose(crossover, activity=0.4999) == "rows"


@pytest.mark.parametrize(
    "length, size", [(0, 1), (1, 1), (3, 4), (5, 4), (6, 8), (4096, 4096), (10**6, 4096)]
)
def test_sizes_are_measured_by_their_power_of_two_up_to_the_largest(length, size):
    assert choice._size_class(length) == size

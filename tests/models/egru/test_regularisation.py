"""Terms against their sums written out, their gradients, and what they do to a network in training."""

from itertools import pairwise

import pytest
import torch

from eventbook.kernels.events.egru import RESETS
from eventbook.models.egru import EGRU, regularisation

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def run_of(reset="threshold", path="event", lengths=(8, 3, 0), dtype=F64):
    model = EGRU(4, 11, batch_first=True, threshold=0.12, reset=reset, path=path, generator=seeded()).to(
        dtype
    )
    x = 2 * torch.randn(3, 8, 4, generator=seeded(1), dtype=F64).to(dtype)
    return model, model.run(x, lengths=torch.tensor(lengths)).layers[0]


def of_steps(run):
    """(h, o, theta) of all steps that are no padding, (step, unit), row after row, written out."""
    rows = []
    for row, n in enumerate(run.lengths.tolist()):
        for t in range(n):
            c, y = run.voltage[row, t], run.output[row, t]
            o = (c > run.threshold).to(c.dtype)
            taken = {"threshold": o * run.threshold, "value": y}.get(run.dynamics.reset, 0 * y)
            rows.append((row, c - taken, o))
    return rows


@pytest.mark.parametrize("path", ["event", "dense"])
@pytest.mark.parametrize("reset", RESETS)
def test_terms_are_the_sums_that_they_say(reset, path):
    _, run = run_of(reset, path)
    steps = of_steps(run)
    h, o = (torch.stack([step[k] for step in steps]) for k in (1, 2))
    assert 0.05 < float(o.mean()) < 0.8

    def same(found, expected):
        assert found.shape == ()
        assert abs(float(found.detach()) - float(expected.detach())) < 1e-13

    same(regularisation.activity(run), o.mean())
    same(regularisation.activity(run), torch.tensor(run.activity(), dtype=F64))
    same(regularisation.activity_target(run, 0.2), (o.mean() - 0.2) ** 2)
    same(regularisation.voltage_target(run, 0.1), ((h - 0.1) ** 2).mean())
    same(regularisation.voltage_margin(run), (h - (run.threshold - 0.05)).mean())
    jumps = torch.cat([(b[1] - a[1])[a[2] > 0] ** 2 for a, b in pairwise(steps) if a[0] == b[0]])
    assert len(jumps) > 5
    terms = regularisation.language_terms(run, 0.5, 2.0, 0.25)
    same(terms, 0.5 * h.mean() + 2 * jumps.mean() + 0.25 * o.mean())
    assert float(regularisation.language_terms(run)) == 0.0


def test_the_activity_of_a_network_is_over_all_its_units():
    model = EGRU(4, (11, 5), batch_first=True, threshold=0.12, generator=seeded()).double()
    runs = model.run(2 * torch.randn(3, 8, 4, generator=seeded(1), dtype=F64)).layers
    expected = (11 * runs[0].activity() + 5 * runs[1].activity()) / 16
    assert float(regularisation.total_activity(runs).detach()) == pytest.approx(expected, abs=1e-14)


def test_activity_is_differentiated_by_the_surrogate():
    """d mean o / d c = psi / places for each unit and step."""
    model, _ = run_of()
    x = 2 * torch.randn(3, 8, 4, generator=seeded(1), dtype=F64)
    run = model.run(x).layers[0]
    (found,) = torch.autograd.grad(regularisation.activity(run), run.voltage)
    beta, gamma = run.dynamics.surrogate_support, run.dynamics.surrogate_dampening
    psi = gamma * (1 - beta * (run.voltage - run.threshold).abs()).clamp(min=0)
    assert (found - psi / psi.numel()).abs().max() < 1e-16


@pytest.mark.parametrize("reset", RESETS)
def test_gradients_are_the_same_by_both_ways(reset):
    found = []
    for path in ("event", "dense"):
        model, run = run_of(reset, path)
        total = (
            regularisation.activity_target(run, 0.5)
            + regularisation.voltage_target(run, 0.1)
            + regularisation.voltage_margin(run)
            + regularisation.language_terms(run, 0.5, 2.0, 0.25)
        )
        found.append(torch.autograd.grad(total, list(model.parameters())))
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max()
        assert b.abs().max() > 1e-6


def test_a_target_of_activity_is_reached_by_training():
    """From above, and without the term activity stays where it was."""
    x = torch.randn(6, 16, 3, generator=seeded(2))
    ends = {}
    for strength in (0.0, 1.0):
        model = EGRU(3, 32, batch_first=True, threshold=0.05, generator=seeded())
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(60):
            run = model.run(x)
            loss = strength * regularisation.activity_target(run.layers[0], 0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        ends[strength] = run.layers[0].activity()
    assert ends[0.0] > 0.25
    assert abs(ends[1.0] - 0.05) < 0.03


def test_no_steps_at_all_are_zero_and_no_nan():
    _, run = run_of(lengths=(0, 0, 0))
    for term in (
        regularisation.activity(run),
        regularisation.voltage_target(run),
        regularisation.voltage_margin(run),
        regularisation.language_terms(run, 1.0, 1.0, 1.0),
        regularisation.total_activity((run,)),
    ):
        assert float(term.detach()) == 0.0


def test_bad_strengths_are_refused():
    _, run = run_of()
    with pytest.raises(ValueError, match=r"target must be a share in \[0, 1\], got 1.5"):
        regularisation.activity_target(run, 1.5)
    with pytest.raises(ValueError, match="beta must be >= 0 and finite, got -1"):
        regularisation.language_terms(run, beta=-1)
    with pytest.raises(ValueError, match="alpha must be >= 0 and finite, got inf"):
        regularisation.language_terms(run, alpha=float("inf"))
    with pytest.raises(ValueError, match="runs must have a layer at least, got none"):
        regularisation.total_activity(())

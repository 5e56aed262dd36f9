"""Kernels against the twin that knows no adjoint."""

import pytest
import torch
from continuous_streams import GROUPS, VARIANTS, gradients, problem, relative

from eventbook.models.egru_continuous.function import egru_continuous
from eventbook.models.egru_continuous.reference import egru_continuous_reference


@pytest.mark.parametrize("variant", VARIANTS[::3], ids=lambda variant: "-".join(variant.values()))
def test_runs_and_gradients_are_those_of_the_twin(variant):
    p = problem()
    ours, its = egru_continuous(**p, **variant), egru_continuous_reference(**p, **variant, step=0.05)
    for name, expected in its._asdict().items():
        assert (getattr(ours, name) - expected).abs().max() < 1e-6, name
    found = gradients(egru_continuous, p, **variant)
    expected = gradients(egru_continuous_reference, p, **variant, step=0.05)
    assert all(relative(found[group], expected[group]) < 1e-6 for group in GROUPS)


def test_the_twin_without_events_has_empty_ones():
    p = problem()
    p["threshold"] = p["threshold"] + 5
    run = egru_continuous_reference(**p, step=1.0)
    assert run.time.shape == run.value.shape == run.slope.shape == (0,)
    assert run.unit.dtype == torch.int64

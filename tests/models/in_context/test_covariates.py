"""Real inputs: centred, of one variance, white if wanted."""

import math

import pytest
import torch
from sklearn.decomposition import PCA

from eventbook.models.in_context.covariates import principal_components, raw, whitened


def rows(count=200, features=5):
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(count, features, generator=generator) @ torch.randn(
        features, features, generator=generator
    )
    return mixed * torch.tensor([5.0, 3.0, 1.0, 1.0, 0.2]) + 7


def covariance(x):
    assert x.double().mean(0).abs().max() < 1e-6
    return x.double().mT @ x.double() / len(x)


def test_raw_keeps_the_shape_and_sets_the_size():
    S = covariance(raw(rows()))
    assert float(S.trace()) == pytest.approx(5 / 12, rel=1e-5)
    T = torch.cov(rows().double().T, correction=0)
    assert (S / S.trace() - T / T.trace()).abs().max() < 1e-5


def test_whitened_is_white():
    assert (covariance(whitened(rows())) - torch.eye(5, dtype=torch.float64) / 12).abs().max() < 1e-6
    assert (covariance(raw(rows())) - torch.eye(5, dtype=torch.float64) / 12).abs().max() > 0.01


def test_components_are_those_of_scikit_learn_up_to_sign():
    found = principal_components(rows(), 3)
    expected = torch.from_numpy(PCA(3).fit_transform(rows().double().numpy()))
    assert (found.abs() - expected.abs()).abs().max() < 1e-4


def test_a_sign_does_not_depend_on_that_of_the_data():
    flipped = -(rows() - rows().mean(0))
    assert (principal_components(flipped, 2) + principal_components(rows(), 2)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: principal_components(rows(), 6), "count must be at most 5, got 6"),
        (lambda: principal_components(rows(), 0), "count must be >= 1, got 0"),
        (lambda: raw(torch.ones(4, 2)), "rows must differ, got equal ones"),
        (lambda: raw(torch.full((4, 2), math.nan)), "rows must be finite"),
        (lambda: raw(torch.zeros(4)), r"rows must be \(row, features\)"),
        (lambda: whitened(torch.rand(9, 1).expand(9, 2)), "rows must vary in every direction"),
    ],
)
def test_bad_input_gets_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)

"""Event pooling: equal to the twin, gaps conserved, padding without influence, gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.encoders import gaps_of, pool_average, pool_last, pool_time
from eventbook.kernels.encoders.pooling import pool_reference

POOLS = {"last": pool_last, "average": pool_average, "time": pool_time}
each_mode = pytest.mark.parametrize("mode", POOLS)


def inputs(batch: int, time: int, channels: int, dtype=torch.float64, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(batch, time, channels, dtype=dtype, generator=generator)
    gap = torch.rand(batch, time, dtype=dtype, generator=generator)
    gap[gap < 0.3] = 0.0  # simultaneous events
    return values, gap


@each_mode
@given(batch=st.integers(0, 3), time=st.integers(0, 20), channels=st.integers(1, 5), stride=st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_equal_to_the_twin(mode, batch, time, channels, stride):
    values, gap = inputs(batch, time, channels)
    pooled = POOLS[mode](values, gap, stride)
    assert pooled.values.shape == (batch, time // stride, channels)
    for row in range(batch):
        expected, gaps = pool_reference(mode, values[row], gap[row], stride)
        torch.testing.assert_close(pooled.values[row], expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(pooled.gap[row], gaps, rtol=1e-12, atol=1e-12)
    kept = time // stride * stride  # no time is lost but that of the dropped group
    torch.testing.assert_close(pooled.gap.sum(1), gap[:, :kept].sum(1), rtol=1e-12, atol=1e-12)


@each_mode
def test_stride_one_changes_nothing(mode):
    values, gap = inputs(2, 9, 3)
    pooled = POOLS[mode](values, gap, 1)
    torch.testing.assert_close(pooled.values, values)
    torch.testing.assert_close(pooled.gap, gap)


@each_mode
def test_padding_has_no_influence(mode):
    values, gap = inputs(3, 20, 4)
    lengths = torch.tensor([20, 11, 3])
    mask = torch.arange(20) < lengths[:, None]
    other = torch.where(mask[..., None], values, 1e6)
    other_gap = torch.where(mask, gap, 1e6)
    ours, theirs = POOLS[mode](values, gap, 4, lengths), POOLS[mode](other, other_gap, 4, lengths)
    assert ours.lengths.tolist() == [5, 2, 0]
    for row, count in enumerate(ours.lengths):
        assert torch.equal(ours.values[row, :count], theirs.values[row, :count])
        assert torch.equal(ours.gap[row, :count], theirs.gap[row, :count])
    # Negative control: the dropped partial group would have been mixed with padding.
    assert not torch.allclose(ours.gap[1, 2], theirs.gap[1, 2])


def test_summed_gaps_are_the_times_between_kept_events_at_every_stage():
    stamps = np.sort(np.random.default_rng(0).integers(0, 300_000, 203))
    gap = torch.from_numpy(gaps_of(stamps)).double()[None]
    at = torch.from_numpy(stamps).double()[None, :, None]  # each event carries its own stamp
    for _ in range(2):
        at, gap, _ = pool_last(at, gap, 4)
        between = at[0, 1:, 0] - at[0, :-1, 0]
        torch.testing.assert_close(gap[0, 1:], between / 1_000, rtol=1e-6, atol=1e-6)
    assert at.shape[1] == 12  # 203 // 4 // 4


def test_the_released_combination_is_one_group_late():
    """Negative control: gaps that begin at their event, and the first member of each group."""
    stamps = np.sort(np.random.default_rng(0).integers(0, 300_000, 203))
    gap = torch.from_numpy(gaps_of(stamps, "as_released"))
    first = stamps[:-1][:200:4]
    between = np.diff(first) / 1_000
    summed = pool_last(torch.zeros(1, 202, 1), gap[None], 4).gap[0].numpy()
    np.testing.assert_allclose(summed[:-1], between, rtol=1e-5)
    assert not np.allclose(summed[1:], between, rtol=0.1)


def test_simultaneous_events_have_a_mean():
    values = torch.tensor([[[1.0], [3.0]]])
    assert pool_time(values, torch.zeros(1, 2), 2).values.item() == pytest.approx(2.0)


def test_long_gaps_weigh_more():
    values = torch.tensor([[[1.0], [3.0]]])
    assert pool_time(values, torch.tensor([[1.0, 3.0]]), 2).values.item() == pytest.approx(2.5)
    assert pool_average(values, torch.tensor([[1.0, 3.0]]), 2).values.item() == pytest.approx(2.0)
    assert pool_last(values, torch.tensor([[1.0, 3.0]]), 2).values.item() == pytest.approx(3.0)


@each_mode
@pytest.mark.parametrize("needs", [(True, False), (False, True), (True, True)])
def test_gradients(mode, needs):
    values, gap = inputs(2, 11, 3)
    gap = gap + 0.1
    values.requires_grad_(needs[0])
    gap.requires_grad_(needs[1])
    assert torch.autograd.gradcheck(lambda v, g: POOLS[mode](v, g, 3)[:2], (values, gap))


@each_mode
def test_single_precision(mode):
    values, gap = inputs(2, 64, 8)
    single = POOLS[mode](values.float(), gap.float(), 8)
    assert single.values.dtype == single.gap.dtype == torch.float32
    torch.testing.assert_close(
        single.values.double(), POOLS[mode](values, gap, 8).values, rtol=1e-5, atol=1e-5
    )


@each_mode
def test_views_that_are_not_contiguous(mode):
    values, gap = inputs(2, 12, 4)
    pooled = POOLS[mode](values[:, ::2, 1:3], gap[:, ::2], 3)
    torch.testing.assert_close(
        pooled.values, POOLS[mode](values[:, ::2, 1:3].clone(), gap[:, ::2].clone(), 3).values
    )


@each_mode
def test_errors(mode):
    pool, (values, gap) = POOLS[mode], inputs(2, 6, 3)
    with pytest.raises(ValueError, match="stride must be >= 1, got -2"):
        pool(values, gap, -2)
    with pytest.raises(ValueError, match="stride must be >= 1, got 0"):
        pool(values, gap, 0)
    with pytest.raises(ValueError, match=r"gap must be \(batch, time\) = \(2, 6\), got \(2, 5\)"):
        pool(values, gap[:, :5], 2)
    with pytest.raises(ValueError, match=r"values must be \(batch, time, channel\), got \(2, 6\)"):
        pool(gap, gap, 2)
    with pytest.raises(TypeError, match="gap must have the dtype of values"):
        pool(values, gap.float(), 2)
    with pytest.raises(TypeError, match="values must be float32 or float64, got int64"):
        pool(values.long(), gap.long(), 2)
    with pytest.raises(ValueError, match=r"lengths\[1\] must be in 0\.\.6 \(time\), got 7"):
        pool(values, gap, 2, torch.tensor([6, 7]))
    with pytest.raises(ValueError, match=r"lengths\[0\] must be in 0\.\.6 \(time\), got -1"):
        pool(values, gap, 2, torch.tensor([-1, 6]))
    with pytest.raises(ValueError, match=r"lengths must be \(batch,\) = \(2,\), got \(3,\)"):
        pool(values, gap, 2, torch.tensor([6, 5, 4]))
    with pytest.raises(TypeError, match="lengths must be int64 or int32, got float32"):
        pool(values, gap, 2, torch.tensor([6.0, 5.0]))

"""Pooling of rows as that of vectors, which member is kept, groups that are not full."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from event_by_event import relative
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.kernels.encoders.pooling import pool_reference
from eventbook.models.event_ssm.pooling import KEPT, MODES, keep, pool_rows, pool_vectors


def problem(batch: int, time: int):
    g = torch.Generator().manual_seed(batch + 100 * time)
    table = torch.randn(5, 3, dtype=torch.float64, generator=g)
    token = torch.randint(5, (batch, time), generator=g)
    gap = torch.rand(batch, time, dtype=torch.float64, generator=g) * (token > 1)  # some are simultaneous
    return table, token, gap, torch.full((batch,), time)


@given(
    mode=st.sampled_from(list(MODES)), kept=st.sampled_from(KEPT), batch=st.integers(0, 3),
    time=st.integers(0, 9), stride=st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_rows_are_pooled_as_their_vectors(mode, kept, batch, time, stride):
    table, token, gap, lengths = problem(batch, time)
    found = []
    for of_rows in (True, False):
        rows, since = table.clone().requires_grad_(), gap.clone().requires_grad_()
        if of_rows:
            pooled = pool_rows(mode, kept, rows, token, since, stride, lengths)
        else:
            pooled = pool_vectors(mode, kept, rows[token], since, stride, lengths)
        loss = (pooled.values * torch.arange(3)).square().sum() + (pooled.gap**2).sum()
        loss.backward()
        # a mean by time of simultaneous events: its gradient to a gap is a difference, divided by 1e-6
        found.append((pooled.values, pooled.gap, rows.grad, 1e-5 * since.grad, pooled.lengths))
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        assert not ours.numel() or (ours - theirs).abs().max() < 1e-13 * (1 + theirs.abs().max())


@pytest.mark.parametrize(("mode", "kept"), [*product(MODES, KEPT)])
def test_vectors_are_pooled_as_their_equation_says(mode, kept):
    table, token, gap, lengths = problem(2, 8)
    pooled = pool_vectors(mode, kept, table[token], gap, 3, lengths)
    for row in range(2):
        values, gaps = pool_reference(mode, table[token[row]], gap[row], 3)
        if mode == "last" and kept == "first":
            values = table[token[row, [0, 3]]]
        assert relative(pooled.values[row], values) < 1e-14
        assert relative(pooled.gap[row], gaps) < 1e-14


def test_the_kept_member_and_its_dtype():
    x = torch.arange(14).reshape(1, 7, 2)
    assert keep(x, 3, "last")[0, :, 0].tolist() == [4, 10]
    assert keep(x, 3, "first")[0, :, 0].tolist() == [0, 6]
    assert keep(x[:, :2], 3, "first").shape == (1, 0, 2)
    z = torch.randn(2, 7, 2, dtype=torch.complex128)
    assert torch.equal(keep(z, 2, "last"), z[:, 1::2])
    assert keep(z, 2, "first").is_contiguous()


def test_summed_gaps_are_the_time_between_kept_events_if_both_look_back():
    """Aligned gaps and the last member belong together, at every stage; the first member does not fit."""
    g = torch.Generator().manual_seed(0)
    stamp = torch.rand(1, 27, dtype=torch.float64, generator=g).cumsum(1)
    first_gap = torch.diff(stamp, prepend=stamp[:, :1])
    for kept, fits in (("last", True), ("first", False)):
        gap, at = first_gap, stamp
        for _ in range(2):
            pooled = pool_vectors("last", kept, at[..., None], gap, 3, torch.tensor([at.shape[1]]))
            gap, at = pooled.gap, pooled.values[..., 0]
            assert (relative(gap[:, 1:], at.diff()) < 1e-14) == fits

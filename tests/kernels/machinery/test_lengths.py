"""Lengths of padded rows are integers within the time there is; the first that is not is named."""

import pytest
import torch

from eventbook.kernels.machinery.lengths import check_lengths, without_padding


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("bad", [-1, 6, 99])
def test_a_compiled_graph_looks_at_lengths_when_it_runs(bad, dynamic):
    def ends(values, lengths):
        lengths = check_lengths(lengths, values.shape[1], 1)
        return (values * (torch.arange(values.shape[1]) < lengths[:, None])).sum()

    compiled = torch.compile(ends, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    values, good = torch.ones(2, 5), torch.tensor([5, 1])
    assert compiled(values, good) == ends(values, good) == 6
    for function in (ends, compiled):
        with pytest.raises(ValueError, match=rf"lengths\[1\] must be in 1..5 \(time\), got {bad}"):
            function(values, torch.tensor([5, bad]))
    assert compiled(values, good) == 6


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_lengths_within_the_time_pass(dtype):
    check_lengths(torch.tensor([0, 3, 5], dtype=dtype), 5)
    check_lengths(torch.empty(0, dtype=dtype), 0)


@pytest.mark.parametrize("bad, complaint", [([5, 6, 7], r"\[1\] .* 1..5 \(time\), got 6"), ([0], "got 0")])
def test_the_first_that_is_out_of_range_is_named(bad, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_lengths(torch.tensor(bad), 5, least=1)


def test_numbers_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match="lengths must be int64 or int32, got float32"):
        check_lengths(torch.ones(2), 5)
    with pytest.raises(TypeError, match="lengths must be a tensor, got list"):
        check_lengths([1, 2], 5)


def test_what_stands_behind_a_length_is_gone_and_gets_no_gradient():
    values = torch.ones(2, 3, 2, requires_grad=True)
    spoilt = values + torch.tensor([[0.0, torch.nan, torch.inf], [0.0, 0.0, 0.0]])[..., None]
    found = without_padding(spoilt, torch.tensor([1, 3]))
    assert torch.equal(found[..., 0], torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    (gradient,) = torch.autograd.grad((found * 2).sum(), values)
    assert torch.equal(gradient, 2 * found.detach())

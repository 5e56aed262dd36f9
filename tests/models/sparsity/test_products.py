"""One matrix over several calls: counts add up, and those of another matrix do not."""

import pytest
import torch

from eventbook.models.sparsity.products import one_step_before, product_of

KEPT = torch.tensor([2, 0, 3])


def product(sent: list[list[float]], steps: list[bool] | None = None, name: str = "R", kept=KEPT):
    values = torch.tensor([sent])
    here = torch.tensor([steps or [True] * len(sent)])
    return product_of(name, values, here, kept, 3, None)


def test_counts_by_hand():
    found = product([[1.0, 2.0, 0.0], [0.0, 0.0, 4.0], [5.0, 5.0, 5.0]], [True, True, False])
    assert found.spoken.tolist() == [1, 1, 1]
    assert found.tokens == 2
    assert found.effective == 2 + 0 + 3
    assert found.dense == 2 * 3 * 3
    assert found.executed == 3 * 3 * 3  # padding is multiplied, too, where nobody counts
    assert found.ratio == 5 / 18
    assert not found.binary


def test_calls_add_up():
    first, second = product([[1.0, 0.0, -1.0]]), product([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])
    both = first.plus(second)
    whole = product([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])
    assert both.spoken.tolist() == whole.spoken.tolist()
    assert both[3:] == whole[3:]
    assert first.binary
    assert not both.binary


@pytest.mark.parametrize("other", [{"name": "W"}, {"kept": torch.tensor([2, 1, 3])}])
def test_of_another_matrix_is_refused(other):
    with pytest.raises(ValueError, match="products must be of one matrix, got R and"):
        product([[1.0, 0.0, 0.0]]).plus(product([[1.0, 0.0, 0.0]], **other))


def test_what_was_said_before():
    said = torch.arange(6.0).view(1, 3, 2)
    assert one_step_before(said, torch.tensor([[8.0, 9.0]])).tolist() == [[[8, 9], [0, 1], [2, 3]]]
    assert one_step_before(said[:, :0], torch.tensor([[8.0, 9.0]])).shape == (1, 0, 2)

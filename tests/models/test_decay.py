"""What decays: matrices, and vectors that are what is left of matrices."""

import pytest
import torch
from torch import nn

from eventbook.models.decay import matrices_decay
from eventbook.models.egru import EGRU, CompressedCell, compress

LR, DECAY = 0.1, 0.5


def names_of(model, group):
    """Names of the parameters of a group, in order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for parameter in group["params"]]


def pruned():
    """A network under masks, the masks, and the same network on what is left of it."""
    generator = torch.Generator().manual_seed(0)
    model, masks = EGRU(5, 9, 2, generator=generator).double(), {}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            masks[name] = torch.rand(parameter.shape, generator=generator) < 0.3
            parameter.data.mul_(masks[name])
    return model, masks, compress(model, masks)


def without_gradient(model):
    """One step of AdamW for gradients of zero."""
    optimizer = torch.optim.AdamW(matrices_decay(model, LR, DECAY))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def test_matrices_decay_and_vectors_do_not():
    model = nn.Sequential(nn.Linear(3, 2), nn.Conv1d(2, 2, 3), nn.LayerNorm(2))
    decayed, others = matrices_decay(model, LR, DECAY)
    assert names_of(model, decayed) == ["0.weight", "1.weight"]
    assert names_of(model, others) == ["0.bias", "1.bias", "2.weight", "2.bias"]
    assert (decayed["lr"], others["lr"]) == (LR, LR)
    assert (decayed["weight_decay"], others["weight_decay"]) == (DECAY, 0.0)


def test_what_is_not_trained_is_in_no_group():
    model = nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    decayed, others = matrices_decay(model, LR, DECAY)
    assert (decayed["params"], names_of(model, others)) == ([], ["bias"])


def test_stored_weights_decay_like_the_matrices_they_are_left_of():
    model, masks, small = pruned()
    decayed, others = matrices_decay(small, LR, DECAY)
    assert names_of(small, decayed) == [
        f"cells.{number}.{name}_values" for number in (0, 1) for name in ("kernel", "recurrent_kernel")
    ]
    assert len(decayed["params"]) + len(others["params"]) == len(list(small.parameters()))
    before = {name: model.get_parameter(name).detach().clone() for name in masks}
    without_gradient(model)
    without_gradient(small)
    for number, cell in enumerate(small.cells):
        for name in ("kernel", "recurrent_kernel"):
            dense = getattr(model.cells[number], name)
            assert torch.equal(getattr(cell, name), dense)
            expected = before[f"cells.{number}.{name}"] * (1 - LR * DECAY)
            torch.testing.assert_close(dense.detach(), expected, rtol=1e-14, atol=0)
        assert torch.equal(cell.bias, model.cells[number].bias)


def test_without_their_names_they_would_not(monkeypatch):
    """Control: by their axes alone the stored weights are vectors."""
    model, _, small = pruned()
    monkeypatch.setattr(CompressedCell, "matrix_entries", ())
    decayed, _ = matrices_decay(small, LR, DECAY)
    assert decayed["params"] == []
    without_gradient(model)
    without_gradient(small)
    assert not torch.equal(small.cells[0].kernel, model.cells[0].kernel)


def test_a_name_that_is_no_parameter_is_said():
    class Odd(nn.Linear):
        matrix_entries = ("weights",)

    with pytest.raises(AttributeError, match="has no attribute `weights`"):
        matrices_decay(Odd(3, 2), LR, DECAY)

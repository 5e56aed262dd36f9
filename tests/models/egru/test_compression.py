"""A pruned network and the one that stores what is left of it."""

import copy

import pytest
import torch
from torch import nn

from eventbook.models.egru import EGRU, CompressedCell, EGRUStream, compress


def pruned(density=0.2, **options):
    generator = torch.Generator().manual_seed(0)
    model = EGRU(5, (16, 9), threshold=0.1, batch_first=True, generator=generator, **options)
    masks = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("kernel"):
                masks[name] = torch.rand(parameter.shape, generator=generator) < density
                parameter.mul_(3 * masks[name])
    return model, masks, torch.randn(4, 10, 5, generator=generator)


@pytest.mark.parametrize("path", ["event", "dense", "auto"])
def test_it_is_the_same_function_called_the_same_way(path):
    model, masks, x = pruned(path=path)
    small = compress(model, masks)
    assert all(isinstance(cell, CompressedCell) for cell in small.cells)
    assert not any(isinstance(cell, CompressedCell) for cell in model.cells)
    lengths = torch.tensor([10, 3, 0, 7])
    for arguments in ((x,), (x, None, lengths)):
        (output, state), (expected, other) = small(*arguments), model(*arguments)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
        for a, b in zip(state, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert (output != 0).any()


def test_it_does_less_and_stores_less():
    model, masks, x = pruned()
    small = compress(model, masks)
    for before, after in zip(model.run(x).layers, small.run(x).layers, strict=True):
        assert after.operations().events == before.operations().events
        assert 4 * after.operations().multiply_accumulates < before.operations().multiply_accumulates
    stored = sum(p.numel() for name, p in small.named_parameters() if name.endswith("values"))
    assert stored == sum(int(mask.sum()) for mask in masks.values())


def test_it_can_be_trained_and_streamed():
    model, masks, x = pruned(dropout=0.2, drop_connect=0.3)
    small = compress(model, masks).train()
    small(x)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())
    stream = EGRUStream(small.eval())
    torch.testing.assert_close(
        torch.from_numpy(stream.push(x[0].numpy())), small(x[:1])[0][0].detach(), rtol=0, atol=1e-6
    )


def test_a_state_comes_back_without_its_masks(tmp_path):
    """Into a network compressed from anything, whole or, where a layer is refused, not at all."""
    model, masks, x = pruned()
    small = compress(model, masks)
    torch.save(small.state_dict(), tmp_path / "weights.pt")
    other = compress(EGRU(5, (16, 9), threshold=0.1, batch_first=True))
    before = copy.deepcopy(other.state_dict())
    state = torch.load(tmp_path / "weights.pt")
    spoilt = state | {"cells.1.kernel_indices": state["cells.1.kernel_indices"] + 100}
    with pytest.raises(ValueError, match=r"cells\.1\.kernel_indices must be in 0\.\.26, got"):
        other.load_state_dict(spoilt)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    other.load_state_dict(state)
    assert torch.equal(other(x)[0], small(x)[0])
    assert other.cells[0].density() == small.cells[0].density()
    by_hand = compress(EGRU(5, (16, 9), threshold=0.1, batch_first=True))
    by_hand.load_state_dict(state, assign=True)
    assert torch.equal(by_hand(x)[0], small(x)[0])


def test_bad_input_is_refused():
    model, masks, _ = pruned()
    with pytest.raises(TypeError, match="model must be an EGRU, got GRU"):
        compress(nn.GRU(3, 4))
    with pytest.raises(TypeError, match=r"cell must be a plain EGRUCell .* got CompressedCell"):
        compress(compress(model))
    with pytest.raises(ValueError, match=r"masks must name parameters of the model, got 'cells.2.kernel'"):
        compress(model, {"cells.2.kernel": masks["cells.0.kernel"]})
    with pytest.raises(ValueError, match=r"masks must be \(16, 48\) for 'recurrent_kernel'"):
        compress(model, {"cells.0.recurrent_kernel": masks["cells.0.kernel"]})

"""A layer of stored weights: the function of the masked one, by either path, and states that are judged."""

import copy
import math

import pytest
import torch

from eventbook.kernels.events.egru import GATES, RESETS
from eventbook.models.egru import CompressedCell, EGRUCell, compressed_cell, run_layer
from eventbook.models.egru.cell import EGRUState

F64 = torch.float64


def problem(dtype=F64, density=0.3, **options):
    """A masked cell, its masks, an input of events, and a state."""
    generator = torch.Generator().manual_seed(2)
    cell = EGRUCell(7, 19, threshold=0.15, generator=generator, **options).to(dtype)
    masks = {}
    with torch.no_grad():
        for name in ("kernel", "recurrent_kernel"):
            weight = getattr(cell, name)
            masks[name] = torch.rand(weight.shape, generator=generator) < density
            weight.mul_(2 * masks[name])
        for bias in (cell.bias, cell.recurrent_bias):
            if bias is not None:
                bias.copy_(0.3 * torch.randn(bias.shape, generator=generator))
    x = torch.randn(3, 12, 7, generator=generator, dtype=dtype)
    x = x * (torch.rand(x.shape, generator=generator) < 0.4)
    state = EGRUState(*(torch.randn(3, 19, generator=generator, dtype=dtype) for _ in range(2)))
    return cell, masks, x, state


def with_gradients(cell, x, state, names, **options):
    """Results of a layer, and gradients of input, state, biases and stored weights."""
    leaves = [leaf.detach().requires_grad_() for leaf in (x, *state)]
    run = run_layer(cell, leaves[0], EGRUState(*leaves[1:]), **options)
    results = [run.output, run.voltage, *run.state]
    weights = [getattr(cell, name) for name in (*names, "bias", "recurrent_bias")]
    arriving = [torch.randn(r.shape, generator=torch.Generator().manual_seed(7)).to(r) for r in results]
    return results, list(torch.autograd.grad(results, [*leaves, *weights], arriving)), run


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("path", ["event", "dense", "auto"])
@pytest.mark.parametrize("events", [False, True])
def test_it_is_the_masked_layer(gate, reset, path, events):
    cell, masks, x, state = problem(reset=reset, reset_gate=gate)
    small = compressed_cell(cell, masks)
    options = {"events": events, "lengths": torch.tensor([12, 0, 5])}
    expected, gradients, _ = with_gradients(
        cell, x, state, ("kernel", "recurrent_kernel"), path="dense", **options
    )
    found, ours, run = with_gradients(
        small, x, state, ("kernel_values", "recurrent_kernel_values"), path=path, **options
    )
    for at, mask in ((3, masks["kernel"]), (4, masks["recurrent_kernel"])):
        gradients[at] = gradients[at][mask]
    for a, b in zip([*found, *ours], [*expected, *gradients], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * max(1.0, float(b.detach().abs().max())))
    assert run.path == ("dense" if path == "dense" else "event")


@pytest.mark.parametrize("gate", GATES)
def test_work_is_stored_weights_of_what_was_said(gate):
    cell, masks, x, _ = problem(reset_gate=gate)
    run = run_layer(compressed_cell(cell, masks), x, cell.silent(3), events=True)
    row, inner = (masks[name].sum(1) for name in ("kernel", "recurrent_kernel"))
    assert run.input_operations().multiply_accumulates == int(((x != 0).long() @ row).sum())
    spoken = (run.output[:, :-1] != 0).long()
    assert run.operations().multiply_accumulates == int((spoken @ inner).sum()) > 0


def test_any_optimiser_leaves_pruned_weights_out():
    cell, masks, x, state = problem(torch.float32)
    small = compressed_cell(cell, masks)
    optimizer = torch.optim.AdamW(small.parameters(), 0.05, weight_decay=0.3)
    for _ in range(3):
        optimizer.zero_grad()
        run_layer(small, x, state).output.sum().backward()
        optimizer.step()
    assert (small.recurrent_kernel[~masks["recurrent_kernel"]] == 0).all()
    assert not torch.equal(small.recurrent_kernel, cell.recurrent_kernel)


def test_without_a_mask_what_is_not_zero_is_stored():
    cell, masks, _, _ = problem()
    small = compressed_cell(cell)
    assert small.density() == float(masks["recurrent_kernel"].double().mean())
    assert small.density("kernel") == float(masks["kernel"].double().mean())
    assert torch.equal(small.kernel, cell.kernel)
    assert "recurrent_kernel density=0.2" in repr(small) or "recurrent_kernel density=0.3" in repr(small)
    assert small.like.dtype == F64


def test_one_step_is_the_cell_itself():
    cell, masks, x, state = problem()
    found, expected = compressed_cell(cell, masks)(x[:, 0], state), cell(x[:, 0], state)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_dropped_connections_are_among_the_stored():
    cell, masks, x, state = problem(torch.float32)
    small = compressed_cell(cell, masks)
    torch.manual_seed(0)
    matrix = small.rows(drop_connect=0.5)
    assert 0 < int((matrix.values == 0).sum()) < len(matrix.values)
    kept = matrix.values != 0
    assert torch.equal(matrix.values[kept], 2 * small.recurrent_kernel_values[kept])
    some = run_layer(small, x, state, drop_connect=0.5).output
    assert not torch.equal(some, run_layer(small, x, state).output)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("moved", [False, True])
def test_the_dense_way_takes_any_precision(dtype, moved):
    """Compressed before or after: the masked layer of that precision, to the bit, gradients included."""
    cell, masks, x, state = problem(torch.float32)
    small = compressed_cell(cell, masks).to(dtype) if moved else compressed_cell(cell.to(dtype), masks)
    cell, x, state = cell.to(dtype), x.to(dtype), EGRUState(*(part.to(dtype) for part in state))
    assert small.kernel.dtype == small.kernel_values.dtype == dtype
    for name in masks:
        assert torch.equal(getattr(small, name), getattr(cell, name))
    stored, names = ("kernel_values", "recurrent_kernel_values"), ("kernel", "recurrent_kernel")
    found, ours, _ = with_gradients(small, x, state, stored, path="dense")
    expected, gradients, _ = with_gradients(cell, x, state, names, path="dense")
    for at, name in ((3, "kernel"), (4, "recurrent_kernel")):
        gradients[at] = gradients[at][masks[name]]
    for a, b in zip([*found, *ours], [*expected, *gradients], strict=True):
        assert torch.equal(a, b)
    assert run_layer(small, x, state, path="auto").path == "dense"
    with pytest.raises(TypeError, match="must be float32 or float64, got"):
        run_layer(small, x, state, path="event")
    small.kernel_indices[0] = 1000
    with pytest.raises(ValueError, match=r"indices must be in 0..56, got 1000"):
        run_layer(small, x, state, path="dense")


def test_copies_states_and_graphs():
    cell, masks, x, state = problem()
    small = compressed_cell(cell, masks)
    said = run_layer(small, x, state).output
    other = copy.deepcopy(small)
    assert other.rows().indptr is other.recurrent_kernel_indptr
    with torch.no_grad():
        other.recurrent_kernel_values.zero_()
    assert not torch.equal(run_layer(other, x, state).output, said)
    other.load_state_dict(small.state_dict())
    assert torch.equal(run_layer(other, x, state).output, said)
    single = small.to(torch.float32)
    assert run_layer(single, x.float(), EGRUState(*(p.float() for p in state))).output.dtype == torch.float32

    def run(x):
        return run_layer(other, x, state, events=True).output

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), run(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "key, change, complaint",
    [
        ("kernel_indices", lambda t: t + 100, r"^kernel_indices must be in 0..56"),
        ("recurrent_kernel_indices", lambda t: t.flip(0), "^recurrent_kernel_indices must ascend within a"),
        ("recurrent_kernel_indptr", lambda t: t.flip(0), "^recurrent_kernel_indptr must run from 0"),
        (
            "recurrent_kernel_indptr",
            lambda t: t[1:],
            r"_indptr must be \(20,\) like the sources, got \(19,\)",
        ),
        (
            "recurrent_kernel_indices",
            lambda t: t[1:],
            r"_values must be \(\d+,\) like the indices of the .* got",
        ),
        ("recurrent_kernel_indices", lambda t: t[None], r"_indices must be \(stored,\), got \(1, "),
        (
            "recurrent_kernel_values",
            lambda t: t.tolist(),
            "recurrent_kernel_values must be a tensor, got list",
        ),
        ("kernel_values", lambda t: t[1:], r"kernel_values must be \(\d+,\) like the indices of the .* got"),
        ("kernel_indptr", lambda t: t.double(), "kernel_indptr and indices must be integers, got floats"),
    ],
)
def test_a_bad_state_is_refused_and_changes_nothing(key, change, complaint):
    cell, masks, _, _ = problem()
    small = compressed_cell(cell, masks)
    before = copy.deepcopy(small.state_dict())
    spoilt = {name: 3 * value if name.endswith("values") else value for name, value in before.items()}
    with pytest.raises(ValueError, match=complaint):
        small.load_state_dict({**spoilt, key: change(before[key])})
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def other_masks(cell, seed=8, density=0.6):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(getattr(cell, name).shape, generator=generator) < density
        for name in ("kernel", "recurrent_kernel")
    }


@pytest.mark.parametrize("path", ["event", "dense"])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_state_made_with_other_masks_is_taken_as_it_is(path, fresh):
    """More stored weights or fewer, into a layer that has run; gradients, too, are those of the other."""
    cell, masks, x, state = problem()
    saved = compressed_cell(cell, masks)
    other = compressed_cell(EGRUCell(7, 19, threshold=0.15).double(), None if fresh else other_masks(cell))
    kept = dict(other.named_parameters())
    graph = run_layer(other, x, state, path=path).output.sum()
    graph.backward()
    other.load_state_dict(saved.state_dict())
    assert all(parameter is kept[name] for name, parameter in other.named_parameters())
    assert other.recurrent_kernel_values.grad is None
    found, expected = (
        with_gradients(c, x, state, ("kernel_values", "recurrent_kernel_values"), path=path)
        for c in (other, saved)
    )
    for a, b in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        assert torch.equal(a, b)
    run_layer(other, x, state, path=path).output.sum().backward()
    assert other.recurrent_kernel_values.grad.shape == saved.recurrent_kernel_values.shape
    assert torch.equal(other.recurrent_kernel, cell.recurrent_kernel)


def test_a_state_of_which_a_part_is_missing_leaves_the_others_fitting():
    cell, masks, _, _ = problem()
    saved, other = compressed_cell(cell, masks).state_dict(), compressed_cell(cell, other_masks(cell))
    before = copy.deepcopy(other.state_dict())
    for missing in ("kernel_values", "kernel_indices", "kernel_indptr"):
        partial = {name: value for name, value in saved.items() if name != missing}
        with pytest.raises(ValueError, match=r"kernel_(values must be|indptr must run)"):
            other.load_state_dict(partial, strict=False)
        assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    assert len(other.load_state_dict({}, strict=False).missing_keys) == len(before)


def test_indices_that_were_spoilt_are_looked_at_again():
    cell, masks, x, state = problem()
    small = compressed_cell(cell, masks)
    small.recurrent_kernel_indices[0] = 1000
    for path in ("event", "dense"):
        with pytest.raises(ValueError, match=r"indices must be in 0..56, got 1000"):
            run_layer(small, x, state, path=path)


def test_bad_masks_are_refused():
    cell, masks, _, _ = problem()
    with pytest.raises(ValueError, match="masks must be of kernel and recurrent_kernel, got 'bias'"):
        compressed_cell(cell, {"bias": masks["kernel"]})
    with pytest.raises(ValueError, match=r"masks must be \(7, 57\) for 'kernel', .* got \(57, 7\)"):
        compressed_cell(cell, {"kernel": masks["kernel"].t()})
    with pytest.raises(TypeError, match="masks must be bool, got float32 for 'kernel'"):
        compressed_cell(cell, {"kernel": masks["kernel"].float()})
    with pytest.raises(
        TypeError, match="cell must be a plain EGRUCell with dense parameters, got Compressed"
    ):
        compressed_cell(compressed_cell(cell))


def test_a_fixed_kernel_stays_fixed_and_nan_is_stored():
    cell, _, _, _ = problem()
    cell.kernel.requires_grad_(False)
    with torch.no_grad():
        cell.kernel[0, 0] = math.nan
    small = compressed_cell(cell)
    assert isinstance(small, CompressedCell)
    assert not small.kernel_values.requires_grad
    assert small.recurrent_kernel_values.requires_grad
    assert small.kernel[0, 0].isnan()

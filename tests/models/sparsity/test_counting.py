"""Counts of what a network leaves out: against loops, closed forms, and what kernels counted."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from eventbook.learning.pruning import rewire
from eventbook.learning.rewiring.sparse_linear import FreeSparseLinear, SparseLinear
from eventbook.models.egru import EGRU, compress
from eventbook.models.egru_continuous import EGRUContinuous
from eventbook.models.sparsity import (
    ActivationSparsity,
    ConnectionSparsity,
    SynapticOperations,
    dense_macs,
    measure_sparsity,
    modelled_macs,
    noise_of_random_masks,
    split_of_ratio,
)

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def masked_egru(density=0.3, sizes=(20, 13), seed=0, **options):
    model = EGRU(6, sizes, threshold=0.1, batch_first=True, generator=seeded(seed), **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("kernel"):
                keep = torch.rand(parameter.shape, generator=seeded(seed + 1)) < density
                parameter.mul_(2 * keep)
    return model, torch.randn(3, 15, 6, generator=seeded(seed + 2))


def counted_by_hand(weight, sent):
    """Products of something with something; weight: (source, target); sent: rows of sources."""
    return sum(int((row != 0).long() @ (weight != 0).sum(1)) for row in sent)


# --- the package's own -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["after", "before"])
def test_compressed_rows_do_exactly_what_is_effective(gate):
    model, x = masked_egru(reset_gate=gate, event_input=True)
    x = x * (x.abs() > 1)
    found = measure_sparsity(compress(model), x)
    for product in found.products:
        assert product.executed == product.effective > 0, product.name
        assert product.effective < product.dense
    operations = found.operations
    assert operations.executed == operations.effective_macs
    assert operations.dense == 45 * dense_macs(6, (20, 13))
    dense_rows = measure_sparsity(model, x).operations  # silent units skipped, pruned weights not
    assert dense_rows[:3] == operations[:3]
    assert operations.executed < dense_rows.executed < operations.dense


def test_what_is_counted_is_what_a_loop_counts_over_the_tokens_alone():
    model, x = masked_egru()
    lengths = torch.tensor([15, 4, 0])
    x[1, 4:] = math.nan
    state = model(x[:, :3])[1]
    found = measure_sparsity(model, x, state, lengths)
    run = model.run(x, state, lengths)
    expected = []
    sent = [x, *(layer.output for layer in run.layers)]
    for number, cell in enumerate(model.cells):
        before = torch.cat([state[number].output[:, None], run.layers[number].output], 1)[:, :15]
        for weight, values in ((cell.kernel, sent[number]), (cell.recurrent_kernel, before)):
            rows = [values[row, t] for row in range(3) for t in range(int(lengths[row]))]
            expected.append(counted_by_hand(weight, rows))
    assert [product.effective for product in found.products] == expected
    assert all(product.tokens == 19 for product in found.products)
    silent = sum(
        int((layer.output[row, : int(lengths[row])] == 0).sum()) for layer in run.layers for row in range(3)
    )
    assert found.activation == (silent, 19 * 33)
    assert found.activation.share == pytest.approx(
        1 - sum(layer.activity() * layer.output.shape[2] for layer in run.layers) / 33
    )


def test_the_dense_path_does_everything():
    model, x = masked_egru(path="dense")
    operations = measure_sparsity(model, x).operations
    assert operations.executed == operations.dense > operations.effective_macs


def test_dropout_is_off_while_counting_and_back_on_after():
    model, x = masked_egru(dropout=0.5, drop_connect=0.5)
    model.cells[1].eval()
    first, again = measure_sparsity(model, x), measure_sparsity(model, x)
    assert first.operations == again.operations
    assert (model.training, model.cells[0].training, model.cells[1].training) == (True, True, False)


# --- torch's -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, gates", [(nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_dense_network_leaves_out_its_first_state_and_no_more(kind, gates, batch_first):
    torch.manual_seed(0)
    model = kind(6, 9, 2, batch_first=batch_first, dropout=0.4)
    x = torch.randn(3, 15, 6)
    found = measure_sparsity(model, x if batch_first else x.transpose(0, 1))
    dense = 45 * dense_macs(6, (9, 9), gates)
    assert found.operations == SynapticOperations(dense - 3 * 2 * gates * 81, 0, dense, dense, 45)
    assert found.activation == (0, 45 * 18)
    assert found.connection.share == 0
    per_token = found.operations.per_token()
    assert per_token["dense"] == dense_macs(6, (9, 9), gates)
    assert set(per_token) == {"effective_macs", "effective_acs", "dense", "executed"}


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_pruned_weights_and_silent_inputs_of_torch(kind):
    torch.manual_seed(0)
    model = kind(6, 9, 2, batch_first=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("weight"):
                parameter.mul_(torch.rand(parameter.shape) < 0.3)
    x = torch.randn(2, 7, 6) * (torch.rand(2, 7, 6) < 0.5)
    state = torch.randn(2, 2, 9)
    found = measure_sparsity(model, x, (state, state) if kind is nn.LSTM else state)
    below = counted_by_hand(model.weight_ih_l0.t(), x.flatten(0, 1))
    inside = 14 * int(model.weight_hh_l1.count_nonzero())  # an initial state counts
    assert (found.products[0].effective, found.products[3].effective) == (below, inside)
    zeros = sum(int((p == 0).sum()) for name, p in model.named_parameters() if name.startswith("weight"))
    assert found.connection.zeros == zeros


def test_inputs_of_spikes_are_accumulates():
    torch.manual_seed(0)
    model, x = nn.GRU(6, 9, batch_first=True), torch.randn(2, 7, 6).sign()
    x[0, 3] = 0
    operations = measure_sparsity(model, x).operations
    assert operations.effective_acs == 13 * 6 * 27
    assert operations.effective_macs == 12 * 9 * 27
    assert measure_sparsity(model, 2 * x).operations.effective_acs == 0  # control


def test_layers_of_torch_are_taken_apart_rightly():
    """Control of the layer-by-layer run: the last layer says what the whole network says."""
    torch.manual_seed(0)
    model, x = nn.LSTM(6, 9, 3), torch.randn(7, 2, 6)
    with torch.no_grad():  # half of the last layer's units are cut from everything and rest at 0
        for part in ("weight_ih_l2", "weight_hh_l2", "bias_ih_l2", "bias_hh_l2"):
            getattr(model, part).view(4, 9, -1)[:, :4] = 0
    expected = int((model(x)[0] == 0).sum())
    assert measure_sparsity(model, x).activation.silent == expected == 14 * 4


# --- connections -------------------------------------------------------------------------------------------


def test_connections_of_all_kinds_count():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 6), nn.Conv1d(6, 4, 3), nn.LSTMCell(4, 5), nn.Linear(5, 2))
    weights = 6 * 4 * 3 + 20 * 9 + 10
    assert ConnectionSparsity.of(model) == (0, weights)
    torch_prune.l1_unstructured(model[3], "weight", amount=4)
    with torch.no_grad():
        model[1].weight[0] = 0
    assert ConnectionSparsity.of(model) == (4 + 18, weights)
    egru, _ = masked_egru()
    assert ConnectionSparsity.of(egru) == ConnectionSparsity.of(compress(egru))
    assert 0.6 < ConnectionSparsity.of(egru).share < 0.8
    assert ConnectionSparsity.of(nn.Embedding(3, 4)).share == 0


def test_layers_that_store_some_connections_are_counted_as_the_matrices_they_are():
    for layer in (SparseLinear(10, 8, connectivity=0.1), FreeSparseLinear(10, 8, connectivity=0.1)):
        assert ConnectionSparsity.of(nn.Sequential(layer, nn.ReLU())) == (72, 80)
    with torch.no_grad():
        (layer := SparseLinear(10, 8, budget=8)).theta[:3] = -1  # dormant
    assert ConnectionSparsity.of(layer) == (75, 80)
    rewired = rewire(EGRU(3, 4), 0.5)
    assert ConnectionSparsity.of(rewired) == (18 + 24, 36 + 48)
    continuous = EGRUContinuous(3, 5)
    with torch.no_grad():
        continuous.kernel[0] = 0
    assert ConnectionSparsity.of(continuous) == (15, 3 * 15 + 5 * 15)


def test_batches_add_up():
    model, x = masked_egru()
    whole, parts = measure_sparsity(model, x), [measure_sparsity(model, row[None]) for row in x]
    activation, operations = ActivationSparsity(), SynapticOperations()
    for part in parts:
        activation, operations = activation.plus(part.activation), operations.plus(part.operations)
    assert (activation, operations) == (whole.activation, whole.operations)
    assert SynapticOperations().per_token()["dense"] == 0


# --- the identity ------------------------------------------------------------------------------------------


def trained(model, x):
    """A few steps, and masks by magnitude: weights and activity then know of each other."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        (model(x)[0] - x[..., :1]).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        for cell in model.cells:
            for weight in (cell.kernel, cell.recurrent_kernel):
                limit = weight.abs().flatten().kthvalue(round(0.8 * weight.numel())).values
                weight.mul_(weight.abs() > limit)


@pytest.mark.parametrize("mask", ["random", "row-biased", "trained"])
def test_the_ratio_is_the_product_and_a_covariance(mask):
    model, x = masked_egru(0.3 if mask == "random" else 1.0)
    if mask == "trained":
        trained(model, x)
    if mask == "row-biased":
        with torch.no_grad():
            for cell in model.cells:
                for weight in (cell.kernel, cell.recurrent_kernel):
                    share = torch.linspace(0, 1, len(weight))[:, None]
                    weight.mul_(torch.rand(weight.shape, generator=seeded(5)) < share)
    for product in measure_sparsity(model, x).products:
        independent, covariance = split_of_ratio(product.activity(), product.row_density())
        assert product.ratio == pytest.approx(independent + covariance, abs=1e-12)
        assert product.ratio > 0


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_the_identity_holds_for_any_numbers(data):
    n, share = data.draw(st.integers(1, 30)), st.floats(0, 1)
    a = torch.tensor(data.draw(st.lists(share, min_size=n, max_size=n)), dtype=F64)
    w = torch.tensor(data.draw(st.lists(share, min_size=n, max_size=n)), dtype=F64)
    assert sum(split_of_ratio(a, w)) == pytest.approx(float((a * w).mean()), abs=1e-12)


def test_masks_that_keep_weights_of_active_units_break_the_product_rule():
    model, x = masked_egru(1.0, sizes=(64,))
    before = measure_sparsity(model, x).products[1]
    active = before.activity() > before.activity().median()
    with torch.no_grad():
        model.cells[0].recurrent_kernel[~active] = 0
    product = measure_sparsity(model, x).products[1]
    independent, covariance = split_of_ratio(product.activity(), product.row_density())
    assert product.ratio / independent > 1.2
    assert covariance > 0


@pytest.mark.parametrize("activity", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_random_masks_stay_within_their_noise(activity, density):
    sources, tokens, targets = 300, 50, 900
    spoken = (torch.rand(tokens, sources, generator=seeded(1)) < activity).sum(0)
    kept = (torch.rand(sources, targets, generator=seeded(2)) < density).sum(1)
    counted = int(spoken @ kept)
    ratio = counted / (spoken.sum() / sources * kept.sum())
    assert abs(float(ratio) - 1) <= 3 * noise_of_random_masks(density, targets, spoken)


@pytest.mark.parametrize("times", [[1] * 30, [1] * 10 + [20] * 3], ids=["once", "often"])
def test_the_noise_is_that_of_drawn_masks(times):
    density, targets, spoken = 0.1, 200, torch.tensor(times)
    kept = (torch.rand(2000, len(spoken), targets, generator=seeded(3)) < density).sum(2)
    counted = (kept @ spoken).double()
    spread = float(counted.std() / (density * targets * spoken.sum()))
    assert spread == pytest.approx(noise_of_random_masks(density, targets, spoken), rel=0.1)
    if len(set(times)) > 1:  # control: as if each event had drawn a row of its own
        apart = noise_of_random_masks(density, targets, torch.ones(sum(times)))
        assert spread > 1.5 * apart


# --- closed forms ------------------------------------------------------------------------------------------


def test_stacks_of_the_papers():
    assert dense_macs(788, (1350, 1350, 788)) == pytest.approx(24.65e6, rel=1e-3)
    assert dense_macs(786, (2000, 2000, 786)) == pytest.approx(47.29e6, rel=1e-3)
    assert dense_macs(750, (1350, 1350, 750)) == 24_165_000
    assert dense_macs(400, (1150, 1150, 400), gates=4) == pytest.approx(20.19e6, rel=1e-3)
    sparse = modelled_macs(788, (1350, 1350, 788), [0.203] * 3)
    assert sparse == pytest.approx(7.55e6, rel=2e-3)  # 31 % of dense: the embedding is not silent
    assert modelled_macs(788, (1350, 1350, 788), [0.203] * 3, input_activity=0.203) == pytest.approx(
        0.203 * dense_macs(788, (1350, 1350, 788))
    )


def test_the_model_is_the_count_where_activity_and_density_are_even():
    """Each source equally often, each row equally full: nothing is left for a covariance."""
    assert modelled_macs(10, (8,), [0.5], [0.25], [0.75]) == 3 * 8 * (10 * 0.25 + 0.5 * 8 * 0.75)


@pytest.mark.parametrize(
    "call, complaint",
    [
        (lambda: modelled_macs(3, (4, 5), [0.5]), "activity must have 2 members, one a layer, got 1"),
        (lambda: modelled_macs(3, (4,), [1.5]), r"activity must be a share in \[0, 1\], got 1.5"),
        (lambda: modelled_macs(3, (4,), input_activity=-1.0), "input_activity must be a share"),
        (lambda: split_of_ratio(torch.ones(3), torch.ones(4)), r"of one length and not empty, got \(3,\)"),
        (lambda: split_of_ratio(torch.ones(0), torch.ones(0)), "not empty"),
        (lambda: noise_of_random_masks(0.0, 3, torch.ones(4)), r"density must be in \(0, 1\], got 0.0"),
        (
            lambda: noise_of_random_masks(0.5, 0, torch.ones(4)),
            "targets and events must be >= 1, got 0 and 4",
        ),
        (
            lambda: noise_of_random_masks(0.5, 3, torch.zeros(4)),
            "targets and events must be >= 1, got 3 and 0",
        ),
        (lambda: measure_sparsity(nn.GRU(3, 4), torch.ones(5, 3)), "input must have three axes"),
        (
            lambda: measure_sparsity(nn.GRU(3, 4), torch.ones(5, 2, 7)),
            "input must have 3 features, the input_size, got 7",
        ),
        (
            lambda: measure_sparsity(nn.GRU(3, 4, bidirectional=True), torch.ones(5, 2, 3)),
            "model must have one direction and no projections",
        ),
        (
            lambda: measure_sparsity(nn.GRU(3, 4), torch.ones(5, 2, 3), lengths=torch.tensor([5, 6])),
            r"lengths\[1\] must be in 0..5 \(time\), got 6",
        ),
        (
            lambda: measure_sparsity(nn.GRU(3, 4), torch.ones(5, 2, 3), lengths=torch.tensor([5])),
            r"lengths must be \(batch,\) = \(2,\), got \(1,\)",
        ),
    ],
)
def test_bad_input_is_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_other_networks_are_refused():
    with pytest.raises(TypeError, match=r"model must be an EGRU, torch.nn.GRU or LSTM, got RNN"):
        measure_sparsity(nn.RNN(3, 4), torch.ones(5, 2, 3))
    with pytest.raises(TypeError, match="input must be a tensor, got list"):
        measure_sparsity(nn.GRU(3, 4), [[[1.0, 1.0, 1.0]]])


@pytest.mark.parametrize("model", [EGRU(3, 4), nn.GRU(3, 4, 2), nn.LSTM(3, 4)])
def test_of_no_steps_there_is_nothing_to_count(model):
    found = measure_sparsity(model, torch.ones(0, 2, 3))
    assert found.operations == SynapticOperations()
    assert found.activation == ActivationSparsity()

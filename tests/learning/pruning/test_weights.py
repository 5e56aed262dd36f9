"""Which weights are found, and how scopes divide them."""

import pytest
import torch
from torch import nn

from eventbook.learning.pruning.weights import SCOPES, Prunable, chosen, parts, recurrent_weights
from eventbook.models.egru import EGRU, compress


def test_kernels_of_recurrent_layers_are_found_and_nothing_else():
    model = nn.ModuleDict(
        {"embedding": nn.Embedding(5, 3), "egru": EGRU(3, (4, 6)), "readout": nn.Linear(6, 5)}
    )
    found = recurrent_weights(model)
    assert [(w.name, w.layer, w.gates, w.axis) for w in found] == [
        ("egru.cells.0.kernel", "egru.cells.0", 3, 1),
        ("egru.cells.0.recurrent_kernel", "egru.cells.0", 3, 1),
        ("egru.cells.1.kernel", "egru.cells.1", 3, 1),
        ("egru.cells.1.recurrent_kernel", "egru.cells.1", 3, 1),
    ]
    only = recurrent_weights(model, inputs=False)
    assert [w.name for w in only] == ["egru.cells.0.recurrent_kernel", "egru.cells.1.recurrent_kernel"]
    assert [w.name for w in recurrent_weights(model, recurrent=False)] == [
        "egru.cells.0.kernel",
        "egru.cells.1.kernel",
    ]


@pytest.mark.parametrize("kind, gates", [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_kernels_of_torch_layers_belong_to_a_layer_and_a_direction(kind, gates):
    found = recurrent_weights(kind(3, 4, 2, bidirectional=True))
    assert len(found) == 8
    assert {w.layer for w in found} == {"l0", "l0_reverse", "l1", "l1_reverse"}
    assert {(w.gates, w.axis) for w in found} == {(gates, 0)}
    assert len(recurrent_weights(kind(3, 4, 2), inputs=False)) == 2


@pytest.mark.parametrize("kind, gates", [(nn.RNNCell, 1), (nn.GRUCell, 3), (nn.LSTMCell, 4)])
def test_kernels_of_torch_cells(kind, gates):
    found = recurrent_weights(nn.Sequential(kind(3, 4)))
    assert [(w.name, w.layer, w.gates) for w in found] == [
        ("0.weight_ih", "0.cell", gates),
        ("0.weight_hh", "0.cell", gates),
    ]


def test_parts_of_each_scope_are_views_that_hold_every_weight_once():
    model = EGRU(3, (4, 6))
    weights, parameters = chosen(model, None)
    sizes = {}
    for scope in SCOPES:
        counted = {name: torch.zeros_like(p) for name, p in parameters.items()}
        found = parts(weights, counted, scope)
        for number, (_, views) in enumerate(found):
            for view in views:
                view += number + 1
        assert all(int((c == 0).sum()) == 0 for c in counted.values())
        sizes[scope] = [sum(v.numel() for v in views) for _, views in found]
    assert sizes["global"] == [36 + 48 + 72 + 108]
    assert sizes["layer"] == [36 + 48, 72 + 108]
    assert sizes["matrix"] == [36, 48, 72, 108]
    assert sizes["gate"] == [12] * 3 + [16] * 3 + [24] * 3 + [36] * 3
    gate = Prunable("cells.0.kernel", gates=3, axis=1).blocks(parameters["cells.0.kernel"])
    assert torch.equal(gate[1], model.cells[0].kernel[:, 4:8])


@pytest.mark.parametrize(
    "weights, error, complaint",
    [
        (["kernel"], ValueError, "weights must name parameters of the model, got 'kernel'"),
        (["weight_hh_l0"] * 2, ValueError, "weights must name each parameter once, got 'weight_hh_l0' twice"),
        ([], ValueError, "weights must name a parameter at least, got none"),
        ("weight_hh_l0", TypeError, "weights must be a list of names, got the string 'weight_hh_l0'"),
        ([Prunable("weight_hh_l0", gates=5)], ValueError, "gates that divide axis 0 .* 12, got 5"),
        ([Prunable("weight_hh_l0", axis=2)], ValueError, "which has 2, got 1 along 2"),
        ([Prunable("weight_hh_l0", gates=0)], ValueError, "got 0 along 0"),
    ],
)
def test_wrong_names_and_gates_are_refused(weights, error, complaint):
    with pytest.raises(error, match=complaint):
        chosen(nn.GRU(3, 4), weights)


def test_a_model_without_recurrent_layers_is_refused():
    with pytest.raises(ValueError, match="model must have recurrent layers with kernels to prune"):
        recurrent_weights(nn.Linear(3, 4))


def test_what_is_compressed_already_is_not_pruned():
    model = nn.ModuleDict({"recurrent": EGRU(3, (4, 6))})
    model["recurrent"].cells[1] = compress(EGRU(4, 6)).cells[0]
    with pytest.raises(ValueError, match=r"dense kernels, got 'recurrent\.cells\.1', which is compressed"):
        recurrent_weights(model)

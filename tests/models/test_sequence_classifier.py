"""Sequences by their traces: against the parts put together, ragged, trained, and what is refused."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from eventbook.learning.classification import Training, accuracy, train
from eventbook.models.egru import EGRU
from eventbook.models.sequence_classifier import SequenceClassifier

CELLS = ("egru", "gru", "lstm")


def built(cell: str = "egru", seed: int = 0, **options: object) -> SequenceClassifier:
    generator = torch.Generator().manual_seed(seed)
    return SequenceClassifier(3, 6, 4, 2, cell=cell, generator=generator, **options).double().eval()  # type: ignore[arg-type]


def has_half_lstm() -> bool:
    """Whether torch runs its own LSTM under autocast here."""
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            nn.LSTM(2, 2)(torch.zeros(1, 1, 2))
    except RuntimeError:
        return False
    return True


def ragged(seed: int = 0, lengths: tuple[int, ...] = (5, 1, 9)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((length, 3)) for length in lengths]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("readout", ["end", "mean"])
@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_scores_are_those_of_the_parts(cell: str, readout: str, decay: float):
    model = built(cell, readout=readout, decay=decay)
    for one, scores in zip(ragged(), model(*model.collate(ragged()).inputs), strict=True):
        y = model.recurrent(torch.from_numpy(one)[None])[0][0]
        trace, traces = torch.zeros(6, dtype=torch.float64), []
        for value in y:
            trace = decay * trace + (1 - decay) * value
            traces.append(trace)
        read = traces[-1] if readout == "end" else torch.stack(traces).mean(0)
        torch.testing.assert_close(scores, model.scores(read), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_what_stands_in_padding_does_not_matter(cell: str):
    model = built(cell)
    values, lengths = model.collate(ragged()).inputs
    other = values.clone()
    for row, length in zip(other, lengths, strict=True):
        row[length:] = 7.0
    assert torch.equal(model(values, lengths), model(other, lengths))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("readout", ["end", "mean"])
def test_nan_in_padding_reaches_no_gradient(cell: str, readout: str):
    model = built(cell, readout=readout, activity_strength=float(cell == "egru")).train()
    values, lengths = model.collate(ragged()).inputs
    other = values.masked_fill((torch.arange(9) >= lengths[:, None])[..., None], float("nan"))
    found = []
    for given in (other, values):
        loss = model(given, lengths).square().sum() + model.penalty()
        found.append([loss.detach(), *torch.autograd.grad(loss, [p for p in model.parameters()])])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
        assert b.isfinite().all()


@pytest.mark.parametrize("cell", CELLS)
def test_it_runs_under_autocast(cell: str):
    model = built(cell).float()
    batch = model.collate(ragged())
    if cell == "lstm" and not has_half_lstm():
        pytest.skip("torch has no LSTM in half precision for this processor")
    with torch.autocast("cpu", torch.bfloat16):
        found = model(*batch.inputs)
    torch.testing.assert_close(found.float(), model(*batch.inputs), rtol=0.05, atol=0.05)


def test_collate_keeps_precision_and_lengths():
    batch = built().float().collate(ragged())
    assert batch.values.shape == (3, 9, 3)
    assert batch.values.dtype == torch.float32
    assert batch.lengths.tolist() == [5, 1, 9]
    assert batch.values[1, 1:].abs().sum() == 0


def test_the_kinds_of_layers():
    assert isinstance(built("egru").recurrent, EGRU)
    assert isinstance(built("gru").recurrent, nn.GRU)
    assert isinstance(built("lstm").recurrent, nn.LSTM)
    assert built("egru", surrogate_support=3.0).recurrent.cells[0].dynamics.surrogate_support == 3.0


@pytest.mark.parametrize("cell", CELLS)
def test_a_generator_makes_the_weights(cell: str):
    a, b, c = built(cell), built(cell), built(cell, 1)
    for x, y, z in zip(a.parameters(), b.parameters(), c.parameters(), strict=True):
        assert torch.equal(x, y)
        if x.ndim > 1:
            assert not torch.equal(x, z)


def problem(count: int = 240) -> tuple[list[np.ndarray], np.ndarray]:
    """Which of three inputs had a pulse first? Sequences of 10 to 20 steps, with noise."""
    rng = np.random.default_rng(0)
    streams, labels = [], rng.integers(0, 3, count)
    for label in labels:
        one = 0.1 * rng.standard_normal((int(rng.integers(10, 21)), 3))
        order = [int(label), *((int(label) + rng.permutation([1, 2])) % 3)]
        for at, which in zip((1, 4, 7), order, strict=True):
            one[at, which] += 2
        streams.append(one)
    return streams, labels


@torch.no_grad()
def left_after(steps: int, cell: str, **options: object) -> float:
    """What is left of the first step's outputs after steps without input, if units do not hear each other."""
    always = {"threshold": -math.inf, "reset": "none"} if cell == "egru" else {}
    generator = torch.Generator().manual_seed(0)
    model = SequenceClassifier(3, 6, 4, cell=cell, generator=generator, **always, **options)  # type: ignore[arg-type]
    layer = model.double().recurrent
    for name, weight in layer.named_parameters():
        if "recurrent_kernel" in name or "weight_hh" in name:
            weight.zero_()
        elif "bias" in name:
            weight[2 * 6 : 3 * 6] = 0  # the candidate: without input nothing is written
    values = torch.zeros(8, 1 + steps, 3, dtype=torch.float64)
    values[:, 0] = torch.from_numpy(np.random.default_rng(0).standard_normal((8, 3)))
    said = layer(values)[0].abs()
    return float(said[:, -1].mean() / said[:, 0].mean())


@pytest.mark.parametrize("cell", CELLS)
def test_first_biases_bridge_as_many_steps_as_they_are_to(cell: str):
    assert left_after(30, cell) < 1e-3
    assert left_after(30, cell, memory=9) < 0.1
    assert left_after(30, cell, memory=1000) > 0.5
    assert left_after(3000, cell, memory=1000) < 0.1


@pytest.mark.parametrize("cell", CELLS)
def test_memory_changes_biases_alone(cell: str):
    for (name, drawn), (_, given) in zip(
        built(cell).named_parameters(), built(cell, memory=50).named_parameters(), strict=True
    ):
        if not name.startswith("recurrent"):  # the read-out is drawn after it
            continue
        if "bias" not in name:
            assert torch.equal(drawn, given)
            continue
        gates = {"egru": [0], "gru": [1], "lstm": [0, 1]}[cell]
        changed = (drawn != given).view(-1, 6).any(1)
        assert set(changed.nonzero().flatten().tolist()) <= set(gates)
        if name.endswith(("cells.0.bias", "bias_ih_l0")):
            assert changed.sum() == len(gates)
            kept = given.view(-1, 6)[gates[-1]]
            assert 0 <= float(kept.min()) < float(kept.max()) <= np.log(49)
            assert cell != "lstm" or torch.equal(given[:6], -kept)


@pytest.mark.parametrize("cell", CELLS)
def test_it_learns_an_order(cell: str):
    streams, labels = problem()
    model = SequenceClassifier(
        3, 16, 3, cell=cell, readout="mean", generator=torch.Generator().manual_seed(0)
    )
    train(model, streams[:200], labels[:200], Training(epochs=25, batch_size=20, lr=2e-2))
    assert accuracy(model, streams[200:], labels[200:]) > 0.9  # one in three by chance


def test_the_activity_term_makes_it_say_less():
    streams, labels = problem()
    said = {}
    for strength in (0.0, 30.0):
        model = SequenceClassifier(
            3, 16, 3, activity_target=0.02, activity_strength=strength,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        train(model, streams, labels, Training(epochs=8, batch_size=20, lr=1e-2))
        said[strength] = model.run(*model.collate(streams).inputs).layers[0].activity()
    assert said[30.0] < 0.6 * said[0.0]


def test_the_term_is_of_the_batch_that_was_called_last_and_only_in_training():
    model = built(activity_target=0.5, activity_strength=2.0)
    batch = model.collate(ragged())
    model(*batch.inputs)
    assert float(model.penalty()) == 0
    model.train()
    model(*batch.inputs)
    layers = model.run(*batch.inputs).layers
    expected = sum(2 * (layer.activity() - 0.5) ** 2 for layer in layers)
    assert float(model.penalty().detach()) == pytest.approx(expected)


def test_a_copy_can_be_made_in_the_middle_of_training():
    """It is the same function, and has no last call; the model keeps its own."""
    model = built(activity_strength=2.0).train()
    batch = model.collate(ragged())
    loss = model(*batch.inputs).square().sum() + model.penalty()
    asked = float(model.penalty().detach())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert float(twin.penalty()) == 0
        assert torch.equal(twin(*batch.inputs), model(*batch.inputs))
        assert float(twin.penalty().detach()) == asked > 0
    loss.backward()
    assert float(model.penalty().detach()) == asked


@pytest.mark.parametrize(
    ("wrong", "kind", "line"),
    [
        (lambda: SequenceClassifier(0, 6, 4), ValueError, "n_inputs must be >= 1, got 0"),
        (lambda: SequenceClassifier(3, 6.5, 4), TypeError, "hidden_size must be"),
        (lambda: built(cell="rnn"), ValueError, "cell must be one of egru, gru, lstm, got 'rnn'"),
        (lambda: built(readout="sum"), ValueError, "readout must be one of end, mean, got 'sum'"),
        (lambda: built(decay=1.0), ValueError, "decay must be at least 0 and below 1, got 1.0"),
        (lambda: built(activity_target=2.0), ValueError, "activity_target must be a share"),
        (lambda: built(activity_strength=-1.0), ValueError, "activity_strength must be >= 0 and finite"),
        (lambda: built(memory=2), ValueError, "memory must be above 2 and finite, got 2"),
        (lambda: built(memory=9, bias=False), TypeError, "memory must not be given without biases"),
        (lambda: built("gru", reset="value"), TypeError, "reset must not be given with a cell of gru"),
        (lambda: built(dtype=torch.float64), TypeError, "dtype must not be given, a model is moved by its"),
        (lambda: built("gru", activity_strength=1.0), TypeError, "activity_strength must not be given with"),
        (lambda: built().collate([]), ValueError, "streams must be at least one, got none"),
        (lambda: built().collate([np.ones((0, 3))]), ValueError, r"streams\[0\] must be .* got \(0, 3\)"),
        (lambda: built().collate([np.ones((2, 3)), np.ones((2, 2))]), ValueError, r"streams\[1\] must be"),
        (lambda: built()([[1.0]], torch.tensor([1])), TypeError, "values must be a tensor, got list"),
        (lambda: built()(torch.ones(2, 5, 3), [1, 2]), TypeError, "lengths must be a tensor, got list"),
        (lambda: built()(torch.ones(2, 5, 2), torch.tensor([1, 2])), ValueError, "n_inputs 3, got"),
        (lambda: built()(torch.ones(2, 5, 3).double(), torch.tensor([1, 6])), ValueError, "lengths"),
        (lambda: built()(torch.ones(2, 5, 3).double(), torch.tensor([0, 5])), ValueError, "lengths"),
        (lambda: built("gru")(torch.ones(2, 5, 3).double(), torch.tensor([5])), ValueError, r"\(batch,\)"),
        (lambda: built()(torch.ones(2, 5, 3), torch.tensor([1, 2])), TypeError, "float64|dtype"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, kind, line):
    with pytest.raises(kind, match=line):
        wrong()

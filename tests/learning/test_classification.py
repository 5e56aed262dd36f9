"""Training of stream classifiers: it learns, covers each stream once, and goes on from where it was."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from eventbook.learning import classification
from eventbook.learning.classification import Training, accuracy, rate, scores_of, train
from eventbook.models.event_gru import EventGRU
from eventbook.models.event_ssm import EventSSM, EventSSMConfig
from eventbook.models.event_ssm.augmentation import cutmix_batch
from eventbook.models.stream import StreamConfig, StreamEvents, StreamPoints
from eventbook.models.stream.baselines import PointMamba, PointNet

CONFIG = EventSSMConfig(
    n_tokens=6, n_classes=2, d_model=8, d_state=8, blocks=1, layers=1, stride=2, dropout=0.1, norm="batch",
    dt_min=0.05, dt_max=0.5,
)  # fmt: skip
SHORT = Training(epochs=3, batch_size=8, lr=0.02)


def model(seed: int = 0, **changes) -> EventSSM:
    return EventSSM(replace(CONFIG, **changes), generator=torch.Generator().manual_seed(seed))


def problem(n: int = 30, seed: int = 0):
    """Classes that differ in time alone: the events of one come ten times as fast."""
    rng = np.random.default_rng(seed)
    streams, labels = [], rng.integers(0, 2, n)
    for label in labels:
        size = int(rng.integers(12, 30))
        gaps = rng.integers(500, 1_500, size) * (10 if label else 1)
        streams.append((rng.integers(0, 6, size), np.cumsum(gaps)))
    return streams, labels


class Recorder(nn.Module):
    """Linear in counts of tokens; remembers which streams it saw, by their first token."""

    def __init__(self, n: int, classes: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n, classes))
        self.seen: list[list[int]] = []
        self.inner = EventGRU(n, 1, 1, 1)

    def collate(self, streams):
        self.seen.append([int(tokens[0]) for tokens, _ in streams])
        return self.inner.collate(streams)

    def parameter_groups(self, lr, ssm_lr, weight_decay):
        return [{"params": [self.weight], "lr": lr, "weight_decay": weight_decay}]

    def forward(self, token, gap, lengths):
        return self.weight[token[:, 0]]


def numbered(n: int):
    """Stream k has 1 + 7 k mod 11 events, all of token k."""
    return [(np.full(1 + 7 * k % 11, k), np.arange(1 + 7 * k % 11)) for k in range(n)]


# --- learning ----------------------------------------------------------------------------------------------


def test_a_network_learns_what_time_tells():
    streams, labels = problem(64)
    made = model(dropout=0.0)
    history = train(made, streams, labels, Training(epochs=12, batch_size=16, lr=0.03))
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert accuracy(made, *problem(64, seed=1)) > 0.9
    assert [entry["epoch"] for entry in history] == list(range(12))
    assert [entry["step"] for entry in history] == list(range(4, 49, 4))
    assert not made.training
    # negative control: a network that sees no time cannot
    lost = model(dropout=0.0, constant_gap=2.0)
    train(lost, streams, labels, Training(epochs=12, batch_size=16, lr=0.03))
    assert accuracy(lost, *problem(200, seed=1)) < 0.8


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_a_gru_is_trained_by_the_same_function(schedule):
    streams, labels = problem(32)
    torch.manual_seed(0)
    gru = EventGRU(6, 2, 4, 8, gap_feature=True)
    history = train(gru, streams, labels, Training(epochs=10, batch_size=8, lr=0.03, schedule=schedule))
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]


@given(n=st.integers(1, 60), size=st.integers(1, 9), seed=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_an_epoch_covers_every_stream_once(n, size, seed):
    made, streams = Recorder(n), numbered(n)
    train(made, streams, np.zeros(n, int), Training(epochs=2, batch_size=size, seed=seed))
    batches = -(-n // size)
    assert len(made.seen) == 2 * batches
    for epoch in (made.seen[:batches], made.seen[batches:]):
        assert sorted(k for batch in epoch for k in batch) == list(range(n))
        assert sorted(map(len, epoch))[1:] == [size] * (batches - 1)


def test_streams_of_like_length_share_a_batch_in_random_order():
    made = Recorder(64)
    train(made, numbered(64), np.zeros(64, int), Training(epochs=2, batch_size=8))
    first, second = made.seen[:8], made.seen[8:]
    lengths = [[1 + 7 * k % 11 for k in batch] for batch in first]
    assert sum(max(batch) - min(batch) for batch in lengths) <= 10
    starts = [min(batch) for batch in lengths]
    assert starts != sorted(starts)
    assert sorted(map(sorted, first)) != sorted(map(sorted, second))
    other = Recorder(64)
    train(other, numbered(64), np.zeros(64, int), Training(epochs=2, batch_size=8, seed=1))
    assert other.seen != made.seen


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 9])
def test_so_many_steps_are_taken(steps):
    made = Recorder(16)
    history = train(made, numbered(16), np.zeros(16, int), Training(batch_size=4, steps=steps))
    assert len(made.seen) == steps
    assert [entry["step"] for entry in history] == [min(4 * (e + 1), steps) for e in range(-(-steps // 4))]


def test_one_hot_labels_are_soft_labels():
    streams, labels = problem()
    hard, soft = model(), model()
    found = [
        train(hard, streams, labels, SHORT),
        train(soft, streams, labels, SHORT, mix=lambda s, y, rng: (s, np.eye(2)[y])),
    ]
    for a, b in zip(*found, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    for a, b in zip(hard.parameters(), soft.parameters(), strict=True):
        assert (a - b).abs().max() < 1e-3


def test_augmentation_and_mixing_enter_with_a_generator_of_the_epoch():
    streams, labels = problem()
    drawn: list[float] = []

    def augment(stream, rng):
        drawn.append(rng.random())
        return stream

    def mix(batch, classes, rng):
        return cutmix_batch(batch, classes, 2, 0.5, rng)

    found = [train(model(), streams, labels, SHORT, augment=augment, mix=mix) for _ in range(2)]
    assert found[0] == found[1]
    assert len(drawn) == 2 * 3 * 30
    assert drawn[:90] == drawn[90:]
    assert len(set(drawn[:90])) == 90
    assert found[0] != train(model(), streams, labels, SHORT, augment=augment)


def test_the_loss_is_that_before_the_step():
    made = Recorder(8)
    (entry,) = train(made, numbered(8), np.arange(8) % 3, Training(epochs=1, batch_size=8))
    assert entry["loss"] == pytest.approx(math.log(3), rel=1e-6)


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_gradients_are_clipped_together(clip, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def spy(self, *arguments):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.cat([g.flatten() for g in gradients if g is not None]).norm()))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    train(model(), *problem(8), Training(epochs=1, batch_size=8, clip=clip))
    assert (norms[0] <= 0.0101) == bool(clip)


def test_the_generator_of_torch_is_left_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    train(model(), *problem(8), replace(SHORT, epochs=1))
    assert torch.equal(torch.random.get_rng_state(), before)


# --- schedules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0.1, 0.3, 0.77])
@pytest.mark.parametrize("total", [2, 7, 100])
def test_one_cycle_is_that_of_torch_to_the_bit(total, warmup):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 4e-3, total_steps=total + 1, pct_start=warmup, cycle_momentum=False
    )
    for step in range(total):
        assert rate(Training(warmup=warmup), step, total, 4e-3) == optimizer.param_groups[0]["lr"], step
        optimizer.step()
        oracle.step()


def test_one_cycle_begins_peaks_and_ends_as_stated():
    rates = [rate(Training(), step, 99, 2.0) for step in range(100)]
    assert rates[0] == pytest.approx(2 / 25)
    assert max(rates) == rates[29] == 2.0
    assert rates[-1] == pytest.approx(2 / 250_000)
    assert all(np.diff(rates[:30]) > 0)
    assert all(np.diff(rates[29:]) < 0)


def test_cosine_rises_in_a_line_and_falls_to_nothing():
    training = Training(schedule="cosine", warmup=0.2)
    rates = [rate(training, step, 100, 3.0) for step in range(101)]
    assert rates[:20] == pytest.approx(3 * np.arange(1, 21) / 20)
    assert rates[20:] == pytest.approx(1.5 * (1 + np.cos(np.pi * np.arange(81) / 80)))
    assert max(rates) == 3.0


@given(
    schedule=st.sampled_from(["one_cycle", "cosine"]), total=st.integers(1, 60),
    warmup=st.floats(0, 1, exclude_min=True, exclude_max=True),
)  # fmt: skip
@settings(deadline=None)
def test_rates_of_short_runs_are_rates(schedule, total, warmup):
    """Also where the warm-up is no whole step: torch's own divides by zero if the rate peaks at once."""
    training = Training(schedule=schedule, warmup=warmup)
    for step in range(total):
        assert 0 < rate(training, step, total, 1.0) <= 1 + 1e-12
    assert rate(Training(warmup=0.5), 0, 1, 1.0) == 1.0


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_both_groups_follow_the_schedule(schedule, monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def spy(self, *arguments):
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    training = Training(epochs=2, batch_size=4, lr=0.02, ssm_lr=0.005, schedule=schedule)
    train(model(), *problem(12), training)
    assert seen == [[rate(training, step, 6, largest) for largest in (0.005, 0.02)] for step in range(6)]


# --- checkpoints -------------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def state_of(path: Path):
    return torch.load(path, weights_only=True)


def same(a, b) -> bool:
    """Equal to the bit, through lists and dictionaries."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize(
    "changes", [{}, {"steps": 13}, {"schedule": "cosine"}, {"steps": 14, "schedule": "cosine"}], ids=str
)
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path, changes, epoch):
    """Weights, running averages, history, optimiser; with dropout, augmentation and mixing."""
    streams, labels = problem(30)
    training = replace(SHORT, epochs=4, **changes)
    more = {
        "augment": lambda s, rng: (s[0], s[1] + rng.integers(0, 9)),
        "mix": lambda s, y, rng: cutmix_batch(s, y, 2, 0.5, rng),
    }
    whole, path = model(), tmp_path / "deep" / "whole.pt"
    expected = train(
        whole, streams, labels, training, **more, checkpoint=path, after_epoch=lambda e: {"twice": 2 * e}
    )

    def stop(number: int) -> dict[str, float]:
        if number == epoch + 1:
            raise Interrupted
        return {"twice": 2 * number}

    broken, part = model(), tmp_path / "part.pt"
    with pytest.raises(Interrupted):
        train(broken, streams, labels, training, **more, checkpoint=part, after_epoch=stop)
    assert [entry["epoch"] for entry in state_of(part)["history"]] == list(range(epoch + 1))
    other = model(seed=9)  # whose own weights do not matter
    torch.rand(7)
    found = train(
        other, streams, labels, training, **more, checkpoint=part, after_epoch=lambda e: {"twice": 2 * e}
    )
    assert found == expected
    assert same(other.state_dict(), whole.state_dict())
    assert same(state_of(part), state_of(path))


def test_without_a_checkpoint_the_run_is_the_same(tmp_path):
    first, second = model(), model()
    a = train(first, *problem(), SHORT)
    b = train(second, *problem(), SHORT, checkpoint=tmp_path / "run.pt")
    assert a == b
    assert same(first.state_dict(), second.state_dict())


def test_a_finished_run_is_read_back_without_a_step(tmp_path, monkeypatch):
    path, streams_labels = tmp_path / "run.pt", problem()
    first = model()
    expected = train(first, *streams_labels, SHORT, checkpoint=path)
    before = path.read_bytes()
    monkeypatch.setattr(EventSSM, "forward", None)
    other = model(seed=4)
    assert train(other, *streams_labels, SHORT, checkpoint=path, after_epoch=lambda e: 1 / 0) == expected
    assert same(other.state_dict(), first.state_dict())
    assert not other.training
    assert path.read_bytes() == before


def test_numbers_of_numpy_in_the_history_can_be_read_back(tmp_path):
    path = tmp_path / "run.pt"
    said = {"accuracy": np.float64(0.5), "count": np.int64(3)}
    expected = train(model(), *problem(), SHORT, checkpoint=path, after_epoch=lambda e: said)
    assert expected[0]["count"] == 3.0
    assert train(model(), *problem(), SHORT, checkpoint=path) == expected


def other_streams(streams, labels):
    return [(tokens, stamps + (k == 3)) for k, (tokens, stamps) in enumerate(streams)], labels


def other_labels(streams, labels):
    return streams, np.where(np.arange(len(labels)) == 3, 1 - labels, labels)


@pytest.mark.parametrize(
    ("made", "training", "data", "message"),
    [
        (model, replace(SHORT, lr=0.03), None, r"of this recipe, .* has lr = 0.02, not 0.03"),
        (model, replace(SHORT, steps=3), None, r"of this recipe, .* has steps = None, not 3"),
        (lambda: model(discretization="zoh"), SHORT, None, r"of this model, .* has discretization = async"),
        (lambda: EventGRU(6, 2, 8, 8), SHORT, None, r"of this model, .* has class = EventSSM, not EventGRU"),
        (model, SHORT, other_streams, r"of this streams and labels, .* has sha256 = "),
        (model, SHORT, other_labels, r"of this streams and labels, .* has sha256 = "),
        (model, SHORT, lambda s, y: (s[:-1], y[:-1]), r"of this streams and labels, .* has sha256 = "),
    ],
)  # fmt: skip
def test_a_checkpoint_of_something_else_is_refused_and_left(tmp_path, made, training, data, message):
    path, streams_labels = tmp_path / "run.pt", problem()
    train(model(), *streams_labels, SHORT, checkpoint=path)
    before, asked = path.read_bytes(), made()
    weights = {name: w.clone() for name, w in asked.state_dict().items()}
    if data:
        streams_labels = data(*streams_labels)
    with pytest.raises(ValueError, match=f"checkpoint must be {message}") as caught:
        train(asked, *streams_labels, training, checkpoint=path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert same(asked.state_dict(), weights)


def test_a_checkpoint_of_other_weights_is_refused_and_left(tmp_path):
    path, (streams, labels) = tmp_path / "run.pt", problem()
    torch.manual_seed(0)
    train(EventGRU(6, 2, 8, 8), streams, labels, SHORT, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"of this weights, .* has embedding = \['torch.float32', 6, 8\]"):
        train(EventGRU(6, 2, 5, 8), streams, labels, SHORT, checkpoint=path)
    with pytest.raises(
        ValueError, match=r"of this weights, .* has embedding = .*, not \['torch.float64', 6, 8"
    ):
        train(EventGRU(6, 2, 8, 8).double(), streams, labels, SHORT, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no checkpoint",
        "half",
        [1, 2],
        {"about": {}},
        {"about": None, "history": [], "model": {}},
        {"about": {"recipe": 3, "model": {}, "weights": {}, "streams and labels": {}}, "history": []},
    ],
    ids=str,
)
def test_a_broken_checkpoint_is_refused_and_left(tmp_path, content):
    path = tmp_path / "run.pt"
    if content == "half":
        train(model(), *problem(), SHORT, checkpoint=path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match="checkpoint must be a file that this function wrote, got "
    ) as caught:
        train(model(), *problem(), SHORT, checkpoint=path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"checkpoint must be a file, .* is a folder"):
        train(model(), *problem(), SHORT, checkpoint=tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("where", ["while it is written", "before it takes its place"])
def test_a_checkpoint_that_is_being_written_does_not_touch_the_old_one(tmp_path, monkeypatch, error, where):
    path = tmp_path / "run.pt"
    train(model(), *problem(), replace(SHORT, epochs=3), checkpoint=path)
    whole = path.read_bytes()
    path.unlink()
    save, replace_by, calls = torch.save, Path.replace, []

    def interrupted(state, target):
        calls.append(target)
        if len(calls) == 2:
            Path(target).write_bytes(b"half of it")
            raise error
        save(state, target)

    def not_replaced(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise error
        return replace_by(source, target)

    with monkeypatch.context() as patched:
        if where == "while it is written":
            patched.setattr(classification.torch, "save", interrupted)
        else:
            patched.setattr(Path, "replace", not_replaced)
        with pytest.raises(error):
            train(model(), *problem(), SHORT, checkpoint=path)
    assert len(state_of(path)["history"]) == 1
    assert [found.name for found in tmp_path.iterdir()] == ["run.pt"]
    kept = tmp_path / "kept.pt"
    shutil.copy(path, kept)
    train(model(seed=3), *problem(), SHORT, checkpoint=path)
    path_of_whole = tmp_path / "whole.pt"
    path_of_whole.write_bytes(whole)
    assert same(state_of(path), state_of(path_of_whole))


# --- what cannot be learnt ---------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_is_named_and_no_step_is_taken(tmp_path):
    path, streams_labels = tmp_path / "run.pt", problem()
    made = model()
    weights: dict[str, torch.Tensor] = {}

    def spoil(epoch: int) -> dict[str, float]:
        if epoch == 1:
            weights.update({name: w.clone() for name, w in made.state_dict().items()})
            made.readout.register_forward_hook(lambda module, inputs, out: out * math.inf)
        return {}

    with pytest.raises(FloatingPointError, match="loss must be finite, got nan at step 8"):
        train(made, *streams_labels, SHORT, checkpoint=path, after_epoch=spoil)
    assert all(torch.equal(w, weights[name]) for name, w in made.named_parameters())
    assert len(state_of(path)["history"]) == 2


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_is_named_and_no_step_is_taken(clip):
    made = model()
    weights = {name: w.detach().clone() for name, w in made.named_parameters()}
    made.readout.weight.register_hook(lambda grad: torch.full_like(grad, math.inf))
    with pytest.raises(FloatingPointError, match="gradient must be finite, got a norm of inf at step 0"):
        train(made, *problem(), replace(SHORT, clip=clip))
    assert all(torch.equal(w, weights[name]) for name, w in made.named_parameters())


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0, 1], ValueError, r"labels must be \(stream,\), one for each .* got shape \(2,\) for 3 streams"),
        ([[0, 1, 1]], ValueError, r"labels must be \(stream,\), .* got shape \(1, 3\) for 3 streams"),
        ([0, 1, -1], ValueError, r"labels\[2\] must be >= 0, got -1"),
        ([0, -100, 1], ValueError, r"labels\[1\] must be >= 0, got -100"),
        ([0, 2, 1], ValueError, r"labels\[1\] must be in 0..1, got 2"),
        ([0.0, 1.0, 1.5], TypeError, "labels must be integers, got float64"),
    ],
)
def test_bad_labels_get_one_clear_line(labels, error, message):
    with pytest.raises(error, match=message) as caught:
        train(model(), problem(3)[0], np.array(labels), SHORT)
    assert "\n" not in str(caught.value)


def test_nothing_to_learn_is_refused():
    with pytest.raises(ValueError, match=r"at least one stream, got shape \(0,\) for 0 streams"):
        train(model(), [], np.empty(0, int), SHORT)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be >= 1, got 0"),
        ({"epochs": 2.5}, TypeError, "epochs must be a whole number, got 2.5"),
        ({"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        ({"steps": 0}, ValueError, "steps must be >= 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
        ({"lr": 0.0}, ValueError, "lr and ssm_lr must be > 0, got 0.0 and None"),
        ({"lr": math.nan}, ValueError, "lr must be a finite number, got nan"),
        ({"ssm_lr": -1.0}, ValueError, "lr and ssm_lr must be > 0, got 0.02 and -1.0"),
        ({"warmup": 1.0}, ValueError, "warmup must be between 0 and 1, got 1.0"),
        ({"clip": math.nan}, ValueError, "clip must be a finite number, got nan"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay and clip must be >= 0, got -0.1 and 1.0"),
        ({"schedule": "linear"}, ValueError, "schedule must be one_cycle or cosine, got 'linear'"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        replace(SHORT, **changes)


# --- scores ------------------------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=20), size=st.integers(1, 25))
@settings(max_examples=25, deadline=None)
def test_scores_come_in_the_order_of_the_streams(lengths, size):
    made = model().train()
    streams = [(np.arange(n) % 6, np.arange(n) * (100 + k)) for k, n in enumerate(lengths)]
    found = scores_of(made, streams, size)
    assert made.training
    assert found.dtype == np.float32
    alone = np.concatenate([scores_of(made, [one]) for one in streams])
    assert np.abs(found - alone).max() < 1e-5
    best = alone.argmax(1)
    assert accuracy(made, streams, best, size) == 1.0
    assert accuracy(made, streams, 1 - best, size) == 0.0


def test_scores_of_bad_streams_leave_the_state_of_training():
    made = model().train()
    with pytest.raises(ValueError, match=r"streams\[0\] tokens\[0\] must be in 0..5, got 6"):
        scores_of(made, [(np.array([6, 1]), np.array([0, 1]))])
    assert made.training
    with pytest.raises(ValueError, match="streams must be at least one, got none"):
        scores_of(made, [])
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        scores_of(made, problem(3)[0], 0)
    with pytest.raises(ValueError, match=r"labels must be \(stream,\), .* got shape \(2,\) for 3 streams"):
        accuracy(made, problem(3)[0], np.array([0, 1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": "a"}, "lr must be a finite number, got 'a'"),
        ({"lr": float("inf")}, "lr must be a finite number, got inf"),
        ({"clip": float("nan")}, "clip must be a finite number, got nan"),
        ({"weight_decay": None}, "weight_decay must be a finite number, got None"),
    ],
)
def test_a_recipe_is_made_of_finite_numbers(changes, message):
    with pytest.raises(ValueError, match=message):
        Training(**changes)


def test_what_cannot_be_trained_is_said_so(tmp_path):
    streams, labels = problem(8)
    with pytest.raises(TypeError, match="model must have a method collate, got Linear"):
        train(nn.Linear(2, 2), streams, labels, Training(epochs=1))
    with pytest.raises(TypeError, match="after_epoch must return numbers by name, got NoneType"):
        train(model(), streams, labels, Training(epochs=1), after_epoch=lambda epoch: None)
    train(model(), streams, labels, Training(epochs=1), checkpoint=str(tmp_path / "run.pt"))
    assert (tmp_path / "run.pt").is_file()
    with pytest.raises(ValueError, match=r"labels\[0\] must be in 0..\d, got"):
        accuracy(model(), streams, labels + 9)


# --- clouds, and streams of every kind ---------------------------------------------------------------------

OF_CLOUDS = StreamConfig(2, d_model=8, d_state=4, blocks=1, unit=0.1)


def of_clouds(name: str, seed: int = 0, **changes):
    config, generator = replace(OF_CLOUDS, **changes), torch.Generator().manual_seed(seed)
    return {
        "StreamPoints": lambda: StreamPoints(config, generator=generator),
        "PointNet": lambda: PointNet(2, 8, generator=generator),
        "PointMamba": lambda: PointMamba(config, patches=4, neighbours=5, generator=generator),
    }[name]()


def balls_and_rods(n: int = 48, seed: int = 0, points: int = 16):
    """Clouds of two shapes: as wide as high, or four times as high."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return [rng.normal(0, 0.3, (points, 3)) * [1, 1, 4 if label else 1] for label in labels], labels


@pytest.mark.parametrize("name", ["StreamPoints", "PointNet", "PointMamba"])
def test_clouds_are_learned_and_runs_go_on_from_a_checkpoint(tmp_path, name):
    clouds, labels = balls_and_rods()
    training = Training(epochs=6, batch_size=8, lr=0.02)
    whole, path = of_clouds(name), tmp_path / "whole.pt"
    history = train(whole, clouds, labels, training, checkpoint=path)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert accuracy(whole, *balls_and_rods(60, seed=1)) > 0.85

    def stop(epoch: int) -> dict[str, float]:
        if epoch == 3:
            raise Interrupted
        return {}

    part = tmp_path / "part.pt"
    with pytest.raises(Interrupted):
        train(of_clouds(name), clouds, labels, training, checkpoint=part, after_epoch=stop)
    other = of_clouds(name, seed=9)
    assert train(other, clouds, labels, training, checkpoint=part) == history
    assert same(other.state_dict(), whole.state_dict())
    assert same(state_of(part), state_of(path))
    assert same(state_of(path), state_of(part))


def test_a_checkpoint_belongs_to_its_clouds_and_configuration(tmp_path):
    clouds, labels = balls_and_rods(8)
    path, training = tmp_path / "run.pt", Training(epochs=1)
    train(of_clouds("StreamPoints"), clouds, labels, training, checkpoint=path)
    moved = [*clouds[:-1], clouds[-1] + 1e-9]
    with pytest.raises(ValueError, match="checkpoint must be of this streams and labels"):
        train(of_clouds("StreamPoints"), moved, labels, training, checkpoint=path)
    with pytest.raises(ValueError, match=r"checkpoint must be of this model, .* has unit = 0\.1, not 0\.2"):
        train(of_clouds("StreamPoints", unit=0.2), clouds, labels, training, checkpoint=path)
    train(of_clouds("StreamPoints"), clouds, labels, training, checkpoint=path)


@pytest.mark.parametrize(
    ("made", "other", "message"),
    [
        (
            lambda: StreamPoints(OF_CLOUDS, scan_axes=(0, 1)),
            lambda: StreamPoints(OF_CLOUDS, scan_axes=(0, 2)),
            r"has scan_axes = \(0, 1\), not \(0, 2\)",
        ),
        (
            lambda: PointMamba(OF_CLOUDS, patches=4, neighbours=5),
            lambda: PointMamba(OF_CLOUDS, patches=3, neighbours=5),
            "has patches = 4, not 3",
        ),
        (
            lambda: PointMamba(OF_CLOUDS, patches=4, neighbours=5),
            lambda: PointMamba(OF_CLOUDS, patches=4, neighbours=6),
            "has neighbours = 5, not 6",
        ),
    ],
)
def test_a_checkpoint_belongs_to_what_no_weight_tells(tmp_path, made, other, message):
    """Both have weights of the same shapes, and one configuration."""
    clouds, labels = balls_and_rods(8)
    path, training = tmp_path / "run.pt", Training(epochs=1)
    history = train(made(), clouds, labels, training, checkpoint=path)
    before, asked = path.read_bytes(), other()
    with pytest.raises(ValueError, match=f"checkpoint must be of this model, .* {message}") as caught:
        train(asked, clouds, labels, training, checkpoint=path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert train(made(), clouds, labels, training, checkpoint=path) == history


def test_a_checkpoint_belongs_to_plain_values_alone(tmp_path):
    """Caches and hooks may differ from run to run, and what starts with an underscore."""
    clouds, labels = balls_and_rods(8)
    path, training = tmp_path / "run.pt", Training(epochs=1)
    for note, cache in (("a", object()), ("b", [object()])):
        made = of_clouds("PointNet")
        made._note, made.cache = note, cache
        train(made, clouds, labels, training, checkpoint=path)
    made.names = ["x", ("y", 2, None)]
    with pytest.raises(ValueError, match=r"has names = none, not \['x', \('y', 2, None\)\]"):
        train(made, clouds, labels, training, checkpoint=path)


def test_clouds_are_augmented_and_scored_in_their_order():
    clouds, labels = balls_and_rods(20)
    sizes = []

    def augment(cloud, rng):
        sizes.append(cloud.shape)
        return cloud[rng.permutation(len(cloud))]

    made = of_clouds("StreamPoints")
    train(made, clouds, labels, Training(epochs=1, batch_size=8), augment=augment)
    assert sizes == [(16, 3)] * 20
    found = scores_of(made, clouds, batch_size=7)
    for row, cloud in zip(found, clouds, strict=True):
        assert np.abs(scores_of(made, [cloud])[0] - row).max() < 1e-5
    assert np.abs(found - found[0]).max() > 1e-2


def test_clouds_of_different_sizes_are_refused_by_name():
    clouds, labels = balls_and_rods(4)
    clouds[2] = clouds[2][:9]
    with pytest.raises(ValueError, match=r"clouds\[\d\] must be \(point, 3\) = "):
        train(of_clouds("StreamPoints"), clouds, labels, Training(epochs=1))
    assert np.isfinite(scores_of(of_clouds("StreamPoints"), clouds, batch_size=1)).all()


@pytest.mark.parametrize("changes", [{}, {"gap_feature": True, "step": "learned"}], ids=str)
def test_stream_learns_what_time_tells(changes):
    streams, labels = problem(64)
    training = Training(epochs=25, batch_size=16, lr=0.03)
    config = replace(OF_CLOUDS, unit=10.0, blocks=2)

    def made(**changes) -> StreamEvents:
        generator = torch.Generator().manual_seed(0)
        return StreamEvents(6, replace(config, **changes), generator=generator)

    sees = made(**changes)
    history = train(sees, streams, labels, training)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert accuracy(sees, *problem(200, seed=1)) > 0.9
    blind = made(step="learned")  # negative control: Mamba, which sees no gap
    train(blind, streams, labels, training)
    assert accuracy(blind, *problem(200, seed=1)) < 0.8


def test_streams_given_as_lists_are_streams(tmp_path):
    """Their length is that of their tokens: batches and checkpoints are those of tuples."""
    streams, labels = problem()
    lists = [[tokens, stamps] for tokens, stamps in streams]
    first, second = model(), model()
    history = train(first, streams, labels, SHORT, checkpoint=tmp_path / "run.pt")
    assert train(second, lists, labels, SHORT) == history
    assert same(first.state_dict(), second.state_dict())
    assert train(second, lists, labels, SHORT, checkpoint=tmp_path / "run.pt") == history

r"""Training a classifier of streams or clouds: batches of like length, two schedules, checkpoints.

    loss = -sum_c q_c log softmax(scores)_c          q one-hot, or soft after CutMix; plus a model's own term
    one_cycle   half a cosine up from 1/25 of the largest rate, half a cosine down to 1/250,000 of it
    cosine      linear warm-up, then half a cosine down to zero

| symbol | meaning | shape | name |
|---|---|---|---|
| - | (tokens, stamps in microseconds), clouds (point, 3), or values (time, input) | sequence | `streams` |
| y | class of each stream | (stream,) int | `labels` |
| - | scores of a batch | (batch, n_classes) | `model(*model.collate(some).inputs)` |

Streams of like length share a batch, or most of a batch would be padding: an epoch is a random order, cut
into pools of sixteen batches that are sorted by length within. Everything random is drawn anew from (seed,
epoch), so a run that was interrupted goes on from the checkpoint of its last epoch as if nothing had
happened.

Source: derived; cosine with warm-up, two groups of parameters and CutMix are those of the released code of
arXiv:2404.18508.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eventbook.kernels.encoders.arguments import whole
from eventbook.learning.checkpoints import read_checkpoint, shapes, write_checkpoint
from eventbook.learning.steps import take_step

Stream = tuple[NDArray[np.integer], NDArray[np.integer]] | NDArray[np.floating]
Augment = Callable[[Stream, np.random.Generator], Stream]
Mix = Callable[[list[Stream], NDArray[np.int64], np.random.Generator], tuple[list[Stream], NDArray[Any]]]
POOL = 16  # batches that are sorted by length together


class Batch(Protocol):
    """What `collate` makes of some streams or clouds."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the model is called with."""


class StreamClassifier(Protocol):
    """What can be trained: an `nn.Module` with these three, and if it likes with a fourth, `penalty()`.

    That is called after the scores of a batch, and what it returns is added to their loss.

    A checkpoint belongs to what forms it: its class, its `config`, if that is a dataclass, and all attributes
    that are plain values (numbers, words, tuples of them), as the axes that a network of clouds scans.
    """

    def collate(self, streams: Sequence[Any]) -> Batch: ...

    def parameter_groups(self, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]: ...

    def __call__(self, *inputs: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Training:
    """A recipe.

    Attributes
    ----------
    epochs, batch_size
        Passes over the streams, streams in a step.
    steps
        If given, so many steps instead of whole epochs.
    lr, ssm_lr, weight_decay
        Largest learning rate, that of the state-space parameters (None: the same), decay of AdamW.
    schedule, warmup
        "one_cycle" or "cosine"; share of the steps in which the rate rises.
    clip
        Bound of the norm of all gradients together; 0 for none.
    seed
        Of order, augmentation and dropout; initial weights are the model's own.
    """

    epochs: int = 10
    batch_size: int = 32
    steps: int | None = None
    lr: float = 4e-3
    ssm_lr: float | None = None
    weight_decay: float = 0.01
    schedule: str = "one_cycle"
    warmup: float = 0.3
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in ("one_cycle", "cosine"):
            raise ValueError(f"schedule must be one_cycle or cosine, got {self.schedule!r}")
        for name, least in {"epochs": 1, "batch_size": 1, "steps": 1, "seed": 0}.items():
            value = getattr(self, name)
            if not (name == "steps" and value is None) and whole(value, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {value}")
        for name in ("lr", "ssm_lr", "warmup", "weight_decay", "clip"):
            value = getattr(self, name)
            if not (name == "ssm_lr" and value is None) and not (
                isinstance(value, int | float) and math.isfinite(value)
            ):
                raise ValueError(f"{name} must be a finite number, got {value!r}")
        if not self.lr > 0 or not (self.ssm_lr is None or self.ssm_lr > 0):
            raise ValueError(f"lr and ssm_lr must be > 0, got {self.lr} and {self.ssm_lr}")
        if not 0 < self.warmup < 1:
            raise ValueError(f"warmup must be between 0 and 1, got {self.warmup}")
        if not self.weight_decay >= 0 or not self.clip >= 0:
            raise ValueError(f"weight_decay and clip must be >= 0, got {self.weight_decay} and {self.clip}")


def train(
    model: Any,
    streams: Sequence[Stream],
    labels: NDArray[np.int64],
    training: Training,
    *,
    augment: Augment | None = None,
    mix: Mix | None = None,
    checkpoint: Path | str | None = None,
    after_epoch: Callable[[int], dict[str, float]] | None = None,
) -> list[dict[str, float]]:
    """Train a model in place.

    Parameters
    ----------
    model
        A `StreamClassifier`.
    streams, labels
        What to learn; classes are integers, (stream,).
    augment
        Called with each stream and a generator before it enters a batch.
    mix
        Called with the streams and labels of a batch and a generator; returns streams and soft labels
        (batch, n_classes).
    checkpoint
        File that is written after every epoch, whole or not at all, and from which a run that was
        interrupted goes on. A finished run is read back without a step. It belongs to the recipe, to what
        forms the model (see `StreamClassifier`) and the shapes of its weights, and to the streams and labels;
        that augmentation, mixing and `after_epoch` are the same is the caller's care.
    after_epoch
        Called with the number of the epoch; the numbers that it returns join the history.

    Returns
    -------
    history
        Per epoch: "epoch", "step", "loss" (mean of its steps), and what `after_epoch` said.

    Raises
    ------
    ValueError
        If there are no streams, or not as many labels, a label is no class (names the first), or the
        checkpoint is broken or of another recipe, model or data set. It is left as it is.
    TypeError
        If labels are no integers, the model is no `StreamClassifier`, or `after_epoch` returns no dict.
    FloatingPointError
        If the loss or its gradient is not finite; names the step, which is not taken. The last checkpoint
        stays.
    """
    for method in ("collate", "parameter_groups"):
        if not callable(getattr(model, method, None)):
            raise TypeError(f"model must have a method {method}, got {type(model).__name__}")
    labels = _checked(streams, labels)
    checkpoint = None if checkpoint is None else Path(checkpoint)
    per_epoch = -(-len(streams) // training.batch_size)
    total = training.steps or per_epoch * training.epochs
    groups = model.parameter_groups(
        lr=training.lr, ssm_lr=training.ssm_lr or training.lr, weight_decay=training.weight_decay
    )
    optimizer = torch.optim.AdamW(groups)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    rates = [group["lr"] for group in optimizer.param_groups]
    about = {"recipe": asdict(training), **_about(model, streams, labels)} if checkpoint else {}
    history: list[dict[str, float]] = []
    step = _resume(checkpoint, model, optimizer, history, about) if checkpoint else 0
    with torch.random.fork_rng(devices=[]):
        for epoch in range(len(history), -(-total // per_epoch)):
            torch.manual_seed(int(np.random.SeedSequence([training.seed, epoch]).generate_state(1)[0]))
            rng = np.random.default_rng([training.seed, epoch])
            model.train()
            losses = []
            for chosen in _batches(streams, training.batch_size, rng):
                if step == total:
                    break
                loss = _loss(model, streams, labels, chosen, augment, mix, rng)
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    raise FloatingPointError(f"loss must be finite, got {losses[-1]} at step {step}")
                for group, largest in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate(training, step, total, largest)
                take_step(optimizer, loss, parameters, training.clip, step)
                step += 1
            entry = {"epoch": float(epoch), "step": float(step), "loss": float(np.mean(losses))}
            model.eval()
            said = after_epoch(epoch) if after_epoch else {}
            if not isinstance(said, dict):
                raise TypeError(f"after_epoch must return numbers by name, got {type(said).__name__}")
            history.append({**entry, **{name: float(value) for name, value in said.items()}})
            if checkpoint:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                write_checkpoint(checkpoint, about, {"history": history, **state})
    model.eval()
    return history


@torch.no_grad()
def scores_of(model: Any, streams: Sequence[Stream], batch_size: int = 64) -> NDArray[np.float32]:
    """Scores (stream, n_classes) in the state of evaluation; streams may have any lengths.

    Raises
    ------
    ValueError
        If there are no streams, or a batch is to hold none; otherwise as the model.
    """
    if not len(streams):
        raise ValueError("streams must be at least one, got none")
    whole(batch_size, "batch_size", 1)
    training = model.training
    model.eval()
    order = np.argsort(_lengths(streams), kind="stable")
    parts = []
    try:
        for start in range(0, len(order), batch_size):
            batch = model.collate([streams[int(i)] for i in order[start : start + batch_size]])
            parts.append(model(*batch.inputs).float().numpy())
    finally:
        model.train(training)
    scores = np.concatenate(parts)
    scores[order] = scores.copy()
    return scores


def accuracy(model: Any, streams: Sequence[Stream], labels: NDArray[np.int64], batch_size: int = 64) -> float:
    """Share of streams whose highest score is that of their class; errors as `train` and `scores_of`."""
    labels = _checked(streams, labels)
    scores = scores_of(model, streams, batch_size)
    if (beyond := labels >= scores.shape[1]).any():
        at = int(beyond.argmax())
        raise ValueError(f"labels[{at}] must be in 0..{scores.shape[1] - 1}, got {labels[at]}")
    return float((scores.argmax(1) == labels).mean())


def _batches(streams: Sequence[Stream], size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Indices of an epoch's batches: every stream once, like lengths together, batches in random order."""
    order = rng.permutation(len(streams))
    lengths = _lengths(streams)
    pool = POOL * size
    batches = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + size] for i in range(0, len(part), size)]
    for i in rng.permutation(len(batches)):
        yield batches[i]


def _columns(stream: Stream) -> tuple[NDArray[Any], ...]:
    """Tokens and stamps of a stream; a cloud is one array."""
    return (stream,) if isinstance(stream, np.ndarray) else tuple(stream)


def _lengths(streams: Sequence[Stream]) -> NDArray[np.int64]:
    """Events or points of each."""
    return np.array([len(_columns(streams[i])[0]) for i in range(len(streams))])


def rate(training: Training, step: int, total: int, largest: float) -> float:
    """The learning rate of a step, counted from 0, in a run of `total` steps that reaches `largest`."""
    if training.schedule == "one_cycle":
        first, peak = (
            largest / 25,
            training.warmup * (total + 1) - 1,
        )  # as torch.optim.lr_scheduler.OneCycleLR
        rises = step <= peak and peak > 0  # a run of few steps begins at the peak, or behind it
        start, end = (first, largest) if rises else (largest, first / 10_000)
        way = step / peak if rises else (step - peak) / (total - peak)
        return end + (start - end) / 2 * (math.cos(math.pi * way) + 1)
    rising = max(1, round(training.warmup * total))
    if step < rising:
        return largest * ((step + 1) / rising)
    return largest * (0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising))))


def _checked(streams: Sequence[Stream], labels: Any) -> NDArray[np.int64]:
    """The labels, one non-negative integer for each of some streams."""
    given = np.asarray(labels)
    if not len(streams) or given.shape != (len(streams),):
        raise ValueError(
            f"labels must be (stream,), one for each of at least one stream, "
            f"got shape {given.shape} for {len(streams)} streams"
        )
    if given.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got {given.dtype}")
    if (given < 0).any():
        at = int((given < 0).argmax())
        raise ValueError(f"labels[{at}] must be >= 0, got {given[at]}")
    return given.astype(np.int64)


def _loss(
    model: Any,
    streams: Sequence[Stream],
    labels: NDArray[np.int64],
    chosen: NDArray[np.int64],
    augment: Augment | None,
    mix: Mix | None,
    rng: np.random.Generator,
) -> Tensor:
    """The loss of a batch."""
    picked = [streams[int(i)] for i in chosen]
    if augment:
        picked = [augment(stream, rng) for stream in picked]
    targets: NDArray[Any] = labels[chosen]
    if mix:
        picked, targets = mix(picked, targets, rng)
    scores = model(*model.collate(picked).inputs)
    if targets.ndim == 1 and (beyond := targets >= scores.shape[1]).any():
        at = int(chosen[beyond][0])
        raise ValueError(f"labels[{at}] must be in 0..{scores.shape[1] - 1}, got {labels[at]}")
    wanted = torch.from_numpy(targets)
    loss = functional.cross_entropy(scores, wanted if targets.ndim == 1 else wanted.to(scores.dtype))
    return loss + model.penalty() if hasattr(model, "penalty") else loss


def _about(model: Any, streams: Sequence[Stream], labels: NDArray[np.int64]) -> dict[str, Any]:
    """What a checkpoint belongs to besides its recipe: model and data, by what tells them apart."""
    data = hashlib.sha256(labels.tobytes())
    for i in range(len(streams)):
        for values in map(np.asarray, _columns(streams[i])):
            data.update(len(values).to_bytes(8, "little"))
            whole_numbers = values.dtype.kind in "iu"
            data.update(values.astype(np.int64 if whole_numbers else np.float64).tobytes())
    return {
        "model": _formed_by(model),
        "weights": shapes(model),
        "streams and labels": {"sha256": data.hexdigest()},
    }


def _formed_by(model: Any) -> dict[str, Any]:
    """What tells models of one class apart besides their weights, by name."""
    config = getattr(model, "config", None)
    choices = asdict(config) if is_dataclass(config) and not isinstance(config, type) else {}
    others = {
        name: value
        for name, value in vars(model).items()
        if not name.startswith("_") and name != "training" and _is_plain(value)
    }
    return {"class": type(model).__name__, **choices, **others}


def _is_plain(value: Any) -> bool:
    """Numbers and words, and tuples and lists of them: what is the same after it was written and read."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _resume(path: Path, model: Any, optimizer: Any, history: list[Any], about: dict[str, Any]) -> int:
    """Go on from a checkpoint, if there is one; returns the steps that are done."""
    state = read_checkpoint(path, about, ("history", "model", "optimizer"))
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    history += state["history"]
    return int(history[-1]["step"])

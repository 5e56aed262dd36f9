r"""Training a classifier of event streams: batches of like length, two schedules, checkpoints.

    loss = -sum_c q_c log softmax(scores)_c          q one-hot, or soft after CutMix
    one_cycle   the rate rises to its maximum over 30 % of the steps, then falls to nearly nothing
    cosine      linear warm-up, then cosine to zero

| symbol | meaning | shape | name |
|---|---|---|---|
| - | streams of (tokens, stamps in microseconds) | sequence | `streams` |
| y | class of each stream | (stream,) int | `labels` |
| - | scores of a batch | (batch, n_classes) | `model(token, gap, lengths)` |

Streams of like length share a batch, or most of a batch would be padding: an epoch is a random order, cut
into pools of sixteen batches that are sorted by length within. Everything random is drawn anew from (seed,
epoch), so a run that was interrupted goes on from the checkpoint of its last epoch as if nothing had
happened.

Source: one-cycle with AdamW is the recipe of the prototype on the timing task; cosine with warm-up, two
groups of parameters and CutMix are those of the released code of arXiv:2404.18508.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eventbook.kernels.encoders import EventBatch

Stream = tuple[NDArray[np.integer], NDArray[np.integer]]
Augment = Callable[[Stream, np.random.Generator], Stream]
Mix = Callable[[list[Stream], NDArray[np.int64], np.random.Generator], tuple[list[Stream], NDArray[Any]]]
POOL = 16  # batches that are sorted by length together


class StreamClassifier(Protocol):
    """What can be trained: an `nn.Module` with these three."""

    def collate(self, streams: Sequence[Stream]) -> EventBatch: ...

    def parameter_groups(self, lr: float, ssm_lr: float, weight_decay: float) -> list[dict[str, Any]]: ...

    def __call__(self, token: Tensor, gap: Tensor, lengths: Tensor) -> Tensor: ...


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
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be >= 1, got {self.steps}")
        if not self.lr > 0 or not (self.ssm_lr is None or self.ssm_lr > 0):
            raise ValueError(f"lr and ssm_lr must be > 0, got {self.lr} and {self.ssm_lr}")
        if not 0 < self.warmup < 1:
            raise ValueError(f"warmup must be between 0 and 1, got {self.warmup}")
        if self.weight_decay < 0 or self.clip < 0:
            raise ValueError(f"weight_decay and clip must be >= 0, got {self.weight_decay} and {self.clip}")


def train(
    model: Any,
    streams: Sequence[Stream],
    labels: NDArray[np.int64],
    training: Training,
    *,
    augment: Augment | None = None,
    mix: Mix | None = None,
    checkpoint: Path | None = None,
    after_epoch: Callable[[int], dict[str, float]] | None = None,
) -> list[dict[str, float]]:
    """Train a model in place.

    Parameters
    ----------
    model
        A `StreamClassifier`.
    streams, labels
        What to learn.
    augment
        Called with each stream and a generator before it enters a batch.
    mix
        Called with the streams and labels of a batch and a generator; returns streams and soft labels
        (batch, n_classes).
    checkpoint
        File that is written after every epoch, whole or not at all, and from which a run that was
        interrupted goes on. A finished run is read back without a step.
    after_epoch
        Called with the number of the epoch; what it returns joins the history.

    Returns
    -------
    history
        Per epoch: "epoch", "step", "loss" (mean of its steps), and what `after_epoch` said.

    Raises
    ------
    ValueError
        If there are no streams, or not as many labels, or the checkpoint belongs to another recipe.
    FloatingPointError
        If the loss is not finite; names the step. The last checkpoint stays.
    """
    if not len(streams) or len(streams) != len(labels):
        raise ValueError(
            f"streams must be at least one, as many as labels, got {len(streams)} and {len(labels)}"
        )
    labels = np.asarray(labels, np.int64)
    per_epoch = -(-len(streams) // training.batch_size)
    total = training.steps or per_epoch * training.epochs
    groups = model.parameter_groups(
        lr=training.lr, ssm_lr=training.ssm_lr or training.lr, weight_decay=training.weight_decay
    )
    optimizer = torch.optim.AdamW(groups)
    scheduler = _scheduler(optimizer, training, total)
    about = {**asdict(training), "streams": len(streams), "total": total}
    history: list[dict[str, float]] = []
    step = _resume(checkpoint, model, optimizer, scheduler, history, about) if checkpoint else 0
    with torch.random.fork_rng(devices=[]):
        for epoch in range(len(history), -(-total // per_epoch)):
            torch.manual_seed(int(np.random.SeedSequence([training.seed, epoch]).generate_state(1)[0]))
            rng = np.random.default_rng([training.seed, epoch])
            model.train()
            losses = []
            for chosen in _batches(streams, training.batch_size, rng):
                if step == total:
                    break
                losses.append(_step(model, optimizer, streams, labels, chosen, training, augment, mix, rng))
                if not math.isfinite(losses[-1]):
                    raise FloatingPointError(f"loss must be finite, got {losses[-1]} at step {step}")
                scheduler.step()
                step += 1
            entry = {"epoch": float(epoch), "step": float(step), "loss": float(np.mean(losses))}
            model.eval()
            history.append({**entry, **(after_epoch(epoch) if after_epoch else {})})
            if checkpoint:
                _save(checkpoint, model, optimizer, scheduler, history, about)
    model.eval()
    return history


@torch.no_grad()
def scores_of(model: Any, streams: Sequence[Stream], batch_size: int = 64) -> NDArray[np.float32]:
    """Scores (stream, n_classes) in the state of evaluation; streams may have any lengths."""
    training = model.training
    model.eval()
    order = np.argsort([len(streams[i][0]) for i in range(len(streams))], kind="stable")
    parts = []
    for start in range(0, len(order), batch_size):
        batch = model.collate([streams[int(i)] for i in order[start : start + batch_size]])
        parts.append(model(batch.token, batch.gap, batch.lengths).float().numpy())
    model.train(training)
    scores = np.concatenate(parts)
    scores[order] = scores.copy()
    return scores


def accuracy(model: Any, streams: Sequence[Stream], labels: NDArray[np.int64], batch_size: int = 64) -> float:
    """Share of streams whose highest score is that of their class."""
    return float((scores_of(model, streams, batch_size).argmax(1) == labels).mean())


def _batches(streams: Sequence[Stream], size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Indices of an epoch's batches: every stream once, like lengths together, batches in random order."""
    order = rng.permutation(len(streams))
    lengths = np.array([len(streams[i][0]) for i in range(len(streams))])
    pool = POOL * size
    batches = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + size] for i in range(0, len(part), size)]
    for i in rng.permutation(len(batches)):
        yield batches[i]


def _step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    streams: Sequence[Stream],
    labels: NDArray[np.int64],
    chosen: NDArray[np.int64],
    training: Training,
    augment: Augment | None,
    mix: Mix | None,
    rng: np.random.Generator,
) -> float:
    """One step of the optimiser; returns the loss before it."""
    picked = [streams[int(i)] for i in chosen]
    if augment:
        picked = [augment(stream, rng) for stream in picked]
    targets: NDArray[Any] = labels[chosen]
    if mix:
        picked, targets = mix(picked, targets, rng)
    batch = model.collate(picked)
    loss = functional.cross_entropy(model(batch.token, batch.gap, batch.lengths), torch.from_numpy(targets))
    optimizer.zero_grad()
    loss.backward()
    if training.clip:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, training.clip)
    optimizer.step()
    return float(loss.detach())


def _scheduler(
    optimizer: torch.optim.Optimizer, training: Training, total: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if training.schedule == "one_cycle":
        rates = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rates, total_steps=total + 1, pct_start=training.warmup, cycle_momentum=False
        )
    rising = max(1, round(training.warmup * total))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _save(
    path: Path, model: Any, optimizer: Any, scheduler: Any, history: list[Any], about: dict[str, Any]
) -> None:
    """Write a checkpoint under another name first: what stands under its own is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    state = {
        "about": about,
        "history": history,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    try:
        torch.save(state, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _resume(
    path: Path, model: Any, optimizer: Any, scheduler: Any, history: list[Any], about: dict[str, Any]
) -> int:
    """Go on from a checkpoint, if there is one; returns the steps that are done."""
    if not path.is_file():
        return 0
    try:
        state = torch.load(path, weights_only=True)
        found = state["about"]
    except Exception as error:  # torch.load fails in many ways on a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"checkpoint must be a file that this function wrote, got {path}: {reason}"
        ) from None
    for name, value in about.items():
        if found.get(name) != value:
            raise ValueError(
                f"checkpoint must belong to this recipe, {path} has {name} = {found.get(name)}, not {value}"
            )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    history += state["history"]
    return int(history[-1]["step"])

"""Event encoders: frames against tonic and NumPy, saccades and delta coding against their NumPy twins.

python benchmarks/encoders.py [path of the JSON]
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from eventbook.datasets import load_davis_recording, load_mnist, load_spoken_digits
from eventbook.kernels.encoders import (
    EVENT,
    EventColumns,
    delta_events,
    event_frames,
    pool_time,
    saccade_events,
)
from eventbook.kernels.encoders.delta import delta_events_reference
from eventbook.kernels.encoders.frames import event_frames_reference, window_edges
from eventbook.kernels.encoders.saccades import saccade_events_reference
from harness import Case, Goal, Missing, Work, growth, main, of_peer, triad

PEERS = {"tonic, ToFrame": "tonic", "np.bincount": "numpy", "np.bincount, columns": "numpy"}
MILLION = 1_000_000


def random_events(count: int, width: int, height: int) -> np.ndarray:
    """Events all over a sensor in two seconds: the least friendly case for caches."""
    rng = np.random.default_rng(0)
    events = np.empty(count, EVENT)
    events["x"], events["y"] = rng.integers(0, width, count), rng.integers(0, height, count)
    events["t"], events["p"] = np.sort(rng.integers(0, 2_000_000, count)), rng.integers(0, 2, count)
    return events


def recorded_events(count: int) -> np.ndarray:
    """The DAVIS346 recording over and over, one run after the other."""
    once = load_davis_recording().events
    runs = -(-count // len(once))
    events = np.tile(once, runs)
    events["t"] += np.repeat(np.arange(runs) * (once["t"][-1] + 1), len(once))
    return events[:count]


def bincount_columns(events: np.ndarray, width: int, height: int, bins: int) -> Work:
    """np.bincount at its best: every field contiguous, and as wide as it wants its index."""
    x, y, t, p = (np.ascontiguousarray(events[name]) for name in ("x", "y", "t", "p"))

    def work() -> None:
        edges = window_edges(t, bins, None)
        at = np.repeat(np.arange(bins) * 2, np.diff(edges))
        kept = slice(edges[0], edges[-1])
        at += p[kept]
        at *= height
        at += y[kept]
        at *= width
        at += x[kept]
        np.bincount(at, minlength=bins * 2 * height * width).astype(np.int16)

    return work


def frames(case: str, events: np.ndarray, width: int, height: int, bins: int) -> Case:
    columns = EventColumns.of(events)

    def tonic(transforms: Any) -> Work:
        to_frame = transforms.ToFrame(sensor_size=(width, height, 2), n_time_bins=bins)
        assert np.array_equal(to_frame(events), event_frames(columns, width, height, bins=bins))
        return lambda: to_frame(events)

    competitors: dict[str, Work | Missing] = {
        "ours, columns": lambda: event_frames(columns, width, height, bins=bins),
        "ours, structured": lambda: event_frames(events, width, height, bins=bins),
        "triad of the columns' bytes": triad(13 * len(events)),
        "tonic, ToFrame": of_peer("tonic.transforms", tonic),
        "np.bincount": lambda: event_frames_reference(events, width, height, bins=bins),
        "np.bincount, columns": bincount_columns(events, width, height, bins),
    }
    goals = [Goal("tonic, ToFrame", 15), Goal("np.bincount", 3), Goal("np.bincount, columns", 3)]
    return Case(
        "event frames",
        case,
        competitors,
        goals,
        PEERS,
        ("triad of the columns' bytes",),
        per_call=len(events),
        unit="events",
    )


def saccades() -> Case:
    image = load_mnist("train").images[0]
    competitors: dict[str, Work | Missing] = {
        "ours": lambda: saccade_events(image),
        "NumPy, all pixels of a step": lambda: saccade_events_reference(image),
    }
    goals = [Goal("NumPy, all pixels of a step", 10)]
    count = len(saccade_events(image))
    return Case(
        "saccade events", f"one digit, {count} events", competitors, goals, per_call=count, unit="events"
    )


def delta() -> Case:
    clip = load_spoken_digits("test").frames[:200].astype(np.float64)
    threshold = 0.25 * clip.std(0)
    competitors: dict[str, Work | Missing] = {
        "ours": lambda: delta_events(clip, threshold, 24_000),
        "Python loop": lambda: delta_events_reference(clip, threshold, 24_000),
    }
    count = len(delta_events(clip, threshold, 24_000).token)
    return Case("delta coding", f"200 frames, {count} events", competitors, per_call=count, unit="events")


def pooling(shape: tuple[int, int, int], stride: int) -> Case:
    """The weighted mean, against writing the weighted values out; it has to read its input once."""
    values, gap = torch.randn(*shape), torch.rand(*shape[:2])

    def written_out() -> None:
        weights = (gap + 1e-6).unflatten(1, (-1, stride)).unsqueeze(-1)
        grouped = values.unflatten(1, (-1, stride))
        (grouped * weights).sum(2).div_(weights.sum(2))

    competitors: dict[str, Work | Missing] = {
        "ours": lambda: pool_time(values, gap, stride),
        "triad of the same bytes": triad(values.numel() * 4),
        "torch, products written out": written_out,
    }
    return Case(
        "pooling by time", f"{shape}, stride {stride}", competitors, limits=("triad of the same bytes",)
    )


def cases() -> Iterator[Case]:
    yield frames("1M random, 346 x 260, 10 bins", random_events(MILLION, 346, 260), 346, 260, 10)
    yield frames("1M random, 34 x 34, 30 bins", random_events(MILLION, 34, 34), 34, 34, 30)
    yield frames("1M recorded, 346 x 260, 30 bins", recorded_events(MILLION), 346, 260, 30)
    yield saccades()
    yield delta()
    yield pooling((8, 4096, 128), 8)


def fits() -> Iterator[dict[str, Any]]:
    def of_events(count: int) -> Work:
        columns = EventColumns.of(random_events(count, 34, 34))
        return lambda: event_frames(columns, 34, 34, bins=10)

    def of_frames(count: int) -> Work:
        signal = np.cumsum(np.random.default_rng(0).normal(size=(count, 13)), 0)
        return lambda: delta_events(signal, 1.0, 200)

    sizes, frames = (np.logspace(*span, 6).astype(int).tolist() for span in ((5, 7), (4.5, 6)))
    yield growth("event frames in events", of_events, sizes, 1.0)
    # sorting takes a pass for each eleven bits of the last stamp: three of them at all these sizes
    yield growth("delta coding in frames, and so in events", of_frames, frames, 1.0)


if __name__ == "__main__":
    main(__file__, "Event encoders", cases, fits)

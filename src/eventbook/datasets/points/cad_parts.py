"""CAD parts: 1,984 models of electronic parts from KiCad's library, 41 classes, 512 points each.

A library of parts is full of near-duplicates: the same connector with 2 to 40 pins, the same package at two
pitches. A **family** is the models of a folder whose names differ in numbers alone, and the split that means
something holds out whole families. A split at random instead tests on what is nearly in the training part; it
is here as the inflated control.

=========  =========================================================  ===================
symbol     meaning                                                    name
=========  =========================================================  ===================
-          parts into which the families of a class are dealt         `PARTS`
fold       which part tests; the next one validates, others train     ``fold``, 0..4
-          draws how families are dealt                               ``seed``
=========  =========================================================  ===================

Families of each class are dealt, the largest first, each to the part with the fewest models. A family that is
more than half of its class always trains, or else a class would be learnt from a few and tested on many. A
class with one family (two of them have) can then only train; one with two parts has no validation models.

Source: KiCad packages3D 6.0.10, by ``data/build_cad_parts.py``; the split is ours.
"""

import io
from typing import Literal

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from eventbook.datasets.options import whole
from eventbook.datasets.points.point_clouds import PointClouds
from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.store import read_dataset

PARTS = 5
SCALE = np.float32(127)  # steps from the middle of the box to its wall, as stored

SPLITS = ("train", "valid", "test")


def load_cad_parts(
    split: Literal["train", "valid", "test"],
    *,
    by: Literal["family", "random"] = "family",
    seed: int = 0,
    fold: int = 0,
) -> PointClouds:
    """Load the CAD parts, in their canonical pose.

    Parameters
    ----------
    split : "train", "valid" or "test"
        About three, one and one fifth of each class.
    by : "family" or "random"
        "family": no family is in two splits. "random": splits of the same sizes in each class, drawn
        regardless of families; accuracies on it are **inflated**, and must be called so.
    seed : int
        Of the deal, 0 or above.
    fold : int
        0..4. Of a class with five parts, the test splits of the five folds of one seed share no model.

    Returns
    -------
    PointClouds
        ``points`` (cloud, 512, 3), multiples of 1/127, ``families``, 41 ``classes``.

    Raises
    ------
    DataError
        If an argument is another word or number, or the file is missing or not what the manifest pins.

    Examples
    --------
    >>> parts = {split: load_cad_parts(split) for split in ("train", "valid", "test")}
    >>> sum(map(len, parts.values()))
    1984
    >>> set(parts["train"].families) & set(parts["test"].families)
    set()
    """
    if split not in SPLITS:
        raise DataError(f"split: expected 'train', 'valid' or 'test', got {split!r}")
    if by not in ("family", "random"):
        raise DataError(f"by: expected 'family' or 'random', got {by!r}")
    seed, fold = whole(seed, "seed", 0), whole(fold, "fold", 0, PARTS - 1)
    (content,), source = read_dataset("cad_parts", ["cad_parts/kicad_parts.npz"])
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        points, labels, families = stored["points"], stored["label"].astype(np.int64), stored["family"]
        classes = tuple(stored["classes"].tolist())
    of = split_by_family(labels, families, seed, fold)
    if by == "random":
        of = _shuffled_within(labels, of, seed, fold)
    chosen = of == SPLITS.index(split)
    scaled = points[chosen].astype(np.float32) / SCALE
    return PointClouds(scaled, labels[chosen], families[chosen], classes, source)


def split_by_family(
    labels: Int64[np.ndarray, " cloud"], families: NDArray[np.str_], seed: int, fold: int
) -> Int64[np.ndarray, " cloud"]:
    """The split of each cloud, as a number in `SPLITS`, with families kept together in each class.

    Parameters
    ----------
    labels, families
        (cloud,); a family belongs to one class.
    seed, fold
        As for `load_cad_parts`.
    """
    of = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        here = labels == label
        names, sizes = np.unique(families[here], return_counts=True)
        part = _dealt(sizes, np.random.default_rng((seed, int(label))))
        held = part.max() + 1  # parts that hold a family; 0 if all train
        splits = np.zeros(len(names), np.int64)
        if held >= 3 or (held == 2 and (part < 0).any()):  # training models remain without the next part
            splits[part == (fold + 1) % held] = SPLITS.index("valid")
        if held >= 2 or (held == 1 and (part < 0).any()):
            splits[part == fold % max(held, 1)] = SPLITS.index("test")
        of[here] = splits[np.searchsorted(names, families[here])]
    return of


def _dealt(sizes: NDArray[np.integer], random: np.random.Generator) -> Int64[np.ndarray, " family"]:
    """The part of each family, 0..`PARTS` - 1, or -1 for one that is more than half of the class."""
    part = np.full(len(sizes), -1)
    held = np.zeros(PARTS, np.int64)
    order = random.permutation(len(sizes))
    for family in order[np.argsort(-sizes[order], kind="stable")]:
        if 2 * sizes[family] <= sizes.sum():
            part[family] = held.argmin()
            held[part[family]] += sizes[family]
    # which of the parts comes first is drawn too: the first one holds the largest family
    last = part.max() + 1
    return np.where(part < 0, -1, random.permutation(last)[part] if last else part)


def _shuffled_within(
    labels: Int64[np.ndarray, " cloud"], of: Int64[np.ndarray, " cloud"], seed: int, fold: int
) -> Int64[np.ndarray, " cloud"]:
    """Splits of the same sizes in each class, dealt to its clouds at random."""
    random = np.random.default_rng((seed, fold, len(labels)))
    mixed = of.copy()
    for label in np.unique(labels):
        here = labels == label
        mixed[here] = random.permutation(of[here])
    return mixed

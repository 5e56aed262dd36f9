"""CAD parts: no family in two splits, every class where it can be, and the random split as the control."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.datasets import DataError, PointClouds, load_cad_parts
from eventbook.datasets.points.cad_parts import PARTS, SPLITS, split_by_family


def load(**options) -> dict[str, PointClouds]:
    return {split: load_cad_parts(split, **options) for split in SPLITS}


def shared(parts: dict[str, PointClouds]) -> int:
    """Families that are in more than one split."""
    sets = [set(part.families) for part in parts.values()]
    return sum(map(len, sets)) - len(set.union(*sets))


def everything(parts: dict[str, PointClouds]) -> list[bytes]:
    return sorted(cloud.tobytes() for part in parts.values() for cloud in part.points)


@pytest.fixture(scope="module")
def parts() -> dict[str, PointClouds]:
    return load()


def test_counts(parts):
    assert sum(map(len, parts.values())) == 1_984
    assert {split: len(part) for split, part in parts.items()} == {"train": 1_199, "valid": 408, "test": 377}
    for part in parts.values():
        assert part.points.shape[1:] == (512, 3)
        assert part.points.dtype == np.float32
        assert len(part.classes) == 41
    assert parts["train"].source.place == "data/cad_parts"


def test_points_lie_in_the_unit_box_and_fill_it(parts):
    points = parts["train"].points
    steps = points * 127
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    longest = np.abs(points).max((1, 2))
    assert longest.max() == 1
    assert np.quantile(longest, 0.05) > 0.98


@pytest.mark.parametrize("seed, fold", [(0, 0), (0, 1), (1, 0), (5, 4)])
def test_no_family_is_in_two_splits(seed, fold):
    by_family = load(seed=seed, fold=fold)
    assert shared(by_family) == 0
    at_random = load(seed=seed, fold=fold, by="random")
    assert shared(at_random) > 100  # the control: that is what inflates it
    for split in SPLITS:
        sizes = (np.bincount(part[split].labels, minlength=41) for part in (by_family, at_random))
        np.testing.assert_array_equal(*sizes)
    assert everything(by_family) == everything(at_random)


def test_every_class_is_tested_that_has_two_families(parts):
    families = [set() for _ in range(41)]
    for part in parts.values():
        for label, family in zip(part.labels, part.families, strict=True):
            families[label].add(family)
    alone = {label for label in range(41) if len(families[label]) == 1}
    assert {parts["test"].classes[label] for label in alone} == {"TerminalBlock_Altech", "Varistor"}
    assert set(range(41)) - set(parts["test"].labels) == alone
    assert set(parts["train"].labels) == set(range(41))


def test_no_two_shapes_are_the_same(parts):
    """The same mesh gives the same points, so that one under two names would show here."""
    every = everything(parts)
    assert len(set(every)) == len(every)


def test_folds_test_different_families():
    tested = [set(load_cad_parts("test", fold=fold).families) for fold in range(PARTS)]
    assert len(set.union(*tested)) > 0.9 * 653
    assert (
        max(len(a & b) for i, a in enumerate(tested) for b in tested[:i]) < 10
    )  # of classes with few families


def test_the_same_seed_gives_the_same_split(parts):
    again, other = load_cad_parts("test"), load_cad_parts("test", seed=1)
    np.testing.assert_array_equal(again.points, parts["test"].points)
    assert set(other.families) != set(again.families)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=9), min_size=1, max_size=4),
    st.integers(0, 5),
    st.integers(0, PARTS - 1),
)
def test_any_families_are_dealt_as_promised(sizes, seed, fold):
    """`sizes`: by class, the clouds of each family."""
    labels = np.array([c for c, family in enumerate(sizes) for n in family for _ in range(n)])
    names = [f"{c}/{f}" for c, family in enumerate(sizes) for f, n in enumerate(family) for _ in range(n)]
    families = np.array(names)
    of = split_by_family(labels, families, seed, fold)
    for name in set(names):
        assert len(set(of[families == name])) == 1
    for c, family in enumerate(sizes):
        splits = set(of[labels == c].tolist())
        assert SPLITS.index("train") in splits
        assert (SPLITS.index("test") in splits) == (len(family) > 1)
        giants = [f for f, n in enumerate(family) if 2 * n > sum(family)]
        for giant in giants:
            assert set(of[families == f"{c}/{giant}"]) == {SPLITS.index("train")}


@pytest.mark.parametrize(
    "options, said",
    [
        ({"split": "all"}, "split: expected 'train', 'valid' or 'test', got 'all'"),
        ({"by": "class"}, "by: expected 'family' or 'random', got 'class'"),
        ({"seed": -1}, "seed: expected 0 or above, got -1"),
        ({"seed": 0.5}, "seed: expected a whole number, got 0.5"),
        ({"fold": 5}, "fold: expected 0..4, got 5"),
        ({"fold": "first"}, "fold: expected a whole number, got 'first'"),
    ],
)
def test_bad_arguments(options, said):
    with pytest.raises(DataError, match=said):
        load_cad_parts(**({"split": "test"} | options))

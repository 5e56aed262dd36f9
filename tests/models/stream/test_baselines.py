"""PointNet and PointMamba: against plain loops, what they may and may not tell, errors."""

from __future__ import annotations

import copy
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.models.initialization import dense
from eventbook.models.stream import StreamConfig
from eventbook.models.stream.baselines import PointMamba, PointNet, _perceptron, farthest_points

SMALL = StreamConfig(3, d_model=8, d_state=3, blocks=2, step="learned")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(made, seed: int):
    """In double precision, with all weights away from zero."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for weight in made.double().parameters():
            weight += torch.from_numpy(0.2 * rng.standard_normal(tuple(weight.shape)))
    return made


def pointnet(seed: int = 0) -> PointNet:
    return moved(PointNet(3, 8, generator=generator(seed)), seed)


def pointmamba(seed: int = 0, patches: int = 5, neighbours: int = 4, **changes) -> PointMamba:
    config = replace(SMALL, **changes)
    return moved(
        PointMamba(config, patches=patches, neighbours=neighbours, generator=generator(seed)), seed
    )  # fmt: skip


BOTH = [pointnet, pointmamba]


def clouds(n: int = 20, seed: int = 0, batch: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (batch, n, 3)))


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


def scores(made, points: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return made(points)


# --- PointNet ----------------------------------------------------------------------------------------------


@given(n=st.integers(1, 40), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_pointnet_reads_sets(n, seed):
    """In any order, and with points listed twice; another point is another set."""
    made, points = pointnet(), clouds(n, seed)
    order = torch.randperm(n, generator=generator(seed))
    expected = scores(made, points)
    assert apart(scores(made, points[:, order]), expected) < 1e-12
    assert apart(scores(made, torch.cat([points, points[:, order[:3]]], 1)), expected) < 1e-12
    assert apart(scores(made, points + 0.5), expected) > 1e-4


def test_pointnet_is_a_maximum_over_points():
    made, points = pointnet(), clouds(6)
    with torch.no_grad():
        for row, cloud in enumerate(points):
            features = torch.stack([made.each(point) for point in cloud])
            assert features.shape == (6, 16)
            assert apart(made.head(features.max(0).values), made(points)[row]) < 1e-12


# --- PointMamba --------------------------------------------------------------------------------------------


def farthest_one_by_one(points: np.ndarray, count: int) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        nearest = [min(((p - points[c]) ** 2).sum() for c in chosen) for p in points]
        chosen.append(int(np.argmax(nearest)))
    return chosen


@given(n=st.integers(1, 25), seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=40, deadline=None)
def test_centres_are_the_farthest_from_all_chosen(n, seed, data):
    points, count = clouds(n, seed), data.draw(st.integers(1, n))
    found = farthest_points(points, count)
    assert found.dtype == torch.int64
    for row in range(2):
        assert found[row].tolist() == farthest_one_by_one(points[row].numpy(), count)
        assert len(set(found[row].tolist())) == count


def one_by_one(made: PointMamba, cloud: torch.Tensor) -> torch.Tensor:
    """Scores of one cloud: patch by patch."""
    centres = [cloud[k] for k in farthest_one_by_one(cloud.numpy(), made.patches)]
    tokens = []
    for centre in centres:
        near = sorted(cloud, key=lambda p, c=centre: float(((p - c) ** 2).sum()))[: made.neighbours]
        each = torch.stack([made.near(p - centre) for p in near])
        together = each.max(0).values
        far = torch.stack([made.far(torch.cat([row, together])) for row in each])
        tokens.append(far.max(0).values + made.place(centre))
    v = torch.stack([
        tokens[k]
        for axis in range(3)
        for k in sorted(range(made.patches), key=lambda k, a=axis: float(centres[k][a]))
    ])[None]  # fmt: skip
    for block in made.blocks:
        v, _ = block(v, torch.zeros(v.shape[:2], dtype=v.dtype))
    return made.readout(made.norm(v[0].mean(0)))


@pytest.mark.parametrize("changes", [{}, {"conv_width": 4, "expand": 2}], ids=str)
def test_pointmamba_is_patches_end_to_end(changes):
    made, points = pointmamba(**changes), clouds()
    with torch.no_grad():
        expected = torch.stack([one_by_one(made, cloud) for cloud in points])
    assert apart(scores(made, points), expected) < 1e-12


def test_steps_of_pointmamba_are_learned_whatever_the_configuration_says():
    made = pointmamba(step="coordinate")
    assert made.config.step == "learned"
    assert {block.step for block in made.blocks} == {"learned"}
    assert not any(name.endswith("beta") for name, _ in made.named_parameters())
    assert apart(scores(made, clouds()), scores(pointmamba(step="learned"), clouds())) == 0


def test_pointmamba_depends_on_the_first_point_and_on_no_other_order():
    """Sampling begins there: what `StreamPoints` and PointNet do not know about, this network does."""
    made, points = pointmamba(), clouds()
    rest = 1 + torch.randperm(19, generator=generator(0))
    same_first = points[:, torch.cat([torch.zeros(1, dtype=torch.int64), rest])]
    assert apart(scores(made, same_first), scores(made, points)) < 1e-12
    assert apart(scores(made, points.flip(1)), scores(made, points)) > 1e-4


def test_patches_of_clouds_far_from_the_origin_are_the_nearest_points():
    """Distances by matrix products lose them in single precision: the square of 100 takes all digits."""
    made = copy.deepcopy(pointmamba(patches=16, neighbours=8)).float()
    points = torch.round(clouds(400) * 256).float() / 256  # a shift by 128 is then without rounding
    with torch.no_grad():
        made.place[0].weight.zero_()
        assert apart(made(points + 128), made(points)) < 1e-5
        distances = [torch.cdist(x, x, compute_mode="use_mm_for_euclid_dist") for x in (points, points + 128)]
        assert apart(*distances) > 0.05  # negative control


# --- both as objects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", BOTH)
def test_groups_are_a_partition_of_the_parameters(make):
    made = make()
    groups = made.parameter_groups(lr=0.1, ssm_lr=0.5, weight_decay=0.2)
    found = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(found) == sorted(map(id, made.parameters()))
    assert (groups[-1]["lr"], groups[-1]["weight_decay"]) == (0.1, 0.2)
    assert [(g["lr"], g["weight_decay"]) for g in groups[:-1]] == [(0.5, 0.0)] * (make is pointmamba)


@pytest.mark.parametrize("make", BOTH)
def test_every_parameter_is_used(make):
    made = make()
    made(clouds()).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in made.parameters())


@pytest.mark.parametrize("make", BOTH)
def test_saved_and_converted_networks_are_the_same(make):
    made, points = make(), clouds()
    expected = scores(made, points)
    buffer = io.BytesIO()
    torch.save(made.state_dict(), buffer)
    buffer.seek(0)
    other = make(1)
    assert apart(scores(other, points), expected) > 1e-3
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(scores(other, points), expected)
    single = scores(copy.deepcopy(made).float(), points)
    assert single.dtype == torch.float32
    assert apart(single.double(), expected) < 1e-4 * (1 + float(expected.abs().max()))


MAKERS = {
    "PointNet": lambda g: PointNet(3, 8, generator=g),
    "PointMamba": lambda g: PointMamba(replace(SMALL, conv_width=4), generator=g),
    "_perceptron": lambda g: _perceptron((3, 5, 2), g),
    "dense": lambda g: dense(3, 5, g),
}


@pytest.mark.parametrize("name", MAKERS)
def test_first_weights_come_from_the_generator_alone(name):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, again, other = (list(MAKERS[name](generator(seed)).state_dict().values()) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(map(torch.equal, again, first))
    assert not all(map(torch.equal, other, first))


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patches", "neighbours", "least"), [(5, 4, 5), (2, 7, 7)])
def test_clouds_of_too_few_points_have_no_patches(patches, neighbours, least):
    made = pointmamba(patches=patches, neighbours=neighbours)
    assert scores(made, clouds(least)).shape == (2, 3)
    with pytest.raises(ValueError, match=f"points must be at least {least} a cloud, got {least - 1}"):
        made(clouds(least - 1))


@pytest.mark.parametrize("make", BOTH)
def test_clouds_of_different_sizes_are_refused(make):
    with pytest.raises(ValueError, match=r"clouds\[1\] must be \(point, 3\) = \(9, 3\), got shape \(8, 3\)"):
        make().collate([np.zeros((9, 3)), np.zeros((8, 3))])


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (0, ValueError, r"count must be in 1..9 \(points of a cloud\), got 0"),
        (10, ValueError, r"count must be in 1..9 \(points of a cloud\), got 10"),
        (2.5, TypeError, r"count must be a whole number, got 2\.5"),
    ],
)
def test_a_number_of_centres_that_makes_no_sense_is_refused(count, error, message):
    with pytest.raises(error, match=message):
        farthest_points(clouds(9), count)


def test_sizes_that_make_no_sense_are_refused():
    for name, make in {
        "n_classes": lambda: PointNet(0, 8),
        "width": lambda: PointNet(3, 1),
        "patches": lambda: PointMamba(SMALL, patches=0),
        "neighbours": lambda: PointMamba(SMALL, neighbours=0),
    }.items():
        with pytest.raises(ValueError, match=f"{name} must be >= [12], got [01]"):
            make()

"""The classifier of clouds: listing, translation, axes, errors, weights as an object."""

from __future__ import annotations

import copy
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbook.models.stream import StreamConfig, StreamPoints, sort_along_axes

SMALL = StreamConfig(3, d_model=4, d_state=3, blocks=2, unit=0.1)
VARIANTS = [
    {},
    {"gap_feature": True},
    {"step": "learned"},
    {"step": "learned", "gap_feature": True, "conv_width": 4},
    {"conv_width": 4, "expand": 2, "discretization": "zoh"},
]


def network(seed: int = 0, scan_axes=(0, 1, 2), **changes) -> StreamPoints:
    """In double precision, with all weights away from zero."""
    generator = torch.Generator().manual_seed(seed)
    made = StreamPoints(replace(SMALL, **changes), scan_axes=scan_axes, generator=generator).double()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for weight in made.parameters():
            weight += torch.from_numpy(0.2 * rng.standard_normal(tuple(weight.shape)))
        for block in made.blocks:
            block.out_proj *= 4
            block.x_proj[block.rank :] *= 3
    return made


def clouds(n: int = 20, seed: int = 0, levels: int = 0, batch: int = 2) -> torch.Tensor:
    values = np.random.default_rng(seed).uniform(-1, 1, (batch, n, 3))
    return torch.from_numpy(np.round(values * levels) / levels if levels else values)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


def scores(made: StreamPoints, points: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return made(points)


def one_by_one(made: StreamPoints, points: torch.Tensor) -> torch.Tensor:
    """Scores of one cloud: every axis a sequence of its own, sorted by Python."""
    means = []
    for number, axis in enumerate(made.scan_axes):
        rolled = [axis, (axis + 1) % 3, (axis + 2) % 3]
        ordered = sorted(points.tolist(), key=lambda p, keys=rolled: [p[k] for k in keys])
        x = torch.tensor(ordered, dtype=torch.float64)
        gap = torch.diff(x[:, axis], prepend=x[:1, axis]) / made.config.unit
        v = made.embed(x) + made.axis_vector[number]
        if made.config.gap_feature:
            v = v + (1 + gap).log()[:, None] * made.gap_weight
        v = v[None]
        for block in made.blocks:
            v, _ = block(v, gap[None])
        means.append(v[0].mean(0))
    return made.readout(made.norm(torch.stack(means).mean(0)))


@pytest.mark.parametrize("scan_axes", [(0, 1, 2), (1,), (2, 0)])
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_scores_are_those_of_sequences_along_each_axis(changes, scan_axes):
    made, points = network(scan_axes=scan_axes, **changes), clouds(levels=2)
    with torch.no_grad():
        expected = torch.stack([one_by_one(made, cloud) for cloud in points])
    assert apart(scores(made, points), expected) < 1e-12


@given(
    n=st.integers(1, 40), levels=st.integers(0, 3), seed=st.integers(0, 1000),
    changes=st.sampled_from(VARIANTS),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_scores_do_not_tell_how_points_were_listed(n, levels, seed, changes):
    """S3, also on grids, where ties are the rule and points are equal, and with a convolution."""
    made, points = network(**changes), clouds(n, seed, levels)
    shuffled = points[:, torch.randperm(n, generator=torch.Generator().manual_seed(seed))]
    assert apart(scores(made, shuffled), scores(made, points)) < 1e-12


def test_ties_broken_by_listing_alone_would_be_noticed(monkeypatch):
    """S3n, a negative control: on a grid, sorted by the scanned axis and no other."""

    def careless(points, scan_axes=(0, 1, 2)):
        order = torch.stack([points[..., axis].argsort(dim=1, stable=True) for axis in scan_axes], 1)
        return order, sort_along_axes(points, scan_axes).gap

    points = clouds(levels=1)
    made, shuffled = network(), points.flip(1)
    assert apart(scores(made, shuffled), scores(made, points)) < 1e-12
    monkeypatch.setattr("eventbook.models.stream.points.sort_along_axes", careless)
    assert apart(scores(made, shuffled), scores(made, points)) > 1e-3


@pytest.mark.parametrize("step", ["coordinate", "learned"])
def test_a_translation_is_seen_by_the_embedding_alone(step):
    """S2: of multiples of 2^-10 by whole numbers; with a bias that undoes it, scores are the same."""
    made, points = network(step=step), torch.round(clouds() * 1024) / 1024
    shift = torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)
    blind = copy.deepcopy(made)
    with torch.no_grad():
        blind.embed[0].bias -= blind.embed[0].weight @ shift
    assert apart(scores(made, points + shift), scores(made, points)) > 1e-3
    assert apart(scores(blind, points + shift), scores(made, points)) < 1e-12


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_distances_and_unit_scale_together(changes):
    """S8: clouds twice as large in a unit twice as large, with an embedding that undoes it."""
    made, points = network(**changes), clouds()
    larger = network(**changes, unit=0.2)
    with torch.no_grad():
        larger.embed[0].weight /= 2
    assert apart(scores(larger, 2 * points), scores(made, points)) < 1e-13
    other = network(**changes, unit=0.2)  # negative control: the unit alone
    sees = made.config.step == "coordinate" or made.config.gap_feature
    change = apart(scores(other, points), scores(made, points))
    assert (change > 1e-4) if sees else (change == 0)


def test_only_axes_that_are_scanned_drive_the_decay():
    """With an embedding that sees no coordinate, stretching an axis changes what is scanned along it."""
    points = clouds()
    for axis in range(3):
        stretched = points.clone()
        stretched[..., axis] *= 2
        for scanned in range(3):
            made = network(scan_axes=(scanned,))
            with torch.no_grad():
                made.embed[0].weight.zero_()
            change = apart(scores(made, stretched), scores(made, points))
            assert (change > 1e-5) if scanned == axis else (change == 0)


def test_clouds_of_any_number_of_points_have_scores():
    """The mean runs over points: a cloud of one point listed twice has other scores, but scores."""
    made = network()
    for n in (1, 2, 200):
        assert torch.isfinite(scores(made, clouds(n))).all()


def test_gradients_are_those_of_finite_differences():
    """Of points too, which move the gaps; away from ties."""
    made = network(d_model=2, d_state=2, blocks=1, gap_feature=True)
    points = clouds(4, batch=1).requires_grad_()
    names = [name for name, _ in made.named_parameters()]

    def call(points, *weights):
        return torch.func.functional_call(made, dict(zip(names, weights, strict=True)), (points,))

    assert torch.autograd.gradcheck(call, (points, *made.parameters()), atol=1e-6, fast_mode=True)


# --- a network as an object --------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_groups_are_a_partition_of_the_parameters(changes):
    made = network(**changes)
    dynamics, others = made.parameter_groups(lr=0.1, ssm_lr=0.5, weight_decay=0.2)
    assert (dynamics["lr"], dynamics["weight_decay"]) == (0.5, 0.0)
    assert (others["lr"], others["weight_decay"]) == (0.1, 0.2)
    found = [id(weight) for group in (dynamics, others) for weight in group["params"]]
    assert sorted(found) == sorted(map(id, made.parameters()))
    assert {id(block.A_log) for block in made.blocks} <= {id(weight) for weight in dynamics["params"]}


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_every_parameter_is_used(changes):
    made = network(**changes)
    made(clouds()).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in made.parameters())


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_saved_copied_and_converted_networks_are_the_same(changes):
    made, points = network(**changes), clouds()
    expected = scores(made, points)
    buffer = io.BytesIO()
    torch.save(made.state_dict(), buffer)
    buffer.seek(0)
    other = network(1, **changes)
    assert apart(scores(other, points), expected) > 1e-3
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(scores(other, points), expected)
    single = scores(copy.deepcopy(made).float(), points)  # points are brought to its precision
    assert single.dtype == torch.float32
    assert apart(single.double(), expected) < 1e-4 * (1 + float(expected.abs().max()))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_first_weights_come_from_the_generator_alone(changes):
    def weights(seed):
        generator = torch.Generator().manual_seed(seed)
        return list(StreamPoints(replace(SMALL, **changes), generator=generator).state_dict().values())

    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = weights(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    assert all(map(torch.equal, weights(0), first))
    assert not all(map(torch.equal, weights(1), first))


# --- bad input ---------------------------------------------------------------------------------------------


def test_bad_points_get_one_clear_line():
    for points, message in ((clouds(0), "at least one a cloud"), (clouds() / 0, "points must be finite")):
        with pytest.raises(ValueError, match=message):
            network()(points)


@pytest.mark.parametrize("scan_axes", [(), (3,), (0, -1)])
def test_axes_that_do_not_exist_are_refused_when_the_network_is_made(scan_axes):
    with pytest.raises(ValueError, match=r"scan_axes must be some of 0..2, got"):
        network(scan_axes=scan_axes)


def test_axes_may_be_given_as_a_list():
    points = clouds()
    assert torch.equal(scores(network(scan_axes=[1, 2]), points), scores(network(scan_axes=(1, 2)), points))

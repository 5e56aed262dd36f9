"""Where thresholds lie, what trains them, and that the gradient of a network reaches them."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from eventbook.models.egru import EGRU, BetaThreshold, FixedThreshold, SigmoidThreshold, Threshold, to_gru

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mean, std", [(0.0, math.sqrt(2)), (-3.77, math.sqrt(2)), (-2.0, 0.5)])
def test_sigmoids_of_normal_numbers(mean, std):
    made = SigmoidThreshold(20_000, mean, std, generator=seeded())
    assert float(made.raw.detach().mean()) == pytest.approx(mean, abs=0.05)
    assert float(made.raw.detach().std()) == pytest.approx(std, rel=0.03)
    theta = made()
    assert ((theta > 0) & (theta < 1)).all()
    assert torch.equal(theta, torch.sigmoid(made.raw))


def test_a_sigmoid_stays_a_threshold_wherever_training_drives_it():
    made = SigmoidThreshold(3)
    with torch.no_grad():
        made.raw.copy_(torch.tensor([-50.0, 0.0, 50.0]))
    assert ((made() > 0) & (made() <= 1)).all()


@pytest.mark.parametrize("mean", [0.01, 0.3, 0.5])
def test_beta_numbers_have_their_mean_and_variance(mean):
    theta = BetaThreshold(50_000, mean, generator=seeded())().detach()
    a, b = 3 * mean / (1 - mean), 3
    variance = a * b / ((a + b) ** 2 * (a + b + 1))
    assert float(theta.mean()) == pytest.approx(mean, rel=0.03)
    assert float(theta.var()) == pytest.approx(variance, rel=0.1)
    assert ((theta >= 0) & (theta <= 1)).all()


def test_a_beta_threshold_is_clamped_whenever_it_is_read():
    made = BetaThreshold(3, 0.3, trainable=True)
    with torch.no_grad():
        made.raw.copy_(torch.tensor([-0.5, 0.4, 1.5]))
    theta = made()
    assert torch.equal(theta, torch.tensor([0.0, 0.4, 1.0]))
    theta.sum().backward()
    assert torch.equal(made.raw.grad, torch.tensor([0.0, 1.0, 0.0]))


def test_what_is_drawn_depends_on_the_generator_alone():
    for kind in (SigmoidThreshold, partial(BetaThreshold, mean=0.2)):
        assert torch.equal(kind(9, generator=seeded(1))(), kind(9, generator=seeded(1))())
        assert not torch.equal(kind(9, generator=seeded(1))(), kind(9, generator=seeded(2))())
        state = torch.random.get_rng_state()
        kind(9, generator=seeded(1))
        assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "make, trains",
    [
        (SigmoidThreshold, True),
        (partial(SigmoidThreshold, trainable=False), False),
        (partial(BetaThreshold, mean=0.2), False),
        (partial(BetaThreshold, mean=0.2, trainable=True), True),
        (lambda size, generator=None: FixedThreshold(size, 0.2), False),
    ],
)
def test_an_optimiser_moves_what_is_trained_and_nothing_else(make, trains):
    model = EGRU(3, 8, threshold=make, generator=seeded())
    before = model.cells[0].threshold().detach().clone()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model(torch.randn(6, 2, 3, generator=seeded()))[0].square().sum().backward()
    optimiser.step()
    assert torch.equal(model.cells[0].threshold(), before) is not trains
    assert sum(p.requires_grad for p in model.cells[0].threshold.parameters()) == trains


@pytest.mark.parametrize("path", ["event", "dense"])
@pytest.mark.parametrize("reset", ["threshold", "value", "paper"])
@pytest.mark.parametrize(
    "make, slope",
    [
        (partial(SigmoidThreshold, mean=-1.5), lambda made: (made() * (1 - made())).detach()),
        (partial(BetaThreshold, mean=0.2, trainable=True), lambda made: torch.ones(made.size, dtype=F64)),
    ],
)
def test_the_gradient_of_theta_reaches_what_is_stored(path, reset, make, slope):
    """Times the derivative of the parametrisation; theta's own from a number in its place."""
    model = EGRU(3, 9, threshold=make, reset=reset, path=path, generator=seeded()).double()
    x = torch.randn(12, 2, 3, generator=seeded(), dtype=F64)
    model(x)[0].square().sum().backward()
    stored = model.cells[0].threshold
    theta = stored().detach().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(stored), "forward", lambda _: theta)
        (expected,) = torch.autograd.grad(model(x)[0].square().sum(), theta)
    assert expected.abs().max() > 1e-4
    assert (stored.raw.grad - expected * slope(stored)).abs().max() <= 1e-12 * expected.abs().max()


def test_a_fixed_threshold_is_what_it_was_given():
    assert torch.equal(FixedThreshold(2, 0.5)(), torch.tensor([0.5, 0.5]))
    given = torch.tensor([0.1, 0.2])
    made = FixedThreshold(2, given)
    given.zero_()
    assert torch.equal(made(), torch.tensor([0.1, 0.2]))
    assert not made.always
    assert FixedThreshold(2, -math.inf).always
    assert "theta" in made.state_dict()


@pytest.mark.parametrize(
    "make, error, complaint",
    [
        (lambda: FixedThreshold(2, -0.1), ValueError, "threshold must be > 0 .* got -0.1"),
        (lambda: FixedThreshold(2, math.inf), ValueError, "threshold must be > 0 and finite.* got inf"),
        (lambda: FixedThreshold(2, math.nan), ValueError, "threshold must be > 0 .* got nan"),
        (lambda: FixedThreshold(2, [0.1, -math.inf]), ValueError, "or -inf for all.*, got -inf"),
        (lambda: FixedThreshold(2, torch.ones(3)), ValueError, r"value must be a number or \(2,\), got"),
        (lambda: FixedThreshold(2, "high"), TypeError, r"value must be a number or \(2,\) .* got 'high'"),
        (lambda: FixedThreshold(2, None), TypeError, r"value must be a number or \(2,\) numbers, got None"),
        (lambda: FixedThreshold(0, 0.1), ValueError, "size must be >= 1, got 0"),
        (lambda: BetaThreshold(2, 0.0), ValueError, "mean must be between 0 and 1, got 0.0"),
        (lambda: BetaThreshold(2, -0.2465), ValueError, "mean must be between 0 and 1, got -0.2465"),
        (lambda: SigmoidThreshold(2, math.nan), ValueError, "mean must be finite, got nan"),
        (lambda: SigmoidThreshold(2, 0.0, -1.0), ValueError, "std must be >= 0 and finite, got -1.0"),
        (lambda: SigmoidThreshold(1.5), TypeError, "size must be a whole number, got 1.5"),
    ],
)
def test_bad_thresholds_are_refused(make, error, complaint):
    with pytest.raises(error, match=complaint):
        make()


def test_a_threshold_of_ones_own():
    class Shared(Threshold):
        def __init__(self, size, generator=None):
            super().__init__(size)
            self.one = torch.nn.Parameter(torch.tensor(-1.0))

        def forward(self):
            return torch.nn.functional.softplus(self.one).expand(self.size)

    model = EGRU(3, 8, threshold=Shared, generator=seeded())
    model(torch.ones(4, 2, 3))[0].sum().backward()
    assert np.isfinite(float(model.cells[0].threshold.one.grad))
    with pytest.raises(NotImplementedError):
        Threshold(2)()


def test_whether_all_fire_always_is_what_theta_says():
    """Whoever changes theta, a state or a hand, changes it."""
    never, always = EGRU(3, 4, threshold=0.5, reset="none"), EGRU(3, 4, threshold=-math.inf, reset="none")
    never.load_state_dict(always.state_dict())
    assert never.cells[0].threshold.always
    to_gru(never)
    always.load_state_dict(EGRU(3, 4, threshold=0.5, reset="none").state_dict())
    assert not always.cells[0].threshold.always
    with pytest.raises(ValueError, match="model must always fire, threshold -inf"):
        to_gru(always)


@pytest.mark.parametrize(
    "theta, reset, complaint",
    [
        (-0.5, "none", r"cells\.1\.threshold\.theta must be > 0 and finite, or -inf for all .* got -0\.5"),
        (math.nan, "value", r"cells\.1\.threshold\.theta must be > 0 .* got nan"),
        (math.inf, "threshold", r"cells\.1\.threshold\.theta must be > 0 .* got inf"),
        (-math.inf, "threshold", r"cells\.1\.threshold\.theta must not be -inf where the reset is threshold"),
    ],
)
def test_a_state_is_looked_at_like_what_a_constructor_is_given(theta, reset, complaint):
    """And before anything of it is taken, also inside of a larger model."""
    model = EGRU(3, 4, 2, threshold=0.5, reset=reset)
    state = {name: value + 1 for name, value in model.state_dict().items()}
    state["cells.1.threshold.theta"][:] = theta
    before = {name: value.clone() for name, value in model.state_dict().items()}
    larger = torch.nn.Sequential(model)
    for strict in (True, False):
        with pytest.raises(ValueError, match=complaint):
            model.load_state_dict(state, strict=strict)
        with pytest.raises(ValueError, match=r"0\." + complaint):
            larger.load_state_dict({f"0.{name}": value for name, value in state.items()}, strict=strict)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    alone = model.cells[1]
    with pytest.raises(ValueError, match=complaint.replace(r"cells\.1\.", "")):
        alone.load_state_dict({name[8:]: value for name, value in state.items() if name[6] == "1"})
    state["cells.1.threshold.theta"][:] = 0.25
    model.load_state_dict(state)
    assert torch.equal(model.cells[1].threshold(), torch.full((4,), 0.25))


def test_states_without_a_theta_or_of_another_size_are_for_torch_to_judge():
    model = EGRU(3, 4, threshold=0.5)
    with pytest.raises(RuntimeError, match=r"size mismatch for cells\.0\.threshold\.theta"):
        model.load_state_dict(
            EGRU(3, 4, threshold=0.5).state_dict() | {"cells.0.threshold.theta": -torch.ones(3)}
        )
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({})
    assert model.load_state_dict({}, strict=False).missing_keys

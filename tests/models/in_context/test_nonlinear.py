"""The layer between an embedding and a gate."""

import pytest
import torch

from eventbook.models.in_context.nonlinear import NonlinearGD
from eventbook.models.in_context.tasks import sine_tasks


def some(seed=0, context=10, **options):
    return sine_tasks(8, context=context, generator=torch.Generator().manual_seed(seed), **options)


def model(seed=0):
    return NonlinearGD(6, generator=torch.Generator().manual_seed(seed))


def test_it_is_its_equations():
    made, tokens = model(), some().tokens()
    with torch.no_grad():
        h = made.layer.predict(tokens @ made.embedding.weight.T + made.embedding.bias)
        u = h * torch.distributions.Normal(0, 1).cdf(h)  # gelu
        gate = 1 / (1 + torch.exp(-(u @ made.glu.weight.T + made.glu.bias)))
        expected = (h * gate) @ made.readout.weight.T + made.readout.bias
        assert (made.predict(tokens) - expected).abs().max() < 1e-5


def test_it_knows_a_task_by_its_second_moments():
    """With no decay and nothing of the last example outside the sums, the order of examples is forgotten."""
    made, tasks = model().double(), some()
    tasks = type(tasks)(*(part.double() for part in tasks))
    with torch.no_grad():
        made.layer.Lambda.zero_()
        made.layer.window_attention[:, 2] = made.layer.window_attention[:, :, 2] = 0
        made.layer.gate[:2] = 0
        turned = tasks._replace(x=tasks.x.flip(1), y=tasks.y.flip(1))
        assert (made.predict(tasks.tokens()) - made.predict(turned.tokens())).abs().max() < 1e-12
        made.layer.Lambda.fill_(-1.0)
        assert (made.predict(tasks.tokens()) - made.predict(turned.tokens())).abs().max() > 1e-5


def test_every_parameter_is_used_and_held_once():
    made = model()
    made.predict(some().tokens()).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in made.parameters())
    held = [id(p) for g in made.parameter_groups(1e-3, 1e-4, 0.0) for p in g["params"]]
    assert sorted(held) == sorted(map(id, made.parameters()))


def test_first_values_come_from_the_generator_alone():
    first = model().state_dict()
    torch.rand(3)
    assert all(map(torch.equal, model().state_dict().values(), first.values()))
    assert not torch.equal(model(1).state_dict()["glu.weight"], first["glu.weight"])


def test_tokens_are_single_numbers():
    with pytest.raises(ValueError, match=r"tokens must be \(batch, time, 1\), got \(2, 5, 3\)"):
        model().predict(torch.zeros(2, 5, 3))
    with pytest.raises(ValueError, match=r"tokens must be \(batch, time, 1\), got \(2, 5\)"):
        model().predict(torch.zeros(2, 5))

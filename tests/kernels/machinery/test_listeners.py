"""Everybody who has to see a call is noticed, and the operator still works for each of them."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from eventbook.kernels.machinery import listeners
from eventbook.kernels.machinery.listeners import nobody_listens


class Subclass(Tensor):
    pass


class Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def test_plain_calls_are_not_listened_to():
    x = torch.ones(3)
    assert nobody_listens(x, x)
    assert nobody_listens(nn.Parameter(x, requires_grad=False))
    with torch.no_grad():
        assert nobody_listens(nn.Parameter(x))
    with torch.inference_mode():
        assert nobody_listens(nn.Parameter(x), torch.ones(2))


@pytest.mark.parametrize(
    "odd", [nn.Parameter(torch.ones(3)), torch.ones(3).as_subclass(Subclass), None, 3, [1.0]]
)
def test_arguments_that_need_the_operator(odd):
    x = torch.ones(3)
    assert not nobody_listens(odd)
    assert not nobody_listens(x, odd)
    assert not nobody_listens(odd, x)


@pytest.mark.parametrize(
    "mode",
    [
        Functions,
        Operators,
        FakeTensorMode,
        lambda: FlopCounterMode(display=False),
        lambda: torch.device("cpu"),
        torch.autograd.forward_ad.dual_level,
    ],
    ids=["functions", "operators", "fake", "flops", "device", "dual"],
)
def test_modes_are_noticed_while_they_last(mode):
    x = torch.ones(3)
    with mode():
        assert not nobody_listens(x)
    assert nobody_listens(x)


@pytest.mark.parametrize(
    "transform",
    [
        torch.vmap,
        torch.func.functionalize,
        lambda f: torch.func.grad(lambda x: f(x).sum()),
        lambda f: lambda x: torch.func.jvp(f, (x,), (x,)),
        lambda f: lambda x: torch.jit.trace(f, x, check_trace=False),
        *(
            lambda f, mode=mode, early=early: make_fx(f, tracing_mode=mode, pre_dispatch=early)
            for mode in ("real", "fake")
            for early in (False, True)
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transforms_are_noticed_while_they_last(transform):
    found = []

    def function(x):
        found.append(nobody_listens(x))
        return x * 2

    x = torch.ones(3)
    transform(function)(x)
    assert found
    assert not any(found)
    assert nobody_listens(x)


def test_compilers_see_a_constant():
    def function(x):
        return x * (2 if nobody_listens(x) else 3)

    x = torch.ones(3)
    assert torch.equal(torch.compile(function, backend="eager", fullgraph=True)(x), x * 3)
    assert torch.equal(function(x), x * 2)  # control


def test_a_torch_that_cannot_be_asked_is_listened_to(monkeypatch):
    assert nobody_listens(torch.ones(2))
    monkeypatch.setattr(listeners, "_CAN_ASK", False)
    assert not nobody_listens(torch.ones(2))

"""causal_silu: against its twin and finite differences; cuts of a stream, threads, layouts, errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_checks import distance, largest_distance, outputs_and_gradients, random

from eventbook.kernels.scans import causal, causal_silu
from eventbook.kernels.scans.causal import FLUSH, causal_silu_reference


def problem(batch: int, time: int, width: int, taps: int) -> dict[str, torch.Tensor]:
    shapes = {
        "x": (batch, time, width), "weight": (width, taps), "bias": (width,),
        "before": (batch, taps - 1, width),
    }  # fmt: skip
    return {
        name: random(*shape, dtype=torch.float32, seed=k).requires_grad_()
        for k, (name, shape) in enumerate(shapes.items())
    }


def double(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().double().requires_grad_() for name, tensor in inputs.items()}


def alone(**inputs: torch.Tensor) -> tuple[torch.Tensor]:
    return (causal_silu(**inputs)[0],)


def twin(**inputs: torch.Tensor) -> tuple[torch.Tensor]:
    return (causal_silu_reference(**inputs),)


@pytest.mark.parametrize("time", [0, 1, 2, 3, FLUSH - 1, FLUSH, FLUSH + 1, 3 * FLUSH + 5])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("taps", [1, 2, 4, 7])
def test_it_is_its_twin(time: int, width: int, taps: int) -> None:
    inputs = problem(3, time, width, taps)
    expected = outputs_and_gradients(twin, double(inputs))
    error, name = largest_distance(outputs_and_gradients(alone, inputs), expected)
    assert error < 2e-6, name


def test_gradients_of_double_precision_are_those_of_finite_differences() -> None:
    inputs = double(problem(2, 5, 3, 4))
    assert torch.autograd.gradcheck(lambda *leaves: causal_silu(*leaves), tuple(inputs.values()))


def test_a_tap_too_late_is_seen() -> None:
    inputs = problem(2, 9, 5, 4)
    late = {**inputs, "weight": inputs["weight"].roll(1, 1)}
    assert distance(alone(**late)[0], alone(**inputs)[0]) > 0.1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 6), st.booleans())
def test_a_stream_may_be_cut_anywhere(first: int, second: int, taps: int, single: bool) -> None:
    inputs = problem(2, first + second, 5, taps)
    inputs = inputs if single else double(inputs)
    x, rest = inputs["x"], {name: inputs[name] for name in ("weight", "bias")}
    whole, window = causal_silu(x, **rest, before=inputs["before"])
    start, carried = causal_silu(x[:, :first], **rest, before=inputs["before"])
    end, last = causal_silu(x[:, first:], **rest, before=carried)
    # torch's silu, in double precision, treats the last few numbers of an array in another way
    assert torch.allclose(torch.cat([start, end], 1), whole, rtol=0, atol=0 if single else 1e-14)
    assert torch.equal(last, window)
    assert window.shape == (2, taps - 1, 5)


def test_nothing_before_is_zeros_before() -> None:
    inputs = problem(2, 6, 5, 4)
    zeros = torch.zeros_like(inputs.pop("before"))
    assert torch.equal(causal_silu(**inputs)[0], causal_silu(**inputs, before=zeros)[0])


def test_the_future_is_not_seen() -> None:
    inputs = problem(1, 20, 5, 4)
    changed = inputs["x"].detach().clone()
    changed[:, 12:] += 1
    first, other = (causal_silu(**{**inputs, "x": x})[0] for x in (inputs["x"], changed))
    assert torch.equal(first[:, :12], other[:, :12])
    assert not torch.equal(first[:, 12], other[:, 12])


def test_threads_and_layout_change_no_bit() -> None:
    inputs = problem(5, 70, 20, 4)
    expected = outputs_and_gradients(alone, inputs)
    turned = {**inputs, "x": inputs["x"].detach().transpose(1, 2).contiguous().transpose(1, 2)}
    turned["x"].requires_grad_()
    for found in (
        outputs_and_gradients(lambda **given: (causal_silu(**given, threads=3)[0],), inputs),
        outputs_and_gradients(alone, turned),
    ):
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_operators_pass_the_checks_of_torch() -> None:
    inputs = problem(2, 5, 3, 4)
    torch.library.opcheck(causal._causal_silu, (*inputs.values(), 1))


def test_it_is_differentiable_once() -> None:
    inputs = problem(1, 5, 3, 4)
    (gradient,) = torch.autograd.grad(causal_silu(**inputs)[0].sum(), inputs["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="causal_silu is differentiable once"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": torch.zeros(2, 5)}, ValueError, r"x must be \(batch, time, channel\), got \(2, 5\)"),
        ({"weight": torch.zeros(4, 4)}, ValueError, "weight must be .* got"),
        ({"weight": torch.zeros(3, 0)}, ValueError, r"taps >= 1, got \(3, 0\)"),
        ({"bias": torch.zeros(4)}, ValueError, "bias must be"),
        ({"before": torch.zeros(2, 4, 3)}, ValueError, r"before must be .*\(2, 3, 3\), got \(2, 4, 3\)"),
        ({"before": torch.zeros(2, 3)}, ValueError, "before must be"),
        ({"bias": torch.zeros(3, dtype=torch.float64)}, TypeError, "bias must have the dtype of x"),
        ({"x": torch.zeros(2, 5, 3, dtype=torch.int64)}, TypeError, "x must be torch.float32|float32 or"),
    ],
)
def test_bad_input_is_named(changes: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        causal_silu(**{**problem(2, 5, 3, 4), **changes})
    assert "\n" not in str(caught.value)

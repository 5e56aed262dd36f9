"""What enters a scan: where tensors live, their dtypes, axes of no length, gaps without end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scan_checks import DOUBLE, SINGLE, outputs_and_gradients, random
from torch import Tensor

from eventbook.kernels.scans import (
    constant_scan,
    coordinate_scan,
    discretize,
    event_scan,
    event_step,
    linear_scan,
    selective_scan,
    selective_step,
    token_scan,
)
from eventbook.kernels.scans.constant import constant_scan_reference
from eventbook.kernels.scans.event import LONGEST_GAP, event_scan_reference
from eventbook.kernels.scans.linear import linear_scan_reference
from eventbook.kernels.scans.selective import RULES, selective_scan_reference

Axes = dict[str, str]

LINEAR: Axes = {"a": "btn", "b": "btn", "h0": "bn"}
CONSTANT: Axes = {"a": "n", "b": "btn", "h0": "bn"}
EVENT: Axes = {"lam": "n*", "gap": "bt", "b": "btn*", "h0": "bn*"}
TOKEN: Axes = {"lam": "n*", "gap": "bt", "table": "kn*", "h0": "bn*"}
SELECTIVE: Axes = {
    "u": "btn", "delta": "btn", "A": "ns", "B": "bts", "C": "bts", "D": "n", "h0": "bns",
}  # fmt: skip
COORDINATE: Axes = {**SELECTIVE, "gap": "bt", "rate": "n"}


def tokens(b: int, t: int) -> Tensor:
    return torch.zeros(b, t, dtype=torch.int64)


def by_token(gap: Tensor, **rest: Tensor) -> tuple[Tensor, Tensor]:
    return token_scan(token=tokens(*gap.shape), gap=gap, **rest)


def by_token_reference(lam: Tensor, gap: Tensor, table: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    return event_scan_reference(lam, gap, table[tokens(*gap.shape)], h0)


def by_coordinate_reference(gap: Tensor, rate: Tensor, **rest: Tensor) -> tuple[Tensor, Tensor]:
    return selective_scan_reference(**rest, delta_a=gap[..., None] * rate)


SCANS: dict[str, tuple[Callable, Callable, Axes]] = {
    "linear": (linear_scan, linear_scan_reference, LINEAR),
    "complex linear": (linear_scan, linear_scan_reference, {k: v + "*" for k, v in LINEAR.items()}),
    "constant": (constant_scan, constant_scan_reference, CONSTANT),
    "complex constant": (constant_scan, constant_scan_reference, {k: v + "*" for k, v in CONSTANT.items()}),
    "event": (event_scan, event_scan_reference, EVENT),
    "token": (by_token, by_token_reference, TOKEN),
    "selective": (selective_scan, selective_scan_reference, SELECTIVE),
    "selective, given": (selective_scan, selective_scan_reference, {**SELECTIVE, "delta_a": "btn"}),
    "coordinate": (coordinate_scan, by_coordinate_reference, COORDINATE),
}
each_scan = pytest.mark.parametrize("name", SCANS)
each_scan_of_tensors = pytest.mark.parametrize("name", [name for name in SCANS if name != "token"])
each_precision = pytest.mark.parametrize("dtypes", [SINGLE, DOUBLE], ids=["single", "double"])


def inputs(axes: Axes, dtypes: tuple[torch.dtype, torch.dtype] = SINGLE, **sizes: int) -> dict[str, Tensor]:
    """A leaf for each argument, all of one half; '*' marks complex ones."""
    lengths = {"b": 2, "t": 5, "n": 3, "s": 2, "k": 4, **sizes}
    return {
        name: torch.full(
            [lengths[axis] for axis in spelled.rstrip("*")], 0.5, dtype=dtypes["*" in spelled]
        ).requires_grad_()
        for name, spelled in axes.items()
    }


# --- axes of no length -------------------------------------------------------------------------------------


@each_scan
@each_precision
@pytest.mark.parametrize(
    "none", [("b",), ("t",), ("n",), ("s",), ("b", "n"), ("b", "t"), ("t", "n"), ("n", "s")],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("threads", [1, 2])
def test_an_axis_of_no_length_gives_what_the_twin_gives(name, dtypes, none, threads) -> None:
    scan, twin, axes = SCANS[name]
    x = inputs(axes, dtypes, **dict.fromkeys(none, 0))
    if name != "token":
        found = outputs_and_gradients(lambda **k: scan(**k, threads=threads), x)
    else:
        found = outputs_and_gradients(scan, x)
    expected = outputs_and_gradients(twin, x)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].shape == value.shape, key
        assert found[key].dtype == value.dtype, key
        torch.testing.assert_close(found[key], value, msg=key)


@pytest.mark.parametrize("rule", RULES)
@each_precision
def test_no_states_leave_the_feed_through(rule: str, dtypes) -> None:
    x = inputs(SELECTIVE, dtypes, s=0)
    y, last = selective_scan(**x, rule=rule)
    assert torch.equal(y, torch.full_like(y, 0.25))
    assert last.shape == (2, 3, 0)
    y.sum().backward()
    assert torch.equal(x["u"].grad, torch.full_like(x["u"], 0.5))
    assert torch.equal(x["D"].grad, torch.full_like(x["D"], 5.0))
    assert not x["delta"].grad.any()
    without = {k: v for k, v in x.items() if k != "D"}
    assert not selective_scan(**without, rule=rule)[0].any()


@pytest.mark.parametrize("batch", [0, 2])
def test_steps_of_an_empty_batch_or_state(batch: int) -> None:
    lam = torch.zeros(3, dtype=torch.complex64)
    h = torch.zeros(batch, 3, dtype=torch.complex64)
    assert event_step(lam, torch.zeros(batch), h, h).shape == (batch, 3)
    x, p = torch.zeros(batch, 3), torch.zeros(batch, 0)
    y, state = selective_step(x, x, torch.zeros(3, 0), p, p, torch.zeros(batch, 3, 0))
    assert (y.shape, state.shape) == ((batch, 3), (batch, 3, 0))


@each_scan_of_tensors
def test_vmap_over_an_axis_of_no_length(name: str) -> None:
    """The mapped axis is folded into a batch that has no rows."""
    scan, _, axes = SCANS[name]
    x = {k: v.detach() for k, v in inputs(axes, b=0).items()}
    mapped = {k: torch.stack([v] * 3) if "b" in axes[k] else v for k, v in x.items()}
    dims = {k: 0 if "b" in axes[k] else None for k in x}
    outputs = torch.vmap(lambda kw: scan(**kw), in_dims=(dims,))(mapped)
    assert [out.shape for out in outputs] == [(3, *out.shape) for out in scan(**x)]


# --- where tensors live ------------------------------------------------------------------------------------


@each_scan
def test_a_tensor_without_memory_among_others_is_refused(name: str) -> None:
    scan, _, axes = SCANS[name]
    x = {k: v.detach() for k, v in inputs(axes).items()}
    scan(**x)  # control
    for argument in x:
        if name == "token" and argument == "gap":
            continue
        with pytest.raises(ValueError, match=f"{argument} must be on the CPU, .*, got meta") as caught:
            scan(**{**x, argument: x[argument].to("meta")})
        assert "\n" not in str(caught.value)


def test_a_token_without_memory_is_refused() -> None:
    x = inputs(TOKEN)
    with pytest.raises(ValueError, match=r"token must be on the CPU, .*, got meta"):
        token_scan(**x, token=tokens(2, 5).to("meta"))


def test_a_gate_without_memory_is_refused() -> None:
    x = inputs(SELECTIVE)
    with pytest.raises(ValueError, match=r"z must be on the CPU, .*, got meta"):
        selective_scan(**x, z=x["u"].to("meta"))


@each_scan_of_tensors
def test_shapes_alone_are_scanned_where_nothing_has_memory(name: str) -> None:
    scan, _, axes = SCANS[name]
    x = inputs(axes)
    outputs = scan(**{k: v.detach().to("meta") for k, v in x.items()})
    assert [(out.shape, out.dtype) for out in outputs] == [(out.shape, out.dtype) for out in scan(**x)]


def test_what_is_no_tensor_is_named() -> None:
    x = torch.zeros(2, 5, 3)
    with pytest.raises(TypeError, match="a must be a tensor, got ndarray"):
        linear_scan(x.numpy(), x)


# --- dtypes ------------------------------------------------------------------------------------------------


@each_scan
def test_the_dtype_of_each_tensor_is_checked(name: str) -> None:
    """Each argument alone in the other precision, h0 among them."""
    scan, _, axes = SCANS[name]
    single, double = ({k: v.detach() for k, v in inputs(axes, dtypes).items()} for dtypes in (SINGLE, DOUBLE))
    for argument in single:
        with pytest.raises(TypeError, match=r"(must have the dtype of|must be torch\.float\d\d)"):
            scan(**{**single, argument: double[argument]})
        with pytest.raises(TypeError, match=r"(must have the dtype of|must be torch\.float\d\d)"):
            scan(**{**double, argument: single[argument]})


@each_scan
@each_precision
def test_a_gradient_asked_for_alone_is_the_one_of_all_together(name: str, dtypes) -> None:
    """What the backward pass needs is kept whichever argument wants it."""
    scan, _, axes = SCANS[name]
    x = inputs(axes, dtypes, t=70)
    together = torch.autograd.grad(scan(**x)[0].abs().sum(), list(x.values()))
    for argument, expected in zip(x, together, strict=True):
        alone = {k: v if k == argument else v.detach() for k, v in x.items()}
        (gradient,) = torch.autograd.grad(scan(**alone)[0].abs().sum(), alone[argument])
        assert torch.equal(gradient, expected), argument


# --- gaps without end --------------------------------------------------------------------------------------


@each_precision
@pytest.mark.parametrize("gap", [torch.inf, 2 * LONGEST_GAP])
def test_a_gap_without_end_is_refused_in_both_precisions(dtypes, gap: float) -> None:
    message = r"gap must be <= 2\^100, got (inf|2\.5353e\+30) at \[1, 3\]: to forget a state, begin a row"
    for name in ("event", "token", "coordinate"):
        scan, _, axes = SCANS[name]
        x = {k: v.detach() for k, v in inputs(axes, dtypes).items()}
        x["gap"][1, 3] = gap
        with pytest.raises(ValueError, match=message) as caught:
            scan(**x)
        assert "\n" not in str(caught.value)
    x = inputs(EVENT, dtypes)
    gaps = torch.zeros(2, 5, dtype=dtypes[0])
    gaps[1, 3] = gap
    for mode in ("dirac", "async", "zoh"):
        with pytest.raises(ValueError, match=message):
            discretize(mode, x["lam"], torch.ones(3, dtype=dtypes[0]), gaps)


@each_precision
def test_the_longest_gap_leaves_nothing_and_no_gradient(dtypes) -> None:
    """And both precisions say so: no NaN from lost phases, nothing from a decay that is too small."""
    lam = torch.tensor([-1 + 2j, -0.5 - 300j, -1e-3 + 0j], dtype=dtypes[1], requires_grad=True)
    gap = torch.ones(1, 4, dtype=dtypes[0])
    gap[0, 2] = LONGEST_GAP
    gap.requires_grad_()
    b = torch.ones(1, 4, 3, dtype=dtypes[1])
    h, _ = event_scan(lam, gap, b)
    torch.testing.assert_close(h[:, 2], b[:, 2], rtol=0, atol=1e-37)
    to_lam, to_gap = torch.autograd.grad(h[:, 2].abs().square().sum(), (lam, gap))
    assert to_lam.abs().max() < 1e-7
    assert to_gap.abs().max() < 1e-30


def _single_results() -> list[Tensor]:
    """Outputs and gradients of every scan in single precision, from the same random arguments."""
    u, delta, B = random(2, 9, 3), random(2, 9, 3).abs(), random(2, 9, 4)
    A, gap, rate, lam = -random(3, 4).abs(), random(2, 9).abs(), random(3).abs(), -random(5).abs() + 1j
    b = random(2, 9, 5, dtype=torch.complex128)
    leaves = {
        name: x.to(torch.complex64 if x.is_complex() else torch.float32).requires_grad_()
        for name, x in {
            "u": u,
            "delta": delta,
            "A": A,
            "B": B,
            "gap": gap,
            "rate": rate,
            "lam": lam,
            "b": b,
        }.items()
    }
    u, delta, A, B, gap, rate, lam, b = leaves.values()
    outputs = [
        selective_scan(u, delta, A, B, B)[0],
        coordinate_scan(u, gap, rate, delta, A, B, B)[0],
        event_scan(lam, gap, b)[0].real,
        linear_scan(delta, u)[0],
    ]
    gradients = torch.autograd.grad(sum(y.sum() for y in outputs), list(leaves.values()))
    return [*outputs, *gradients]


def test_single_precision_does_not_ask_what_torch_takes_by_default() -> None:
    expected = _single_results()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = _single_results()
    finally:
        torch.set_default_dtype(before)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)

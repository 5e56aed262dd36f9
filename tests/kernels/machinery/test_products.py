"""linear: torch's product to rounding, forward and backward, and when it is left to torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from eventbook.kernels.machinery import products
from eventbook.kernels.machinery.products import IMAGES, LEAST_PRODUCTS, cut, linear


@pytest.fixture
def by_convolution(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every processor take the convolution, and count how often it is taken."""
    calls: list[int] = []
    convolve = functional.conv2d

    def counted(*given: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return convolve(*given)

    monkeypatch.setattr(products, "prefers_convolution", lambda: True)
    monkeypatch.setattr(functional, "conv2d", counted)
    return calls


def problem(batch: int, time: int, into: int, out: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, time, into, generator=generator).requires_grad_()
    weight = torch.randn(out, into, generator=generator).requires_grad_()
    return x, weight, torch.randn(batch, time, out, generator=generator)


@pytest.mark.parametrize(
    "shape", [(8, 1024, 24, 44), (1, 4096, 48, 50), (40, 100, 66, 40), (3, 1000, 64, 60)]
)
def test_it_is_the_product(shape: tuple[int, ...], by_convolution: list[int]) -> None:
    x, weight, g = problem(*shape)
    y = linear(x, weight)
    assert by_convolution == [1]
    assert y.is_contiguous()
    wide = [leaf.detach().double().requires_grad_() for leaf in (x, weight)]
    expected = functional.linear(*wide)
    found = (y, *torch.autograd.grad(y, (x, weight), g))
    wanted = (expected, *torch.autograd.grad(expected, wide, g.double()))
    for a, b in zip(found, wanted, strict=True):
        assert float((a - b).detach().abs().max() / b.detach().abs().max()) < 5e-6


def test_parts_of_a_larger_tensor_are_read_where_they_are(by_convolution: list[int]) -> None:
    x, weight, _ = problem(8, 1024, 64, 40)
    part = x[:, :, 10:40]
    assert torch.allclose(linear(part, weight[:, :30]), functional.linear(part, weight[:, :30]), atol=1e-4)
    assert by_convolution == [1]


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.zeros(8, 1024, 64, dtype=torch.float64), torch.zeros(32, 64, dtype=torch.float64)),
        (torch.zeros(1, 10_007, 64), torch.zeros(32, 64)),  # a prime
        (torch.zeros(2, 8, 64), torch.zeros(32, 64)),  # small
        (torch.zeros(0, 8, 64), torch.zeros(32, 64)),
        (torch.zeros(8, 1024, 0), torch.zeros(32, 0)),
        (torch.zeros(8192, 64), torch.zeros(32, 64)),
    ],
)
def test_the_rest_is_left_to_torch(x: torch.Tensor, weight: torch.Tensor, by_convolution: list[int]) -> None:
    assert linear(x, weight).shape == (*x.shape[:-1], 32)
    assert by_convolution == []


def test_another_processor_takes_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, _ = problem(8, 1024, 64, 32)
    assert x.numel() * len(weight) > LEAST_PRODUCTS
    monkeypatch.setattr(products, "prefers_convolution", lambda: False)
    assert torch.equal(linear(x, weight), functional.linear(x, weight))


TAKEN = """
import torch
from torch.nn import functional
from eventbook.kernels.machinery import products

torch.set_num_threads(1)
calls, convolve = [], functional.conv2d
functional.conv2d = lambda *given: calls.append(1) or convolve(*given)
torch.backends.mkldnn.is_available = lambda: True
torch.backends.cpu.get_cpu_capability = lambda: "AVX2"
x, weight = torch.ones(8, 1024, 64), torch.ones(32, 64)
assert x.numel() * len(weight) > products.LEAST_PRODUCTS
products.linear(x, weight)
print(len(calls))
"""


@pytest.mark.parametrize(("wish", "taken"), [({}, "1"), ({"MKL_CBWR": "COMPATIBLE"}, "0")])
def test_who_asks_for_reproducible_products_gets_them(wish: dict[str, str], taken: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"} | wish
    done = subprocess.run(
        [sys.executable, "-c", TAKEN], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.strip() == taken, done.stderr[-2_000:]


@pytest.mark.parametrize("batch", [1, 3, 8, 15, 16, 100])
def test_parts_are_equal_and_enough(batch: int) -> None:
    for time in (1, 7, 64, 1000, 1021, 1024):
        parts = cut(batch, time)
        assert parts == 0 or (time % parts == 0 and batch * parts >= IMAGES and time // parts >= 4)
    assert cut(batch, 1024) > 0


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RuntimeError):
        linear(torch.zeros(8, 1024, 64), torch.zeros(32, 65))

"""Event-SSM's scan: decays formed on the fly, forward and backward, against scans that are given the decays.

python benchmarks/event_scan.py [path of the JSON]
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from eventbook.kernels.scans import event, event_scan, linear_scan, token_scan
from harness import WITHOUT_CALL, Case, Goal, Missing, Work, growth, main, of_peer, triad, without_call

PEERS = {"jax, lax.scan with exp inside": "jax", "s5-pytorch, associative scan": "s5-pytorch"}
LIMIT = "triad of the same bytes"


def inputs(shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Eigenvalues with time constants around the mean gap, gaps, inputs."""
    batch, time, width = shape
    generator = torch.Generator().manual_seed(0)
    lam = torch.complex(-torch.rand(width, generator=generator), 5 * torch.randn(width, generator=generator))
    gap = torch.rand(batch, time, generator=generator)
    return lam, gap, torch.randn(*shape, dtype=torch.complex64, generator=generator)


def states_in_jax(jax: Any) -> Callable[[Any, Any, Any], Any]:
    """A function (eigenvalues, gaps, drive) -> states, with the exponential inside jax's loop."""

    def states(eigenvalues: Any, gaps: Any, drive: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = jax.numpy.exp(eigenvalues * x[0][:, None]) * h + x[1]
            return h, h

        swapped = jax.numpy.swapaxes(gaps, 0, 1), jax.numpy.swapaxes(drive, 0, 1)
        return jax.numpy.swapaxes(jax.lax.scan(step, jax.numpy.zeros_like(drive[:, 0]), swapped)[1], 0, 1)

    return states


def in_jax(jax: Any, lam: torch.Tensor, gap: torch.Tensor, b: torch.Tensor, g: torch.Tensor | None) -> Work:
    """jax with the exponential inside the loop; with a cotangent `g`, forward and backward."""
    eigenvalues, gaps, drive = (jax.numpy.asarray(x.detach().numpy()) for x in (lam, gap, b))
    states = states_in_jax(jax)
    if g is None:
        compiled = jax.jit(states)
        return lambda: compiled(eigenvalues, gaps, drive).block_until_ready()
    cotangent = jax.numpy.asarray(g.numpy())

    @jax.jit
    def gradients(eigenvalues: Any, gaps: Any, drive: Any, cotangent: Any) -> Any:
        return jax.vjp(states, eigenvalues, gaps, drive)[1](cotangent)

    return lambda: jax.block_until_ready(gradients(eigenvalues, gaps, drive, cotangent))


def in_s5(s5: Any, lam: torch.Tensor, gap: torch.Tensor, b: torch.Tensor) -> Work:
    """The associative scan of s5-pytorch, one stream after the other, decays formed by torch."""

    @torch.no_grad()
    def work() -> None:
        decay = torch.exp(lam * gap[..., None])
        for row in range(b.shape[0]):
            s5.associative_scan(s5.binary_operator, (decay[row], b[row]))

    return work


def forward(shape: tuple[int, int, int], goals: list[Goal], threads: int, s5: bool = True) -> Case:
    lam, gap, b = inputs(shape)

    def unfused() -> None:
        linear_scan(torch.exp(lam * gap[..., None]), b, threads=threads)

    def ours() -> None:
        event_scan(lam, gap, b, threads=threads)

    competitors: dict[str, Work | Missing] = {
        "ours": ours,
        WITHOUT_CALL: without_call(event, ours),
        LIMIT: triad(2 * b.numel() * b.element_size(), threads),
        "ours, decays stored (torch.exp, linear_scan)": unfused,
        "jax, lax.scan with exp inside": of_peer("jax", lambda jax: in_jax(jax, lam, gap, b, None)),
    }
    if s5:
        competitors["s5-pytorch, associative scan"] = of_peer("s5.s5_model", lambda m: in_s5(m, lam, gap, b))
    return Case("event_scan, forward", str(shape), competitors, goals, PEERS, (LIMIT,), threads)


def both_ways(shape: tuple[int, int, int], goals: list[Goal], threads: int) -> Case:
    lam, gap, b = inputs(shape)
    leaves = [x.requires_grad_() for x in (lam, gap, b)]
    g = torch.randn(*shape, dtype=torch.complex64)
    competitors: dict[str, Work | Missing] = {
        "ours": lambda: torch.autograd.grad(event_scan(*leaves, threads=threads)[0], leaves, g),
        LIMIT: triad(5 * b.numel() * b.element_size(), threads),
        "jax, lax.scan with exp inside": of_peer("jax", lambda jax: in_jax(jax, lam, gap, b, g)),
    }
    return Case("event_scan, forward + backward", str(shape), competitors, goals, PEERS, (LIMIT,), threads)


def backward(shape: tuple[int, int, int], goals: list[Goal], threads: int) -> Case:
    leaves = [x.requires_grad_() for x in inputs(shape)]
    h, _ = event_scan(*leaves, threads=threads)
    g = torch.randn_like(h)

    def ours() -> None:
        torch.autograd.grad(h, leaves, g, retain_graph=True)

    competitors: dict[str, Work | Missing] = {
        "ours": ours,
        WITHOUT_CALL: without_call(event, ours),
        LIMIT: triad(3 * h.numel() * h.element_size(), threads),
    }
    return Case("event_scan, backward alone", str(shape), competitors, goals, PEERS, (LIMIT,), threads)


def tokens(shape: tuple[int, int, int], threads: int) -> Case:
    lam, gap, _ = inputs(shape)
    table = torch.randn(2312, shape[2], dtype=torch.complex64)
    token = torch.randint(2312, shape[:2])
    competitors: dict[str, Work | Missing] = {
        "ours": lambda: token_scan(lam, gap, table, token, threads=threads),
        "ours, rows gathered (table[token], event_scan)": lambda: event_scan(
            lam, gap, table[token], threads=threads
        ),
    }
    return Case("token_scan, forward", str(shape), competitors, [], PEERS, (), threads)


def cases() -> Iterator[Case]:
    jax = "jax, lax.scan with exp inside"
    for shape in ((8, 4096, 128), (32, 1024, 256)):
        yield forward(shape, [], 2)
        yield both_ways(shape, [Goal(jax, 20)], 2)
        yield backward(shape, [Goal(LIMIT, 0.8)], 2)
    yield both_ways((1, 1_000_000, 64), [Goal(jax, 20), Goal(LIMIT, 0.75)], 1)
    yield tokens((8, 4096, 128), 1)


def fits() -> Iterator[dict[str, Any]]:
    def of_length(length: int) -> Work:
        lam, gap, b = inputs((1, length, 64))
        return lambda: event_scan(lam, gap, b)

    sizes = np.logspace(4, 6, 7).astype(int).tolist()
    yield growth("event_scan in events, (1, L, 64)", of_length, sizes, 1.0)


if __name__ == "__main__":
    main(__file__, "Event scans", cases, fits)

"""The linear scan, real and complex, forward and backward, against every other way to run it on a processor.

python benchmarks/linear_scan.py [path of the JSON]
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from eventbook.kernels.scans import linear, linear_scan
from harness import WITHOUT_CALL, Case, Goal, Missing, Work, growth, main, of_peer, triad, without_call

PEERS = {
    "jax, lax.scan": "jax",
    "jax, associative_scan": "jax",
    "mambapy, pscan": "mambapy",
    "torch, addcmul loop": "torch",
    "torch, compiled associative_scan": "torch",
}
LIMIT = "triad of the same bytes"


def inputs(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Decays of modulus 0.9 to 1 and inputs of unit variance."""
    generator = torch.Generator().manual_seed(0)
    b = torch.randn(*shape, dtype=dtype, generator=generator)
    modulus = 0.9 + 0.1 * torch.rand(*shape, generator=generator)
    if not dtype.is_complex:
        return modulus.to(dtype), b
    return torch.polar(modulus, 6.28 * torch.rand(*shape, generator=generator)).to(dtype), b


def addcmul_loop(a: torch.Tensor, b: torch.Tensor) -> Work:
    """A loop over time in torch without gradients, into a preallocated result."""
    out = torch.empty_like(b)

    @torch.no_grad()
    def work() -> None:
        state = torch.zeros_like(b[:, 0])
        for t in range(b.shape[1]):
            state = torch.addcmul(b[:, t], a[:, t], state)
            out[:, t] = state

    return work


def compiled_associative(a: torch.Tensor, b: torch.Tensor) -> Work | Missing:
    """torch's own associative scan, compiled."""
    from torch._higher_order_ops.associative_scan import associative_scan

    def combine(x: Any, y: Any) -> Any:
        return x[0] * y[0], y[0] * x[1] + y[1]

    @torch.compile
    def states(a: torch.Tensor, b: torch.Tensor) -> Any:
        return associative_scan(combine, (a, b), dim=1, combine_mode="generic")

    @torch.no_grad()
    def work() -> None:
        states(a, b)

    try:
        work()
    except Exception as error:  # no compiler, or an operator that this version cannot lower
        return Missing(f"{type(error).__name__}: {error}".replace("\n", " ")[:120])
    return work


def in_jax(jax: Any, a: torch.Tensor, b: torch.Tensor, associative: bool) -> Work:
    """jax on arrays of its own."""
    decay, drive = jax.numpy.asarray(a.numpy()), jax.numpy.asarray(b.numpy())

    def tree(decay: Any, drive: Any) -> Any:
        def combine(x: Any, y: Any) -> Any:
            return x[0] * y[0], y[0] * x[1] + y[1]

        return jax.lax.associative_scan(combine, (decay, drive), axis=1)[1]

    def loop(decay: Any, drive: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = x[0] * h + x[1]
            return h, h

        swapped = jax.numpy.swapaxes(decay, 0, 1), jax.numpy.swapaxes(drive, 0, 1)
        return jax.numpy.swapaxes(jax.lax.scan(step, jax.numpy.zeros_like(drive[:, 0]), swapped)[1], 0, 1)

    compiled = jax.jit(tree if associative else loop)
    return lambda: compiled(decay, drive).block_until_ready()


def in_mambapy(a: torch.Tensor, b: torch.Tensor) -> Work | Missing:
    """mambapy's parallel scan, on (batch, length, channels, 1)."""

    def build(pscan: Any) -> Work:
        decay, drive = a.unsqueeze(-1), b.unsqueeze(-1)

        @torch.no_grad()
        def work() -> None:
            pscan.pscan(decay, drive)

        return work

    return of_peer("mambapy.pscan", build)


def forward(shape: tuple[int, int, int], dtype: torch.dtype, goals: list[Goal], threads: int) -> Case:
    a, b = inputs(shape, dtype)

    def ours() -> None:
        linear_scan(a, b, threads=threads)

    competitors: dict[str, Work | Missing] = {
        "ours": ours,
        WITHOUT_CALL: without_call(linear, ours),
        LIMIT: triad(3 * a.numel() * a.element_size(), threads, past_cache=True),
        "torch, addcmul loop": addcmul_loop(a, b),
        "torch, compiled associative_scan": compiled_associative(a, b),
        "jax, lax.scan": of_peer("jax", lambda jax: in_jax(jax, a, b, associative=False)),
        "jax, associative_scan": of_peer("jax", lambda jax: in_jax(jax, a, b, associative=True)),
        "mambapy, pscan": in_mambapy(a, b),
    }
    kind = "complex" if dtype.is_complex else "real"
    return Case(
        f"linear_scan, {kind}, forward",
        str(shape),
        competitors,
        goals,
        PEERS,
        (LIMIT,),
        threads,
    )


def both_ways(shape: tuple[int, int, int], dtype: torch.dtype, goals: list[Goal], threads: int) -> Case:
    a, b = (x.requires_grad_() for x in inputs(shape, dtype))
    g = torch.randn(*shape, dtype=dtype)

    def ours() -> None:
        torch.autograd.grad(linear_scan(a, b, threads=threads)[0], (a, b), g)

    def jax_way(jax: Any) -> Work:
        decay, drive, cotangent = (jax.numpy.asarray(x.detach().numpy()) for x in (a, b, g))

        def loop(decay: Any, drive: Any) -> Any:
            def step(h: Any, x: Any) -> Any:
                h = x[0] * h + x[1]
                return h, h

            swapped = jax.numpy.swapaxes(decay, 0, 1), jax.numpy.swapaxes(drive, 0, 1)
            return jax.numpy.swapaxes(jax.lax.scan(step, jax.numpy.zeros_like(drive[:, 0]), swapped)[1], 0, 1)

        @jax.jit
        def gradients(decay: Any, drive: Any, cotangent: Any) -> Any:
            return jax.vjp(loop, decay, drive)[1](cotangent)

        return lambda: jax.block_until_ready(gradients(decay, drive, cotangent))

    competitors: dict[str, Work | Missing] = {
        "ours": ours,
        LIMIT: triad(8 * a.numel() * a.element_size(), threads),
        "jax, lax.scan": of_peer("jax", jax_way),
    }
    kernel = "linear_scan, complex, forward + backward"
    return Case(kernel, str(shape), competitors, goals, PEERS, (LIMIT,), threads)


def backward(shape: tuple[int, int, int], goals: list[Goal], threads: int) -> Case:
    leaves = [x.requires_grad_() for x in inputs(shape, torch.complex64)]
    h, _ = linear_scan(*leaves, threads=threads)
    g = torch.randn_like(h)

    def ours() -> None:
        torch.autograd.grad(h, leaves, g, retain_graph=True)

    competitors: dict[str, Work | Missing] = {
        "ours": ours,
        WITHOUT_CALL: without_call(linear, ours),
        LIMIT: triad(5 * h.numel() * h.element_size(), threads),
    }
    kernel = "linear_scan, complex, backward alone"
    return Case(kernel, str(shape), competitors, goals, PEERS, (LIMIT,), threads)


def cases() -> Iterator[Case]:
    compiled = "torch, compiled associative_scan"
    everyone = ["torch, addcmul loop", compiled, "jax, lax.scan", "jax, associative_scan", "mambapy, pscan"]
    large = [Goal(name, 8) for name in everyone] + [Goal(LIMIT, 0.88)]
    yield forward((8, 4096, 128), torch.complex64, large, 2)
    yield forward((32, 1024, 256), torch.complex64, [Goal("torch, addcmul loop", 3.5), Goal(LIMIT, 0.88)], 2)
    yield forward((8, 1024, 64), torch.complex64, [Goal("mambapy, pscan", 12), Goal("jax, lax.scan", 15)], 2)
    yield forward((8, 4096, 128), torch.float32, [Goal(compiled, 5), Goal(LIMIT, 0.85)], 2)
    yield both_ways((8, 1024, 64), torch.complex64, [Goal("jax, lax.scan", 10)], 2)
    yield backward((8, 4096, 128), [Goal(LIMIT, 0.8)], 2)


def fits() -> Iterator[dict[str, Any]]:
    def of_length(length: int) -> Work:
        a, b = inputs((1, length, 64), torch.complex64)
        return lambda: linear_scan(a, b)

    sizes = np.logspace(4, 6, 7).astype(int).tolist()
    yield growth("linear_scan in time, (1, L, 64) complex", of_length, sizes, 1.0)


if __name__ == "__main__":
    main(__file__, "Linear scans", cases, fits)

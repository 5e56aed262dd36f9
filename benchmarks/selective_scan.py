"""The selective scan, forward and backward, with and without a step of its own for the state.

python benchmarks/selective_scan.py [path of the JSON]
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from eventbook.kernels.scans import coordinate_scan, selective, selective_scan
from eventbook.kernels.scans.oracles import pairwise_coordinates
from eventbook.kernels.scans.selective import selective_scan_reference
from harness import WITHOUT_CALL, Case, Goal, Missing, Work, growth, main, multiply_add, of_peer, without_call
from peers.ggml_scan import OldVersion, SsmScan

PEERS = {
    "jax, lax.scan with fused exp": "jax",
    "mambapy, pscan": "mambapy",
    "torch, compiled associative scan": "torch",
    "ggml, ssm_scan": "ggml-python",
}
LIMIT = "multiply-adds of the same number"
# floating-point operations for a state element: 1 for the exponent, 17 for the exponential (minimum, maximum,
# 3 for the rounding, 6 multiply-adds), 1 + 2 for the new state, 2 for the output
OPERATIONS = 23
# going back: the state once more (21); 2 each for what reaches the state, C, B, u with delta, the step of the
# state and A; 1 each for what reaches the state before and for its product with that state
OPERATIONS_BACK = 35
# of results in single precision, in units of the largest. ggml forms log(1 + exp) as it stands, which for a
# step of 0.001 is wrong by up to 6e-5 of the step; but so small a step adds little to a result
TOLERANCE = 1e-5


def inputs(batch: int, time: int, width: int, states: int) -> list[torch.Tensor]:
    """u, delta, A, B, C, D as Mamba's initialisation has them."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    delta = 10 ** (-3 + 2 * torch.rand(batch, time, width, generator=generator))
    A = -torch.arange(1.0, states + 1).expand(width, states).contiguous()
    return [
        normal(batch, time, width),
        delta,
        A,
        normal(batch, time, states),
        normal(batch, time, states),
        normal(width),
    ]


def in_jax(jax: Any, tensors: list[torch.Tensor], g: torch.Tensor | None) -> Work:
    """jax with decays formed inside the loop over time; with a cotangent `g`, forward and backward."""
    arrays = [jax.numpy.asarray(x.detach().numpy()) for x in tensors]

    def outputs(u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any) -> Any:
        def step(x: Any, now: Any) -> Any:
            u_t, delta_t, b_t, c_t = now
            x = jax.numpy.exp(delta_t[..., None] * A) * x + (delta_t * u_t)[..., None] * b_t[:, None]
            return x, (x * c_t[:, None]).sum(-1)

        swapped = tuple(jax.numpy.swapaxes(v, 0, 1) for v in (u, delta, B, C))
        start = jax.numpy.zeros((u.shape[0], *A.shape), u.dtype)
        return jax.numpy.swapaxes(jax.lax.scan(step, start, swapped)[1], 0, 1) + D * u

    if g is None:
        compiled = jax.jit(outputs)
        return lambda: compiled(*arrays).block_until_ready()
    cotangent = jax.numpy.asarray(g.numpy())

    @jax.jit
    def gradients(cotangent: Any, *arrays: Any) -> Any:
        return jax.vjp(outputs, *arrays)[1](cotangent)

    return lambda: jax.block_until_ready(gradients(cotangent, *arrays))


def in_mambapy(tensors: list[torch.Tensor], g: torch.Tensor | None) -> Work | Missing:
    """The selective scan of mambapy's block, on its parallel scan."""

    def build(mamba: Any) -> Work:
        block = mamba.MambaBlock(mamba.MambaConfig(d_model=16, n_layers=1))
        if g is None:

            @torch.no_grad()
            def forward() -> None:
                block.selective_scan(*tensors)

            return forward
        return lambda: torch.autograd.grad(block.selective_scan(*tensors), tensors, g)

    return of_peer("mambapy.mamba", build)


def compiled_associative(tensors: list[torch.Tensor]) -> Work | Missing:
    """torch's associative scan on stored decays and inputs, compiled as a whole."""
    from torch._higher_order_ops.associative_scan import associative_scan

    def combine(x: Any, y: Any) -> Any:
        return x[0] * y[0], y[0] * x[1] + y[1]

    @torch.compile
    def outputs(u: Any, delta: Any, A: Any, B: Any, C: Any, D: Any) -> Any:
        decay = torch.exp(delta[..., None] * A)
        drive = (delta * u)[..., None] * B[:, :, None]
        _, x = associative_scan(combine, (decay, drive), dim=1, combine_mode="generic")
        return (x * C[:, :, None]).sum(-1) + D * u

    @torch.no_grad()
    def work() -> None:
        outputs(*tensors)

    try:
        work()
    except Exception as error:  # no compiler, or an operator that this version cannot lower
        return Missing(f"{type(error).__name__}: {error}".replace("\n", " ")[:120])
    return work


def forward(shape: tuple[int, int, int, int], goals: list[Goal], threads: int) -> Case:
    tensors = inputs(*shape)

    def ours() -> None:
        selective_scan(*tensors, threads=threads)

    competitors: dict[str, Work | Missing] = {
        "ours": ours,
        WITHOUT_CALL: without_call(selective, ours),
        LIMIT: multiply_add(OPERATIONS * int(np.prod(shape)), threads),
        "jax, lax.scan with fused exp": of_peer("jax", lambda jax: in_jax(jax, tensors, None)),
        "torch, compiled associative scan": compiled_associative(tensors),
        "mambapy, pscan": in_mambapy(tensors, None),
    }
    return Case("selective_scan, forward", str(shape), competitors, goals, PEERS, (LIMIT,), threads)


def softplus_inside(shape: tuple[int, int, int, int], goals: list[Goal], threads: int) -> Case:
    """The forward pass as ggml has it: a softplus of the step inside, no feed-through, on as many threads."""
    u, delta, A, B, C, _ = inputs(*shape)
    given = [u, delta + torch.log(-torch.expm1(-delta)), A, B, C]  # softplus of the second is delta

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        u, step, *rest = given
        return selective_scan(u, step, *rest, delta_softplus=True, threads=threads)

    def in_ggml(ggml: Any) -> Work | Missing:
        try:
            scan = SsmScan(ggml, *(x.numpy() for x in given), threads=threads)
        except OldVersion as error:
            return Missing(str(error))
        scan()
        theirs = torch.from_numpy(scan.y), torch.from_numpy(scan.last)
        agree(given, {f"ours, {threads} thr.": ours(), f"ggml, {threads} thr.": theirs})
        return scan

    competitors: dict[str, Work | Missing] = {"ours": ours, "ggml, ssm_scan": of_peer("ggml", in_ggml)}
    kernel = "selective_scan, forward with softplus"
    return Case(kernel, str(shape), competitors, goals, PEERS, (), threads)


def agree(given: list[torch.Tensor], found: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Print how far outputs and last states are from double precision; stop if it is past `TOLERANCE`."""
    u, step, *rest = (x.double() for x in given)
    exact = selective_scan_reference(u, torch.nn.functional.softplus(step), *rest)
    for who, results in found.items():
        gaps = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(results, exact, strict=True)]
        print(f"{who}: y and last state differ from double precision by {gaps[0]:.1e} and {gaps[1]:.1e}")
        if not all(gap < TOLERANCE for gap in gaps):
            raise SystemExit(f"{who} must agree with double precision to {TOLERANCE:g}, got {max(gaps):.1e}")


def both_ways(shape: tuple[int, int, int, int], goals: list[Goal], threads: int) -> Case:
    tensors = [x.requires_grad_() for x in inputs(*shape)]
    g = torch.randn(shape[:3])
    competitors: dict[str, Work | Missing] = {
        "ours": lambda: torch.autograd.grad(selective_scan(*tensors, threads=threads)[0], tensors, g),
        LIMIT: multiply_add((OPERATIONS + OPERATIONS_BACK) * int(np.prod(shape)), threads),
        "jax, lax.scan with fused exp": of_peer("jax", lambda jax: in_jax(jax, tensors, g)),
        "mambapy, pscan": in_mambapy(tensors, g),
    }
    kernel = "selective_scan, forward + backward"
    return Case(kernel, str(shape), competitors, goals, PEERS, (LIMIT,), threads)


def own_step(shape: tuple[int, int, int, int], threads: int) -> Case:
    """What a step of its own for the state costs, forward and backward."""
    u, delta, *rest = [x.requires_grad_() for x in inputs(*shape)]
    step, gap = (10 * delta.detach()).requires_grad_(), torch.rand(shape[:2]).requires_grad_()
    rate = torch.rand(shape[2]).requires_grad_()
    g = torch.randn(shape[:3])

    def with_gaps() -> None:
        y, _ = coordinate_scan(u, gap, rate, delta, *rest, threads=threads)
        torch.autograd.grad(y, [u, delta, *rest, gap, rate], g)

    def without() -> None:
        torch.autograd.grad(selective_scan(u, delta, *rest, threads=threads)[0], [u, delta, *rest], g)

    def with_steps() -> None:
        y, _ = selective_scan(u, delta, *rest, delta_a=step, threads=threads)
        torch.autograd.grad(y, [u, delta, *rest, step], g)

    competitors: dict[str, Work | Missing] = {
        "ours, gap x rate": with_gaps, "ours, one step (Mamba)": without, "ours, steps stored": with_steps
    }  # fmt: skip
    # at most 1.25 times the cost without: that one takes at least 0.8 of the time
    goals = [Goal("ours, one step (Mamba)", 0.8)]
    return Case("coordinate_scan, forward + backward", str(shape), competitors, goals, PEERS, (), threads)


def cases() -> Iterator[Case]:
    jax, mambapy, torch_way = (
        "jax, lax.scan with fused exp",
        "mambapy, pscan",
        "torch, compiled associative scan",
    )
    forward_goals = [Goal(jax, 10), Goal(torch_way, 40), Goal(mambapy, 100), Goal(LIMIT, 0.7)]
    yield forward((8, 1024, 384, 16), forward_goals, 2)
    yield forward((1, 512, 384, 16), [], 1)
    for threads in (1, 2):
        yield softplus_inside((8, 1024, 384, 16), [Goal("ggml, ssm_scan", 8)], threads)
    yield both_ways((8, 512, 384, 16), [Goal(jax, 15), Goal(mambapy, 50)], 2)
    yield own_step((8, 512, 384, 16), 2)


def fits() -> Iterator[dict[str, Any]]:
    def of_length(length: int) -> Work:
        tensors = inputs(1, length, 64, 16)
        return lambda: selective_scan(*tensors)

    def pairs(length: int) -> Work:
        u, delta, A, B, C, D = inputs(1, length, 1, 1)
        gap, rate = torch.rand(1, length), torch.rand(1)
        return lambda: pairwise_coordinates(u, gap, rate, delta, A, B, C, D)

    sizes = np.logspace(4, 6, 7).astype(int).tolist()
    few = np.logspace(3.5, 3.9, 6).astype(int).tolist()  # tables beyond every cache, or they cross one
    yield growth("selective_scan in time, (1, L, 64, 16)", of_length, sizes, 1.0)
    yield growth("sum over all pairs in time, (1, L, 1, 1)", pairs, few, 2.0, within=0.2)


if __name__ == "__main__":
    main(__file__, "Selective scans", cases, fits)

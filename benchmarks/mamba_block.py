"""Loss and gradients of a Mamba block, and of the same block as STREAM runs it, beside mambapy and jax.

python benchmarks/mamba_block.py [path of the JSON]

Norm, in-projection, causal convolution, selective scan, gate, out-projection, residual; the loss is the mean
square to a target that is drawn once. In torch norm and residual are the same for mambapy's block and ours,
jax has a block written for it. All start from the same weights, and must agree on loss and all gradients,
that to the input included, before any is timed. The optimiser's step, which costs all of them the same and
little, is left out. The process keeps to one core, or jax would use all of them. mambapy's second way, a loop
over time in Python, is compared where sequences are short.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eventbook.kernels.machinery.products import linear
from eventbook.models.stream import StreamBlock
from harness import Case, Goal, Missing, Work, main, multiply_add, of_peer
from selective_scan import OPERATIONS, OPERATIONS_BACK

STATES, EXPAND, WIDTH = 16, 2, 4  # d_state, d_inner / d_model, elements that the convolution sees
JAX, JAX_TREE = "jax, lax.scan with fused exp", "jax, associative scan"
TREE, LOOP = "mambapy, pscan", "mambapy, sequential"
COORDINATE = "ours, decays by distance (STREAM)"
PRODUCTS = "matrix products alone"
ARITHMETIC = "matrix products, and multiply-adds of the scan"
PEERS = {TREE: "mambapy", LOOP: "mambapy", JAX: "jax", JAX_TREE: "jax"}
SHORT = 128  # elements of time, up to which a loop in Python is among the competitors
TOLERANCE = 2e-3  # of gradients in single precision, in units of the largest
# Ours -> mambapy's; the convolution has an axis for its one input channel there
MAMBAPY = {
    "in_proj": "in_proj.weight",
    "conv": "conv1d.weight",
    "conv_bias": "conv1d.bias",
    "x_proj": "x_proj.weight",
    "dt_proj": "dt_proj.weight",
    "dt_bias": "dt_proj.bias",
    "A_log": "A_log",
    "D": "D",
    "out_proj": "out_proj.weight",
}
Step = Callable[[], tuple[Tensor, tuple[Tensor, ...]]]


def block_of(d_model: int, step: str) -> StreamBlock:
    """The block with Mamba's initialisation."""
    return StreamBlock(
        d_model,
        STATES,
        expand=EXPAND,
        step=step,
        conv_width=WIDTH,
        generator=torch.Generator().manual_seed(0),
    )


def step_of(run: Callable[[Tensor], Tensor], v: Tensor, target: Tensor, leaves: list[Tensor]) -> Step:
    """Forward and backward of a block; the gradient to `v` comes first."""
    given = v.clone().requires_grad_()

    def step() -> tuple[Tensor, tuple[Tensor, ...]]:
        loss = (run(given) - target).square().mean()
        return loss.detach(), torch.autograd.grad(loss, [given, *leaves])

    return step


# --- competitors -------------------------------------------------------------------------------------------


class AroundMambapy(nn.Module):
    """mambapy's block between our norm and residual, from the weights of a block of ours."""

    def __init__(self, mamba: Any, block: StreamBlock, pscan: bool) -> None:
        super().__init__()
        sizes = {"d_state": STATES, "expand_factor": EXPAND, "d_conv": WIDTH}
        d_model = block.out_proj.shape[0]
        self.norm = nn.LayerNorm(d_model)
        self.norm.load_state_dict(block.norm.state_dict())
        self.inner = mamba.MambaBlock(mamba.MambaConfig(d_model, n_layers=1, pscan=pscan, **sizes))
        theirs = dict(self.inner.named_parameters())
        if theirs.keys() != set(MAMBAPY.values()):
            raise SystemExit(f"mambapy's block must have {sorted(MAMBAPY.values())}, has {sorted(theirs)}")
        with torch.no_grad():
            for name, other in MAMBAPY.items():
                theirs[other].copy_(getattr(block, name).view_as(theirs[other]))

    def forward(self, v: Tensor) -> Tensor:
        return v + self.inner(self.norm(v))

    def in_order(self, block: StreamBlock) -> list[Tensor]:
        """Parameters in the order of the block's own."""
        return [
            self.get_parameter(f"inner.{MAMBAPY[name]}" if name in MAMBAPY else name)
            for name, _ in block.named_parameters()
        ]


def in_jax(jax: Any, associative: bool) -> Any:
    """A compiled function (weights, v, target) -> loss and gradients to weights and v."""
    jnp, lax = jax.numpy, jax.lax

    def norm(x: Any, scale: Any, shift: Any) -> Any:
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale + shift

    def convolved(x: Any, weight: Any, bias: Any) -> Any:
        longer = jnp.pad(x, ((0, 0), (WIDTH - 1, 0), (0, 0)))
        return bias + sum(longer[:, k : k + x.shape[1]] * weight[:, k] for k in range(WIDTH))

    def by_tree(x: Any, delta: Any, A: Any, B: Any, C: Any) -> Any:
        def combine(first: Any, second: Any) -> Any:
            return second[0] * first[0], second[0] * first[1] + second[1]

        decay = jnp.exp(delta[..., None] * A)
        _, states = lax.associative_scan(combine, (decay, (delta * x)[..., None] * B[:, :, None]), axis=1)
        return jnp.einsum("btdn,btn->btd", states, C)

    def by_loop(x: Any, delta: Any, A: Any, B: Any, C: Any) -> Any:
        def step(h: Any, now: Any) -> Any:
            x_t, delta_t, b_t, c_t = now
            h = jnp.exp(delta_t[..., None] * A) * h + (delta_t * x_t)[..., None] * b_t[:, None]
            return h, (h * c_t[:, None]).sum(-1)

        swapped = tuple(jnp.swapaxes(s, 0, 1) for s in (x, delta, B, C))
        start = jnp.zeros((x.shape[0], *A.shape), x.dtype)
        return jnp.swapaxes(lax.scan(step, start, swapped)[1], 0, 1)

    scan = by_tree if associative else by_loop

    def loss(w: Any, v: Any, target: Any) -> Any:
        x, z = jnp.split(norm(v, w["norm.weight"], w["norm.bias"]) @ w["in_proj"].T, 2, axis=-1)
        x = jax.nn.silu(convolved(x, w["conv"], w["conv_bias"]))
        rank = w["dt_proj"].shape[1]
        p, B, C = jnp.split(x @ w["x_proj"].T, (rank, rank + STATES), axis=-1)
        delta = jax.nn.softplus(p @ w["dt_proj"].T + w["dt_bias"])
        y = scan(x, delta, -jnp.exp(w["A_log"]), B, C) + w["D"] * x
        return ((v + (y * jax.nn.silu(z)) @ w["out_proj"].T - target) ** 2).mean()

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def products(block: StreamBlock, count: int, length: int) -> Work:
    """Forward and backward of the block's matrix products and of nothing else, by the same function."""
    given = []
    for weight in (*block.in_proj.chunk(2), block.x_proj, block.dt_proj, block.out_proj):
        weight = weight.detach().clone().requires_grad_()
        into = torch.randn(count, length, weight.shape[1]).requires_grad_()
        given.append((weight, into, torch.randn(count, length, weight.shape[0])))

    def work() -> None:
        for weight, into, arriving in given:
            torch.autograd.grad(linear(into, weight), (into, weight), arriving)

    return work


# --- cases -------------------------------------------------------------------------------------------------


def agree(name: str, ours: tuple[Any, Sequence[Any]], other: tuple[Any, Sequence[Any]]) -> None:
    """Stop if loss or gradients differ by more than single precision explains."""
    gaps = [abs(float(ours[0]) - float(other[0])) / abs(float(ours[0]))]
    for a, b in zip(ours[1], other[1], strict=True):
        b = torch.as_tensor(b).view_as(a)
        gaps.append(float((a - b).abs().max() / a.abs().max()))
    print(f"{name}: loss and gradients differ from ours by at most {max(gaps):.1e}")
    if not max(gaps) < TOLERANCE:
        raise SystemExit(
            f"{name} must agree with ours to {TOLERANCE:g} before it is timed, differs by {max(gaps):.1e}"
        )


def training(count: int, length: int, d_model: int) -> Case:
    generator = torch.Generator().manual_seed(1)
    v, target = (torch.randn(count, length, d_model, generator=generator) for _ in range(2))
    gap = torch.rand(count, length, generator=generator)
    gap[:, 0] = 0
    torch.set_num_threads(1)
    block, stream = block_of(d_model, "learned"), block_of(d_model, "coordinate")
    ours = step_of(lambda v: block(v, gap)[0], v, target, list(block.parameters()))
    found = ours()
    names = [name for name, _ in block.named_parameters()]

    def with_mambapy(mamba: Any, pscan: bool) -> Work:
        theirs = AroundMambapy(mamba, block, pscan)
        step = step_of(theirs, v, target, theirs.in_order(block))
        agree(TREE if pscan else LOOP, found, step())
        return step

    def with_jax(jax: Any, associative: bool) -> Work:
        compiled = in_jax(jax, associative)
        weights = {name: jax.numpy.asarray(w.detach().numpy()) for name, w in block.named_parameters()}
        arrays = [jax.numpy.asarray(x.numpy()) for x in (v, target)]
        value, (to_weights, to_v) = compiled(weights, *arrays)
        gradients = [torch.tensor(jax.device_get(g)) for g in (to_v, *(to_weights[n] for n in names))]
        agree(JAX_TREE if associative else JAX, found, (value, gradients))
        return lambda: jax.block_until_ready(compiled(weights, *arrays))

    matmul = products(block, count, length)
    operations = (OPERATIONS + OPERATIONS_BACK) * count * length * EXPAND * d_model * STATES
    arithmetic = multiply_add(operations)

    def least() -> None:
        matmul()
        arithmetic()

    competitors: dict[str, Work | Missing] = {
        "ours": ours,
        COORDINATE: step_of(lambda v: stream(v, gap)[0], v, target, list(stream.parameters())),
        PRODUCTS: matmul,
        ARITHMETIC: least,
        TREE: of_peer("mambapy.mamba", lambda mamba: with_mambapy(mamba, pscan=True)),
        JAX: of_peer("jax", lambda jax: with_jax(jax, associative=False)),
        JAX_TREE: of_peer("jax", lambda jax: with_jax(jax, associative=True)),
    }
    goals = [Goal(TREE, 10), Goal(JAX, 5), Goal(JAX_TREE, 5)]
    if length <= SHORT:
        competitors[LOOP] = of_peer("mambapy.mamba", lambda mamba: with_mambapy(mamba, pscan=False))
        goals.append(Goal(LOOP, 10))
    shape = f"{count} sequences of {length}, d_model {d_model}"
    limits = (PRODUCTS, ARITHMETIC)
    return Case("Mamba block, loss and gradients", shape, competitors, goals, PEERS, limits)


def cases() -> Iterator[Case]:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    yield training(8, 1024, 192)
    yield training(4, 4096, 64)
    yield training(8, SHORT, 64)


if __name__ == "__main__":
    main(__file__, "A block of Mamba and STREAM", cases)

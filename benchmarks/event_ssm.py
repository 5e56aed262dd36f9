"""Loss and gradients of Event-SSM's medium model for spoken digits, by three ways to run the recurrence.

python benchmarks/event_ssm.py [path of the JSON]

Ours is `EventSSM` as a user trains it. For the peers the model stands here twice more, in torch with the scan
as a parameter and in jax, all from the same weights. The one in torch also runs with our scan: what the scan
alone is worth. All competitors must agree on loss and gradients before any is timed. Noise, augmentation and
the optimiser's step, which cost all of them the same and little, are left out.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from event_scan import states_in_jax
from eventbook.kernels.scans import event_scan
from eventbook.models.event_ssm import EventSSM, EventSSMConfig
from harness import Case, Goal, Missing, Work, main, of_peer

PEERS = {
    "torch, scan of s5-pytorch": "s5-pytorch",
    "jax, associative scan": "jax",
    "jax, lax.scan": "jax",
}
WIDTH, STATE, CHANNELS, CLASSES = 96, 128, 700, 20  # SHD medium: H, P, tokens, digits in two languages
STRIDES = (8, 1, 1, 8, 1, 1)  # two stages of three layers, the first of each pools eight events
Scan = Callable[[Tensor, Tensor, Tensor], Tensor]
Step = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]


@dataclass
class Layer:
    """Weights of one layer; complex maps are stored as (real, imaginary) columns, interleaved."""

    norm: np.ndarray  # (2, H), scale and shift
    lam: np.ndarray  # (P,) complex
    log_step: np.ndarray  # (P,)
    into: np.ndarray  # (H, 2 P)
    out: np.ndarray  # (2 P, H)
    through: np.ndarray  # (H,)
    gate: np.ndarray  # (H, H)
    bias: np.ndarray  # (H,)


def weights(rng: np.random.Generator) -> tuple[np.ndarray, list[Layer], np.ndarray]:
    """Embedding, layers and head, in the range of the released initialisation."""

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    layers = [
        Layer(
            norm=np.stack([np.ones(WIDTH), np.zeros(WIDTH)]).astype(np.float32),
            lam=(-0.5 + 1j * math.pi * rng.uniform(-8, 8, STATE)).astype(np.complex64),
            log_step=rng.uniform(math.log(0.004), math.log(0.1), STATE).astype(np.float32),
            into=normal(WIDTH, 2 * STATE, scale=WIDTH**-0.5),
            out=normal(2 * STATE, WIDTH, scale=STATE**-0.5),
            through=normal(WIDTH),
            gate=normal(WIDTH, WIDTH, scale=WIDTH**-0.5),
            bias=np.zeros(WIDTH, np.float32),
        )
        for _ in STRIDES
    ]
    return normal(CHANNELS, WIDTH), layers, normal(WIDTH, CLASSES, scale=WIDTH**-0.5)


def batch(rng: np.random.Generator, count: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens (batch, time), gaps in ms with a mean of 0.1, labels (batch,)."""
    gap = rng.exponential(0.1, (count, length)).astype(np.float32)
    gap[:, 0] = 0
    return rng.integers(0, CHANNELS, (count, length)), gap, rng.integers(0, CLASSES, count)


# --- ours --------------------------------------------------------------------------------------------------


def leaves_of(
    model: tuple[np.ndarray, list[Layer], np.ndarray],
) -> tuple[Tensor, list[dict[str, Tensor]], Tensor]:
    """The weights as leaves of a graph."""

    def leaf(values: np.ndarray) -> Tensor:
        return torch.tensor(values).requires_grad_()

    layers = [{name: leaf(values) for name, values in vars(layer).items()} for layer in model[1]]
    return leaf(model[0]), layers, leaf(model[2])


def listed(embedding: Tensor, layers: list[dict[str, Tensor]], head: Tensor) -> list[Tensor]:
    return [embedding, *(w for layer in layers for w in layer.values()), head]


def in_package(model: tuple[np.ndarray, list[Layer], np.ndarray]) -> Step:
    """A function from a batch to loss and gradients, by the network of the package."""
    embedding, layers, head = leaves_of(model)
    config = EventSSMConfig(
        CHANNELS, CLASSES, d_model=WIDTH, d_state=2 * STATE, stages=2, layers=3, stride=8, kept="first"
    )
    network = EventSSM(config)
    signs = torch.tensor([2.0, -2.0])

    def parameters() -> dict[str, Tensor]:
        """The weights by the names and in the shapes of the network."""
        named = {"embedding": embedding, "readout.weight": head.mT, "readout.bias": torch.zeros(CLASSES)}
        for i, w in enumerate(layers):
            named |= {
                f"layers.{i}.{name}": value
                for name, value in {
                    "norm.weight": w["norm"][0],
                    "norm.bias": w["norm"][1],
                    "lam_real": w["lam"].real,
                    "lam_imag": w["lam"].imag,
                    "log_step": w["log_step"],
                    "B": w["into"].unflatten(1, (STATE, 2)).permute(1, 0, 2),
                    "C": w["out"].unflatten(0, (STATE, 2)).permute(2, 0, 1) / signs,
                    "D": w["through"],
                    "gate.weight": w["gate"].mT,
                    "gate.bias": w["bias"],
                }.items()
            }
        return named

    def step(token: Tensor, gap: Tensor, label: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        scores = functional_call(network, parameters(), (token, gap), strict=True)
        value = functional.cross_entropy(scores, label)
        return value.detach(), torch.autograd.grad(value, listed(embedding, layers, head))

    return step


# --- torch, the scan as a parameter ------------------------------------------------------------------------


def in_torch(model: tuple[np.ndarray, list[Layer], np.ndarray], scan: Scan) -> Step:
    """A function from a batch to loss and gradients."""
    embedding, layers, head = leaves_of(model)
    leaves = listed(embedding, layers, head)

    def pooled(x: Tensor, stride: int) -> Tensor:
        return x if stride == 1 else x.unflatten(1, (-1, stride)).mean(2)

    def loss(token: Tensor, gap: Tensor, label: Tensor) -> Tensor:
        x = functional.embedding(token, embedding)
        for w, stride in zip(layers, STRIDES, strict=True):
            u = functional.layer_norm(x, (WIDTH,), *w["norm"].unbind(), eps=1e-6)
            lam = w["lam"] * torch.exp(w["log_step"])
            gain = torch.expm1(lam) / w["lam"]  # of the input; into the weights, which are fewer than events
            into = torch.view_as_real(torch.view_as_complex(w["into"].unflatten(-1, (STATE, 2))) * gain)
            driven = torch.view_as_complex((u @ into.flatten(-2)).unflatten(-1, (STATE, 2)))
            states = scan(lam, gap, driven)[:, ::stride]
            y = torch.view_as_real(states).flatten(-2) @ w["out"] + w["through"] * pooled(u, stride)
            y = y * torch.sigmoid(functional.gelu(y, approximate="tanh") @ w["gate"] + w["bias"])
            x, gap = pooled(x, stride) + y, gap.unflatten(1, (-1, stride)).sum(2)
        return functional.cross_entropy(x.mean(1) @ head, label)

    def step(*given: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        value = loss(*given)
        return value.detach(), torch.autograd.grad(value, leaves)

    return step


def by_kernel(threads: int) -> Scan:
    return lambda lam, gap, driven: event_scan(lam, gap, driven, threads=threads)[0]


def by_s5(s5: Any) -> Scan:
    """The tree scan of s5-pytorch over decays that are formed first, one stream after the other."""

    def scan(lam: Tensor, gap: Tensor, driven: Tensor) -> Tensor:
        decay = torch.exp(lam * gap[..., None])
        rows = zip(decay, driven, strict=True)
        return torch.stack([s5.associative_scan(s5.binary_operator, row)[1] for row in rows])

    return scan


# --- jax ---------------------------------------------------------------------------------------------------


def in_jax(jax: Any, model: tuple[np.ndarray, list[Layer], np.ndarray], associative: bool) -> Any:
    """A compiled function from a batch to loss and gradients, and the weights it takes."""
    jnp = jax.numpy

    def combine(first: Any, second: Any) -> Any:
        return second[0] * first[0], second[0] * first[1] + second[1]

    def tree(lam: Any, gap: Any, driven: Any) -> Any:
        return jax.lax.associative_scan(combine, (jnp.exp(lam * gap[..., None]), driven), axis=1)[1]

    scan = tree if associative else states_in_jax(jax)

    def pooled(x: Any, stride: int) -> Any:
        return x.reshape(x.shape[0], -1, stride, *x.shape[2:]).mean(2)

    def norm(x: Any, scale_shift: Any) -> Any:
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale_shift[0] + scale_shift[1]

    def loss(parameters: Any, token: Any, gap: Any, label: Any) -> Any:
        embedding, layers, head = parameters
        x = embedding[token]
        for w, stride in zip(layers, STRIDES, strict=True):
            u = norm(x, w["norm"])
            lam = w["lam"] * jnp.exp(w["log_step"])
            parts = (u @ w["into"]).reshape(*u.shape[:2], STATE, 2)
            driven = (parts[..., 0] + 1j * parts[..., 1]) * (jnp.expm1(lam) / w["lam"])
            states = scan(lam, gap, driven)[:, ::stride]
            flat = jnp.stack([states.real, states.imag], -1).reshape(*states.shape[:2], -1)
            y = flat @ w["out"] + w["through"] * pooled(u, stride)
            y = y * jax.nn.sigmoid(jax.nn.gelu(y) @ w["gate"] + w["bias"])
            x, gap = pooled(x, stride) + y, gap.reshape(gap.shape[0], -1, stride).sum(2)
        scores = jax.nn.log_softmax(x.mean(1) @ head)
        return -scores[jnp.arange(len(label)), label].mean()

    parameters = jax.tree.map(jnp.asarray, (model[0], [vars(layer) for layer in model[1]], model[2]))
    return jax.jit(jax.value_and_grad(loss)), parameters


# --- cases -------------------------------------------------------------------------------------------------


def agree(name: str, ours: tuple[Any, list[Any]], other: tuple[Any, list[Any]]) -> None:
    """Stop if loss or gradients differ by more than single precision explains."""
    gaps = [abs(float(ours[0]) - float(other[0])) / abs(float(ours[0]))]
    for a, b in zip(ours[1], other[1], strict=True):
        x, y = np.asarray(a), np.asarray(b)
        gaps.append(float(np.abs(x - y).max() / np.abs(x).max()))
    if not max(gaps) < 2e-3:
        raise SystemExit(
            f"{name} must agree with ours to 2e-3 before it is timed, differs by {max(gaps):.1e}"
        )


def training(count: int, length: int, threads: int) -> Case:
    rng = np.random.default_rng(0)
    model, given = weights(rng), batch(rng, count, length)
    tensors = [torch.from_numpy(x) for x in given]
    torch.set_num_threads(threads)
    ours = in_package(model)
    found = ours(*tensors)
    reference = float(found[0]), [x.numpy() for x in found[1]]

    def with_scan(scan: Scan, name: str) -> Work:
        step = in_torch(model, scan)
        value, gradients = step(*tensors)
        agree(name, reference, (value, [x.numpy() for x in gradients]))
        return lambda: step(*tensors)

    def with_jax(jax: Any, associative: bool) -> Work:
        compiled, parameters = in_jax(jax, model, associative)
        arrays = [jax.numpy.asarray(x) for x in given]
        value, (embedding, layers, head) = compiled(parameters, *arrays)
        # jax's gradient to a complex number is the conjugate of torch's
        in_order = [
            embedding,
            *(np.conj(layer[name]) for layer in layers for name in vars(model[1][0])),
            head,
        ]
        agree("jax", reference, (value, in_order))
        return lambda: jax.block_until_ready(compiled(parameters, *arrays))

    competitors: dict[str, Work | Missing] = {
        "ours": lambda: ours(*tensors),
        "torch, our scan": with_scan(by_kernel(threads), "our scan"),
        "torch, scan of s5-pytorch": of_peer("s5.s5_model", lambda s5: with_scan(by_s5(s5), "s5-pytorch")),
        "jax, associative scan": of_peer("jax", lambda jax: with_jax(jax, associative=True)),
        "jax, lax.scan": of_peer("jax", lambda jax: with_jax(jax, associative=False)),
    }
    goals = [Goal("torch, scan of s5-pytorch", 5), Goal("jax, associative scan", 2), Goal("jax, lax.scan", 2)]
    return Case(
        "Event-SSM, loss and gradients",
        f"{count} streams of {length} events, H = {WIDTH}, P = {STATE}, 6 layers",
        competitors,
        goals,
        PEERS,
        threads=threads,
    )


def cases() -> Iterator[Case]:
    yield training(32, 8192, 2)


if __name__ == "__main__":
    main(__file__, "Event-SSM", cases)

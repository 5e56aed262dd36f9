"""A whole Event-SSM event by event over a real recording: the compiled loop, jax, torch, and the recording.

python benchmarks/streaming.py [path of the JSON]

Every way carries state from call to call and gives the scores after each output. All start from the same
weights and the same table of norm and input map for each token, and must agree on all scores before any is
timed. Two competitors are paces: they wait for as long as the events would take.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eventbook.datasets import load_davis_recording
from eventbook.kernels.encoders import tokens_of
from eventbook.kernels.scans import event_scan, event_step
from eventbook.models.event_ssm import EventSSM, EventSSMConfig, EventSSMLayer, EventStream
from harness import Case, Goal, Missing, Work, main, of_peer

CHUNK = 20_000  # events in a call
CLASSES = 10
EPSILON = 1e-6  # of the norm
JAX = "jax, lax.scan over events"
TORCH, BATCH = "torch, a step for each event", "torch, layer after layer over the chunk"
RECORDED, MILLION = "the recording, as it came", "a million events a second"
PEERS = {JAX: "jax", TORCH: "torch", BATCH: "torch"}
Floats = NDArray[np.float32]
Push = Callable[
    [Any, Any], Any
]  # tokens and gaps (event,) -> scores (output, class); goes on from call to call


@dataclass(frozen=True)
class Weights:
    """A layer as functions of arrays need it; real and imaginary parts of states and inputs in turn."""

    slope: Floats  # (H,)
    shift: Floats  # (H,)
    into: Floats  # (H, 2 P)
    exponent: NDArray[np.complex64]  # (P,), lambda s
    out: Floats  # (2 P, H)
    through: Floats  # (H,)
    gate: Floats  # (H, H)
    bias: Floats  # (H,)


@dataclass(frozen=True)
class Network:
    """All layers; the first is left through its table: input, norm and embedding of each token."""

    driven: Floats  # (token, 2 P)
    normed: Floats  # (token, H)
    embedding: Floats  # (token, H)
    layers: list[Weights]
    readout: Floats  # (H, class)
    bias: Floats  # (class,)
    stride: int


def array(tensor: Any) -> Any:
    return tensor.detach().resolve_conj().numpy()


@torch.no_grad()
def network_of(model: EventSSM) -> Network:
    layers = [layer for layer in model.layers if isinstance(layer, EventSSMLayer)]
    normed = layers[0].norm(model.embedding)
    return Network(
        driven=array(normed @ layers[0].input_matrix()),
        normed=array(normed),
        embedding=array(model.embedding),
        layers=[
            Weights(
                slope=array(layer.norm.weight),
                shift=array(layer.norm.bias),
                into=array(layer.input_matrix()),
                exponent=array(layer.lam * layer.step),
                out=array(layer.output_matrix()),
                through=array(layer.D),
                gate=array(layer.gate.weight.T),
                bias=array(layer.gate.bias),
            )
            for layer in layers
        ],
        readout=array(model.readout.weight.T),
        bias=array(model.readout.bias),
        stride=model.config.stride,
    )


def recording() -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Tokens and stamps of the first chunk, and the number of tokens."""
    recorded = load_davis_recording()
    tokens = tokens_of(recorded.events, recorded.width, recorded.height)
    stamps = recorded.events["t"].astype(np.int64)
    return tokens[:CHUNK], stamps[:CHUNK], 2 * recorded.width * recorded.height


# --- torch -------------------------------------------------------------------------------------------------


class InTorch:
    """The layers in operations of torch, over one event a call or over many."""

    def __init__(self, network: Network) -> None:
        self.stride = network.stride
        self.table = [torch.from_numpy(x) for x in (network.driven, network.normed, network.embedding)]
        self.layers = [{k: torch.from_numpy(x) for k, x in vars(w).items()} for w in network.layers]
        self.readout, self.bias = torch.from_numpy(network.readout), torch.from_numpy(network.bias)
        self.reset()

    def reset(self) -> None:
        self.h = [torch.zeros(1, len(w["exponent"]), dtype=torch.complex64) for w in self.layers]
        self.group: list[tuple[Tensor, Tensor, Tensor]] = []  # norm, embedding and gap of each member
        self.total, self.count = torch.zeros(1), 0

    def step(self, token: Tensor, gap: Tensor) -> list[Tensor]:
        """Take one event, (1,) and (1,)."""
        driven, u, x = (table[token] for table in self.table)
        self.h[0] = event_step(
            self.layers[0]["exponent"], gap, torch.view_as_complex(pairs(driven)), self.h[0]
        )
        self.group.append((u, x, gap))
        if len(self.group) < self.stride:
            return []
        u, x, gap = (sum(parts) for parts in zip(*self.group, strict=True))
        self.group = []
        x = self.out(0, self.h[0], u / self.stride, x / self.stride)
        for number, w in enumerate(self.layers[1:], 1):
            u = functional.layer_norm(x, w["slope"].shape, w["slope"], w["shift"], EPSILON)
            driven = torch.view_as_complex(pairs(u @ w["into"]))
            self.h[number] = event_step(w["exponent"], gap, driven, self.h[number])
            x = self.out(number, self.h[number], u, x)
        self.total, self.count = self.total + x, self.count + 1
        return [self.total / self.count @ self.readout + self.bias]

    def out(self, number: int, h: Tensor, u: Tensor, x: Tensor) -> Tensor:
        """From states, feed-through and skip to the features of the next layer."""
        w = self.layers[number]
        y = torch.view_as_real(h).flatten(-2) @ w["out"] + w["through"] * u
        return x + y * torch.sigmoid(functional.gelu(y, approximate="tanh") @ w["gate"] + w["bias"])

    @torch.inference_mode()
    def push(self, tokens: Tensor, gaps: Tensor) -> Tensor:
        scores = [s for k in range(len(tokens)) for s in self.step(tokens[k : k + 1], gaps[k : k + 1])]
        return torch.cat(scores)

    @torch.inference_mode()
    def push_batch(self, tokens: Tensor, gaps: Tensor) -> Tensor:
        """Take whole groups at once: each layer sees all of them before the next one does."""
        driven, u, x = (table[tokens] for table in self.table)
        for number, w in enumerate(self.layers):
            if number:
                u = functional.layer_norm(x, w["slope"].shape, w["slope"], w["shift"], EPSILON)
                driven = u @ w["into"]
            b = torch.view_as_complex(pairs(driven))
            states, self.h[number] = event_scan(w["exponent"], gaps[None], b[None], self.h[number])
            states = states[0]
            if number == 0 and self.stride > 1:
                states, gaps = (
                    states[self.stride - 1 :: self.stride],
                    gaps.unflatten(0, (-1, self.stride)).sum(1),
                )
                u, x = (values.unflatten(0, (-1, self.stride)).mean(1) for values in (u, x))
            x = self.out(number, states, u, x)
        sums = self.total + x.cumsum(0)
        counts = torch.arange(self.count + 1, self.count + len(x) + 1)[:, None]
        self.total, self.count = sums[-1:], self.count + len(x)
        return sums / counts @ self.readout + self.bias


def pairs(values: Tensor) -> Tensor:
    return values.unflatten(-1, (-1, 2))


# --- jax ---------------------------------------------------------------------------------------------------


class InJax:
    """One compiled scan over groups of events, with all layers inside."""

    def __init__(self, jax: Any, network: Network) -> None:
        self.jax, jnp, self.stride = jax, jax.numpy, network.stride
        table = [jnp.asarray(x) for x in (network.driven, network.normed, network.embedding)]
        layers = [{k: jnp.asarray(x) for k, x in vars(w).items()} for w in network.layers]
        width, states = network.embedding.shape[1], [len(w.exponent) for w in network.layers]

        def norm(x: Any, w: Any) -> Any:
            x = x - x.mean()
            return x / jnp.sqrt((x**2).mean() + EPSILON) * w["slope"] + w["shift"]

        def advanced(h: Any, gap: Any, driven: Any, w: Any) -> Any:
            return jnp.exp(w["exponent"] * gap) * h + (driven[::2] + 1j * driven[1::2])

        def out(h: Any, u: Any, x: Any, w: Any) -> Any:
            y = jnp.stack([h.real, h.imag], -1).reshape(-1) @ w["out"] + w["through"] * u
            return x + y * jax.nn.sigmoid(jax.nn.gelu(y) @ w["gate"] + w["bias"])

        def group(carried: Any, events: Any) -> Any:
            (h, *others), total, count = carried
            token, gap = events  # (stride,)
            driven, u, x = (rows[token] for rows in table)
            for member in range(self.stride):
                h = advanced(h, gap[member], driven[member], layers[0])
            x = out(h, u.mean(0), x.mean(0), layers[0])
            hs = [h]
            for w, h in zip(layers[1:], others, strict=True):
                u = norm(x, w)
                h = advanced(h, gap.sum(), u @ w["into"], w)
                x = out(h, u, x, w)
                hs.append(h)
            total, count = total + x, count + 1
            return (hs, total, count), total / count @ network.readout + network.bias

        self.compiled = jax.jit(lambda carried, events: jax.lax.scan(group, carried, events))
        self.start = [jnp.zeros(p, jnp.complex64) for p in states], jnp.zeros(width), jnp.float32(0)
        self.reset()

    def reset(self) -> None:
        self.carried = self.start

    def push(self, tokens: Any, gaps: Any) -> Any:
        """Take whole groups."""
        events = tokens.reshape(-1, self.stride), gaps.reshape(-1, self.stride)
        self.carried, scores = self.compiled(self.carried, events)
        return scores.block_until_ready()


# --- cases -------------------------------------------------------------------------------------------------


def agree(name: str, ours: Floats, other: Any) -> None:
    """Stop if scores differ by more than single precision explains."""
    found = np.asarray(other)
    if found.shape != ours.shape:
        raise SystemExit(f"{name} must give scores {ours.shape}, gave {found.shape}")
    apart = float(np.abs(found - ours).max() / np.abs(ours).max())
    if not apart < 1e-4:
        raise SystemExit(f"{name} must agree with ours to 1e-4 before it is timed, differs by {apart:.1e}")


def anew(reset: Callable[[], None], push: Push, *events: Any) -> Work:
    """Start over and take a chunk."""

    def work() -> Any:
        reset()
        return push(*events)

    return work


def one_after_another(reset: Callable[[], None], push: Push, *events: Any) -> Work:
    """Take one event a call; at the end of the chunk start over."""
    after = cycle([*((k, tuple(x[k : k + 1] for x in events)) for k in range(len(events[0])))])

    def work() -> Any:
        k, event = next(after)
        if k == 0:
            reset()
        return push(*event)

    return work


def waiting(seconds: float) -> Work:
    return lambda: time.sleep(seconds)


def setting(stride: int) -> tuple[EventSSM, NDArray[np.int64], NDArray[np.int64], Floats]:
    """A model, and tokens, stamps and gaps (milliseconds) of a chunk."""
    tokens, stamps, n_tokens = recording()
    config = EventSSMConfig(
        n_tokens=n_tokens, n_classes=CLASSES, d_model=32, d_state=64, blocks=1, layers=2, stride=stride
    )
    model = EventSSM(config, generator=torch.Generator().manual_seed(0)).eval()
    gaps = (np.diff(stamps, prepend=stamps[0]) / 1_000).astype(np.float32)
    return model, tokens, stamps, gaps


def ways(
    model: EventSSM, tokens: Any, stamps: Any, gaps: Any, as_work: Callable[..., Work]
) -> dict[str, Any]:
    """All that compute, after their scores over the chunk have been compared."""
    stream, network = EventStream(model), network_of(model)
    reference = stream.push(tokens, stamps).scores

    def in_torch(batch: bool) -> Work:
        torch_model = InTorch(network)
        push = torch_model.push_batch if batch else torch_model.push
        events = torch.from_numpy(tokens), torch.from_numpy(gaps)
        agree("torch", reference, push(*events))
        return as_work(torch_model.reset, push, *events)

    def in_jax(jax: Any) -> Work:
        jax_model = InJax(jax, network)
        agree("jax", reference, jax_model.push(tokens, gaps))
        return as_work(jax_model.reset, jax_model.push, tokens, gaps)

    return {
        "ours": as_work(stream.reset, stream.push, tokens, stamps),
        JAX: of_peer("jax", in_jax),
        TORCH: in_torch(batch=False),
        BATCH: in_torch(batch=True),
    }


def by_chunks(stride: int) -> Case:
    model, tokens, stamps, gaps = setting(stride)
    competitors: dict[str, Work | Missing] = ways(model, tokens, stamps, gaps, anew)
    competitors[RECORDED] = waiting(float(stamps[-1] - stamps[0]) / 1e6)
    competitors[MILLION] = waiting(CHUNK / 1e6)
    pooled = "an output for each event" if stride == 1 else f"pooled by {stride} in the first layer"
    return Case(
        "Event-SSM, event by event",
        f"{CHUNK:,} events a call, 2 layers, H = P = 32, {pooled}",
        competitors,
        [Goal(JAX, 5), Goal(TORCH, 50), Goal(BATCH, 1), Goal(MILLION, 1)],
        PEERS,
        per_call=CHUNK,
        unit="events",
    )


def by_single_events() -> Case:
    model, tokens, stamps, gaps = setting(1)
    competitors = ways(model, tokens, stamps, gaps, one_after_another)
    del competitors[BATCH]  # the same as a step, for one event
    return Case(
        "Event-SSM, event by event",
        "one event a call, 2 layers, H = P = 32, an output for each event",
        competitors,
        [Goal(TORCH, 5)],
        PEERS,
        per_call=1,
        unit="events",
    )


def cases() -> Iterator[Case]:
    yield by_chunks(1)
    yield by_chunks(8)
    yield by_single_events()


if __name__ == "__main__":
    main(__file__, "Event-SSM, event by event", cases)

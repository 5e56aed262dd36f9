"""Event kernels against products of torch and of brainevent and against torch.nn.GRU, on one thread.

python benchmarks/events.py [path of the JSON]

Every work rotates its inputs: an active set that stays the same keeps its rows in the cache, which flatters
events. Half of what events gain on a matrix-vector product is a faster product, so the same kernel with every
row read ("ours, every row") stands beside torch in each case. A call is a good part of such a product: the
kernel without it has a row, too, and so has a stream, whose weights are prepared once. Events of products are
ones, for brainevent knows no others.
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from eventbook.kernels.events import (
    CSRBySource,
    ProductStream,
    egru_need,
    egru_sequence,
    event_csr,
    event_csr_counted,
    event_matvec,
    event_matvec_counted,
)
from eventbook.kernels.events import csr as csr_module
from eventbook.kernels.events import matvec as matvec_module
from eventbook.kernels.machinery.limits import triad
from eventbook.kernels.machinery.tensors import new
from harness import WITHOUT_CALL, Case, Goal, Missing, Work, curve, growth, main, of_peer

UNITS, GATES, EMBEDDING, STEPS = 1344, 4032, 128, 64
ROTATED = 64
STREAM = "ours, prepared stream"
OF_BRAINEVENT = {"csr": "brainevent, CSR", "rows": "brainevent, dense rows"}
GRU_PEERS = {"torch.nn.GRU": "torch", "torch.nn.GRU, backward": "torch"}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def rotating(function: Callable[[Any], object], inputs: list[Any]) -> Work:
    """Work that takes the next of several inputs at each call, without gradients."""
    turn = cycle(inputs)

    def work() -> None:
        with torch.no_grad():
            function(next(turn))

    return work


def sparse_activity(activity: float, count: int = ROTATED, sources: int = UNITS) -> list[Tensor]:
    """Inputs (1, sources), exactly the same number of events in each, at changing places."""
    chance, events = generator(), round(activity * sources)
    inputs = []
    for _ in range(count):
        x = torch.zeros(1, sources)
        x[0, torch.randperm(sources, generator=chance)[:events]] = 1
        inputs.append(x)
    return inputs


def rotating_triad(bytes_moved: int) -> Work:
    """As many bytes in contiguous streams, from changing places of a working set as large as the matrix."""
    length = UNITS * GATES // 3 // 16 * 16
    x, y, z = (new((1, length), torch.empty(0)).numpy() for _ in range(3))
    for filled in (x, y, z):
        filled.fill(1.0)
    count = bytes_moved // 12 // 16 * 16
    starts = np.linspace(0, length - count, ROTATED).astype(int) // 16 * 16
    pieces = [tuple(array[:, i : i + count] for array in (x, y, z)) for i in starts]
    return rotating(lambda piece: triad(*piece, False), pieces)


# --- products --------------------------------------------------------------------------------------------


def in_brainevent(matrix: Tensor | CSRBySource, inputs: list[Tensor]) -> Work | Missing:
    """brainevent's product of binary events, compiled by jax; equal to ours, or there is nothing to time."""

    def build(brainevent: Any) -> Work:
        import jax

        if isinstance(matrix, CSRBySource):
            parts = matrix.values, matrix.indices, matrix.indptr.to(torch.int32)
            weights = brainevent.CSR(
                tuple(jax.numpy.asarray(part.numpy()) for part in parts),
                shape=(matrix.sources, matrix.targets),
            )
            expected = event_csr(inputs[0], matrix)
        else:
            weights = jax.numpy.asarray(matrix.numpy())
            expected = event_matvec(inputs[0], matrix)
        events = [jax.numpy.asarray(x[0].numpy() != 0) for x in inputs]
        # Once outside of jit: the matrix prepares memory at its first product, and keeps it.
        jax.block_until_ready(brainevent.BinaryArray(events[0]) @ weights)
        product = jax.jit(lambda x: brainevent.BinaryArray(x) @ weights)
        found = np.asarray(product(events[0]))
        np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-4, err_msg="brainevent differs")
        return rotating(lambda x: jax.block_until_ready(product(x)), events)

    return of_peer("brainevent", build)


def stream(matrix: Tensor | CSRBySource, inputs: list[Tensor]) -> Work:
    return rotating(ProductStream(matrix).push, [x[0].numpy() for x in inputs])


def matvec(activity: float, goals: list[Goal], targets: int = GATES) -> Case:
    matrix = torch.randn(UNITS, targets, generator=generator())
    weight, inputs = matrix.t().contiguous(), sparse_activity(activity)
    flat, y = matrix.numpy().reshape(-1), new((1, targets), matrix).numpy()
    events = round(activity * UNITS)
    return Case(
        f"event_matvec, 1344 -> {targets}, batch 1",
        f"{activity:.0%} active",
        {
            "ours": rotating(lambda x: event_matvec(x, matrix), inputs),
            STREAM: stream(matrix, inputs),
            WITHOUT_CALL: rotating(lambda x: matvec_module._forward(x.numpy(), y, None, flat, False), inputs),
            "ours, every row": rotating(lambda x: event_matvec_counted(x, matrix, every_row=True), inputs),
            "torch, F.linear": rotating(lambda x: linear(x, weight), inputs),
            OF_BRAINEVENT["rows"]: in_brainevent(matrix, inputs),
            "triad of as many bytes": rotating_triad(4 * targets * events),
        },
        goals,
        {"torch, F.linear": "torch", OF_BRAINEVENT["rows"]: "brainevent"},
        ("triad of as many bytes",),
        per_call=4 * targets * events,
        unit="bytes of active rows",
    )


def pruned(targets: int, goals: list[Goal]) -> Case:
    density, activity = 0.05, 0.1
    mask = torch.rand(UNITS, targets, generator=generator()) < density
    matrix = torch.randn(UNITS, targets, generator=generator()) * mask
    by_source, by_target = CSRBySource.from_dense(matrix), matrix.t().contiguous().to_sparse_csr()
    inputs = sparse_activity(activity)
    stored = sum(event_csr_counted(x, by_source)[1].multiply_accumulates for x in inputs) // len(inputs)
    y, parts = new((1, targets), matrix).numpy(), by_source.arrays()
    return Case(
        f"event_csr, 1344 -> {targets}, batch 1",
        "95 % pruned, 10 % active",
        {
            "ours": rotating(lambda x: event_csr(x, by_source), inputs),
            STREAM: stream(by_source, inputs),
            WITHOUT_CALL: rotating(lambda x: csr_module._forward(x.numpy(), y, None, *parts, False), inputs),
            "ours, every row": rotating(lambda x: event_csr_counted(x, by_source, every_row=True), inputs),
            "ours, dense rows": rotating(lambda x: event_matvec(x, matrix), inputs),
            "torch, CSR times vector": rotating(lambda x: by_target @ x[0], inputs),
            "torch, CSR times matrix": rotating(lambda x: by_target @ x.t(), inputs),
            OF_BRAINEVENT["csr"]: in_brainevent(by_source, inputs),
        },
        goals,
        {
            "torch, CSR times vector": "torch",
            "torch, CSR times matrix": "torch",
            OF_BRAINEVENT["csr"]: "brainevent",
        },
        per_call=stored,
        unit="stored weights of active rows",
    )


# --- the recurrent network -------------------------------------------------------------------------------


class Network:
    """A random event-based GRU at a chosen activity, beside torch's GRU of the same size."""

    def __init__(self, inputs: int, activity: float, sequences: int = 4) -> None:
        chance = generator()
        self.kernel = torch.randn(3 * UNITS, inputs, generator=chance) / inputs**0.5
        self.recurrent = torch.randn(UNITS, 3 * UNITS, generator=chance) / UNITS**0.5
        self.bias = torch.zeros(3 * UNITS)
        self.inputs = [1.5 * torch.randn(1, STEPS, inputs, generator=chance) for _ in range(sequences)]
        self.gru = torch.nn.GRU(inputs, UNITS, batch_first=True)
        self.threshold = torch.zeros(UNITS)
        low, high = 0.0, 3.0
        with torch.no_grad():
            for _ in range(12):  # the threshold that gives this activity
                self.threshold.fill_((low + high) / 2)
                if self.activity() > activity:
                    low = float(self.threshold[0])
                else:
                    high = float(self.threshold[0])
            self.threshold.fill_(high)

    def project(self, x: Tensor) -> Tensor:
        return linear(x, self.kernel, self.bias)

    def run(self, x: Tensor, every_row: bool = False) -> Any:
        return egru_sequence(
            self.project(x), self.recurrent, self.bias, self.threshold, every_row=every_row
        )  # fmt: skip

    def activity(self) -> float:
        events = [self.run(x).operations().events for x in self.inputs]
        return float(np.mean(events)) / (STEPS - 1) / UNITS


def sequence(inputs: int, activity: float, goals: list[Goal]) -> Case:
    network = Network(inputs, activity)
    return Case(
        f"egru_sequence, {inputs} -> 1344, 64 steps, input product included",
        f"{network.activity():.1%} active",
        {
            "ours": rotating(network.run, network.inputs),
            "ours, every row": rotating(lambda x: network.run(x, every_row=True), network.inputs),
            "torch.nn.GRU": rotating(network.gru, network.inputs),
            "input product alone": rotating(network.project, network.inputs),
        },
        goals,
        GRU_PEERS,
        ("input product alone",),
    )


def gradient(activity: float, need: float, goals: list[Goal]) -> Case:
    """Backward alone: the graph is kept. Gradients of projection, recurrent weights, bias and threshold."""
    network = Network(EMBEDDING, activity)
    states = [network.run(x).state for x in network.inputs]
    narrow, wide = 1000.0, 0.5
    for _ in range(30):  # the surrogate that gives this need-set
        support = (narrow * wide) ** 0.5
        found = float(
            np.mean([float(egru_need(s, network.threshold, support).float().mean()) for s in states])
        )
        narrow, wide = (support, wide) if found <= need else (narrow, support)
    support = narrow
    found = float(np.mean([float(egru_need(s, network.threshold, support).float().mean()) for s in states]))
    leaves = [w.clone().requires_grad_() for w in (network.recurrent, network.bias, network.threshold)]
    arriving = torch.randn(1, STEPS, UNITS, generator=generator())

    def back(every_row: bool) -> Work:
        graphs = []
        for x in network.inputs:
            projection = network.project(x).requires_grad_()
            run = egru_sequence(projection, *leaves, surrogate_support=support, every_row=every_row)
            graphs.append((run.output, [projection, *leaves]))
        turn = cycle(graphs)

        def work() -> None:
            output, wanted = next(turn)
            torch.autograd.grad(output, wanted, arriving, retain_graph=True)

        return work

    x = network.inputs[0].clone().requires_grad_()
    output = network.gru(x)[0]
    wanted = [x, *network.gru.parameters()]
    return Case(
        "egru_sequence, backward, H = 1344, 64 steps",
        f"{network.activity():.1%} active, {found:.1%} needed",
        {
            "ours": back(every_row=False),
            "ours, every row": back(every_row=True),
            "torch.nn.GRU, backward": lambda: torch.autograd.grad(
                output, wanted, arriving, retain_graph=True
            ),
        },
        goals,
        GRU_PEERS,
    )


def cases() -> Iterator[Case]:
    dense, torch_dense = "ours, every row", "torch, F.linear"
    yield matvec(0.05, [])
    memory = "triad of as many bytes"
    binary = {kind: Goal(name, 2) for kind, name in OF_BRAINEVENT.items()}
    yield matvec(0.1, [Goal(torch_dense, 12), Goal(dense, 3), Goal(memory, 0.9), binary["rows"]])
    yield matvec(0.2, [])
    yield matvec(1.0, [])
    yield matvec(0.1, [binary["rows"]], UNITS)
    yield pruned(GATES, [Goal("torch, CSR times vector", 3), binary["csr"]])
    yield pruned(UNITS, [binary["csr"]])
    few = [Goal("torch.nn.GRU", 6), Goal(dense, 3)]
    yield sequence(EMBEDDING, 0.2, few)
    yield sequence(EMBEDDING, 0.028, few)
    yield sequence(UNITS, 0.2, [])
    yield gradient(0.1, 0.2, [Goal(dense, 2)])


# --- growth and crossovers -------------------------------------------------------------------------------


def fits() -> Iterator[dict[str, Any]]:
    # Many sources and a batch, so that neither the call nor an output full of zeros counts for much.
    sources = 6 * UNITS
    matrix = torch.randn(sources, UNITS, generator=generator())

    def of_events(events: int) -> Work:
        inputs = [torch.cat(sparse_activity(events / sources, ROTATED, sources))]
        return rotating(lambda x: event_matvec(x, matrix), inputs)

    name = f"event_matvec in events, {sources} -> {UNITS}, batch 64"
    yield growth(name, of_events, [80, 256, 800, 2560, 8064], 1.0)


def crossovers() -> Iterator[dict[str, Any]]:
    torch.set_num_threads(1)
    matrix = torch.randn(UNITS, GATES, generator=generator())
    weight = matrix.t().contiguous()

    def by_activity(activity: float) -> dict[str, Work]:
        inputs = sparse_activity(activity)
        return {
            "torch, dense": rotating(lambda x: linear(x, weight), inputs),
            "ours, rows": rotating(lambda x: event_matvec(x, matrix), inputs),
        }

    def by_density(activity: float) -> Callable[[float], dict[str, Work]]:
        def works(density: float) -> dict[str, Work]:
            mask = torch.rand(UNITS, GATES, generator=generator()) < density
            by_source = CSRBySource.from_dense(matrix, mask)
            by_target = torch.where(mask, matrix, 0).t().contiguous().to_sparse_csr()
            inputs = sparse_activity(activity)
            return {
                "ours, rows": rotating(lambda x: event_matvec(x, matrix), inputs),
                "ours, compressed rows": rotating(lambda x: event_csr(x, by_source), inputs),
                "torch, CSR": rotating(lambda x: by_target @ x[0], inputs),
            }

        return works

    densities = [0.01, 0.02, 0.05, 0.1, 0.2]
    yield curve("1344 to 4032, dense weights", "activity", [0.02, 0.05, 0.1, 0.2, 0.5, 1.0], by_activity)
    yield curve("10 % active", "density of the weights", densities, by_density(0.1))
    yield curve("all active", "density of the weights", densities, by_density(1.0))


if __name__ == "__main__":
    main(__file__, "Event kernels", cases, fits, crossovers)

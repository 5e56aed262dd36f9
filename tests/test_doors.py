"""Whatever takes indices is found, given bad ones, and refuses them in one line without touching anything.

The bad calls run in a process of their own, which says what became of each: one that crashes or hangs there
is missing from its report.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numba.core.registry import CPUDispatcher
from torch import Tensor, nn

import eventbook.kernels
import eventbook.learning
import eventbook.models
import eventbook.spinnaker
from eventbook.kernels import events
from eventbook.kernels.events import compressed_rows, rows
from eventbook.kernels.machinery import indices, random
from eventbook.kernels.machinery.doors import Door
from eventbook.kernels.rewiring import network, products, steps
from eventbook.kernels.scans import token_scan
from eventbook.kernels.scans.event import check_tokens
from eventbook.learning.rewiring import (
    baselines,
    compiled_training,
    deep_r,
    mlp_classifier,
    sparse_linear,
    sparsify,
)
from eventbook.models.egru import CompressedCell, EGRUCell, compressed_cell, run_layer
from eventbook.models.egru_continuous import EGRUContinuous, egru_continuous, egru_continuous_gradients
from eventbook.models.egru_continuous.arguments import checked
from eventbook.models.event_gru import EventGRU
from eventbook.models.event_input import check_events, check_rows
from eventbook.models.event_ssm import EventSSM, EventSSMConfig, EventSSMLayer
from eventbook.models.event_ssm.pooling import MODES, pool_rows
from eventbook.models.language_model import KneserNey, LanguageModel, LanguageModelConfig
from eventbook.models.stream import StreamConfig, StreamEvents
from eventbook.spinnaker import connections

SECONDS = 600  # for all calls together, kernels compiled anew
PACKAGES = (eventbook.kernels, eventbook.models, eventbook.learning, eventbook.spinnaker)
WORDS = {"index", "indices", "indptr", "ranks", "taken", "chosen", "new", "order", "places", "token"}
HOLDERS = ("CSRBySource", "Weights", "SparseLayer", "FreeSparseLinear", "module.Module", "ConnectionList")

# --- what takes indices ------------------------------------------------------------------------------------


def module_names() -> Iterator[str]:
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            yield found.name


def takes_indices(function: Any) -> bool:
    return any(
        name in WORDS or any(holder in inspect.formatannotation(parameter.annotation) for holder in HOLDERS)
        for name, parameter in inspect.signature(function).parameters.items()
    )


def holds_indices(kind: type) -> bool:
    """A class that is built from indices or a model, or has an index, or is a layer."""
    if issubclass(kind, tuple | BaseException) or kind.__name__.startswith("_"):
        return False
    if issubclass(kind, nn.Module | torch.optim.Optimizer):
        return True
    return takes_indices(kind)


def takers() -> dict[str, Any]:
    """Functions, kernels and classes that are given indices or something that holds them, by full name."""
    found = {}
    for module_name in module_names():
        module = importlib.import_module(module_name)
        for name, thing in vars(module).items():
            function = getattr(thing, "py_func", thing)
            if getattr(function, "__module__", None) != module_name:
                continue  # imported
            if inspect.isclass(thing):
                takes = holds_indices(thing)
            else:
                takes = inspect.isfunction(function) and takes_indices(function)
            if takes:
                found[f"{module_name}.{name}"] = thing
    return found


# --- how it is called --------------------------------------------------------------------------------------

VECTOR = ("short", "square", "floats")  # another length, two axes, no integers
PLACES = ("negative", "beyond", *VECTOR)
INDEX = ("falls", "twice", *PLACES)


class Case(NamedTuple):
    """A good call, and which of its arguments may be spoilt in which way."""

    call: Callable[..., Any]
    make: Callable[[], dict[str, Any]]
    spoil: dict[str, tuple[str, ...]]


def spoilt(array: Any, fault: str) -> Any:
    """A bad copy of a vector of indices, of NumPy or torch."""
    if isinstance(array, tuple):  # one vector per layer: the last goes bad
        return *array[:-1], spoilt(array[-1], fault)
    if isinstance(array, Tensor):
        return torch.from_numpy(np.ascontiguousarray(spoilt(array.numpy(), fault)))
    bad = array.copy()
    if fault == "negative":
        bad[0] = -(10**8)
    elif fault == "beyond":
        bad[-1] = 10**9
    elif fault == "falls":
        bad = bad[::-1].copy()
    elif fault == "twice":
        bad[1] = bad[0]
    elif fault == "wraps":
        bad[1:-1] = [np.iinfo(bad.dtype).max, -2][: bad.size - 2]
    else:
        bad = {"short": bad[:-1], "square": bad[None], "floats": bad.astype(float)}[fault]
    return bad


K, N_IN, N_OUT, BATCH = 5, 6, 4, 3
M = N_IN * N_OUT


def index() -> np.ndarray:
    return np.array([1, 3, 8, 13, 22])


def theta() -> np.ndarray:
    return np.array([0.1, -0.2, 0.3, 0.0, 0.5])


def some(*shape: int) -> np.ndarray:
    return np.ones(shape)


def step_case(kernel: Any) -> Case:
    named = {
        "potential": M,
        "seed": 0,
        "stream": 0,
        "step": 0,
        "learning_rate": 0.1,
        "l1": 0.0,
        "noise": 0.1,
    }
    return Case(
        kernel,
        lambda: {"theta": theta(), "index": index(), "gradient": some(K), **named},
        {"index": INDEX, "theta": ("short", "square"), "gradient": ("short", "square")},
    )


def rewire_case(kernel: Any) -> Case:
    named = {"potential": M, "seed": 0, "stream": 0, "step": 0}
    return Case(
        kernel, lambda: {"theta": theta(), "index": index(), **named}, {"index": INDEX, "theta": ("short",)}
    )


def lanes() -> np.ndarray:
    return products.to_lanes(some(BATCH, N_IN))


def network_arguments() -> dict[str, Any]:
    sizes = (N_IN, N_OUT, 2)
    scratch = [network.activity_buffers(sizes, BATCH, np.dtype(float)) for _ in range(2)]
    inner = np.array([0, 3, 7])
    return {
        "images": some(9, N_IN),
        "labels": np.arange(9) % 2,
        "chosen": np.array([8, 0, 4]),
        "weight": (some(K), some(3)),
        "index": (index(), inner),
        "activity": scratch[0],
        "delta": scratch[1],
        "gradient": (some(K), some(3)),
    }


KERNELS: dict[Any, Case] = {
    steps.deep_r_step: step_case(steps.deep_r_step),
    steps.deep_r_step_excluding_dropped: step_case(steps.deep_r_step_excluding_dropped),
    steps.rewire: rewire_case(steps.rewire),
    steps.rewire_excluding_dropped: rewire_case(steps.rewire_excluding_dropped),
    steps.update_active: Case(
        steps.update_active,
        lambda: {
            "theta": theta(),
            "gradient": some(K),
            "index": index(),
            "seed": 0,
            "stream": 0,
            "step": 0,
            "learning_rate": 0.1,
            "l1": 0.0,
            "noise": 0.1,
        },
        {"index": tuple(f for f in INDEX if f != "beyond"), "theta": ("short",), "gradient": ("short",)},
    ),
    steps.keep_where: Case(
        steps.keep_where,
        lambda: {"keep": np.array([True, False, True, True, False]), "values": theta(), "index": index()},
        {"keep": VECTOR, "values": ("short",), "index": tuple(f for f in INDEX if f != "beyond")},
    ),
    steps.drop_negative: Case(
        steps.drop_negative,
        lambda: {"theta": theta(), "index": index()},
        {"theta": ("short",), "index": tuple(f for f in INDEX if f != "beyond")},
    ),
    steps.distinct_ranks: Case(
        steps.distinct_ranks,
        lambda: {"n": K, "size": M, "key": np.uint64(1), "ranks": index()},
        {"ranks": VECTOR},
    ),
    steps.ranks_to_dormant: Case(
        steps.ranks_to_dormant,
        lambda: {"ranks": np.array([0, 4]), "taken": index()},
        {
            "ranks": ("negative", "falls", "twice", "square", "floats"),
            "taken": ("negative", "falls", "twice", "square", "floats"),
        },
    ),
    steps.insert_at_zero: Case(
        steps.insert_at_zero,
        lambda: {"theta": theta(), "index": index(), "kept": 3, "new": np.array([2, 9])},
        {
            "theta": ("short",),
            "index": ("negative", "falls", "twice", *VECTOR),
            "new": ("negative", "falls", "twice", "square", "floats"),
        },
    ),
    steps.refill: Case(
        steps.refill,
        lambda: {"theta": theta(), "index": index(), "kept": 3, "potential": M, "key": np.uint64(1)},
        {"theta": ("short",), "index": ("negative", "falls", "twice", *VECTOR)},
    ),
    products.sparse_product: Case(
        products.sparse_product,
        lambda: {"x_lanes": lanes(), "weight": some(K), "index": index(), "y": some(BATCH, N_OUT)},
        {"index": INDEX, "weight": ("short",)},
    ),
    products.sparse_weight_gradient: Case(
        products.sparse_weight_gradient,
        lambda: {
            "y_gradient": some(BATCH, N_OUT),
            "x_lanes": lanes(),
            "index": index(),
            "weight_gradient": some(K),
        },
        {"index": INDEX, "weight_gradient": ("short",)},
    ),
    products.sparse_gradients: Case(
        products.sparse_gradients,
        lambda: {
            "y_gradient": some(BATCH, N_OUT),
            "x_lanes": lanes(),
            "weight": some(K),
            "index": index(),
            "weight_gradient": some(K),
            "x_gradient": some(BATCH, N_IN),
        },
        {"index": INDEX, "weight": ("short",), "weight_gradient": ("short",), "x_gradient": ("short",)},
    ),
    network.network_gradients: Case(
        network.network_gradients,
        network_arguments,
        {
            "index": INDEX,
            "chosen": ("negative", "beyond", "square", "floats"),
            "labels": PLACES,
            "weight": ("short",),
            "gradient": ("short",),
        },
    ),
    network.softmax_cross_entropy: Case(
        network.softmax_cross_entropy,
        lambda: {
            "logits": some(3, 16),
            "labels": np.array([0, 2, 1, 1]),
            "chosen": np.array([0, 3, 1]),
            "delta": some(3, 16),
        },
        {"chosen": PLACES[:2], "labels": PLACES, "delta": ("short",)},
    ),
    random.normals_at: Case(
        random.normals_at,
        lambda: {"key": np.uint64(1), "index": index(), "out": some(K)},
        {"index": VECTOR, "out": ("short", "square")},  # any number has a normal
    ),
    random.signs_at: Case(
        random.signs_at,
        lambda: {"seed": 1, "index": index(), "out": some(K)},
        {"index": VECTOR, "out": ("short", "square")},
    ),
    indices.check_index: Case(
        indices.check_index,
        lambda: {"index": index(), "potential": M},
        {"index": ("negative", "beyond", "falls", "twice", "square", "floats")},
    ),
    indices.check_places: Case(
        indices.check_places,
        lambda: {"places": index(), "size": M, "name": "places"},
        {"places": ("negative", "beyond", "square", "floats")},
    ),
    indices.int64_vector: Case(
        indices.int64_vector, lambda: {"index": index(), "name": "index"}, {"index": ("square", "floats")}
    ),
}

# kernels that say -1 of bad indices
JUDGES = {
    steps.count_active: Case(
        steps.count_active,
        lambda: {"theta": theta(), "index": index(), "potential": M},
        {"index": VECTOR, "theta": ("short", "square")},
    )
}


# --- matrices ----------------------------------------------------------------------------------------------


def csr_parts() -> dict[str, Any]:
    return {
        "indptr": torch.tensor([0, 2, 2, 4]),
        "indices": torch.tensor([0, 4, 1, 3], dtype=torch.int32),
        "values": torch.ones(4),
        "targets": 5,
    }


INDPTR = ("wraps", "falls", "negative", "beyond", "short", "square", "floats")
INDICES = ("negative", "beyond", "falls", *VECTOR)
CSR = {"indptr": INDPTR, "indices": INDICES, "values": ("short",)}


def changed_matrix(use: Callable[..., Any], **parts: Any) -> Any:
    """Build a good matrix, then write the parts into it."""
    matrix = events.CSRBySource(**csr_parts())
    for name in ("indptr", "indices"):
        with torch.no_grad():
            getattr(matrix, name).copy_(parts[name])
    return use(matrix)


def in_place(use: Callable[..., Any]) -> Case:
    return Case(
        lambda **parts: changed_matrix(use, **parts),
        csr_parts,
        {"indptr": ("wraps", "falls", "negative", "beyond"), "indices": ("negative", "beyond", "falls")},
    )


def silent() -> Tensor:
    return torch.ones(2, 3)


def recurrent_parts() -> dict[str, Any]:
    """A pruned recurrent matrix of three units."""
    return {
        "indptr": torch.tensor([0, 2, 2, 4]),
        "indices": torch.tensor([0, 8, 1, 3], dtype=torch.int32),
        "values": torch.ones(4),
        "targets": 9,
    }


def recurrent(use: Callable[..., Any]) -> Case:
    """Build a good matrix, then write the parts into it."""

    def call(indptr: Tensor, indices: Tensor, **rest: Any) -> Any:
        matrix = events.CSRBySource(**recurrent_parts())
        matrix.indptr.copy_(indptr)
        matrix.indices.copy_(indices)
        return use(matrix)

    faults = {"indptr": ("wraps", "falls", "negative", "beyond"), "indices": ("negative", "beyond", "falls")}
    return Case(call, recurrent_parts, faults)


def walk(matrix: Any, function: Callable[..., Any], *first: Any) -> Any:
    return function(*first, torch.ones(2, 4, 9), matrix, torch.zeros(9), torch.full((3,), 0.1))


def compressed(use: Callable[[Any], Any]) -> list[Case]:
    """A layer whose recurrent matrix is given bad parts by writing and by loading."""

    def make() -> Any:
        cell = EGRUCell(2, 3, threshold=0.1, generator=torch.Generator().manual_seed(0))
        keep = torch.zeros(3, 9, dtype=torch.bool)
        keep[[0, 0, 2, 2], [0, 8, 1, 3]] = True
        return compressed_cell(cell, {"recurrent_kernel": keep})

    def write(indptr: Tensor, indices: Tensor) -> Any:
        cell = make()
        cell.recurrent_kernel_indptr.copy_(indptr)
        cell.recurrent_kernel_indices.copy_(indices)
        return use(cell)

    def load(indptr: Tensor, indices: Tensor) -> Any:
        cell = make()
        parts = {"recurrent_kernel_indptr": indptr, "recurrent_kernel_indices": indices}
        cell.load_state_dict({**cell.state_dict(), **parts})
        return use(cell)

    def parts() -> dict[str, Any]:
        return {name: part for name, part in recurrent_parts().items() if name in ("indptr", "indices")}

    written = {"indptr": ("wraps", "falls", "negative", "beyond"), "indices": ("negative", "beyond", "falls")}
    return [Case(write, parts, written), Case(load, parts, {"indptr": INDPTR, "indices": INDICES})]


MATRICES: dict[Any, list[Case]] = {
    events.CSRBySource: [Case(events.CSRBySource, csr_parts, CSR)],
    events.event_csr: [in_place(lambda m: events.event_csr(silent(), m))],
    events.csr.event_csr_counts: [in_place(lambda m: events.csr.event_csr_counts(silent(), m))],
    events.egru_csr_sequence: [recurrent(lambda m: walk(m, events.egru_csr_sequence))],
    events.egru_csr_gradients: [recurrent(lambda m: walk(m, events.egru_csr_gradients, torch.ones(2, 4, 3)))],
    compressed_rows.compressed_rows: [
        Case(
            lambda **parts: compressed_rows.compressed_rows(**parts, changes=-1, column=6),
            recurrent_parts,
            {
                "indptr": ("wraps", "falls", "negative", "beyond", "short"),
                "indices": ("negative", "beyond", "falls", "short"),
            },
        )
    ],
    CompressedCell: compressed(
        lambda cell: run_layer(cell, torch.ones(2, 4, 2), cell.silent(2), events=True).output.sum().backward()
    ),
    events.event_csr_counted: [in_place(lambda m: events.event_csr_counted(silent(), m))],
    events.ProductStream: [in_place(lambda m: events.ProductStream(m).push(np.ones(3)))],
    events.event_product: [
        in_place(
            lambda m: events.event_product(
                torch.eye(3)[:1], events.Weights(torch.ones(3, 5), m), events.Crossover(1.0, 1.0)
            )
        )
    ],
    events.csr_matrix.prove: [
        Case(
            events.csr_matrix.prove,
            lambda: {k: v for k, v in csr_parts().items() if k != "values"},
            {
                "indptr": ("wraps", "falls", "negative", "beyond", "short"),
                "indices": ("negative", "beyond", "falls", "short"),
            },
        )
    ],
}

# --- layers, optimisers, and what is given a layer ---------------------------------------------------------

LAYER_FAULTS = ("negative", "beyond", "falls", "twice")


def layer_of(kind: Any) -> Any:
    layer = kind(N_IN, N_OUT, budget=K, dtype=torch.float64)
    layer.index.copy_(torch.from_numpy(index()))
    return layer


def write(layer: Any, given: Tensor) -> None:
    layer.index.copy_(given)


def replace(layer: Any, given: Tensor) -> None:
    layer.index = given


def load(layer: Any, given: Tensor) -> None:
    layer.load_state_dict({**layer.state_dict(), "index": given})


def load_as_own(layer: Any, given: Tensor) -> None:
    layer.load_state_dict({**layer.state_dict(), "index": given}, assign=True)


def load_in_a_network(layer: Any, given: Tensor) -> None:
    net = nn.Sequential(layer)
    net.load_state_dict({**net.state_dict(), "0.index": given})


def after(change: Callable[..., None], kind: Any, use: Callable[[Any], Any], faults: Any) -> Case:
    """Give the index to a layer by `change`, then use it."""

    def call(index: Tensor) -> Any:
        layer = layer_of(kind)
        layer(torch.ones(2, N_IN, dtype=torch.float64))  # proved once
        change(layer, index)
        return use(layer)

    return Case(call, lambda: {"index": torch.from_numpy(index())}, {"index": faults})


def forward(layer: Any) -> Any:
    return layer(torch.ones(2, N_IN, dtype=torch.float64)).sum().backward()


def with_gradients(layer: Any) -> Any:
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    return layer


def stepping(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Use a layer by one step of an optimiser, as if gradients were there already."""
    return lambda layer: make(with_gradients(layer)).step()


def rigl(layer: Any) -> Any:
    optimizer = baselines.RigL(layer, 0.1, every=1, fraction=0.5)
    optimizer._dense[0] = torch.ones(N_OUT, N_IN, dtype=torch.float64)
    return optimizer


def train_with(train: Callable[..., Any]) -> Callable[[Any], Any]:
    def use(layer: Any) -> Any:
        model = nn.Sequential(layer)
        is_free = isinstance(layer, sparse_linear.FreeSparseLinear)
        optimizer = baselines.FixedRandom(model, 0.1) if is_free else deep_r.DeepR(model, 0.1)
        images, labels = torch.ones(8, N_IN, dtype=torch.float64), torch.zeros(8, dtype=torch.int64)
        return train(model, optimizer, images, labels, batch_size=4, epochs=1)

    return use


def accuracy(layer: Any) -> Any:
    return mlp_classifier.accuracy(layer, torch.ones(3, N_IN, dtype=torch.float64), torch.zeros(3))


SIGNED, FREE = sparse_linear.SparseLinear, sparse_linear.FreeSparseLinear
EITHER = [SIGNED, FREE]


def layer_cases(kind: Any) -> list[Case]:
    loads = [after(way, kind, forward, (*INDEX,)) for way in (load, load_as_own, load_in_a_network)]
    uses = [forward, lambda m: m.to_dense(), lambda m: m.in_degree()]
    if kind is SIGNED:
        uses += [lambda m: m.sign, lambda m: m.weight]
    return (
        loads
        + [after(write, kind, use, LAYER_FAULTS) for use in uses]
        + [after(replace, kind, use, INDEX) for use in uses]
    )


def sparse_weight_cases() -> list[Case]:
    def call(index: Tensor, loaded: bool) -> Any:
        conv = sparsify.sparsify(nn.Conv1d(N_IN, N_OUT, 1, dtype=torch.float64), budget=K)
        if loaded:
            conv.load_state_dict({**conv.state_dict(), "parametrizations.weight.0.index": index})
        else:
            conv.parametrizations.weight[0].index.copy_(index)
        return conv(torch.ones(2, N_IN, 7, dtype=torch.float64))

    def make() -> dict[str, Any]:
        return {"index": torch.from_numpy(index())}

    return [
        Case(lambda index: call(index, True), make, {"index": INDEX}),
        Case(lambda index: call(index, False), make, {"index": LAYER_FAULTS}),
    ]


def both_ways(kind: Any, use: Callable[[Any], Any]) -> list[Case]:
    return [after(write, kind, use, LAYER_FAULTS), after(replace, kind, use, INDEX)]


LAYERS: dict[Any, list[Case]] = {
    SIGNED: layer_cases(SIGNED),
    FREE: layer_cases(FREE),
    sparsify.SparseWeight: sparse_weight_cases(),
    deep_r.DeepR: both_ways(SIGNED, stepping(lambda m: deep_r.DeepR(m, 0.1, gdnoise=0.1))),
    deep_r.GlobalDeepR: both_ways(SIGNED, stepping(lambda m: deep_r.GlobalDeepR(m, 0.1, gdnoise=0.1))),
    baselines.SET: both_ways(FREE, stepping(lambda m: baselines.SET(m, 0.1, every=1, fraction=0.5))),
    baselines.RigL: both_ways(FREE, stepping(rigl)),
    baselines.FixedRandom: both_ways(FREE, lambda m: (forward(m), baselines.FixedRandom(m, 0.1).step())),
    mlp_classifier.train: [c for k in EITHER for c in both_ways(k, train_with(mlp_classifier.train))],
    mlp_classifier.accuracy: [c for k in EITHER for c in both_ways(k, accuracy)],
    compiled_training.train_compiled: [
        c for k in EITHER for c in both_ways(k, train_with(compiled_training.train_compiled))
    ],
    connections.pack: both_ways(SIGNED, connections.pack),
}

# --- tokens: rows of a table, one for each event -----------------------------------------------------------

ROWS = 7


def events_of_streams() -> dict[str, Any]:
    return {
        "token": torch.tensor([[0, 6, 2, 5], [3, 1, 1, 6]]),
        "gap": torch.tensor([[0.0, 2.5, 0.0, 0.1], [0.0, 0.3, 4.0, 0.0]]),
        "lengths": torch.tensor([4, 3]),
    }


def of_tokens(use: Callable[..., Any]) -> Case:
    return Case(use, events_of_streams, {"token": PLACES, "gap": ("negative", "short", "square"),
                                         "lengths": PLACES})  # fmt: skip


def event_ssm(training: bool, **changes: Any) -> Case:
    config = EventSSMConfig(ROWS, 2, d_model=3, d_state=4, blocks=1, stride=2, layers=1, **changes)
    return of_tokens(lambda **events: EventSSM(config).train(training)(**events))


def event_ssm_layer(discretization: str) -> Case:
    def use(**events: Any) -> Any:
        layer = EventSSMLayer(3, 3, 4, discretization=discretization, norm="batch")
        return layer.from_tokens(torch.ones(ROWS, 3), **events)

    return of_tokens(use)


def stream_events(**changes: Any) -> Case:
    config = StreamConfig(2, d_model=3, d_state=4, **changes)
    return of_tokens(lambda **events: StreamEvents(ROWS, config)(**events))


def scan_of_rows(token: Tensor, gap: Tensor) -> Any:
    lam, table = torch.full((2,), -1 + 1j), torch.ones(ROWS, 2, dtype=torch.complex64)
    return token_scan(lam, gap, table, token)


def with_tokens_alone(use: Callable[..., Any]) -> Case:
    def make() -> dict[str, Any]:
        return {name: value for name, value in events_of_streams().items() if name != "lengths"}

    return Case(use, make, {"token": PLACES, "gap": ("negative", "short", "square")})


def in_continuous_time(use: Callable[..., Any]) -> Case:
    def make() -> dict[str, Any]:
        time = torch.tensor([0.5, 1.0, 2.5, 7.0], dtype=torch.float64)
        return {"time": time, "token": torch.tensor([0, 6, 2, 5])}

    return Case(use, make, {"token": PLACES, "time": ("negative", "falls", "short", "square")})


def to_continuous(function: Callable[..., Any], *first: Any, **rest: Any) -> Case:
    def use(time: Tensor, token: Tensor) -> Any:
        weights = torch.ones(ROWS, 6, dtype=torch.float64), torch.ones(2, 6, dtype=torch.float64)
        others = torch.zeros(6, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
        return function(*first, time, token, *weights, *others, duration=9.0, **rest)

    return in_continuous_time(use)


WORDS_OF_TEXT = ("negative", "beyond", "floats", "square")


def language_model(cell: str) -> list[Case]:
    model = LanguageModel(LanguageModelConfig(ROWS, 4, (4,), cell))

    def make(*names: str) -> dict[str, Any]:
        return {name: torch.tensor([[1, 2, 0], [3, 1, 2]]) for name in names}

    return [
        Case(model, lambda: make("tokens"), {"tokens": WORDS_OF_TEXT}),
        Case(model.loss, lambda: make("tokens", "targets"), {"targets": (*WORDS_OF_TEXT, "short")}),
    ]


def text() -> dict[str, Any]:
    return {"tokens": np.array([1, 2, 0, 3, 1, 2])}


TOKENS: dict[Any, list[Case]] = {
    LanguageModel: [*language_model("egru"), *language_model("lstm")],
    KneserNey: [
        Case(lambda tokens: KneserNey(tokens, ROWS), text, {"tokens": WORDS_OF_TEXT}),
        Case(
            lambda tokens: KneserNey(text()["tokens"], ROWS).log_probabilities(tokens),
            text,
            {"tokens": WORDS_OF_TEXT},
        ),
    ],
    EventSSM: [
        event_ssm(training, norm=norm, discretization=word, pooling=mode)
        for training, norm, word, mode in (
            (False, "layer", "async", "average"),
            (True, "batch", "zoh", "time"),
            (True, "batch", "dirac", "last"),
        )
    ],
    EventSSMLayer: [event_ssm_layer(word) for word in ("async", "zoh")],
    EventGRU: [of_tokens(lambda **events: EventGRU(ROWS, 2, 3, 4)(**events))],
    EGRUContinuous: [in_continuous_time(lambda **events: EGRUContinuous(ROWS, 2)(**events, duration=9.0))],
    checked: [to_continuous(checked, asked=None, value=None, state=None)],
    egru_continuous: [to_continuous(egru_continuous)],
    egru_continuous_gradients: [to_continuous(egru_continuous_gradients, {})],
    StreamEvents: [stream_events(step="learned"), stream_events(gap_feature=True, conv_width=4)],
    token_scan: [with_tokens_alone(scan_of_rows)],
    check_events: [of_tokens(lambda **events: check_events(**events, rows=ROWS + 1, least=1))],
    check_rows: [
        Case(
            check_rows,
            lambda: {"token": events_of_streams()["token"], "rows": ROWS},
            {"token": ("negative", "beyond")},
        )
    ],
    check_tokens: [
        Case(
            check_tokens,
            lambda: {"token": events_of_streams()["token"].numpy(), "rows": ROWS},
            {"token": ("negative", "beyond")},
        )
    ],
    pool_rows: [
        Case(
            lambda mode=mode, **events: pool_rows(mode, "last", torch.ones(ROWS, 3), stride=2, **events),
            events_of_streams,
            {"token": PLACES, "gap": ("short", "square"), "lengths": PLACES},
        )
        for mode in MODES
    ],
}

# names that Numba resolves by type: nothing behind them in Python
OVERLOADED = (rows.find, rows.add_rows, rows.add_columns, rows.dot_rows, rows.dot_columns)

# classes and functions that get a model but read nothing through its indices
BLIND = {
    "kernels.encoders.collate.EventBatch": "what `collate` made, read by those who check it",
    "kernels.events.choice.Weights": "holds a matrix, which its products prove",
    "learning.pruning.masks.Masks": "masks of dense parameters: no indices",
    "learning.pruning.masks.prune": "masks of dense parameters: no indices",
    "learning.pruning.rewired.connection_masks": "reads what `Wired` has proved",
    "learning.pruning.rewired.rewire": "draws the indices itself",
    "learning.pruning.rewired.settle": "reads what `Wired` has proved",
    "learning.pruning.schedules.GradualPruning": "masks of dense parameters: no indices",
    "learning.pruning.selection.magnitude_masks": "masks of dense parameters: no indices",
    "learning.pruning.selection.random_masks": "masks of dense parameters: no indices",
    "learning.pruning.weights.chosen": "returns parameters",
    "learning.pruning.weights.recurrent_weights": "returns names",
    "learning.rewiring.sparsify.sparsify_weight": "draws the indices itself",
    "learning.rewiring.baselines.L1Shrinkage": "dense layers",
    "learning.rewiring.baselines.MagnitudePruning": "dense layers",
    "learning.rewiring.baselines.connectivity_of": "counts values",
    "learning.rewiring.deep_r.SoftDeepR": "all connections are stored: no indices",
    "learning.rewiring.soft_linear.SoftSparseLinear": "all connections are stored: no indices",
    "learning.rewiring.deep_r.other_parameters": "returns parameters",
    "learning.rewiring.deep_r.sparse_connections": "returns layers",
    "learning.rewiring.sparsify.sparsify": "draws the indices itself",
    "learning.rewiring.state.Careful": "what layers inherit",
    "learning.rewiring.wiring.Wired": "what layers inherit",
    "models.decay.matrices_decay": "returns parameters",
    "learning.checkpoints.shapes": "returns names of weights and their sizes",
    "models.egru.cell.EGRUCell": "values of units: no indices",
    "models.egru.network.EGRU": "values of units: no indices; its kernels look at lengths",
    "models.egru.thresholds.BetaThreshold": "a number a unit",
    "models.egru.thresholds.FixedThreshold": "a number a unit",
    "models.egru.thresholds.SigmoidThreshold": "a number a unit",
    "models.egru.thresholds.Threshold": "a number a unit",
    "models.event_ssm.norm.BatchNorm": "channels of rows: no indices",
    "models.event_ssm.norm.LayerNorm": "channels of rows: no indices",
    "models.in_context.constructed_token.ConstructedTokenLayer": "features of tokens: no indices",
    "models.in_context.layer.GDLayer": "features of tokens: no indices",
    "models.in_context.nonlinear.NonlinearGD": "features of tokens: no indices",
    "models.language_model.gated.GatedStack": "vectors of words: no indices",
    "models.sequence_classifier.SequenceClassifier": "values of steps: no indices; lengths are looked at",
    "models.stream.baselines.PointMamba": "points: draws the indices itself",
    "models.stream.baselines.PointNet": "points: no indices",
    "models.event_input.check_layout": "shapes and dtypes: reads no value of a token",
    "models.stream.block.StreamBlock": "features of rows: no indices",
    "models.stream.events.parameter_groups": "returns parameters",
    "models.stream.clouds.PointClassifier": "what networks inherit",
    "models.stream.points.StreamPoints": "points: draws the indices itself",
}


def cases() -> dict[str, Case]:
    """Every good call by name."""
    found = {}
    for group in (KERNELS, JUDGES, MATRICES, LAYERS, TOKENS):
        for thing, its in group.items():
            name = full_name(thing)
            for number, case in enumerate([its] if isinstance(its, Case) else its):
                found[f"{name}/{number}"] = case
    return found


def full_name(thing: Any) -> str:
    function = getattr(thing, "py_func", thing)
    return f"{function.__module__.removeprefix('eventbook.')}.{function.__qualname__}"


def bad_calls() -> list[str]:
    return [
        f"{name}/{argument}/{fault}"
        for name, case in cases().items()
        for argument, faults in case.spoil.items()
        for fault in faults
    ]


# --- in the child ------------------------------------------------------------------------------------------


def arrays_of(thing: Any) -> list[bytes]:
    """Contents of all arrays in some arguments."""
    if isinstance(thing, dict | tuple | list):
        parts = thing.values() if isinstance(thing, dict) else thing
        return [content for part in parts for content in arrays_of(part)]
    return [np.asarray(thing).tobytes()] if isinstance(thing, np.ndarray | Tensor) else []


def outcome(call: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    before = arrays_of(copy.deepcopy(arguments))
    try:
        call(**arguments)
    except Exception as error:
        return {"raised": type(error).__name__, "text": str(error), "same": arrays_of(arguments) == before}
    return {"raised": None}


def report() -> None:
    """Make every call, good and bad, and say at once what came of it."""
    for name, case in cases().items():
        print(json.dumps({"name": name, **outcome(case.call, case.make())}), flush=True)
        for argument, faults in case.spoil.items():
            for fault in faults:
                arguments = case.make()
                arguments[argument] = spoilt(arguments[argument], fault)
                bad = outcome(case.call, arguments)
                print(json.dumps({"name": f"{name}/{argument}/{fault}", **bad}), flush=True)


@cache
def outcomes() -> dict[str, dict[str, Any]]:
    try:
        done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=SECONDS)
        text, end = done.stdout, f"exit status {done.returncode}: {done.stderr[-500:]}"
    except subprocess.TimeoutExpired as late:
        text, end = (late.stdout or b"").decode(), f"no end after {SECONDS} seconds"
    found = {}
    for line in text.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            found[entry.pop("name")] = entry
    return {**found, "end": {"text": end}}


def what_came_of(name: str) -> dict[str, Any]:
    found = outcomes()
    assert name in found, f"{name} has no outcome, the process ended with {found['end']['text']}"
    return found[name]


# --- in the parent -----------------------------------------------------------------------------------------


def test_everything_that_takes_indices_is_here() -> None:
    named = [name.rpartition("/")[0] for name in cases()] + list(BLIND) + [full_name(f) for f in OVERLOADED]
    known = {f"eventbook.{name}" for name in named}
    found = takers()
    open_to_all = {
        name
        for name, thing in found.items()
        if not name.rpartition(".")[2].startswith("_")
        and not name.endswith("_reference")  # NumPy and torch check what the readable twins read
        and not name.startswith("eventbook.kernels.rewiring.checks.")  # who refuses
        and not is_inside(thing)
    }
    assert open_to_all - known == set(), "give these a case in this file"
    assert known - open_to_all == set(), "these are gone"


def is_inside(thing: Any) -> bool:
    return isinstance(thing, Door) and thing.check.__name__ == "refuse"


def test_kernels_without_a_door_say_what_they_rely_on() -> None:
    silent = [
        name
        for name, thing in takers().items()
        if (isinstance(thing, CPUDispatcher) or is_inside(thing))
        and "elies on" not in " ".join((thing.py_func.__doc__ or "").split())
    ]
    assert silent == []


def test_kernels_in_the_open_have_a_door() -> None:
    bare = [
        name
        for name, thing in takers().items()
        if isinstance(thing, CPUDispatcher) and not name.rpartition(".")[2].startswith("_")
    ]
    assert bare == []


def test_kernels_for_kernels_refuse_to_be_called() -> None:
    doors = [thing for thing in takers().values() if is_inside(thing)]
    assert len(doors) >= 4
    for kernel in doors:
        with pytest.raises(TypeError, match="is callable from kernels alone"):
            kernel()
    for overloaded in OVERLOADED:
        with pytest.raises(NotImplementedError, match="callable from kernels alone"):
            overloaded(*[None] * len(inspect.signature(overloaded).parameters))


@pytest.mark.parametrize("name", cases())
def test_good_indices_are_taken(name: str) -> None:
    assert what_came_of(name)["raised"] is None, what_came_of(name)


@pytest.mark.parametrize("name", bad_calls())
def test_bad_indices_are_refused(name: str) -> None:
    found = what_came_of(name)
    assert found["raised"] in ("ValueError", "TypeError"), found
    assert "\n" not in found["text"], found
    assert any(argument in found["text"] for argument in cases()[name.rsplit("/", 2)[0]].make()), found
    assert found["same"], "something was written"


def test_a_walk_that_finds_nothing_would_be_noticed() -> None:
    def takes(index: Any) -> None: ...

    def takes_none(size: int) -> None: ...

    assert takes_indices(takes)
    assert not takes_indices(takes_none)
    assert len(takers()) > 60
    assert {random.signs_at, steps.rewire, SIGNED, events.event_csr} <= set(takers().values())


if __name__ == "__main__":
    report()

"""Calls scans and encoders with anything: `python any_input.py ROOM SEED CALLS`. Prints what came back.

Arrays that enter, and results of scans, end where unreadable memory begins: a kernel that goes beyond them
ends the process.
What is accepted is computed twice, with the allocator's memory filled between: results that differ were never
written. What is refused must be refused in one line, as ValueError or TypeError.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from eventbook.kernels import encoders as e
from eventbook.kernels import scans as s
from eventbook.kernels.events import egru_operator
from eventbook.kernels.events.egru import egru_sequence
from eventbook.kernels.scans import causal, constant, event, linear, selective

LIBC = ctypes.CDLL(None, use_errno=True)


def guarded(array: np.ndarray) -> np.ndarray:
    """A copy whose last byte is the last one before a page that nobody may touch."""
    if not array.nbytes:
        return array
    pages = -(-array.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.uint8)
    edge = whole.ctypes.data + pages * mmap.PAGESIZE
    if LIBC.mprotect(ctypes.c_void_p(edge), mmap.PAGESIZE, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    first = pages * mmap.PAGESIZE - array.nbytes
    copy = whole[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def guarded_new(shape: Any, like: torch.Tensor) -> torch.Tensor:
    """In place of `tensors.new`."""
    x = torch.from_numpy(guarded(np.full(tuple(shape), 0, torch.empty(0, dtype=like.dtype).numpy().dtype)))
    return x.fill_(torch.nan)  # what is not written shows


def guard_results() -> None:
    """Let scans write, and keep what they need to go back, where nothing follows."""
    for module in (causal, constant, event, linear, selective, egru_operator):
        module.new = guarded_new  # type: ignore[attr-defined]


class Draw:
    """Random arguments, most of them good."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lengths = {axis: int(self.rng.choice([0, 1, 2, 3, 15, 16, 17, 32, 33])) for axis in "btnsk"} | {
            "b": int(self.rng.integers(0, 4))
        }
        self.lengths["w"] = max(0, self.lengths["s"] - 1)
        self.single = bool(self.rng.integers(2))
        self.bad = self.rng.random() < 0.6

    def one_of(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def seldom(self, chance: float = 0.15) -> bool:
        return self.bad and self.rng.random() < chance

    def values(self, shape: list[int], dtype: Any) -> np.ndarray:
        x = self.rng.standard_normal(shape)
        if np.dtype(dtype).kind == "c":
            x = x + 1j * self.rng.standard_normal(shape)
        x = x.astype(dtype)
        if self.seldom() and x.size:
            kind = np.finfo(dtype) if np.dtype(dtype).kind in "fc" else np.iinfo(dtype)
            nothing = [np.nan, np.inf, -np.inf, 1e-40] if np.dtype(dtype).kind in "fc" else []
            x.flat[int(self.rng.integers(x.size))] = self.one_of(kind.max, kind.min, 0, -1, *nothing)
        return x

    def tensor(self, axes: str, positive: bool = False, whole: int | None = None) -> Any:
        """A tensor of these axes: '*' complex; sometimes of another shape, dtype, layout, place or kind."""
        lengths = [3 * self.lengths["n"] if axis == "m" else self.lengths[axis] for axis in axes.rstrip("*")]
        if self.seldom(0.05) and lengths:
            at = int(self.rng.integers(len(lengths)))
            lengths = self.one_of(
                lengths[:at] + lengths[at + 1 :],
                [*lengths, 2],
                [*lengths[:at], self.one_of(0, 1, 5, 16), *lengths[at + 1 :]],
            )
        complex_ = axes.endswith("*")
        dtype = (np.complex64 if self.single else np.complex128) if complex_ else (
            np.float32 if self.single else np.float64
        )  # fmt: skip
        if self.seldom(0.05):
            dtype = self.one_of(np.float16, np.float32, np.float64, np.complex64, np.int64, np.int8)
        if whole is not None:
            x = self.rng.integers(0, max(whole, 1), lengths)
            if self.seldom(0.3) and x.size:
                x.flat[int(self.rng.integers(x.size))] = self.one_of(-1, whole, 2**62, -(2**63))
        else:
            x = self.values(lengths, dtype)
            if positive and not self.seldom():
                x = np.abs(x).astype(dtype)
        layout = self.one_of("plain", "plain", "strided", "turned", "expanded")
        if layout == "strided" and x.ndim:
            wide = np.repeat(x, 2, -1)
            tensor = torch.from_numpy(guarded(wide))[..., ::2]
        elif layout == "turned" and x.ndim > 1:
            tensor = torch.from_numpy(guarded(np.swapaxes(x, 0, -1).copy())).transpose(0, -1)
        elif layout == "expanded" and x.ndim and len(x):
            tensor = torch.from_numpy(guarded(x[:1].copy())).expand(x.shape)
        else:
            tensor = torch.from_numpy(guarded(x))
        if self.seldom(0.03):
            return self.one_of(tensor.to("meta"), x, x.tolist(), "abc")
        if tensor.is_floating_point() or tensor.is_complex():
            tensor.requires_grad_(bool(self.rng.integers(2)))
        return tensor

    def threads(self) -> int:
        return self.one_of(0, -1) if self.seldom(0.05) else self.one_of(1, 2, 5)

    def maybe(self, make: Callable[[], Any]) -> Any:
        return make() if self.rng.integers(2) else None

    def number(self, *good: Any) -> Any:
        return self.one_of(0, -1, 2**62, 2**63, 2**70, 1.5, float("nan"), float("inf"), "3", None) if (
            self.seldom(0.1)
        ) else self.one_of(*good)  # fmt: skip

    def integers(self, n: int, high: int) -> np.ndarray:
        dtype = self.one_of(np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64)
        x = self.rng.integers(0, min(high, np.iinfo(dtype).max), n).astype(dtype)
        if self.seldom() and n:
            x[int(self.rng.integers(n))] = self.one_of(np.iinfo(dtype).min, np.iinfo(dtype).max)
        if self.seldom(0.05):
            return self.one_of(x.astype(float), x[:, None], x[:-1], x.astype(">i8"), x.astype(object))
        return self.view(x)

    def view(self, x: np.ndarray) -> np.ndarray:
        layout = self.one_of("plain", "plain", "reversed", "strided", "read-only")
        if layout == "reversed":
            return guarded(x[::-1].copy())[::-1]
        if layout == "strided":
            return guarded(np.repeat(x, 2, 0))[::2]
        x = guarded(x)
        x.flags.writeable = layout != "read-only"
        return x

    def stamps(self, n: int) -> np.ndarray:
        x = self.integers(n, 10**6)
        return x if self.seldom(0.1) or x.dtype.kind not in "iu" or x.ndim != 1 else self.view(np.sort(x))

    def events(self, width: int, height: int) -> Any:
        n = self.one_of(0, 1, 2, 50, 1_023, 1_024, 1_025, 3_000)
        events = np.zeros(n, e.EVENT)
        events["x"], events["y"] = self.rng.integers(0, width, n), self.rng.integers(0, height, n)
        events["t"], events["p"] = np.sort(self.rng.integers(0, 5_000, n)), self.rng.integers(0, 2, n)
        if self.seldom(0.3) and n:
            name = self.one_of("x", "y", "t", "p")
            at = self.one_of(0, n - 1, int(self.rng.integers(n)))
            events[name][at] = self.one_of(-1, width, height, 2, 2**32, 2**62, -(2**63), 2**63 - 1)
        if self.rng.integers(2):
            return self.view(events)
        columns = [
            guarded(events[name].astype(dtype))
            for name, dtype in zip("xytp", (np.uint16, np.uint16, np.int64, np.uint8), strict=True)
        ]
        if self.seldom(0.1):
            at = int(self.rng.integers(4))
            c = columns[at]
            columns[at] = self.one_of(
                c[:-1], c[::-1], c.astype(float), c.astype(">i8"), c[:, None], c.tolist()
            )
        return e.EventColumns(*columns)


def scan(d: Draw) -> Callable[[], Any]:
    rule = d.one_of("mamba", "zoh", "bilinear")
    selective = dict(
        u=d.tensor("btn"), delta=d.tensor("btn", True), A=d.tensor("ns"), B=d.tensor("bts"),
        C=d.tensor("bts"), D=d.maybe(lambda: d.tensor("n")),
        h0=d.maybe(lambda: d.tensor("bns")), rule=rule, threads=d.threads(),
    )  # fmt: skip
    gap, lam, h0 = d.tensor("bt", True), d.tensor("n*"), d.maybe(lambda: d.tensor("bn*"))
    star = d.one_of("", "*")
    calls: list[tuple[Callable, dict[str, Any]]] = [
        (s.causal_silu, dict(x=d.tensor("btn"), weight=d.tensor("ns"), bias=d.tensor("n"),
                             before=d.maybe(lambda: d.tensor("bwn")), threads=d.threads())),
        (s.linear_scan, dict(a=d.tensor("btn" + star), b=d.tensor("btn" + star), threads=d.threads(),
                             h0=d.maybe(lambda: d.tensor("bn" + star)))),
        (s.constant_scan, dict(a=d.tensor("n" + star), b=d.tensor("btn" + star), threads=d.threads(),
                               h0=d.maybe(lambda: d.tensor("bn" + star)))),
        (s.event_scan, dict(lam=lam, gap=gap, b=d.tensor("btn*"), h0=h0, threads=d.threads())),
        (s.token_scan, dict(lam=lam, gap=gap, table=d.tensor("kn*"), h0=h0, threads=d.threads(),
                            token=d.tensor("bt", whole=d.lengths["k"]))),
        (s.event_step, dict(lam=lam, gap=d.tensor("b", True), b=d.tensor("bn*"), h=d.tensor("bn*"))),
        (s.selective_scan, {**selective, "delta_a": d.maybe(lambda: d.tensor("btn", True)),
                            "z": d.maybe(lambda: d.tensor("btn"))}),
        (s.coordinate_scan, {**selective, "gap": gap, "rate": d.tensor("n", True)}),
        (s.selective_step, dict(u=d.tensor("bn"), delta=d.tensor("bn"), A=d.tensor("ns"), B=d.tensor("bs"),
                                C=d.tensor("bs"), h=d.tensor("bns"), D=d.maybe(lambda: d.tensor("n")),
                                delta_a=d.maybe(lambda: d.tensor("bn")), rule=rule)),
        (s.discretize, dict(mode=d.one_of("dirac", "async", "zoh"), lam=lam, step=d.tensor("n"), gap=gap)),
        (egru_sequence, dict(projection=d.tensor("btm"), recurrent=d.tensor("nm"),
                             recurrent_bias=d.tensor("m"), threshold=d.tensor("n"), threads=d.threads(),
                             carry=d.maybe(lambda: d.tensor("bn")), output=d.maybe(lambda: d.tensor("bn")),
                             lengths=d.maybe(lambda: d.tensor("b", whole=d.lengths["t"] + 1)),
                             reset_gate=d.one_of("after", "before"),
                             reset=d.one_of("threshold", "value", "none", "paper"))),
    ]  # fmt: skip
    function, arguments = d.one_of(*calls)

    def call() -> Any:
        outputs = function(**arguments)
        leaves = [x for x in arguments.values() if isinstance(x, torch.Tensor) and x.requires_grad]
        alive = [x for x in outputs if x.requires_grad]
        if not alive or any(x.is_meta for x in outputs):
            return [x.detach() for x in outputs if not x.is_meta]
        gradients = torch.autograd.grad(alive, leaves, [torch.ones_like(x) for x in alive], allow_unused=True)
        return [x.detach() for x in (*outputs, *gradients) if x is not None]

    call.__name__ = function.__name__
    return call


def encoder(d: Draw) -> Callable[[], Any]:
    width, height, n = d.number(1, 3, 40), d.number(1, 3, 30), d.one_of(0, 1, 5, 100)
    w, h = (x if isinstance(x, int) and 0 < x < 1_000 else 3 for x in (width, height))
    events, align = d.events(w, h), d.one_of("aligned", "as_released")
    frames = d.view(d.values([d.one_of(0, 1, 2, 40), d.one_of(0, 1, 3)], np.float64))
    threshold = d.one_of(0.25, 1.0, np.float32(0.5), 1e-4)
    if d.seldom(0.3):
        threshold = d.one_of(
            0.0, -1.0, np.nan, np.inf, 5e-324, 1e-300, 1e-17, 1e-12, 1e300, np.ones(2), "a", 1j
        )
    image = d.one_of(
        d.rng.integers(0, 256, (d.one_of(0, 1, 6), d.one_of(0, 1, 9))).astype(np.uint8),
        d.view(np.abs(d.values([4, 5], d.one_of(np.float16, np.float32, np.float64)))) % 1,
        frames,
    )
    noise = d.one_of(0.0, 3.0)
    if d.seldom(0.2):
        noise = d.one_of(-1.0, np.nan, np.inf, 1e300, 1e12, 5e-324)
    stream = e.TokenStream(d.integers(n, 6), d.stamps(n))
    values, gap = d.tensor("btn"), d.tensor("bt", True)
    stamps = d.one_of("interpolated", "frame")
    calls: list[tuple[Callable, tuple, dict[str, Any]]] = [
        (e.event_frames, (events, width, height), {d.one_of("bins", "window"): d.number(1, 3, 100)}),
        (e.check_events, (events, width, height), {}),
        (e.tokens_of, (events, width, height), {}),
        (e.events_of_tokens, (*stream, width, height), {}),
        (e.gaps_of, (d.stamps(n), align), {}),
        (e.collate, ([(d.integers(n, 6), d.stamps(n)), stream], d.number(6, 200)), {"alignment": align}),
        (e.delta_events, (frames, threshold, d.number(1, 1_000)), {"stamps": stamps}),
        (e.reconstruct, (stream, np.zeros(3), 0.5, d.number(1, 1_000), d.one_of(0, 1, 50, -1, 2.5)), {}),
        (e.saccade_events, (image,), dict(threshold=threshold, noise_rate=noise, duration=d.number(6_000),
                                          seed=d.number(0, 2**64 - 1) if noise else None)),
        (d.one_of(e.pool_last, e.pool_average, e.pool_time), (values, gap, d.one_of(0, -1, 1, 3, 100)),
         {"lengths": d.maybe(lambda: d.tensor("b", whole=d.lengths["t"] + 1))}),
    ]  # fmt: skip
    function, arguments, options = d.one_of(*calls)

    def call() -> Any:
        outputs = function(*arguments, **options)
        if isinstance(outputs, e.EventBatch):
            outputs = (outputs.token, outputs.gap, outputs.lengths, outputs.mask)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return [torch.as_tensor(x).detach() if torch.is_tensor(x) else x for x in outputs if x is not None]

    call.__name__ = function.__name__
    return call


def same(a: Any, b: Any) -> bool:
    a, b = (x.resolve_conj().numpy() if torch.is_tensor(x) else np.asarray(x) for x in (a, b))
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def fill_memory() -> None:
    """Leave other bytes where freed memory lies, small and large."""
    for size in (64, 512, 4_096, 65_536):
        for block in [np.full(size, 0xA5, np.uint8) for _ in range(8)]:
            block.fill(0x5A)


def main(room: str, seed: int, calls: int) -> None:
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    guard_results()
    seen: Counter[str] = Counter()
    for number in range(seed, seed + calls):
        print(number, end=" ", flush=True)  # the last one is the one that ended the process
        call = {"scans": scan, "encoders": encoder}[room](Draw(number))
        try:
            first = call()
        except (ValueError, TypeError) as error:
            if "\n" in str(error):
                raise RuntimeError(f"{number} {call.__name__}: more than one line") from error
            seen[f"{call.__name__} refused"] += 1
        else:
            fill_memory()
            again = call()
            assert len(first) == len(again)
            assert all(map(same, first, again)), f"{number} {call.__name__}: two calls differ"
            seen[f"{call.__name__} accepted"] += 1
    print()
    for name, count in sorted(seen.items()):
        print(f"{name}: {count}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

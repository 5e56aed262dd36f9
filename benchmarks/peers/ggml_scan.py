"""The selective scan of ggml, the operator `ssm_scan` that llama.cpp runs for Mamba on a processor.

    d_t = log(1 + exp(dt_t)),      s_t = exp(d_t A) s_{t-1} + d_t B_t x_t,      y_t = sum_n C_{t,n} s_{t,n}
    (elementwise; feed-through and gate are operators of their own)

A step belongs to a head. Mamba has one for every channel, which makes its channels heads of dimension one.
Sizes in ggml begin with the axis that lies innermost, so that every array lies in memory as ours do:

| ggml | meaning | sizes in ggml | shape in NumPy | name |
|---|---|---|---|---|
| s | states before the first element | state, 1, channel, batch | (batch, channel, 1, state) | zeros |
| x | input | 1, channel, time, batch | (batch, time, channel, 1) | `u` |
| dt | step, before the softplus | channel, time, batch | (batch, time, channel) | `step` |
| A | state matrix, negative | state, channel | (channel, state) | `A` |
| B, C | projections, for one group of heads | state, 1, time, batch | (batch, time, 1, state) | `B`, `C` |
| ids | row of s where each sequence starts | batch | (batch,), int32 | 0, 1, ... |
| result | all y, then the last states | their sum | two views of one array | `y`, `last` |

The loops go over sequences, time, channels and states; threads share the channels. With a state matrix as
Mamba's the innermost calls the C library's exponential for each state, one at a time, except on ARM with
scalable vectors.

Source: `ggml_compute_forward_ssm_scan_f32` in ggml, as ggml-python 0.0.45 carries it.
"""

import ctypes
import inspect
import weakref
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

TENSORS = 8  # seven that go in and the result


class OldVersion(Exception):
    """A version of ggml whose `ssm_scan` takes other arguments; called with ours it would end the process."""


class SsmScan:
    """A graph of one `ssm_scan`, built and planned once; a call computes it.

    ggml reads the arrays where they are; only what is not contiguous in single precision is copied.

    Attributes
    ----------
    y
        (batch, time, channel), what the latest call computed.
    last
        State after the last element, (batch, channel, state).

    Raises
    ------
    OldVersion
        If `ssm_scan` takes no ids.
    ValueError
        If a shape does not fit.
    RuntimeError
        If ggml has no memory for a graph, or does not finish a call.
    """

    def __init__(
        self,
        ggml: ModuleType,
        u: NDArray[np.float32],
        step: NDArray[np.float32],
        A: NDArray[np.float32],
        B: NDArray[np.float32],
        C: NDArray[np.float32],
        *,
        threads: int,
    ) -> None:
        if "ids" not in inspect.signature(ggml.ggml_ssm_scan).parameters:
            raise OldVersion("ggml_ssm_scan must take ids, as in ggml-python 0.0.45, got an older one")
        (batch, time, channels), states = u.shape, A.shape[-1]
        shapes = {
            "step": (step, (batch, time, channels)), "A": (A, (channels, states)),
            "B": (B, (batch, time, states)), "C": (C, (batch, time, states)),
        }  # fmt: skip
        for name, (given, wanted) in shapes.items():
            if given.shape != wanted:
                raise ValueError(f"{name} must have the shape {wanted}, got {given.shape}")
        result = np.empty(u.size + batch * channels * states, np.float32)
        self.y = result[: u.size].reshape(u.shape)
        self.last = result[u.size :].reshape(batch, channels, states)

        self._ggml = ggml
        size = TENSORS * ggml.ggml_tensor_overhead() + ggml.ggml_graph_overhead()
        context = ggml.ggml_init(ggml.ggml_init_params(mem_size=size, mem_buffer=None, no_alloc=True))
        if context is None:
            raise RuntimeError(f"ggml_init must return a context of {size} bytes, got none")
        weakref.finalize(self, ggml.ggml_free, context)
        self._arrays: list[NDArray[Any]] = [result]  # ggml holds their addresses alone

        def tensor(values: NDArray[Any], *shape: int, dtype: type = np.float32) -> Any:
            kind = ggml.GGML_TYPE_I32 if dtype is np.int32 else ggml.GGML_TYPE_F32
            sizes = (ctypes.c_int64 * len(shape))(*shape[::-1])
            made = ggml.ggml_new_tensor(context, kind, len(shape), sizes)
            self._arrays.append(np.ascontiguousarray(values, dtype))
            made.contents.data = self._arrays[-1].ctypes.data
            return made

        scan = ggml.ggml_ssm_scan(
            context,
            tensor(np.zeros_like(self.last), batch, channels, 1, states),
            tensor(u, batch, time, channels, 1),
            tensor(step, batch, time, channels),
            tensor(A, channels, states),
            tensor(B, batch, time, 1, states),
            tensor(C, batch, time, 1, states),
            tensor(np.arange(batch), batch, dtype=np.int32),
        )
        scan.contents.data = result.ctypes.data
        self._graph = ggml.ggml_new_graph(context)
        ggml.ggml_build_forward_expand(self._graph, scan)
        self._plan = ggml.ggml_graph_plan(self._graph, threads)
        self._arrays.append(np.empty(max(1, self._plan.work_size), np.uint8))
        self._plan.work_data = self._arrays[-1].ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))

    def __call__(self) -> None:
        status = self._ggml.ggml_graph_compute(self._graph, ctypes.byref(self._plan))
        if status != self._ggml.GGML_STATUS_SUCCESS:
            raise RuntimeError(f"ggml_graph_compute must return success, got status {status}")

"""Kernels on several threads: every row once, errors reach the caller, forked processes work."""

import multiprocessing
import threading

import numpy as np
import pytest
import torch

from eventbook.kernels.machinery.threads import over_batch
from eventbook.kernels.scans import linear_scan


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_every_row_is_done_once_with_its_own_slice(batch: int, threads: int) -> None:
    out = np.zeros((batch, 4))

    def work(x: np.ndarray, out: np.ndarray, factor: float) -> None:
        out += factor * x

    over_batch(work, threads, (np.arange(4.0 * batch).reshape(batch, 4), out), 2.0)
    assert np.array_equal(out.ravel(), 2 * np.arange(4.0 * batch))


def test_an_error_on_any_thread_reaches_the_caller() -> None:
    def work(x: np.ndarray) -> None:
        if x[0] == 3:
            raise ZeroDivisionError("row 3")

    with pytest.raises(ZeroDivisionError, match="row 3"):
        over_batch(work, 4, (np.arange(4.0),))


def test_python_threads_may_call_kernels_at_once() -> None:
    a, b = torch.full((4, 500, 33), 0.5), torch.randn(4, 500, 33)
    expected, found = linear_scan(a, b)[0], [torch.empty(0)] * 6

    def call(k: int) -> None:
        found[k] = linear_scan(a, b, threads=2)[0]

    callers = [threading.Thread(target=call, args=(k,)) for k in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(torch.equal(h, expected) for h in found)


def _in_child(send) -> None:
    h, _ = linear_scan(torch.full((4, 50, 3), 0.5), torch.ones(4, 50, 3), threads=2)
    send.send(float(h.sum()))


def test_a_forked_process_has_a_pool_of_its_own() -> None:
    parent = linear_scan(torch.full((4, 50, 3), 0.5), torch.ones(4, 50, 3), threads=2)[0].sum()
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(send,))
    child.start()
    try:
        assert receive.poll(60), "the child does not answer"
        assert receive.recv() == float(parent)
    finally:
        child.kill()  # or the end of this process would wait for it
        child.join()

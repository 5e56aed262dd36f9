"""The pool of memory: reuse only after the last reference is gone, bounds, forks, threads."""

import gc
import mmap
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from eventbook.kernels.machinery import memory
from eventbook.kernels.machinery.memory import LARGE_PAGE, kept, release, take
from eventbook.kernels.machinery.tensors import POOLED_BYTES, new
from eventbook.kernels.scans import linear_scan

SIZE = 3 * LARGE_PAGE + 100


@pytest.fixture(autouse=True)
def empty_pool():
    gc.collect()
    release()
    yield
    release()


def test_a_block_is_used_again_when_its_tensor_is_gone():
    first = new((SIZE,), torch.empty(0, dtype=torch.int8))
    place = first.data_ptr()
    assert kept() == 0
    del first
    assert kept() == 4 * LARGE_PAGE
    assert new((SIZE - 7,), torch.empty(0, dtype=torch.int8)).data_ptr() == place


@pytest.mark.parametrize(
    "keep",
    [
        lambda x: x[5:].view(2, -1),
        lambda x: x.numpy()[10:],
        lambda x: x.detach().untyped_storage(),
        lambda x: (x.requires_grad_() * 2).grad_fn,
        lambda x: memoryview(x.numpy()),
    ],
    ids=["view", "array", "storage", "graph", "buffer"],
)
def test_a_block_in_use_is_not_handed_out(keep):
    held = keep(new((SIZE // 4 // 2 * 2 + 1,), torch.empty(0)))
    assert kept() == 0
    others = [take(SIZE) for _ in range(3)]
    assert kept() == 0
    del held, others
    gc.collect()
    assert kept() == 4 * 4 * LARGE_PAGE


def test_results_of_a_scan_outlive_later_scans():
    a = torch.full((2, 4096, 256), 0.5)
    inputs = [torch.full_like(a, value) for value in (1.0, 2.0, 3.0)]
    assert a.nbytes >= POOLED_BYTES
    results = [linear_scan(a, b)[0] for b in inputs]
    linear_scan(a, inputs[0])
    for value, h in zip((1.0, 2.0, 3.0), results, strict=True):
        assert torch.equal(h[:, 0], torch.full((2, 256), value))
        assert h[:, -1].sub(2 * value).abs().max() == 0


def test_blocks_are_aligned_to_cache_lines_and_staggered():
    blocks = [take(LARGE_PAGE) for _ in range(16)]
    places = [block.ctypes.data for block in blocks]
    assert all(place % 64 == 0 for place in places)
    assert len({place % 4096 for place in places}) == 16
    assert all(block.size == LARGE_PAGE for block in blocks)
    for number, block in enumerate(blocks):  # a write to the last byte of each stays inside it
        block[:] = number
    assert [int(block.min()) for block in blocks] == list(range(16)) == [int(block.max()) for block in blocks]


def test_what_lies_unused_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "KEEP_BYTES", 10 * LARGE_PAGE)
    blocks = [take(3 * LARGE_PAGE) for _ in range(6)]
    for _ in range(6):
        blocks.pop()
        assert kept() <= 10 * LARGE_PAGE
    assert kept() > 0
    huge = take(11 * LARGE_PAGE)
    del huge
    assert kept() <= 10 * LARGE_PAGE


def test_release_empties_the_pool_and_spares_what_is_used():
    used = take(SIZE)
    used[:] = 7
    for _ in range(3):
        take(SIZE)
    assert kept() > 0
    release()
    assert kept() == 0
    assert used.min() == used.max() == 7


def test_threads_never_share_a_block():
    def work(mark):
        for turn in range(200):
            block = take(LARGE_PAGE)
            block[:: 4096 * 16] = (mark + turn) % 251
            if not (block[:: 4096 * 16] == (mark + turn) % 251).all():
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(0, 800, 100)))


def _overwrite(queue):
    block = take(SIZE)
    block[:] = 9
    queue.put(int(block.sum()) == 9 * SIZE)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_forked_process_writes_to_memory_of_its_own():
    used = take(SIZE)
    used[:] = 1
    freed = take(SIZE)
    freed[:] = 2
    place = freed.ctypes.data
    del freed
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_overwrite, args=(queue,))
    child.start()
    assert queue.get(timeout=60)
    child.join()
    again = take(SIZE)
    assert again.ctypes.data == place
    assert np.all(again == 2)
    assert np.all(used == 1)


def test_a_block_is_lent_once_at_a_time():
    """One block comes back and two are wanted: the second is another, and neither sees the other's bytes."""
    take(SIZE)
    assert kept() == 4 * LARGE_PAGE
    first = take(SIZE)
    assert kept() == 0
    first[:] = 1
    second = take(SIZE)
    second[:] = 2
    assert (int(first.min()), int(first.max())) == (1, 1)
    ends = sorted((block.ctypes.data, block.ctypes.data + SIZE) for block in (first, second))
    assert ends[0][1] <= ends[1][0]
    del first, second
    assert kept() == 2 * 4 * LARGE_PAGE
    blocks = [take(SIZE) for _ in range(4)]
    places = [block.ctypes.data for block in blocks]
    assert len(set(places)) == 4
    assert kept() == 0


def test_what_would_pass_the_bound_is_given_back_before_it_does(monkeypatch):
    monkeypatch.setattr(memory, "KEEP_BYTES", 10 * LARGE_PAGE)
    small, large = take(4 * LARGE_PAGE), take(7 * LARGE_PAGE)
    del small
    assert kept() == 4 * LARGE_PAGE
    del large
    assert kept() == 7 * LARGE_PAGE


@pytest.mark.parametrize("pages", [1, 3])
def test_a_block_of_whole_pages_is_no_larger_than_asked_for(pages):
    take(pages * LARGE_PAGE)
    assert kept() == pages * LARGE_PAGE


def test_every_stagger_has_room_for_the_whole_block():
    """Wherever the system puts it: the start of a large page may be all but one small page away."""
    blocks = [memory._map(LARGE_PAGE) for _ in range(17)]
    assert all(block.start + block.size <= len(block.memory) for block in blocks)
    furthest = LARGE_PAGE - mmap.PAGESIZE + 15 * 4160
    assert all(furthest + block.size <= len(block.memory) for block in blocks)
    page_of = [np.frombuffer(block.memory, np.uint8).ctypes.data + block.start for block in blocks]
    assert len({place % LARGE_PAGE for place in page_of}) == 16
    assert max(place % LARGE_PAGE for place in page_of) == 15 * 4160

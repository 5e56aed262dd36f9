"""Proofs about indices, and when they have to be made again."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd.graph import increment_version

from eventbook.kernels.machinery.indices import Proof, check_index, check_places, check_vectors


@given(st.lists(st.integers(-3, 12), max_size=6), st.integers(0, 10))
def test_index_is_judged_as_by_sorting(numbers, potential):
    good = numbers == sorted(set(numbers)) and all(0 <= k < potential for k in numbers)
    for index in (np.array(numbers, np.int64), torch.tensor(numbers, dtype=torch.int64)):
        if good:
            check_index(index, potential)
        else:
            with pytest.raises(ValueError, match=r"index must (ascend|be in)"):
                check_index(index, potential)


@pytest.mark.parametrize(
    "index, message",
    [
        ([0, 3, 3], "index must ascend, got 3 after 3 at position 2"),
        ([0, 5, 3], "index must ascend, got 3 after 5 at position 2"),
        ([-1, 3], r"index must be in 0\.\.9, got -1 at position 0"),
        ([0, 10], r"index must be in 0\.\.9, got 10 at position 1"),
        ([0.0, 1.0], r"index must be a vector of int64, got shape \(2,\) of float64"),
        ([[0], [1]], r"index must be a vector of int64, got shape \(2, 1\) of int64"),
    ],
)
def test_messages(index, message):
    with pytest.raises(ValueError, match=message):
        check_index(np.array(index), 10)


def test_the_last_index_and_the_largest():
    check_index(np.array([0, 9]), 10)
    check_index(np.array([2**63 - 2]))
    with pytest.raises(ValueError, match="must be in"):
        check_index(np.array([2**63 - 1]))


def test_meta_and_places_and_vectors():
    with pytest.raises(ValueError, match="index must be on the CPU, where the kernels run, got meta"):
        check_index(torch.zeros(3, dtype=torch.int64, device="meta"), 10)
    check_places(np.array([4, 0, 4]), 5, "chosen")
    for place in (5, -1):
        with pytest.raises(ValueError, match=rf"chosen must be in 0\.\.4, got {place} at position 1"):
            check_places(np.array([4, place]), 5, "chosen")
    check_vectors(theta=np.ones(3), index=torch.ones(3))
    with pytest.raises(
        ValueError, match=r"index must have one entry per entry of theta, 3, got shape \(4,\)"
    ):
        check_vectors(theta=np.ones(3), index=np.ones(4))
    with pytest.raises(ValueError, match=r"theta must be a vector, got shape \(3, 1\)"):
        check_vectors(theta=np.ones((3, 1)))


def proved(tensor, bound=10):
    proof = Proof()
    proof.remember(bound, tensor)
    return proof


def grown(tensor):
    tensor.resize_(9)


def moved(tensor):
    tensor.data = tensor.data.clone()


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.add_(0),
        lambda t: t[1:].zero_(),  # through a view
        lambda t: t.detach().zero_(),
        increment_version,
        grown,
        moved,
    ],
)
def test_a_change_ends_a_proof(change):
    index = torch.arange(5)
    proof = proved(index)
    assert proof.stands(10, index)
    change(index)
    assert not proof.stands(10, index)
    proof.remember(10, index)
    assert proof.stands(10, index)


def test_another_tensor_or_bound_is_not_proved():
    index = torch.arange(5)
    proof = proved(index)
    assert not proof.stands(10, index.clone())
    assert not proof.stands(10, index.detach())
    assert not proof.stands(11, index)
    assert not Proof().stands(10, index)


def test_copies_remember_nothing():
    index = torch.arange(5)
    proof = proved(index)
    for twin in (copy.deepcopy(proof), copy.copy(proof), pickle.loads(pickle.dumps(proof))):
        assert not twin.stands(10, index)


def test_a_tensor_whose_changes_nobody_counts_is_never_proved():
    with torch.inference_mode():
        index = torch.arange(5)
    proof = proved(torch.arange(5))
    proof.remember(10, index)
    assert proof.changes == -1
    assert not proof.stands(10, index)


def test_a_proof_knows_how_many_changes_there_were():
    index = torch.arange(5)
    index.add_(1).add_(1)
    assert proved(index).changes == index._version == 2

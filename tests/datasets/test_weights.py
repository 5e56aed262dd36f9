"""Weights of the project are read by name, checked; other names and changed files are refused."""

import hashlib

import pytest

from eventbook.datasets import DataError, load_weights, weight_sets

NAME = "state_of_the_union_egru"


@pytest.fixture
def weights(project):
    """A project whose manifest has a set of weights beside one of numbers."""
    content = b"sixteen bytes ok"
    entry = project.entry() | {"kind": "vendored", "root": "models"}
    file = {"path": "net.safetensors", "bytes": 16, "sha256": hashlib.sha256(content).hexdigest()}
    project.write_manifest(
        {"version": 1, "datasets": {"numbers": project.entry("http://a/b"), NAME: entry | {"files": [file]}}}
    )
    path = project.root / "data" / "models" / "net.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_weights_are_read_by_name(weights):
    assert NAME in weight_sets()
    assert load_weights(NAME) == weights.read_bytes()


def test_other_names_and_changed_files_are_refused(weights):
    for name in ("numbers", "nets"):
        with pytest.raises(DataError, match=f"name: expected one of {NAME}, .*got '{name}'"):
            load_weights(name)
    weights.write_bytes(b"sixteen bytes no")
    with pytest.raises(DataError, match=r"net\.safetensors: expected sha256 .* the file is not used"):
        load_weights(NAME)
    weights.unlink()
    with pytest.raises(DataError, match=NAME):
        load_weights(NAME)

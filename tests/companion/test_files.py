"""Files are the old ones or the new ones, never half of either."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbook.companion.errors import UserError
from eventbook.companion.files import read_json, sha256, write_atomically, write_json


def test_the_same_content_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    assert write_atomically(path, "text")
    os.utime(path, (1, 1))
    assert not write_atomically(path, "text")
    assert path.stat().st_mtime == 1
    assert write_atomically(path, "other")
    assert path.stat().st_mtime != 1


def test_a_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def replace(source: str, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(UserError, match=f"cannot write {path}: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/inside"):
        write_atomically(tmp_path / "file" / "inside", "text")


def test_json_is_read_back_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"é": [1, 0.5, None]})
    assert read_json(path) == {"é": [1, 0.5, None]}
    path.write_text('{"a": ')
    with pytest.raises(UserError, match=r"a\.json: expected JSON"):
        read_json(path)
    with pytest.raises(UserError, match=r"expected a file .*b\.json, found none"):
        read_json(tmp_path / "b.json")


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_digests_tell_where_parts_end(left: list[bytes], right: list[bytes]) -> None:
    assert (sha256(left) == sha256(right)) == (left == right)

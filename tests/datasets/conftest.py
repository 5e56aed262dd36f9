"""A small project with a manifest of its own, and a local server that behaves and misbehaves on demand."""

import gzip
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml

from eventbook.datasets.storage import manifest
from eventbook.datasets.storage.idx import encode_idx


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests read the data of this repository, whatever the person who runs them has set, and cache apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVENTBOOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("EVENTBOOK_DATA", raising=False)
        patch.setenv("EVENTBOOK_ROOT", str(Path(__file__).resolve().parents[2]))
        yield


@dataclass
class SmallProject:
    """A project root with one fetched data set, ``numbers``, of one packed idx file."""

    root: Path
    raw: bytes
    packed: bytes
    path: str = "Numbers/raw/numbers-idx2-ubyte.gz"

    @property
    def target(self) -> Path:
        return self.root / "data" / "originals" / self.path

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    def entry(self, *urls: str) -> dict:
        return {
            "title": "Numbers",
            "description": "Random bytes in the idx format.",
            "kind": "fetched",
            "files": [
                {
                    "path": self.path,
                    "raw_bytes": len(self.raw),
                    "raw_sha256": hashlib.sha256(self.raw).hexdigest(),
                    "urls": list(urls),
                }
            ],
            "licence": {"spdx": "CC0-1.0", "note": "Made by the tests."},
            "provenance": "numpy.random",
            "citation": "none",
            "homepage": "none",
            "used_by": [],
        }

    def write(self, *urls: str) -> None:
        self.write_manifest({"version": 1, "datasets": {"numbers": self.entry(*urls)}})

    def write_vendored(self, address: str, *urls: str) -> None:
        """The set as one that lies in the project's ``data/set/``, which others find at `address`."""
        entry = self.entry(*urls) | {"kind": "vendored", "root": "set"}
        self.write_manifest({"version": 1, "vendored_at": address, "datasets": {"numbers": entry}})

    def write_manifest(self, content: object) -> None:
        (self.root / "data").mkdir(exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        (self.root / "data" / "manifest.yml").write_text(text)


@pytest.fixture
def project(tmp_path, monkeypatch) -> SmallProject:
    raw = encode_idx(np.random.default_rng(0).integers(0, 256, (1000, 700), np.uint8))
    small = SmallProject(tmp_path / "project", raw, gzip.compress(raw, mtime=0))
    small.root.mkdir()
    small.write("http://127.0.0.1:9/nowhere")
    monkeypatch.setenv("EVENTBOOK_ROOT", str(small.root))
    return small


@pytest.fixture
def outside(project, monkeypatch, tmp_path) -> Path:
    """No checkout around, as for an installed package; returns the person's data folder."""
    folder = tmp_path / "share"
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.delenv("EVENTBOOK_ROOT")
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    monkeypatch.setattr(manifest, "SOURCE_TREE", empty)
    monkeypatch.setattr(manifest, "PACKAGED", project.root / "data" / "manifest.yml")
    return folder / "eventbook"


@dataclass
class Server:
    """What the server sends, how, and what it was asked."""

    content: bytes = b""
    ranges: bool = True  # honour the Range header
    drop_after: int | None = None  # close the connection after this many bytes of a body
    status: int | None = None  # answer with this error instead
    shift: int = 0  # serve a range that begins elsewhere than asked
    asked: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            state.paths.append(self.path)
            if state.status is not None:
                self.send_error(state.status)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            start += state.shift if start else 0
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(state.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(state.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.drop_after])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http_server.server_address[1]}/numbers.gz"
        yield state
        http_server.shutdown()
        thread.join()

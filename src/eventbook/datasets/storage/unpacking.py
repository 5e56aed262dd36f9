"""Unpacked copies of the ``.gz`` files, for readers that want them so.

``torchvision.datasets.MNIST("data/mnist", download=False)`` looks for ``MNIST/raw/train-images-idx3-ubyte``
and not for the ``.gz`` beside it. `unpack` writes those files; version control ignores them.

Source: derived.
"""

from pathlib import Path

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.manifest import checkout, read_manifest
from eventbook.datasets.storage.store import originals_folder, read_dataset


def unpack(name: str) -> list[Path]:
    """Write the raw files of a data set where its standard loader looks for them.

    Parameters
    ----------
    name : str
        Key in the manifest. In a checkout a vendored set is unpacked under ``data/<root>``; all others where
        `fetch` brings them. The content is checked and may come from any place `read_dataset` knows.

    Returns
    -------
    list of Path
        The unpacked files.

    Raises
    ------
    DataError
        If the set has nothing packed, its files are missing or corrupt, or the place cannot be written to.
    """
    root = checkout()
    dataset = read_manifest(root)[name]
    packed = [file for file in dataset.files if file.gzipped]
    if not packed:
        raise DataError(f"{name}: has no .gz file to unpack")
    if root is not None and dataset.root is not None:
        base = root / "data" / dataset.root
    else:
        base = originals_folder(root)
    contents, _ = read_dataset(name, [file.path for file in packed])
    targets = [base / file.raw_path for file in packed]
    for target, content in zip(targets, contents, strict=True):
        _write(target, content)
    return targets


def _write(target: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it."""
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror}") from error

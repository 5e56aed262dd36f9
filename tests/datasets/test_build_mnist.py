"""The script that made the vendored files: the same bytes again, and no file from another archive."""

import gzip
import importlib.util
import io
import tarfile
import zlib

import pytest

from eventbook.datasets import DataError
from eventbook.datasets.storage.manifest import checkout


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("build_mnist", checkout() / "data" / "build_mnist.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif("ng" in zlib.ZLIB_RUNTIME_VERSION, reason="zlib-ng packs into other bytes")
@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_packing_reproduces_the_vendored_bytes(script, name):
    stored = (checkout() / "data" / "mnist" / "MNIST" / "raw" / name).read_bytes()
    assert script.pack(gzip.decompress(stored)) == stored


def test_header_holds_neither_time_nor_name(script):
    assert script.pack(b"x")[:10] == bytes.fromhex("1f8b 08 00 00000000 02 ff".replace(" ", ""))


def test_another_archive_is_refused(script, tmp_path):
    archive = tmp_path / "other.tgz"
    with tarfile.open(archive, "w:gz") as package:
        member = tarfile.TarInfo("package/data/train-images-idx3-ubyte")
        member.size = 3
        package.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz \(raw\): expected sha256 ba891046"):
        script.build(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()

"""Make ``data/cad_parts/kicad_parts.npz`` from the Debian package kicad-packages3d 6.0.10-1.

    apt-get download kicad-packages3d          # 379 MB
    python data/build_cad_parts.py kicad-packages3d_6.0.10-1_all.deb kicad_parts.npz

A shape is the union of the IndexedFaceSets of one ``.wrl``: polygons cut into triangles, triangles drawn in
proportion to their area, a point drawn uniformly in each. Points are centred and scaled by the box of the
vertices, so that its longest side is [-1, 1], and stored as round(127 x).

Left out, in this order: what the package's copyright file puts under the GPL, and what says so itself; files
over 2.5 MB; scenes with transforms or lines, which are no plain union (a few); all but 100 of a folder
and 60 of a class; a mesh that is there already under another name; classes of fewer than 20. Which are kept
is drawn by the hash of the name, and the points by the hash of the mesh: nothing depends on the order of
files or on who runs this, and the same mesh always gives the same points.

=========  ========================================================  ================
array      meaning                                                   shape and type
=========  ========================================================  ================
points     127 steps to the wall of the unit box                     (N, 512, 3) int8
label      number of the class                                       (N,) uint8
classes    its name: the folder, some folders together               (C,) str
family     folder and name of the file, each number replaced by #    (N,) str
name       folder and name of the file                               (N,) str
=========  ========================================================  ================
"""

import argparse
import fnmatch
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.manifest import read_manifest

SHAPES = Path("usr/share/kicad/3dmodels")
COPYRIGHT = Path("usr/share/doc/kicad-packages3d/copyright")
POINTS = 512
MOST_BYTES = 2_500_000
MOST_OF_FOLDER, MOST_OF_CLASS, LEAST_OF_CLASS = 100, 60, 20
TOGETHER = {  # folders that differ in a pitch or a series
    "Connector_Phoenix": "Phoenix",
    "Connector_PinHeader": "PinHeader",
    "Connector_PinSocket": "PinSocket",
}
NUMBER = re.compile(r"\d+(?:\.\d+)?")
FACES = re.compile(r"\bcoordIndex\s*\[([^\]]*)\]")
VERTICES = re.compile(r"\bpoint\s*\[([^\]]*)\]")


def licences(copyright_file: str) -> list[tuple[list[str], str]]:
    """Patterns and licence of each paragraph ``Files:``; of those that match a file, the last counts."""
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", copyright_file):
        files = re.search(r"^Files:(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE)
        if files:
            licence = re.search(r"^License:[ \t]*(\S+)", paragraph, re.MULTILINE)
            if licence is None:
                raise DataError(
                    f"copyright file: expected a License after Files: {files.group(1).split()[0]}"
                )
            found.append((files.group(1).split(), licence.group(1)))
    if not found:
        raise DataError("copyright file: expected paragraphs that begin with Files:, found none")
    return found


def licence_of(path: str, paragraphs: list[tuple[list[str], str]]) -> str:
    """The licence of ``Folder.3dshapes/Name.wrl``."""
    for patterns, licence in reversed(paragraphs):
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
            return licence
    raise DataError(f"copyright file: no paragraph matches {path}")


def triangles(text: str, name: str) -> NDArray[np.float64]:
    """Triangles (triangle, corner, axis) of all IndexedFaceSets of a VRML file."""
    found = []
    for block in re.sub(r"#.*", "", text).split("IndexedFaceSet")[1:]:
        faces, vertices = FACES.search(block), VERTICES.search(block)
        if faces is None or vertices is None:
            raise DataError(f"{name}: expected coordIndex and point in every IndexedFaceSet")
        corners = np.array(vertices.group(1).replace(",", " ").split(), float).reshape(-1, 3)
        index = np.array(faces.group(1).replace(",", " ").split(), int)
        chosen = fans(index)
        if chosen.size and (chosen.max() >= len(corners) or chosen.min() < 0):
            raise DataError(f"{name}: expected indices below {len(corners)}, got {chosen.max()}")
        found.append(corners[chosen])
    if not found:
        raise DataError(f"{name}: expected an IndexedFaceSet, found none")
    return np.concatenate(found)


def fans(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Polygons, each ended by -1, as triangles from their first corner: (triangle, corner)."""
    polygons = np.split(index, np.flatnonzero(index == -1) + 1)
    fan = [(p[0], p[k], p[k + 1]) for p in (q[q != -1] for q in polygons) for k in range(1, len(p) - 1)]
    return np.array(fan, int).reshape(-1, 3)


def sample(mesh: NDArray[np.float64]) -> NDArray[np.int8]:
    """`POINTS` points on the surface, in the unit box; drawn by the hash of the mesh."""
    random = np.random.default_rng(int(digest(mesh), 16))
    first, second, third = mesh[:, 0], mesh[:, 1], mesh[:, 2]
    area = np.linalg.norm(np.cross(second - first, third - first), axis=1)
    if not area.sum() > 0:
        raise DataError("expected a surface, got one of no area")
    at = random.choice(len(mesh), POINTS, p=area / area.sum())
    u, v = random.random((2, POINTS, 1))
    outside = u + v > 1  # the other half of the parallelogram
    u, v = np.where(outside, 1 - u, u), np.where(outside, 1 - v, v)
    points = first[at] + u * (second - first)[at] + v * (third - first)[at]
    low, high = mesh.min((0, 1)), mesh.max((0, 1))
    return np.rint(127 * (2 * points - low - high) / (high - low).max()).astype(np.int8)


def digest(mesh: NDArray[np.float64]) -> str:
    """Hash of the triangles as they stand in the file."""
    return hashlib.sha256(mesh.astype("<f8").tobytes()).hexdigest()


def class_of(folder: str) -> str:
    """The class of ``Connector_PinHeader_1.00mm``: PinHeader."""
    return next((name for start, name in TOGETHER.items() if folder.startswith(start)), folder)


def candidates(package: Path) -> dict[str, list[Path]]:
    """Files by class, in the order in which they are drawn."""
    paragraphs = licences((package / COPYRIGHT).read_text(encoding="utf-8"))
    found: dict[str, list[Path]] = {}
    left_out: Counter[str] = Counter()
    for folder in sorted((package / SHAPES).iterdir()):
        kept = []
        for path in folder.glob("*.wrl"):
            head = path.read_bytes()[:4_000]
            if licence_of(f"{folder.name}/{path.name}", paragraphs).startswith("GPL"):
                left_out["GPL"] += 1
            elif b"GNU General Public License" in head:
                left_out["GPL by its own words alone"] += 1
            elif path.stat().st_size > MOST_BYTES:
                left_out[f"over {MOST_BYTES} bytes"] += 1
            else:
                kept.append(path)
        kept.sort(key=drawn)
        found.setdefault(class_of(folder.name.removesuffix(".3dshapes")), []).extend(kept[:MOST_OF_FOLDER])
    for why, count in left_out.items():
        print(f"left out, {why}: {count}")
    return {name: sorted(found[name], key=drawn) for name in sorted(found)}


def drawn(path: Path) -> str:
    """A number by lot for each file."""
    return hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).hexdigest()


def shapes(package: Path) -> Iterator[tuple[str, str, NDArray[np.int8]]]:
    """Class, folder and name, and points of each shape."""
    seen: set[str] = set()
    for kind, paths in candidates(package).items():
        kept = []
        for path in paths if len(paths) >= LEAST_OF_CLASS else []:
            text = path.read_text(encoding="utf-8", errors="replace")
            name = f"{path.parent.name.removesuffix('.3dshapes')}/{path.stem}"
            if re.search(r"\b(Transform|IndexedLineSet)\b", text):
                print(f"left out, not a plain union of faces: {name}")
                continue
            mesh = triangles(text, name)
            if digest(mesh) in seen:
                print(f"left out, there already: {name}")
                continue
            seen.add(digest(mesh))
            kept.append((kind, name, sample(mesh)))
            if len(kept) == MOST_OF_CLASS:
                break
        if len(kept) >= LEAST_OF_CLASS:
            yield from kept


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack what is read here of a .deb."""
    command = ["dpkg-deb", "--fsys-tarfile", archive]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as package,
    ):
        for member in package:
            path = Path(member.name)
            if member.isfile() and (path.suffix == ".wrl" or path == COPYRIGHT):
                package.extract(member, folder, filter="data")
    if process.returncode:
        raise DataError(f"{archive}: dpkg-deb cannot unpack it")
    return folder


def build(package: Path) -> bytes:
    """The content of the .npz of an unpacked package."""
    found = sorted(shapes(package), key=lambda shape: shape[:2])
    classes = sorted({kind for kind, _, _ in found})
    if not classes:
        raise DataError(f"{package}: expected classes of at least {LEAST_OF_CLASS} shapes, found none")
    names = [name for _, name, _ in found]
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        points=np.stack([points for _, _, points in found]),
        label=np.array([classes.index(kind) for kind, _, _ in found], np.uint8),
        classes=np.array(classes),
        family=np.array([NUMBER.sub("#", name) for name in names]),
        name=np.array(names),
    )
    print(f"{len(found)} shapes of {len(classes)} classes")
    return packed.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the vendored CAD parts from KiCad's library.")
    parser.add_argument("package", type=Path, help="the .deb, or a folder into which it was unpacked")
    parser.add_argument("target", type=Path, help="the .npz to write")
    arguments = parser.parse_args()
    if arguments.package.is_dir():
        content = build(arguments.package)
    else:
        with tempfile.TemporaryDirectory() as folder:
            content = build(unpacked(arguments.package, Path(folder)))
    part = arguments.target.with_name(arguments.target.name + ".part")
    part.write_bytes(content)
    part.replace(arguments.target)
    found, (file,) = hashlib.sha256(content).hexdigest(), read_manifest()["cad_parts"].files
    print(f"sha256 {found}: {'as' if found == file.sha256 else 'not what'} the manifest pins")


if __name__ == "__main__":
    try:
        main()
    except (DataError, OSError, KeyError, tarfile.TarError) as error:
        sys.exit(f"build_cad_parts: {error}")

"""The script that made the CAD parts: its parser, its licences, its lots, on a small package written here."""

import importlib.util

import numpy as np
import pytest

from eventbook.datasets import DataError
from eventbook.datasets.storage.manifest import checkout

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: a small package

Files: *
Copyright: 2020, somebody
License: CC-BY-SA-4.0-with-exception

Files: Cubes.3dshapes/*
Copyright: 2017, a script
License: GPL-3+
Comment: words that mean nothing
 here

Files: Cubes.3dshapes/Free_*.step
 Cubes.3dshapes/Free_*.wrl
Copyright: 2020, somebody
License: CC-BY-SA-4.0-with-exception

License: GPL-3+
 the text of it
"""

FACE = """\
Shape {{ geometry IndexedFaceSet
{{ creaseAngle 0.50 coordIndex [{faces}]
coord Coordinate {{ point [{points}] }}
}} }}
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "build_cad_parts", checkout() / "data" / "build_cad_parts.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wrl(*sets: tuple[str, str]) -> str:
    head = "#VRML V2.0 utf8\n# a comment with IndexedFaceSet and point [9 9 9]\n"
    return head + "".join(FACE.format(faces=faces, points=points) for faces, points in sets)


def square(width: float, at: float = 0.0) -> str:
    return wrl(("0,1,2,3,-1", f"0 0 {at},{width} 0 {at},{width} 1 {at},0 1 {at}"))


# --- parsing ------------------------------------------------------------------------------------------------


def test_polygons_become_fans_of_triangles(script):
    assert script.fans(np.array([0, 1, 2, -1, 4, 5, 6, 7, -1, 3, 2, 1])).tolist() == [
        [0, 1, 2],
        [4, 5, 6],
        [4, 6, 7],
        [3, 2, 1],  # the last one need not be ended
    ]
    assert script.fans(np.array([0, 1, -1, -1])).shape == (0, 3)  # an edge and nothing


def test_all_sets_of_faces_are_read_with_their_own_points(script):
    text = wrl(("0,1,2,-1", "0 0 0,1 0 0,0 1 0"), ("2 1 0 -1", "5 5 5, 6 5 5, 5 6 5"))
    assert script.triangles(text, "x").tolist() == [
        [[0, 0, 0], [1, 0, 0], [0, 1, 0]],
        [[5, 6, 5], [6, 5, 5], [5, 5, 5]],
    ]


@pytest.mark.parametrize(
    "text, said",
    [
        ("#VRML V2.0 utf8\n", "x: expected an IndexedFaceSet, found none"),
        (
            "IndexedFaceSet { coordIndex [0,1,2,-1] }",
            "x: expected coordIndex and point in every IndexedFaceSet",
        ),
        (wrl(("0,1,3,-1", "0 0 0,1 0 0,0 1 0")), "x: expected indices below 3, got 3"),
    ],
)
def test_another_file_is_refused(script, text, said):
    with pytest.raises(DataError, match=said):
        script.triangles(text, "x")


# --- points -------------------------------------------------------------------------------------------------


def test_points_are_spread_by_area_in_the_unit_box(script):
    """A long square beside a short one of a third of its area, on one plane."""
    mesh = np.concatenate(
        [script.triangles(square(3.0), "x"), script.triangles(square(1.0), "x") + np.array([3.0, 0, 0])]
    )
    points = script.sample(mesh).astype(int)
    assert points.shape == (512, 3)
    assert np.abs(points).max() <= 127
    assert not points[:, 2].any()
    assert np.abs(points[:, 1]).max() <= 32  # a quarter as high as long
    assert np.mean(points[:, 0] < 127 / 2) == pytest.approx(0.75, abs=0.06)
    assert points[:, 0].mean() == pytest.approx(0, abs=8)
    assert np.histogram(points[:, 0], 8, (-127, 127))[0].min() > 40


def test_the_same_mesh_gives_the_same_points_and_another_gives_others(script):
    mesh = script.triangles(square(2.0), "x")
    np.testing.assert_array_equal(script.sample(mesh), script.sample(mesh.copy()))
    assert not np.array_equal(script.sample(mesh), script.sample(mesh[::-1]))


def test_no_surface_is_refused(script):
    with pytest.raises(DataError, match="expected a surface, got one of no area"):
        script.sample(np.zeros((2, 3, 3)))


# --- licences -----------------------------------------------------------------------------------------------


def test_of_the_paragraphs_that_match_the_last_counts(script):
    paragraphs = script.licences(COPYRIGHT)
    assert script.licence_of("Other.3dshapes/A.wrl", paragraphs) == "CC-BY-SA-4.0-with-exception"
    assert script.licence_of("Cubes.3dshapes/Bound_1.wrl", paragraphs) == "GPL-3+"
    assert script.licence_of("Cubes.3dshapes/Free_1.wrl", paragraphs) == "CC-BY-SA-4.0-with-exception"


def test_a_file_without_licences_is_refused(script):
    with pytest.raises(DataError, match="expected paragraphs that begin with Files:, found none"):
        script.licences("Copyright: somebody\n")
    with pytest.raises(DataError, match="expected a License after Files: a"):
        script.licences("Files: a\nCopyright: somebody\n")
    with pytest.raises(DataError, match=r"no paragraph matches b.wrl"):
        script.licence_of("b.wrl", script.licences("Files: a\nLicense: MIT\n"))


# --- a package ----------------------------------------------------------------------------------------------


@pytest.fixture
def package(script, tmp_path):
    def write(name: str, text: str) -> None:
        path = tmp_path / script.SHAPES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    (tmp_path / script.COPYRIGHT).parent.mkdir(parents=True)
    (tmp_path / script.COPYRIGHT).write_text(COPYRIGHT)
    for i in range(25):
        write(f"Cubes.3dshapes/Bound_{i}.wrl", square(10 + i))  # GPL by the copyright file
        write(f"Cubes.3dshapes/Free_{i}x2.5.wrl", square(1 + i))
        write(f"Plates.3dshapes/Plate_{i}.wrl", "# GNU General Public License\n" + square(1 + i))
    for i in range(130):
        write(f"Connector_PinHeader_1.00mm.3dshapes/Pin_{i}.wrl", square(1 + i, 1))
        write(f"Connector_PinHeader_2.54mm.3dshapes/Pin_{i}.wrl", square(1 + i, 2))
    for i in range(19):
        write(f"Rare.3dshapes/Rare_{i}.wrl", square(1 + i, 3))
    for i in range(21):
        write(f"Doubled.3dshapes/Once_{i}.wrl", square(1 + i, 4))
        write(f"Doubled.3dshapes/Twice_{i}.wrl", square(1 + i, 4))
    write("Doubled.3dshapes/Moved.wrl", "Transform { }" + square(100, 4))
    write("Doubled.3dshapes/Large.wrl", square(101, 4) + "#" * script.MOST_BYTES)
    return tmp_path


def test_what_is_kept_and_what_is_left_out(script, package, tmp_path, capsys):
    (tmp_path / "made.npz").write_bytes(script.build(package))
    made = np.load(tmp_path / "made.npz")
    counts = dict(zip(made["classes"].tolist(), np.bincount(made["label"]).tolist(), strict=True))
    assert counts == {"Cubes": 25, "Doubled": 21, "PinHeader": 60}
    names = made["name"].tolist()
    assert not any("Bound" in name or "Plate" in name or "Moved" in name or "Large" in name for name in names)
    assert sorted({family for family in made["family"].tolist() if "Cubes" in family}) == ["Cubes/Free_#x#"]
    assert {name.split("/")[0] for name in names if "Pin" in name} == {
        "Connector_PinHeader_1.00mm",
        "Connector_PinHeader_2.54mm",
    }
    assert made["points"].dtype == np.int8
    assert made["points"].shape == (106, 512, 3)
    said = capsys.readouterr().out
    assert "left out, GPL: 25\n" in said
    assert "left out, GPL by its own words alone: 25\n" in said
    assert "left out, over 2500000 bytes: 1\n" in said
    assert "left out, not a plain union of faces: Doubled/Moved\n" in said
    assert said.count("there already") == 21


def test_the_content_depends_on_the_package_alone(script, package):
    assert script.build(package) == script.build(package)


def test_a_package_of_nothing_is_refused(script, package):
    for path in (package / script.SHAPES).glob("*/*.wrl"):
        path.unlink()
    with pytest.raises(DataError, match="expected classes of at least 20 shapes, found none"):
        script.build(package)


# --- what is vendored ---------------------------------------------------------------------------------------


def test_the_vendored_file_holds_what_the_script_says(script):
    stored = np.load(checkout() / "data" / "cad_parts" / "kicad_parts.npz")
    names, families = stored["name"].tolist(), stored["family"].tolist()
    assert len(set(names)) == len(names) == 1_984
    assert [script.NUMBER.sub("#", name) for name in names] == families
    kinds = [script.class_of(name.split("/")[0]) for name in names]
    assert [stored["classes"].tolist()[label] for label in stored["label"]] == kinds
    counts = np.bincount(stored["label"])
    assert counts.min() >= script.LEAST_OF_CLASS
    assert counts.max() == script.MOST_OF_CLASS
    assert not [name for name in names if name.startswith(("Diode_SMD", "Package_DirectFET"))]

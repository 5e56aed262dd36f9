"""The committed notebooks: pairs agree, outputs are those of the present code and fit to be shown.

Every check has a control that shows what it would find.
"""

from __future__ import annotations

import ast
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import opens_and_saves
from numpy._core import _multiarray_umath as multiarray

from eventbook.companion.checks import chapter_findings, findings
from eventbook.companion.execution.jobs import Job, plan
from eventbook.companion.files import read_json
from eventbook.companion.ledger.claims import collect_values, values_of
from eventbook.companion.ledger.ledger import read_ledger
from eventbook.companion.notebooks.pairs import parameters_of, read_notebook, read_source, tags, write_pair
from eventbook.companion.project import Chapter, Project
from eventbook.companion.variants.forks import create_fork

ROOT = Path(__file__).parents[2]
PROJECT = Project(ROOT, ROOT / "_build")
CHAPTERS = PROJECT.chapters()
JOBS = [(chapter, job) for chapter in CHAPTERS for job in plan(chapter)]

of_each_chapter = pytest.mark.parametrize("chapter", [pytest.param(c, id=c.slug) for c in CHAPTERS])
of_each_pair = pytest.mark.parametrize(
    "chapter, job", [pytest.param(c, job, id=f"{c.slug}-{job.notebook}") for c, job in JOBS]
)


def test_there_are_pairs() -> None:
    assert len(JOBS) >= 2 * len(CHAPTERS) > 0


@of_each_pair
def test_pair_agrees_and_its_outputs_are_those_of_the_present_code(chapter: Chapter, job: Job) -> None:
    assert list(chapter_findings(chapter, [job], [])) == []


def test_nothing_else_is_wrong_with_the_committed_state() -> None:
    assert list(findings(PROJECT)) == []


# --- what outputs may hold ---------------------------------------------------------------------------------

FORBIDDEN = {
    "machine path": re.compile(
        r"(?<![\w.:/~}$-])/(?:home|root|Users|work|mnt|tmp|var|usr|opt)/\w|[A-Z]:\\Users\\|ipykernel_\d"
    ),
    "time of day": re.compile(r"(?<![\d:.])(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?![\d:])"),
    "date": re.compile(r"\b20\d\d-[01]\d-[0-3]\d\b"),
    "warning": re.compile(r"\w*Warning\b"),
    "error": re.compile(r"Traceback \(most recent call last\)|\b[A-Z]\w*Error\b"),
}


def texts_of(output: dict[str, Any]) -> Iterator[str]:
    """What a reader sees of an output, images aside."""
    if output["output_type"] == "stream":
        yield output["text"]
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            yield "".join(content)
        elif not kind.startswith("image/"):
            yield json.dumps(content)


def unfit(output: dict[str, Any]) -> list[str]:
    """Why an output must not be shown; empty if it may."""
    found = []
    if output["output_type"] == "error":
        found.append(f"error {output['ename']}")
    if output.get("name") == "stderr":
        found.append("stderr")
    for text in texts_of(output):
        found += [f"{what} {m.group()!r}" for what, shape in FORBIDDEN.items() if (m := shape.search(text))]
    return found


@of_each_pair
def test_outputs_are_fit_to_be_shown(chapter: Chapter, job: Job) -> None:
    cells = read_notebook(chapter.pair(job.notebook)).cells
    assert any(cell.get("outputs") for cell in cells)
    found = [
        f"cell {number}: {reason}"
        for number, cell in enumerate(cells, start=1)
        for output in cell.get("outputs", [])
        for reason in unfit(output)
    ]
    assert found == []


def printed(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


@pytest.mark.parametrize(
    "output, reason",
    [
        (printed("saved to /home/me/x.png"), "machine path '/home/m'"),
        (printed("see 'C:\\Users\\me'"), "machine path 'C:\\\\Users\\\\'"),
        (printed("done at 14:03"), "time of day '14:03'"),
        (printed("14:03:59 done"), "time of day '14:03:59'"),
        (printed("on 2026-01-31"), "date '2026-01-31'"),
        (printed("x.py:3: UserWarning: careful"), "warning 'UserWarning'"),
        (printed("epoch 3", "stderr"), "stderr"),
        ({"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}, "error ValueError"),
        ({"output_type": "display_data", "data": {"text/html": "<b>KeyError</b>"}}, "error 'KeyError'"),
    ],
)
def test_unfit_outputs_are_found(output: dict[str, Any], reason: str) -> None:
    assert reason in unfit(output)


@pytest.mark.parametrize("text", ["0.5 : 1", "ratio 3:1", "784-300-100-10", "1.5:10.25", "2026 connections"])
def test_fit_outputs_are_let_through(text: str) -> None:
    assert unfit(printed(text)) == []


# --- figures -----------------------------------------------------------------------------------------------


def shows_image(cell: dict[str, Any]) -> bool:
    return any(
        kind.startswith("image/") for output in cell.get("outputs", []) for kind in output.get("data", {})
    )


def undescribed(cells: list[Any]) -> list[str]:
    """Figures without a name, a caption or a text for those who do not see them."""
    found = []
    for number, cell in enumerate(cells, start=1):
        if not shows_image(cell):
            continue
        own = cell["metadata"].get("mystnb", {})
        figure, image = own.get("figure", {}), own.get("image", {})
        given = {"name": figure.get("name"), "caption": figure.get("caption"), "alt": image.get("alt")}
        found += [f"cell {number}: no {what}" for what, text in given.items() if not (text or "").strip()]
    return found


@of_each_pair
def test_every_figure_is_described(chapter: Chapter, job: Job) -> None:
    assert undescribed(read_notebook(chapter.pair(job.notebook)).cells) == []


def test_a_figure_without_description_is_found() -> None:
    output = {"output_type": "display_data", "data": {"image/png": ""}}
    described = {"figure": {"name": "fig-a", "caption": "A."}, "image": {"alt": "a"}}
    assert undescribed([{"outputs": [output], "metadata": {"mystnb": described}}]) == []
    assert undescribed([{"outputs": [output], "metadata": {"mystnb": {**described, "image": {"alt": " "}}}}])
    assert len(undescribed([{"outputs": [output], "metadata": {}}])) == 3


def test_figures_have_names_of_their_own() -> None:
    names = [
        cell.metadata.mystnb.figure.name
        for chapter, job in JOBS
        for cell in read_notebook(chapter.pair(job.notebook)).cells
        if shows_image(cell)
    ]
    assert names
    assert len(names) == len(set(names))


# --- recorded values and their citations -------------------------------------------------------------------

CITED = re.compile(r"\{glue:[a-z]+\}`([a-z]\w*)")


def cited_in(text: str) -> set[str]:
    return set(CITED.findall(text))


def text_of(chapter: Chapter, notebook: str) -> str:
    cells = read_source(chapter.source(notebook)).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@of_each_pair
def test_what_the_text_cites_is_recorded_on_the_same_page(chapter: Chapter, job: Job) -> None:
    recorded = values_of(read_notebook(chapter.pair(job.notebook)), job.notebook)
    assert cited_in(text_of(chapter, job.notebook)) - set(recorded) == set()


def test_pages_without_code_cite_nothing() -> None:
    pages = [*(ROOT / "book").glob("*.md"), *(chapter.folder / "index.md" for chapter in CHAPTERS)]
    assert {page.name: found for page in pages if (found := cited_in(page.read_text(encoding="utf-8")))} == {}


def unused(values: dict[str, Any], claimed: set[str | None], texts: str, code: str) -> list[str]:
    """Recorded keys that nothing refers to: no claim, no citation; for data, no ``"key"`` in the code."""
    return sorted(
        key
        for key, value in values.items()
        if key not in claimed
        and not (f'"{key}"' in code if isinstance(value, list | dict) else key in cited_in(texts))
    )


@of_each_chapter
def test_every_recorded_value_is_used(chapter: Chapter) -> None:
    values = {key: recorded.value for key, recorded in collect_values(chapter).items()}
    path = PROJECT.recorded(chapter.slug)
    full = read_json(path)["values"] if path.is_file() else {}
    values |= {key: entry["value"] for key, entry in full.items()}
    claimed = {claim.key for claim in read_ledger(chapter.ledger_path).claims}
    texts = "\n".join(text_of(chapter, name) for name in chapter.notebooks)
    code = "\n".join(chapter.source(name).read_text(encoding="utf-8") for name in chapter.notebooks)
    assert unused(values, claimed, texts, code) == []


def test_an_unused_value_is_found() -> None:
    values = {"claimed": 1, "cited": 2, "forgotten": 3, "drawn": [1], "kept": [2]}
    texts, code = "It is {glue:text}`cited:.2f`.", 'keep(kept=[2]); plot(full["drawn"])'
    assert unused(values, {"claimed", None}, texts, code) == ["forgotten", "kept"]


ROUNDING = 1e-13


def not_stable(value: Any) -> bool:
    """True for a number that another processor may give with other digits: rounding, or too many digits."""
    if not isinstance(value, float) or not math.isfinite(value) or value == 0:
        return False
    power_of_ten = value == float(f"1e{round(math.log10(abs(value)))}")
    return float(f"{value:.12g}") != value or (abs(value) < ROUNDING and not power_of_ten)


@of_each_chapter
def test_recorded_values_have_the_digits_that_processors_agree_on(chapter: Chapter) -> None:
    values = collect_values(chapter)
    assert [key for key, recorded in values.items() if not_stable(recorded.value)] == []


@pytest.mark.parametrize("value", [9.02e-17, 0.1 + 0.2, -3e-14])
def test_a_value_that_is_rounding_is_found(value: float) -> None:
    assert not_stable(value)
    assert not any(map(not_stable, (0.0, 1e-16, 0.3, 2.5e-11, 3, True, math.nan)))


# --- code --------------------------------------------------------------------------------------------------


@of_each_pair
def test_parameters_are_typed_and_explained(chapter: Chapter, job: Job) -> None:
    source = read_source(chapter.source(job.notebook))
    assert [tags(cell) for cell in source.cells].count(["parameters"]) == 1
    declared = parameters_of(source, job.notebook)  # refuses what is not typed, literal and commented
    assert declared
    assert all(parameter.type and parameter.comment for parameter in declared.values())


@of_each_chapter
def test_the_full_profile_overrides_parameters_that_exist(chapter: Chapter) -> None:
    assert any(job.parameters for job in plan(chapter, "full"))


def unsteady_least_squares(code: str) -> list[int]:
    """Lines that leave the driver of torch.linalg.lstsq to chance.

    The driver that torch takes by itself, gelsy, rounds by where in memory MKL finds its work space: on one
    processor, under MKL_CBWR, a few runs in a hundred end with another last digit. gels and gelsd do not.
    """
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if ast.unparse(call.func).endswith("torch.linalg.lstsq")
        and {k.arg: ast.unparse(k.value) for k in call.keywords}.get("driver") not in {"'gels'", "'gelsd'"}
    ]


SOURCES = sorted([*(ROOT / "notebooks").glob("*/*.py"), *(ROOT / "src").rglob("*.py")])


def test_least_squares_do_not_depend_on_addresses() -> None:
    found = {str(path): unsteady_least_squares(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_unsteady_least_squares_are_found() -> None:
    code = "lstsq = torch.linalg.lstsq(A, b)\ntorch.linalg.lstsq(A, b, driver='gelsy').solution\n"
    assert unsteady_least_squares(code) == [1, 2]
    assert unsteady_least_squares('torch.linalg.lstsq(A, b, driver="gels")') == []


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_code_of_notebooks_is_clean(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "notebooks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- in JupyterLab -----------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Project:
    """A copy of the notebooks with what a server and a fork need beside them."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for name in ("_config.yml", "_toc.yml", "jupytext.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return Project(tmp_path, tmp_path / "_build")


@of_each_pair
def test_a_pair_opens_and_saves_in_jupyterlab(chapter: Chapter, job: Job, tree: Project) -> None:
    script = tree.chapter(chapter.slug).source(job.notebook)
    opens_and_saves(tree.root, script, "import matplotlib", "import  matplotlib")


@of_each_chapter
def test_a_fork_opens_and_saves_in_jupyterlab(chapter: Chapter, tree: Project) -> None:
    fork = create_fork(tree, chapter.slug, "hot", {})
    for notebook in fork.notebooks:
        write_pair(fork.pair(notebook), read_source(fork.source(notebook)))
        opens_and_saves(tree.root, fork.source(notebook), "import matplotlib", "import  matplotlib")


# --- controls on copies ------------------------------------------------------------------------------------


@pytest.fixture
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Chapter, Job]:
    """A chapter in a folder of its own, with the job that the original has."""
    chapter, job = request.param
    shutil.copytree(chapter.folder, tmp_path / chapter.slug)
    return Chapter(chapter.label, tmp_path / chapter.slug, chapter.slug, PROJECT), job


of_each_copy = pytest.mark.parametrize(
    "copied", [pytest.param(pair, id=f"{pair[0].slug}-{pair[1].notebook}") for pair in JOBS], indirect=True
)


@of_each_copy
def test_an_edited_output_is_found_in_any_cell(copied: tuple[Chapter, Job]) -> None:
    chapter, job = copied
    before = set(chapter_findings(chapter, [job], []))
    path = chapter.pair(job.notebook)
    edited = json.loads(path.read_text(encoding="utf-8"))
    expected = set()
    for number, cell in enumerate(edited["cells"], start=1):
        for output in cell.get("outputs", [])[:1]:
            field = "text" if "text" in output else "data"
            output[field] = ["14"] if field == "text" else {"text/plain": ["14"]}
            expected.add(f"cell {number}: outputs are not those of the execution")
    path.write_text(json.dumps(edited), encoding="utf-8")
    found = set(chapter_findings(chapter, [job], [])) - before
    assert expected and len(found) == len(expected)
    assert all(any(cell in line for line in found) for cell in expected)


@of_each_copy
def test_an_edited_source_is_found(copied: tuple[Chapter, Job]) -> None:
    chapter, job = copied
    before = set(chapter_findings(chapter, [job], []))
    source = chapter.source(job.notebook)
    text = source.read_text(encoding="utf-8")
    source.write_text(
        text.replace("# %% [markdown]\n", "# %%\n1 + 1\n\n# %% [markdown]\n", 1), encoding="utf-8"
    )
    (line,) = set(chapter_findings(chapter, [job], [])) - before
    assert "not the pair of its .py" in line


# --- the whole thing again ---------------------------------------------------------------------------------


def processor_of_2013() -> dict[str, str]:
    """Variables with which the libraries keep to AVX2 and FMA, as if nothing newer were built in."""
    if platform.machine() != "x86_64":
        return {}
    newer = [name for name in multiarray.__cpu_dispatch__ if re.match("AVX512|X86_V4", name)]
    return {
        "NPY_DISABLE_CPU_FEATURES": " ".join(newer),
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
    }


@pytest.mark.slow
def test_another_processor_gives_the_committed_bytes(tmp_path: Path) -> None:
    """One or two minutes: the quick profile of every notebook in a copy of the project."""
    root = tmp_path / "again"
    built = shutil.ignore_patterns(".*", "_build", "_generated", "__pycache__", "forks")
    shutil.copytree(ROOT, root, ignore=built)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBOOK_")}
    done = subprocess.run(
        [sys.executable, "-m", "eventbook.companion", "run", "--force", "--engine", "papermill"],
        cwd=root,
        env={**clean, **processor_of_2013(), "PYTHONPATH": str(root / "src")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pairs = {path.relative_to(ROOT): path for path in (ROOT / "notebooks").glob("*/*.ipynb")}
    assert [
        str(name) for name, path in pairs.items() if (root / name).read_bytes() != path.read_bytes()
    ] == []

"""A notebook pair: ``<name>.py`` is the source, ``<name>.ipynb`` the same cells plus their outputs.

The two are compared by content (cell types, sources, tags, figure metadata), never by file times, which a
clone scrambles. Outputs travel from an executed copy into the pair cell by cell.

Metadata that the ``.ipynb`` carries under ``eventbook``:

=========  ==========================================================================================
profile    profile of the outputs, always ``quick`` in the book's chapters
stamp      sha256 over everything the outputs depend on (see `eventbook.companion.notebooks.stamps`)
cells      sha256 over the cells as they were when the outputs were copied in
outputs    one short sha256 per code cell over its outputs, so that an edited output is noticed and named
=========  ==========================================================================================
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import sha256, write_atomically
from .notebook_format import NotebookNode, jupytext, nbformat
from .parameters import Parameter, read_parameters

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
# what a script keeps of a notebook; without this Jupytext would write its version into every header
PAIRING = {
    "cell_metadata_filter": "tags,mystnb,-all",
    "formats": "ipynb,py:percent",
    "notebook_metadata_filter": "kernelspec,jupytext,-jupytext.text_representation",
}
INJECTED = "injected-parameters"
# where a kernel keeps the text of its cells: warnings name it, and it is another one each time
CELL_FILE = re.compile(r"\S*ipykernel_\d+[/\\]")


def read_source(path: Path) -> NotebookNode:
    """The notebook in a percent script, with cell ids that depend on the content alone.

    Raises
    ------
    UserError
        If the file is missing or not a percent script.
    """
    try:
        notebook = jupytext.read(path, fmt="py:percent")
    except FileNotFoundError:
        raise UserError(f"expected the notebook source {path}, found none") from None
    except Exception as error:
        raise UserError(f"{path}: expected a notebook in percent format ({error})") from error
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
    notebook.metadata = NotebookNode(
        kernelspec=NotebookNode(KERNEL),
        jupytext=NotebookNode(PAIRING),
        language_info=NotebookNode(name="python"),
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def as_saved(path: Path) -> str:
    """The percent script as JupyterLab would write it after opening the pair, in Jupytext's spelling.

    A script that is spelt otherwise, such as with tags before figure metadata, has cells that agree with its
    ``.ipynb`` and a text that does not. JupyterLab refuses such a pair when the ``.ipynb`` is newer, and
    rewrites the script at the first save when it is not.
    """
    source = nbformat.reads(nbformat.writes(read_source(path)), as_version=4)  # keys sorted, as in an .ipynb
    config = jupytext.config.load_jupytext_config(str(path))
    return str(jupytext.writes(source, fmt="py:percent", config=config))


def read_notebook(path: Path) -> NotebookNode:
    """An ``.ipynb``; a damaged file is a `UserError` that names it."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise UserError(f"expected the notebook {path}, found none") from None
    except Exception as error:
        raise UserError(f"{path}: expected a Jupyter notebook, got something else ({error})") from error


def write_notebook(path: Path, notebook: NotebookNode) -> bool:
    """Write an ``.ipynb`` atomically; False if it already held exactly this."""
    return write_atomically(path, nbformat.writes(notebook, version=4, indent=1) + "\n")


def parameters_of(notebook: NotebookNode, where: str) -> dict[str, Parameter]:
    """Parameters of the one cell tagged ``parameters``; empty if there is none.

    Raises
    ------
    UserError
        If several cells carry the tag, or a line of the cell is not a typed literal with a comment.
    """
    tagged = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    if len(tagged) > 1:
        raise UserError(f"{where}: expected one cell tagged 'parameters', found {len(tagged)}")
    return read_parameters(tagged[0].source, where) if tagged else {}


def tags(cell: NotebookNode) -> list[str]:
    return sorted(cell.metadata.get("tags", []))


def signature(cell: NotebookNode) -> tuple[str, str, str, str]:
    """What makes two cells of a pair the same: type, source, tags and figure metadata."""
    figure = json.dumps(cell.metadata.get("mystnb", {}), sort_keys=True)
    return cell.cell_type, cell.source.rstrip(), ",".join(tags(cell)), figure


def cells_digest(notebook: NotebookNode) -> str:
    """sha256 over the cells without their outputs."""
    return sha256("\0".join(signature(cell)) for cell in notebook.cells)


def differences(source: NotebookNode, pair: NotebookNode) -> list[str]:
    """Where the cells of a pair differ, one line each; empty if they agree."""
    found = []
    for number, (left, right) in enumerate(zip(source.cells, pair.cells, strict=False), start=1):
        for what, a, b in zip(
            ("type", "source", "tags", "figure metadata"), signature(left), signature(right), strict=True
        ):
            if a != b:
                found.append(f"cell {number}: {what} differs ({_first_difference(a, b)})")
    if len(source.cells) != len(pair.cells):
        found.append(f"the .py has {len(source.cells)} cells, the .ipynb {len(pair.cells)}")
    return found


def _first_difference(a: str, b: str) -> str:
    for left, right in zip(a.splitlines(), b.splitlines(), strict=False):
        if left != right:
            return f".py has {left[:60]!r}, .ipynb has {right[:60]!r}"
    return f".py has {len(a.splitlines())} lines, .ipynb has {len(b.splitlines())}"


def outputs_digests(notebook: NotebookNode) -> list[str]:
    """One short digest per code cell over its outputs."""
    return [
        hashlib.sha256(json.dumps(cell.outputs, sort_keys=True).encode()).hexdigest()[:16]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def edited_outputs(pair: NotebookNode) -> list[int]:
    """Numbers of the cells (from 1) whose outputs are not those that the execution wrote."""
    recorded = pair.metadata.get("eventbook", {}).get("outputs", [])
    numbers = [i for i, cell in enumerate(pair.cells, start=1) if cell.cell_type == "code"]
    current = outputs_digests(pair)
    if len(recorded) != len(current):
        return numbers
    return [number for number, a, b in zip(numbers, recorded, current, strict=True) if a != b]


def refresh(source: NotebookNode, executed: NotebookNode, stamp: str, profile: str) -> NotebookNode:
    """`source` with the outputs of `executed`, without the injected cell, times or run metadata.

    Text cells are the source's: they may have changed since the execution, code may not.

    Raises
    ------
    UserError
        If the executed code cells are not the source's.
    """
    fresh = copy.deepcopy(source)
    own = [cell for cell in fresh.cells if cell.cell_type == "code"]
    ran = [cell for cell in executed.cells if cell.cell_type == "code" and INJECTED not in tags(cell)]
    if [cell.source.rstrip() for cell in own] != [cell.source.rstrip() for cell in ran]:
        raise UserError("the executed notebook is not this source: the code was edited while it ran")
    for count, (cell, done) in enumerate(zip(own, ran, strict=True), start=1):
        cell.execution_count = count
        cell.outputs = [_stable(output, count) for output in _joined_streams(done.outputs)]
    fresh.metadata.eventbook = NotebookNode(
        profile=profile, stamp=stamp, cells=cells_digest(fresh), outputs=outputs_digests(fresh)
    )
    return fresh


def _joined_streams(outputs: list[Any]) -> list[Any]:
    """Neighbouring pieces of one stream as one output: how a kernel cuts its prints is chance."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if (
            last is not None
            and output.output_type == "stream" == last.output_type
            and output.name == last.name
        ):
            last.text += output.text
        else:
            joined.append(output.copy())
    return joined


def _stable(output: Any, count: int) -> Any:
    if output.output_type == "execute_result":
        output.execution_count = count
    if output.output_type == "stream":
        output.text = CELL_FILE.sub("", output.text)
    return output


def is_current(pair: NotebookNode, source: NotebookNode, stamp: str) -> bool:
    """True if `pair` holds the cells of `source` and unedited outputs with this stamp."""
    own = pair.metadata.get("eventbook", {})
    return own.get("stamp") == stamp and not edited_outputs(pair) and not differences(source, pair)


def refuse_edits(path: Path, source: NotebookNode) -> None:
    """Refuse to go on if the cells of the ``.ipynb`` at `path` were edited there alone.

    Raises
    ------
    UserError
        If the ``.ipynb`` has cells that neither `source` nor the last execution knows.
    """
    if not path.is_file():
        return
    old = read_notebook(path)
    touched = cells_digest(old) != old.metadata.get("eventbook", {}).get("cells")
    if touched and (unequal := differences(source, old)):
        raise UserError(
            f"{path} was edited and differs from its .py ({unequal[0]}); keep the edit with "
            f"'jupytext --to py:percent {path}', or drop it by deleting the .ipynb"
        )


def write_pair(path: Path, fresh: NotebookNode) -> bool:
    """Write `fresh` to the pair's ``.ipynb``, unless cells were edited there alone; see `refuse_edits`."""
    refuse_edits(path, fresh)
    return write_notebook(path, fresh)

"""What chapter notebooks use of the companion: record a value, read recorded full results, the book's look.

    from eventbook.companion.notebook import bound, checkpoint, record, recorded, use_theme

Recorded numbers keep twelve significant digits: what comes after them is the rounding of one processor, and
would make the notebooks of another differ. A number that *is* rounding is recorded as its `bound`.

`listed`, `generator` and `parameters_of` are lines that page after page would write itself.
"""

from __future__ import annotations

import ast
import hashlib
import html
import inspect
import itertools
import json
import math
import os
import textwrap
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from .book.theme import PALETTE, use_theme
from .errors import UserError
from .files import read_json
from .ledger.ledger import GLUE, Claim, Ledger, read_ledger
from .project import Project

if TYPE_CHECKING:
    import torch

__all__ = [
    "PALETTE",
    "bound",
    "checkpoint",
    "generator",
    "keep",
    "listed",
    "parameters_of",
    "record",
    "record_or_recall",
    "recorded",
    "show_body",
    "show_code",
    "use_theme",
]

DIGITS = 12


def record(*, measured: bool = True, **values: Any) -> None:
    """Record measured numbers under their keys and show the claims that they decide.

    Each value is glued, so that the text can cite it (``{glue:text}`key:.2f```) and the ledger can judge
    it. Below the cell stands one line per claim with its condition and verdict; values that decide none
    share a last line.

    Parameters
    ----------
    measured
        False for values that this run did not measure but took from the `recorded` full run. They are shown
        and may be cited, and count for no quick run, fork, sweep or new record.
    **values
        Numbers and truth values by key, of Python, NumPy or torch.

    Raises
    ------
    UserError
        If a value is not one number or truth value.
    """
    from IPython.display import HTML, display

    plain = {key: _stable(_number(key, value)) for key, value in values.items()}
    for key, value in plain.items():
        _glue(key, repr(value), measured)
    ledger = _ledger_here()
    claims = {key: [c for c in ledger.claims if c.key == key] if ledger else [] for key in plain}
    of_full = not measured or os.environ.get("EVENTBOOK_PROFILE") == "full"
    lines = [_judged(key, plain[key], claims[key], of_full=of_full) for key in plain if claims[key]]
    others = [_cited(key, plain[key]) for key in plain if not claims[key]]
    if others:
        lines.append(f'<div class="record">{" ".join(others)}</div>')
    if not measured:
        lines.insert(0, '<span class="claim-note">from the recorded full run</span>')
    display(HTML('<div class="records">' + "".join(lines) + "</div>"))


def bound(value: Any, floor: float = 1e-12) -> float:
    """The smallest power of ten that is not below a number, and not below `floor`.

    For errors of rounding size, whose digits differ from processor to processor: "below 1e-12" is all that
    can be said of 9.0e-17. An error that is none of rounding stays visible.

    Parameters
    ----------
    value
        A number >= 0; NaN stays NaN and infinity infinite, so that no claim holds for them.
    floor
        A power of ten above the rounding errors of the computation.

    Raises
    ------
    UserError
        If the value is no number or negative, or the floor is not positive.

    Examples
    --------
    >>> bound(8.3e-17), bound(2e-5), bound(1e-3)
    (1e-12, 0.0001, 0.001)
    """
    number = _number("bound", value)
    if number < 0 or not floor > 0:
        raise UserError(f"bound: expected a number >= 0 and a floor > 0, got {number} and {floor}")
    if not math.isfinite(number):
        return float(number)
    least = max(number, floor)
    exponent = math.floor(math.log10(least)) - 1  # a logarithm is rounded: begin below, compare exactly
    while (power := float(f"1e{exponent}")) < least:
        exponent += 1
    return power


def _stable(value: Any) -> Any:
    """Floats, also within lists and dicts, with the digits that every processor agrees on."""
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_stable(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _glue(key: str, text: str, measured: bool) -> None:
    """Put a value into the outputs as glue does; whether it was measured stands beside its name."""
    from IPython import get_ipython

    if (shell := get_ipython()) is None:
        return
    note: dict[str, Any] = {"name": key, "mime_prefix": GLUE}
    if not measured:
        note["measured"] = False
    shell.display_pub.publish(data={f"{GLUE}text/plain": text}, metadata={"scrapbook": note})


def _number(key: str, value: Any) -> int | float | bool:
    if hasattr(value, "item"):  # NumPy's and torch's numbers, and arrays of one
        try:
            value = value.item()
        except (ValueError, RuntimeError):
            raise UserError(f"record({key}=...): expected one number, got {type(value).__name__}") from None
    if not isinstance(value, bool | int | float):
        raise UserError(f"record({key}=...): expected a number or a truth value, got {type(value).__name__}")
    return value


def _judged(key: str, value: Any, claims: list[Claim], *, of_full: bool = False) -> str:
    """A value and the claims it decides, as HTML; its id is the key, so that the tables can point here."""
    judged = "".join(
        f'<span class="claim">{_condition(claim)}</span> {_said(claim, value, of_full)}' for claim in claims
    )
    return (
        f'<div class="record" id="{key}"><span class="key">{key}</span> '
        f'<span class="value">{html.escape(claims[0].shown(value))}</span> {judged}</div>'
    )


def _condition(claim: Claim) -> str:
    return f"{claim.id}: {html.escape(claim.condition())}"


def _said(claim: Claim, value: Any, of_full: bool) -> str:
    """The verdict of a claim on a value; a claim about the full run says nothing of a shorter one."""
    if claim.profile == "full" and not of_full:
        return '<span class="claim-note">judged in the full run</span>'
    verdict = claim.verdict(value)
    return f'<span class="verdict verdict-{verdict.css}">{verdict}</span>'


def _cited(key: str, value: Any) -> str:
    """A value that no claim is about: it is there for the text."""
    shown = (
        format(value, ".4g")
        if isinstance(value, float)
        else str(value)
        if isinstance(value, bool)
        else f"{value:,}"
    )
    return f'<span id="{key}"><span class="key">{key}</span> <span class="cited">{shown}</span></span>'


def _ledger_here() -> Ledger | None:
    """The ledger beside the notebook; kernels start in the notebook's folder."""
    path = Path.cwd() / "claims.yml"
    return read_ledger(path) if path.is_file() else None


def keep(**data: Any) -> None:
    """Record plain data (lists, dicts of numbers) for figures that show a recorded full run.

    Raises
    ------
    UserError
        If the data is not plain JSON.
    """
    for key, value in data.items():
        try:
            plain = json.dumps(_stable(value), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(f"keep({key}=...): expected plain JSON data ({error})") from None
        _glue(key, plain, measured=True)


def show_code(*definitions: Any) -> None:
    """Show the source of functions and classes of the package: what a page explains is what runs.

    Compiled functions are shown as they are written, and functions without their decorators.
    """
    _show(map(_source, definitions))


def show_body(*functions: Any) -> None:
    """Show what functions of the package do, each under its name, without signatures and docstrings."""
    _show(map(_body, functions))


def _show(pieces: Iterable[str]) -> None:
    """Pieces of code as one block below the cell."""
    from IPython.display import Markdown, display

    code = "\n\n".join(pieces)
    display(Markdown(f"```python\n{code}\n```"))


def _body(function: Any) -> str:
    lines = _lines(function)
    (node,) = ast.parse("\n".join(lines)).body
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    first = node.body[ast.get_docstring(node) is not None].lineno
    return f"# {node.name}\n" + textwrap.dedent("\n".join(lines[first - 1 :]))


def _lines(definition: Any) -> list[str]:
    return textwrap.dedent(inspect.getsource(_written(definition))).rstrip().splitlines()


def _written(definition: Any) -> Any:
    """What was written where there is something compiled."""
    return getattr(definition, "py_func", definition)


def _source(definition: Any) -> str:
    lines = _lines(definition)
    if inspect.isclass(_written(definition)):
        return "\n".join(lines)
    return "\n".join(itertools.dropwhile(lambda line: not line.startswith(("def ", "async def ")), lines))


def checkpoint(name: str, *, shared: bool = False, **what: Any) -> Path | None:
    """The file in which a long training keeps where it is: an interrupted full run goes on from there.

    Its name holds a hash of what is trained and of the package's sources, without the companion's: a run of
    other parameters or other code has a file of its own.

    Parameters
    ----------
    name
        What people call it.
    shared
        Whether other chapters train the very same under this name: then it is trained once for all of them.
    **what
        Everything that decides about the result: plain values, dataclasses, lists and dicts of them.

    Returns
    -------
    path
        ``_build/checkpoints/<chapter>/<name>-<hash>.pt``, or ``shared`` in place of the chapter; None in any
        profile but full, where training is to be seen.
    """
    if os.environ.get("EVENTBOOK_PROFILE") != "full":
        return None
    project = Project.find()
    companion, package = Path(__file__).parents[:2]  # the companion knows nothing of what is trained
    paths = (path for path in package.rglob("*.py") if not path.is_relative_to(companion))
    sources = [path.read_bytes() for path in sorted(paths)]
    digest = hashlib.sha256(repr(sorted(what.items())).encode() + b"".join(sources)).hexdigest()[:16]
    folder = "shared" if shared else Path.cwd().name
    return project.build / "checkpoints" / folder / f"{name}-{digest}.pt"


def recorded(slug: str) -> dict[str, Any]:
    """Values of the recorded full run of a chapter, by key; empty if none is recorded."""
    path = Project.find().recorded(slug)
    if not path.is_file():
        return {}
    return {key: entry["value"] for key, entry in read_json(path)["values"].items()}


def record_or_recall(full: dict[str, Any], measured: bool, **values: Any) -> None:
    """Record what not every run measures: as this run found it, or else as the recorded full run did.

    Parameters
    ----------
    full
        What `recorded` returned; what it has not is left out.
    measured
        Whether this run did measure the values.
    **values
        The numbers by key, as for `record`.
    """
    if measured:
        record(**values)
    elif there := {key: full[key] for key in values if key in full}:
        record(measured=False, **there)


def listed(runs: Iterable[float], form: str = ".1f") -> str:
    """The mean of some runs and, in brackets, each of them; one run alone, and "none" where there is none.

    Examples
    --------
    >>> listed([1, 2]), listed([0.25], ".0%"), listed([])
    ('1.5 (1.0, 2.0)', '25%', 'none')
    """
    numbers = [float(run) for run in runs]
    each = ", ".join(format(number, form) for number in numbers)
    return f"{fmean(numbers):{form}} ({each})" if len(numbers) > 1 else each or "none"


def generator(seed: int) -> torch.Generator:
    """A stream of random numbers of its own for torch."""
    from torch import Generator  # pages without torch do not wait for it

    return Generator().manual_seed(seed)


def parameters_of(model: torch.nn.Module) -> int:
    """Count of the numbers that a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())

"""What chapter notebooks use of the companion: record a value, read recorded full results, the book's look.

from eventbook.companion.notebook import record, recorded, use_theme
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from .book.theme import PALETTE, use_theme
from .errors import UserError
from .files import read_json
from .ledger.ledger import GLUE, Claim, Ledger, read_ledger
from .project import Project

__all__ = ["PALETTE", "keep", "record", "recorded", "use_theme"]


def record(**values: Any) -> None:
    """Record measured numbers under their keys and show the claims that they decide.

    Each value is glued, so that the text can cite it (``{glue:text}`key:.2f```) and the ledger can judge
    it. Below the cell stands one line per claim with its condition and verdict; values that decide none
    share a last line.

    Raises
    ------
    UserError
        If a value is not one number or truth value.
    """
    from IPython.display import HTML, display
    from myst_nb import glue

    plain = {key: _number(key, value) for key, value in values.items()}
    for key, value in plain.items():
        glue(key, value, display=False)
    ledger = _ledger_here()
    claims = {key: [c for c in ledger.claims if c.key == key] if ledger else [] for key in plain}
    lines = [_judged(key, plain[key], claims[key]) for key in plain if claims[key]]
    others = [_cited(key, plain[key]) for key in plain if not claims[key]]
    if others:
        lines.append(f'<div class="record">{" ".join(others)}</div>')
    display(HTML('<div class="records">' + "".join(lines) + "</div>"))


def _number(key: str, value: Any) -> int | float | bool:
    if hasattr(value, "item"):  # NumPy's and torch's numbers, and arrays of one
        try:
            value = value.item()
        except (ValueError, RuntimeError):
            raise UserError(f"record({key}=...): expected one number, got {type(value).__name__}") from None
    if not isinstance(value, bool | int | float):
        raise UserError(f"record({key}=...): expected a number or a truth value, got {type(value).__name__}")
    return value


def _judged(key: str, value: Any, claims: list[Claim]) -> str:
    """A value and the claims it decides, as HTML; its id is the key, so that the tables can point here."""
    judged = "".join(
        f'<span class="claim">{claim.id}: {html.escape(claim.condition())}</span> '
        f'<span class="verdict verdict-{verdict.css}">{verdict}</span>'
        for claim, verdict in ((claim, claim.verdict(value)) for claim in claims)
    )
    return (
        f'<div class="record" id="{key}"><span class="key">{key}</span> '
        f'<span class="value">{html.escape(claims[0].shown(value))}</span> {judged}</div>'
    )


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
    from IPython import get_ipython

    shell = get_ipython()
    for key, value in data.items():
        try:
            plain = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(f"keep({key}=...): expected plain JSON data ({error})") from None
        if shell is not None:
            shell.display_pub.publish(
                data={f"{GLUE}text/plain": plain},
                metadata={"scrapbook": {"name": key, "mime_prefix": GLUE}},
            )


def recorded(slug: str) -> dict[str, Any]:
    """Values of the recorded full run of a chapter, by key; empty if none is recorded."""
    path = Project.find().recorded(slug)
    if not path.is_file():
        return {}
    return {key: entry["value"] for key, entry in read_json(path)["values"].items()}

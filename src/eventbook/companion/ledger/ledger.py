"""The ledger of a chapter: one row per claim, read from ``claims.yml`` and checked line by line.

A row says what the paper states, which measured value decides it, and which verdict we expect:

===============  ===============================================================================
id               unique in the book, lower case with dashes, e.g. ``dr-posterior``
statement        the claim, in our own words
where            where the paper states it (table, equation, abstract), or ``derived``
kind             exact | numeric | trend | qualitative
paper_value      the paper's number as text, or empty if none is confirmed
source           who vouches for the paper's side: abstract, authors' code, derived, ...
key              the recorded value (`eventbook.companion.notebook.record`) that decides the row
relation         ``==``, ``<``, ``<=``, ``>``, ``>=``, or ``in`` (threshold is then [low, high])
threshold        the number, or pair of numbers, to compare with
scale            what is smaller here than in the paper; empty if nothing is
profile          quick | full | both: where the value is recorded
expected         reproduced | trend reproduced | differs | not attempted
reason           why, for differs and not attempted
measured_within  for differs: where our own value must lie, so that it cannot drift unseen
format           how to print values, e.g. ``.1%``
===============  ===============================================================================
"""

from __future__ import annotations

import math
import operator
import re
import textwrap
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from ..errors import UserError
from ..yaml_lines import lines_of, load_yaml


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _interval(value: Any) -> tuple[float, float] | None:
    """A pair of finite numbers, low < high, as a tuple."""
    if value is None:
        return None
    if not (isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))):
        raise ValueError("expected an interval [low, high] of two finite numbers")
    if not value[0] < value[1]:
        raise ValueError("expected an interval [low, high] with low < high")
    return value[0], value[1]


def _threshold(value: Any) -> Any:
    """A number, a truth value, or a pair."""
    if value is None or isinstance(value, bool) or _is_number(value):
        return value
    if isinstance(value, list | tuple):
        return _interval(value)
    raise ValueError("expected a finite number, true, false, or a pair [low, high]")


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# decided by the validators alone: a union would explain each of its branches, and read "0.5" as 0.5
Threshold = Annotated[Any, BeforeValidator(_threshold)]
Interval = Annotated[Any, BeforeValidator(_interval)]


# the media type under which glue keeps a recorded value
GLUE = "application/papermill.record/"


class Verdict(StrEnum):
    """What a measured value says about a claim."""

    REPRODUCED = "reproduced"
    TREND = "trend reproduced"
    DIFFERS = "differs"
    NOT_ATTEMPTED = "not attempted"

    @property
    def css(self) -> str:
        """The class that colours it on the pages: ``verdict-<css>``."""
        return self.name.lower().replace("_", "-")


RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, interval: bool(interval[0] <= value <= interval[1]),
}


class Claim(BaseModel):
    """One row of the ledger; see the module for the columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")]
    statement: Text
    where: Text
    kind: Literal["exact", "numeric", "trend", "qualitative"]
    paper_value: str = ""
    source: Text
    key: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    relation: Literal["==", "<", "<=", ">", ">=", "in"] | None = None
    threshold: Threshold = None
    scale: str = ""
    profile: Literal["quick", "full", "both"] = "both"
    expected: Verdict
    reason: str = ""
    measured_within: Interval = None
    format: str = ".4g"

    @property
    def is_smaller(self) -> bool:
        """True if holding gives a trend at most: smaller scale, or no number in the paper to meet."""
        return bool(self.scale.strip()) or self.kind in ("trend", "qualitative")

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        """What one field asks of another."""
        given = [name for name in ("key", "relation", "threshold") if getattr(self, name) is not None]
        if self.expected is Verdict.NOT_ATTEMPTED:
            if given:
                raise ValueError(f"expected none of {', '.join(given)} for a claim that is not attempted")
        elif len(given) < 3:
            raise ValueError(
                f"expected key, relation and threshold for a claim that is {self.expected}, "
                f"got {', '.join(given) or 'none'}"
            )
        if self.expected in (Verdict.DIFFERS, Verdict.NOT_ATTEMPTED) and not self.reason.strip():
            raise ValueError(f"expected a reason for a claim that is {self.expected}, got none")
        if self.measured_within is not None and self.expected is not Verdict.DIFFERS:
            raise ValueError("measured_within belongs to claims that differ; use relation 'in' for others")
        if isinstance(self.threshold, tuple) != (self.relation == "in"):
            raise ValueError(
                "expected a pair [low, high] with relation 'in' and one number with others, "
                f"got {self.relation} {self.threshold}"
            )
        if isinstance(self.threshold, bool) and self.relation != "==":
            raise ValueError(f"expected relation '==' with a truth value, got {self.relation}")
        if self.expected is Verdict.REPRODUCED and self.is_smaller:
            raise ValueError("a trend, or a number at smaller scale, is at most 'trend reproduced'")
        if self.expected is Verdict.TREND and not self.is_smaller:
            raise ValueError(
                "an exact or numeric claim at full scale is 'reproduced', not 'trend reproduced'"
            )
        try:
            format(0.5, self.format)
        except ValueError:
            raise ValueError(
                f"format: expected a format specification such as .4g or .1%, got {self.format!r}"
            ) from None
        return self

    def holds(self, value: float) -> bool:
        """True if the recorded value stands in the row's relation to the threshold."""
        assert self.relation is not None
        return bool(RELATIONS[self.relation](value, self.threshold))

    def verdict(self, value: float | None) -> Verdict:
        """The verdict that a recorded value gives; no value, no attempt."""
        if value is None or self.relation is None:
            return Verdict.NOT_ATTEMPTED
        if not self.holds(value):
            return Verdict.DIFFERS
        return Verdict.TREND if self.is_smaller else Verdict.REPRODUCED

    def in_profile(self, profile: str) -> bool:
        return self.expected is not Verdict.NOT_ATTEMPTED and self.profile in (profile, "both")

    def shown(self, value: Any) -> str:
        """A value as the tables print it."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int) and not self.format.endswith("%"):
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        return format(value, self.format)

    def condition(self) -> str:
        """Relation and threshold in words for the tables, e.g. ``< 0.02``."""
        if self.relation is None:
            return ""
        if isinstance(self.threshold, tuple):
            return f"in [{self.shown(self.threshold[0])}, {self.shown(self.threshold[1])}]"
        return f"{self.relation} {self.shown(self.threshold)}"


class Ledger(BaseModel):
    """A chapter's ``claims.yml``: the paper's BibTeX key and the rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: Text
    claims: Annotated[list[Claim], Field(min_length=1)]


def read_ledger(path: Path) -> Ledger:
    """Read and check a ledger.

    Raises
    ------
    UserError
        One line per fault, each as ``path:line: place: what was expected and what came``.
    """
    content = load_yaml(path)
    try:
        ledger = Ledger.model_validate(content)
    except ValidationError as error:
        lines = lines_of(path)
        raise UserError("\n".join(_explain(path, lines, fault) for fault in error.errors())) from None
    ids = [claim.id for claim in ledger.claims]
    if len(set(ids)) < len(ids):
        lines = lines_of(path)
        places = [lines.get(("claims", index, "id"), 1) for index in range(len(ids))]
        raise UserError(
            "\n".join(
                f"{path}:{places[index]}: claims[{index}].id: {name!r} is taken by the row on line "
                f"{places[ids.index(name)]}"
                for index, name in enumerate(ids)
                if ids.index(name) < index
            )
        )
    return ledger


def _explain(path: Path, lines: dict[tuple[str | int, ...], int], fault: Any) -> str:
    """One line for one fault: where it stands, what was expected, what came."""
    place = tuple(fault["loc"])
    while place and place not in lines:  # a missing field has no place of its own, its row has
        place = place[:-1]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    head = f"{path}:{lines.get(place, 1)}: {where or 'file'}"
    if fault["type"] == "missing":
        return f"{head}: expected a field {fault['loc'][-1]!r}, found none"
    if fault["type"] == "extra_forbidden":
        return f"{head}: unknown field"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    message = re.sub(
        r" or instance of \w+$", " of fields", message.replace("a valid dictionary", "a mapping")
    )
    came = fault.get("input")
    if isinstance(came, dict):
        return f"{head}: {message}"
    return f"{head}: {message}, got {textwrap.shorten(repr(came), 60)}"

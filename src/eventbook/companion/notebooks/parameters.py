"""The parameters cell of a notebook: read it, check overrides against it, write new defaults into it.

A parameters cell holds typed assignments with a trailing comment::

    temperature: float = 2.5e-11  # noise, at the initial learning rate
    seeds: list[int] = [0, 1, 2]  # one run per seed

Papermill accepts unknown names silently, so every override is checked here first. What is typed on a
command line is read by the declared type: ``007`` is a name for a ``str`` and an error for an ``int``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError

SCALARS: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: name, type as written, default and comment."""

    name: str
    type: str
    default: Any
    comment: str

    def coerce(self, value: Any) -> Any:
        """`value` as this parameter's type; an int is a float, a bool is not an int.

        Raises
        ------
        UserError
            If the value has another type, or is a float that is not finite (no literal spells it).
        """
        if self.type.startswith("list["):
            if isinstance(value, list | tuple):
                return [self._item(index).coerce(item) for index, item in enumerate(value)]
        else:
            expected = SCALARS[self.type]
            if isinstance(value, bool) and expected is not bool:
                raise self._refusal(value)
            if expected is float and isinstance(value, int | float) and abs(value) <= sys.float_info.max:
                return float(value)
            if expected is not float and isinstance(value, expected):
                return value
        raise self._refusal(value)

    def parse(self, text: str) -> Any:
        """The value that `text`, as typed on a command line, has for this parameter.

        Raises
        ------
        UserError
            If the text is not a value of the parameter's type.
        """
        text = text.strip()
        if self.type.startswith("list["):
            bracketed = text[:1] + text[-1:] in ("[]", "()")
            items = split_values(text[1:-1] if bracketed else text)
            return [self._item(index).parse(item) for index, item in enumerate(items)]
        value = _literal(text)
        if self.type == "str":
            return value if isinstance(value, str) else text
        if self.type == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        return self.coerce(value)

    def _item(self, index: int) -> Parameter:
        return Parameter(f"{self.name}[{index}]", self.type[5:-1], None, "")

    def _refusal(self, value: Any) -> UserError:
        return UserError(
            f"parameter {self.name}: expected {self.type}, got {value!r} ({type(value).__name__})"
        )


def _literal(text: str) -> Any:
    """A Python literal where `text` is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def split_values(text: str) -> list[str]:
    """``"0, 1e-4, [1, 2]"`` as three texts: cut at commas outside of brackets and quotes."""
    parts, depth, quote, escaped = [""], 0, "", False
    for character in text:
        if quote:
            quote = "" if character == quote and not escaped else quote
            escaped = character == "\\" and not escaped
        elif character in "\"'":
            quote = character
        elif character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    stripped = [part.strip() for part in parts]
    return stripped if stripped[-1] else stripped[:-1]


def read_parameters(source: str, where: str) -> dict[str, Parameter]:
    """Parameters of a cell, by name, in order.

    Parameters
    ----------
    source
        Code of the cell.
    where
        What to call the cell in errors, e.g. ``notebooks/deep_rewiring/method.py``.

    Raises
    ------
    UserError
        If a line is not ``name: type = literal  # comment``, a name comes twice, or a default has
        another type.
    """
    lines = source.split("\n")
    found: dict[str, Parameter] = {}
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{where}: expected Python in the parameters cell ({error})") from None
    for node in body:
        line = lines[node.lineno - 1].strip()
        refusal = UserError(
            f"{where}: expected 'name: type = literal  # comment' in the parameters cell, got {line!r}"
        )
        if not (
            isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
        ):
            raise refusal
        annotation = ast.unparse(node.annotation)
        inner = annotation[5:-1] if annotation.startswith("list[") else annotation
        _, rest = _cut(lines[(node.end_lineno or node.lineno) - 1], node.end_col_offset or 0)
        comment = rest.strip()
        if inner not in SCALARS or not comment.startswith("#") or not comment.strip("# "):
            raise refusal
        try:
            default = ast.literal_eval(node.value)
        except (ValueError, TypeError):
            raise refusal from None
        name = node.target.id
        if name in found:
            raise UserError(f"{where}: parameter {name} is declared twice")
        undecided = Parameter(name, annotation, None, comment.lstrip("# "))
        try:
            found[name] = Parameter(name, annotation, undecided.coerce(default), undecided.comment)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return found


def _cut(line: str, offset: int) -> tuple[str, str]:
    """`line` before and after a column of the syntax tree, which counts bytes of UTF-8."""
    data = line.encode()
    return data[:offset].decode(), data[offset:].decode()


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """``["a=1", "b=x"]`` as ``{"a": "1", "b": "x"}``.

    Raises
    ------
    UserError
        If an item has no ``=`` or a name comes twice.
    """
    found: dict[str, str] = {}
    for item in assignments:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise UserError(f"expected -p name=value, got {item!r}")
        if name.strip() in found:
            raise UserError(f"parameter {name.strip()} is given twice")
        found[name.strip()] = value.strip()
    return found


def owners_of(name: str, declared: Mapping[str, Mapping[str, Parameter]]) -> list[str]:
    """Notebooks that declare a parameter.

    Raises
    ------
    UserError
        If none does; the message lists all parameters there are.
    """
    owners = [notebook for notebook, parameters in declared.items() if name in parameters]
    if not owners:
        valid = "; ".join(
            f"{notebook}: {', '.join(f'{p.name} ({p.type})' for p in parameters.values()) or 'none'}"
            for notebook, parameters in declared.items()
        )
        raise UserError(f"unknown parameter {name!r}; valid parameters are {valid}")
    return owners


def typed_overrides(
    texts: Mapping[str, str], declared: Mapping[str, Mapping[str, Parameter]]
) -> dict[str, Any]:
    """Overrides as typed on a command line, read by the declared types.

    Raises
    ------
    UserError
        If no notebook declares a name, or a text is not a value of the declared type.
    """
    return {name: declared[owners_of(name, declared)[0]][name].parse(text) for name, text in texts.items()}


def check_overrides(
    overrides: Mapping[str, Any], declared: Mapping[str, Mapping[str, Parameter]]
) -> dict[str, dict[str, Any]]:
    """Overrides per notebook, coerced to the declared types.

    Parameters
    ----------
    overrides
        Values by parameter name; one name may be declared by several notebooks and then holds for each.
    declared
        Parameters by notebook.

    Raises
    ------
    UserError
        If no notebook declares a name (the message lists all that exist), or a value has the wrong type.
    """
    result: dict[str, dict[str, Any]] = {notebook: {} for notebook in declared}
    for name, value in overrides.items():
        for notebook in owners_of(name, declared):
            result[notebook][name] = declared[notebook][name].coerce(value)
    return result


def disagreements(declared: Mapping[str, Mapping[str, Parameter]]) -> list[str]:
    """Parameters that notebooks share by name and not by type or default, one line each.

    A name is one quantity in the whole chapter: an override turns it everywhere.
    """
    first: dict[str, tuple[str, Parameter]] = {}
    found = []
    for notebook, parameters in declared.items():
        for name, own in parameters.items():
            where, other = first.setdefault(name, (notebook, own))
            if (own.type, own.default) != (other.type, other.default):
                found.append(
                    f"parameter {name}: expected one quantity, {where} has {other.type} = {other.default!r} "
                    f"and {notebook} has {own.type} = {own.default!r}"
                )
    return found


def rewrite_defaults(source: str, values: Mapping[str, Any]) -> str:
    """The parameters cell with new defaults; types, comments and layout stay."""
    lines = source.split("\n")
    for node in reversed(ast.parse(source).body):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        value = node.value
        if node.target.id in values and value is not None:
            first, last = value.lineno - 1, (value.end_lineno or value.lineno) - 1
            before, _ = _cut(lines[first], value.col_offset)
            _, after = _cut(lines[last], value.end_col_offset or 0)
            lines[first : last + 1] = [f"{before}{values[node.target.id]!r}{after}"]
    return "\n".join(lines)


def shown(value: Any) -> str:
    """A parameter value in running text: the shortest text that tells it from its neighbours."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def label(overrides: Mapping[str, Any]) -> str:
    """``temperature=0.001,seed=3``: overrides in one word."""
    return ",".join(f"{name}={shown(value)}" for name, value in sorted(overrides.items()))

"""Every figure twice: as it is drawn, and for the dark mode with light ink on no ground.

A page shows the one that fits its mode. The hues stay, since texts and legends name them; exchanged are ink,
paper, grid, and the colours of the palette that are too dark for a dark page. No filter of a browser does
that: turning lightness around at a constant hue makes the palette's sky blue of its blue, and turns around
every picture and heat map.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .theme import GRID, INK, PALETTE

DARK_PAGE = "#121212"  # the theme's ground in the dark mode
EXCHANGED = {
    INK.lower(): "#ced6dd",
    GRID.lower(): "#343b44",
    PALETTE["blue"].lower(): "#2187cf",
    PALETTE["grey"].lower(): "#a3a8ae",
    PALETTE["black"].lower(): "#f0f2f4",
}
PAPER = {"#ffffff": DARK_PAGE, "#000000": "#f0f2f4"}  # not in texts: on a heat map white and black are chosen
COLOURS = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")
PNG, DARK = "image/png", "dark"  # a figure's output keeps its twin as metadata["image/png"]["dark"]


@contextmanager
def in_dark(figure: Any) -> Iterator[None]:
    """Within the context a matplotlib figure has the colours of the dark mode and no ground."""
    figure.draw_without_rendering()  # ticks come into being when they are drawn
    undo: list[tuple[Callable[[Any], None], Any]] = []
    try:
        for artist in _artists(figure):
            for name in COLOURS:
                read, write = (getattr(artist, f"{verb}_{name}", None) for verb in ("get", "set"))
                if read is None or write is None or (old := read()) is None:
                    continue
                new = _exchanged(old, artist)
                if new is not None:
                    undo.append((write, old))
                    write(new)
        for patch in (figure.patch, *(axis.patch for axis in figure.axes)):
            undo.append((patch.set_facecolor, patch.get_facecolor()))
            patch.set_facecolor("none")
        yield
    finally:
        for write, old in reversed(undo):
            write(old)


def _artists(figure: Any) -> Iterator[Any]:
    """Everything with a colour of its own; maps of values to colours keep theirs."""
    for artist in figure.findobj():
        if getattr(artist, "get_array", lambda: None)() is None:
            yield artist
        for hidden in ("arrow_patch", "_bbox_patch"):  # of annotations and texts
            if (patch := getattr(artist, hidden, None)) is not None:
                yield patch


def _exchanged(colour: Any, artist: Any) -> Any:
    """The colour or colours for the dark mode, or None if they stay."""
    from matplotlib.colors import to_hex, to_rgba_array
    from matplotlib.text import Text

    table = EXCHANGED if isinstance(artist, Text) else EXCHANGED | PAPER
    rows = to_rgba_array(colour)
    hexes = [to_hex(row) for row in rows]
    if not any(name in table for name in hexes):
        return None
    for row, name in zip(rows, hexes, strict=True):
        row[:3] = to_rgba_array(table.get(name, name))[0, :3]
    return rows if len(rows) > 1 or not isinstance(colour, str | tuple) else tuple(rows[0])


# --- in notebooks ------------------------------------------------------------------------------------------


def show_in_both(shell: Any) -> None:
    """From now on an IPython shell adds the dark twin to the metadata of every figure that it shows."""
    from matplotlib.figure import Figure

    shell.display_formatter.mimebundle_formatter.for_type(Figure, _twin_bundle)


def _twin_bundle(figure: Any, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    from IPython.core.pylabtools import print_figure

    with in_dark(figure):
        twin = print_figure(figure, "png", base64=True)
    return {}, {PNG: {DARK: twin}} if twin else {}


def twins(notebook: Any) -> dict[str, bytes]:
    """Dark twins of all figures in a notebook's outputs, by the sha256 of the figure as it is drawn."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            twin = output.get("metadata", {}).get(PNG, {}).get(DARK)
            for kind, data in output.get("data", {}).items():
                if twin and kind.endswith(PNG):  # a glued figure has a prefix
                    found[hashlib.sha256(base64.b64decode(data)).hexdigest()] = base64.b64decode(twin)
    return found


# --- as files ----------------------------------------------------------------------------------------------


def twin_name(name: str) -> str:
    """``figure.svg`` -> ``figure.dark.svg``, the name of the twin beside it."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{DARK}.{suffix}"


def write_twins(notebook: Path, folder: Path) -> None:
    """Write the dark twins of a notebook's figures as ``<sha256>.dark.png``."""
    for digest, data in twins(json.loads(notebook.read_text(encoding="utf-8"))).items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / twin_name(f"{digest}.png")).write_bytes(data)


def staged(name: str, image: bytes, twin: bytes | None) -> dict[str, bytes]:
    """Files by name: an image and, if it has one, its twin."""
    return {name: image} if twin is None else {name: image, twin_name(name): twin}


def picture(image: str, alt: str, *, twin: bool) -> str:
    """HTML of an image and its twin, of which a page shows one; `alt` is escaped already."""
    if not twin:
        return f'<img src="{image}" alt="{alt}">'
    return (
        f'<img class="in-light" src="{image}" alt="{alt}">'
        f'<img class="in-dark dark-light" src="{twin_name(image)}" alt="{alt}">'
    )

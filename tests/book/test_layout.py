"""How the pages are laid out: code as wide as the page, notes in the margin only where there is one.

The width of a page is measured in Chromium where it is installed, once with a line of `COLUMNS` characters in
every block of code. What is written is held to that number everywhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from html_pages import pages_of, read_page

from eventbook.companion.project import Project

ROOT = Path(__file__).parents[2]
PAGES = Project(ROOT, ROOT / "_build").toc_pages
# The formatter's limit for notebooks is what a page holds in a window 1,280 pixels wide.
COLUMNS = tomllib.loads((ROOT / "notebooks" / "ruff.toml").read_text(encoding="utf-8"))["line-length"]
WINDOW = 1280
WIDTHS = (400, 768, 991, 992, 1024, 1199, 1200, WINDOW, 1440)


def test_no_line_of_code_on_a_page_is_wider_than_the_page(html: Path) -> None:
    """Cells, shown sources, included files, printed text, commands."""
    blocks = [(page, code) for page in pages_of(html) for code in read_page(page).code]
    assert len(blocks) > len(PAGES)
    wide = [
        f"{page.relative_to(html)}: {line}"
        for page, code in blocks
        for line in code.splitlines()
        if len(line) > COLUMNS
    ]
    assert wide == []


# --- measured in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("websocket")
    from browser import Browser, find_chromium

    if find_chromium() is None:
        pytest.skip("no Chromium on this machine")
    with Browser() as opened:
        yield opened


OPEN = "document.querySelectorAll('article details').forEach(details => details.open = true);"
WIDE_CODE = (
    "(() => {"
    + OPEN
    + """
  return [...document.querySelectorAll("article pre")]
    .filter(pre => pre.clientWidth && pre.scrollWidth > pre.clientWidth)
    .map(pre => pre.textContent.slice(0, 60));
})()"""
)
FILLED_CODE = (
    "(() => {"
    + OPEN
    + """
  const blocks = [...document.querySelectorAll("article pre")].filter(pre => pre.clientWidth);
  blocks.forEach(pre => pre.textContent = "m".repeat(COLUMNS));
  return blocks.filter(pre => pre.scrollWidth > pre.clientWidth).map(pre => pre.clientWidth);
})()""".replace("COLUMNS", str(COLUMNS))
)
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
NOTES = """
(() => {
  const width = document.documentElement.clientWidth;
  const box = element => element.getBoundingClientRect();
  const shown = element => element.checkVisibility() && box(element).width > 0 && box(element).height > 0;
  const notes = [...document.querySelectorAll("article .margin")].filter(shown);
  const others = [...document.querySelectorAll(
    "article :is(p, pre, img, svg, table, figcaption, summary, mjx-container, h1, h2, h3, li)"
  ), document.querySelector(".bd-sidebar-primary")].filter(shown);
  const found = [];
  for (const note of notes) {
    const own = box(note);
    if (own.left < 0 || own.right > width) found.push("off the screen: " + note.textContent.trim());
    for (const other of [...others, ...notes]) {
      if (note.contains(other) || other.contains(note)) continue;
      const its = box(other);
      const apart = own.right <= its.left + 1 || its.right <= own.left + 1
        || own.bottom <= its.top + 1 || its.bottom <= own.top + 1;
      if (!apart) found.push(note.textContent.trim() + " over " + other.textContent.trim().slice(0, 60));
    }
  }
  return {count: notes.length, found};
})()
"""
NARROW_CODE = """
(() => {
  const column = document.querySelector("article section").clientWidth;
  return [...document.querySelectorAll("article pre")]
    .filter(pre => pre.clientWidth && !pre.closest("details") && pre.offsetWidth < column - 8)
    .map(pre => pre.offsetWidth + " of " + column + ": " + pre.textContent.slice(0, 60));
})()
"""


@pytest.mark.parametrize("page", PAGES)
def test_no_code_scrolls_sideways(page: str, html: Path, browser: Any) -> None:
    browser.show(html / f"{page}.html", WINDOW)
    assert browser.run(WIDE_CODE) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_code_holds_the_columns(page: str, html: Path, browser: Any) -> None:
    """So that the test on the written pages, which needs no browser, asks for the right number."""
    browser.show(html / f"{page}.html", WINDOW)
    assert browser.run(FILLED_CODE) == []


@pytest.fixture(scope="module", params=WIDTHS)
def measured(request: pytest.FixtureRequest, html: Path, browser: Any) -> dict[str, Any]:
    """Every page in a window of one width: its margin notes, and by how much it is wider than the window."""
    found = {}
    for page in PAGES:
        browser.show(html / f"{page}.html", request.param)
        found[page] = {"notes": browser.run(NOTES), "sideways": browser.run(SIDEWAYS)}
    return found


def test_margin_notes_are_on_the_screen_and_over_nothing(measured: dict[str, Any]) -> None:
    assert sum(page["notes"]["count"] for page in measured.values()) > 0
    assert {name: page["notes"]["found"] for name, page in measured.items() if page["notes"]["found"]} == {}


def test_no_page_scrolls_sideways(measured: dict[str, Any]) -> None:
    assert {name: page["sideways"] for name, page in measured.items() if page["sideways"] > 0} == {}


def test_code_has_the_whole_width_of_a_phone(html: Path, browser: Any) -> None:
    narrow = []
    for page in PAGES:
        browser.show(html / f"{page}.html", 400)
        narrow += [f"{page}: {text}" for text in browser.run(NARROW_CODE)]
    assert narrow == []

"""The rendered book as a browser would read it: ids, links, code, and which links lead nowhere."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.code: list[str] = []  # text of every <pre>
        self._in_code = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attributes}
        self.tags.append((tag, own))
        self.ids |= {own[name] for name in ("id", "name") if name in own}
        self.links += [own[name] for name in ("href", "src") if name in own]
        if tag == "pre":
            self.code.append("")
            self._in_code = True

    def handle_endtag(self, tag: str) -> None:
        self._in_code = self._in_code and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._in_code:
            self.code[-1] += data


@cache
def read_page(path: Path) -> _Page:
    """The tags, ids, links and code of an HTML file."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def pages_of(html: Path) -> list[Path]:
    """Every page, the theme's own files left out."""
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.relative_to(html).parts)


def is_outside(link: str) -> bool:
    """True if a link leaves the book."""
    parts = urlsplit(link)
    return bool(parts.scheme or parts.netloc)


def broken_links(html: Path) -> list[str]:
    """Links inside the book to a file or an id that is not there."""
    broken = []
    for page in pages_of(html):
        for link in read_page(page).links:
            if is_outside(link):
                continue
            parts = urlsplit(link)
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            reached = target.is_file() and target.is_relative_to(html.resolve())
            if reached and parts.fragment and target.suffix == ".html":
                reached = unquote(parts.fragment) in read_page(target).ids
            if not reached:
                broken.append(f"{page.relative_to(html)}: {link}")
    return broken

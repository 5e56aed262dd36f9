"""Figures of the book: numbered by chapter, and readable in the dark mode without a plate."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
from html_pages import pages_of
from matplotlib.colors import rgb_to_hsv, to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from eventbook.companion.book import dark
from eventbook.companion.book.pages import figures
from eventbook.companion.book.render import jupyter_book
from eventbook.companion.book.theme import GRID, INK, PALETTE, use_theme
from eventbook.companion.errors import UserError
from eventbook.companion.project import Project

ROOT = Path(__file__).parents[2]
PROJECT = Project(ROOT, ROOT / "_build")
CHAPTERS = [c.slug for c in PROJECT.chapters()]

# --- numbers -----------------------------------------------------------------------------------------------

FIGURE = re.compile(r"<figure.*?</figure>", re.DOTALL)
NUMBER = re.compile(r'class="caption-number">Fig\. ([\d.]+) ?</span>')
REFERENCE = re.compile(r'href="([^"#]*)#([^"]+)"><span class="std std-numref">Fig\. ([\d.]+)<')


def numbers(page: Path) -> list[str | None]:
    """The number of every figure of a page, in order; None without one."""
    found = [NUMBER.search(figure) for figure in FIGURE.findall(page.read_text(encoding="utf-8"))]
    return [match and match.group(1) for match in found]


def counted(html: Path, pages: list[str], prefix: str) -> tuple[list[str | None], list[str | None]]:
    """The numbers of some pages, and what they should be."""
    found = [number for page in pages for number in numbers(html / f"{page}.html")]
    return found, [f"{prefix}{i}" for i in range(1, len(found) + 1)]


def test_figures_of_a_chapter_are_numbered_through_all_its_pages(html: Path) -> None:
    for i, slug in enumerate(CHAPTERS, start=1):
        pages = [page for page in PROJECT.toc_pages if page.startswith(f"notebooks/{slug}/")]
        found, wanted = counted(html, pages, f"{i}.")
        assert found
        assert found == wanted


def test_other_pages_number_their_figures_from_one(html: Path) -> None:
    drawn = 0
    for page in PROJECT.toc_pages:
        if not page.startswith("notebooks/"):
            found, wanted = counted(html, [page], "")
            assert found == wanted, page
            drawn += len(found)
    assert drawn > 1


def test_a_reference_to_a_figure_says_its_number(html: Path) -> None:
    count = 0
    for page in pages_of(html):
        for link, name, number in REFERENCE.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve() if link else page
            (figure,) = (f for f in FIGURE.findall(target.read_text(encoding="utf-8")) if f'id="{name}"' in f)
            assert NUMBER.search(figure).group(1) == number
            count += 1
    assert count > 0


def test_only_chapters_have_numbers_in_their_headings(html: Path) -> None:
    for page in PROJECT.toc_pages:
        text = (html / f"{page}.html").read_text(encoding="utf-8")
        headings = re.findall(r"<h\d>.*?</h\d>", text, re.DOTALL)
        numbered = [heading for heading in headings if "section-number" in heading]
        assert len(numbered) == (page.startswith("notebooks/") and page.endswith("/index")), page


# --- light and dark ----------------------------------------------------------------------------------------


def pictures(page: Path) -> list[tuple[Path, str]]:
    """Images of a page's text: file and classes."""
    article = re.search(r"<article.*</article>", page.read_text(encoding="utf-8"), re.DOTALL)
    tags = re.findall(r"<img [^>]*>", article[0]) if article else []
    found = [dict(re.findall(r'(\w+)="([^"]*)"', tag)) for tag in tags]
    return [((page.parent / own["src"]).resolve(), own.get("class", "")) for own in found]


def test_every_image_has_a_twin_for_the_dark_mode(html: Path) -> None:
    count = 0
    for page in pages_of(html):
        found = pictures(page)
        for (light, its), (twin, others) in zip(found[::2], found[1::2], strict=True):
            assert "in-light" in its.split(), light
            assert {"in-dark", "dark-light"} <= set(others.split()), twin
            assert twin.name == dark.twin_name(light.name)
            assert light.is_file()
            assert twin.is_file()
            count += 1
    assert count > 1


def test_twins_have_the_size_of_their_figures_and_no_ground(html: Path) -> None:
    count = 0
    for twin in html.glob("_images/*.dark.png"):
        with Image.open(twin) as image, Image.open(twin.with_name(twin.name.replace(".dark", ""))) as light:
            assert image.size == light.size
            assert image.getpixel((0, 0))[3] == 0
            count += 1
    assert count > 1


def test_a_drawing_is_part_of_its_page(html: Path) -> None:
    """So that it takes the page's colours; its own are for other viewers."""
    for page, drawing in (
        ("introduction", "story"),
        ("kernels", "scan_walk"),
        ("kernels", "event_rows"),
    ):
        title = re.search(
            r"<title[^>]*>(.*?)</title>", (ROOT / "book/_static" / f"{drawing}.svg").read_text()
        )
        shown = [f for f in FIGURE.findall((html / "book" / f"{page}.html").read_text()) if title[1] in f]
        assert len(shown) == 1
        assert "var(--eb-" in shown[0]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    dim, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dim + 0.05)


def in_the_dark(colour: str) -> str:
    return dark.EXCHANGED.get(colour.lower(), colour)


def test_ink_is_readable_and_every_colour_visible_on_a_dark_page() -> None:
    assert contrast(in_the_dark(INK), dark.DARK_PAGE) >= 4.5
    assert min(contrast(in_the_dark(colour), dark.DARK_PAGE) for colour in PALETTE.values()) >= 4
    assert contrast(in_the_dark(GRID), dark.DARK_PAGE) < 2, "a grid stays behind the data"


def test_colours_keep_their_hues_in_the_dark() -> None:
    """A text says blue, and it is blue in both modes."""
    for name in set(PALETTE) - {"grey", "black"}:
        hues = [rgb_to_hsv(to_rgb(colour))[0] for colour in (PALETTE[name], in_the_dark(PALETTE[name]))]
        assert abs(hues[0] - hues[1]) < 0.02, name


@pytest.fixture
def figure() -> Figure:
    with mpl.rc_context():
        use_theme()
        drawn = Figure(figsize=(4, 3))
        axis = drawn.subplots()
        axis.plot([0, 1], [0, 1], "o-", color=PALETTE["blue"], markerfacecolor="white", label="blue")
        axis.plot([0, 1], [1, 0], color=PALETTE["vermilion"])
        axis.scatter([0, 1], [0, 1], c=[0.0, 1.0], cmap="gray")
        axis.bar([0.5], [0.5], color=[PALETTE["black"]])
        axis.annotate("here", (0.5, 0.5), (0.2, 0.8), arrowprops={"color": INK})
        axis.text(0.5, 0.2, "on a map", color="white")
        axis.set(xlabel="x", title="t")
        axis.legend()
        drawn.draw_without_rendering()
    return drawn


def test_ink_and_paper_are_exchanged_and_data_are_not(figure: Figure) -> None:
    (axis,) = figure.axes
    blue, vermilion = axis.lines
    with dark.in_dark(figure):
        ink = to_hex(in_the_dark(INK))
        written = [axis.xaxis.label, axis.title, *axis.get_xticklabels(), *axis.get_legend().get_texts()]
        assert {to_hex(text.get_color()) for text in written} == {ink}
        assert to_hex(axis.spines["left"].get_edgecolor()) == ink
        assert to_hex(axis.texts[0].arrow_patch.get_facecolor()) == ink
        assert to_hex(blue.get_color()) == in_the_dark(PALETTE["blue"])
        assert to_hex(blue.get_markerfacecolor()) == dark.DARK_PAGE
        assert to_hex(vermilion.get_color()) == PALETTE["vermilion"].lower()
        assert to_hex(axis.patches[0].get_facecolor()) == in_the_dark(PALETTE["black"])
        assert [to_hex(c) for c in axis.collections[0].get_facecolor()] == ["#000000", "#ffffff"]
        assert axis.texts[1].get_color() == "white"
        assert figure.patch.get_facecolor()[3] == 0


def test_a_figure_comes_back_from_the_dark_as_it_was(figure: Figure) -> None:
    def drawn() -> bytes:
        buffer = BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()

    before = drawn()
    with dark.in_dark(figure):
        assert drawn() != before
    assert drawn() == before


def test_a_notebook_keeps_the_twin_of_every_figure() -> None:
    """Of the executed pairs: what the pages and the comparisons of forks show."""
    count = 0
    for chapter in PROJECT.chapters():
        for name in chapter.notebooks:
            drawn = figures(nbformat.read(chapter.pair(name), as_version=4))
            assert [key for key, figure in drawn.items() if figure.twin is None] == []
            count += len(drawn)
    assert count > 1


# --- a small book: the same for any author -----------------------------------------------------------------

PIXELS = {"light": (255, 255, 255, 255), "dark": (0, 0, 0, 0)}
CONFIG = """\
title: small
author: nobody
only_build_toc_files: true
execute: {execute_notebooks: "off"}
sphinx: {extra_extensions: [eventbook.companion.book.sphinx_figures]}
"""
CONTENTS = """\
format: jb-book
root: start
parts:
  - numbered: 1
    chapters:
      - {file: a/index, sections: [{file: a/plots}]}
      - {file: b/index, sections: [{file: b/plots}]}
  - chapters: [{file: end}]
"""
SECTION = "# Opening\n\n## A section\n\n```{figure} c.png\n:name: fig-%s\n\nA picture.\n```\n"
GLUED = """\
# Chapter

```{glued-figure} plot
:doc: plots.ipynb
:name: fig-%s-glued
:alt: What is seen

The plot, see {numref}`fig-%s-glued`.
```
"""


def png(kind: str, shade: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGBA", (8, 8), (*PIXELS[kind][:2], shade, PIXELS[kind][3])).save(buffer, "png")
    return buffer.getvalue()


def notebook(name: str, shade: int) -> str:
    """A notebook with two figures, the first of them glued."""
    cells = [nbformat.v4.new_markdown_cell("# Plots\n\nSee {numref}`fig-b-1`.")]
    for i in range(2):
        images = [base64.b64encode(png(kind, shade + i)).decode() for kind in PIXELS]
        meta = {dark.PNG: {dark.DARK: images[1]}}
        if i == 0:
            meta["scrapbook"] = {"name": "plot", "mime_prefix": ""}
        output = nbformat.v4.new_output("display_data", {dark.PNG: images[0]}, metadata=meta)
        cell = nbformat.v4.new_code_cell("plot()", outputs=[output])
        cell.metadata["mystnb"] = {"figure": {"caption": f"Plot {i}.", "name": f"fig-{name}-{i}"}}
        cells.append(cell)
    python = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=python))


def test_a_glued_figure_needs_a_page_an_alternative_text_and_a_caption(tmp_path: Path) -> None:
    (tmp_path / "_config.yml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: start\n", encoding="utf-8")
    (tmp_path / "start.md").write_text(
        "# Start\n\n```{glued-figure} plot\n:doc: a.ipynb\n```\n", encoding="utf-8"
    )
    with pytest.raises(UserError, match="glued-figure plot: expected alt and caption"):
        jupyter_book(tmp_path, tmp_path / "out", strict=True)


def test_numbers_and_twins_in_a_book_of_two_chapters(tmp_path: Path) -> None:
    source = tmp_path / "book"
    files = {
        "_config.yml": CONFIG,
        "_toc.yml": CONTENTS,
        "start.md": SECTION % "start",
        "end.md": SECTION % "end",
    }
    for i, name in enumerate("ab"):
        files[f"{name}/index.md"] = GLUED % (name, name)
        files[f"{name}/plots.ipynb"] = notebook(name, 10 * i)
    for path, text in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text, encoding="utf-8")
    (source / "c.png").write_bytes(png("light", 99))
    (source / "c.dark.png").write_bytes(png("dark", 99))
    html = jupyter_book(source, tmp_path / "out", strict=True)
    pages = ("start", "a/index", "a/plots", "b/plots", "end")
    found = {page: numbers(html / f"{page}.html") for page in pages}
    assert found == {
        "start": ["1"],
        "a/index": ["1.1"],
        "a/plots": ["1.2", "1.3"],
        "b/plots": ["2.2", "2.3"],
        "end": ["1"],
    }
    assert REFERENCE.findall((html / "a/plots.html").read_text()) == [("../b/plots.html", "fig-b-1", "2.3")]
    for page in pages:
        shown = pictures(html / f"{page}.html")
        assert [classes.split()[0] for _, classes in shown] == ["in-light", "in-dark"] * len(found[page])
        assert all(path.is_file() for path, _ in shown)
    assert (html / "a/index.html").read_text().count('alt="What is seen"') == 2

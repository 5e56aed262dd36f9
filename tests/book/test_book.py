"""The rendered book: complete, without a warning, readable offline, and each of its links leads somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from html_pages import broken_links, is_outside, pages_of, read_page
from pybtex import errors as pybtex_errors
from pybtex.database import parse_file

from eventbook.companion.book.render import jupyter_book
from eventbook.companion.errors import UserError
from eventbook.companion.ledger.claims import Row, rows_by_chapter
from eventbook.companion.ledger.ledger import read_ledger
from eventbook.companion.project import Project

ROOT = Path(__file__).parents[2]
PROJECT = Project(ROOT, ROOT / "_build")
NOTEBOOKS = [f"notebooks/{c.slug}/{name}" for c in PROJECT.chapters() for name in c.notebooks]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    return [row for own in rows_by_chapter(PROJECT).values() for row in own]


@pytest.fixture(params=NOTEBOOKS)
def notebook_page(request: pytest.FixtureRequest, html: Path) -> Path:
    return html / f"{request.param}.html"


def test_jupyter_book_is_the_one_that_reads_the_configuration() -> None:
    assert metadata.version("jupyter-book").split(".")[0] == "1"


def test_every_page_of_the_contents_exists_and_no_other(html: Path) -> None:
    """Hidden folders, forks and results are not in the book either."""
    found = {path.relative_to(html).with_suffix("").as_posix() for path in pages_of(html)}
    assert found == {*PROJECT.toc_pages, "index", "search", "genindex"}


def test_index_leads_to_the_first_page(html: Path) -> None:
    assert f"url={PROJECT.toc_pages[0]}.html" in (html / "index.html").read_text(encoding="utf-8")


def test_no_warning_in_the_build_log(html: Path) -> None:
    log = (PROJECT.build / "render" / "build.log").read_text(encoding="utf-8")
    assert [line for line in log.splitlines() if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line)] == []


# --- links -------------------------------------------------------------------------------------------------


def test_every_link_inside_the_book_leads_somewhere(html: Path) -> None:
    assert broken_links(html) == []


def linkchecker(folder: Path) -> subprocess.CompletedProcess[str]:
    """LinkChecker over a copy of a folder from its ``index.html``; links to elsewhere are left alone.

    Run by root it becomes the user nobody, to whom the folder itself may be closed.
    """
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        copied = Path(shutil.copytree(folder, Path(open_to_all) / "html", copy_function=shutil.copyfile))
        copied.chmod(0o755)
        return subprocess.run(
            [sys.executable, "-m", "linkcheck", "--no-status", (copied / "index.html").as_uri()],
            capture_output=True,
            text=True,
            check=False,
        )


def test_linkchecker_agrees(html: Path) -> None:
    done = linkchecker(html)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) links? in", done.stdout).group(1)) > len(PROJECT.toc_pages)


def test_linkchecker_finds_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="gone.html">gone</a>')
    done = linkchecker(tmp_path)
    assert done.returncode == 1
    assert "gone.html" in done.stdout


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="here"><a href="b.html#there">b</a> <a href="#here">a</a>')
    (tmp_path / "b.html").write_text('<p id="there"><a href="https://example.org/x#y">c</a>')
    assert broken_links(tmp_path) == []
    (tmp_path / "c.html").write_text(
        '<a href="b.html#gone"></a><a href="d.html"></a><a href="#gone"></a><img src="../e.png">'
    )
    assert broken_links(tmp_path) == [
        "c.html: b.html#gone",
        "c.html: d.html",
        "c.html: #gone",
        "c.html: ../e.png",
    ]


def test_every_verdict_leads_to_the_cell_that_decided_it(html: Path, rows: list[Row]) -> None:
    overview = html / "book" / "claims.html"
    measured = [row for row in rows if row.notebook]
    assert measured
    for row in measured:
        page, anchor = f"{row.notebook}.html", f"#{row.claim.key}" if row.quick is not None else ""
        assert f"../notebooks/{row.chapter}/{page}{anchor}" in read_page(overview).links
        chapter = html / "notebooks" / row.chapter
        assert f"{page}{anchor}" in read_page(chapter / "index.html").links
        if anchor:
            assert row.claim.key in read_page(chapter / page).ids


def test_every_row_stands_in_both_tables(html: Path, rows: list[Row]) -> None:
    overview = (html / "book" / "claims.html").read_text(encoding="utf-8")
    for row in rows:
        chapter = (html / "notebooks" / row.chapter / "index.html").read_text(encoding="utf-8")
        assert overview.count(f'<span class="claim-id">{row.claim.id}</span>') == 1
        assert chapter.count(f'<span class="claim-id">{row.claim.id}</span>') == 1


# --- what pages carry --------------------------------------------------------------------------------------


def test_a_notebook_can_be_launched(notebook_page: Path, html: Path) -> None:
    place = CONFIG["repository"]["url"].removeprefix("https://github.com/")
    source = notebook_page.relative_to(html).with_suffix(".ipynb").as_posix()
    branch = CONFIG["repository"]["branch"]
    links = read_page(notebook_page).links
    colab = CONFIG["launch_buttons"]["colab_url"]
    binder = CONFIG["launch_buttons"]["binderhub_url"]
    assert f"{colab}/github/{place}/blob/{branch}/{source}" in links
    assert any(link.startswith(f"{binder}/v2/gh/{place}/{branch}?") and source in link for link in links)


def test_nothing_that_a_page_needs_comes_from_elsewhere(html: Path) -> None:
    """Scripts (MathJax among them), styles and pictures are the book's own: it reads offline."""
    fetched = [
        f"{page.relative_to(html)}: {own.get('src') or own.get('href')}"
        for page in pages_of(html)
        for tag, own in read_page(page).tags
        if (tag in ("script", "img", "iframe") or (tag == "link" and own.get("rel") == "stylesheet"))
        and is_outside(own.get("src") or own.get("href") or "")
        and not (own.get("src") or "").startswith("data:")
    ]
    assert fetched == []


def test_mathjax_is_local(notebook_page: Path) -> None:
    tags = read_page(notebook_page).tags
    has_math = any("math" in (own.get("class") or "").split() for _, own in tags)
    scripts = [own.get("src", "") for tag, own in tags if tag == "script"]
    local = [(notebook_page.parent / src).is_file() for src in scripts if "mathjax" in src]
    assert local == ([True] if has_math else [])


def test_some_page_has_mathematics() -> None:
    html = PROJECT.build / "html"
    assert any("mathjax" in page.read_text(encoding="utf-8") for page in html.rglob("method.html"))


@pytest.mark.parametrize("page", PROJECT.toc_pages)
def test_page_has_one_search_one_switch_a_logo_and_an_icon(page: str, html: Path) -> None:
    path = html / f"{page}.html"
    tags = read_page(path).tags
    assert [tag for tag, own in tags if tag == "input" and own.get("type") == "search"] == ["input"]
    assert path.read_text(encoding="utf-8").count('theme-switch-button"') == 1  # written by a script
    logos = [own["src"] for tag, own in tags if tag == "img" and "logo__image" in own.get("class", "")]
    icons = [own["href"] for tag, own in tags if tag == "link" and "icon" in own.get("rel", "").split()]
    assert logos
    assert icons
    assert all((path.parent / link).is_file() for link in [*logos, *icons])


# --- sources -----------------------------------------------------------------------------------------------

CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")


def test_bibliography_parses_and_every_entry_is_cited() -> None:
    pybtex_errors.set_strict_mode(True)
    entries = set(parse_file(str(ROOT / "book" / "references.bib")).entries)
    sources = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*/*.md")]
    sources += (ROOT / "notebooks").glob("*/*.py")
    texts = [path.read_text(encoding="utf-8") for path in sources]
    cited = {key.strip() for text in texts for keys in CITATION.findall(text) for key in keys.split(",")}
    assert cited == entries
    assert {read_ledger(chapter.ledger_path).paper for chapter in PROJECT.chapters()} <= entries


def test_pages_link_to_no_chapter_that_is_not_written(html: Path) -> None:
    written = {chapter.slug for chapter in PROJECT.chapters()}
    linked = {
        match.group(1)
        for page in pages_of(html)
        for link in read_page(page).links
        if not is_outside(link) and (match := re.search(r"notebooks/([a-z0-9_]+)/", link))
    }
    assert linked <= written


# --- controls: the strict build finds what is broken -------------------------------------------------------


def small_book(root: Path, text: str) -> Path:
    files = {
        "_config.yml": "title: small\nauthor: nobody\nonly_build_toc_files: true\nbibtex_bibfiles: [a.bib]\n",
        "_toc.yml": "format: jb-book\nroot: start\n",
        "a.bib": "@misc{doe2020, author = {Doe, Jane}, title = {Half}, year = {2020}}\n",
        "start.md": f"# Start\n\n{text}\n\n```{{bibliography}}\n```\n",
    }
    root.mkdir()
    for name, content in files.items():
        (root / name).write_text(content, encoding="utf-8")
    return root


def test_a_sound_book_passes_the_strict_build(tmp_path: Path) -> None:
    book = small_book(tmp_path / "book", "[Here](start.md), {cite}`doe2020`.")
    assert (jupyter_book(book, tmp_path / "out", strict=True) / "start.html").is_file()


def test_broken_references_fail_the_strict_build(tmp_path: Path) -> None:
    faults = {
        "gone.md": "[page](gone.md)",
        "gone-figure": "{ref}`gone-figure`",
        "gone_value": "{glue:text}`gone_value:.2f`",
        "gone2020": "{cite}`gone2020`",
    }
    book = small_book(tmp_path / "book", "\n\n".join([*faults.values(), "{cite}`doe2020`"]))
    with pytest.raises(UserError, match="rendering failed") as raised:
        jupyter_book(book, tmp_path / "out", strict=True)
    assert [name for name in faults if name not in str(raised.value)] == []

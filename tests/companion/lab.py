"""What JupyterLab does when a person opens a notebook and saves it, without the browser.

Jupytext pairs notebooks in the server's contents manager: it reads cells from the ``.py`` and outputs from
the ``.ipynb``, writes both, and refuses a pair whose ``.ipynb`` is newer and holds other cells.
"""

from __future__ import annotations

import os
from pathlib import Path

from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class

Manager = build_sync_jupytext_contents_manager_class(LargeFileManager)


def open_and_save(root: Path, pair: Path, old: str = "", new: str = "") -> None:
    """Open the notebook at `pair` in a server at `root`, replace a text of its cells, and save.

    Raises
    ------
    tornado.web.HTTPError
        If the server refuses to open or to save it.
    """
    manager = Manager()
    manager.root_dir = str(root)
    name = pair.relative_to(root).as_posix()
    model = manager.get(name)
    for cell in model["content"]["cells"] if old else ():
        cell["source"] = cell["source"].replace(old, new)
    manager.save(model, name)


def make_newer(path: Path, than: Path) -> None:
    """Set the time of a file to a minute after that of another."""
    later = than.stat().st_mtime + 60
    os.utime(path, (later, later))


def opens_and_saves(root: Path, script: Path, old: str, new: str) -> None:
    """The pair opens whichever of its files is newer, and a save changes the script by the edit alone."""
    before, pair = script.read_text(encoding="utf-8"), script.with_suffix(".ipynb")
    for place in (root, script.parent):  # where the server was started
        for newer, older in ((pair, script), (script, pair)):
            make_newer(newer, older)
            open_and_save(place, pair)
            assert script.read_text(encoding="utf-8") == before
    make_newer(pair, script)
    open_and_save(root, pair, old, new)
    assert script.read_text(encoding="utf-8") == before.replace(old, new) != before

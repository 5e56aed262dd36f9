"""Two small projects on disk and the means to run the command line in them.

`TINY` has one chapter with two notebooks and a ledger with every verdict; `LIGHT` has two notebooks that
import nothing, wait while a file ``block`` stands beside them, and fail when asked to divide by zero.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from eventbook.companion import cli

REPOSITORY = Path(__file__).parents[2]

HEADER = """\
# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

"""

ONE = """\
# %% [markdown]
# # One
#
# A value cited in the text: {glue:text}`half:.2f`.

# %% tags=["parameters"]
numerator: float = 1.0  # the number above the line
steps: int = 3  # how often to add it
name: str = "plain"  # a label
flags: list[int] = [1, 2]  # two flags

# %%
from eventbook.companion.notebook import keep, record

assert steps > 0, "expected steps"
half = steps * numerator / 6
record(half=half, count=steps)
keep(curve=[numerator, 2 * numerator])

# %%
import os
import warnings

print("printed", name)
print(hash("a"), os.environ["OMP_NUM_THREADS"])
warnings.warn("a warning", stacklevel=1)

# %% mystnb={"figure": {"caption": "A line", "name": "fig-line"}, "image": {"alt": "a line"}}
import matplotlib.pyplot as plt

figure, axis = plt.subplots(figsize=(2, 1))
axis.plot([0, numerator])
plt.show()
"""

TWO = """\
# %% [markdown]
# # Two

# %% tags=["parameters"]
offset: int = 0  # added to the sum

# %%
from eventbook.companion.notebook import record

assert offset < 9, "expected less"
record(total=2 + 2 + offset)
"""

LEDGER = """\
paper: doe2020
claims:
  - id: tiny-half
    statement: Half is a half.
    where: abstract
    kind: numeric
    paper_value: "0.5"
    source: abstract
    key: half
    relation: in
    threshold: [0.49, 0.51]
    profile: quick
    expected: reproduced
  - id: tiny-total
    statement: The sum is what it is.
    where: derived
    kind: exact
    source: derived
    key: total
    relation: "=="
    threshold: 4
    profile: quick
    expected: reproduced
  - id: tiny-trend
    statement: There are steps.
    where: abstract
    kind: trend
    source: abstract
    key: count
    relation: ">"
    threshold: 0
    scale: three steps instead of a million
    profile: quick
    expected: trend reproduced
  - id: tiny-differs
    statement: There are many steps.
    where: abstract
    kind: numeric
    paper_value: ">= 10"
    source: abstract
    key: count
    relation: ">="
    threshold: 10
    profile: quick
    expected: differs
    reason: three are enough here
    measured_within: [2, 4]
  - id: tiny-absent
    statement: It also flies.
    where: abstract
    kind: qualitative
    source: abstract
    expected: not attempted
    reason: no wings
"""

CONFIG = """\
title: tiny
author: nobody
execute:
  execute_notebooks: 'off'
only_build_toc_files: true
exclude_patterns: [forks, _build, README.md]
bibtex_bibfiles: [book/references.bib]
parse:
  myst_enable_extensions: [colon_fence, dollarmath]
"""

BIBLIOGRAPHY = """\
@article{doe2020, title={Half}, author={Doe, Jane and Roe, Richard}, journal={J}, year={2020},
  eprint={2001.00001}}
"""

COMMON = {
    "_config.yml": CONFIG,
    "README.md": "# tiny\n\n<!-- chapters:begin -->\n<!-- chapters:end -->\n",
    "requirements.lock": "nothing==1.0\n",
    "data/manifest.yml": "version: 1\ndatasets: {}\n",
    "book/introduction.md": "# Tiny\n\n```{include} _generated/claims_overview.md\n```\n",
    "book/references.bib": BIBLIOGRAPHY,
    "book/_static/style.css": "",
    "jupytext.toml": (REPOSITORY / "jupytext.toml").read_text(encoding="utf-8"),
    "Snakefile": (REPOSITORY / "Snakefile").read_text(encoding="utf-8"),
}

BY_HAND = [sys.executable, "-m", "snakemake", "--cores", "1"]
TOC = """\
format: jb-book
root: book/introduction
chapters:
- file: notebooks/{slug}/index
  sections:
  - file: notebooks/{slug}/{first}
  - file: notebooks/{slug}/{second}
"""

TINY = {
    **COMMON,
    "_toc.yml": TOC.format(slug="tiny", first="one", second="two"),
    "notebooks/tiny/index.md": "# Tiny things\n\n```{include} ../../book/_generated/claims_tiny.md\n```\n",
    "notebooks/tiny/one.py": HEADER + ONE,
    "notebooks/tiny/two.py": HEADER + TWO,
    "notebooks/tiny/claims.yml": LEDGER,
    "notebooks/tiny/full.yml": "offset: 0\n",
}

LIGHT = {
    **COMMON,
    "_toc.yml": TOC.format(slug="light", first="first", second="second"),
    "notebooks/light/index.md": "# Light\n",
    "notebooks/light/first.py": f"""\
{HEADER}# %% tags=["parameters"]
value: int = 1  # what ten is divided by

# %%
import time
from pathlib import Path

while Path("block").exists():
    time.sleep(0.05)

# %%
print(10 // value)
""",
    "notebooks/light/second.py": f"{HEADER}# %%\nprint('second')\n",
    "notebooks/light/claims.yml": LEDGER.split("  - id: tiny-half")[0]
    + "  - id: tiny-absent"
    + LEDGER.split("  - id: tiny-absent")[1],
    "notebooks/light/full.yml": "value: 2\n",
}


def write_project(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def edit(path: Path, old: str, new: str) -> None:
    """Replace the one place where `old` stands."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def snapshot(root: Path, *without: str) -> dict[str, bytes]:
    """Content of every file below `root`, by relative path, some folders left out."""
    return {
        inside.as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and (inside := path.relative_to(root)).parts[0] not in without
    }


def environment(**extra: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("EVENTBOOK_")}
    return {**clean, **extra}


def eventbook(root: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Call the command line in a process of its own, as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "eventbook.companion", *arguments],
        cwd=root,
        env=environment(**extra),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=300,
    )


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command line and go on; it hears interrupts even if the tests run where they are ignored."""
    return subprocess.Popen(
        [sys.executable, "-m", "eventbook.companion", *arguments],
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@dataclass(frozen=True)
class Called:
    """What a command line call in this process did."""

    status: int
    out: str
    err: str


def call(*arguments: str) -> Called:
    """Call the command line in this process, in the working directory; only what starts no kernel is fast."""
    out, err, status, before = io.StringIO(), io.StringIO(), 0, sys.argv
    sys.argv = ["eventbook", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        sys.argv = before
    return Called(status, out.getvalue(), err.getvalue())


def wait_until(happened: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def kernels_of(pid: int) -> list[psutil.Process]:
    """Kernels below a process; other children may end while this looks at them."""

    def is_kernel(child: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return "ipykernel_launcher" in " ".join(child.cmdline())
        return False

    with contextlib.suppress(psutil.Error):
        return [child for child in psutil.Process(pid).children(recursive=True) if is_kernel(child)]
    return []


def copy_project(tree: Path, root: Path) -> Path:
    shutil.copytree(tree, root, symlinks=True)
    return root

"""``python -m eventbook.datasets list | get | verify``: what ``eventbook data`` runs; needs the core alone.

Exit status: 0 all is well; 1 a file differs from the manifest; 2 bad input, or a download failed; 130
interrupted.
"""

import argparse
import sys
from collections.abc import Sequence

from eventbook.datasets.storage.download import fetch
from eventbook.datasets.storage.errors import DataError
from eventbook.datasets.storage.manifest import checkout, read_manifest
from eventbook.datasets.storage.store import list_datasets, verify
from eventbook.datasets.storage.unpacking import unpack


def main(arguments: Sequence[str] | None = None, program: str = "python -m eventbook.datasets") -> int:
    """Run one of the commands and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after the program's name; those of this process when left out.
    program : str
        What the help calls it.
    """
    parser = argparse.ArgumentParser(program, description="List, fetch and verify the data sets.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="where each comes from, its licence, whether it is on this machine")
    get = commands.add_parser(
        "get",
        help="fetch a data set that is not here, or unpack one that is vendored",
        description="Downloads go on where they broke off, are checked against the manifest, and appear "
        "under their name only when complete.",
    )
    get.add_argument("name", help="name of the data set, as listed")
    check = commands.add_parser("verify", help="check every file against its sha256 in the manifest")
    check.add_argument("names", nargs="*", help="data sets; by default all")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "list":
            return _list()
        if asked.command == "get":
            return _get(asked.name)
        return _verify(asked.names)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was downloaded is kept, the next call goes on from there", file=sys.stderr)
        return 130


def _list() -> int:
    """One line per data set, its columns aligned on a terminal and separated by tabs elsewhere."""
    rows = [("name", "kind", "size", "here", "licence", "source")] if sys.stdout.isatty() else []
    rows += [
        (
            info.name,
            info.kind,
            f"{info.bytes / 1e6:.1f} MB" if info.bytes else "",
            "yes" if info.available else "no",
            info.licence,
            info.source,
        )
        for info in list_datasets()
    ]
    if sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        widths[-1] = 0  # the last column needs no blanks after it
        lines = ["  ".join(map(str.ljust, row, widths)) for row in rows]
    else:
        lines = ["\t".join(row) for row in rows]
    print("\n".join(lines))
    return 0


def _get(name: str) -> int:
    """Fetch; what is in the repository or in a package is there already, and only unpacked or named."""
    dataset = read_manifest()[name]
    if dataset.kind == "package":
        (status,) = verify([name])
        print(f"{name}: {status.detail}")
        return 0 if status.state == "ok" else 2
    if dataset.kind == "vendored" and checkout() is not None:
        if not any(file.gzipped for file in dataset.files):
            return _verify([name])
        paths = unpack(name)
    else:
        paths = fetch(name, _progress if sys.stderr.isatty() else None)
    for path in paths:
        print(f"ready: {path}")
    return 0


def _progress(path: str, held: int, total: int | None) -> None:
    """Rewrite one line of the terminal; the line ends with the file."""
    share = f" of {total / 1e6:.1f} MB, {held / total:.0%}" if total else " MB"
    print(
        f"\r{path}: {held / 1e6:.1f}{share}", end="\n" if held == total else "", file=sys.stderr, flush=True
    )


def _verify(names: Sequence[str]) -> int:
    """One line per file, separated by tabs."""
    rows = verify(names or None)
    for row in rows:
        print(f"{row.state}\t{row.dataset}\t{row.path}\t{row.detail}")
    return 1 if any(row.state == "corrupt" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

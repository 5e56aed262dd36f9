"""The program ``eventbook``, also ``python -m eventbook.companion``.

Its commands need the extra ``book``. ``eventbook data`` needs the core alone, and without the extra
everything else is one line that says how to install it.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line, or what of it this installation has."""
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run() -> None:
    if sys.argv[1:2] == ["data"]:
        from ..datasets.__main__ import main as data_sets

        sys.exit(data_sets(sys.argv[2:], "eventbook data"))
    try:
        from .cli import main as command_line

        command_line()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "eventbook":
            raise  # a fault of ours
        sys.stderr.write(
            f"error: expected the package that holds {error.name}, found none: this needs the machinery "
            "of the book, pip install 'eventbook[book]' ('eventbook data' works without it)\n"
        )
        sys.exit(2)


if __name__ == "__main__":
    main()

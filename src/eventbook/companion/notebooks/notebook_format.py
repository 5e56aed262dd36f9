"""nbformat and Jupytext, without the second that one of their dependencies takes to start.

nbformat imports jsonschema, which imports rfc3987_syntax if that is there, which compiles 38 grammars. They
serve to check internationalised addresses, which no notebook schema asks for. jsonschema goes without them
where the package is absent, so it is made absent while these two are imported: 1.2 s less per command.
"""

# ruff: noqa: E402 - the imports have to stand below what they need

import sys

_SLOW = "rfc3987_syntax"
_masked = _SLOW not in sys.modules
if _masked:
    sys.modules[_SLOW] = None  # type: ignore[assignment]

import jupytext
import nbformat
from nbformat import NotebookNode

if _masked:
    del sys.modules[_SLOW]

__all__ = ["NotebookNode", "jupytext", "nbformat"]

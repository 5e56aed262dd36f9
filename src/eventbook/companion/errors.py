"""The one exception whose text is meant for the person at the keyboard."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input or a broken file: the message says what was expected and what came.

    The command line prints the message without a traceback and exits with status 2.
    """

"""``python -m eventbook.companion`` is the command line."""

from .cli import main

main()

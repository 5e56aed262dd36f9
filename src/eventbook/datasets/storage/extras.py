"""Packages that only the originals need: asked for when used, and named in one line when missing.

The core installs without them. Whoever wants an original installs ``eventbook[originals]``.
"""

from importlib import import_module
from types import ModuleType

from eventbook.datasets.storage.errors import DataError


def extra_module(name: str, extra: str) -> ModuleType:
    """Import a module of a package that an optional extra brings.

    Parameters
    ----------
    name : str
        Dotted name, such as ``"h5py"``.
    extra : str
        Name of the extra in ``pyproject.toml``, such as ``"originals"``.

    Raises
    ------
    DataError
        If the module, or one that it needs, is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        raise DataError(
            f"expected the package that holds {missing}, found none: pip install 'eventbook[{extra}]'"
        ) from error

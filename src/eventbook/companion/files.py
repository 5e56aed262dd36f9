"""Writing files so that a crash, a full disk or a kill leaves either the old content or the new one."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import UserError


def write_atomically(path: Path, content: str | bytes) -> bool:
    """Write `content` to `path` through a temporary name in the same folder.

    Returns
    -------
    bool
        False if the file already held exactly this content and was left alone, so that its time of
        modification keeps meaning "content changed".

    Raises
    ------
    UserError
        If the folder cannot be written or the disk is full. The old file, if any, is intact.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.is_file() and path.read_bytes() == data:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return True


def write_json(path: Path, value: Any) -> bool:
    """Write `value` as indented JSON with a final newline; see `write_atomically`."""
    return write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a damaged one is a `UserError` that names the file and the place."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"expected a file {path}, found none") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected JSON, got something else ({error})") from error


def sha256(parts: Iterable[str | bytes]) -> str:
    """Hex digest of a sequence of parts; the lengths enter too, so that parts cannot run into each other."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()

"""Profiles: ``quick`` is the notebooks' own defaults, ``full`` the overrides of the chapter's full.yml."""

from __future__ import annotations

from typing import Any

from ..errors import UserError
from ..project import Chapter
from ..yaml_lines import load_yaml

PROFILES = ("quick", "full")


def profile_overrides(chapter: Chapter, profile: str) -> dict[str, Any]:
    """Parameter overrides of a profile, by name.

    Raises
    ------
    UserError
        If the profile is unknown, or ``full.yml`` is missing or not a mapping.
    """
    if profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}; expected one of {', '.join(PROFILES)}")
    if profile == "quick":
        return {}
    path = chapter.folder / "full.yml"
    if not path.is_file():
        raise UserError(f"expected the full profile of {chapter.label} in {path}, found none")
    values = load_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of parameter: value, got {type(values).__name__}")
    return values

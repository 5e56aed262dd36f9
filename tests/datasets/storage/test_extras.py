"""What only originals need: imported, or named in one line with the extra that brings it."""

import math
import sys

import pytest

from eventbook.datasets import DataError
from eventbook.datasets.storage.extras import extra_module


def test_what_is_installed_is_imported():
    assert extra_module("math", "originals") is math


@pytest.mark.parametrize("name", ["nonesuch_one", "nonesuch_one.part"])
def test_what_is_missing_is_named_with_its_extra(name):
    with pytest.raises(DataError) as error:
        extra_module(name, "originals")
    assert str(error.value) == (
        "expected the package that holds nonesuch_one, found none: pip install 'eventbook[originals]'"
    )


def test_what_it_needs_itself_is_named(tmp_path, monkeypatch):
    (tmp_path / "needy_module.py").write_text("import nonesuch_two.inner\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="the package that holds nonesuch_two,"):
        extra_module("needy_module", "originals")
    assert "needy_module" not in sys.modules

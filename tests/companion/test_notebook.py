"""What notebooks use: recording numbers, with the claims they decide."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbook.companion import notebook
from eventbook.companion.errors import UserError
from eventbook.companion.ledger.ledger import read_ledger
from eventbook.companion.notebook import (
    _cited,
    _judged,
    _number,
    _source,
    _stable,
    bound,
    checkpoint,
    generator,
    keep,
    listed,
    parameters_of,
    record_or_recall,
    recorded,
    show_body,
    show_code,
)
from eventbook.companion.project import Project


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (1, 1),
        (0.5, 0.5),
        (True, True),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([2.0]), 2.0),
    ],
)
def test_numbers_of_any_library_are_plain_numbers(value: Any, plain: Any) -> None:
    found = _number("key", value)
    assert found == plain
    assert type(found) is type(plain)


@pytest.mark.parametrize("value", [np.zeros(2), "0.5", None, [1], 1j])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"record\(key=\.\.\.\): expected"):
        _number("key", value)


def test_torch_tensors_of_one_number(tiny: Project) -> None:
    torch = pytest.importorskip("torch")
    assert _number("key", torch.tensor(0.5)) == 0.5
    with pytest.raises(UserError, match="expected one number, got Tensor"):
        _number("key", torch.zeros(2))


def test_a_line_shows_condition_and_verdict_of_every_claim(tiny: Project) -> None:
    claims = [c for c in read_ledger(tiny.chapter("tiny").ledger_path).claims if c.key == "count"]
    line = _judged("count", 3, claims)
    assert 'id="count"' in line
    assert "tiny-trend: &gt; 0" in line
    assert 'verdict-trend">trend reproduced' in line
    assert "tiny-differs: &gt;= 10" in line
    assert 'verdict-differs">differs' in line


def test_a_claim_about_the_full_run_judges_no_shorter_one(tiny: Project) -> None:
    claims = [c for c in read_ledger(tiny.chapter("tiny").ledger_path).claims if c.key == "count"]
    claims = [c.model_copy(update={"profile": "full"}) for c in claims]
    quick, full = (_judged("count", 3, claims, of_full=of_full) for of_full in (False, True))
    assert "judged in the full run" in quick
    assert "verdict-" not in quick
    assert 'verdict-trend">trend reproduced' in full


def test_a_value_without_a_claim_is_shown_plainly() -> None:
    assert "claim" not in _cited("unknown", 3)
    assert "0.3333" in _cited("unknown", 1 / 3)
    assert "1,234,567" in _cited("unknown", 1_234_567)
    assert "True" in _cited("unknown", True)


@pytest.mark.parametrize("data", [float("nan"), {1, 2}, np.zeros(2)])
def test_only_plain_data_is_kept(data: Any) -> None:
    with pytest.raises(UserError, match=r"keep\(curve=\.\.\.\): expected plain JSON data"):
        keep(curve=data)


def test_recorded_full_results(tiny: Project) -> None:
    assert recorded("tiny") == {}
    path = tiny.recorded("tiny")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"values": {"half": {"value": 0.5, "notebook": "one", "cell": 3}}}))
    assert recorded("tiny") == {"half": 0.5}


def test_what_is_recalled_was_not_measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(notebook, "record", lambda **values: said.append(values))
    full = {"half": 0.5, "other": 1}
    record_or_recall(full, True, half=0.25, unknown=2)
    record_or_recall(full, False, half=0.25, unknown=2)
    record_or_recall({}, False, half=0.25)
    assert said == [{"half": 0.25, "unknown": 2}, {"measured": False, "half": 0.5}]


@dataclass(frozen=True)
class _Recipe:
    rate: float


def test_checkpoints_are_of_one_training_in_the_full_profile(
    tiny: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkpoint("net", recipe=_Recipe(0.1), seed=0) is None
    monkeypatch.setenv("EVENTBOOK_PROFILE", "full")
    first = checkpoint("net", recipe=_Recipe(0.1), seed=0)
    assert first is not None
    assert first.is_relative_to(tiny.build / "checkpoints")
    assert first == checkpoint("net", seed=0, recipe=_Recipe(0.1))
    assert len({first, *(checkpoint("net", recipe=_Recipe(r), seed=s) for r, s in ((0.2, 0), (0.1, 1)))}) == 3
    monkeypatch.chdir(tiny.root / "notebooks")  # another chapter, for all that is known here
    assert checkpoint("net", recipe=_Recipe(0.1), seed=0) != first
    common = checkpoint("net", shared=True, recipe=_Recipe(0.1), seed=0)
    monkeypatch.chdir(tiny.root)
    assert common == checkpoint("net", shared=True, recipe=_Recipe(0.1), seed=0)
    assert common != first


def test_a_notebook_does_not_load_what_only_the_command_line_needs() -> None:
    heavy = {"nbformat", "papermill", "jupytext", "typer", "rich", "torch"}
    code = f"import sys, eventbook.companion.notebook; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 1e-12),
        (9.02e-17, 1e-12),
        (8.3e-17, 1e-12),
        (1e-12, 1e-12),
        (1.1e-12, 1e-11),
        (np.float64(2e-5), 1e-4),
        (1e-3, 1e-3),
        (1, 1.0),
        (1.5, 10.0),
        (np.inf, np.inf),
    ],
)
def test_bounds_are_powers_of_ten(value: Any, expected: float) -> None:
    assert bound(value) == expected
    assert bound(value, floor=1e-20) >= value


def test_a_bound_hides_no_failure_and_no_nonsense() -> None:
    assert np.isnan(bound(float("nan")))
    assert bound(3e-17, floor=1e-18) == 1e-16
    for value, floor in ((-1e-9, 1e-12), (1.0, 0.0), (1.0, -1.0), ("1", 1e-12)):
        with pytest.raises(UserError, match=r"bound"):
            bound(value, floor)


@given(st.floats(1e-300, 1e300))
def test_a_bound_is_the_next_power_of_ten(value: float) -> None:
    found = bound(value, floor=1e-320)
    assert value <= found < 10 * value * (1 + 1e-15)
    assert found == float(f"1e{round(np.log10(found))}")


def test_recorded_floats_keep_twelve_digits() -> None:
    assert _stable(0.1 + 0.2) == 0.3
    assert _stable({"a": [1 / 3, (2 / 3, 7)], "b": True}) == {
        "a": [0.333333333333, [0.666666666667, 7]],
        "b": True,
    }
    assert _stable(123456789012345) == 123456789012345, "an integer is exact"


def passed_on(function: Any) -> Any:
    return functools.wraps(function)(lambda *arguments: function(*arguments))


@passed_on
@passed_on
def doubled(number: int) -> int:
    """Twice as much."""
    return 2 * number


class Compiled:
    """As Numba's dispatchers: the function as it was written is an attribute."""

    py_func = staticmethod(doubled)


@dataclass
class Pair:
    one: int


def test_code_is_shown_as_it_is_written() -> None:
    function = 'def doubled(number: int) -> int:\n    """Twice as much."""\n    return 2 * number'
    assert _source(doubled) == _source(Compiled) == function
    assert _source(Pair) == "@dataclass\nclass Pair:\n    one: int"
    assert _source(Local().method) == "def method(self) -> None:\n    pass"


class Local:
    def method(self) -> None:
        pass


def _halved(x: float) -> float:
    """Half of it.

    More of the docstring.
    """
    x /= 2  # in two
    return x


def _bare(x: float) -> float:
    return x


def test_code_is_one_block_and_a_body_has_no_signature_and_no_docstring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("IPython.display.display", lambda what: shown.append(what.data))
    show_code(_bare, Pair)
    bare = "def _bare(x: float) -> float:\n    return x"
    assert shown.pop() == f"```python\n{bare}\n\n@dataclass\nclass Pair:\n    one: int\n```"
    show_body(_halved, _bare)
    assert shown == ["```python\n# _halved\nx /= 2  # in two\nreturn x\n\n# _bare\nreturn x\n```"]


@pytest.mark.parametrize(
    ("runs", "form", "words"),
    [
        ([], ".1f", "none"),
        ([0.26], ".1f", "0.3"),
        ([1, 2.5], ".1f", "1.8 (1.0, 2.5)"),
        (np.array([0.5, 1.0, 0.0]), ".0%", "50% (50%, 100%, 0%)"),
        (np.array([]), ".3g", "none"),
        ((run for run in (1.0, 1.0)), ".3g", "1 (1, 1)"),
    ],
)
def test_runs_are_listed_behind_their_mean(runs: Any, form: str, words: str) -> None:
    assert listed(runs, form) == words


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=5))
def test_the_mean_of_listed_runs_is_their_mean(runs: list[float]) -> None:
    mean, _, each = listed(runs, ".17g").partition(" (")
    assert float(mean) == pytest.approx(np.mean(runs), rel=1e-12, abs=1e-9)
    assert [float(run) for run in each.rstrip(")").split(", ")] == runs


@pytest.mark.parametrize(("runs", "form"), [(["a"], ".1f"), ([1.0], "x"), ([np.zeros(2)], ".1f")])
def test_what_is_no_number_is_not_listed(runs: Any, form: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        listed(runs, form)


def test_a_generator_has_random_numbers_of_its_own() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_rng_state()
    draws = [torch.rand(4, generator=generator(seed)).tolist() for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_parameters_are_counted_once_and_buffers_are_not() -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 4)
    model = torch.nn.Sequential(layer, torch.nn.BatchNorm1d(4), layer)  # running means are learnt by nobody
    assert parameters_of(model) == 3 * 4 + 4 + 2 * 4
    assert parameters_of(torch.nn.Tanh()) == 0

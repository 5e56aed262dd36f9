"""What networks over events are given: sizes, every kind of bad batch, and nothing looked at in a graph."""

from __future__ import annotations

import pytest
import torch
from bad_events import AND_EMPTY_ROWS, BAD_EVENTS, LENGTHS, TOKENS, assert_refused, good_events, spoilt

from eventbook.models.event_input import check_events, check_layout, check_rows, check_times


@pytest.mark.parametrize(("name", "change", "error", "message"), AND_EMPTY_ROWS)
def test_bad_events_get_one_clear_line(name, change, error, message):
    def take(**events):
        assert check_events(**events, rows=TOKENS + 1, least=1) == {"batch": 2, "time": LENGTHS[0]}

    assert_refused(take, name, change, error, message)


def is_of_values(message: str) -> bool:
    return message.startswith(("token must be in 0", "gap must be >=", "gap must be <="))


@pytest.mark.parametrize(("name", "change", "error", "message"), BAD_EVENTS)
def test_a_layout_is_everything_but_values(name, change, error, message):
    if is_of_values(message):
        good = good_events()
        assert check_layout(**{**good, name: change(good[name])}) == {"batch": 2, "time": LENGTHS[0]}
    else:
        assert_refused(check_layout, name, change, error, message)


def test_rows_may_be_empty_unless_events_are_asked_for():
    events = good_events() | {"lengths": torch.tensor([9, 0])}
    check_layout(**events)
    with pytest.raises(ValueError, match=r"lengths\[1\] must be in 2..9 \(time\), got 0"):
        check_layout(**events, least=2)


def test_without_lengths_nothing_is_padding():
    events = good_events()
    del events["lengths"]
    assert check_events(**events, rows=TOKENS + 1, least=1) == {"batch": 2, "time": LENGTHS[0]}
    with pytest.raises(ValueError, match=r"token must be in 0..6, got 7 at \[1, 4\]"):
        check_events(**events, rows=TOKENS)


def test_a_batch_of_nothing_is_one():
    for shape in ((0, 3), (2, 0), (0, 0)):
        token, gap = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape)
        assert check_events(token, gap, rows=1) == dict(zip(("batch", "time"), shape, strict=True))


def test_a_graph_looks_at_layouts_alone():
    """Values are then the scans' to look at."""
    good = good_events()

    def traced(token, gap):
        check_rows(token, TOKENS + 1)
        check_times(gap)
        return check_layout(token, gap)["time"] * gap

    bad = spoilt(good["token"], 0, 0, 99), spoilt(good["gap"], 0, 0, -1.0)
    with pytest.raises(ValueError, match="token must be in"):
        traced(*bad)
    compiled = torch.compile(traced, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*bad), 9 * bad[1])

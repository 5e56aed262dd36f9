"""Every bad argument is one line that names it."""

import math

import pytest
import torch
from continuous_streams import problem

from eventbook.models.egru_continuous.arguments import MOST_STEPS, options
from eventbook.models.egru_continuous.function import egru_continuous

NAN = math.nan


def put(name, at, value):
    def change(p):
        p[name] = p[name].clone()
        p[name][at] = value

    return change


def give(**changes):
    return lambda p: p.update(changes)


def change(name, how):
    return lambda p: p.update({name: how(p[name])})


CASES = [
    (put("time", 3, -1.0), ValueError, r"time must be in 0..60 ms, the duration, got -1 at \[3\]"),
    (put("time", 3, 60.5), ValueError, r"time must be in 0..60 ms, the duration, got 60.5 at \[3\]"),
    (put("time", 3, NAN), ValueError, r"time must be finite, got nan at \[3\]"),
    (put("time", 5, 0.0), ValueError, r"time must not be earlier than the one before, got 0 at \[5\]"),
    (put("asked", 1, 40.0), ValueError, r"asked must not be earlier than the one before, got 33 at \[2\]"),
    (put("asked", 0, -0.1), ValueError, r"asked must be in 0..60 ms, the duration, got -0.1 at \[0\]"),
    (put("token", 2, 3), ValueError, r"token must be in 0..2, got 3 at \[2\]"),
    (put("token", 2, -1), ValueError, r"token must be in 0..2, got -1 at \[2\]"),
    (put("threshold", 1, 0.0), ValueError, r"threshold must be > 0, got 0 at \[1\]"),
    (put("threshold", 1, -0.5), ValueError, r"threshold must be > 0, got -0.5 at \[1\]"),
    (put("state", (0, 2), 0.5), ValueError, r"state must begin with c below the threshold, got 0.5 at \[2\]"),
    (put("state", (3, 1), math.inf), ValueError, r"state must be finite, got inf at \[3, 1\]"),
    (put("kernel", (1, 4), NAN), ValueError, r"kernel must be finite, got nan at \[1, 4\]"),
    (put("recurrent", (0, 0), NAN), ValueError, r"recurrent must be finite, got nan at \[0, 0\]"),
    (put("bias", 7, NAN), ValueError, r"bias must be finite, got nan at \[7\]"),
    (put("value", 0, NAN), ValueError, r"value must be finite, got nan at \[0\]"),
    (change("token", lambda x: x.int()), TypeError, "token must be int64, got int32"),
    (change("token", lambda x: x[1:]), ValueError, r"token must be \(event,\) = \(14,\), got \(13,\)"),
    (change("kernel", lambda x: x.float()), TypeError, "kernel must have the dtype of time, torch.float64"),
    (change("time", lambda x: x.float()), TypeError, "time must be float64, got float32"),
    (change("kernel", lambda x: x[:, 1:]), ValueError, r"kernel must be .* = \(tokens, 12\), got \(3, 11\)"),
    (change("recurrent", lambda x: x[:, 1:]), ValueError, "recurrent must have 3 columns per unit"),
    (change("state", lambda x: x[:3]), ValueError, r"state must be \(4, unit\), .* got \(3, 4\)"),
    (change("asked", lambda x: x.requires_grad_()), ValueError, "asked must not require a gradient"),
    *[
        (give(**{name: torch.tensor(8.0, requires_grad=True)}), ValueError, f"{name} must not require a grad")
        for name in ("duration", "tau_s", "tau_m", "step")
    ],
    (give(duration=0.0), ValueError, "duration must be > 0 and finite, got 0.0"),
    (give(duration=NAN), ValueError, "duration must be > 0 and finite, got nan"),
    (give(tau_s=-1.0), ValueError, "tau_s must be > 0 and finite, got -1.0"),
    (give(tau_m=math.inf), ValueError, "tau_m must be > 0 and finite, got inf"),
    (give(step=0.0), ValueError, "step must be > 0 and finite, got 0.0"),
    (give(step=1e-9), ValueError, "step must be at least duration / 1e\\+08, got 1e-09 for 60.0 ms"),
    (give(gate_of="both"), ValueError, "gate_of must be one of target, source, got 'both'"),
    (give(reset="none"), ValueError, "reset must be one of zero, threshold, got 'none'"),
    (give(payload="spike"), ValueError, "payload must be one of graded, unit, got 'spike'"),
    (give(max_events=-1), ValueError, "max_events must be >= 0, got -1"),
    (give(max_events=1.5), TypeError, "max_events must be a whole number, got 1.5"),
    (give(time=None), TypeError, "time must be a tensor, got NoneType"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "error", "message"), CASES, ids=[case[2][:45] for case in CASES])
def test_a_bad_argument_is_one_line(spoil, error, message):
    p = problem()
    spoil(p)
    with pytest.raises(error, match=message) as caught:
        egru_continuous(**p)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_is_filled_in():
    p = problem()
    for name in ("asked", "value", "state"):
        del p[name]
    run = egru_continuous(**p)
    units = len(p["threshold"])
    plain = {"value": torch.ones_like(p["time"]), "state": torch.zeros(4, units, dtype=torch.float64)}
    assert run.states.shape == (0, 4, units)
    assert torch.equal(run.last, egru_continuous(**p, **plain).last)


def test_no_stream_is_a_stream():
    p = problem()
    p.update(time=p["time"][:0], token=p["token"][:0], value=p["value"][:0])
    assert egru_continuous(**p).states.shape == (4, 4, 4)


def test_a_step_left_out_is_a_part_of_the_shorter_time_constant():
    words = ("target", "zero", "graded")
    assert options(1.0, *words, 8.0, 20.0, None, 1).step == 0.5
    assert options(1.0, *words, 8.0, 4.0, None, 1).step == 0.25
    assert options(float(MOST_STEPS), *words, 8.0, 4.0, 1.0, 1).step == 1.0

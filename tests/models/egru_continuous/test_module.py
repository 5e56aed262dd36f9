"""The layer: first values, training, and what it keeps."""

import pytest
import torch

from eventbook.models.egru_continuous.function import egru_continuous
from eventbook.models.egru_continuous.module import EGRUContinuous

F64 = {"dtype": torch.float64}
TIME, TOKEN = torch.linspace(1, 30, 12, **F64), torch.arange(12) % 2


def layer(seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return EGRUContinuous(2, 6, threshold=0.05, generator=generator, **options)


def test_it_is_the_function_with_its_parameters():
    made = layer(gate_of="source", payload="unit", tau_s=4.0)
    run = made(TIME, TOKEN, duration=40.0)
    its = egru_continuous(
        TIME, TOKEN, made.kernel, made.recurrent, made.bias, made.threshold, duration=40.0,
        gate_of="source", payload="unit", tau_s=4.0,
    )  # fmt: skip
    assert len(run.time) > 3
    assert all(torch.equal(a, b) for a, b in zip(run, its, strict=True))


def test_it_learns_when_to_speak():
    made = layer(payload="unit")
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02, foreach=True)
    errors = []
    for _ in range(60):
        run = made(TIME, TOKEN, duration=60.0)
        error = (run.time[0] - 11.0) ** 2
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert errors[0] > 1.0
    assert errors[-1] < 0.05 * errors[0]


def test_first_values_come_from_the_generator_alone():
    first = layer().state_dict()
    torch.rand(3)
    assert all(map(torch.equal, layer().state_dict().values(), first.values()))
    assert not torch.equal(layer(1).state_dict()["kernel"], first["kernel"])


def test_state_dicts_round_trip_and_thresholds_stay_positive():
    made, other = layer(), layer(1)
    other.load_state_dict(made.state_dict())
    runs = [one(TIME, TOKEN, duration=40.0) for one in (made, other)]
    assert torch.equal(runs[0].time, runs[1].time)
    with torch.no_grad():
        made.log_threshold -= 50
    assert bool((made.threshold > 0).all())
    assert "2, 6, gate_of=target" in repr(made)


@pytest.mark.parametrize(
    ("sizes", "options", "error", "message"),
    [
        ((0, 6), {}, ValueError, "n_tokens must be >= 1, got 0"),
        ((2, 0), {}, ValueError, "hidden_size must be >= 1, got 0"),
        ((2, 1.5), {}, TypeError, "hidden_size must be a whole number, got 1.5"),
        ((2, 6), {"threshold": 0.0}, ValueError, "threshold must be > 0 and finite, got 0.0"),
        ((2, 6), {"weight_scale": -1.0}, ValueError, "weight_scale must be > 0 and finite, got -1.0"),
        ((2, 6), {"tau_s": 0.0}, ValueError, "tau_s must be > 0 and finite, got 0.0"),
        ((2, 6), {"gate_of": "none"}, ValueError, "gate_of must be one of target, source, got 'none'"),
    ],
)
def test_bad_sizes_are_refused(sizes, options, error, message):
    with pytest.raises(error, match=message):
        EGRUContinuous(*sizes, **options)

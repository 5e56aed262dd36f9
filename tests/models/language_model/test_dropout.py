"""One mask for all steps of a sequence, another for each sequence; words leave wherever they stand."""

import torch

from eventbook.models.language_model.dropout import locked, without_words


def test_a_mask_lasts_for_a_sequence_and_is_its_own():
    torch.manual_seed(0)
    y = locked(torch.ones(64, 9, 50), 0.3)
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1.0) / torch.tensor(0.7))}
    assert not torch.equal(y[0], y[1])
    assert abs(float((y == 0).float().mean()) - 0.3) < 0.03  # 3,200 draws: 3.7 standard deviations
    assert abs(float(y.mean()) - 1) < 0.05


def test_whole_words_leave():
    torch.manual_seed(0)
    y = without_words(torch.ones(4_000, 3), 0.25)
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert abs(float((y[:, 0] == 0).float().mean()) - 0.25) < 0.03


def test_no_chance_changes_nothing_and_draws_nothing():
    x, before = torch.ones(2, 3, 4), torch.random.get_rng_state()
    assert locked(x, 0.0) is x
    assert without_words(x[0], 0.0).data_ptr() == x.data_ptr()
    assert torch.equal(torch.random.get_rng_state(), before)

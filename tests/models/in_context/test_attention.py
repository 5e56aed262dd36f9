"""One layer of linear self-attention is the same step."""

import pytest
import torch

from eventbook.models.in_context.attention import gradient_maps, linear_self_attention, paired_tokens
from eventbook.models.in_context.construction import construction, predict
from eventbook.models.in_context.tasks import scalar_tasks, vector_tasks


@pytest.mark.parametrize("make", [vector_tasks, scalar_tasks])
def test_attention_is_the_layer(make):
    tasks = make(30, context=7, features=4, generator=torch.Generator().manual_seed(0))
    outputs = tasks.y.shape[2]
    found = linear_self_attention(*paired_tokens(tasks), gradient_maps(4, outputs, 7, 3.0))
    same = predict(tasks.tokens(), construction(4, 7, 3.0))[:, -1, -outputs:]
    assert (found - same).abs().max() < 2e-6
    other = linear_self_attention(*paired_tokens(tasks), gradient_maps(4, outputs, 8, 3.0))
    assert (other - same).abs().max() > 1e-2  # negative control


def test_maps_of_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="context must be >= 1, got 0"):
        gradient_maps(4, 1, 0, 1.0)

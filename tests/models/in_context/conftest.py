"""What tests of in-context learning share."""

import pytest
import torch


@pytest.fixture
def double():
    """Double precision unless said otherwise, for exact checks."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)

"""What a kernel is told, so that its numbers come out alike on another processor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eventbook.companion.execution.execute import kernel_environment
from eventbook.companion.execution.hardware import common_instructions

# Products, sums and elementary functions over many steps: what training is made of.
TRAINING = """
import hashlib, torch
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
x = torch.randn(257, 67, generator=generator)
w = torch.randn(67, 67, generator=generator).mul(0.1).requires_grad_()
for _ in range(30):
    y = torch.nn.functional.layer_norm(torch.nn.functional.gelu(x @ w), (67,))
    (gradient,) = torch.autograd.grad((y * x).sum() + y.square().mean(), w)
    w = (w - 0.003 * gradient).detach().requires_grad_()
print(hashlib.sha256(w.detach().numpy().tobytes()).hexdigest())
"""
OLDER = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def bits(**variables: str) -> str:
    own = {name: value for name, value in os.environ.items() if name not in {"MKL_CBWR", *OLDER}}
    command = [sys.executable, "-c", TRAINING]
    return subprocess.run(
        command, env={**own, **variables}, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="no AVX2 to keep to"
)
def test_training_rounds_alike_with_and_without_newer_instructions() -> None:
    assert bits(**common_instructions()) == bits(**{**common_instructions(), **OLDER})


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="nothing newer than AVX2 here"
)
def test_control_without_them_it_does_not() -> None:
    assert len({bits(), bits(**common_instructions())}) == 2


def test_the_full_profile_runs_as_fast_as_it_can(tmp_path: Path) -> None:
    quick, full = (kernel_environment(tmp_path, profile) for profile in ("quick", "full"))
    assert set(common_instructions()) <= set(quick)
    assert not set(common_instructions()) & set(full)
    assert (quick["EVENTBOOK_PROFILE"], full["EVENTBOOK_PROFILE"]) == ("quick", "full")

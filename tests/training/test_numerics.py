"""Which precision networks run in, and where it is refused."""

from __future__ import annotations

import pytest
import torch

from medgan.adversarial.penalties import squared_gradient
from medgan.errors import MedganError
from medgan.recipe_files import parse_recipe
from medgan.training.numerics import Mode, Precision, autocast_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("mode", "precision", "able", "expected"),
    [
        ("fast", "auto", True, torch.bfloat16),
        ("fast", "auto", False, None),
        ("exact", "auto", True, None),
        ("fast", "float32", True, None),
        ("exact", "bfloat16", True, torch.bfloat16),
    ],
)
def test_half_precision_where_it_is_wanted_and_computed(
    mode: Mode, precision: Precision, able: bool, expected: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able or including_emulation)
    assert autocast_dtype(GPU, mode, precision) is expected


def test_emulated_half_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    with pytest.raises(MedganError, match=r"bfloat16, but this training runs on cuda: the device does not compute it"):
        autocast_dtype(GPU, "fast", "bfloat16")


def test_a_cpu_never_trains_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert autocast_dtype(CPU, "fast", "auto") is None
    with pytest.raises(MedganError, match=r"bfloat16, but this training runs on cpu: gradients of 3D convolutions"):
        autocast_dtype(CPU, "fast", "bfloat16")


def test_unknown_precisions_are_refused() -> None:
    with pytest.raises(MedganError, match=r"training\.precision"):
        parse_recipe({"task": "synthesis", "training": {"precision": "float16"}}, source="recipe.yaml")


def test_exact_penalties_stay_in_single_precision() -> None:
    seen = []

    class Critic(torch.nn.Conv3d):
        def forward(self, volumes: torch.Tensor) -> torch.Tensor:
            made = super().forward(volumes)
            seen.append(made.dtype)
            return made

    torch.manual_seed(0)
    critic, volumes = Critic(1, 1, 3), torch.randn(2, 1, 4, 4, 4)
    expected = squared_gradient(critic, volumes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        critic(volumes)
        found = squared_gradient(critic, volumes)
    assert seen == [torch.float32, torch.bfloat16, torch.float32]
    assert torch.equal(found, expected)

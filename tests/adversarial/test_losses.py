"""Losses against the formulas of their papers, written out with log and sigmoid."""

from __future__ import annotations

import pytest
import torch

from medgan.adversarial.losses import LOSSES

REAL = torch.tensor([[0.3], [-1.2], [2.0]], dtype=torch.float64)
FAKE = torch.tensor([[-0.7], [0.4], [1.5]], dtype=torch.float64)


def _log_sigmoid(x: torch.Tensor) -> torch.Tensor:
    return torch.log(1 / (1 + torch.exp(-x)))


EXPECTED = {
    "saturating": (
        -(_log_sigmoid(REAL) + torch.log(1 - torch.sigmoid(FAKE))).mean(),
        torch.log(1 - torch.sigmoid(FAKE)).mean(),
    ),
    "non_saturating": (
        -(_log_sigmoid(REAL) + torch.log(1 - torch.sigmoid(FAKE))).mean(),
        -_log_sigmoid(FAKE).mean(),
    ),
    "least_squares": ((0.5 * (REAL - 1) ** 2 + 0.5 * FAKE**2).mean(), (0.5 * (FAKE - 1) ** 2).mean()),
    "hinge": ((torch.clamp(1 - REAL, min=0) + torch.clamp(1 + FAKE, min=0)).mean(), -FAKE.mean()),
    "wasserstein": ((FAKE - REAL).mean(), -FAKE.mean()),
    "relativistic": (-_log_sigmoid(REAL - FAKE).mean(), -_log_sigmoid(FAKE - REAL).mean()),
}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_both_sides_equal_the_published_formula(name: str) -> None:
    discriminator, generator = EXPECTED[name]
    torch.testing.assert_close(LOSSES[name].discriminator(REAL, FAKE), discriminator)
    torch.testing.assert_close(LOSSES[name].generator(REAL, FAKE), generator)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_each_side_pulls_its_own_way(name: str) -> None:
    """Better fakes lower the generator's loss; a better separation lowers the discriminator's."""
    loss = LOSSES[name]
    scale = torch.tensor([[0.4]])
    assert loss.generator(scale, scale) < loss.generator(scale, scale - 0.5)
    assert loss.discriminator(scale + 0.2, scale - 0.2) < loss.discriminator(scale - 0.2, scale + 0.2)


def test_only_the_relativistic_generator_needs_real_logits() -> None:
    for name, loss in LOSSES.items():
        depends = not torch.equal(loss.generator(REAL, FAKE), loss.generator(REAL + 1, FAKE))
        assert depends == loss.needs_real, name

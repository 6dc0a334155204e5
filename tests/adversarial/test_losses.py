"""Losses against the formulas of their papers, written out with log and sigmoid."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import binary_cross_entropy_with_logits

from medgan.adversarial.losses import LOSSES, smoothed_discriminator
from medgan.recipe import SynthesisOptions

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
    "relativistic_average": (
        -(_log_sigmoid(REAL - FAKE.mean()) + torch.log(1 - torch.sigmoid(FAKE - REAL.mean()))).mean(),
        -(_log_sigmoid(FAKE - REAL.mean()) + torch.log(1 - torch.sigmoid(REAL - FAKE.mean()))).mean(),
    ),
}
# Worked out on paper for the logits 1 and -1 of real and 0 and 2 of generated volumes.
BY_HAND = {
    "saturating": (2.2232993, -1.4100376),
    "non_saturating": (2.2232993, 0.4100376),
    "least_squares": (2.0, 0.5),
    "hinge": (3.0, -1.0),
    "wasserstein": (1.0, -1.0),
    "relativistic": (1.6809245, 0.6809245),
    "relativistic_average": (2.8200752, 0.8200752),
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


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_values_worked_out_by_hand(name: str) -> None:
    real, generated = torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.0], [2.0]])
    loss = LOSSES[name]
    assert loss.discriminator(real, generated).item() == pytest.approx(BY_HAND[name][0], abs=1e-6)
    assert loss.generator(real, generated).item() == pytest.approx(BY_HAND[name][1], abs=1e-6)


@pytest.mark.parametrize("name", ["relativistic", "relativistic_average", "wasserstein"])
def test_losses_without_a_boundary_are_blind_to_a_common_constant(name: str) -> None:
    loss = LOSSES[name]
    assert loss.boundary is None
    torch.testing.assert_close(loss.discriminator(REAL + 3, FAKE + 3), loss.discriminator(REAL, FAKE))


@pytest.mark.parametrize("name", ["saturating", "non_saturating", "least_squares", "hinge"])
def test_at_the_boundary_both_sides_pull_the_discriminator_alike(name: str) -> None:
    """One volume that is as often real as generated is best given the boundary as its logit."""
    loss = LOSSES[name]
    assert loss.boundary is not None
    logit = torch.tensor([loss.boundary], requires_grad=True)
    loss.discriminator(logit, logit).backward()
    assert logit.grad is not None
    assert logit.grad.item() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("name", ["saturating", "non_saturating"])
def test_smoothed_logistic_loss_is_cross_entropy_with_that_label(name: str) -> None:
    expected = binary_cross_entropy_with_logits(REAL, torch.full_like(REAL, 0.9)) + binary_cross_entropy_with_logits(
        FAKE, torch.zeros_like(FAKE)
    )
    torch.testing.assert_close(smoothed_discriminator(name, 0.1)(REAL, FAKE), expected)


def test_smoothed_least_squares_aims_at_that_label() -> None:
    expected = 0.5 * ((REAL - 0.8) ** 2).mean() + 0.5 * (FAKE**2).mean()
    torch.testing.assert_close(smoothed_discriminator("least_squares", 0.2)(REAL, FAKE), expected)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_recipes_offer_all_losses_and_smoothing_where_there_are_labels(name: str) -> None:
    assert set(get_args(SynthesisOptions.model_fields["loss"].annotation)) == set(LOSSES)
    choice: dict[str, Any] = {"loss": name, "label_smoothing": 0.1}
    try:
        smoothed_discriminator(name, 0.1)
    except ValueError:
        with pytest.raises(ValidationError, match=f"loss {name} has none"):
            SynthesisOptions.model_validate(choice)
    else:
        assert SynthesisOptions.model_validate(choice).label_smoothing == 0.1
    plain = smoothed_discriminator(name, 0.0)(REAL, FAKE)
    torch.testing.assert_close(plain, LOSSES[name].discriminator(REAL, FAKE), rtol=0, atol=0)

"""Penalties against critics whose gradients are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medgan.adversarial.penalties import (
    automatic_weight,
    interpolated,
    perturbed,
    squared_difference,
    squared_gradient,
    two_sided,
)

SHAPE = (4, 1, 5, 6, 7)


def test_exact_form_of_a_linear_critic_is_its_weight_norm() -> None:
    weight = torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(0))
    penalty = squared_gradient(lambda x: (x * weight).flatten(1).sum(1, keepdim=True), torch.zeros(SHAPE))
    torch.testing.assert_close(penalty, weight.square().sum().expand(4))


def test_exact_form_of_a_quadratic_critic() -> None:
    """D(x) = |x|^2 / 2 has gradient x."""
    volumes = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    penalty = squared_gradient(lambda x: 0.5 * x.square().flatten(1).sum(1, keepdim=True), volumes)
    torch.testing.assert_close(penalty, volumes.square().flatten(1).sum(1))


def test_patch_logits_count_as_their_sum() -> None:
    penalty = squared_gradient(lambda x: 3 * x, torch.zeros(SHAPE))
    torch.testing.assert_close(penalty, torch.full((4,), 9.0 * 5 * 6 * 7))


def test_exact_form_can_be_trained_through() -> None:
    """The derivative of |w|^2 by w is 2 w."""
    weight = torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(2), requires_grad=True)
    squared_gradient(lambda x: (x * weight).flatten(1).sum(1), torch.zeros(SHAPE)).mean().backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("known_logits", [False, True])
def test_finite_differences_estimate_the_exact_form(known_logits: bool, keepdim: bool) -> None:
    torch.manual_seed(3)
    weight = torch.randn(SHAPE[1:])
    volumes = torch.randn(4096, *SHAPE[1:])

    def critic(x: Tensor) -> Tensor:
        return torch.tanh(0.01 * (x * weight).flatten(1).sum(1, keepdim=keepdim))

    exact = squared_gradient(critic, volumes).mean()
    logits = critic(volumes) if known_logits else None
    estimate = squared_difference(critic, volumes, sigma=0.01, logits=logits).mean()
    # 4096 draws of a chi-square with one degree of freedom: a relative standard error of sqrt(2 / 4096) = 2.2 %.
    assert estimate.item() == pytest.approx(exact.item(), rel=0.08)


def test_penalties_stay_in_float32_under_autocast() -> None:
    layer = torch.nn.Conv3d(1, 1, 3)
    volumes = torch.randn(SHAPE)
    plain = squared_gradient(layer, volumes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = squared_gradient(layer, volumes)
    torch.testing.assert_close(inside, plain, rtol=0, atol=0)


def test_automatic_weight_is_the_two_dimensional_rule_for_voxels() -> None:
    """StyleGAN2-ADA: 0.0002 * 256^2 / 64 = 0.2048 at 256 x 256 and batch 64."""
    assert automatic_weight(256 * 256, 64) == pytest.approx(0.2048)


def test_holding_the_norm_at_one_by_the_formula() -> None:
    """Of a linear critic the gradient's norm is that of its weights, everywhere."""
    weight = 0.1 * torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    weight = weight.float().requires_grad_()
    penalty = two_sided(squared_gradient(lambda x: (x * weight).flatten(1).sum(1), torch.zeros(SHAPE)))
    norm = weight.detach().norm()
    torch.testing.assert_close(penalty, (norm - 1).square().expand(4))
    penalty.mean().backward()
    torch.testing.assert_close(weight.grad, 2 * (norm - 1) * weight.detach() / norm)


def test_a_flat_critic_is_penalised_without_breaking_its_weights() -> None:
    weight = torch.zeros(SHAPE[1:], requires_grad=True)
    penalty = two_sided(squared_gradient(lambda x: (x * weight).flatten(1).sum(1), torch.zeros(SHAPE))).mean()
    penalty.backward()
    assert penalty.item() == pytest.approx(1.0)
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()


def test_interpolates_lie_between_their_pair() -> None:
    torch.manual_seed(5)
    real, generated = torch.randn(500, 1, 2, 3, 2), torch.randn(500, 1, 2, 3, 2)
    between = interpolated(real, generated)
    shares = ((between - generated) * (real - generated)).flatten(1).sum(1)
    shares = shares / (real - generated).square().flatten(1).sum(1)
    torch.testing.assert_close(between, generated + shares.view(-1, 1, 1, 1, 1) * (real - generated))
    assert shares.min() >= 0
    assert shares.max() <= 1
    # Uniform: mean 1/2 and variance 1/12, each with a standard error of about 1.3 %.
    assert shares.mean().item() == pytest.approx(0.5, abs=0.05)
    assert shares.var().item() == pytest.approx(1 / 12, abs=0.012)


def test_perturbed_volumes_have_the_noise_that_they_should() -> None:
    torch.manual_seed(6)
    real = 3 * torch.randn(20, 1, 10, 10, 10)
    change = perturbed(real, scale=0.5) - real
    assert change.mean().item() == pytest.approx(0.0, abs=0.05)
    assert change.std().item() == pytest.approx(1.5, rel=0.03)


def test_automatic_weight_makes_up_for_the_number_of_voxels() -> None:
    """A critic that answers the mean intensity is equally steep to the eye at every size; so is its weighted R1."""
    expected = {32: 0.4096, 48: 1.3824, 64: 3.2768}
    weighted = []
    for size, weight in expected.items():
        assert automatic_weight(size**3, 16) == pytest.approx(weight)
        squared = squared_gradient(lambda x: x.flatten(1).mean(1), torch.zeros(1, 1, size, size, size))
        weighted.append(weight * squared.item())
    assert weighted == pytest.approx([2e-4 / 16] * 3, rel=1e-4)

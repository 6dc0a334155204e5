"""Penalties against critics whose gradients are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medgan.adversarial.penalties import automatic_weight, squared_difference, squared_gradient

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

from __future__ import annotations

import pytest
import torch

from medgan.adversarial.path_length import path_length_penalty, path_lengths


def test_of_a_linear_generator_is_the_norm_of_its_matrix_times_the_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(24, 5, generator=generator)
    styles = torch.randn(3, 5, generator=generator, requires_grad=True)
    volumes = (styles @ matrix.t()).reshape(3, 1, 2, 3, 4)
    directions = torch.randn(3, 1, 2, 3, 4, generator=generator)
    expected = (directions.flatten(1) @ matrix).norm(dim=1) / 24**0.5
    torch.testing.assert_close(path_lengths(volumes, styles, directions=directions), expected)


def test_its_mean_square_is_the_jacobian_s_over_the_voxels() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(24, 5)
    styles = torch.randn(4000, 5, requires_grad=True)
    volumes = (styles @ matrix.t()).reshape(-1, 1, 2, 3, 4)
    mean = path_lengths(volumes, styles).square().mean().item()
    assert mean == pytest.approx(matrix.square().sum().item() / 24, rel=0.05)


def test_styles_of_layers_count_by_their_mean_square() -> None:
    styles = torch.randn(2, 3, 5, requires_grad=True)
    volumes = styles[:, 0].sum(dim=1)[:, None, None, None, None].expand(2, 1, 1, 1, 1)
    lengths = path_lengths(volumes, styles, directions=torch.ones(2, 1, 1, 1, 1))
    torch.testing.assert_close(lengths, torch.full((2,), (5 / 3) ** 0.5))


def test_the_penalty_is_measured_from_the_running_mean_and_reaches_the_weights() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    styles = torch.ones(1, 1, requires_grad=True)
    lengths = path_lengths((weight * styles).reshape(1, 1, 1, 1, 1), styles, directions=torch.ones(1, 1, 1, 1, 1))
    penalty, mean = path_length_penalty(lengths, torch.tensor(0.0), decay=0.5)
    assert mean.item() == pytest.approx(1.0)
    assert penalty.item() == pytest.approx(1.0)
    penalty.backward()
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(2.0)

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medgan.inference.directions import Directions, find_directions
from medgan.inference.points import Point, moved, point_of_sample, rendered, sample_styles
from medgan.networks.stylegan import StyleGenerator

SHAPE = (5, 6, 4)


class Linear(nn.Module):
    """A generator that nobody registered: volumes are `left @ (strengths * (right.T @ latents))`, bent by `bend`."""

    def __init__(self, strengths: list[float], size: int = 7, bend: float = 0.0) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.left = np.linalg.qr(rng.standard_normal((math.prod(SHAPE), len(strengths))))[0]
        self.right = np.linalg.qr(rng.standard_normal((size, len(strengths))))[0]
        matrix = self.left @ np.diag(strengths) @ self.right.T
        self.matrix = nn.Parameter(torch.from_numpy(matrix).float())
        self.latent_size, self.bend = size, bend

    def forward(self, latents: Tensor) -> Tensor:
        made = (latents @ self.matrix.t()).unflatten(1, (1, *SHAPE))
        return made + self.bend * made.square() if self.bend else made


@pytest.mark.parametrize("bend", [0.0, 0.05])
def test_known_directions_of_a_linear_generator_are_recovered(bend: float) -> None:
    strengths = [9.0, 5.0, 3.0, 1.0]
    network = Linear(strengths, bend=bend)
    found = find_directions(network, 3, seed=4)
    cosines = np.abs(found.vectors.numpy() @ network.right)
    np.testing.assert_allclose(cosines[:, :3], np.eye(3), atol=1e-4 if bend == 0 else 0.15)
    if bend == 0:
        np.testing.assert_allclose(found.changes, np.array(strengths[:3]) / math.sqrt(math.prod(SHAPE)), rtol=1e-4)
        np.testing.assert_allclose(found.shares, np.square(strengths[:3]) / np.square(strengths).sum(), rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found.vectors.numpy(), axis=1), 1, rtol=1e-5)


def test_more_directions_than_the_generator_uses_change_nothing() -> None:
    found = find_directions(Linear([2.0, 1.0]), 4)
    assert found.changes[2] < 1e-4
    assert sum(found.shares) == pytest.approx(1)


def test_they_are_the_same_again_and_survive_being_written() -> None:
    network = Linear([3.0, 2.0, 1.0], bend=0.1)
    one, other = (find_directions(network, 2, seed=1) for _ in range(2))
    assert torch.equal(one.vectors, other.vectors)
    read = Directions.from_json(one.to_json())
    assert torch.equal(read.vectors, one.vectors)
    assert (read.space, read.changes, read.shares, read.seed) == ("latents", one.changes, one.shares, 1)


def test_of_large_volumes_a_part_of_the_voxels_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan.inference.directions._MOST_VOXELS", 60)
    network = Linear([9.0, 3.0, 1.0])
    found = find_directions(network, 1)
    assert abs(found.vectors.numpy() @ network.right)[0, 0] > 0.95


def test_the_first_direction_of_styles_changes_more_than_any_other_move() -> None:
    torch.manual_seed(0)
    network = StyleGenerator(
        shapes=[(3, 4, 3), (5, 7, 6)], channels=[8, 4], out_shape=(5, 7, 6), latent_size=6, style_size=5
    ).eval()
    found = find_directions(network, 2)
    assert found.space == "styles"
    points = [point_of_sample(network, seed=0, index=index) for index in range(4)]
    styles = sample_styles(network, seed=9, count=500)
    factor = torch.linalg.cholesky(torch.cov(styles.t()) + 1e-8 * torch.eye(5))

    def change(step: Tensor) -> float:
        def made(point: Point, factor: float) -> Tensor:
            return rendered(network, moved(point, factor * step))

        with torch.no_grad():
            return sum((made(point, 0.5) - made(point, -0.5)).square().mean().item() for point in points) / 4

    moves = torch.randn(20, 5, generator=torch.Generator().manual_seed(2))
    others = [change(factor @ (move / move.norm())) for move in moves]
    assert change(found.vectors[0]) == pytest.approx(found.changes[0] ** 2, rel=1e-3)
    assert change(found.vectors[0]) > 0.95 * max(others)

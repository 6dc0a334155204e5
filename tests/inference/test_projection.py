from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.inference.points import point_of_sample, rendered
from medgan.inference.projection import distance, project, psnr
from medgan.networks.r3gan import R3Generator
from medgan.networks.stylegan import StyleGenerator

SHAPES, OUT = [(3, 4, 3), (5, 8, 6)], (5, 8, 6)


def residual(latent_size: int = 4) -> R3Generator:
    torch.manual_seed(0)
    network = R3Generator(shapes=SHAPES, channels=[16, 8], out_shape=OUT, latent_size=latent_size, blocks=1)
    return network.eval().requires_grad_(False)


def test_the_distance_of_an_offset_is_its_square_and_that_of_a_checkerboard_is_in_the_edges() -> None:
    target = torch.randn(1, 1, 8, 8, 8)
    assert distance(target + 0.5, target).item() == pytest.approx(0.25, rel=1e-5)
    parity = torch.from_numpy((-1.0) ** np.indices((8, 8, 8)).sum(axis=0)).float()
    # Voxels differ by one, neighbours by two, and coarser voxels not at all.
    assert distance(target + parity, target).item() == pytest.approx(1 / 2 + 4, rel=1e-5)
    assert distance(torch.cat((target, target + 1)), target).tolist() == pytest.approx([0, 1])
    assert psnr(target + 0.2, target) == pytest.approx(20)


def test_the_latent_vector_of_a_sample_is_recovered() -> None:
    network = residual()
    point = point_of_sample(network, seed=7, index=3)
    found = project(network, rendered(network, point)[0], steps=90, starts=4)
    assert found.psnr > 50
    assert found.psnr > max(found.random_psnrs) + 15
    assert torch.cosine_similarity(found.point.position, point.position, dim=0) > 0.999
    assert found.relative_error < 0.01
    torch.testing.assert_close(rendered(network, found.point)[0], found.sample, rtol=0, atol=0)
    one, other = (project(network, rendered(network, point)[0], steps=5, starts=2) for _ in range(2))
    assert torch.equal(one.point.position, other.point.position)


def test_it_never_ends_worse_than_it_began_and_stays_among_samples() -> None:
    network = residual()
    target = 5 * torch.randn(1, *OUT, generator=torch.Generator().manual_seed(0))
    for steps in (1, 30):
        found = project(network, target, steps=steps, starts=5)
        assert found.distance <= min(found.random_distances)
        assert len(found.distances) == len(found.ratios) == steps
        assert found.point.position.norm() < 2 + 3 * 0.71 + 1e-3
    assert found.relative_error > 1


def test_styles_are_optimised_layer_by_layer_without_noise() -> None:
    torch.manual_seed(0)
    network = StyleGenerator(shapes=SHAPES, channels=[8, 8], out_shape=OUT, latent_size=6, style_size=6)
    network.eval().requires_grad_(False)
    target = rendered(network, point_of_sample(network, seed=5, index=1))[0]
    found = project(network, target, steps=60, starts=6)
    assert found.point.position.shape == (3, 6)
    assert found.point.noise == ()
    assert found.psnr > max(found.random_psnrs) + 5

"""The bias field: geometric mean, strength, smoothness and where its randomness comes from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from medgan.acquisition import bias_field
from medgan.errors import MedganError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("generator", [seeded(1), np.random.default_rng(1)])
@pytest.mark.parametrize("shape", [(20, 31, 7), (3, 1, 12, 9, 1), (1, 1, 5)])
def test_geometric_mean_is_one(generator: torch.Generator | np.random.Generator, shape: tuple[int, ...]) -> None:
    field = bias_field(shape, generator=generator, strength=0.5, dtype=torch.float64)
    assert field.shape == shape
    assert (field > 0).all()
    np.testing.assert_allclose(field.log().mean(dim=(-3, -2, -1)), 0, atol=1e-12)
    assert field.log().abs().max() > 0.02


def test_only_the_lowest_cosines_are_in_it() -> None:
    spectrum = np.abs(dctn(bias_field((16, 20, 12), generator=seeded(), order=3, dtype=torch.float64).log().numpy()))
    inside = spectrum[:4, :4, :4].copy()
    spectrum[:4, :4, :4] = 0
    assert inside.max() > 1
    assert spectrum.max() < 1e-9 * inside.max()


def test_strength_is_the_expected_root_mean_square_of_the_logarithm() -> None:
    fields = bias_field((400, 1, 12, 10, 8), generator=seeded(), strength=0.3)
    assert fields.log().square().mean().sqrt().item() == pytest.approx(0.3, rel=0.05)
    assert bias_field((4, 5, 6), generator=seeded(), strength=0.0).eq(1).all()


def test_the_generator_decides() -> None:
    first = bias_field((6, 7, 8), generator=seeded(3))
    torch.testing.assert_close(bias_field((6, 7, 8), generator=seeded(3)), first, atol=0, rtol=0)
    assert not torch.equal(bias_field((6, 7, 8), generator=seeded(4)), first)
    pair = bias_field((2, 6, 7, 8), generator=seeded(3))
    assert not torch.equal(pair[0], pair[1])


def test_a_finer_grid_sees_the_same_field() -> None:
    """The field belongs to the field of view, not to the grid: voxel means differ only by the curvature."""
    coarse = bias_field((30, 24, 18), generator=seeded(5), dtype=torch.float64).log()
    fine = bias_field((90, 72, 54), generator=seeded(5), dtype=torch.float64).log()
    means = torch.nn.functional.avg_pool3d(fine[None], 3)[0]
    torch.testing.assert_close(means, coarse, atol=0.03 * coarse.abs().max().item(), rtol=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"shape": (4, 5)}, "three axes"), ({"strength": -1.0}, "strength"), ({"order": 0}, "order")],
)
def test_impossible_fields_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(MedganError, match=words):
        bias_field(**{"shape": (4, 5, 6), "generator": seeded(), **arguments})

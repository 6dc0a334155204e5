from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from medgan.networks.principal import PrincipalGenerator
from medgan.networks.r3gan import R3Generator
from medgan.networks.saved import build_network

SHAPE, GRID, LATENT = (10, 9, 12), (5, 9, 6), 6
PYRAMID = {"shapes": [(5, 5, 6), (10, 9, 12)], "channels": [6, 4], "out_shape": SHAPE, "latent_size": LATENT}


def _generator(components: int = 3, lowest: float = -100.0) -> PrincipalGenerator:
    torch.manual_seed(0)
    inner = R3Generator(**PYRAMID, blocks=1, group_width=0)  # type: ignore[arg-type]
    whole = PrincipalGenerator(
        inner,
        record={"name": "r3_generator", "arguments": inner.arguments},
        latent_size=LATENT,
        components=components,
        grid=GRID,
        out_shape=SHAPE,
    )
    whole.begin(torch.randn(1, 1, *GRID), torch.randn(components, 1, *GRID), lowest=lowest)
    return whole


def _interpolated(volume: np.ndarray) -> np.ndarray:
    """Linear interpolation that keeps the field of view, edge voxels held, by scipy."""
    centres = [(np.arange(n) + 0.5) * g / n - 0.5 for n, g in zip(SHAPE, GRID, strict=True)]
    return np.asarray(map_coordinates(volume, np.meshgrid(*centres, indexing="ij"), order=1, mode="nearest"))


def test_the_linear_part_is_the_mean_and_a_weighted_sum_of_components() -> None:
    network, latents = _generator(), torch.randn(2, LATENT)
    with torch.no_grad():
        found = network.linear(latents)[:, 0].numpy()
    mean, components = network.mean[0, 0].numpy(), network.components[:, 0].numpy()
    for row, weights in zip(found, latents[:, :3].numpy(), strict=True):
        expected = _interpolated(mean + np.einsum("k,kxyz->xyz", weights, components))
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_samples_are_the_linear_model_and_a_share_of_the_inner_network() -> None:
    network, latents = _generator(), torch.randn(2, LATENT)
    with torch.no_grad():
        made = network(latents)
        torch.testing.assert_close(made, network.linear(latents) + 0.1 * network.inner(latents))
    assert made.shape == (2, 1, *SHAPE)


def test_nothing_lies_below_the_lowest_intensity_of_the_scans() -> None:
    free, bounded, latents = _generator(), _generator(lowest=-0.5), torch.randn(3, LATENT)
    with torch.no_grad():
        for name in ("linear", "forward"):
            expected = getattr(free, name)(latents).clamp_min(-0.5)
            assert (expected == -0.5).any()
            torch.testing.assert_close(getattr(bounded, name)(latents), expected)


def test_where_a_sample_is_cut_off_only_a_rising_gradient_passes() -> None:
    network, latents = _generator(lowest=0.0), torch.randn(3, LATENT)
    with torch.no_grad():
        cut = network._unbounded(network.weights(latents)) + network.share * network.inner(latents) < 0
    for wanted, passes in ((1.0, True), (-1.0, False)):
        network.zero_grad()
        network(latents).mul(torch.where(cut, -wanted, 0.0)).sum().backward()
        assert network.share.grad is not None
        assert bool(network.share.grad != 0) is passes


def test_the_linear_model_is_kept_and_everything_else_learns() -> None:
    network = _generator()
    network(torch.randn(4, LATENT)).square().sum().backward()
    trained = dict(network.named_parameters())
    assert all("mean" not in name and "components" not in name for name in trained)
    # Residual blocks start as the identity: only their last convolutions and what is outside them have a gradient yet.
    silent = [name for name, value in trained.items() if value.grad is None or not value.grad.any()]
    assert all(".body.0." in name or ".body.1." in name for name in silent)
    assert network.share.grad is not None


def test_it_is_rebuilt_from_its_record() -> None:
    network, latents = _generator(), torch.randn(2, LATENT)
    rebuilt: nn.Module = build_network("principal_generator", network.arguments)
    rebuilt.load_state_dict(network.state_dict())
    with torch.no_grad():
        expected: Tensor = network(latents)
        assert torch.equal(rebuilt(latents), expected)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="7 components need as many latent numbers; there are 6"):
        _generator(7)
    with pytest.raises(ValueError, match="are not of the shapes"):
        _generator().begin(torch.zeros(1, 1, *SHAPE), torch.zeros(3, 1, *SHAPE), lowest=-1.0)

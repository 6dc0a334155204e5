"""The maps of uncertainty: where they vanish, what they measure, and that spread goes along with error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from medgan.acquisition import Acquisition
from medgan.acquisition.condition import condition
from medgan.geometry import world_corners
from medgan.inference.model import Model, load_model
from medgan.inference.uncertainty import View, upscale_with_maps, views_of
from medgan.inference.upscale import prepared, upscale
from medgan.networks.conditioned import ConditionedNetwork
from medgan.networks.saved import save_model
from medgan.volume import Volume

_LEAST_CORRELATION = 0.5


def _saved(folder: Path, network: ConditionedNetwork) -> Model:
    config = {
        "medgan_version": "0",
        "task": "super_resolution",
        "network": {"name": "conditioned", "arguments": network.arguments},
        "normalisation": {"percentiles": [0.5, 99.5]},
        "acquisition": {"random": {}, "profile": "gaussian", "regularisation": None},
    }
    weights = {
        f"{end}.{name}": value for end in ("fidelity", "perceptual") for name, value in network.state_dict().items()
    }
    return load_model(save_model(folder, config, weights))


def _network() -> ConditionedNetwork:
    torch.manual_seed(0)
    return ConditionedNetwork(channels=8, blocks=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Random weights in the last layer."""
    network = _network()
    with torch.no_grad():
        network.tail.weight.copy_(0.05 * torch.randn_like(network.tail.weight))
    return _saved(tmp_path_factory.mktemp("random") / "model", network)


@pytest.fixture(scope="module")
def silent_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that adds nothing."""
    return _saved(tmp_path_factory.mktemp("silent") / "model", _network())


@pytest.fixture(scope="module")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that has learned a little from other phantoms with slices four times thicker."""
    network = _network()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    acquisition = Acquisition.between((36, 40, 36), (36, 40, 9), high_spacing=(1, 1, 1))
    numbers = torch.tensor([condition(acquisition)])
    for step in range(40):
        truth = torch.from_numpy(_truth(waves=(10 + step % 5, 9 + step % 7, 2 + step % 3)))[None, None] / 1000
        start = acquisition.inverse(acquisition.forward(truth))
        loss = (network(start, numbers) - truth).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return _saved(tmp_path_factory.mktemp("trained") / "model", network)


def _truth(shape: tuple[int, int, int] = (36, 40, 36), waves: tuple[float, float, float] = (14, 12, 3)) -> np.ndarray:
    """A soft ellipsoid with folds on it and two ventricles, values of 0 to about 1000."""
    a, b, c = waves
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head = 1 / (1 + np.exp(40 * (np.sqrt((x / 0.8) ** 2 + (y / 0.85) ** 2 + (z / 0.8) ** 2) - 1)))
    ventricles = np.exp(-((np.abs(x) - 0.2) ** 2 + y**2 / 4 + z**2) / 0.02)
    return (900 * head * (1 + 0.2 * np.sin(a * x) * np.sin(b * y + c * z)) * (1 - 0.7 * ventricles)).astype("f4")


def _thick(truth: np.ndarray, factor: int, noise: float = 0.0) -> Volume:
    """Slices of `factor` voxels of the truth, blurred and averaged by scipy alone."""
    sigma = np.sqrt(factor**2 - 1) / 2.3548
    blurred = ndimage.gaussian_filter1d(truth.astype(np.float64), sigma, axis=2, mode="reflect")
    middles = (np.arange(truth.shape[2] // factor) + 0.5) * factor - 0.5
    low = np.stack([_between(blurred, middle) for middle in middles], axis=2)
    low += noise * np.random.default_rng(0).standard_normal(low.shape)
    return Volume(low.astype(np.float32), np.diag([1.0, 1.0, factor, 1.0]))


def _between(volume: np.ndarray, place: float) -> np.ndarray:
    below = int(np.floor(place))
    share = place - below
    return (1 - share) * volume[..., below] + share * volume[..., min(below + 1, volume.shape[2] - 1)]


@pytest.mark.parametrize("orientation", ["RAS", "PSR", "LIA"])
def test_the_result_is_that_of_upscale_and_the_maps_lie_on_it(orientation: str, model: Model) -> None:
    scan = _thick(_truth((18, 20, 18)), 3).reoriented(orientation)
    made = upscale_with_maps(scan, model, tile=(16, 16, 16))
    plain = upscale(scan, model, tile=(16, 16, 16))
    np.testing.assert_array_equal(made.volume.data, plain.data)
    assert made.volume.history == plain.history
    assert made.spread is not None
    for one in (made.spread, made.unconfirmed):
        assert one.orientation == orientation
        assert one.shape == plain.shape
        np.testing.assert_array_equal(one.affine, plain.affine)
        assert one.data.min() >= 0
        assert one.data.max() > 0
    np.testing.assert_allclose(
        world_corners(made.spread.affine, made.spread.shape), world_corners(scan.affine, scan.shape), atol=1e-9
    )


def test_a_network_that_adds_nothing_answers_the_same_in_every_view(silent_model: Model) -> None:
    """Views are mirrored and turned with their grids: what is left of the spread is rounding."""
    scan = Volume(np.random.default_rng(0).random((14, 17, 6), dtype=np.float32) * 500, np.diag([1.0, 1.0, 3.0, 1.0]))
    _, plan = prepared(scan, silent_model)
    assert {view.swap for view in views_of(scan, plan)} == {None, (0, 1)}
    made = upscale_with_maps(scan, silent_model)
    assert made.spread is not None
    assert made.spread.data.max() < 1e-5 * np.ptp(scan.data)


def test_views_mirror_each_axis_in_half_of_them_and_turn_equal_axes_only() -> None:
    alike = Volume(np.zeros((5, 6, 4), np.float32), np.diag([1.0, 1.0, 3.0, 1.0]))
    apart = Volume(np.zeros((5, 6, 4), np.float32), np.diag([1.0, 1.2, 3.0, 1.0]))
    for scan, swaps in ((alike, {None, (0, 1)}), (apart, {None})):
        views = views_of(scan, prepared(scan, None)[1])
        assert len(set(views)) == 8
        assert views[0] == View()
        assert {view.swap for view in views} == swaps
        assert [sum(axis in view.flips for view in views) for axis in range(3)] == [4, 4, 4]
        voxels = np.random.default_rng(0).random(scan.shape)
        for view in views:
            np.testing.assert_array_equal(view.back(view.of(voxels)), voxels)


def test_the_mean_of_the_views_is_mirrored_with_the_scan(model: Model) -> None:
    """The network alone is no map that knows of mirrors; the mean of its views is."""
    scan = _thick(_truth(), 3)
    mirrored = scan.with_data(scan.data[:, ::-1, :, ::-1])
    one, other = (upscale_with_maps(each, model, average=True) for each in (scan, mirrored))
    size = float(np.ptp(scan.data))
    assert np.abs(one.volume.data - other.volume.data[:, ::-1, :, ::-1]).max() < 1e-4 * size
    plain = [upscale(each, model).data for each in (scan, mirrored)]
    assert np.abs(plain[0] - plain[1][:, ::-1, :, ::-1]).max() > 1e-3 * size
    assert one.spread is not None
    assert other.spread is not None
    assert np.abs(one.spread.data - other.spread.data[:, ::-1, :, ::-1]).max() < 1e-4 * size
    assert "mean of 8 views" in one.volume.history[-1]


def test_spread_goes_along_with_the_true_error(trained_model: Model) -> None:
    """Over the head, in blocks of a measured voxel's size: Spearman's correlation with the root mean square error."""
    truth = _truth()
    made = upscale_with_maps(_thick(truth, 4, noise=2.0), trained_model)
    assert made.spread is not None
    head = _blocks((truth > 100).astype(np.float64)) > 0.5
    error = np.sqrt(_blocks((made.volume.data[0] - truth) ** 2))[head]
    spread = np.sqrt(_blocks(made.spread.data[0] ** 2))[head]
    assert stats.spearmanr(spread, error).statistic > _LEAST_CORRELATION


def _blocks(values: np.ndarray) -> np.ndarray:
    """Means over blocks of 4 x 4 x 4 voxels."""
    x, y, z = (size // 4 for size in values.shape)
    return values[: 4 * x, : 4 * y, : 4 * z].astype(np.float64).reshape(x, 4, y, 4, z, 4).mean(axis=(1, 3, 5))


def test_physics_adds_next_to_nothing_and_has_no_spread(model: Model) -> None:
    scan = _thick(_truth(), 4)
    made, learned = upscale_with_maps(scan, None), upscale_with_maps(scan, model)
    assert made.spread is None
    np.testing.assert_array_equal(made.volume.data, upscale(scan, None).data)
    assert np.median(made.unconfirmed.data) < 0.1 * np.median(learned.unconfirmed.data)


@pytest.mark.parametrize("with_model", [False, True])
def test_nothing_is_unconfirmed_where_nothing_was_upscaled(with_model: bool, model: Model) -> None:
    scan = _thick(_truth(), 3)
    made = upscale_with_maps(scan, model if with_model else None, factor=(1, 1, 1))
    np.testing.assert_array_equal(made.volume.data, scan.data)
    assert not made.unconfirmed.data.any()
    assert (made.spread is None) == (not with_model)
    assert made.spread is None or not made.spread.data.any()


def test_the_map_measures_the_amplitude_of_what_no_slice_can_show() -> None:
    """A pattern that alternates from voxel to voxel averages out within slices: it is unconfirmed to the full, and a
    slow wave hardly at all."""
    from medgan.inference.uncertainty import local_energy, unconfirmed_part
    from medgan.inference.upscale import acquisition_of

    scan = Volume(np.zeros((8, 8, 10), np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
    _, plan = prepared(scan, None)
    acquisition = acquisition_of(replace(plan, order=(0, 1, 2)), scan.shape, None)
    z = np.indices(plan.high_shape)[2]
    fast, slow = 7.0 * (-1.0) ** z, 7.0 * np.cos(np.pi * (z + 0.5) / 40 * 2)
    inside = (slice(None), slice(None), slice(8, -8))
    np.testing.assert_allclose(local_energy(unconfirmed_part(fast, acquisition), plan)[inside], 7.0, rtol=0.02)
    assert local_energy(unconfirmed_part(slow, acquisition), plan)[inside].max() < 0.1


def test_channels_are_looked_at_one_by_one(model: Model) -> None:
    truth = _truth((16, 18, 16))
    one, other = _thick(truth, 2), _thick(truth[::-1] * 3, 2)
    both = upscale_with_maps(Volume(np.concatenate([one.data, other.data]), one.affine), model, factor=(1, 1, 2))
    alone = upscale_with_maps(other, model, factor=(1, 1, 2))
    assert both.spread is not None
    assert alone.spread is not None
    np.testing.assert_array_equal(both.spread.data[1:], alone.spread.data)
    np.testing.assert_array_equal(both.unconfirmed.data[1:], alone.unconfirmed.data)


def test_progress_counts_the_tiles_of_all_views(model: Model) -> None:
    seen: list[tuple[int, int]] = []
    upscale_with_maps(
        _thick(_truth((16, 18, 16)), 2),
        model,
        factor=(1, 1, 2),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(number, 8) for number in range(1, 9)]

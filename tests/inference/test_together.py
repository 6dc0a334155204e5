"""Volumes that share batches come out as they do alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgan.inference import together
from medgan.inference.memory import footprint_of, most_together, tile_for
from medgan.inference.model import Model, load_model
from medgan.inference.together import upscale_together
from medgan.inference.upscale import UNCHANGED, prepared, restored_batch, restored_channel, upscale
from medgan.networks.conditioned import ConditionedNetwork
from medgan.networks.saved import save_model
from medgan.volume import Volume


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A conditioned network with random weights, the last layers among them."""
    torch.manual_seed(0)
    network = ConditionedNetwork(channels=4, blocks=1)
    weights = {
        f"fidelity.{name}": value + 0.1 * torch.randn_like(value) for name, value in network.state_dict().items()
    }
    config = {
        "medgan_version": "0",
        "task": "super_resolution",
        "network": {"name": "conditioned", "arguments": network.arguments},
        "normalisation": {"percentiles": [0.5, 99.5]},
        "acquisition": {"random": {}, "factor": [1, 1, 4], "profile": "gaussian", "regularisation": None},
    }
    return load_model(save_model(tmp_path_factory.mktemp("models") / "model", config, weights))


def _scan(seed: int, slices: int, step: float, orientation: str = "RAS", channels: int = 1) -> Volume:
    """12 x 11 voxels of 1 mm in plane; the brightness differs from scan to scan."""
    voxels = np.random.default_rng(seed).random((channels, 12, 11, slices), dtype=np.float32)
    return Volume(voxels * (100 + 900 * seed), np.diag([1.0, 1.0, step, 1.0])).reoriented(orientation)


@pytest.fixture
def scans() -> list[Volume]:
    """Results of 12 x 11 x 24 voxels by three factors, in several orientations; another shape; one to be kept."""
    return [
        _scan(0, 6, 4.0),
        _scan(1, 8, 3.0, "LPS"),
        _scan(2, 12, 2.0, "SPR", channels=2),
        _scan(3, 5, 3.0),
        _scan(4, 9, 1.0, "IRP").with_grid(np.ones((1, 4, 4, 4)), np.eye(4), "cut"),
    ]


def test_each_comes_out_as_alone(scans: list[Volume], model: Model) -> None:
    options: dict[str, Any] = {"spacing": (1.0, 1.0, 1.0)}
    made = upscale_together(scans, model, **options)
    for scan, result in zip(scans, made, strict=True):
        alone = upscale(scan, model, **options)
        np.testing.assert_allclose(result.data, alone.data, rtol=0, atol=1e-5 * np.ptp(scan.data) + 1e-12)
        np.testing.assert_array_equal(result.affine, alone.affine)
        assert result.history == alone.history
        if result.history[-1] != UNCHANGED:
            # The network had something to say.
            physics = upscale(scan, None, **options)
            assert np.abs(result.data - physics.data).max() > 1e-3 * np.ptp(scan.data)


def test_a_batch_cut_into_tiles_comes_out_as_alone(scans: list[Volume], model: Model) -> None:
    known = [prepared(scan, model) for scan in scans[:2]]
    tile = (6, 4, 10)
    channels, plans = [scan.data[0] for scan, _ in known], [plan for _, plan in known]
    made = restored_batch(channels, plans, model, 1.0, tile)
    for voxels, plan, result in zip(channels, plans, made, strict=True):
        alone = restored_channel(voxels, plan, model, 1.0, tile, None)
        np.testing.assert_allclose(result, alone, rtol=0, atol=1e-5 * np.ptp(voxels))


def test_volumes_of_several_shapes_cannot_share_a_batch(scans: list[Volume], model: Model) -> None:
    known = [prepared(scan, model) for scan in (scans[0], scans[3])]
    with pytest.raises(ValueError, match="several shapes"):
        restored_batch([scan.data[0] for scan, _ in known], [plan for _, plan in known], model)


@pytest.mark.parametrize(("most", "sizes"), [(10, [4, 1]), (3, [3, 1, 1]), (1, [1, 1, 1, 1, 1])])
def test_batches_hold_what_is_alike_and_fits(
    most: int, sizes: list[int], scans: list[Volume], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def counted(channels: Any, *arguments: Any) -> Any:
        seen.append(len(channels))
        return restored_batch(channels, *arguments)

    monkeypatch.setattr(together, "restored_batch", counted)
    monkeypatch.setattr(together, "most_together", lambda shape, footprint: most)
    told: list[tuple[int, int]] = []
    upscale_together(scans, model, spacing=(1.0, 1.0, 1.0), progress=lambda done, total: told.append((done, total)))
    assert sorted(seen, reverse=True) == sizes
    assert told[-1] == (5, 5)


@pytest.mark.parametrize("shape", [(12, 11, 24), (64, 64, 64), (200, 220, 180)])
def test_a_batch_takes_no_more_memory_than_it_may(shape: tuple[int, int, int], model: Model) -> None:
    footprint, memory = footprint_of(model.network()), 256 * 2**20
    one = footprint.of_tile(tile_for(shape, footprint, memory=memory), shape)
    most = most_together(shape, footprint, memory=memory)
    assert most == 1 or most * one <= memory < (most + 1) * one


def test_a_single_large_volume_is_always_taken(model: Model) -> None:
    assert most_together((500, 500, 500), footprint_of(model.network()), memory=1) == 1


@pytest.mark.gpu
def test_a_gpu_makes_what_a_cpu_makes(scans: list[Volume], model: Model) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    on_gpu = load_model(model.folder, "cuda")
    for scan, result in zip(scans, upscale_together(scans, on_gpu, spacing=(1.0, 1.0, 1.0)), strict=True):
        alone = upscale(scan, model, spacing=(1.0, 1.0, 1.0))
        np.testing.assert_allclose(result.data, alone.data, rtol=0, atol=2e-3 * np.ptp(scan.data) + 1e-12)

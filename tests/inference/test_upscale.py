"""Upscaling keeps place, units and orientation, with and without a network."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.geometry import world_corners
from medgan.inference.model import load_model
from medgan.inference.upscale import upscale
from medgan.networks.residual_dense import ResidualDenseNetwork
from medgan.networks.saved import save_model
from medgan.volume import Volume


def _oblique_affine(spacing: tuple[float, float, float]) -> np.ndarray:
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = (-40, 12, 7)
    return affine


def _blob(shape: tuple[int, int, int], affine: np.ndarray, centre: np.ndarray, width: float) -> np.ndarray:
    """A Gaussian blob in patient space, sampled at the voxel centres."""
    indices = np.moveaxis(np.indices(shape), 0, -1)
    world = indices @ affine[:3, :3].T + affine[:3, 3]
    return (500 * np.exp(-((world - centre) ** 2).sum(-1) / (2 * width**2))).astype(np.float32)


def _centroid(volume: Volume) -> np.ndarray:
    weights = volume.as_float()[0].astype(np.float64)
    index = [(weights * axis).sum() / weights.sum() for axis in np.indices(volume.shape)]
    return volume.affine[:3, :3] @ index + volume.affine[:3, 3]


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A network with random weights, and others for the other end of the dial."""
    torch.manual_seed(0)
    network = ResidualDenseNetwork(channels=4, growth=2, blocks=1, dense_blocks=1, convolutions=2)
    weights = {}
    for end in ("fidelity", "perceptual"):
        for name, value in network.state_dict().items():
            weights[f"{end}.{name}"] = value + 0.01 * torch.randn_like(value)
    config = {
        "medgan_version": "0",
        "task": "super_resolution",
        "network": {"name": "residual_dense", "arguments": network.arguments},
        "normalisation": {"percentiles": [0.5, 99.5]},
        "acquisition": {
            "factor": [1, 1, 2],
            "thickness": 1.0,
            "profile": "gaussian",
            "noise": 0.0,
            "regularisation": None,
        },
    }
    return save_model(tmp_path / "model", config, weights)


@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "ASL"])
def test_outer_edges_and_orientation_stay(orientation: str, with_model: bool, model_folder: Path) -> None:
    affine = _oblique_affine((2.0, 2.0, 5.0))
    low = Volume(_blob((20, 21, 9), affine, np.array([-25.0, 36.0, 27.0]), 9), affine).reoriented(orientation)
    model = load_model(model_folder) if with_model else None
    high = upscale(low, model)
    assert high.orientation == orientation
    assert sorted(high.shape) == [20, 21, 22]
    np.testing.assert_allclose(world_corners(high.affine, high.shape), world_corners(low.affine, low.shape), atol=1e-9)
    assert high.data.dtype == np.float32
    assert sum("upscaled to" in step for step in high.history) == 1


@pytest.mark.parametrize("factor", [(1, 1, 2), (1, 1, 3), (2, 2, 2), (1, 1, 2.5), (1.5, 1, 4)])
def test_content_does_not_move(factor: tuple[float, float, float]) -> None:
    affine = _oblique_affine((2.0, 2.0, 4.0))
    centre = affine[:3, :3] @ np.array([10.3, 11.1, 7.4]) + affine[:3, 3]
    low = Volume(_blob((21, 23, 15), affine, centre, 6), affine)
    high = upscale(low, None, factor=factor)
    np.testing.assert_allclose(_centroid(high), _centroid(low), atol=0.02)
    assert high.shape == tuple(round(n * f) for n, f in zip(low.shape, factor, strict=True))


def test_tiles_do_not_show(model_folder: Path) -> None:
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    low = Volume(np.random.default_rng(0).random((37, 41, 13), dtype=np.float32) * 700, affine)
    model = load_model(model_folder)
    whole = upscale(low, model, fidelity=0.3, tile=(512, 512, 512))
    tiled = upscale(low, model, fidelity=0.3, tile=(16, 16, 16))
    scale = float(np.ptp(np.percentile(low.data, (0.5, 99.5))))
    assert np.abs(whole.data - tiled.data).max() / scale < 1e-5


def test_the_fidelity_dial_has_its_ends_and_its_middle(model_folder: Path) -> None:
    model = load_model(model_folder)
    fidelity, perceptual, middle = (model.network(fidelity=f).state_dict() for f in (1.0, 0.0, 0.5))
    for name, value in middle.items():
        torch.testing.assert_close(value, (fidelity[name] + perceptual[name]) / 2)
        torch.testing.assert_close(fidelity[name], model.weights[f"fidelity.{name}"])
    with pytest.raises(MedganError, match=r"fidelity is 1\.5"):
        model.network(fidelity=1.5)


def test_a_thick_axis_anywhere_is_brought_to_where_the_network_learned_it(model_folder: Path) -> None:
    """Upscaling a scan whose thick axis is R equals upscaling it with its axes turned so that S is thick, and back."""
    voxels = np.random.default_rng(1).random((9, 20, 22), dtype=np.float32)
    sagittal = Volume(voxels, np.diag([4.0, 2.0, 2.0, 1.0]))
    axial = Volume(np.ascontiguousarray(voxels.transpose(1, 2, 0)), np.diag([2.0, 2.0, 4.0, 1.0]))
    model = load_model(model_folder)
    one, other = upscale(sagittal, model), upscale(axial, model)
    np.testing.assert_allclose(one.data[0], other.data[0].transpose(2, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factor": (1, 1, 2), "spacing": (1, 1, 1)}, "not both"),
        ({"factor": (1, 1, 0.5)}, "needs 1 or more"),
        ({"factor": (1, 2)}, "three numbers"),
        ({"spacing": (3, 3, 9)}, "coarser than the scan's own"),
        ({"thickness": -1.0}, "slice thickness of -1.0 mm"),
        ({"factor": (1, 1, float("nan"))}, "three numbers"),
    ],
)
def test_senseless_requests_are_refused(options: dict[str, object], words: str) -> None:
    volume = Volume(np.ones((4, 4, 4), np.float32), np.diag([2.0, 2.0, 4.0, 1.0]))
    with pytest.raises(MedganError, match=words):
        upscale(volume, None, **options)  # type: ignore[arg-type]


def test_units_and_offset_come_back() -> None:
    """A CT-like scan with large negative values stays in its units: a constant stays that constant."""
    volume = Volume(np.full((6, 6, 5), -1000, np.int16), np.diag([2.0, 2.0, 5.0, 1.0]))
    np.testing.assert_allclose(upscale(volume, None).data, -1000, rtol=1e-6)


def test_files_in_files_out_with_the_affine_that_nibabel_reads(tmp_path: Path) -> None:
    from medgan.io.sidecar import sidecar_of
    from medgan.workflows.upscale import upscale_scans

    affine = _oblique_affine((1.0, 1.0, 4.0))
    nib.save(nib.Nifti1Image(_blob((16, 16, 6), affine, np.array([-33.0, 20, 18]), 5), affine), tmp_path / "a.nii.gz")
    result = upscale_scans([tmp_path / "a.nii.gz"], tmp_path / "b.nii.gz", model="physics")
    assert result.written == (tmp_path / "b.nii.gz",)
    image = nib.load(tmp_path / "b.nii.gz")
    assert image.shape == (16, 16, 24)
    np.testing.assert_allclose(world_corners(image.affine, image.shape), world_corners(affine, (16, 16, 6)), atol=1e-3)
    assert sidecar_of(tmp_path / "b.nii.gz").is_file()

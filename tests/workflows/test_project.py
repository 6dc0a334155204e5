from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.inference.model import load_model
from medgan.io import read_volume
from medgan.networks.dcgan import DCGANGenerator
from medgan.networks.latents import latent
from medgan.networks.saved import save_model
from medgan.workflows.generate import generate_scans
from medgan.workflows.project import project_scan, scan_on_grid

# Samples lie LAS, to see that no scan is taken to lie as the model's own do.
AFFINE = np.array([[-8.0, 0, 0, 44], [0, 8, 0, -50], [0, 0, 10, -40], [0, 0, 0, 1]])
OUT = (12, 14, 10)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = DCGANGenerator(
        shapes=[(6, 7, 5), OUT], channels=[8, 6], out_shape=OUT, latent_size=4, normalisation="none"
    )
    with torch.no_grad():
        network.head.bias.zero_()
        # As of a trained network, the percentiles of the sample that will be projected are -1 and 1.
        low, high = np.percentile(network(latent(9, 1, 4)[None]).numpy(), (0.5, 99.5))
        network.head.weight *= 2 / float(high - low)
        network.head.bias += -1 - 2 * float(low) / float(high - low)
    config = {
        "medgan_version": "0",
        "task": "synthesis",
        "network": {"name": "dcgan_generator", "arguments": network.arguments},
        "normalisation": {"low": 10.0, "high": 210.0, "minimum": -500.0},
        "shape": list(OUT),
        "spacing": [8.0, 8.0, 10.0],
        "affine": AFFINE.tolist(),
    }
    return save_model(tmp_path_factory.mktemp("model") / "model", config, network.state_dict())


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else here together."""
    monkeypatch.setattr("medgan.report.figures.midplanes", lambda *columns, **options: b"\x89PNG")
    monkeypatch.setattr("medgan.report.charts.curves", lambda *columns, **options: b"\x89PNG")


def blob(path: Path, affine: np.ndarray, shape: tuple[int, int, int]) -> Path:
    """A bright ball of 20 mm at (-10, 5, 12) mm, faintly textured."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    places = index @ affine[:3, :3].T + affine[:3, 3]
    ball = 900 * np.exp(-(((places - [-10, 5, 12]) / 20) ** 2).sum(axis=-1))
    nib.save(nib.Nifti1Image((ball + 0.01 * places[..., 1]).astype(np.float32), affine), path)
    return path


def centre_of_mass(path: Path) -> np.ndarray:
    image = nib.load(path)
    values = np.clip(image.get_fdata() - 200, 0, None)
    index = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), axis=-1)
    return (index @ image.affine[:3, :3].T + image.affine[:3, 3]).reshape(-1, 3).T @ values.ravel() / values.sum()


@pytest.mark.usefixtures("no_pictures")
def test_the_scan_keeps_its_place_on_the_model_s_grid(model: Path, tmp_path: Path) -> None:
    affine = np.array([[0, 0, 5.0, -60], [-4.0, 0, 0, 80], [0, 4.0, 0, -70], [0, 0, 0, 1]])
    scan = blob(tmp_path / "scan.nii.gz", affine, (40, 40, 24))
    result = project_scan(scan, model, tmp_path / "out", steps=3, starts=2, device="cpu")
    ours, made = (read_volume(result.folder / name) for name in ("scan.nii.gz", "projection.nii.gz"))
    assert ours.shape == made.shape == OUT
    assert ours.orientation == made.orientation == "LAS"
    np.testing.assert_allclose(ours.spacing, (8, 8, 10), rtol=1e-6)
    np.testing.assert_array_equal(ours.affine, made.affine)
    np.testing.assert_allclose(centre_of_mass(result.folder / "scan.nii.gz"), (-10, 5, 12), atol=1.0)
    assert made.metadata["projected"] is True
    assert "projected" not in ours.metadata


@pytest.mark.usefixtures("no_pictures")
def test_a_sample_is_found_again_and_can_be_an_end(model: Path, tmp_path: Path) -> None:
    (_, sample) = generate_scans(model, 2, tmp_path / "samples", seed=9)
    result = project_scan(sample, model, tmp_path / "out", steps=60, starts=4, device="cpu")
    assert result.verdict.startswith("close")
    figures = json.loads((result.folder / "figures.json").read_text())
    assert figures["psnr_db"] > figures["random_samples"]["best_psnr_db"] + 5
    assert figures["relative_error"] < 0.25
    assert len(figures["curve"]["psnr_db"]) == 60
    written = "".join((result.folder / name).read_text() for name in ("figures.json", "point.json", "report.html"))
    assert sample.name not in written
    assert str(tmp_path) not in written
    from medgan.workflows.control import Control, control_scans

    control = Control(interpolate=(str(result.folder / "point.json"), "0"), steps=2)
    (begin, _) = control_scans(model, None, control, tmp_path / "way")
    network = load_model(model).network()
    point = json.loads((result.folder / "point.json").read_text())["position"]
    with torch.inference_mode():
        again = 10 + (network(torch.tensor([point]))[0].numpy() + 1) * 100
    np.testing.assert_allclose(read_volume(begin).data, again, rtol=1e-4, atol=1e-2)


def test_a_real_scan_comes_closer_than_any_random_sample_and_the_distance_is_told(
    model: Path, test_data: Path, tmp_path: Path
) -> None:
    scan = sorted((test_data / "mri_t1_ixi_2mm" / "val").glob("*.nii.gz"))[0]
    result = project_scan(scan, model, tmp_path / "out", steps=25, starts=4, device="cpu")
    figures = result.figures
    assert figures["distance"] < figures["random_samples"]["best_distance"]
    # The network is not trained: nothing it makes looks like a head.
    assert result.verdict.startswith("far")
    assert "do not take it for the scan" in (result.folder / "report.html").read_text()
    for name in ("figures.json", "point.json", "report.html"):
        assert scan.name.split(".")[0] not in (result.folder / name).read_text()


def test_bad_scans_and_numbers_are_refused(model: Path, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((6, 7, 8), np.float32), np.eye(4)), tmp_path / "flat.nii.gz")
    with pytest.raises(MedganError, match=r"flat\.nii\.gz: every voxel is 1: there is nothing to project"):
        project_scan(tmp_path / "flat.nii.gz", model, tmp_path / "out")
    labels = np.zeros((20, 20, 20), np.int16)
    labels[4:12, 4:12, 4:12] = 3
    labels[12:16, 4:12, 4:12] = 5
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "labels.nii.gz")
    with pytest.raises(MedganError, match="label map"):
        project_scan(tmp_path / "labels.nii.gz", model, tmp_path / "out")
    with pytest.raises(MedganError, match="no such file"):
        project_scan(tmp_path / "none.nii.gz", model, tmp_path / "out")
    scan = blob(tmp_path / "scan.nii.gz", np.diag([4.0, 4, 4, 1]), (20, 20, 20))
    with pytest.raises(MedganError, match="--starts 2"):
        project_scan(scan, model, tmp_path / "out", starts=1)
    with pytest.raises(MedganError, match="project needs one for synthesis"):
        project_scan(scan, "mri-universal", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    grid = scan_on_grid(scan, load_model(model))
    assert grid.shape == OUT

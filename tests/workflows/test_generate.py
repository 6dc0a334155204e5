from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from medgan.errors import MedganError
from medgan.io import read_volume
from medgan.networks.r3gan import R3Generator
from medgan.networks.saved import save_model
from medgan.workflows.generate import generate_scans

AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 4, -20], [0, 0, 0, 1]])


def model(folder: Path, **normalisation: float) -> Path:
    torch.manual_seed(0)
    network = R3Generator(
        shapes=[(5, 6, 4)], channels=[8], out_shape=(9, 12, 8), latent_size=4, blocks=1, haar_head=True
    )
    config = {
        "medgan_version": "0",
        "task": "synthesis",
        "network": {"name": "r3_generator", "arguments": network.arguments},
        "normalisation": {"low": 10.0, "high": 210.0, "minimum": 5.0, **normalisation},
        "affine": AFFINE.tolist(),
    }
    return save_model(folder, config, network.state_dict())


def test_samples_as_dicom_are_the_samples_as_nifti(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    series = generate_scans(folder, 2, tmp_path / "dicom", seed=5, format="dicom")
    files = generate_scans(folder, 2, tmp_path / "nifti", seed=5)
    assert [path.name for path in series] == ["synthetic-0000", "synthetic-0001"]
    for one, other in zip(series, files, strict=True):
        plain = read_volume(other)
        back = read_volume(one).reoriented(plain.orientation)
        np.testing.assert_allclose(back.affine, plain.affine, atol=1e-6)
        np.testing.assert_allclose(back.as_float(), plain.data, atol=float(np.ptp(plain.data)) / 65_000)
    images = [pydicom.dcmread(next(path.iterdir())) for path in series]
    assert {image.SyntheticData for image in images} == {"YES"}
    assert {image.Modality for image in images} == {"MR"}
    assert len({image.PatientID for image in images}) == 2
    about = json.loads((tmp_path / "dicom" / "samples.json").read_text())
    assert [one["file"] for one in about["samples"]] == ["synthetic-0000", "synthetic-0001"]


def test_a_sample_does_not_depend_on_how_many_are_drawn(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    (alone,) = generate_scans(folder, 1, tmp_path / "one", format="dicom")
    first = generate_scans(folder, 3, tmp_path / "three", format="dicom")[0]
    for one, other in zip(sorted(alone.iterdir()), sorted(first.iterdir()), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_air_in_hounsfield_units_makes_it_ct(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", low=-1000.0, high=-400.0, minimum=-1024.0)
    (series,) = generate_scans(folder, 1, tmp_path / "out", format="dicom")
    image = pydicom.dcmread(next(series.iterdir()))
    assert (image.Modality, image.RescaleType) == ("CT", "HU")


def test_an_unknown_format_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="Did you mean 'dicom'"):
        generate_scans(model(tmp_path / "model"), 1, tmp_path / "out", format="dicom-")
    assert not (tmp_path / "out").exists()


def test_a_bids_dataset_of_samples_says_so_everywhere(tmp_path: Path) -> None:
    paths = generate_scans(model(tmp_path / "model"), 2, tmp_path / "out", seed=5, format="bids", contrast="T1w")
    name = "sub-synthetic0001/anat/sub-synthetic0001_desc-synthetic_T1w"
    assert paths[1] == tmp_path / "out" / f"{name}.nii.gz"
    sidecar = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    assert (sidecar["Synthetic"], sidecar["MedganSeed"], sidecar["MedganIndex"]) == (True, 5, 1)
    assert json.loads((tmp_path / "out" / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    np.testing.assert_array_equal(
        read_volume(paths[1]).data, read_volume(generate_scans(tmp_path / "model", 2, tmp_path / "n", seed=5)[1]).data
    )
    program = Path(sys.executable).with_name("bids-validator-deno")
    if not program.exists():
        pytest.skip("bids-validator-deno is not installed (pip install 'medgan[test]')")
    answer = subprocess.run([program, str(tmp_path / "out"), "--format", "json"], capture_output=True, text=True)
    issues = json.loads(answer.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_a_bids_dataset_needs_a_contrast_and_nothing_else_does(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    with pytest.raises(MedganError, match="--contrast"):
        generate_scans(folder, 1, tmp_path / "out", format="bids")
    with pytest.raises(MedganError, match="for BIDS"):
        generate_scans(folder, 1, tmp_path / "out", contrast="T1w")
    assert not (tmp_path / "out").exists()

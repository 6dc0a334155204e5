"""What stands beside an upscaled scan: maps with exact geometry, the output check, a page that names nobody."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.networks.conditioned import ConditionedNetwork
from medgan.networks.saved import save_model
from medgan.reporter import Reporter
from medgan.workflows.upscale import upscale_scans


class _Heard(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights in its last layer."""
    torch.manual_seed(0)
    network = ConditionedNetwork(channels=4, blocks=1)
    with torch.no_grad():
        network.tail.weight.copy_(0.05 * torch.randn_like(network.tail.weight))
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
    return save_model(tmp_path_factory.mktemp("quuxington") / "model", config, weights)


def _head(shape: tuple[int, int, int]) -> np.ndarray:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head = 1 / (1 + np.exp(20 * (np.sqrt((x / 0.8) ** 2 + (y / 0.85) ** 2 + (z / 0.8) ** 2) - 1)))
    return np.asarray(600 * head * (1 + 0.2 * np.sin(9 * x + 4 * z) * np.sin(8 * y)), np.float32)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An oblique scan with thick slices; a patient's name in its header and its path."""
    folder = tmp_path / "grimbolda"
    folder.mkdir()
    angle = 0.2
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-np.cos(angle), np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 3]])
    affine[:3, 3] = (17, -30, 5)
    image = nib.Nifti1Image(_head((20, 22, 9)), affine)
    image.header["descrip"] = b"grimbolda quuxington"
    nib.save(image, folder / "sub-7_T1w.nii.gz")
    return folder / "sub-7_T1w.nii.gz"


def test_maps_stand_beside_the_result_on_its_grid_and_leave_it_alone(
    scan: Path, model_folder: Path, tmp_path: Path
) -> None:
    plain, with_maps = tmp_path / "plain" / "a.nii.gz", tmp_path / "maps" / "a.nii.gz"
    upscale_scans([scan], plain, model=model_folder)
    upscale_scans([scan], with_maps, model=model_folder, uncertainty=True)
    assert {path.name for path in with_maps.parent.iterdir()} == {
        *("a.nii.gz", "a.json", "a_spread.nii.gz", "a_spread.json", "a_unconfirmed.nii.gz", "a_unconfirmed.json")
    }
    result = nib.load(with_maps)
    np.testing.assert_array_equal(result.get_fdata(), nib.load(plain).get_fdata())
    assert json.loads(plain.with_name("a.json").read_text()) == json.loads(with_maps.with_name("a.json").read_text())
    for name in ("spread", "unconfirmed"):
        image = nib.load(with_maps.with_name(f"a_{name}.nii.gz"))
        assert image.shape == result.shape
        np.testing.assert_array_equal(image.affine, result.affine)
        assert image.header["qform_code"] == result.header["qform_code"]
        assert 0 < image.get_fdata().max() < 600
        about = with_maps.with_name(f"a_{name}.json").read_text()
        assert "not for diagnosis" in about
        assert "grimbolda" not in about


def test_physics_has_no_spread(scan: Path, tmp_path: Path) -> None:
    upscale_scans([scan], tmp_path / "out", model="physics", uncertainty=True)
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {
        "sub-7_T1w.nii.gz",
        "sub-7_T1w_unconfirmed.nii.gz",
    }


def test_the_verdict_is_in_the_sidecar_and_faults_are_said(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medgan.inference import upscale as module

    heard = _Heard()
    upscale_scans([scan], tmp_path / "good.nii.gz", model="physics", reporter=heard)
    check = json.loads((tmp_path / "good.json").read_text())["output_check"]
    assert (check["passed"], check["faults"]) == (True, [])
    assert not any("WARNING" in line for line in heard.lines)

    right = module.restored_channel
    monkeypatch.setattr(module, "restored_channel", lambda *arguments: np.float32(1.1) * right(*arguments))
    upscale_scans([scan], tmp_path / "bad.nii.gz", model="physics", reporter=heard)
    check = json.loads((tmp_path / "bad.json").read_text())["output_check"]
    assert not check["passed"]
    assert any(fault.startswith("contrast: 1.1") for fault in check["faults"])
    assert any("WARNING" in line and "contrast: 1.1" in line for line in heard.lines)


def test_results_without_the_maps_or_the_page_that_are_asked_for_are_made_again(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"model": "physics", "uncertainty": True, "report": tmp_path / "pages"}
    upscale_scans([scan], out, model="physics")
    assert not upscale_scans([scan], out, **options).skipped
    assert upscale_scans([scan], out, **options).skipped
    assert upscale_scans([scan], out, model="physics").skipped
    (tmp_path / "pages" / "sub-7_T1w.html").unlink()
    assert not upscale_scans([scan], out, **options).skipped
    # The map of another result, made with another thickness, does not count.
    assert not upscale_scans([scan], out, model="physics", thickness=2.5).skipped
    assert not upscale_scans([scan], out, thickness=2.5, **options).skipped


def test_several_volumes_and_bids_names(scan: Path, tmp_path: Path) -> None:
    image = nib.load(scan)
    both = np.stack([image.get_fdata(), 2 * image.get_fdata()[::-1]], axis=-1).astype(np.float32)
    nib.save(nib.Nifti1Image(both, image.affine), tmp_path / "sub-8_T1w.nii.gz")
    (result,) = upscale_scans(
        [tmp_path / "sub-8_T1w.nii.gz"], tmp_path / "set", model="physics", format="bids", uncertainty=True
    ).written
    assert "_desc-sr_" in result.name
    chart = nib.load(result.with_name(result.name.replace("_desc-sr_", "_desc-srunconfirmed_")))
    assert chart.shape == nib.load(result).shape
    assert chart.shape[3] == 2
    about = json.loads(result.with_name(result.name.replace(".nii.gz", ".json")).read_text())
    assert len(about["MedganOutputCheck"]["volumes"]) == 2


def test_maps_of_a_dicom_series_are_nifti_files_beside_its_folder(patient_series: Path, tmp_path: Path) -> None:
    (folder,) = upscale_scans(
        [patient_series], tmp_path / "out", model="physics", factor=(1, 1, 2), format="dicom", uncertainty=True
    ).written
    assert {path.suffix for path in folder.iterdir()} == {".dcm"}
    chart = nib.load(folder.with_name("first_unconfirmed.nii.gz"))
    assert sorted(chart.shape) == [5, 6, 12]
    assert "SECRET" not in folder.with_name("first_unconfirmed.json").read_text()
    assert b"SECRET" not in chart.header.binaryblock
    assert json.loads(folder.with_name("first.json").read_text())["output_check"]["volumes"]


def test_the_page_shows_what_is_needed_and_names_nobody(scan: Path, model_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    upscale_scans([scan], tmp_path / "out.nii.gz", model=model_folder, uncertainty=True, report=page)
    text = page.read_text()
    for words in (
        *("For research; not for diagnosis.", "Before and after", "Effective resolution", "Output check", "passed"),
        *("slice thickness unknown".capitalize(), "What the data cannot confirm", "a model of your own", "sha256"),
    ):
        assert words in text
    assert text.count("data:image/png;base64,") == 3
    assert 'src="http' not in text
    for name in ("quuxington", "grimbolda", "sub-7", str(tmp_path)):
        assert name not in text.lower()


def test_places_of_pages_that_make_no_sense_are_refused(scan: Path, tmp_path: Path) -> None:
    for name, words in (("page.pdf", "HTML file"), ("page.html", "cannot go into one")):
        nib.save(nib.load(scan), scan.with_name("sub-9_T1w.nii.gz"))
        with pytest.raises(MedganError, match=words):
            upscale_scans([scan, scan.with_name("sub-9_T1w.nii.gz")], tmp_path / "out", report=tmp_path / name)
    assert not (tmp_path / "out").exists()


def test_a_scan_that_was_fine_already_has_empty_maps(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(_head((12, 12, 12)), np.eye(4)), tmp_path / "a.nii.gz")
    upscale_scans([tmp_path / "a.nii.gz"], tmp_path / "b.nii.gz", model="physics", factor=(1, 1, 1), uncertainty=True)
    assert not nib.load(tmp_path / "b_unconfirmed.nii.gz").get_fdata().any()

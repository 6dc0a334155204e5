"""What `medgan upscale` makes of awkward scans: 4D, thick slices, labels, gaps, memory."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.inference import memory
from medgan.reporter import Reporter
from medgan.workflows import models
from medgan.workflows.upscale import upscale_scans


class Heard(Reporter):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def _saved(path: Path, shape: tuple[int, ...] = (8, 9, 6), dim_info: int | None = None, **sidecar: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)
    image = nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 4.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    if len(shape) == 4:
        image.header["pixdim"][4] = 2.5
    image.header.set_dim_info(slice=dim_info)
    nib.save(image, path)
    if sidecar:
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    return path


def test_a_4d_file_becomes_one_4d_file(tmp_path: Path) -> None:
    scan = _saved(tmp_path / "bold.nii.gz", (8, 9, 6, 3))
    (made,) = upscale_scans([scan], tmp_path / "out.nii.gz", model="physics").written
    image = nib.load(made)
    assert image.shape == (8, 9, 24, 3)
    assert image.header.get_zooms() == (1.0, 1.0, 1.0, 2.5)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    stored = nib.load(scan)
    nib.save(nib.Nifti1Image(np.asarray(stored.dataobj)[..., 1], stored.affine), tmp_path / "one.nii.gz")
    (alone,) = upscale_scans([tmp_path / "one.nii.gz"], tmp_path / "alone.nii.gz", model="physics").written
    np.testing.assert_array_equal(np.asarray(image.dataobj)[..., 1], np.asarray(nib.load(alone).dataobj))


@pytest.mark.parametrize(
    ("sidecar", "thickness", "phrase"),
    [
        ({}, None, "slice thickness unknown: touching slices of 4 mm assumed"),
        ({"EchoTime": 0.1}, None, "slice thickness unknown: touching slices of 4 mm assumed"),
        ({"SliceThickness": 3}, None, "slices 3 mm thick (Gaussian profile) every 4 mm, 1 mm apart, by the sidecar"),
        ({"SliceThickness": 5, "SpacingBetweenSlices": 4}, None, "every 4 mm, 1 mm overlapping, by the sidecar"),
        ({"SliceThickness": 3, "SpacingBetweenSlices": 9}, 4.0, "slices 4 mm thick (Gaussian profile) every 4 mm, t"),
    ],
)
def test_the_slice_thickness_and_how_it_is_known_are_said(
    sidecar: dict[str, object], thickness: float | None, phrase: str, tmp_path: Path
) -> None:
    scan, heard = _saved(tmp_path / "scan.nii.gz", **sidecar), Heard()
    upscale_scans([scan], tmp_path / "out.nii.gz", model="physics", thickness=thickness, reporter=heard)
    assert any(phrase in line for line in heard.lines)
    assert any(phrase in step for step in json.loads((tmp_path / "out.json").read_text())["history"])


def test_the_slice_axis_is_the_headers(tmp_path: Path) -> None:
    scan, heard = _saved(tmp_path / "scan.nii.gz", dim_info=1, SliceThickness=1.5), Heard()
    upscale_scans([scan], tmp_path / "out.nii.gz", model="physics", reporter=heard)
    assert any("1.5 mm thick (Gaussian profile) every 1 mm" in line for line in heard.lines)


@pytest.mark.parametrize(
    ("sidecar", "words", "blamed"),
    [
        ({"SliceThickness": "three"}, "SliceThickness is 'three', which is no length", "scan.json"),
        ({"SliceThickness": -3}, "slice thickness of -3.0 mm, which the sidecar says", "scan.nii.gz"),
        ({"SliceThickness": 22}, "slice thickness of 22.0 mm, which the sidecar says", "scan.nii.gz"),
        ({"SliceThickness": 5, "SpacingBetweenSlices": 6}, "does not describe this image", "scan.nii.gz"),
    ],
)
def test_sidecars_that_cannot_be_right_are_refused(
    sidecar: dict[str, object], words: str, blamed: str, tmp_path: Path
) -> None:
    with pytest.raises(MedganError, match=words) as caught:
        upscale_scans([_saved(tmp_path / "scan.nii.gz", **sidecar)], tmp_path / "out", model="physics")
    assert caught.value.file == tmp_path / blamed
    assert not (tmp_path / "out").exists()


def test_thickness_is_read_from_dicom(patient_series: Path, tmp_path: Path) -> None:
    import pydicom

    for path in patient_series.iterdir():
        image = pydicom.dcmread(path)
        image.SliceThickness = 1.5
        image.save_as(path)
    heard = Heard()
    upscale_scans([patient_series], tmp_path / "out", model="physics", factor=(1, 1, 2), reporter=heard)
    assert "first: slices 1.5 mm thick (Gaussian profile) every 2 mm, 0.5 mm apart, by the header" in heard.lines


def test_a_scan_at_the_wanted_spacing_is_written_as_it_is_with_a_note(tmp_path: Path) -> None:
    scan, heard = _saved(tmp_path / "scan.nii.gz"), Heard()
    upscale_scans([scan], tmp_path / "out.nii.gz", model="physics", spacing=(1, 1, 4), reporter=heard)
    assert any(line.endswith("already at the wanted spacing: unchanged") for line in heard.lines)
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj), np.asarray(nib.load(scan).dataobj)
    )


def test_labels_and_empty_scans_are_refused_by_name(tmp_path: Path) -> None:
    labels = _saved(tmp_path / "in" / "sub-1_desc-brain_mask.nii.gz")
    _saved(tmp_path / "in" / "sub-1_T1w.nii.gz")
    empty = tmp_path / "in" / "sub-2_T1w.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.float32), np.eye(4)), empty)
    result = upscale_scans([tmp_path / "in"], tmp_path / "out", model="physics")
    assert [path.name for path in result.written] == ["sub-1_T1w.nii.gz"]
    reasons = dict(result.failures)
    assert "label map (by its name, which ends in 'mask')" in reasons[labels]
    assert "every voxel is 0" in reasons[empty]


def test_too_little_memory_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 600 * 2**20)
    scan = _saved(tmp_path / "bold.nii.gz", (8, 9, 6, 3))
    upscale_scans([scan], tmp_path / "small.nii.gz", model="physics")
    with pytest.raises(MedganError, match="400 x 450 x 300 voxels, more than fit into memory") as caught:
        upscale_scans([scan], tmp_path / "large.nii.gz", model="physics", factor=(50, 50, 50))
    assert caught.value.file == scan
    assert "coarser spacing" in str(caught.value)
    assert "volumes one by one" in str(caught.value)
    assert not (tmp_path / "large.nii.gz").exists()


def test_without_a_model_the_shipped_one_is_taken_or_it_is_said_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = Heard()
    monkeypatch.setattr(models, "shipped_models", lambda: ("mri-universal",))
    assert models.chosen_model(None, heard) == "mri-universal"
    monkeypatch.setattr(models, "shipped_models", lambda: ())
    assert models.chosen_model(None, heard) == "physics"
    assert models.chosen_model("runs/mine", heard) == "runs/mine"
    assert heard.lines[0] == "model: mri-universal (shipped with medgan)"
    assert "this installation has no mri-universal" in heard.lines[1]
    assert len(heard.lines) == 2


def test_misspelt_models_are_answered_with_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "shipped_models", lambda: ("mri-universal",))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MedganError, match="Did you mean 'mri-universal'"):
        models.resolve_model("mri-univrsal")
    with pytest.raises(MedganError, match="Did you mean 'physics'"):
        models.resolve_model("phisics")


def test_a_model_that_is_not_shipped_is_refused() -> None:
    from medgan.pretrained import shipped_model

    with pytest.raises(MedganError, match="no model called 'nothing'"):
        shipped_model("nothing")

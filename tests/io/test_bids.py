"""Names and datasets, judged by the official BIDS validator."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.io.bids import DERIVATIVE, RAW, BidsName, describe_dataset, resolution_label, source_of, write_bids
from medgan.volume import Volume
from medgan.workflows.convert import convert
from medgan.workflows.upscale import upscale_scans

Validate = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture
def errors(tmp_path: Path) -> Validate:
    """What the official validator finds wrong with a dataset, its warnings left out."""
    program = shutil.which("bids-validator-deno") or str(Path(sys.executable).with_name("bids-validator-deno"))
    if not Path(program).exists():
        pytest.skip("bids-validator-deno is not installed (pip install 'medgan[test]')")

    def validate(dataset: Path) -> list[dict[str, Any]]:
        answer = subprocess.run([program, str(dataset), "--format", "json"], capture_output=True, text=True)
        issues = json.loads(answer.stdout)["issues"]["issues"]
        return [issue for issue in issues if issue["severity"] == "error"]

    return validate


def _scan(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    image = nib.Nifti1Image(rng.integers(0, 900, (12, 14, 6)).astype(np.int16), np.diag([2.0, 2, 5, 1]))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


class TestNames:
    @pytest.mark.parametrize(
        ("scan", "stem"),
        [
            ("sub-01_T1w", "sub-01_T1w"),
            ("sub-01_ses-02_acq-3d_run-1_FLAIR", "sub-01_ses-02_acq-3d_run-1_FLAIR"),
            ("sub-01_run-2_ses-1_T2w", "sub-01_ses-1_run-2_T2w"),
            ("sub-a1_task-rest_dir-AP_res-2mm_desc-old_T1w", "sub-a1_T1w"),
            ("sub-07_mprage", "sub-07_T1w"),
        ],
    )
    def test_entities_are_those_of_the_scan_in_their_order(self, scan: str, stem: str) -> None:
        assert BidsName.of_scan(scan).stem == stem

    def test_options_say_what_the_name_does_not(self) -> None:
        name = BidsName.of_scan("IXI014-HH-1236_T1", subject="sub-IXI014")
        assert name.path.as_posix() == "sub-IXI014/anat/sub-IXI014_T1w.nii.gz"
        assert BidsName.of_scan("scan", subject="1", contrast="FLAIR").stem == "sub-1_FLAIR"

    def test_derivatives_come_after_everything_else(self) -> None:
        name = BidsName.of_scan("sub-01_ses-2_run-1_T1w").with_entities(desc="sr", res="1mm")
        assert name.path.as_posix() == "sub-01/ses-2/anat/sub-01_ses-2_run-1_res-1mm_desc-sr_T1w.nii.gz"

    @pytest.mark.parametrize("scan", ["scan_T1w", "subject01_T1w", "T1w"])
    def test_a_scan_of_nobody_is_asked_about(self, scan: str) -> None:
        with pytest.raises(MedganError, match="--subject"):
            BidsName.of_scan(scan)

    @pytest.mark.parametrize("scan", ["sub-01", "sub-01_t1c", "sub-01_ct", "sub-01_axial"])
    def test_a_contrast_is_never_guessed(self, scan: str) -> None:
        with pytest.raises(MedganError, match="--contrast"):
            BidsName.of_scan(scan)

    @pytest.mark.parametrize(("subject", "contrast"), [("a_b", "T1w"), ("a-b", "T1w"), ("", "T1w"), ("01", "CT")])
    def test_labels_and_suffixes_are_those_that_bids_allows(self, subject: str, contrast: str) -> None:
        with pytest.raises(MedganError):
            BidsName.of_scan("scan", subject=subject, contrast=contrast)

    def test_runs_are_numbers(self) -> None:
        with pytest.raises(MedganError, match="run"):
            BidsName("01", "T1w", {"run": "a"})

    @pytest.mark.parametrize(
        ("factor", "spacing", "label"),
        [
            (None, (1.0, 1.0, 1.0), "1mm"),
            (None, (0.9, 0.9, 1.25), "0p9x0p9x1p25mm"),
            ((1.0, 1.0, 4.0), None, "1x1x4times"),
            (None, None, "high"),
        ],
    )
    def test_resolutions_have_labels(
        self, factor: tuple[float, ...] | None, spacing: tuple[float, ...] | None, label: str
    ) -> None:
        assert resolution_label(factor, spacing) == label
        assert label.isalnum()


def test_upscaled_scans_are_a_valid_derivative(tmp_path: Path, errors: Validate) -> None:
    scans = [_scan(tmp_path / "in" / name) for name in ("sub-01_ses-1_T1w.nii.gz", "sub-02_ses-1_FLAIR.nii.gz")]
    result = upscale_scans(scans, tmp_path / "out", model="physics", factor=(1, 1, 2), format="bids")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in result.written] == [
        "sub-01/ses-1/anat/sub-01_ses-1_res-1x1x2times_desc-sr_T1w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_res-1x1x2times_desc-sr_FLAIR.nii.gz",
    ]
    assert errors(tmp_path / "out") == []
    sidecar = json.loads(result.written[0].with_name("sub-01_ses-1_res-1x1x2times_desc-sr_T1w.json").read_text())
    assert sidecar["Resolution"] == "Voxels of 2 x 2 x 2.5 mm"
    assert sidecar["SkullStripped"] is False
    description = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "medgan"


def test_what_the_source_says_of_the_skull_is_kept(tmp_path: Path) -> None:
    scan = _scan(tmp_path / "sub-01_T1w.nii.gz")
    (tmp_path / "sub-01_T1w.json").write_text('{"SkullStripped": true}')
    (written,) = upscale_scans([scan], tmp_path / "out", model="physics", factor=(1, 1, 2), format="bids").written
    sidecar = json.loads(written.with_name(written.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["SkullStripped"] is True


def test_the_validator_sees_a_wrong_name(tmp_path: Path, errors: Validate) -> None:
    """The validator is at work: what the tests above rely on."""
    (written,) = upscale_scans(
        [_scan(tmp_path / "sub-01_T1w.nii.gz")], tmp_path / "out", model="physics", factor=(1, 1, 2), format="bids"
    ).written
    written.rename(written.with_name("sub-01_desc-sr_res-high_T1w.nii.gz"))
    assert errors(tmp_path / "out")


def test_a_converted_scan_is_a_valid_raw_dataset(tmp_path: Path, errors: Validate) -> None:
    for number in (1, 2):
        scan = _scan(tmp_path / f"scan{number}_T2w.nii.gz")
        path = convert(scan, tmp_path / "out", format="bids", subject=f"{number:02d}")
        assert path.name == f"sub-{number:02d}_T2w.nii.gz"
        np.testing.assert_array_equal(nib.load(path).get_fdata(), nib.load(scan).get_fdata())
    assert errors(tmp_path / "out") == []
    assert json.loads((tmp_path / "out" / "dataset_description.json").read_text())["DatasetType"] == "raw"


def test_facts_of_the_acquisition_are_in_seconds(tmp_path: Path, errors: Validate) -> None:
    facts = {"echo_time": 4.6, "repetition_time": 9.8, "flip_angle": 8.0, "modality": "MR", "dicom": {"series": "1.2"}}
    volume = Volume(np.ones((4, 4, 4), np.int16), np.eye(4), (), facts)
    describe_dataset(tmp_path / "out", "x", RAW, "A test.\n")
    path = write_bids(volume, tmp_path / "out", BidsName("01", "T1w"), description="", about={})
    sidecar = json.loads(path.with_name("sub-01_T1w.json").read_text())
    assert sidecar == {"EchoTime": 0.0046, "RepetitionTime": 0.0098, "FlipAngle": 8.0}
    assert errors(tmp_path / "out") == []


def test_a_derivative_refers_to_the_dataset_that_it_stands_in(tmp_path: Path, errors: Validate) -> None:
    raw = tmp_path / "raw"
    convert(_scan(tmp_path / "sub-01_T1w.nii.gz"), raw, format="bids")
    out = raw / "derivatives" / "medgan"
    scan = raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    upscale_scans([scan], out, model="physics", factor=(1, 1, 2), format="bids")
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["SourceDatasets"] == [{"URL": "../.."}]
    assert errors(out) == []


def test_a_published_dataset_is_referred_to_by_its_doi(tmp_path: Path) -> None:
    scan = _scan(tmp_path / "Jane_Doe" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    described = {"Name": "x", "BIDSVersion": "1.9.0", "DatasetDOI": "doi:10.18112/x", "DatasetVersion": "2"}
    (tmp_path / "Jane_Doe" / "dataset_description.json").write_text(json.dumps(described))
    assert source_of(scan, tmp_path / "out") == {"DOI": "doi:10.18112/x", "Version": "2"}
    (tmp_path / "Jane_Doe" / "dataset_description.json").write_text(json.dumps({"Name": "x"}))
    assert source_of(scan, tmp_path / "out") is None
    assert source_of(tmp_path / "elsewhere.nii", tmp_path / "out") is None


def test_neither_sidecar_nor_description_says_where_a_scan_was(tmp_path: Path) -> None:
    scan = _scan(tmp_path / "Jane_Doe_1970" / "Jane_T1w.nii.gz")
    upscale_scans([scan], tmp_path / "out", model="physics", factor=(1, 1, 2), format="bids", subject="x1")
    content = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"Jane" not in content
    assert str(tmp_path).encode() not in content


def test_two_scans_of_one_name_are_refused_before_any_work(tmp_path: Path) -> None:
    scans = [_scan(tmp_path / folder / "sub-01_T1w.nii.gz") for folder in ("a", "b")]
    with pytest.raises(MedganError, match=r"two scans would become|does not say"):
        upscale_scans(scans, tmp_path / "out", model="physics", factor=(1, 1, 2), format="bids")
    with pytest.raises(MedganError, match="two scans would become"):
        upscale_scans(
            scans, tmp_path / "out", model="physics", factor=(1, 1, 2), format="bids", subject="1", contrast="T1w"
        )
    assert not (tmp_path / "out").exists()


def test_what_stands_at_the_output_is_respected(tmp_path: Path) -> None:
    scan = _scan(tmp_path / "sub-01_T1w.nii.gz")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(MedganError, match="no BIDS dataset"):
        convert(scan, tmp_path / "full", format="bids")
    convert(scan, tmp_path / "raw", format="bids")
    with pytest.raises(MedganError, match="no derivative dataset of medgan"):
        upscale_scans([scan], tmp_path / "raw", model="physics", factor=(1, 1, 2), format="bids")
    with pytest.raises(MedganError, match="name of a file"):
        convert(scan, tmp_path / "out.nii.gz", format="bids")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_options_of_bids_need_the_format(tmp_path: Path) -> None:
    scan = _scan(tmp_path / "sub-01_T1w.nii.gz")
    with pytest.raises(MedganError, match="for BIDS"):
        convert(scan, tmp_path / "out.nii.gz", subject="1")
    with pytest.raises(MedganError, match="for BIDS"):
        upscale_scans([scan], tmp_path / "out", model="physics", factor=(1, 1, 2), contrast="T1w")


def test_a_dataset_of_its_own_kind_is_continued(tmp_path: Path) -> None:
    describe_dataset(tmp_path / "out", "first", DERIVATIVE, "readme\n")
    describe_dataset(tmp_path / "out", "second", DERIVATIVE, "other\n")
    assert json.loads((tmp_path / "out" / "dataset_description.json").read_text())["Name"] == "first"

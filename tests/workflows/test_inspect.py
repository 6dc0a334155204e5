from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from medgan.workflows.inspect import SeriesSummary, inspect, print_summaries


def saved(path: Path, array: np.ndarray, codes: tuple[int, int] = (1, 1)) -> Path:
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


RAMP = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 20


def test_a_good_file_is_described_without_problems(tmp_path: Path) -> None:
    (summary,) = inspect([saved(tmp_path / "sub-01_T1w.nii.gz", RAMP)])
    assert summary == SeriesSummary(
        path=tmp_path / "sub-01_T1w.nii.gz",
        kind="nifti",
        shape=(4, 5, 6),
        spacing=(1.0, 2.0, 3.0),
        orientation="LAS",
        dtype="int16",
        modality="MR",
        contrast="T1w",
        intensity=(-20.0, 99.0),
    )


def with_nan() -> np.ndarray:
    array = RAMP.astype(np.float32)
    array[0, 0, :3] = np.nan
    return array


@pytest.mark.parametrize(
    ("array", "codes", "words"),
    [
        (with_nan(), (1, 1), "3 of 120 voxels are not finite"),
        (np.stack([RAMP, RAMP], -1), (1, 1), "a 4D image of 2 volumes"),
        (RAMP, (0, 0), "orientation unknown"),
        (np.zeros_like(RAMP), (1, 1), "every voxel has the value 0"),
        (RAMP[..., :1], (1, 1), "a single slice"),
        (RAMP.astype(np.complex64), (1, 1), "complex"),
    ],
)
def test_problems_are_reported_with_what_is_known(tmp_path: Path, array: np.ndarray, codes, words: str) -> None:
    (summary,) = inspect([saved(tmp_path / "scan.nii", array, codes)])
    assert summary.shape == array.shape
    assert summary.spacing == (1.0, 2.0, 3.0)
    assert summary.dtype == str(array.dtype)
    (problem,) = summary.problems
    assert words in problem
    assert str(tmp_path) not in problem


def test_nothing_makes_it_fail(tmp_path: Path) -> None:
    saved(tmp_path / "good.nii", RAMP)
    (tmp_path / "empty.nii").write_bytes(b"")
    (tmp_path / "noise.nii.gz").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "noise.dcm").write_bytes(b"\0" * 128 + b"DICM" + bytes(range(256)) * 9)
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    paths = [tmp_path, tmp_path / "missing", tmp_path / "nothing", tmp_path / "text.txt", tmp_path / "empty.nii"]
    summaries = inspect(paths)
    problems = {(summary.path.name, summary.kind): summary.problems for summary in summaries}
    assert problems.pop(("good.nii", "nifti")) == ()
    assert all(len(problem) == 1 for problem in problems.values())
    assert {name for name, _ in problems} >= {
        "empty.nii",
        "noise.nii.gz",
        "empty.dcm",
        "missing",
        "nothing",
        "text.txt",
    }
    assert "empty" in problems["empty.nii", "nifti"][0]
    assert "no such file" in problems["missing", "unknown"][0]


def test_the_json_form_is_plain(tmp_path: Path) -> None:
    saved(tmp_path / "a.nii", RAMP)
    (tmp_path / "b.nii").write_bytes(b"")
    content = json.loads(json.dumps([summary.to_dict() for summary in inspect([tmp_path])], allow_nan=False))
    assert content[0]["shape"] == [4, 5, 6]
    assert content[0]["problems"] == []
    assert content[1]["shape"] is None
    assert content[1]["path"] == str(tmp_path / "b.nii")


def test_the_table_names_every_scan_and_its_problems(tmp_path: Path) -> None:
    saved(tmp_path / "[red]_FLAIR.nii", RAMP)
    saved(tmp_path / "b.nii", np.zeros_like(RAMP))
    console = Console(file=StringIO(), width=300)
    print_summaries(inspect([tmp_path]), console)
    text = console.file.getvalue()
    for words in ("[red]_FLAIR.nii", "4 x 5 x 6", "1 x 2 x 3", "LAS", "int16", "MR FLAIR", "-20 to 99"):
        assert words in text
    assert f"{tmp_path / 'b.nii'}: every voxel has the value 0" in text


@pytest.mark.data
def test_awkward_dicom_files_are_all_reported(test_data: Path) -> None:
    folder = test_data / "dicom" / "awkward_single_files"
    assert all(summary.problems for summary in inspect([folder]))
    for path in sorted(folder.glob("*.dcm")):
        (summary,) = inspect([path])
        assert summary.problems, path
        json.dumps(summary.to_dict(), allow_nan=False)
    (small,) = inspect([folder / "CT_small.dcm"])
    assert (small.kind, small.modality, small.shape) == ("dicom", "CT", (128, 128, 1))


@pytest.mark.data
def test_real_scans_are_described(test_data: Path) -> None:
    (summary,) = inspect([test_data / "mri_thick2d_openms_raw" / "patient12_study1" / "FLAIR.nii.gz"])
    assert (summary.shape, summary.orientation, summary.contrast) == ((320, 320, 48), "LPS", "FLAIR")
    mosaic = inspect([test_data / "dicom" / "siemens_mosaic_4d"])[0]
    assert "mosaic" in mosaic.problems[0]
    assert mosaic.series is not None


def test_importing_the_workflows_costs_little() -> None:
    code = (
        "import sys, medgan.workflows.inspect, medgan.workflows.convert;"
        "print([name for name in ('torch', 'monai', 'nibabel', 'pydicom', 'rich', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from rich.console import Console
from typer.testing import CliRunner

from medgan.cli import app
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
    together = inspect([folder])
    assert all(summary.problems or summary.left_out for summary in together)
    assert {summary.role for summary in together} >= {"image", "radiotherapy dose", "radiotherapy image"}
    for path in sorted(folder.glob("*.dcm")):
        (summary,) = inspect([path])
        assert summary.problems or summary.left_out, path
        json.dumps(summary.to_dict(), allow_nan=False)
    (small,) = inspect([folder / "CT_small.dcm"])
    assert (small.kind, small.modality, small.shape) == ("dicom", "CT", (128, 128, 1))


@pytest.mark.data
def test_real_scans_are_described(test_data: Path) -> None:
    (summary,) = inspect([test_data / "mri_thick2d_openms_raw" / "patient12_study1" / "FLAIR.nii.gz"])
    assert (summary.shape, summary.orientation, summary.contrast) == ((320, 320, 48), "LPS", "FLAIR")
    mosaic = [one for one in inspect([test_data / "dicom" / "siemens_mosaic_4d"]) if one.kind == "dicom"]
    assert [(one.index, one.label, one.shape) for one in mosaic] == [
        (0, "acquisition 1", (72, 72, 5)),
        (1, "acquisition 2", (72, 72, 5)),
    ]
    assert len({(one.series, one.number) for one in mosaic}) == 1
    assert all(one.readable and one.files == 1 for one in mosaic)


def test_importing_the_workflows_costs_little() -> None:
    code = (
        "import sys, medgan.workflows.inspect, medgan.workflows.convert;"
        "print([name for name in ('torch', 'monai', 'nibabel', 'pydicom', 'rich', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_dicom_volumes_and_what_is_left_out_are_told(tmp_path: Path, dicom_slices) -> None:
    for echo in (1, 2):
        for dataset in dicom_slices(count=4, series="1.2.3", name=f"e{echo}"):
            dataset.EchoNumbers, dataset.SeriesDescription = echo, "t2_tse"
            dataset.save_as(tmp_path / dataset.filename, enforce_file_format=True)
    (localiser,) = dicom_slices(count=1, series="1.2.4", name="loc")
    localiser.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    localiser.save_as(tmp_path / "loc", enforce_file_format=True)
    (tmp_path / "broken.dcm").write_bytes(b"")
    first, second, left_out, broken = inspect([tmp_path])
    assert [(one.index, one.label, one.files, one.contrast) for one in (first, second)] == [
        (0, "echo 1", 4, "T2w"),
        (1, "echo 2", 4, "T2w"),
    ]
    assert first.readable
    assert not first.problems
    assert (left_out.role, left_out.path, left_out.problems) == ("localiser", tmp_path / "loc", ())
    assert left_out.left_out
    assert not left_out.readable
    assert "empty" in broken.problems[0]
    console = Console(file=StringIO(), width=300)
    print_summaries([first, second, left_out], console)
    text = console.file.getvalue()
    for words in ("0: echo 1", "1: echo 2", "left out: localiser", "series", "6 x 5 x 4"):
        assert words in text
    content = json.loads(json.dumps([one.to_dict() for one in (first, left_out)], allow_nan=False))
    assert content[0]["label"] == "echo 1"
    assert content[1]["role"] == "localiser"


def test_what_is_left_out_fails_no_inspection(tmp_path: Path, dicom_slices) -> None:
    for dataset in dicom_slices(count=3, series="1.2.3", name="t1"):
        dataset.save_as(tmp_path / dataset.filename, enforce_file_format=True)
    (scout,) = dicom_slices(count=1, series="1.2.4", name="scout")
    scout.Modality, scout.SeriesDescription = "CT", "Topogram"
    scout.save_as(tmp_path / "scout", enforce_file_format=True)
    done = CliRunner().invoke(app, ["inspect", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert [one["role"] for one in json.loads(done.stdout)] == ["image", "scout"]


@pytest.fixture
def dicom_slices() -> Callable[..., list[FileDataset]]:
    """Slices of 5 rows and 6 columns of one series; `filename` is a name for each."""

    def made(count: int, series: str, name: str) -> list[FileDataset]:
        slices = []
        for k in range(count):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset = FileDataset(f"{name}-{k}", {}, file_meta=meta, preamble=b"\0" * 128)
            dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
            dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.Modality = series, 7, "MR"
            dataset.Rows, dataset.Columns, dataset.PixelSpacing = 5, 6, [1, 1]
            dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2 * k]
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
            dataset.PixelRepresentation, dataset.PixelData = 0, np.full((5, 6), k, np.uint16).tobytes()
            slices.append(dataset)
        return slices

    return made

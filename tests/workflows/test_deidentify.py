"""De-identifying whole series: files in, files out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from typer.testing import CliRunner

import medgan
from medgan.cli import app
from medgan.errors import MedganError
from medgan.io.dicom.pseudonyms import KEY_VARIABLE
from medgan.workflows.deidentify import deidentify

NAME, NUMBER = "Quuxington", "MRN5550123"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(bytes(range(1, 33)) + b"\n")
    return path


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Five oblique slices of a patient whose name stands in files and folders."""
    return _series(tmp_path / f"{NAME}_{NUMBER}")


def _series(folder: Path, *, number: int = 7, study: str = "1.2.3.4", modality: str = "MR") -> Path:
    folder.mkdir(parents=True)
    uid, frame = generate_uid(), "1.2.3.4.9"
    for k in range(5):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, generate_uid()
        image.PatientName, image.PatientID = f"{NAME}^Wilma", NUMBER
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, uid, frame
        image.StudyDate, image.Modality, image.SeriesNumber, image.InstanceNumber = "20190203", modality, number, 5 - k
        image.SeriesDescription, image.ImageType = f"t1 {NAME}", ["ORIGINAL", "PRIMARY", "M"]
        image.ImageOrientationPatient, image.PixelSpacing = [0.8, 0.6, 0, 0, 0, -1], [1.25, 0.75]
        image.ImagePositionPatient = [10 - 0.6 * 2 * k, 20 + 0.8 * 2 * k, 30]
        image.Rows, image.Columns, image.SamplesPerPixel = 6, 8, 1
        image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 0
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
        image.PixelData = (np.arange(48, dtype=np.uint16) + 100 * k).tobytes()
        pydicom.dcmwrite(folder / f"{NAME}_{k}.dcm", image, enforce_file_format=True)
    return folder


def _images(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def test_a_series_reads_to_the_same_volume(series: Path, key: Path, tmp_path: Path) -> None:
    result = deidentify(series, tmp_path / "out", key_file=key)
    assert result.written == (tmp_path / "out",)
    before, after = medgan.read_volume(series), medgan.read_volume(tmp_path / "out")
    np.testing.assert_array_equal(after.data, before.data)
    np.testing.assert_array_equal(after.affine, before.affine)
    reader = SimpleITK.ImageSeriesReader()
    images = []
    for folder in (series, tmp_path / "out"):
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        images.append(reader.Execute())
    assert images[0].GetOrigin() == images[1].GetOrigin()
    assert images[0].GetDirection() == images[1].GetDirection()
    np.testing.assert_array_equal(*(SimpleITK.GetArrayViewFromImage(image) for image in images))


def test_neither_bytes_nor_names_tell_who_it_is(series: Path, key: Path, tmp_path: Path) -> None:
    deidentify(series, tmp_path / "out", key_file=key)
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*"))
    assert files == [f"{n:06d}.dcm" for n in range(1, 6)]
    numbers = [image.InstanceNumber for image in _images(tmp_path / "out")]
    assert numbers == sorted(numbers)
    own = [str(pydicom.dcmread(path)[k].value) for path in series.iterdir() for k in (0x80018, 0x20000E, 0x20000D)]
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        for planted in (NAME, NUMBER, "Wilma", "20190203", *own):
            assert planted.lower().encode() not in content.lower(), planted


def test_pixels_are_the_same_bytes_and_the_source_is_untouched(series: Path, key: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in series.iterdir()}
    deidentify(series, tmp_path / "out", key_file=key)
    assert {path.name: path.read_bytes() for path in series.iterdir()} == before
    pixels = {pydicom.dcmread(path).PixelData for path in series.iterdir()}
    assert {image.PixelData for image in _images(tmp_path / "out")} == pixels


def test_the_same_key_gives_the_same_files_and_another_others(series: Path, key: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        deidentify(series, tmp_path / name, key_file=key)
    key.write_bytes(b"another secret of sixteen bytes")
    deidentify(series, tmp_path / "c", key_file=key)
    content = {name: [path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in "abc"}
    assert content["a"] == content["b"] != content["c"]


def test_several_series_of_a_study_stay_together(tmp_path: Path, key: Path) -> None:
    _series(tmp_path / "in" / "one", number=2)
    _series(tmp_path / "in" / "two", number=1)
    result = deidentify(tmp_path / "in", tmp_path / "out", key_file=key)
    assert [path.name for path in result.written] == ["series-001", "series-002"]
    first, second = (_images(path)[0] for path in result.written)
    assert (first.SeriesNumber, second.SeriesNumber) == (1, 2)
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert (first.PatientID, first.StudyDate) == (second.PatientID, second.StudyDate)


def test_a_refused_series_costs_no_other(tmp_path: Path, key: Path) -> None:
    _series(tmp_path / "in" / "good", number=1)
    bad = _series(tmp_path / "in" / "bad", number=2)
    path = bad / f"{NAME}_3.dcm"
    image = pydicom.dcmread(path)
    image.BurnedInAnnotation = "YES"
    image.save_as(path)
    result = deidentify(tmp_path / "in", tmp_path / "out", key_file=key)
    assert [folder.name for folder in result.written] == ["series-001"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["series-001"]
    (failed,) = result.failures
    assert failed[0] == bad
    assert "BurnedInAnnotation" in failed[1]


def test_the_only_series_refused_leaves_nothing(series: Path, key: Path, tmp_path: Path) -> None:
    path = series / f"{NAME}_0.dcm"
    image = pydicom.dcmread(path)
    image.BurnedInAnnotation = "YES"
    image.save_as(path)
    with pytest.raises(MedganError, match="BurnedInAnnotation"):
        deidentify(series, tmp_path / "out", key_file=key)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["key", series.name])


def test_a_damaged_file_refuses_its_series(series: Path, key: Path, tmp_path: Path) -> None:
    path = series / f"{NAME}_2.dcm"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(MedganError, match=f"{NAME}_2"):
        deidentify(series, tmp_path / "out", key_file=key)
    assert not (tmp_path / "out").exists()


def test_a_mark_of_captures_needs_somebody_who_looked(series: Path, key: Path, tmp_path: Path) -> None:
    for path in series.iterdir():
        image = pydicom.dcmread(path)
        image.ConversionType = "WSD"
        image.save_as(path)
    with pytest.raises(MedganError, match="captured from a screen"):
        deidentify(series, tmp_path / "out", key_file=key)
    deidentify(series, tmp_path / "out", key_file=key, pixels_checked=True)
    assert len(_images(tmp_path / "out")) == 5


def test_keys_come_from_the_environment_too(
    series: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deidentify(series, tmp_path / "file", key_file=key)
    with pytest.raises(MedganError, match="no key"):
        deidentify(series, tmp_path / "none")
    key.write_text("seventeen letters")
    deidentify(series, tmp_path / "file2", key_file=key)
    monkeypatch.setenv(KEY_VARIABLE, "seventeen letters ")
    deidentify(series, tmp_path / "variable")
    assert _images(tmp_path / "variable") == _images(tmp_path / "file2") != _images(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"short", b" " * 64])
def test_a_key_that_is_no_secret_is_refused(series: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(MedganError, match="at least 16"):
        deidentify(series, tmp_path / "out", key_file=tmp_path / "key")


def test_a_missing_key_and_an_existing_output_are_refused(series: Path, key: Path, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="cannot be read"):
        deidentify(series, tmp_path / "out", key_file=tmp_path / "nowhere")
    with pytest.raises(MedganError, match="exists already"):
        deidentify(series, series, key_file=key)


def test_the_command_line_says_where_and_nothing_of_whom(series: Path, key: Path, tmp_path: Path) -> None:
    call = ["convert", str(series), str(tmp_path / "out"), "--deidentify", "--key-file", str(key)]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip().splitlines()[-1] == str(tmp_path / "out")
    assert NUMBER not in result.stdout.replace(str(series), "")


@pytest.mark.parametrize(
    "extra", [["--deidentify", "--format", "dicom"], ["--deidentify", "--index", "0"], ["--key-file", "k"]]
)
def test_options_that_do_not_go_together_are_refused(series: Path, tmp_path: Path, extra: list[str]) -> None:
    result = CliRunner().invoke(app, ["convert", str(series), str(tmp_path / "out"), *extra])
    assert isinstance(result.exception, MedganError)
    assert not (tmp_path / "out").exists()


REAL = ["generic_anatomical_001", "generic_compressed_001", "philips_enhanced_anatomical_001"]


@pytest.mark.parametrize("name", REAL)
def test_real_series_read_to_the_same_volume(test_data: Path, key: Path, tmp_path: Path, name: str) -> None:
    shutil.unpack_archive(test_data / "dicom" / "fixtures_dicom2nifti" / f"{name}.zip", tmp_path / "in")
    deidentify(tmp_path / "in", tmp_path / "out", key_file=key)
    before, after = medgan.read_volume(tmp_path / "in"), medgan.read_volume(tmp_path / "out")
    np.testing.assert_array_equal(after.data, before.data)
    np.testing.assert_array_equal(after.affine, before.affine)
    written = next(path for path in (tmp_path / "out").iterdir())
    source = next(path for path in sorted((tmp_path / "in").rglob("*")) if path.is_file())
    assert pydicom.dcmread(written).file_meta.TransferSyntaxUID == pydicom.dcmread(source).file_meta.TransferSyntaxUID


def test_a_nifti_from_dicom_holds_no_header_text(series: Path, tmp_path: Path) -> None:
    for name in ("scan.nii", "scan2.nii"):
        assert CliRunner().invoke(app, ["convert", str(series), str(tmp_path / name)]).exit_code == 0
    content = (tmp_path / "scan.nii").read_bytes()
    header = content[:352]
    for planted in (NAME, NUMBER, "Wilma", "20190203", "t1 ", str(tmp_path)):
        assert planted.encode() not in content
    # db_name, descrip, aux_file and intent_name of the NIfTI-1 header.
    for start, stop in ((14, 32), (148, 228), (228, 252), (328, 344)):
        assert not header[start:stop].strip(b"\0")

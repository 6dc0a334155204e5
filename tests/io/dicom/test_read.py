"""Phantoms of known geometry, and SimpleITK as a second reader where it is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML, CTImageStorage, EnhancedMRImageStorage, JPEG2000Lossless

from medgan.errors import MedganError
from medgan.io.dicom import pixels
from medgan.io.dicom.read import read_series

Write = Callable[..., Path]


def itk_read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (X, Y, Z) and RAS affine as SimpleITK has them."""
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(MedganError) as caught:
        read_series(folder, **options)
    assert caught.value.file is not None
    return str(caught.value)


@pytest.mark.parametrize(
    "numbers",
    [[1, 2, 3, 4, 5, 6], [1, 3, 5, 2, 4, 6], [1] * 6, [6, 5, 4, 3, 2, 1], [None] * 6],
    ids=["in order", "interleaved", "all equal", "reversed", "absent"],
)
def test_slices_are_placed_by_position_whatever_their_numbers(phantom, write: Write, numbers) -> None:
    datasets = phantom.datasets()
    for dataset, number in zip(datasets, numbers, strict=True):
        dataset.InstanceNumber = number
    folder = write(datasets, names=[f"{name}.dcm" for name in "bfadce"])
    volume = read_series(folder)
    assert volume.shape == (7, 5, 6)
    assert volume.data.dtype == np.uint16
    np.testing.assert_array_equal(volume.data[0], phantom.voxels)
    np.testing.assert_allclose(volume.affine, phantom.ras, atol=1e-8)
    voxels, affine = itk_read(folder)
    np.testing.assert_array_equal(volume.data[0], voxels)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)


def test_a_stack_stored_from_last_to_first_is_the_same_volume(phantom, write: Write) -> None:
    volume = read_series(write(phantom.datasets()[::-1]))
    np.testing.assert_array_equal(volume.data[0], phantom.voxels)
    np.testing.assert_allclose(volume.affine, phantom.ras, atol=1e-8)


def test_each_slice_is_rescaled_by_its_own_factors_before_stacking(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    slopes = [1, 0.5, 2.25, 0.001, 1, 3]
    intercepts = [0, -1024, 3.5, 0, 0.25, -7]
    for dataset, slope, intercept in zip(datasets, slopes, intercepts, strict=True):
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    volume = read_series(write(datasets))
    expected = phantom.voxels.astype(np.float64) * slopes + intercepts
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data[0], expected.astype(np.float32))


def test_signed_pixels_stay_signed_and_ct_becomes_hounsfield_units(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        pixels = np.frombuffer(dataset.PixelData, np.uint16).astype(np.int16) - 500
        dataset.PixelData, dataset.PixelRepresentation = pixels.tobytes(), 1
    volume = read_series(write(datasets, folder="signed"))
    assert volume.data.dtype == np.int16
    np.testing.assert_array_equal(volume.data[0], phantom.voxels.astype(int) - 500)
    for dataset in datasets:
        dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    volume = read_series(write(datasets, folder="ct"))
    assert volume.metadata["modality"] == "CT"
    np.testing.assert_array_equal(volume.data[0], phantom.voxels.astype(int) - 1524)


def test_monochrome1_is_turned_so_that_greater_is_brighter(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        dataset.PhotometricInterpretation, dataset.BitsStored, dataset.HighBit = "MONOCHROME1", 12, 11
    volume = read_series(write(datasets))
    np.testing.assert_array_equal(volume.data[0], 4095 - phantom.voxels)
    assert volume.history == ("inverted from MONOCHROME1",)


def test_metadata_hold_facts_in_which_all_slices_agree_and_nobodys_name(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for k, dataset in enumerate(datasets):
        dataset.RepetitionTime, dataset.MagneticFieldStrength, dataset.SpacingBetweenSlices = 500 + k, 1.5, "4.2"
    volume = read_series(write(datasets))
    facts = {name: value for name, value in volume.metadata.items() if name != "dicom"}
    step = volume.affine[:3, 2]
    np.testing.assert_allclose(facts.pop("slice_direction"), step / np.linalg.norm(step), atol=1e-6)
    assert facts == {
        "modality": "MR",
        "slice_thickness": 3.5,
        "spacing_between_slices": 4.2,
        "echo_time": 90.0,
        "magnetic_field_strength": 1.5,
    }
    everything = json.dumps(facts) + repr(volume.history)
    assert not any(word in everything for word in ("Doe", "SECRET", "1970", "Who", datasets[0].SeriesInstanceUID))


def test_the_sources_of_a_volume_are_its_files_in_slice_order(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    folder = write(datasets, names=[f"{name}.dcm" for name in "bfadce"])
    volume = read_series(folder)
    assert volume.metadata["dicom"] == {
        "series": datasets[0].SeriesInstanceUID,
        "files": tuple(str(folder / f"{name}.dcm") for name in "bfadce"),
        "frames": (None,) * 6,
    }


def test_names_suffixes_subfolders_and_strangers_do_not_matter(phantom, write: Write) -> None:
    folder = write(phantom.datasets(), names=["IM1", "IM2.IMA", "c.txt", "x.dcm.bak", "e", "f.0001"])
    (folder / "notes.txt").write_text("nothing")
    (folder / ".DS_Store").write_bytes(b"\0")
    pydicom.dcmwrite(folder / ".copy.dcm", phantom.datasets()[0])
    (folder / "deeper").mkdir()
    for name in ("IM1", "e"):
        (folder / name).rename(folder / "deeper" / name)
    report = phantom.datasets()[0]
    for keyword in ("Rows", "Columns", "PixelData"):
        del report[keyword]
    pydicom.dcmwrite(folder / "report.dcm", report)
    volume = read_series(folder)
    np.testing.assert_array_equal(volume.data[0], phantom.voxels)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble_are_read(phantom, write: Write, implicit: bool) -> None:
    folder = write(phantom.datasets())
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.preamble, dataset.file_meta = None, FileMetaDataset()
        dataset.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_series(folder).data[0], phantom.voxels)


def test_a_missing_slice_is_refused_by_its_neighbours(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    del datasets[2]
    message = refusal(write(datasets))
    assert "4.200 mm apart, but 1 slice missing between slice_001.dcm (" in message
    assert "and slice_002.dcm (" in message


def test_a_duplicated_slice_is_refused_by_name(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    message = refusal(write([*datasets, datasets[3]]))
    assert "same position: slice_003.dcm (" in message
    assert "and slice_006.dcm (" in message


def test_a_change_of_spacing_is_refused(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for k, dataset in enumerate(datasets[3:], start=1):
        shift = 0.5 * k * phantom.rotation[:, 2]
        dataset.ImagePositionPatient = [float(p) + s for p, s in zip(dataset.ImagePositionPatient, shift, strict=True)]
    message = refusal(write(datasets))
    assert "uneven slice distances, 4.200 to 4.700 mm" in message
    assert "slice_002.dcm" in message


def test_a_tilted_gantry_is_refused(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for k, dataset in enumerate(datasets):
        shift = k * 4.2 * np.tan(np.radians(15)) * phantom.rotation[:, 1]
        dataset.ImagePositionPatient = [float(p) + s for p, s in zip(dataset.ImagePositionPatient, shift, strict=True)]
    assert "a gantry tilt of 15.0 degrees" in refusal(write(datasets))


def test_two_echoes_in_one_series_are_told_apart_and_chosen(phantom, write: Write) -> None:
    first, second = phantom.datasets(), phantom.datasets()
    for dataset in second:
        dataset.SeriesInstanceUID, dataset.EchoTime = first[0].SeriesInstanceUID, 120
        dataset.FrameOfReferenceUID = first[0].FrameOfReferenceUID
        dataset.PixelData = (np.frombuffer(dataset.PixelData, np.uint16) + 7).astype(np.uint16).tobytes()
    folder = write([*first, *second])
    assert "holds 2 volumes" in refusal(folder)
    for index, (voxels, echo_time) in enumerate([(phantom.voxels, 90), (phantom.voxels + 7, 120)]):
        volume = read_series(folder, index=index)
        np.testing.assert_array_equal(volume.data[0], voxels)
        assert volume.metadata["echo_time"] == echo_time


def test_two_volumes_that_nothing_tells_apart_are_refused(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    copies = phantom.datasets()
    for dataset in copies:
        dataset.SeriesInstanceUID = datasets[0].SeriesInstanceUID
        dataset.FrameOfReferenceUID = datasets[0].FrameOfReferenceUID
    assert "each of the 6 positions is imaged 2 times" in refusal(write([*datasets, *copies]))


def test_copies_in_two_folders_are_told_apart_by_the_folder(phantom, write: Write, tmp_path: Path) -> None:
    datasets = phantom.datasets()
    write(datasets, folder="one")
    write(datasets, folder="two")
    message = refusal(tmp_path)
    assert "2 DICOM series here" in message
    assert "in folder 'two'" in message
    np.testing.assert_array_equal(read_series(tmp_path / "two").data[0], phantom.voxels)


def test_several_series_are_listed_and_one_can_be_chosen(phantom, write: Write) -> None:
    first, second = phantom.datasets(), phantom.datasets()
    for dataset in second:
        dataset.SeriesDescription, dataset.PixelData = "flair", bytes(len(dataset.PixelData))
    folder = write([*first, *second])
    message = refusal(folder)
    for words in (first[0].SeriesInstanceUID, second[0].SeriesInstanceUID, "6 files, MR, 5x7", "'flair'"):
        assert words in message
    chosen = read_series(folder, series=first[0].SeriesInstanceUID)
    np.testing.assert_array_equal(chosen.data[0], phantom.voxels)
    assert "no series '1.2.3'" in refusal(folder, series="1.2.3")


def change(keyword: str, value: Any, which: slice = slice(None)) -> Callable[[list[Any]], None]:
    def apply(datasets: list[Any]) -> None:
        for dataset in datasets[which]:
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return apply


@pytest.mark.parametrize(
    ("apply", "words"),
    [
        (change("SOPClassUID", EnhancedMRImageStorage), "without functional groups for its frames"),
        (change("NumberOfFrames", 4), "multi-frame DICOM image (4 frames)"),
        (change("ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "a mosaic"),
        (change("PhotometricInterpretation", "PALETTE COLOR"), "a colour capture"),
        (change("ImagePositionPatient", None, slice(3, 4)), "without position"),
        (change("ImageOrientationPatient", None), "without position, orientation"),
        (change("PixelSpacing", None), "pixel spacing"),
        (change("RescaleSlope", 0), "unusable rescale slope 0.0"),
        (change("ModalityLUTSequence", [pydicom.Dataset()]), "lookup table"),
        (change("ImageOrientationPatient", [1, 0, 0, 0, 1, 0], slice(3, 4)), "2 different orientations"),
        (change("PixelSpacing", [1.5, 0.9], slice(3, 4)), "2 different pixel spacings"),
    ],
)
def test_what_is_not_one_grid_of_grey_values_is_refused(phantom, write: Write, apply, words: str) -> None:
    datasets = phantom.datasets()
    apply(datasets)
    assert words in refusal(write(datasets))


def test_one_file_alone_is_refused_with_its_folder_as_the_hint(phantom, write: Write) -> None:
    folder = write(phantom.datasets())
    message = refusal(folder / "slice_002.dcm")
    assert "one slice of a DICOM series" in message
    assert str(folder) in message


def test_damaged_files_among_the_slices_are_refused(phantom, write: Write) -> None:
    folder = write(phantom.datasets())
    (folder / "slice_005.dcm").write_bytes(b"")
    message = refusal(folder)
    assert "slices may be missing" in message
    assert "slice_005.dcm: named as DICOM, but the file is empty" in message


def test_cut_pixels_are_refused_with_the_file(phantom, write: Write) -> None:
    folder = write(phantom.datasets())
    path = folder / "slice_004.dcm"
    path.write_bytes(path.read_bytes()[:-20])
    message = refusal(folder)
    assert message.startswith(str(path))
    assert "cut off: 50 of 70 bytes are there" in message


def test_undecodable_pixels_name_the_transfer_syntax(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = MPEG2MPML
        dataset.PixelData = encapsulate([b"\0" * 10])
        dataset["PixelData"].VR = "OB"
    assert "MPEG2 Main Profile / Main Level" in refusal(write(datasets))


def test_a_missing_decoder_is_named_with_what_to_install(phantom, write: Write, monkeypatch) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.PixelData = encapsulate([b"\0" * 10])
        dataset["PixelData"].VR = "OB"
    absent = SimpleNamespace(is_available=False, missing_dependencies=["pylibjpeg - requires pylibjpeg-openjpeg>=2.0"])
    monkeypatch.setattr(pixels, "get_decoder", lambda syntax: absent)
    message = refusal(write(datasets))
    assert "JPEG 2000 Image Compression (Lossless Only), and no decoder" in message
    assert "pylibjpeg-openjpeg" in message


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    assert "no DICOM image here" in refusal(tmp_path)


def test_equal_file_names_in_subfolders_stay_apart_in_messages(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    del datasets[2]
    folder = write([], folder="series")
    for number, dataset in enumerate(datasets):
        (folder / str(number)).mkdir()
        pydicom.dcmwrite(folder / str(number) / "image.dcm", dataset)
    assert "between 1/image.dcm (" in refusal(folder)


def test_a_series_without_uids_is_one_series(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        del dataset.SeriesInstanceUID
    np.testing.assert_array_equal(read_series(write(datasets)).data[0], phantom.voxels)

"""Enhanced multi-frame objects, against highdicom, analytic phantoms and the conversions of other programs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EnhancedMRImageStorage, JPEG2000Lossless, RLELossless, generate_uid
from scipy.spatial.transform import Rotation

from medgan.errors import MedganError
from medgan.geometry import world_corners
from medgan.io.dicom.enhanced import frames_of
from medgan.io.dicom.read import read_series
from medgan.io.dicom.scan import find_series, visible_files
from medgan.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def item(**attributes: Any) -> list[Dataset]:
    """A functional group: a sequence of one item."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return [dataset]


def per_frame(single: FileDataset, stack: str, number: int, time: int = 1, **groups: list[Dataset]) -> Dataset:
    """The functional groups of one slice."""
    frame = Dataset()
    frame.FrameContentSequence = item(
        StackID=stack, InStackPositionNumber=number, TemporalPositionIndex=time, DimensionIndexValues=[number, time]
    )
    frame.PlanePositionSequence = item(ImagePositionPatient=single.ImagePositionPatient)
    frame.PlaneOrientationSequence = item(ImageOrientationPatient=single.ImageOrientationPatient)
    for keyword, value in groups.items():
        setattr(frame, keyword, value)
    return frame


def enhanced(slices: Sequence[FileDataset], frames: Sequence[Dataset]) -> FileDataset:
    """One object of single-frame slices and the groups of each."""
    first = slices[0]
    dataset = FileDataset("", {}, file_meta=first.file_meta, preamble=b"\0" * 128)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID", "Modality", "SeriesNumber"):
        setattr(dataset, keyword, first.get(keyword))
    dataset.StudyInstanceUID, dataset.InstanceNumber = generate_uid(), 1
    dataset.ImageType, dataset.NumberOfFrames = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], len(frames)
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        setattr(dataset, keyword, first.get(keyword))
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=first.PixelSpacing, SliceThickness=3.5, SpacingBetweenSlices="4.2")
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = list(frames)
    dataset.PixelData = b"".join(one.PixelData for one in slices)
    dataset["PixelData"].VR = "OW"
    return dataset


@pytest.fixture
def one_stack(phantom) -> FileDataset:
    slices = phantom.datasets()
    return enhanced(slices, [per_frame(one, "1", k + 1) for k, one in enumerate(slices)])


def written(dataset: FileDataset, folder: Path) -> Path:
    path = folder / "enhanced.dcm"
    dataset.save_as(path)
    return path


def assert_as_highdicom_has_it(volume: Volume, path: Path) -> None:
    truth = hd.imread(path).get_volume()
    # highdicom's first axis is that of the frames and runs either way; RAS order decides it.
    affine = LPS_TO_RAS @ truth.affine
    turned = nib.as_closest_canonical(nib.Nifti1Image(truth.array.astype(np.float64), affine))
    ours = volume.reoriented("RAS")
    np.testing.assert_allclose(ours.data[0], turned.get_fdata(), rtol=1e-6)
    np.testing.assert_allclose(ours.affine, turned.affine, atol=1e-6)


@pytest.mark.parametrize("order", ["in order", "reversed", "shuffled"])
def test_frames_are_placed_by_their_own_positions(phantom, tmp_path: Path, order: str) -> None:
    indices = {"in order": range(6), "reversed": range(5, -1, -1), "shuffled": (3, 0, 5, 1, 4, 2)}[order]
    singles = phantom.datasets()
    slices = [singles[k] for k in indices]
    frames = [per_frame(one, "1", k + 1) for k, one in zip(indices, slices, strict=True)]
    path = written(enhanced(slices, frames), tmp_path)
    volume = read_series(path)
    np.testing.assert_array_equal(volume.data[0], phantom.voxels)
    np.testing.assert_allclose(volume.affine, phantom.ras, atol=1e-8)
    assert_as_highdicom_has_it(volume, path)
    assert volume.metadata["slice_thickness"] == 3.5
    assert set(volume.metadata["dicom"]["files"]) == {str(path)}


def test_shared_groups_hold_for_all_frames_and_a_frames_own_goes_before(phantom, one_stack, tmp_path: Path) -> None:
    shared = one_stack.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence = one_stack.PerFrameFunctionalGroupsSequence[0].PlaneOrientationSequence
    shared.PixelValueTransformationSequence = item(RescaleSlope=2, RescaleIntercept=-5, RescaleType="US")
    for frame in one_stack.PerFrameFunctionalGroupsSequence:
        del frame.PlaneOrientationSequence
    own = item(RescaleSlope="0.5", RescaleIntercept=3, RescaleType="US")
    one_stack.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence = own
    volume = read_series(written(one_stack, tmp_path))
    slopes, intercepts = np.full(6, 2.0), np.full(6, -5.0)
    slopes[2], intercepts[2] = 0.5, 3
    np.testing.assert_array_equal(volume.data[0], phantom.voxels * slopes + intercepts)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_frames_are_decoded_each(phantom, tmp_path: Path, syntax) -> None:
    larger = dataclasses.replace(phantom, columns=40, rows=36)
    slices = larger.datasets()
    dataset = enhanced(slices, [per_frame(one, "1", k + 1) for k, one in enumerate(slices)])
    dataset.compress(syntax, generate_instance_uid=False)
    path = written(dataset, tmp_path)
    volume = read_series(path)
    np.testing.assert_array_equal(volume.data[0], larger.voxels)
    assert_as_highdicom_has_it(volume, path)


def test_two_stacks_of_one_file_are_two_volumes(phantom, tmp_path: Path) -> None:
    turn = Rotation.from_euler("xyz", (1.2, 0.4, -0.8)).as_matrix()
    other = dataclasses.replace(phantom, rotation=turn, origin=(5.0, -60.0, 20.0))
    slices = [*phantom.datasets(), *other.datasets()]
    frames = [per_frame(one, "12"[k // 6], k % 6 + 1) for k, one in enumerate(slices)]
    path = written(enhanced(slices, frames), tmp_path)
    with pytest.raises(MedganError, match="holds 2 volumes"):
        read_series(path)
    affines = [read_series(path, index=index).affine for index in (0, 1)]
    for truth in (phantom.ras, other.ras):
        assert any(np.allclose(affine, truth, atol=1e-8) for affine in affines)


def test_time_points_and_b_values_are_volumes_of_their_own(phantom, tmp_path: Path) -> None:
    singles = phantom.datasets()
    slices, frames = [], []
    for k, one in enumerate(singles):
        for time, b_value in enumerate((0.0, 1000.0), start=1):
            shifted = copy.deepcopy(one)
            shifted.PixelData = (
                (np.frombuffer(one.PixelData, np.uint16) + 5000 * (time - 1)).astype(np.uint16).tobytes()
            )
            slices.append(shifted)
            diffusion = item(DiffusionBValue=b_value, DiffusionDirectionality="NONE")
            frames.append(per_frame(one, "1", k + 1, time, MRDiffusionSequence=diffusion))
    path = written(enhanced(slices, frames), tmp_path)
    found, _ = find_series(visible_files(path))
    assert len(found) == 2
    for index, more in enumerate((0, 5000)):
        volume = read_series(path, index=index)
        np.testing.assert_array_equal(volume.data[0], phantom.voxels + more)
        np.testing.assert_allclose(volume.affine, phantom.ras, atol=1e-8)


def test_legacy_converted_objects_are_read_like_the_slices_they_came_from(phantom, write, tmp_path: Path) -> None:
    singles = phantom.datasets()
    for dataset in singles:
        dataset.StudyInstanceUID, dataset.StudyDate, dataset.StudyTime = "1.2.3", "20200101", "101010"
        dataset.AccessionNumber = dataset.StudyID = dataset.ReferringPhysicianName = dataset.PatientSex = ""
        dataset.PatientPosition, dataset.Manufacturer, dataset.RescaleSlope = "HFS", "none", 0.5
        dataset.RescaleIntercept, dataset.ContentDate, dataset.ContentTime = 7, "20200101", "101010"
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
        dataset.RepetitionTime, dataset.EchoTrainLength, dataset.MRAcquisitionType = 500, 1, "2D"
        dataset.PositionReferenceIndicator = ""
    classic = read_series(write(singles, folder="classic"))
    converted = hd.legacy.LegacyConvertedEnhancedMRImage(singles, generate_uid(), 1, generate_uid(), 1)
    path = tmp_path / "legacy.dcm"
    converted.save_as(path)
    volume = read_series(path)
    np.testing.assert_array_equal(volume.data, classic.data)
    np.testing.assert_allclose(volume.affine, classic.affine, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: setattr(one, "NumberOfFrames", 9), "NumberOfFrames is 9, but 6 frames are described"),
        (lambda one: delattr(one, "PerFrameFunctionalGroupsSequence"), "without functional groups"),
        (lambda one: delattr(one, "SharedFunctionalGroupsSequence"), "without position, orientation or pixel spacing"),
        (lambda one: setattr(one, "PixelData", one.PixelData[:-70]), "holds 350 bytes of pixels, 6 frames need 420"),
        (lambda one: setattr(one, "PixelData", one.PixelData * 2), "holds 840 bytes of pixels, 6 frames need 420"),
    ],
)
def test_objects_that_contradict_themselves_are_refused(one_stack, tmp_path: Path, change, words: str) -> None:
    change(one_stack)
    with pytest.raises(MedganError) as caught:
        read_series(written(one_stack, tmp_path))
    assert words in str(caught.value)


def test_a_frame_says_which_it_is(one_stack, tmp_path: Path) -> None:
    headers = frames_of(one_stack, tmp_path / "some.dcm")
    assert [header.frame for header in headers] == list(range(6))
    assert {header.stack for header in headers} == {"1"}
    assert headers[3].plane is not None
    assert headers[3].plane.name == "some.dcm frame 4"


def reference(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.as_closest_canonical(nib.load(path))
    voxels = np.asanyarray(image.dataobj)
    return voxels.reshape(voxels.shape[:3]), image.affine


@pytest.mark.data
@pytest.mark.parametrize("name", ["siemens_multiframe_anatomical_001", "philips_enhanced_anatomical_001"])
def test_real_enhanced_files_match_dicom2nifti(test_data: Path, unzipped: Callable[[str], Path], name: str) -> None:
    volume = read_series(unzipped(f"fixtures_dicom2nifti/{name}")).reoriented("RAS")
    voxels, affine = reference(test_data / "dicom/fixtures_dicom2nifti" / f"{name}_ground_truth.nii.gz")
    np.testing.assert_allclose(volume.data[0], voxels, rtol=2e-7)
    assert np.abs(world_corners(volume.affine, volume.shape) - world_corners(affine, volume.shape)).max() < 1e-3


@pytest.mark.data
def test_a_real_field_map_holds_a_magnitude_and_a_map_in_hertz(test_data: Path) -> None:
    folder = test_data / "dicom" / "enhanced_philips_fieldmap"
    found, _ = find_series(visible_files(folder / "IM_0027_fMAP.dcm"))
    assert [one.label for one in found] == ["magnitude", "real"]
    volumes = [read_series(folder / "IM_0027_fMAP.dcm", index=index).reoriented("RAS") for index in (0, 1)]
    for volume, name in zip(volumes, ("reference_e1_magnitude", "reference_e2_fieldmaphz"), strict=True):
        voxels, affine = reference(folder / f"{name}.nii.gz")
        apart = world_corners(volume.affine, volume.shape) - world_corners(affine, volume.shape)
        assert np.abs(apart).max() < 1e-3
        # dcm2niix scales magnitudes to Philips' private "precise" values, which are a multiple of those displayed.
        factor = voxels.max() / volume.data.max() if "magnitude" in name else 1.0
        np.testing.assert_allclose(volume.data[0] * factor, voxels, atol=2e-5 * np.abs(voxels).max())

"""What the values of pixels are: codings, signs, padding, real-world maps; and pixels that are not what they claim."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medgan.errors import MedganError
from medgan.io.dicom.codestream import coded_matrix
from medgan.io.dicom.pixels import decoded_frames, missing_decoder, require_decodable
from medgan.io.dicom.read import padding_of, read_series
from medgan.io.dicom.scan import find_series, visible_files

Write = Callable[..., Path]


@pytest.fixture
def larger(phantom):
    """A phantom that JPEG 2000 coders take: they halve the image five times."""
    return dataclasses.replace(phantom, columns=40, rows=36)


def refusal(folder: Path) -> str:
    with pytest.raises(MedganError) as caught:
        read_series(folder)
    return str(caught.value)


def set_pixels(dataset: pydicom.Dataset, pixels: np.ndarray) -> None:
    """Stored values, shape (rows, columns), of any integer type."""
    dataset.PixelData = pixels.tobytes()
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    dataset["PixelData"].VR = "OW"


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_every_stored_type_is_kept(phantom, write: Write, dtype: str) -> None:
    info = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    voxels = rng.integers(info.min, info.max, phantom.voxels.shape, dtype, endpoint=True)
    datasets = phantom.datasets()
    for k, dataset in enumerate(datasets):
        set_pixels(dataset, np.ascontiguousarray(voxels[:, :, k].T))
        if voxels.dtype.itemsize == 1:
            dataset.PixelData += b"\0"
    volume = read_series(write(datasets))
    assert volume.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.data[0], voxels)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_byte_orders_do_not_matter(phantom, write: Write, syntax) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset["PixelData"].VR = "OW"
    np.testing.assert_array_equal(read_series(write(datasets)).data[0], phantom.voxels)


def test_deflated_files_are_read(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    np.testing.assert_array_equal(read_series(write(datasets)).data[0], phantom.voxels)


def test_eight_bit_monochrome1_in_jpeg_2000_is_turned_about(larger, write: Write) -> None:
    datasets = larger.datasets()
    for dataset in datasets:
        pixels = np.frombuffer(dataset.PixelData, np.uint16).reshape(larger.rows, larger.columns)
        set_pixels(dataset, (pixels // 16).astype(np.uint16))
        dataset.BitsStored, dataset.HighBit, dataset.PhotometricInterpretation = 8, 7, "MONOCHROME1"
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    volume = read_series(write(datasets))
    np.testing.assert_array_equal(volume.data[0], 255 - larger.voxels // 16)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_beyond_those_stored_are_no_part_of_the_value(phantom, write: Write, signed: bool) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        pixels = np.frombuffer(dataset.PixelData, np.uint16)
        if signed:
            pixels = (pixels.astype(np.int16) - 1000).view(np.uint16)
        # Overlays were once kept in the bits above.
        dataset.PixelData = ((pixels & 0x0FFF) | 0xA000).tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, int(signed)
    volume = read_series(write(datasets))
    np.testing.assert_array_equal(volume.data[0], phantom.voxels.astype(int) - (1000 if signed else 0))


def test_values_in_the_upper_bits_are_taken_from_there(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        dataset.PixelData = (np.frombuffer(dataset.PixelData, np.uint16) << 4 | 5).astype(np.uint16).tobytes()
        dataset.BitsStored, dataset.HighBit = 12, 15
    np.testing.assert_array_equal(read_series(write(datasets)).data[0], phantom.voxels)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("signed", [False, True])
def test_compressed_series_hold_the_values_that_went_in(larger, write: Write, syntax, signed: bool) -> None:
    datasets = larger.datasets()
    for dataset in datasets:
        pixels = np.frombuffer(dataset.PixelData, np.uint16).reshape(larger.rows, larger.columns)
        set_pixels(dataset, pixels.astype(np.int16) - 900 if signed else pixels)
        dataset.compress(syntax, generate_instance_uid=False)
    folder = write(datasets)
    volume = read_series(folder)
    np.testing.assert_array_equal(volume.data[0], larger.voxels.astype(int) - (900 if signed else 0))
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(volume.data[0], sitk.GetArrayFromImage(image).T)


def test_slices_of_several_codings_are_one_volume(larger, write: Write) -> None:
    datasets = larger.datasets()
    for dataset, syntax in zip(datasets[1::2], (RLELossless, JPEG2000Lossless, JPEGLSLossless), strict=True):
        dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(read_series(write(datasets)).data[0], larger.voxels)


def test_rescaling_is_computed_in_double_precision_and_rounded_once(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        pixels = np.frombuffer(dataset.PixelData, np.uint16).astype(np.uint32) * 1_000_003
        set_pixels(dataset, pixels)
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.000123457", "-4321.7654"
    volume = read_series(write(datasets))
    truth = phantom.voxels.astype(np.float64) * 1_000_003 * 0.000123457 - 4321.7654
    np.testing.assert_array_equal(volume.data[0], truth.astype(np.float32))


@pytest.mark.parametrize("signed", [False, True])
def test_padding_is_air_in_ct_and_a_mask_says_where(phantom, write: Write, signed: bool) -> None:
    datasets = phantom.datasets()
    outside = np.add.outer(np.arange(phantom.columns), np.arange(phantom.rows)) < 3
    for dataset in datasets:
        pixels = np.frombuffer(dataset.PixelData, np.uint16).reshape(phantom.rows, phantom.columns)
        pixels = pixels.astype(np.int16 if signed else np.uint16)
        pixels[outside.T] = -2000 if signed else 0
        set_pixels(dataset, pixels)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.Modality, dataset.RescaleIntercept, dataset.RescaleSlope = "CT", -24, 1
        dataset.PixelPaddingValue = -2000 if signed else 0
    folder = write(datasets)
    volume = read_series(folder)
    truth = np.where(outside[..., None], -1024, phantom.voxels.astype(float) - 24)
    np.testing.assert_array_equal(volume.data[0], truth)
    assert volume.history == (f"{int(outside.sum()) * phantom.slices} padding voxels set to -1024",)
    (series,), _ = find_series(visible_files(folder))
    mask = padding_of(series)
    np.testing.assert_array_equal(mask.data[0], np.broadcast_to(outside[..., None], mask.shape))
    np.testing.assert_array_equal(mask.affine, volume.affine)


def test_a_range_of_padding_is_all_masked(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        pixels = np.frombuffer(dataset.PixelData, np.uint16).copy()
        pixels[:3] = (60_000, 60_050, 60_100)
        dataset.PixelData = pixels.tobytes()
        dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = 60_100, 60_000
    volume = read_series(write(datasets))
    truth = phantom.voxels.copy()
    truth[:3, 0] = 0
    np.testing.assert_array_equal(volume.data[0], truth)


def test_a_padding_value_among_the_others_is_not_believed(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        dataset.PixelPaddingValue = int(phantom.voxels[3, 2, 2])
    volume = read_series(write(datasets))
    np.testing.assert_array_equal(volume.data[0], phantom.voxels)
    assert volume.history == ()


def mapping(slope: float, intercept: float, unit: str, last: int = 65_535) -> pydicom.Dataset:
    item, code = pydicom.Dataset(), pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, last
    item["RealWorldValueFirstValueMapped"].VR = item["RealWorldValueLastValueMapped"].VR = "US"
    item.MeasurementUnitsCodeSequence = [code]
    return item


@pytest.mark.parametrize(
    ("maps", "slope", "is_mapped"),
    [
        ([mapping(0.25, -30, "Hz")], 1, True),
        ([mapping(0.25, -30, "Hz")], 2, False),
        ([mapping(0.25, -30, "Hz"), mapping(2, 0, "1")], 1, False),
        ([mapping(0.25, -30, "Hz", last=1000)], 1, False),
    ],
    ids=["the only meaning", "beside a rescale", "two maps", "part of the range"],
)
def test_a_real_world_map_counts_where_the_rescale_says_nothing(
    phantom, write: Write, maps: list, slope: float, is_mapped: bool
) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        dataset.RealWorldValueMappingSequence, dataset.RescaleSlope, dataset.RescaleIntercept = maps, slope, 0
    volume = read_series(write(datasets))
    factor, offset = (0.25, -30.0) if is_mapped else (slope, 0.0)
    np.testing.assert_array_equal(volume.data[0], phantom.voxels * factor + offset)
    assert volume.history == (("stored values mapped to real-world values in Hz",) if is_mapped else ())


def test_a_code_stream_of_another_size_is_refused_before_it_is_decoded(larger, write: Write) -> None:
    datasets = larger.datasets()
    for dataset in datasets:
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    code = pydicom.encaps.get_frame(datasets[2].PixelData, 0, number_of_frames=1)
    at = code.index(b"\xff\x4f\xff\x51") + 8
    huge = code[:at] + (60_000).to_bytes(4, "big") * 2 + code[at + 8 :]
    assert coded_matrix(huge) == (60_000, 60_000)
    datasets[2].PixelData = encapsulate([huge])
    assert "coded with 60000 x 60000 pixels, the header says (36, 40)" in refusal(write(datasets))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_code_streams_tell_their_size(larger, syntax) -> None:
    (dataset, *_) = larger.datasets()
    dataset.compress(syntax, generate_instance_uid=False)
    code = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    assert coded_matrix(code) == (larger.rows, larger.columns)
    assert all(coded_matrix(code[:length]) in (None, (larger.rows, larger.columns)) for length in range(len(code)))
    assert coded_matrix(b"neither") is None


def test_a_decompression_bomb_is_refused_before_memory_is_taken(larger, write: Write) -> None:
    datasets = larger.datasets()
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
    (series,), _ = find_series(visible_files(write(datasets)))
    size = (65_000, 65_000)
    claimed = [
        dataclasses.replace(one, matrix=size, coding=dataclasses.replace(one.coding, stored_matrix=size))
        for one in series.slices
    ]
    with pytest.raises(MedganError, match="48351 MiB of pixels are claimed by files a thousand times smaller"):
        require_decodable(claimed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: setattr(one, "Rows", 10), "holds 70 bytes of pixels, 1 frame needs 140"),
        (lambda one: setattr(one, "Rows", 2), "holds 70 bytes of pixels, 1 frame needs 28"),
        (lambda one: setattr(one, "BitsAllocated", 12), "pixels of 16 bits in 12 are not known"),
        (lambda one: delattr(one, "PixelData"), "holds no pixels"),
    ],
    ids=["too few", "too many", "odd size", "none"],
)
def test_pixels_that_disagree_with_the_header_are_refused(phantom, write: Write, change, words: str) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        change(dataset)
    assert words in refusal(write(datasets))


def test_damaged_code_streams_are_refused_with_the_file(larger, write: Write) -> None:
    datasets = larger.datasets()
    for dataset in datasets:
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    code = pydicom.encaps.get_frame(datasets[4].PixelData, 0, number_of_frames=1)
    datasets[4].PixelData = encapsulate([code[:60] + bytes(len(code) - 60)])
    message = refusal(write(datasets))
    assert "slice_004.dcm" in message
    assert "JPEG 2000" in message


def test_decoders_are_known_before_they_are_needed() -> None:
    for syntax in (ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless, "1.2.840.10008.1.2.4.70"):
        assert missing_decoder(syntax) is None
    with pytest.raises(MedganError, match="MPEG2"):
        missing_decoder("1.2.840.10008.1.2.4.100")


def test_frames_are_decoded_whatever_the_order_asked_for(phantom, write: Write) -> None:
    (series,), _ = find_series(visible_files(write(phantom.datasets())))
    slices = [series.slices[i] for i in (4, 0, 5, 2)]
    found = {index: pixels.copy() for index, pixels in decoded_frames(slices)}
    for index, k in enumerate((4, 0, 5, 2)):
        np.testing.assert_array_equal(found[index], phantom.voxels[:, :, k].T)

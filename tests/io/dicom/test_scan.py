"""Folders as they are: several series, objects that are no scans, damage, links, and a great many files."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MediaStorageDirectoryStorage,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    XRayRadiationDoseSRStorage,
)

from medgan.errors import MedganError
from medgan.io.dicom.read import read_series, volume_of
from medgan.io.dicom.scan import DicomSeries, find_series, visible_files

Write = Callable[..., Path]


def image(phantom: Any, **values: Any) -> pydicom.Dataset:
    """One slice of a series of its own."""
    dataset = phantom.datasets()[2]
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def bare(phantom: Any, sop_class: str, modality: str) -> pydicom.Dataset:
    """An object without pixels."""
    dataset = image(phantom, SOPClassUID=sop_class, Modality=modality)
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    for keyword in (
        *("Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "ImageType"),
    ):
        delattr(dataset, keyword)
    return dataset


def colour(phantom: Any, **values: Any) -> pydicom.Dataset:
    dataset = image(phantom, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, **values)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = bytes(3 * dataset.Rows * dataset.Columns + 1)
    return dataset


def without_place(dataset: pydicom.Dataset) -> pydicom.Dataset:
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    return dataset


STRANGERS: dict[str, Callable[[Any], pydicom.Dataset]] = {
    "localiser": lambda one: image(one, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    "localiser ": lambda one: image(one, SeriesDescription="AAHead_Scout_MPR"),
    "scout": lambda one: image(one, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], Modality="CT"),
    "scout ": lambda one: image(one, SeriesDescription="Topogram 0.6", Modality="CT"),
    "dose report": lambda one: bare(one, XRayRadiationDoseSRStorage, "SR"),
    "dose report ": lambda one: without_place(
        image(one, SOPClassUID=SecondaryCaptureImageStorage, Modality="CT", SeriesDescription="Dose Report")
    ),
    "structured report": lambda one: bare(one, BasicTextSRStorage, "SR"),
    "presentation state": lambda one: bare(one, GrayscaleSoftcopyPresentationStateStorage, "PR"),
    "key object selection": lambda one: bare(one, KeyObjectSelectionDocumentStorage, "KO"),
    "encapsulated document": lambda one: bare(one, EncapsulatedPDFStorage, "DOC"),
    "colour capture": lambda one: without_place(colour(one, SOPClassUID=SecondaryCaptureImageStorage)),
    "colour capture ": lambda one: colour(one),
    "screen capture": lambda one: without_place(image(one, SOPClassUID=SecondaryCaptureImageStorage)),
    "segmentation": lambda one: without_place(image(one, SOPClassUID=SegmentationStorage, Modality="SEG")),
    "radiotherapy dose": lambda one: image(one, SOPClassUID=RTDoseStorage, Modality="RTDOSE", NumberOfFrames=15),
}


def only_image(folder: Path) -> DicomSeries:
    found, damaged = find_series(visible_files(folder))
    assert damaged == []
    (series,) = (one for one in found if one.role == "image")
    return series


@pytest.mark.parametrize("word", STRANGERS)
@pytest.mark.parametrize("same_series", [False, True], ids=["own series", "same series"])
def test_what_is_no_scan_is_left_out_with_a_word(phantom, write: Write, word: str, same_series: bool) -> None:
    datasets = phantom.datasets()
    stranger = STRANGERS[word](phantom)
    if same_series:
        stranger.SeriesInstanceUID = datasets[0].SeriesInstanceUID
    folder = write([*datasets[:3], stranger, *datasets[3:]])
    found, damaged = find_series(visible_files(folder))
    assert damaged == []
    assert sorted(one.role for one in found) == sorted(["image", word.strip()])
    np.testing.assert_array_equal(read_series(folder).data[0], phantom.voxels)


def test_a_folder_of_nothing_else_is_refused_with_the_word(phantom, write: Write) -> None:
    folder = write([STRANGERS["localiser"](phantom), STRANGERS["dose report"](phantom)])
    with pytest.raises(MedganError) as caught:
        read_series(folder)
    assert "no image series here, only a" in str(caught.value)
    assert "a localiser (1 file)" in str(caught.value)
    assert "a dose report (1 file)" in str(caught.value)


def test_a_localiser_is_read_when_it_is_named(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        dataset.SeriesDescription = "3D scout"
    folder = write(datasets)
    volume = read_series(folder, series=datasets[0].SeriesInstanceUID)
    np.testing.assert_array_equal(volume.data[0], phantom.voxels)


def test_a_directory_file_is_passed_over(phantom, write: Write) -> None:
    folder = write(phantom.datasets())
    directory = bare(phantom, MediaStorageDirectoryStorage, "OT")
    pydicom.dcmwrite(folder / "DICOMDIR", directory)
    (series,), damaged = find_series(visible_files(folder))
    assert damaged == []
    assert len(series.slices) == 6


def test_progress_counts_every_file(phantom, write: Write) -> None:
    folder = write(phantom.datasets())
    (folder / "notes.txt").write_text("nothing")
    told: list[tuple[int, int]] = []
    find_series(visible_files(folder), lambda done, total: told.append((done, total)))
    assert told[-1] == (7, 7)


def test_links_in_a_circle_end_and_linked_folders_are_searched_once(phantom, write: Write, tmp_path: Path) -> None:
    folder = write(phantom.datasets(), folder="deep")
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a" / "self")
    (root / "a" / "lost.dcm").symlink_to(root / "nowhere")
    (root / "b").symlink_to(folder)
    (root / "c").symlink_to(folder)
    found, damaged = find_series(visible_files(root))
    assert [len(one.slices) for one in found] == [6]
    assert [path.name for path, _ in damaged] == ["lost.dcm"]
    assert "cannot be opened" in damaged[0][1]
    np.testing.assert_array_equal(volume_of(found[0]).data[0], phantom.voxels)


def test_a_pipe_does_not_hang_the_search(phantom, write: Write) -> None:
    folder = write(phantom.datasets())
    os.mkfifo(folder / "pipe.dcm")
    assert len(list(visible_files(folder))) == 6
    np.testing.assert_array_equal(read_series(folder).data[0], phantom.voxels)


def test_spaces_and_umlauts_in_paths(phantom, tmp_path: Path) -> None:
    folder = tmp_path / "Größe äöü (1)" / "Serie 2 – Schädel"
    folder.mkdir(parents=True)
    for k, dataset in enumerate(phantom.datasets()):
        pydicom.dcmwrite(folder / f"Bild {k} ß.dcm", dataset)
    np.testing.assert_array_equal(read_series(tmp_path).data[0], phantom.voxels)
    (folder / "Bild 4 ß.dcm").write_bytes(b"")
    with pytest.raises(MedganError, match=r"Bild 4 ß\.dcm: named as DICOM, but the file is empty"):
        read_series(tmp_path)


def damaged_by(action: str, path: Path) -> None:
    """Spoil one file of a series."""
    content = path.read_bytes()
    dataset = pydicom.dcmread(path)
    if action == "cut in the header":
        path.write_bytes(content[: content.index(b"\x28\x00\x10\x00")])
    elif action == "empty":
        path.write_bytes(b"")
    elif action == "zeroed":
        path.write_bytes(bytes(len(content)))
    elif action == "no number":
        at = content.index(b"\x20\x00\x32\x00DS") + 8
        path.write_bytes(content[:at] + b"x" + content[at + 1 :])
    elif action == "no series":
        del dataset.SeriesInstanceUID
        pydicom.dcmwrite(path, dataset)
    elif action == "bomb":
        dataset.Rows = dataset.Columns = 65535
        pydicom.dcmwrite(path, dataset)
    elif action == "frames":
        dataset.NumberOfFrames = 2**31 - 1
        pydicom.dcmwrite(path, dataset)


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("cut in the header", "an image without rows or columns"),
        ("empty", "the file is empty"),
        ("zeroed", "holds something else"),
        ("no number", "ImagePositionPatient"),
        ("no series", "an image without SeriesInstanceUID"),
        ("bomb", "8192 MiB of pixels are claimed by a file of 1 KiB"),
        ("frames", "of pixels are claimed by a file of"),
    ],
)
def test_a_damaged_slice_refuses_its_own_series_alone(
    phantom, write: Write, tmp_path: Path, action: str, reason: str
) -> None:
    hurt, other = phantom.datasets(), phantom.datasets()
    # The last slice: no gap would show that it is missing.
    folder = write([*hurt, *other])
    damaged_by(action, folder / "slice_005.dcm")
    found, damaged = find_series(visible_files(folder))
    assert damaged == []
    by_uid = {one.uid: one for one in found if one.uid}
    if action in ("empty", "zeroed", "no series"):
        # Nothing in the file tells: the neighbours on both sides are under suspicion.
        with pytest.raises(MedganError, match="slices may be missing"):
            volume_of(by_uid[other[0].SeriesInstanceUID])
    else:
        np.testing.assert_array_equal(volume_of(by_uid[other[0].SeriesInstanceUID]).data[0], phantom.voxels)
    with pytest.raises(MedganError) as caught:
        volume_of(by_uid[hurt[0].SeriesInstanceUID])
    for words in ("slices may be missing", "slice_005.dcm", reason):
        assert words in str(caught.value)


def test_an_unreadable_file_blames_its_neighbours_by_name(phantom, write: Write) -> None:
    sets = [phantom.datasets() for _ in range(3)]
    folder = write([dataset for datasets in sets for dataset in datasets])
    (folder / "slice_008.dcm").write_bytes(b"")
    found, _ = find_series(visible_files(folder))
    by_uid = {one.uid: one for one in found}
    assert [bool(by_uid[datasets[0].SeriesInstanceUID].damaged) for datasets in sets] == [False, True, False]


def test_a_stranger_named_as_dicom_harms_nobody(phantom, write: Write) -> None:
    folder = write(phantom.datasets())
    (folder / "notes.dcm").write_text("not what it is called")
    (series,), damaged = find_series(visible_files(folder))
    assert [path.name for path, _ in damaged] == ["notes.dcm"]
    np.testing.assert_array_equal(volume_of(series).data[0], phantom.voxels)


def test_a_deflated_bomb_is_refused_before_it_is_inflated(phantom, write: Write) -> None:
    good, bomb = phantom.datasets(), phantom.datasets()[0]
    folder = write(good)
    for dataset in (*good, bomb):
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    for k, dataset in enumerate(good):
        pydicom.dcmwrite(folder / f"slice_{k:03d}.dcm", dataset)
    np.testing.assert_array_equal(read_series(folder).data[0], phantom.voxels)
    pydicom.dcmwrite(folder / "bomb.dcm", bomb)
    content = (folder / "bomb.dcm").read_bytes()
    syntax = DeflatedExplicitVRLittleEndian.encode()
    # The transfer syntax is the last element of the file meta information that pydicom writes here.
    meta = content[: content.index(syntax) + len(syntax)]
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = zlib.decompress(content[len(meta) :], -zlib.MAX_WBITS)[:-80]
    packed = [deflater.compress(part) for part in (head, *[bytes(1 << 20)] * 80)] + [deflater.flush()]
    (folder / "bomb.dcm").write_bytes(meta + b"".join(packed))
    (series,), _ = find_series(visible_files(folder))
    assert len(series.slices) == 6
    assert [(path.name, "deflated content" in reason) for path, reason in series.damaged] == [("bomb.dcm", True)]


def test_an_object_twice_in_one_folder_is_named(phantom, write: Write) -> None:
    folder = write(phantom.datasets())
    shutil.copy(folder / "slice_003.dcm", folder / "slice_003 (1).dcm")
    with pytest.raises(MedganError, match=r"same position: slice_003 \(1\).dcm .* and slice_003.dcm"):
        read_series(folder)


def test_volumes_in_folders_of_their_own_are_one_series(phantom, write: Write, tmp_path: Path) -> None:
    first, second = phantom.datasets(), phantom.datasets()
    for _k, (one, other) in enumerate(zip(first, second, strict=True)):
        other.SeriesInstanceUID, other.FrameOfReferenceUID = one.SeriesInstanceUID, one.FrameOfReferenceUID
        one.EchoNumbers, other.EchoNumbers = 1, 2
    write(first, folder="echo1")
    write(second, folder="echo2")
    series, _ = find_series(visible_files(tmp_path))
    assert [(one.label, one.folder) for one in series] == [("echo 1", tmp_path), ("echo 2", tmp_path)]


@pytest.mark.slow
def test_ten_thousand_files(phantom, tmp_path: Path) -> None:
    phantom.slices = 50
    for number in range(200):
        folder = tmp_path / f"{number // 20:02d}" / f"{number:03d}"
        folder.mkdir(parents=True)
        for k, dataset in enumerate(phantom.datasets()):
            pydicom.dcmwrite(folder / f"{k}", dataset)
    series, damaged = find_series(visible_files(tmp_path))
    assert damaged == []
    assert len(series) == 200
    assert {len(one.slices) for one in series} == {50}
    np.testing.assert_array_equal(volume_of(series[137]).data[0], phantom.voxels)

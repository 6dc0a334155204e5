"""Series of several volumes, made from phantoms whose volumes differ by a constant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from medgan.errors import MedganError
from medgan.io.dicom.dynamic import read_volumes
from medgan.io.dicom.read import read_series, volume_of
from medgan.io.dicom.scan import DicomSeries, find_series, visible_files

Mark = Callable[[pydicom.Dataset], None]
Write = Callable[..., Path]

STEP = 2000


def marked(**values: Any) -> Mark:
    def mark(dataset: pydicom.Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return mark


def several(phantom: Any, marks: Sequence[Mark]) -> list[list[Any]]:
    """One list of data sets per mark, all of one series; volume n has n * STEP added to its voxels."""
    series, frame = generate_uid(), generate_uid()
    volumes = [phantom.datasets() for _ in marks]
    for number, (volume, mark) in enumerate(zip(volumes, marks, strict=True)):
        for dataset in volume:
            dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, frame
            pixels = np.frombuffer(dataset.PixelData, np.uint16) + number * STEP
            dataset.PixelData = pixels.astype(np.uint16).tobytes()
            mark(dataset)
    return volumes


def shuffled(volumes: Sequence[Sequence[Any]]) -> list[Any]:
    """All data sets in an order that tells nothing."""
    flat = [dataset for volume in volumes for dataset in volume]
    return [flat[i] for i in np.random.default_rng(5).permutation(len(flat))]


def found_in(folder: Path) -> list[DicomSeries]:
    series, damaged = find_series(visible_files(folder))
    assert damaged == []
    return series


def assert_volumes(phantom: Any, series: list[DicomSeries], order: Sequence[int]) -> None:
    """The volumes are those of the phantom, in this order."""
    assert len(series) == len(order)
    for one, number in zip(series, order, strict=True):
        volume = volume_of(one)
        np.testing.assert_array_equal(volume.data[0], phantom.voxels + number * STEP)
        np.testing.assert_allclose(volume.affine, phantom.ras, atol=1e-8)


def siemens(b_value: int, direction: Sequence[float] | None) -> Mark:
    def mark(dataset: pydicom.Dataset) -> None:
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", b_value)
        if direction is not None:
            block.add_new(0x0E, "FD", list(direction))

    return mark


def general_electric(b_value: int) -> Mark:
    def mark(dataset: pydicom.Dataset) -> None:
        block = dataset.private_block(0x0043, "GEMS_PARM_01", create=True)
        block.add_new(0x39, "IS", [b_value, 8, 0, 0])

    return mark


X, Y = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
MAGNITUDE, PHASE = ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]


@pytest.mark.parametrize(
    ("marks", "order", "labels"),
    [
        ([marked(EchoNumbers=2), marked(EchoNumbers=1)], [1, 0], ["echo 1", "echo 2"]),
        ([marked(EchoTime=4.6), marked(EchoTime=9.2)], [0, 1], ["TE 4.6 ms", "TE 9.2 ms"]),
        ([marked(ImageType=PHASE), marked(ImageType=MAGNITUDE)], [1, 0], ["magnitude", "phase"]),
        (
            [marked(ComplexImageComponent="REAL"), marked(ComplexImageComponent="IMAGINARY")],
            [0, 1],
            ["real", "imaginary"],
        ),
        (
            [marked(ImageType=[*MAGNITUDE, "WATER"]), marked(ImageType=[*MAGNITUDE, "FAT"])],
            [1, 0],
            ["original primary fat", "original primary water"],
        ),
        ([marked(InversionTime=2500), marked(InversionTime=700)], [1, 0], ["TI 700 ms", "TI 2500 ms"]),
        ([marked(FlipAngle=20), marked(FlipAngle=5)], [1, 0], ["flip angle 5", "flip angle 20"]),
        (
            [
                marked(DiffusionBValue=1000.0, DiffusionGradientOrientation=X),
                marked(DiffusionBValue=0.0),
                marked(DiffusionBValue=1000.0, DiffusionGradientOrientation=Y),
            ],
            [1, 2, 0],
            ["b=0", "b=1000, direction 1", "b=1000, direction 2"],
        ),
        (
            [siemens(800, X), siemens(0, None), siemens(800, Y)],
            [1, 2, 0],
            ["b=0", "b=800, direction 1", "b=800, direction 2"],
        ),
        ([general_electric(1_000_000_050), general_electric(0)], [1, 0], ["b=0", "b=50"]),
        (
            [marked(TemporalPositionIdentifier=n) for n in (10, 9, 2)],
            [2, 1, 0],
            ["time 2", "time 9", "time 10"],
        ),
        ([marked(AcquisitionNumber=n) for n in (2, 1)], [1, 0], ["acquisition 1", "acquisition 2"]),
        ([marked(TriggerTime=n) for n in (310.5, 12)], [1, 0], ["time 1", "time 2"]),
        (
            [
                marked(EchoNumbers=echo, TemporalPositionIdentifier=time, ImageType=kind)
                for echo in (1, 2)
                for time in (1, 2)
                for kind in (MAGNITUDE, PHASE)
            ],
            [0, 2, 4, 6, 1, 3, 5, 7],
            [
                f"{kind}, echo {echo}, time {time}"
                for kind in ("magnitude", "phase")
                for echo in (1, 2)
                for time in (1, 2)
            ],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and isinstance(value[0], str) else None,
)
def test_volumes_at_one_place_are_told_apart(phantom, write: Write, marks, order, labels) -> None:
    series = found_in(write(shuffled(several(phantom, marks))))
    assert [one.label for one in series] == labels
    assert_volumes(phantom, series, order)


def test_acquisition_times_tell_volumes_apart_when_each_slice_has_its_own(phantom, write: Write) -> None:
    volumes = several(phantom, [marked(), marked(), marked()])
    for number, volume in enumerate(volumes):
        for k, dataset in enumerate(volume):
            # Interleaved slices; the last volume passes midnight.
            second = 12 * number + 2 * [0, 3, 1, 4, 2, 5][k]
            late = 59 * 60 + 50 + second - 24
            day, rest = divmod(23 * 3600 + late, 86400)
            clock = f"{rest // 3600:02d}{rest % 3600 // 60:02d}{rest % 60:02d}.5"
            dataset.AcquisitionDateTime = f"202403{15 + day}{clock}"
    series = found_in(write(shuffled(volumes)))
    assert [one.label for one in series] == ["time 1", "time 2", "time 3"]
    assert_volumes(phantom, series, [0, 1, 2])


def test_slices_of_one_volume_may_differ_where_no_place_repeats(phantom, write: Write) -> None:
    (datasets,) = several(phantom, [marked()])
    for k, dataset in enumerate(datasets):
        dataset.EchoTime, dataset.AcquisitionNumber, dataset.TriggerTime = 90 + k / 100, k, 17 * k
        dataset.AcquisitionTime, dataset.TemporalPositionIdentifier = f"12000{k}", 1 + k % 2
    (series,) = found_in(write(datasets))
    assert series.label == ""
    assert_volumes(phantom, [series], [0])


def test_repeated_places_that_nothing_tells_apart_are_refused_by_name(phantom, write: Write) -> None:
    (series,) = found_in(write([one for volume in several(phantom, [marked(), marked()]) for one in volume]))
    with pytest.raises(MedganError, match="each of the 6 positions is imaged 2 times"):
        volume_of(series)


def test_a_stray_slice_is_named_and_costs_only_its_own_volume(phantom, write: Write) -> None:
    first, second = several(phantom, [marked(EchoNumbers=1), marked(EchoNumbers=2)])
    whole, stray = found_in(write([*first, second[4]]))
    assert_volumes(phantom, [whole], [0])
    with pytest.raises(MedganError, match=r"no slice at 5 positions that other volumes of the series have"):
        volume_of(stray)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (marked(EchoNumbers=2), "slices that differ in echo: echo 1 in 5 slices"),
        (marked(ImageType=PHASE), "slices that differ in component: magnitude in 5 slices"),
        (marked(DiffusionBValue=50.0), "slices that differ in b-value"),
        (marked(FrameOfReferenceUID="1.2.3"), "2 different frames of reference"),
        (marked(PixelSpacing=[1.5, 0.9]), "2 different pixel spacings"),
        (marked(Rows=4), "2 different matrix sizes"),
        (marked(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]), "2 different orientations"),
    ],
)
@pytest.mark.parametrize("where", [0, 3, 5])
def test_a_slice_out_of_step_never_vanishes(phantom, write: Write, change: Mark, words: str, where: int) -> None:
    (datasets,) = several(phantom, [marked(EchoNumbers=1, DiffusionBValue=0.0)])
    change(datasets[where])
    (series,) = found_in(write(datasets))
    with pytest.raises(MedganError) as caught:
        volume_of(series)
    assert words in str(caught.value)
    assert f"slice_00{where}.dcm" in str(caught.value)


def test_an_unfinished_time_point_is_refused_and_the_others_come_out(phantom, write: Write) -> None:
    volumes = several(phantom, [marked(AcquisitionNumber=n) for n in (1, 2, 3)])
    first, second, cut = found_in(write([*volumes[0], *volumes[1], *volumes[2][:4]]))
    assert_volumes(phantom, [first, second], [0, 1])
    with pytest.raises(MedganError, match=r"no slice at 2 positions that other volumes of the series have \(slice_004"):
        volume_of(cut)


def stack_along(phantom: Any, axis: int, uids: tuple[str, str]) -> list[Any]:
    """The phantom's slices, laid along another patient axis."""
    datasets = phantom.datasets()
    directions = np.roll(np.eye(3), -axis - 1, axis=0)[:2]
    for k, dataset in enumerate(datasets):
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = uids
        dataset.ImageOrientationPatient = directions.ravel().tolist()
        dataset.ImagePositionPatient = (k * 4.2 * np.eye(3)[axis]).tolist()
    return datasets


def test_stacks_of_several_orientations_are_volumes_of_their_own(phantom, write: Write) -> None:
    uids = (generate_uid(), generate_uid())
    stacks = [stack_along(phantom, axis, uids) for axis in range(3)]
    series = found_in(write(shuffled(stacks)))
    assert sorted(one.label for one in series) == ["axial", "coronal", "sagittal"]
    for one in series:
        volume = volume_of(one)
        np.testing.assert_array_equal(volume.data[0], phantom.voxels)
        axis = ("sagittal", "coronal", "axial").index(one.label)
        expected = np.zeros(3)
        expected[axis] = 4.2 if axis == 2 else -4.2
        np.testing.assert_allclose(volume.affine[:3, 2], expected)


@pytest.mark.parametrize(
    ("mark", "labels"),
    [
        (marked(FrameOfReferenceUID="1.2.3"), ["frame of reference 1", "frame of reference 2"]),
        (marked(PixelSpacing=[1.5, 0.9]), ["0.8x1.5 mm", "0.9x1.5 mm"]),
    ],
)
def test_geometry_tells_volumes_apart(phantom, write: Write, mark: Mark, labels: list[str]) -> None:
    volumes = several(phantom, [marked(), mark])
    series = found_in(write([*volumes[0], *volumes[1]]))
    assert [one.label for one in series] == labels
    for number, one in enumerate(series):
        np.testing.assert_array_equal(volume_of(one).data[0], phantom.voxels + number * STEP)


def test_stacks_side_by_side_are_volumes_of_their_own(phantom, write: Write) -> None:
    left, right = several(phantom, [marked(), marked()])
    for dataset in right:
        aside = 120 * phantom.rotation[:, 0]
        dataset.ImagePositionPatient = [float(p) + a for p, a in zip(dataset.ImagePositionPatient, aside, strict=True)]
    series = found_in(write([*left, *right]))
    assert [one.label for one in series] == ["stack 1", "stack 2"]
    first, second = (volume_of(one) for one in series)
    np.testing.assert_array_equal(second.data[0].astype(int) - first.data[0], STEP)
    np.testing.assert_allclose(np.linalg.norm(second.affine[:3, 3] - first.affine[:3, 3]), 120, atol=1e-6)


def test_one_volume_is_chosen_by_its_index(phantom, write: Write) -> None:
    folder = write(shuffled(several(phantom, [marked(EchoNumbers=n) for n in (1, 2, 3)])))
    for index in range(3):
        np.testing.assert_array_equal(read_series(folder, index=index).data[0], phantom.voxels + index * STEP)
    with pytest.raises(MedganError, match=r"3 volumes: 0: echo 1, 1: echo 2, 2: echo 3\. Choose one by its index"):
        read_series(folder)
    with pytest.raises(MedganError, match="no volume 3 in this series of 3 volumes"):
        read_series(folder, index=3)


def test_all_volumes_become_channels_in_order(phantom, write: Write) -> None:
    volumes = several(phantom, [marked(EchoNumbers=n, EchoTime=10 * n) for n in (3, 1, 2)])
    folder = write([dataset for volume in volumes for dataset in volume])
    volume = read_volumes(folder)
    expected = np.stack([phantom.voxels + n * STEP for n in (1, 2, 0)])
    np.testing.assert_array_equal(volume.data, expected)
    np.testing.assert_allclose(volume.affine, phantom.ras, atol=1e-8)
    assert volume.history == ("3 volumes of one series along the fourth dimension: echo 1, echo 2, echo 3",)
    assert "echo_time" not in volume.metadata
    assert volume.metadata["slice_thickness"] == 3.5
    names = [Path(file).name for file in volume.metadata["dicom"]["files"]]
    assert names == [f"slice_{n:03d}.dcm" for n in (*range(6, 18), *range(6))]


def test_volumes_of_different_kinds_or_grids_are_no_4d_image(phantom, write: Write) -> None:
    kinds = several(phantom, [marked(ImageType=MAGNITUDE), marked(ImageType=PHASE)])
    with pytest.raises(MedganError, match="2 kinds of image, which are no one 4D image: 0: magnitude, 1: phase"):
        read_volumes(write([*kinds[0], *kinds[1]], folder="kinds"))
    moved = several(phantom, [marked(EchoNumbers=1), marked(EchoNumbers=2)])
    for dataset in moved[1]:
        x, y, z = map(float, dataset.ImagePositionPatient)
        shift = 0.4 * phantom.rotation[:, 0]
        dataset.ImagePositionPatient = [x + shift[0], y + shift[1], z + shift[2]]
    with pytest.raises(MedganError, match="do not share one grid: 'echo 1' and 'echo 2' differ"):
        read_volumes(write([*moved[0], *moved[1]], folder="moved"))


def test_a_volume_knows_its_source_files_slice_by_slice(phantom, write: Write) -> None:
    folder = write(phantom.datasets()[::-1])
    volume = read_series(folder)
    files = [Path(file) for file in volume.metadata["dicom"]["files"]]
    assert [file.name for file in files] == [f"slice_00{n}.dcm" for n in (5, 4, 3, 2, 1, 0)]
    for k, file in enumerate(files):
        np.testing.assert_array_equal(pydicom.dcmread(file).pixel_array.T, volume.data[0, :, :, k])
    assert volume.metadata["dicom"]["series"] == pydicom.dcmread(files[0]).SeriesInstanceUID

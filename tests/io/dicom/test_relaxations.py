"""What each relaxation makes of a series, by phantoms that are linear in space: interpolation must be exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import CTImageStorage

from medgan.errors import MedganError
from medgan.io.dicom.geometry import SlicePlane, StackFault
from medgan.io.dicom.read import read_series
from medgan.io.dicom.relaxations import Relaxations, flag, options_for, relaxed

Write = Callable[..., Path]
GRADIENT, OFFSET = np.array([3.0, -2.0, 5.0]), 700.0
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def stack(places: list[float], aside: list[tuple[float, float]] | None = None, size: tuple[int, int] = (12, 10)):
    """Planes at distances (mm) along an oblique normal, shifted `aside` (mm along row and column), and their values."""
    turn = np.linalg.qr(np.array([[1.0, 0.2, -0.1], [0.1, 1.0, 0.3], [0.2, -0.2, 1.0]]))[0]
    turn[:, 2] = np.cross(turn[:, 0], turn[:, 1])
    rows, columns = size
    planes, values = [], []
    for number, place in enumerate(places):
        along = aside[number] if aside else (0.0, 0.0)
        position = np.array([5.0, -7.0, 3.0]) + turn @ [*along, place]
        orientation = tuple(turn[:, :2].T.ravel())
        planes.append(SlicePlane(f"{number}.dcm", tuple(position), orientation, (1.5, 0.75), size))
        j, i = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        points = position + i[..., None] * 0.75 * turn[:, 0] + j[..., None] * 1.5 * turn[:, 1]
        values.append(points @ GRADIENT + OFFSET)
    return planes, np.array(values, dtype=np.float32)


def truth_on(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The linear phantom on a grid of (slices, rows, columns)."""
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    ras = np.stack([i, j, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    return ras @ LPS_TO_RAS @ GRADIENT + OFFSET


def faults(*kinds: str) -> list[StackFault]:
    return [StackFault(kind, kind) for kind in kinds]


def test_gaps_are_filled_and_measured_slices_stay_as_they_are() -> None:
    planes, values = stack([0, 2, 4, 8, 10, 12, 14, 20, 22, 24, 26, 28])
    result = relaxed(values, planes, faults("gap"), 0)
    assert result.made == (3, 8, 9)
    assert result.steps == ("3 missing of 15 slices interpolated from their neighbours: number 4, 9, 10",)
    np.testing.assert_array_equal(np.delete(result.values, result.made, axis=0), values)
    np.testing.assert_allclose(result.values, truth_on(result.affine, result.values.shape), atol=1e-3)


def test_whole_numbers_stay_whole_in_gaps() -> None:
    planes, values = stack([0, 2, 6, 8, 10])
    result = relaxed(np.rint(values).astype(np.int16), planes, faults("gap"), 0)
    assert result.values.dtype == np.int16
    np.testing.assert_allclose(result.values, truth_on(result.affine, result.values.shape), atol=1.01)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15], "3 of 16 slices are missing, up to 3 side by side"),
        ([0, 1, 3, 5, 7, 9, 11], "5 of 12 slices are missing, up to 1 side by side"),
    ],
)
def test_too_much_is_not_made_up(places: list[float], words: str) -> None:
    planes, values = stack(places)
    with pytest.raises(MedganError) as caught:
        relaxed(values, planes, faults("gap"), 0)
    assert words in str(caught.value)
    assert "--allow-gap fills at most 2 side by side" in str(caught.value)


def test_uneven_slices_come_to_lie_evenly_between_the_same_ends() -> None:
    places = [0, 1.1, 2.0, 3.3, 4.1, 5.2, 6.0, 7.5]
    planes, values = stack(places)
    result = relaxed(values, planes, faults("uneven"), 0)
    np.testing.assert_allclose(result.values, truth_on(result.affine, result.values.shape), atol=1e-3)
    np.testing.assert_array_equal(result.values[[0, -1]], values[[0, -1]])
    assert np.linalg.norm(result.affine[:3, 2]) == pytest.approx(7.5 / (len(result.values) - 1))
    assert "0.800 to 1.500 mm apart" in result.steps[0]


def test_a_hole_is_not_bridged_as_if_it_were_uneven() -> None:
    planes, values = stack([0, 1, 2.1, 3, 4, 8.3, 9.2, 10])
    with pytest.raises(MedganError, match=r"up to 4\.300 mm apart, mostly 1\.000 mm"):
        relaxed(values, planes, faults("uneven"), 0)


@pytest.mark.parametrize(("across", "down"), [(0.0, 0.8), (0.8, 0.0), (-0.31, 0.47), (0.0, -1.5), (0.75, 0.0)])
def test_a_tilted_stack_is_straightened_without_moving_anything(across: float, down: float) -> None:
    planes, values = stack([2.0 * k for k in range(9)], [(across * k, down * k) for k in range(9)])
    result = relaxed(values, planes, faults("tilt"), -999)
    inside = result.values != -999
    truth = truth_on(result.affine, result.values.shape)
    np.testing.assert_allclose(result.values[inside], truth[inside], atol=1e-3)
    # A slice loses at most the edge that moving by part of a pixel costs.
    assert (inside.sum(axis=(1, 2)) >= 11 * 9).all()
    steps = result.affine[:3, :3]
    np.testing.assert_allclose(steps.T @ steps, np.diag([0.75**2, 1.5**2, 4.0]), atol=1e-6)


def test_whole_pixels_are_moved_without_interpolation() -> None:
    planes, values = stack([2.0 * k for k in range(5)], [(0.75 * k, 3.0 * k) for k in range(5)])
    result = relaxed(values, planes, faults("tilt"), -999)
    for k, moved in enumerate(result.values):
        np.testing.assert_array_equal(moved[2 * k : 2 * k + 12, k : k + 10], values[k])
        assert (moved == -999).sum() == moved.size - values[k].size


def test_a_tilted_and_uneven_stack_takes_both() -> None:
    places = [0, 2.2, 4.0, 6.3, 8.1, 10.0]
    planes, values = stack(places, [(0.0, 0.3 * place) for place in places], (30, 10))
    result = relaxed(values, planes, faults("uneven", "tilt"), -999)
    truth = truth_on(result.affine, result.values.shape)
    inside = result.values != -999
    np.testing.assert_allclose(result.values[inside], truth[inside], atol=1e-3)
    assert (inside.sum(axis=(1, 2)) >= 29 * 10).all()
    assert len(result.steps) == 2


def test_options_are_named_only_if_they_help() -> None:
    assert options_for(faults("gap", "tilt", "beside")) == ["allow_gap", "deshear"]
    assert options_for(faults("gap", "repeated")) is None
    assert flag("resample_uneven") == "--resample-uneven"
    assert Relaxations() == Relaxations(allow_gap=False, resample_uneven=False, deshear=False)


def test_made_slices_are_on_record_and_sources_are_not_invented(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    del datasets[2]
    folder = write(datasets)
    volume = read_series(folder, relaxations=Relaxations(allow_gap=True))
    np.testing.assert_array_equal(volume.data[0], phantom.voxels)
    np.testing.assert_allclose(volume.affine, phantom.ras, atol=1e-8)
    assert volume.history == ("1 missing of 6 slices interpolated from their neighbours: number 3",)
    assert volume.metadata["interpolated_slices"] == (2,)
    assert len(volume.metadata["dicom"]["files"]) == 5


def test_a_duplicate_is_refused_whatever_is_allowed(phantom, write: Write) -> None:
    datasets = phantom.datasets()
    folder = write([*datasets, datasets[3]])
    with pytest.raises(MedganError, match="same position") as caught:
        read_series(folder, relaxations=Relaxations(True, True, True))
    assert "--" not in str(caught.value)


@pytest.mark.data
def test_a_real_tilted_and_uneven_ct_is_refused_with_the_options_and_read_with_them(unzipped) -> None:
    folder = unzipped("ct_head_tilt_variable_gap/dicom")
    with pytest.raises(MedganError, match="with --resample-uneven and --deshear"):
        read_series(folder)
    volume = read_series(folder, relaxations=Relaxations(resample_uneven=True, deshear=True))
    assert volume.data.min() >= -1024.5
    assert len([step for step in volume.history if "tilt of 18.5 degrees" in step or "resampled to" in step]) == 2
    # The outermost slices are measured ones and stay where their headers say.
    positions = sorted(float(one.plane.position[2]) for one in _slices(folder))
    heights = sorted([volume.affine[2, 3], (volume.affine @ [0, 0, volume.shape[2] - 1, 1])[2]])
    assert volume.shape[0] == 512
    assert heights[1] - heights[0] < positions[-1] - positions[0]
    steps = volume.affine[:3, :3]
    np.testing.assert_allclose(steps.T @ steps, np.diag(np.square(volume.spacing)), atol=1e-6)


def _slices(folder: Path):
    from medgan.io.dicom.scan import find_series, visible_files

    (series,), _ = find_series(visible_files(folder))
    return series.slices


def test_ct_fills_with_air_and_others_with_nothing(phantom, write: Write) -> None:
    for modality, background in (("CT", -1024), ("MR", 0)):
        datasets = phantom.datasets()
        for k, dataset in enumerate(datasets):
            shift = k * 4.2 * np.tan(np.radians(15)) * phantom.rotation[:, 1]
            place = [float(p) + s for p, s in zip(dataset.ImagePositionPatient, shift, strict=True)]
            dataset.ImagePositionPatient, dataset.Modality = place, modality
            dataset.RescaleIntercept, dataset.RescaleSlope = 1000, 1
            if modality == "CT":
                dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        volume = read_series(write(datasets, folder=modality), relaxations=Relaxations(deshear=True))
        assert volume.data.min() == background
        assert f"voxels outside set to {background}" in volume.history[-1]

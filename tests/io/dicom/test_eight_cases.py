"""The eight series that DICOM readers get wrong: medgan reads each voxel right, or refuses with the reason."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.io.dicom.read import read_series
from medgan.io.dicom.relaxations import Relaxations, flag


def _phantoms() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "dicom_phantoms.py"
    spec = importlib.util.spec_from_file_location("dicom_phantoms", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


phantoms = _phantoms()
CASES = {case.name: case for case in phantoms.CASES}

# Read as they are; the others are refused with these words.
RIGHT = (
    "instance numbers interleaved",
    "instance numbers all equal",
    "rescale slope per slice",
    "oblique enhanced multi-frame",
)
REFUSED = {
    "one slice missing": "1 slice missing between",
    "one slice duplicated": "slices at the same position",
    "slice distance changes": "uneven slice distances, 3.000 to 3.900 mm",
    "gantry tilt of 15 degrees": "a gantry tilt of 15.0 degrees",
}


def test_the_table_is_whole() -> None:
    assert {*RIGHT, *REFUSED} == set(CASES)
    assert len(CASES) == 8


@pytest.mark.parametrize("name", RIGHT)
def test_right_without_any_option(tmp_path: Path, name: str) -> None:
    CASES[name].write(tmp_path)
    volume = read_series(tmp_path)
    assert volume.shape == (phantoms.COLUMNS, phantoms.ROWS, phantoms.SLICES)
    assert phantoms.largest_error(volume.data[0], volume.affine) < phantoms.TOLERANCE
    assert volume.history == ()


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_reason_and_with_the_option_that_would_help(tmp_path: Path, name: str) -> None:
    CASES[name].write(tmp_path)
    with pytest.raises(MedganError) as caught:
        read_series(tmp_path)
    assert REFUSED[name] in str(caught.value)
    option = CASES[name].relaxation
    assert (option is None) == ("--" not in str(caught.value))
    assert option is None or flag(option) in str(caught.value)


@pytest.mark.parametrize("name", [name for name in REFUSED if CASES[name].relaxation])
def test_right_under_the_named_relaxation(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    case.write(tmp_path)
    volume = read_series(tmp_path, relaxations=Relaxations(**{case.relaxation: True}))
    voxels = volume.data[0]
    assert phantoms.largest_error(voxels, volume.affine, phantoms.BACKGROUND) < phantoms.INTERPOLATED_TOLERANCE
    assert len(volume.history) == 1
    # All of the scan is there, but for the edge that moving by part of a pixel costs.
    measured = int((voxels != phantoms.BACKGROUND).sum()) * abs(np.linalg.det(volume.affine))
    pixel = phantoms.BETWEEN_COLUMNS * phantoms.BETWEEN_ROWS
    across = case.extent + volume.spacing[2]
    assert measured >= 0.999 * across * pixel * phantoms.COLUMNS * (phantoms.ROWS - 1)
    steps = volume.affine[:3, :3]
    np.testing.assert_allclose(steps.T @ steps, np.diag(np.square(volume.spacing)), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in REFUSED if CASES[name].relaxation])
def test_other_relaxations_do_not_help(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    case.write(tmp_path)
    options = {one.relaxation: True for one in CASES.values() if one.relaxation not in (None, case.relaxation)}
    with pytest.raises(MedganError, match=REFUSED[name]):
        read_series(tmp_path, relaxations=Relaxations(**options))


@pytest.mark.parametrize("name", RIGHT)
def test_relaxations_change_nothing_where_nothing_is_amiss(tmp_path: Path, name: str) -> None:
    CASES[name].write(tmp_path)
    strict = read_series(tmp_path)
    relaxed = read_series(tmp_path, relaxations=Relaxations(allow_gap=True, resample_uneven=True, deshear=True))
    np.testing.assert_array_equal(strict.data, relaxed.data)
    np.testing.assert_array_equal(strict.affine, relaxed.affine)
    assert relaxed.history == ()

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medgan.io.dicom import geometry
from medgan.io.dicom.geometry import SlicePlane, stack_affine, stack_order, stack_problems

ANGLES = st.tuples(*[st.floats(-np.pi, np.pi)] * 3)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def planes_of(
    turn: np.ndarray, step: float, count: int = 9, spacing: tuple[float, float] = (0.7, 1.3)
) -> list[SlicePlane]:
    start = np.array([12.0, -80.0, 33.0])
    return [
        SlicePlane(
            f"{k:02d}.dcm",
            tuple(start + k * step * turn[:, 2]),
            tuple(turn[:, :2].T.ravel()),
            (0.7, 1.3),
            (20, 30),
        )
        for k in range(count)
    ]


def moved(plane: SlicePlane, offset: np.ndarray) -> SlicePlane:
    return dataclasses.replace(plane, position=tuple(np.array(plane.position) + offset))


@settings(max_examples=60)
@given(angles=ANGLES, step=st.floats(0.3, 8), order=st.permutations(range(9)))
def test_the_affine_of_shuffled_slices_is_the_analytic_one(angles, step, order) -> None:
    turn = Rotation.from_euler("xyz", angles).as_matrix()
    truth = planes_of(turn, step)
    shuffled = [truth[i] for i in order]
    assert stack_problems(shuffled) == []
    ordered = [shuffled[i] for i in stack_order(shuffled)]
    assert ordered == truth
    expected = np.eye(4)
    expected[:3, :3] = LPS_TO_RAS @ turn @ np.diag([1.3, 0.7, step])
    expected[:3, 3] = LPS_TO_RAS @ truth[0].position
    np.testing.assert_allclose(stack_affine(ordered), expected, atol=1e-10)


@settings(max_examples=60)
@given(
    angles=ANGLES,
    step=st.floats(0.3, 8),
    which=st.integers(1, 7),
    axis=st.integers(0, 2),
    sign=st.sampled_from([-1, 1]),
)
def test_a_slice_moved_beyond_the_tolerance_is_noticed_and_one_within_is_not(angles, step, which, axis, sign) -> None:
    turn = Rotation.from_euler("xyz", angles).as_matrix()
    tolerance = min(geometry.POSITION_TOLERANCE_MM, geometry.POSITION_TOLERANCE_FRACTION * step)
    planes = planes_of(turn, step)
    for factor in (0.9, 1.1):
        changed = list(planes)
        changed[which] = moved(planes[which], sign * factor * tolerance * turn[:, axis])
        problems = stack_problems(changed)
        assert bool(problems) == (factor > 1), problems
        assert not problems or planes[which].name in problems[0]


def test_a_slow_drift_of_the_spacing_is_noticed() -> None:
    planes = planes_of(np.eye(3), 2.0, count=60)
    drifting = [moved(plane, [0, 0, 1e-3 * k**2]) for k, plane in enumerate(planes)]
    assert "uneven slice distances" in stack_problems(drifting)[0]


def test_missing_slices_are_counted_between_their_neighbours() -> None:
    planes = planes_of(np.eye(3), 2.0, count=12)
    del planes[7:9]
    del planes[3]
    (problem,) = stack_problems(planes)
    assert "2.000 mm apart" in problem
    assert "1 slice missing between 02.dcm (37.00 mm) and 04.dcm (41.00 mm)" in problem
    assert "2 slices missing between 06.dcm (45.00 mm) and 09.dcm (51.00 mm)" in problem


def test_more_gaps_than_slices_side_by_side_are_still_gaps() -> None:
    planes = [planes_of(np.eye(3), 2.0, count=20)[i] for i in (0, 2, 4, 6, 7, 9)]
    problem = stack_problems(planes)[0]
    assert "2.000 mm apart" in problem
    assert problem.count("1 slice missing between") == 4


def test_one_place_twice_is_named() -> None:
    planes = planes_of(np.eye(3), 2.0)
    (problem,) = stack_problems([*planes, dataclasses.replace(planes[4], name="again.dcm")])
    assert problem == "slices at the same position: 04.dcm (41.00 mm) and again.dcm (41.00 mm)"


def test_every_place_twice_reads_as_two_volumes() -> None:
    planes = planes_of(np.eye(3), 2.0)
    (problem,) = stack_problems([*planes, *planes])
    assert "imaged 2 times" in problem
    assert "2 volumes" in problem


def test_one_place_only_is_refused() -> None:
    plane = planes_of(np.eye(3), 2.0)[0]
    assert "same position" in stack_problems([plane] * 4)[0]


@pytest.mark.parametrize("degrees", [0.2, 1.0, 18.5, -30.0])
def test_a_tilted_gantry_is_measured(degrees: float) -> None:
    shift = np.tan(np.radians(degrees)) * 2.0
    planes = [moved(plane, [0, k * shift, 0]) for k, plane in enumerate(planes_of(np.eye(3), 2.0))]
    (problem,) = stack_problems(planes)
    assert f"a gantry tilt of {abs(degrees):.1f} degrees" in problem
    assert "00.dcm (33.00 mm)" in problem


def test_a_tilt_of_rounding_is_kept_in_the_affine() -> None:
    planes = [moved(plane, [0, k * 0.001, 0]) for k, plane in enumerate(planes_of(np.eye(3), 2.0))]
    assert stack_problems(planes) == []
    np.testing.assert_allclose(stack_affine(planes)[:3, 2], [0, -0.001, 2.0], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"matrix": (20, 31)},
            ["matrix sizes", "20 x 30 in 8 slices", "20 x 31 in 1 slice", "05.dcm at ("],
        ),
        ({"pixel_spacing": (0.7, 1.31)}, ["2 different pixel spacings", "0.7 x 1.31 in 1 slice", "05.dcm"]),
        ({"orientation": (1, 0, 0, 0, 0.99995, -0.01)}, ["2 different orientations", "05.dcm"]),
    ],
)
def test_a_slice_unlike_the_others_is_named(change: dict, words: list[str]) -> None:
    planes = planes_of(np.eye(3), 2.0)
    planes[5] = dataclasses.replace(planes[5], **change)
    (problem,) = stack_problems(planes)
    for word in words:
        assert word in problem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"position": (np.nan, 0, 0)}, "not a finite number"),
        ({"orientation": (1, 0, 0, 0.1, 0.995, 0)}, "not perpendicular unit vectors"),
        ({"orientation": (0, 0, 0, 0, 0, 0)}, "not perpendicular unit vectors"),
        ({"pixel_spacing": (0.0, 1.0)}, "pixel spacing (0.0, 1.0)"),
    ],
)
def test_impossible_header_values_are_refused(change: dict, words: str) -> None:
    planes = planes_of(np.eye(3), 2.0)
    planes[5] = dataclasses.replace(planes[5], **change)
    (problem,) = stack_problems(planes)
    assert words in problem
    assert "05.dcm" in problem


def test_two_slices_are_too_few_to_tell_a_gap() -> None:
    (problem,) = stack_problems(planes_of(np.eye(3), 2.0, count=2))
    assert "at least 3" in problem
    assert "00.dcm, 01.dcm" in problem

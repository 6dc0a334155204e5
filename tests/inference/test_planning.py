"""What an upscaling comes to: which axis the slices follow, how thick they are, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.inference.planning import ASSUMED, GIVEN, HEADER, SIDECAR, axis_order, planned, slice_axis_of, slices_of
from medgan.inference.upscale import UNCHANGED, upscale
from medgan.volume import Volume

_BY_SIDECAR = {"slice_thickness": 3.0, "slice_thickness_source": SIDECAR}


def _scan(shape: tuple[int, int, int], spacing: tuple[float, float, float], **metadata: Any) -> Volume:
    voxels = np.random.default_rng(0).random(shape, dtype=np.float32)
    return Volume(voxels, np.diag([*spacing, 1.0]), metadata=metadata)


@pytest.mark.parametrize(
    ("spacing", "direction", "axis"),
    [
        ((1, 1, 4), None, 2),
        ((5, 1, 1), None, 0),
        ((1, 1, 1), None, 2),
        ((2, 1, 2), None, 2),
        ((1, 1, 4), (0.1, 0.99, 0.0), 1),
        ((1, 1, 1), (-1.0, 0.0, 0.0), 0),
    ],
)
def test_slices_follow_the_direction_of_the_header_else_the_coarsest_axis(
    spacing: tuple[float, float, float], direction: tuple[float, float, float] | None, axis: int
) -> None:
    facts = {} if direction is None else {"slice_direction": direction}
    assert slice_axis_of(_scan((6, 6, 6), spacing, **facts)) == axis


def test_the_slice_direction_holds_in_every_orientation() -> None:
    scan = _scan((6, 7, 8), (2, 2, 1), slice_direction=(1.0, 0.0, 0.0))
    for orientation, axis in (("RAS", 0), ("PSR", 2), ("SLA", 1)):
        assert slice_axis_of(scan.reoriented(orientation)) == axis


@pytest.mark.parametrize(
    ("facts", "given", "thickness", "gap", "source"),
    [
        ({}, None, 4.0, 0.0, ASSUMED),
        ({"slice_thickness": 3.0}, None, 3.0, 1.0, HEADER),
        ({"slice_thickness": 0.0}, None, 4.0, 0.0, ASSUMED),
        ({"slice_thickness": 5.0}, None, 5.0, -1.0, HEADER),
        ({"slice_thickness": 3.0}, 2.0, 2.0, 2.0, GIVEN),
        (
            {"slice_thickness": 3.0, "slice_thickness_source": SIDECAR, "spacing_between_slices": 4.0},
            None,
            3,
            1,
            SIDECAR,
        ),
        # The gap stands where the distance should.
        (
            {"slice_thickness": 3.0, "slice_thickness_source": SIDECAR, "spacing_between_slices": 1.0},
            None,
            3,
            1,
            SIDECAR,
        ),
    ],
)
def test_thickness_is_what_is_known_of_it(
    facts: dict[str, Any], given: float | None, thickness: float, gap: float, source: str
) -> None:
    slices = slices_of(_scan((6, 6, 6), (1, 1, 4), **facts), given)
    assert (slices.axis, slices.thickness, slices.source) == (2, thickness, source)
    assert slices.gap == pytest.approx(gap)
    assert ("assumed" in str(slices)) == (source == ASSUMED)


@pytest.mark.parametrize(
    ("facts", "given", "words"),
    [
        ({}, -3.0, "slice thickness of -3.0 mm does not go"),
        ({"slice_thickness": -3.0}, None, "-3.0 mm, which the header says, does not go with slices every 4 mm"),
        ({}, 21.0, "21.0 mm does not go with slices every 4 mm"),
        ({}, 25.0, "more than the field of view of 24 mm"),
        ({}, float("nan"), "nan mm does not go"),
        (
            {"slice_thickness": 5.0, "slice_thickness_source": SIDECAR, "spacing_between_slices": 6.0},
            None,
            "slices are 6 mm apart, and the image has them every 4 mm",
        ),
    ],
)
def test_a_thickness_that_cannot_be_is_refused(facts: dict[str, Any], given: float | None, words: str) -> None:
    with pytest.raises(MedganError, match=words):
        slices_of(_scan((6, 6, 6), (1, 1, 4), **facts), given)


def test_thickness_belongs_to_the_slice_axis_alone() -> None:
    scan = _scan((6, 6, 6), (1, 1, 4), slice_direction=(0.0, 1.0, 0.0), slice_thickness=1.5)
    assert planned(scan, None, (1, 2, 2), None, None).thickness == (1.0, 1.5, 4.0)


def test_one_slice_is_upscaled_within_itself_only() -> None:
    scan = _scan((8, 9, 1), (1, 1, 5))
    with pytest.raises(MedganError, match="single slice from bottom to top, and 5 are wanted"):
        upscale(scan)
    assert upscale(scan, factor=(2, 2, 1)).shape == (16, 18, 1)


def test_a_scan_that_is_fine_enough_comes_back_untouched() -> None:
    scan = Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([1.0, 1.0, 1.0, 1.0]))
    for request in ({"spacing": (1, 1, 1)}, {"factor": (1, 1, 1)}, {"spacing": (1, 0.99, 1)}):
        same = upscale(scan, **request)  # type: ignore[arg-type]
        np.testing.assert_array_equal(same.data, scan.data)
        assert same.data.dtype == np.int16
        assert same.history == (UNCHANGED,)


def test_facts_of_the_old_slices_are_not_said_of_the_new_ones() -> None:
    scan = _scan((6, 6, 6), (1, 1, 4), slice_thickness=3.0, spacing_between_slices=4.0, modality="MR")
    sharper = upscale(scan)
    assert dict(sharper.metadata) == {"modality": "MR"}
    assert "slices 3 mm thick (Gaussian profile) every 4 mm, 1 mm apart, by the header" in sharper.history


def test_the_known_thickness_changes_the_result() -> None:
    voxels = np.random.default_rng(0).random((5, 5, 12), dtype=np.float32)
    thin, thick = (upscale(Volume(voxels, np.diag([1, 1, 4.0, 1])), thickness=value).data for value in (1.0, 4.0))
    assert np.abs(thin - thick).max() > 0.05


def test_channels_are_upscaled_one_by_one() -> None:
    voxels = (
        np.random.default_rng(0).random((3, 6, 7, 5)).astype(np.float32) * np.array([1, 50, 3000])[:, None, None, None]
    )
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    together = upscale(Volume(voxels, affine))
    assert together.data.shape == (3, 6, 7, 15)
    for channel, alone in enumerate(voxels):
        np.testing.assert_array_equal(together.data[channel], upscale(Volume(alone, affine)).data[0])


def test_negative_intensities_stay_in_their_units() -> None:
    """Shifting a scan by what CT calls air shifts the result by as much: nothing is clipped at 0."""
    voxels = (np.random.default_rng(0).random((8, 8, 6)) * 2000).astype(np.float32)
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    shifted = upscale(Volume(voxels - 1000, affine)).data
    np.testing.assert_allclose(shifted, upscale(Volume(voxels, affine)).data - 1000, atol=0.02)
    assert shifted.min() < -900


def test_a_small_bright_object_is_brought_to_the_range_of_the_network() -> None:
    """Percentiles of a scan that is empty but for a point are equal; the point still comes out in its units."""
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[10, 10, 10] = 5000
    sharper = upscale(Volume(voxels, np.eye(4)))
    assert sharper.data.sum() / 8 == pytest.approx(5000, rel=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted(value: float) -> None:
    voxels = np.ones((4, 4, 4), np.float32)
    voxels[0, 0, :2] = value
    with pytest.raises(MedganError, match="2 of 64 voxels are not finite"):
        upscale(Volume(voxels, np.eye(4)))


def test_networks_of_any_factors_get_the_largest_last() -> None:
    assert axis_order((4, 1, 1), None) == (1, 2, 0)
    assert axis_order((1, 1, 1), None) == (0, 1, 2)
    assert axis_order((1, 4, 2), (4, 2, 1)) == (1, 2, 0)

"""Lesion figures against lesions of known volume, contrast and fate."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from medgan.errors import MedganError
from medgan.evaluation.lesions import (
    LesionPlan,
    PlantedLesion,
    even_tissue,
    lesion_figures,
    lesion_outcomes,
    lesion_parts,
    plan_lesions,
    with_lesions,
)

SPACING = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def brain() -> np.ndarray:
    """A ball of even tissue (100) in air, a rough shell (60) around it and a dark hole (20) in it."""
    shape = (72, 72, 72)
    distance = np.sqrt(sum((axis - 35.5) ** 2 for axis in np.indices(shape)))
    rough = np.random.default_rng(0).normal(0, 15, shape)
    voxels = np.where(distance < 33, 60 + rough, 0.0)
    voxels = np.where(distance < 28, 100.0, voxels)
    voxels = np.where(distance < 6, 20.0, voxels)
    return (voxels + np.random.default_rng(1).normal(0, 1, shape)).astype(np.float32)


@pytest.fixture(scope="module")
def plan(brain: np.ndarray) -> LesionPlan:
    return plan_lesions(brain, spacing=SPACING, seed=3)


@pytest.fixture(scope="module")
def brain_with(brain: np.ndarray, plan: LesionPlan) -> np.ndarray:
    return with_lesions(brain, plan.lesions, spacing=SPACING)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 0.9, 1.2)])
@pytest.mark.parametrize("radii", [(0.5, 0.5, 0.5), (1.2, 0.8, 1.0), (3.0, 2.5, 3.4)])
def test_planted_lesions_have_the_volume_of_an_ellipsoid(radii: tuple, spacing: tuple) -> None:
    lesion = PlantedLesion((10.3, 11.8, 9.6), radii, contrast=-7.0, diameter=1.0)
    added = with_lesions(np.zeros((22, 22, 22)), [lesion], spacing=spacing)
    volume = added.sum(dtype=np.float64) / -7.0 * np.prod(spacing)
    assert volume == pytest.approx(4 / 3 * np.pi * np.prod(radii), rel=0.02)
    if min(radii) > 2:
        # Voxels keep the middle of what is larger than they are.
        assert np.array(ndimage.center_of_mass(added)) == pytest.approx(lesion.centre, abs=0.01)
    assert added.min() >= -7.0


def test_parts_are_cut_at_the_border_and_padded_by_the_margin() -> None:
    lesion = PlantedLesion((0.0, 5.0, 9.0), (2.0, 2.0, 2.0), 1.0, 4.0)
    tight, inside = lesion_parts(lesion, (10, 10, 10), spacing=SPACING, margin=0)
    wide, outside = lesion_parts(lesion, (10, 10, 10), spacing=SPACING, margin=3)
    assert inside.shape == tuple(side.stop - side.start for side in tight)
    assert (wide[0].start, wide[0].stop, wide[2].stop) == (0, 6, 10)
    assert outside.sum() == pytest.approx(inside.sum())
    # Half a voxel of a ball's half lies beyond the centre of the border voxel.
    assert outside.sum() < 4 / 3 * np.pi * 8 * 0.6


def test_places_are_even_apart_and_a_function_of_the_seed(brain: np.ndarray, plan: LesionPlan) -> None:
    distance = np.sqrt(sum((axis - 35.5) ** 2 for axis in np.indices(brain.shape)))
    tissue = even_tissue(brain, spacing=SPACING)
    assert tissue.sum() > 5000
    assert not tissue[(distance > 27) | (distance < 7)].any()
    centres = np.array([lesion.centre for lesion in plan.lesions])
    assert min(np.linalg.norm(a - b) for a, b in combinations(centres, 2)) > 14 - 2
    assert {lesion.diameter for lesion in plan.lesions} >= {1.0, 2.0, 3.0}
    assert {np.sign(lesion.contrast) for lesion in plan.lesions} == {-1.0, 1.0}
    assert len(plan.controls) > 50
    for lesion in plan.lesions:
        assert np.prod(lesion.radii) == pytest.approx((lesion.diameter / 2) ** 3)
    assert plan_lesions(brain, spacing=SPACING, seed=3) == plan
    assert plan_lesions(brain, spacing=SPACING, seed=4) != plan


def test_truth_erases_and_invents_nothing(brain: np.ndarray, brain_with: np.ndarray, plan: LesionPlan) -> None:
    scans = {"reference": brain, "reference_with": brain_with}
    found = lesion_outcomes(plan, spacing=SPACING, **scans, restored=brain, restored_with=brain_with)
    assert (found.lesions, found.erased, found.invented) == (len(plan.lesions), 0, 0)
    assert found.contrast_kept == pytest.approx(1.0, abs=1e-4)
    assert found.volume_kept == 1.0
    assert sum(row.lesions for row in found.by_diameter) == found.lesions


def test_a_method_that_loses_lesions_erases_all(brain: np.ndarray, brain_with: np.ndarray, plan: LesionPlan) -> None:
    scans = {"reference": brain, "reference_with": brain_with}
    found = lesion_outcomes(plan, spacing=SPACING, **scans, restored=brain, restored_with=brain)
    assert found.erased == found.lesions
    assert found.invented == 0
    assert found.contrast_kept == 0
    assert found.volume_kept == 0


def test_less_than_half_of_the_contrast_is_erased(brain: np.ndarray, brain_with: np.ndarray, plan: LesionPlan) -> None:
    scans = {"reference": brain, "reference_with": brain_with}
    most = brain + 0.6 * (brain_with - brain)
    found = lesion_outcomes(plan, spacing=SPACING, **scans, restored=brain, restored_with=most)
    assert found.contrast_kept == pytest.approx(0.6, abs=1e-4)
    assert found.volume_kept == 1.0
    assert found.erased == 0
    weak = brain + 0.4 * (brain_with - brain)
    assert lesion_outcomes(plan, spacing=SPACING, **scans, restored=brain, restored_with=weak).erased == found.lesions


def test_a_method_that_adds_lesions_invents_them(brain: np.ndarray, brain_with: np.ndarray, plan: LesionPlan) -> None:
    scans = {"reference": brain, "reference_with": brain_with}
    apart = [plan.controls[0]]
    for place in plan.controls[1:]:
        if all(np.linalg.norm(np.subtract(place.centre, other.centre)) > 14 for other in apart):
            apart.append(place)
    spots = with_lesions(brain, apart, spacing=SPACING)
    found = lesion_outcomes(plan, spacing=SPACING, **scans, restored=spots, restored_with=spots)
    assert found.invented >= len(apart)


def test_blur_erases_the_small_ones_first(brain: np.ndarray, brain_with: np.ndarray, plan: LesionPlan) -> None:
    scans = {"reference": brain, "reference_with": brain_with}
    restored, restored_with = (ndimage.gaussian_filter(scan, (0, 0, 3)) for scan in (brain, brain_with))
    found = lesion_outcomes(plan, spacing=SPACING, **scans, restored=restored, restored_with=restored_with)
    kept = [row.contrast_kept for row in found.by_diameter]
    assert kept[0] < kept[2] < kept[-1] < 1
    assert found.by_diameter[0].erased == found.by_diameter[0].lesions
    assert found.by_diameter[0].volume_kept > 2
    assert found.to_dict()["by_diameter"][0]["diameter"] == 1.0


def test_contrast_and_volume_of_lesions_in_a_mask() -> None:
    tissue = np.full((60, 60, 60), 50.0)
    ball = PlantedLesion((20.0, 20.0, 20.0), (4.0, 4.0, 4.0), 30.0, 8.0)
    dark = PlantedLesion((40.0, 42.0, 41.0), (3.0, 3.0, 3.0), -20.0, 6.0)
    truth = with_lesions(tissue, [ball, dark], spacing=SPACING)
    mask = np.abs(truth - 50) > 10
    mask[0, 0, 0] = True  # too small to count
    exact = lesion_figures(truth, truth, mask)
    assert exact is not None
    assert (exact.contrast_kept, exact.volume_kept, exact.lesions) == (pytest.approx(1.0), 1.0, 2)
    # Contrast is no matter of the level.
    paler = lesion_figures(truth, 0.6 * truth + 7, mask)
    assert paler is not None
    assert paler.contrast_kept == pytest.approx(0.6)
    assert paler.volume_kept == 1.0
    larger = with_lesions(tissue, [PlantedLesion(ball.centre, (5.0, 5.0, 5.0), 30.0, 10.0), dark], spacing=SPACING)
    grown = lesion_figures(truth, larger, mask)
    assert grown is not None
    assert grown.volume_kept == pytest.approx((5**3 + 3**3) / (4**3 + 3**3), rel=0.1)
    gone = lesion_figures(truth, tissue, mask)
    assert gone is not None
    assert (gone.contrast_kept, gone.volume_kept) == (0.0, 0.0)
    assert lesion_figures(truth, truth, np.zeros(truth.shape)) is None


def test_what_makes_no_sense_is_refused(plan: LesionPlan) -> None:
    with pytest.raises(MedganError, match="no even tissue"):
        plan_lesions(np.zeros((12, 12, 12)), spacing=SPACING, seed=0)
    with pytest.raises(MedganError, match="shapes differ"):
        lesion_figures(np.zeros((4, 4, 4)), np.zeros((4, 4, 4)), np.zeros((4, 4, 5)))
    scans = [np.zeros((4, 4, 4)) for _ in range(3)]
    with pytest.raises(MedganError, match="differ"):
        lesion_outcomes(
            plan,
            spacing=SPACING,
            reference=scans[0],
            reference_with=scans[1],
            restored=scans[2],
            restored_with=np.zeros((4, 4, 5)),
        )

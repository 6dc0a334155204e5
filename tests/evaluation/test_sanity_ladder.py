"""The worse a set of scans, the further every distance says it is: on real heads, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medgan.evaluation.coverage import set_coverage
from medgan.evaluation.features import RandomEncoder, Standardisation
from medgan.evaluation.fidelity import kid, mmd
from medgan.evaluation.frechet import frechet_distance
from medgan.evaluation.halvings import halvings
from medgan.evaluation.scans import thumbnail

Arrays = list[NDArray[np.float32]]
Features = NDArray[np.float64]

STEPS = ("real halves", "blurred", "noisy", "shuffled patches", "random")


def shuffled(volume: NDArray[np.float32], random: np.random.Generator, side: int = 6) -> NDArray[np.float32]:
    """The same patches in another order: every voxel is kept, and no anatomy."""
    x, y, z = (n // side for n in volume.shape)
    cut = volume[: x * side, : y * side, : z * side]
    patches = cut.reshape(x, side, y, side, z, side).transpose(0, 2, 4, 1, 3, 5).reshape(-1, side, side, side)
    mixed = patches[random.permutation(len(patches))].reshape(x, y, z, side, side, side)
    return np.ascontiguousarray(mixed.transpose(0, 3, 1, 4, 2, 5).reshape(cut.shape))


@pytest.fixture(scope="module")
def ladder(small_scans: Arrays) -> dict[str, Features]:
    """Features of 42 real heads ("real") and of five sets made of the other 42, standardised by the former."""
    random = np.random.default_rng(0)
    real, others = small_scans[::2], small_scans[1::2]
    sets = {
        "real": real,
        "real halves": others,
        "blurred": [ndimage.gaussian_filter(scan, 0.5) for scan in others],
        "noisy": [scan + random.normal(0, 0.1, scan.shape).astype(np.float32) for scan in others],
        "shuffled patches": [shuffled(scan, random) for scan in others],
        "random": [random.random(scan.shape, dtype=np.float32) for scan in others],
    }
    raw = {name: RandomEncoder().extract(scans) for name, scans in sets.items()}
    standardisation = Standardisation.fitted(raw["real"])
    return {name: standardisation.applied(rows) for name, rows in raw.items()}


def test_kernel_distances_rise_step_by_step(ladder: dict[str, Features]) -> None:
    for distance in (kid, mmd):
        values = [distance(ladder["real"], ladder[step]).value for step in STEPS]
        assert values == sorted(values), distance.__name__
        assert values[1] > 2 * abs(values[0]), distance.__name__


def test_frechet_distances_rise_step_by_step(ladder: dict[str, Features]) -> None:
    values = [frechet_distance(ladder["real"], ladder[step]) for step in STEPS]
    assert values == sorted(values)


def test_precision_and_coverage_fall_to_nothing(ladder: dict[str, Features]) -> None:
    found = [set_coverage(ladder["real"], ladder[step], halvings(42, 42))[0] for step in STEPS]
    for name in ("precision", "coverage"):
        values = [getattr(one, name).value for one in found]
        assert values == sorted(values, reverse=True)
        assert values[-1] == 0


@pytest.fixture(scope="module")
def crops(test_data: Path) -> Arrays:
    """Eighty crops around a hippocampus on the grid of the small heads, divided by their 99.5th percentile."""
    import nibabel as nib

    found = []
    for path in sorted((test_data / "mri_t1_hippocampus_1mm").rglob("*.nii.gz")):
        if "labels" in path.parts or len(found) == 80:
            continue
        volume = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj, dtype=np.float32)
        factors = [wanted / side for wanted, side in zip((18, 24, 24), volume.shape, strict=True)]
        small = ndimage.zoom(volume, factors, order=1)
        found.append((small / np.percentile(small, 99.5)).astype(np.float32))
    assert len(found) == 80
    return found


def test_half_of_the_classes_cost_recall_and_coverage_but_not_precision(small_scans: Arrays, crops: Arrays) -> None:
    """Heads and hippocampi are the cohort; the synthetic set has heads and hippocampi, or as many heads alone."""
    heads = [thumbnail(scan, 24) for scan in small_scans]
    sets = {"real": heads[:40] + crops[:40], "both": heads[40:80] + crops[40:], "one": heads[40:80]}
    raw = {name: RandomEncoder().extract(scans) for name, scans in sets.items()}
    standardisation = Standardisation.fitted(raw["real"])
    features = {name: standardisation.applied(rows) for name, rows in raw.items()}
    both, floor = set_coverage(features["real"], features["both"], halvings(80, 80))
    one, _ = set_coverage(features["real"], features["one"], halvings(80, 40))
    assert one.scans == both.scans == 40
    assert both.coverage.value == pytest.approx(floor.coverage.value, abs=0.1)
    assert one.precision.value > 0.9 * both.precision.value
    assert one.recall.value < 0.7 * both.recall.value
    assert one.coverage.value < 0.7 * both.coverage.value

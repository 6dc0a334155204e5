from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medgan.errors import MedganError
from medgan.evaluation.copies import CopyDetector, CopyFigures, CopySearch, find_copies, scan_maps

Arrays = list[NDArray[np.float32]]
TRAINING = 12
SHAPE = (24, 28, 26)


def person(seed: int) -> NDArray[np.float32]:
    """What all have in common, and what only one has: smooth fields inside an ellipsoid; 0..1."""
    common, own = (ndimage.gaussian_filter(np.random.default_rng(s).standard_normal(SHAPE), 1.8) for s in (999, seed))
    axes = np.meshgrid(*(np.linspace(-1.15, 1.15, n) for n in SHAPE), indexing="ij")
    inside = ndimage.gaussian_filter((sum(axis**2 for axis in axes) < 1).astype(np.float64), 0.7)
    texture = common / common.std() + own / own.std()
    return (inside * (0.5 + 0.12 * texture)).clip(0).astype(np.float32)


@pytest.fixture(scope="module")
def people() -> Arrays:
    return [person(seed) for seed in range(TRAINING + 6)]


@pytest.fixture(scope="module")
def detector(people: Arrays) -> CopyDetector:
    return CopyDetector.calibrated([scan_maps(one) for one in people[:TRAINING]])


def disguises(volume: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(0)
    return {
        "plain": volume,
        "mirrored": volume[::-1],
        "upside down": volume[:, :, ::-1],
        "shifted": np.roll(volume, (2, -1, 1), axis=(0, 1, 2)),
        "rotated": ndimage.rotate(volume, 8, reshape=False, order=1),
        "inverted": 1 - volume,
        "gamma": volume**1.8,
        "noisy": volume + random.normal(0, 0.05, SHAPE).astype(np.float32),
        "blurred": ndimage.gaussian_filter(volume, 0.8),
        "cut": np.where(np.arange(SHAPE[1])[:, None] < 8, 0, volume),
        "mixed": 0.7 * volume + 0.3 * other,
    }


def test_disguised_copies_are_found_and_others_are_not(detector: CopyDetector, people: Arrays) -> None:
    made = disguises(people[5], people[9])
    found = detector.figures([scan_maps(one) for one in (*made.values(), *people[TRAINING:])])
    assert found.flagged == tuple(range(len(made)))
    assert {match.index for match in found.matches[: len(made)]} == {5}
    assert all(chance < 0.01 for chance in found.chances[: len(made)])
    assert all(chance > 0.01 for chance in found.chances[len(made) :])
    assert (found.references, found.extrapolated, found.repeated) == (TRAINING, True, ())


def test_a_blurred_average_is_no_copy(detector: CopyDetector, people: Arrays) -> None:
    average = np.mean(people[:TRAINING], axis=0)
    assert detector.figures([scan_maps(average), scan_maps(ndimage.gaussian_filter(average, 1))]).flagged == ()


def test_a_constant_scan_and_noise_are_no_copies(detector: CopyDetector) -> None:
    noise = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    found = detector.figures([scan_maps(np.zeros(SHAPE, np.float32)), scan_maps(noise)])
    assert found.flagged == ()
    assert all(np.isfinite(match.score) for match in found.matches)


def test_a_training_scan_that_is_there_twice_is_named_and_hides_nothing(people: Arrays) -> None:
    training = [*people[:TRAINING], people[3]]
    found = find_copies([people[4], people[3], people[TRAINING]], training)
    assert found.repeated == (3, TRAINING)
    assert {0, 1} == set(found.flagged)


def test_figures_survive_json(detector: CopyDetector, people: Arrays) -> None:
    found: CopyFigures = detector.figures([scan_maps(people[2])])
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["matches"][0]["index"] == 2
    assert again["flagged"] == [0]


def test_large_scans_are_compared_by_thumbnails(people: Arrays) -> None:
    large = np.kron(people[0], np.ones((3, 3, 3), np.float32))
    assert max(scan_maps(large).fine.shape) <= 48
    with pytest.raises(MedganError, match="3 training scans"):
        CopySearch([scan_maps(one) for one in people[:3]])


@pytest.mark.slow
@pytest.mark.data
def test_twenty_disguises_of_real_scans(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    import audit_calibration

    scans = audit_calibration.RealScans(test_data / "mri_t1_ixi_2mm")
    del scans.paths[42:]
    result = audit_calibration.calibrated(scans, folds=2, copies=1, seed=1)
    kinds = audit_calibration.KINDS
    assert len(kinds) == 20
    promised = [one for one in result.copies if one.strength in kinds[one.kind].strengths]
    caught = sum(one.flagged for one in promised)
    # Of half the scans, and with a threshold calibrated on 21: less than of all of them.
    assert caught >= 0.9 * len(promised)
    assert sum(score > 1 for score in result.held_out) <= 2
    assert len(result.held_out) == 42
    for module in ("audit_calibration", "disguises"):
        sys.modules.pop(module)

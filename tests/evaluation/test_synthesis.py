from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medgan.errors import MedganError
from medgan.evaluation import SynthesisFigures, evaluate_synthesis

Arrays = list[NDArray[np.float32]]


@pytest.fixture(scope="module")
def figures(heads: Arrays) -> SynthesisFigures:
    """Ten fresh phantoms and one copy, presented as synthetic."""
    return evaluate_synthesis(heads[:30], [*heads[30:40], heads[3][::-1]], holdout=heads[40:50])


def test_fresh_scans_of_the_same_kind_pass(figures: SynthesisFigures) -> None:
    assert figures.encoder == "random-conv3d-v1"
    assert figures.counts == {"real": 30, "synthetic": 11, "holdout": 10}
    assert figures.shape == (20, 24, 22)
    assert figures.kid.low < 3 * figures.kid_floor.high
    assert figures.intensity_distance < 2 * figures.intensity_floor.high
    assert figures.diversity.mean == pytest.approx(figures.real_diversity.mean, abs=0.05)


def test_the_copy_is_found_by_both_measures(figures: SynthesisFigures) -> None:
    audit = figures.memorization
    assert audit.reference == "held-out scans"
    assert audit.flagged == audit.features.flagged == audit.voxels.flagged == (10,)
    assert audit.voxels.neighbours[10].index == audit.features.neighbours[10].index == 3


def test_figures_survive_json(figures: SynthesisFigures) -> None:
    again = json.loads(json.dumps(figures.to_dict(), allow_nan=False))
    assert again["kid"]["value"] == figures.kid.value
    assert len(again["memorization"]["voxels"]["neighbours"]) == 11
    assert again["memorization"]["flagged"] == [10]


def test_collapsed_noise_fails_everywhere(heads: Arrays) -> None:
    random = np.random.default_rng(0)
    collapsed = [(0.6 + random.normal(0, 0.02, heads[0].shape)).astype(np.float32) for _ in range(8)]
    figures = evaluate_synthesis(heads[:20], collapsed)
    assert figures.kid.low > 10 * figures.kid_floor.high
    assert figures.intensity_distance > 10 * figures.intensity_floor.high
    assert figures.memorization.reference.startswith("training scans")


def test_intensity_distance_is_the_shift_of_the_voxels(heads: Arrays) -> None:
    figures = evaluate_synthesis(heads[:8], [head + 0.25 for head in heads[:8]])
    assert figures.intensity_distance == pytest.approx(0.25, abs=1e-6)


def test_same_seed_same_figures(heads: Arrays) -> None:
    first, again, other = (evaluate_synthesis(heads[:8], heads[8:16], seed=seed).to_dict() for seed in (4, 4, 5))
    assert first == again != other


def test_unusable_sets_are_named(heads: Arrays) -> None:
    with pytest.raises(MedganError, match="3 synthetic scans"):
        evaluate_synthesis(heads[:8], heads[8:11])
    with pytest.raises(MedganError, match="1 real scans"):
        evaluate_synthesis(heads[:1], heads[8:16])
    with pytest.raises(MedganError, match="holdout scan 1"):
        evaluate_synthesis(heads[:8], heads[8:16], holdout=[heads[0], heads[1][1:]])
    broken = [head.copy() for head in heads[8:12]]
    broken[2][0, 0, 0] = np.nan
    with pytest.raises(MedganError, match="volume 2 holds voxels that are not finite"):
        evaluate_synthesis(heads[:8], broken)


def test_every_distance_stands_beside_its_floor(heads: Arrays) -> None:
    """Fresh phantoms reach the floor; blurred ones do not, and the spectrum says why."""
    fresh = evaluate_synthesis(heads[:24], heads[24:44], spacing=(2, 2, 2))
    blurred = evaluate_synthesis(
        heads[:24], [ndimage.gaussian_filter(head, 1) for head in heads[24:44]], spacing=(2, 2, 2)
    )
    assert {"kid", "mmd", "frechet", "intensity", "spectrum", "precision", "recall", "density", "coverage"} == set(
        fresh.ratios
    )
    for name in ("kid", "mmd", "frechet", "spectrum"):
        ours, theirs = fresh.ratios[name], blurred.ratios[name]
        assert ours is not None
        assert theirs is not None
        assert ours < 1.5 < 3 < theirs, name
    assert fresh.ratios["coverage"] == pytest.approx(1, abs=0.2)
    assert blurred.coverage.precision.value < 0.2
    assert fresh.frechet_floor.scans == (12, 12)
    assert fresh.matched["frechet"].value == pytest.approx(fresh.frechet_floor.value, rel=0.3)
    assert fresh.frechet.warning is not None
    assert fresh.spectrum.unit == "1/mm"
    assert blurred.spectrum.synthetic[-1] < fresh.spectrum.synthetic[-1] - 3


class Read(Sequence[NDArray[np.float32]]):
    """Volumes that are made when they are asked for; counts how many are held at a time."""

    def __init__(self, seeds: range) -> None:
        self.seeds, self.held, self.most = seeds, 0, 0

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> NDArray[np.float32]:  # type: ignore[override]
        volume = np.random.default_rng(self.seeds[index]).random((50, 32, 32), dtype=np.float32)
        self.held += 1
        self.most = max(self.most, self.held)
        weakref.finalize(volume, self._gone)
        return volume

    def _gone(self) -> None:
        self.held -= 1


def test_few_scans_are_held_at_a_time() -> None:
    """Never more than a batch of the encoder, and the one that is read next."""
    real = Read(range(14))
    assert evaluate_synthesis(real, Read(range(20, 24))).counts["real"] == 14
    assert real.most <= 12
    assert real.held == 0


def test_an_encoder_of_ones_own(heads: Arrays) -> None:
    class Moments:
        name = "moments-v1"

        def extract(self, volumes: Iterable[NDArray[np.float32]], batch: int = 8) -> NDArray[np.float64]:
            return np.array([[volume.mean(), volume.std(), volume.max()] for volume in volumes], dtype=np.float64)

    figures = evaluate_synthesis(heads[:10], heads[10:16], encoder=Moments())
    assert (figures.encoder, figures.features) == ("moments-v1", 3)
    assert figures.frechet.warning is None

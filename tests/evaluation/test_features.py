from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medgan.errors import MedganError
from medgan.evaluation.features import RandomEncoder, Standardisation, random_filters
from medgan.evaluation.fidelity import kid

Arrays = list[NDArray[np.float32]]


def patches_shuffled(volume: NDArray[np.float32], random: np.random.Generator, side: int = 5) -> NDArray[np.float32]:
    """The volume cut into cubes that are put back in another order; what does not fill a cube is dropped."""
    counts = [n // side for n in volume.shape]
    whole = volume[tuple(slice(n * side) for n in counts)]
    grid = whole.reshape(counts[0], side, counts[1], side, counts[2], side).transpose(0, 2, 4, 1, 3, 5)
    cubes = random.permutation(grid.reshape(-1, side, side, side))
    back = cubes.reshape(*counts, side, side, side).transpose(0, 3, 1, 4, 2, 5).reshape(whole.shape)
    result = volume.copy()
    result[tuple(slice(n) for n in back.shape)] = back
    return result


def ladder(scans: Arrays) -> dict[str, float]:
    """Distances from one half of the scans to ever worse versions of the other half."""
    random = np.random.default_rng(0)
    order = random.permutation(len(scans))
    first, second = ([scans[i] for i in part] for part in np.array_split(order, 2))
    rungs = {
        "real": second,
        "blurred": [ndimage.gaussian_filter(scan, 0.7) for scan in second],
        "noisy": [scan + random.normal(0, 0.15, scan.shape).astype(np.float32) for scan in second],
        "patches shuffled": [patches_shuffled(scan, random) for scan in second],
        "uniform noise": [random.random(scan.shape).astype(np.float32) for scan in second],
        "upside down": [scan[:, :, ::-1].copy() for scan in second],
        "voxels shuffled": [random.permutation(scan.ravel()).reshape(scan.shape) for scan in second],
    }
    encoder = RandomEncoder()
    reference = encoder.extract(first)
    standard = Standardisation.fitted(reference)
    return {
        name: kid(standard.applied(reference), standard.applied(encoder.extract(rung)), subsets=2).value
        for name, rung in rungs.items()
    }


def assert_ladder(distances: dict[str, float]) -> None:
    rungs = [distances[name] for name in ("real", "blurred", "noisy", "patches shuffled", "uniform noise")]
    assert rungs == sorted(rungs)
    assert rungs[0] < 0.1 * rungs[1]
    # Equal histograms, different anatomy: only the arrangement of the voxels tells.
    assert distances["upside down"] > 10 * abs(distances["real"])
    assert distances["voxels shuffled"] > distances["noisy"]


def test_distance_grows_with_damage_of_phantoms(heads: Arrays) -> None:
    assert_ladder(ladder(heads))


@pytest.mark.data
def test_distance_grows_with_damage_of_real_scans(small_scans: Arrays) -> None:
    assert_ladder(ladder(small_scans))


def test_filters_are_the_published_ones() -> None:
    """Written down at the encoder's first version: another value means another encoder, under another name."""
    filters = random_filters()
    assert RandomEncoder.name == "random-conv3d-v1"
    assert [f.shape[:2] for f in filters[:3]] == [(16, 1), (32, 16), (48, 32)]
    assert all(f.dtype == np.float32 for f in filters)
    np.testing.assert_allclose(filters[0][0, 0, 0, 0], [-0.51528674, 0.33928463, 0.25110477], atol=1e-6)
    np.testing.assert_allclose(filters[3][-1, -1, -1, -1], [0.07846064, 0.08554914, 0.01466168], atol=1e-6)


def test_filters_are_orthogonal() -> None:
    for filters in random_filters():
        rows = filters.reshape(len(filters), -1).astype(np.float64)
        np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)) * 2 / 1.04, atol=1e-6)


def test_first_stage_against_scipy(heads: Arrays) -> None:
    """Another library's correlation gives the first stage's means and deviations."""
    features = RandomEncoder().extract(heads[:1])[0]
    for channel, filters in enumerate(random_filters()[0]):
        response = ndimage.correlate(heads[0].astype(np.float64), filters[0].astype(np.float64), mode="nearest")
        response = np.where(response > 0, response, 0.2 * response)
        assert features[channel] == pytest.approx(response.mean(), abs=1e-6)
        assert features[16 + channel] == pytest.approx(response.std(), abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "stages", "features"), [((8, 8, 8), 2, 96), ((9, 17, 33), 5, 448), ((24, 24, 24), 4, 320)]
)
def test_any_shape(
    make_head: Callable[..., NDArray[np.float32]], shape: tuple[int, int, int], stages: int, features: int
) -> None:
    encoder = RandomEncoder()
    extracted = encoder.extract([make_head(0, shape), make_head(1, shape)])
    assert encoder.stages(shape) == stages
    assert extracted.shape == (2, features)
    assert extracted.dtype == np.float64
    assert np.isfinite(extracted).all()
    assert not np.allclose(extracted[0], extracted[1])


def test_batches_do_not_matter(heads: Arrays) -> None:
    encoder = RandomEncoder()
    one_by_one = encoder.extract((head[np.newaxis] for head in heads[:5]), batch=1)
    np.testing.assert_allclose(encoder.extract(heads[:5], batch=3), one_by_one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("volumes", "word"),
    [
        ([], "no volumes"),
        ([np.zeros((8, 8, 7))], r"\(8, 8, 7\)"),
        ([np.zeros((8, 8, 8)), np.zeros((9, 8, 8))], "volume 1"),
        ([np.full((8, 8, 8), np.nan)], "not finite"),
        ([np.zeros((2, 8, 8, 8))], r"\(2, 8, 8, 8\)"),
    ],
)
def test_unusable_volumes_are_named(volumes: list[NDArray[np.float64]], word: str) -> None:
    with pytest.raises(MedganError, match=word):
        RandomEncoder().extract(volumes)


def test_standardisation() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(5, 3, (50, 4))
    reference[:, 3] = 7.0
    standard = Standardisation.fitted(reference)
    scores = np.sinh(standard.applied(reference))
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scores.std(axis=0), [1, 1, 1, 0], atol=1e-12)
    assert np.isfinite(standard.applied(reference + 1)).all()
    with pytest.raises(MedganError, match="two scans"):
        Standardisation.fitted(reference[:1])

"""The effective number of scans where it is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medgan.errors import MedganError
from medgan.evaluation.distinct import coarse_copies, effective_number, pairwise_distances, relative_diversity
from medgan.evaluation.diversity import ms_ssim_diversity

# Below this the watchdog of collapsed modes barks.
LIMIT = 0.2


def test_copies_are_worth_one_and_scans_without_anything_in_common_their_number() -> None:
    assert effective_number(np.ones((7, 3)), 1.0) == pytest.approx(1)
    apart = 1e3 * np.eye(5)
    assert effective_number(apart, 1.0) == pytest.approx(5)
    # Each of the five three times, and unequal shares: the exponential of the entropy.
    assert effective_number(np.repeat(apart, 3, axis=0), 1.0) == pytest.approx(5)
    shares = np.array([8, 4, 2, 1, 1]) / 16
    entropy = -(shares * np.log(shares)).sum()
    uneven = np.repeat(apart, [8, 4, 2, 1, 1], axis=0)
    assert effective_number(uneven, 1.0) == pytest.approx(math.exp(entropy))


def test_two_scans_by_hand() -> None:
    # Distance sqrt((3^2 + 4^2) / 2); eigenvalues of [[1, k], [k, 1]] / 2 are (1 + k) / 2 and (1 - k) / 2.
    features = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert pairwise_distances(features)[0, 1] == pytest.approx(math.sqrt(12.5))
    k = math.exp(-0.5 * 12.5 / 4)
    entropy = -sum(p * math.log(p) for p in ((1 + k) / 2, (1 - k) / 2))
    assert effective_number(features, 2.0) == pytest.approx(math.exp(entropy))


def test_relative_diversity_is_one_for_the_population_and_falls_with_lost_modes() -> None:
    random = np.random.default_rng(0)
    modes = random.standard_normal((27, 40))

    def drawn(allowed: int, count: int) -> np.ndarray:
        return modes[random.integers(0, allowed, count)] + 0.05 * random.standard_normal((count, 40))

    real = drawn(27, 400)
    values = {
        allowed: np.mean([relative_diversity(real, drawn(allowed, 16)) for _ in range(20)]) for allowed in (27, 3, 1)
    }
    assert values[27] == pytest.approx(1, abs=0.1)
    assert 0.05 < values[3] < 0.4
    assert values[1] < 0.03
    assert relative_diversity(real, np.repeat(real[:1], 16, axis=0)) == pytest.approx(0, abs=1e-9)


def test_sets_that_cannot_be_compared_are_refused() -> None:
    different, same = np.random.default_rng(0).standard_normal((5, 4)), np.ones((5, 4))
    for real, synthetic in ((same, different), (different, different[:1]), (different[:1], different)):
        with pytest.raises(MedganError, match="diversity cannot be compared"):
            relative_diversity(real, synthetic)


def test_coarse_copies_are_means_of_blocks_at_one_brightness() -> None:
    random = np.random.default_rng(0)
    volume = random.random((32, 16, 8))
    blocks = volume.reshape(8, 4, 4, 4, 2, 4).mean(axis=(1, 3, 5)).ravel()
    (copy,) = coarse_copies([volume])
    np.testing.assert_allclose(copy, blocks / np.sqrt(np.mean(blocks**2)), rtol=1e-6)
    np.testing.assert_allclose(coarse_copies([0.3 * volume])[0], copy, rtol=1e-6)
    assert coarse_copies([np.zeros((5, 6, 9))]).tolist() == [[0.0] * 4 * 5 * 8]


Scans = NDArray[np.float32]


@pytest.fixture(scope="module")
def halves(small_scans: list[Scans]) -> tuple[Scans, Scans]:
    """Real heads, dealt into two halves of 42."""
    order = np.random.default_rng(3).permutation(len(small_scans))
    shuffled = np.stack([small_scans[index] for index in order])
    return shuffled[:42], shuffled[42:]


def _diversity(real: Scans, made: Scans) -> float:
    return relative_diversity(coarse_copies(real), coarse_copies(made))


@pytest.mark.parametrize("count", [16, 32, 64])
def test_no_half_of_real_scans_is_accused(small_scans: list[Scans], count: int) -> None:
    random, values = np.random.default_rng(count), []
    for _ in range(6):
        order = random.permutation(len(small_scans))
        shuffled = np.stack([small_scans[index] for index in order])
        values.append(_diversity(shuffled[count:], shuffled[:count]))
    assert np.mean(values) == pytest.approx(1, abs=0.1)
    assert min(values) > 0.8


def test_what_a_good_but_smooth_generator_makes_is_not_accused(halves: tuple[Scans, Scans]) -> None:
    real, other = halves
    blurred = ndimage.gaussian_filter(other[:16], (0, 1, 1, 1))
    towards_the_mean = real.mean(axis=0) + 0.6 * (other[:16] - real.mean(axis=0))
    for made in (blurred, towards_the_mean):
        assert _diversity(real, made) > 1.5 * LIMIT


def test_samples_that_are_alike_but_for_noise_brightness_or_place_are_a_collapse(halves: tuple[Scans, Scans]) -> None:
    real, other = halves
    random, one = np.random.default_rng(0), other[0]
    noise = random.standard_normal((16, *one.shape)).astype(np.float32)
    amounts = random.standard_normal((16, 1, 1, 1)).astype(np.float32)
    _, sizes, directions = np.linalg.svd((real - real.mean(axis=0)).reshape(len(real), -1), full_matrices=False)
    component = (sizes[0] / np.sqrt(len(real)) * directions[0]).reshape(one.shape)
    warped = np.stack([ndimage.shift(one, random.normal(0, 0.15, 3), order=1, mode="nearest") for _ in range(16)])
    mean = real.mean(axis=0)
    alike = {
        "repeated": np.repeat(one[None], 16, axis=0),
        "noise": one + 0.05 * noise,
        "brightness": one * (1 + 0.15 * amounts),
        "moved": warped,
        "mean head, noise and a component": mean + 0.02 * noise + 0.5 * amounts * component,
    }
    for name, made in alike.items():
        assert _diversity(real, made.astype(np.float32)) < 0.5 * LIMIT, name
        # As the structural similarity says, which would be too slow for every checkpoint.
        assert ms_ssim_diversity(list(made.astype(np.float32)), pairs=20).mean > 0.9, name


def test_lost_scans_lower_the_diversity_in_proportion(halves: tuple[Scans, Scans]) -> None:
    real, other = halves
    values = {kept: _diversity(real, other[np.arange(32) % kept]) for kept in (1, 2, 4, 8, 16, 32)}
    assert values[1] == pytest.approx(0, abs=1e-9)
    assert values[2] < values[4] < LIMIT
    assert values[8] == pytest.approx(0.25, abs=0.08)
    assert values[16] == pytest.approx(0.5, abs=0.1)
    assert values[32] == pytest.approx(1, abs=0.2)

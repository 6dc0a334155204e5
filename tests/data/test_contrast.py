from __future__ import annotations

import numpy as np

from medgan.data.contrast import random_contrast
from medgan.data.sharpness import detail_of_axes, sharp_axes


def test_contrast_changes_values_by_value_alone() -> None:
    """Equal intensities stay equal and near ones near: edges stay where they were."""
    voxels = np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 10, 10)
    shuffled = np.random.default_rng(0).permutation(voxels.ravel()).reshape(voxels.shape)
    for seed in range(40):
        shown = random_contrast(voxels, np.random.default_rng(seed))
        again = random_contrast(shuffled, np.random.default_rng(seed))
        np.testing.assert_array_equal(np.sort(shown.ravel()), np.sort(again.ravel()))
        assert np.abs(np.diff(shown.ravel())).max() < 0.05
        assert shown.dtype == np.float32
        assert shown.min() >= -0.03
        assert shown.max() <= 1.23
        assert np.ptp(shown) > 0.5


def test_contrasts_rise_fall_and_turn() -> None:
    ramp = np.linspace(0, 1, 200, dtype=np.float32)
    shapes = set()
    for seed in range(60):
        steps = np.diff(random_contrast(ramp, np.random.default_rng(seed)))
        shapes.add("rises" if (steps >= 0).all() else "falls" if (steps <= 0).all() else "turns")
    assert shapes == {"rises", "falls", "turns"}


def test_values_beyond_the_usual_range_stay_bounded() -> None:
    extreme = np.array([-1.0, 4.0], np.float32)
    for seed in range(40):
        assert np.abs(random_contrast(extreme, np.random.default_rng(seed))).max() < 20


def test_the_axis_of_interpolated_slices_is_found() -> None:
    from scipy.ndimage import gaussian_filter1d, zoom

    noise = np.random.default_rng(0).normal(size=(48, 48, 48))
    thick = gaussian_filter1d(noise, 1.3, axis=2)[:, :, ::3]
    interpolated = zoom(thick, (1, 1, 3), order=3)
    detail = detail_of_axes(interpolated)
    assert detail[2] < 0.2
    assert min(detail[:2]) > 0.8
    assert sharp_axes(interpolated) == (0, 1)
    assert sharp_axes(noise) == (0, 1, 2)


def test_a_sinusoid_has_its_detail_along_its_own_axis() -> None:
    wave = np.cos(2 * np.pi * 0.3 * np.arange(40))[:, None, None] * np.ones((40, 30, 20))
    detail = detail_of_axes(wave)
    assert detail[0] == 1
    assert max(detail[1:]) < 1e-6


def test_flat_and_thin_scans_have_an_answer() -> None:
    assert sharp_axes(np.zeros((6, 6, 6))) == (0, 1, 2)
    assert sharp_axes(np.random.default_rng(0).normal(size=(30, 30, 1))) == (0, 1)

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from medgan.data.principal import component_count, principal_components


def _scans(count: int) -> np.ndarray:
    """Volumes that vary in three known directions, and a little everywhere."""
    random = np.random.default_rng(3)
    directions = random.standard_normal((3, 5, 4, 6)) * np.array([3.0, 2.0, 1.0])[:, None, None, None]
    strengths = random.standard_normal((count, 3))
    noise = 0.05 * random.standard_normal((count, 5, 4, 6))
    return (0.4 + np.einsum("nk,kxyz->nxyz", strengths, directions) + noise).astype(np.float32)


def test_against_scikit_learn() -> None:
    scans = _scans(20)
    found = principal_components(list(scans), 5)
    expected = PCA(5, svd_solver="full").fit(scans.reshape(20, -1).astype(np.float64))
    np.testing.assert_allclose(found.mean.ravel(), expected.mean_, atol=1e-6)
    lengths = np.sqrt(expected.explained_variance_)
    ours = found.components.reshape(5, -1)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), lengths, rtol=1e-4)
    agreement = np.abs((ours * expected.components_).sum(axis=1)) / lengths
    np.testing.assert_allclose(agreement, 1, atol=1e-4)
    assert found.explained == pytest.approx(expected.explained_variance_ratio_.sum(), abs=1e-5)


def test_mirror_images_count_as_scans() -> None:
    scans = _scans(12)
    found = principal_components(list(scans), 4, flip=True)
    explicit = principal_components([*scans, *scans[:, ::-1]], 4)
    np.testing.assert_array_equal(found.components, explicit.components)
    np.testing.assert_allclose(found.mean, found.mean[::-1], atol=1e-6)


def test_the_order_of_scans_changes_no_direction() -> None:
    scans = _scans(16)
    found, shuffled = (principal_components(list(rows), 3) for rows in (scans, scans[::-1]))
    np.testing.assert_allclose(found.components, shuffled.components, atol=1e-4)


def test_few_scans_support_few_components() -> None:
    assert component_count(72, 32) == 18
    assert component_count(200, 32) == 32
    assert component_count(3, 32) == 0
    with pytest.raises(ValueError, match="4 scans do not vary in 4 directions"):
        principal_components(list(_scans(4)), 4)


def test_what_labels_explain_is_not_among_the_components() -> None:
    random = np.random.default_rng(0)
    age, sex = random.standard_normal(60), random.integers(0, 2, 60).astype(float)
    by_age, by_sex, other = random.standard_normal((3, 5, 4, 6))
    strength = random.standard_normal(60)
    scans = (np.multiply.outer(age, by_age) + np.multiply.outer(sex, by_sex) + np.multiply.outer(strength, other)) * 0.1
    codes = np.stack([age, sex], axis=1)
    found = principal_components(list(scans.astype(np.float32)), 2, distances=codes - codes.mean(axis=0))
    residual = scans.reshape(60, -1)
    design = np.column_stack([np.ones(60), codes])
    fitted = np.linalg.solve(design.T @ design, design.T @ residual)
    residual = residual - design @ fitted
    lengths = np.linalg.svd(residual, compute_uv=False)[:2] / np.sqrt(59)
    np.testing.assert_allclose(np.linalg.norm(found.components.reshape(2, -1), axis=1), lengths, atol=1e-5)
    np.testing.assert_allclose(found.mean, scans.mean(axis=0), atol=1e-6)
    assert found.effects is not None
    np.testing.assert_allclose(found.effects.reshape(2, -1), fitted[1:], atol=1e-5)

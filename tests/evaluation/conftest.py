"""Head-like phantoms and small real scans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage


def head(seed: int, shape: tuple[int, int, int] = (20, 24, 22)) -> NDArray[np.float32]:
    """A bright shell on a grey neck, dark ventricles and a few lobes inside, all with random proportions; 0..1."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    centre = random.normal(0, 0.03, 3)

    def inside(middle: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(sum(((a - m) / r) ** 2 for a, m, r in zip(axes, middle, radii, strict=True)) < 1)

    skull = random.normal([0.75, 0.9, 0.8], 0.04)
    volume = np.where(inside(centre, skull), 0.9, 0.0)
    volume[inside(centre, skull - 0.15)] = 0.5 + random.normal(0, 0.02)
    volume[(axes[2] < -0.4) & (np.hypot(axes[0], axes[1] + 0.3) < random.normal(0.45, 0.03))] = 0.3
    for side in (-1, 1):
        volume[inside(centre + np.array([side * 0.15, 0, 0.1]), random.normal([0.12, 0.35, 0.15], 0.03))] = 0.1
        volume[inside(centre + random.normal([side * 0.35, 0.2, 0], 0.08), random.normal([0.15, 0.2, 0.2], 0.02))] = 0.7
    return ndimage.gaussian_filter(volume, 0.6).astype(np.float32)


@pytest.fixture(scope="session")
def heads() -> list[NDArray[np.float32]]:
    """Sixty phantoms of 20 x 24 x 22 voxels."""
    return [head(seed) for seed in range(60)]


@pytest.fixture(scope="session")
def make_head() -> Callable[..., NDArray[np.float32]]:
    """The phantom of a seed and a shape."""
    return head


@pytest.fixture(scope="session")
def small_scans(test_data: Path) -> list[NDArray[np.float32]]:
    """Real T1-weighted heads in RAS, averaged to 18 x 24 x 24 voxels of 10 mm, divided by their 99.5th percentile."""
    import nibabel as nib

    scans = []
    for path in sorted((test_data / "mri_t1_ixi_2mm").glob("*/*.nii.gz")):
        array = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj, dtype=np.float32)
        x, y, z = (n // 5 for n in array.shape)
        small = array[: 5 * x, : 5 * y, : 5 * z].reshape(x, 5, y, 5, z, 5).mean(axis=(1, 3, 5))
        scans.append(np.clip(small / np.percentile(small, 99.5), 0, 1.2).astype(np.float32))
    assert len(scans) == 84
    return scans

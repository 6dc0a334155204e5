from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

ScanWriter = Callable[..., Path]


@pytest.fixture
def write_scan() -> ScanWriter:
    """Write a small NIfTI with nibabel: a bright ball off the middle, a little noise; axes L, P, S by default."""

    def write(
        path: Path,
        *,
        seed: int = 0,
        shape: tuple[int, ...] = (12, 14, 10),
        spacing: tuple[float, float, float] = (2.0, 2.0, 3.0),
        affine: np.ndarray | None = None,
        data: np.ndarray | None = None,
    ) -> Path:
        rng = np.random.default_rng(seed)
        if data is None:
            grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
            middle = np.array(shape)[:, None, None, None] * np.array([0.3, 0.5, 0.6])[:, None, None, None]
            data = 800 * np.exp(-((grid - middle) ** 2).sum(axis=0) / 8) + 5 * rng.random(shape) + seed
        if affine is None:
            affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
            affine[:3, 3] = [10, 20, -5]
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.asarray(data, dtype=np.float32), affine), path)
        return path

    return write


@pytest.fixture
def scans(tmp_path: Path, write_scan: ScanWriter) -> Path:
    """A folder of twelve scans of twelve subjects, sub-00 to sub-11."""
    for number in range(12):
        write_scan(tmp_path / "scans" / f"sub-{number:02d}_T1w.nii.gz", seed=number)
    return tmp_path / "scans"

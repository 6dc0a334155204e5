"""Shared fixtures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings

from medgan.volume import Volume

# How long an example takes depends on what else the machine does; it is no property of the code.
settings.register_profile("medgan")
settings.load_profile("medgan")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real scans, named by MEDGAN_TEST_DATA or standing beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MEDGAN_TEST_DATA", default))
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip(f"no real scans at {folder}: set MEDGAN_TEST_DATA to run this test")
    return folder


@pytest.fixture(autouse=True, scope="session")
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _phantom(index: int) -> Volume:
    """A head-like ellipsoid with two dark ventricles, different for each index; 18 x 22 x 17 voxels of 8 mm."""
    rng = np.random.default_rng(index)
    shape = (18, 22, 17)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    a, b, c = rng.uniform(0.7, 0.9, 3)
    head = np.clip(4 * (1 - (x / a) ** 2 - (y / b) ** 2 - (z / c) ** 2), 0, 1)
    width = rng.uniform(0.02, 0.06)
    ventricles = np.exp(-((np.abs(x) - 0.2) ** 2 + y**2 / 4 + z**2) / width)
    voxels = 800 * head * (1 - 0.6 * ventricles) + 10 * np.abs(rng.standard_normal(shape))
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = (-68, -84, -64)
    return Volume(voxels.astype(np.float32), affine)


@pytest.fixture(scope="session")
def phantom_scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 14 phantom scans as NIfTI files."""
    folder = tmp_path_factory.mktemp("scans")
    for index in range(14):
        nib.save(
            nib.Nifti1Image(_phantom(index).data[0], _phantom(index).affine), folder / f"sub-{index:02d}_T1w.nii.gz"
        )
    return folder


@pytest.fixture(scope="session")
def phantom_cohort(phantom_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom scans, prepared."""
    from medgan.data.prepare import prepare

    folder = tmp_path_factory.mktemp("cohort") / "phantoms"
    prepare([phantom_scans], folder, spacing=(8, 8, 8), split=(0.6, 0.2, 0.2))
    return folder


@pytest.fixture(scope="session")
def dicom_errors() -> Callable[[Path], list[str]]:
    """What dciodvfy of David Clunie's dicom3tools finds wrong with a DICOM file: its errors, not its warnings."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: apt-get install dicom3tools)")

    def errors(path: Path) -> list[str]:
        answer = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace")
        # Synthetic Data came into the standard in 2023, after the tool's last release.
        unknown = "(0x0008,0x001c)"
        return [line for line in answer.stderr.splitlines() if line.startswith("Error") and unknown not in line]

    return errors


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    allowed = sys.platform.startswith("linux") and os.geteuid() == 0
    if not allowed or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root on Linux")
    yield place
    # Lazily: pytest keeps the exceptions that hold the last files open.
    subprocess.run(["umount", "--lazy", str(place)], check=True)

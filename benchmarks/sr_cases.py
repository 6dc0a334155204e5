"""The scans of the super-resolution benchmark, and their degradation.

The folder of scans is laid out as

    mri_multicontrast_openms_1mm/patient19/{T1,T2,FLAIR,lesion_mask}.nii.gz    test
    mri_single_1mm/t1_seg3d.nii.gz                                             test
    mri_multicontrast_openms_1mm/patient07/{T1,T2,FLAIR,lesion_mask}.nii.gz    train
    mri_single_1mm/t1gd_skullstripped.nii.gz                                   train
    mri_t1_ixi_2mm/{participants.csv, train/*.nii.gz}                          train

Only the test scans are judged; the training scans fit the linear filter.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medgan.acquisition import Acquisition, with_noise
from medgan.errors import MedganError
from medgan.evaluation.resolution import band_energies
from medgan.evaluation.restoration import foreground_mask
from medgan.geometry import default_affine
from medgan.io import read_volume
from medgan.volume import Volume

Voxels = NDArray[np.float32]
Factor = tuple[int, int, int]

_OPENMS = "mri_multicontrast_openms_1mm"
TEST = {
    "T1": f"{_OPENMS}/patient19/T1.nii.gz",
    "T2": f"{_OPENMS}/patient19/T2.nii.gz",
    "FLAIR": f"{_OPENMS}/patient19/FLAIR.nii.gz",
    "T1 seg3d": "mri_single_1mm/t1_seg3d.nii.gz",
}
TRAIN = {
    "T1 07": f"{_OPENMS}/patient07/T1.nii.gz",
    "T2 07": f"{_OPENMS}/patient07/T2.nii.gz",
    "FLAIR 07": f"{_OPENMS}/patient07/FLAIR.nii.gz",
    "T1 gd": "mri_single_1mm/t1gd_skullstripped.nii.gz",
}
# Divisible by every factor.
_MULTIPLE = 12
# With less detail than this part of the sharpest axis', thick slices would test interpolation of interpolation.
_TRUE_DETAIL = 0.4


@dataclass(frozen=True)
class Scan:
    """One true scan, in RAS.

    Args:
        name: as in the tables.
        voxels: (X, Y, Z), each side divisible by 12.
        spacing: mm.
        axis: along which slices are made thick.
        detail: energy of detail along each axis over that of the sharpest.
        lesions: mask of real lesions, or None.
    """

    name: str
    voxels: Voxels
    spacing: tuple[float, float, float]
    axis: int
    detail: tuple[float, float, float]
    lesions: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Problem:
    """What a method gets, and the truth that it does not get.

    Args:
        low: the measured scan, scaled by its own 0.5th and 99.5th percentile to about 0 to 1.
        truth: the true scan, scaled alike.
        acquisition: the forward model.
        factor: voxels per voxel along each axis.
        profile: of the slices.
        snr: of the measured scan; None for no noise.
        scaling: offset and span of the scaling, in the scan's own units.
    """

    low: Volume
    truth: Volume
    acquisition: Acquisition
    factor: Factor
    profile: str
    snr: float | None
    scaling: tuple[float, float]

    def with_low(self, low: Volume) -> Problem:
        """The same problem for another measured scan."""
        return replace(self, low=low)


def data_folder(given: Path | None) -> Path:
    """The folder of scans: the one given, MEDGAN_TEST_DATA, or shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = given or Path(os.environ.get("MEDGAN_TEST_DATA", beside))
    if not folder.is_dir():
        raise MedganError("no scans here", file=folder, hint="Name their folder by --scans or MEDGAN_TEST_DATA.")
    return folder


def read_scan(folder: Path, name: str, path: str, *, crop: int | None = None) -> Scan:
    """A scan cut about its centre to sides divisible by 12, or to `crop` voxels; its slices along the sharpest axis.

    The slice axis is the patient's head-foot axis where that carries at least 0.4 of the sharpest axis' energy of
    detail (0.2 to 0.4 cycles per voxel; scans interpolated along it from 3 mm slices measure 0.16 to 0.25); else the
    sharpest, because a scan that was itself interpolated along an axis has no truth to restore there.
    """
    volume = read_volume(folder / path).reoriented("RAS")
    detail = _detail(volume.as_float()[0])
    axis = 2 if detail[2] >= _TRUE_DETAIL else int(np.argmax(detail))
    cut = tuple(_central(size, crop) for size in volume.shape)
    beside = folder / Path(path).parent / "lesion_mask.nii.gz"
    lesions = None
    if beside.is_file():
        mask = read_volume(beside).reoriented("RAS")
        lesions = np.ascontiguousarray(mask.data[0][cut] != 0) if mask.shape == volume.shape else None
    return Scan(name, np.ascontiguousarray(volume.as_float()[0][cut]), volume.spacing, axis, detail, lesions)


def _detail(voxels: Voxels) -> tuple[float, float, float]:
    """Energy of detail along each axis over that of the sharpest."""
    energies = np.array(band_energies(voxels, mask=foreground_mask(voxels, dilation=0)))
    x, y, z = (energies / np.nanmax(energies)).tolist()
    return x, y, z


def _central(size: int, crop: int | None) -> slice:
    """The middle of an axis, its length divisible by 12."""
    wanted = min(size, crop or size) // _MULTIPLE * _MULTIPLE
    if wanted == 0:
        raise MedganError(f"an axis of {size} voxels is too short for the benchmark", hint="Use larger scans.")
    start = (size - wanted) // 2
    return slice(start, start + wanted)


def factor_along(scan: Scan, scenario: str) -> Factor:
    """ "2x2x2" for all axes, or "1x1xN" with the N along the scan's slice axis."""
    try:
        numbers = [int(part) for part in scenario.split("x")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(1 <= n <= _MULTIPLE and _MULTIPLE % n == 0 for n in numbers):
        raise MedganError(f"'{scenario}' is no scenario", hint="Write 2x2x2 or 1x1x4, with divisors of 12.")
    numbers.insert(scan.axis, numbers.pop())
    x, y, z = numbers
    return x, y, z


def problem_of(scan: Scan, factor: Factor, *, profile: str, snr: float | None, seed: int = 0) -> Problem:
    """The scan measured once, and what it was measured with."""
    low_shape = [size // f for size, f in zip(scan.voxels.shape, factor, strict=True)]
    acquisition = Acquisition.between(scan.voxels.shape, low_shape, high_spacing=scan.spacing, profile=profile)
    low = _measured(scan.voxels, acquisition, snr, seed)
    bottom, top = (float(value) for value in np.percentile(low, (0.5, 99.5)))

    def scaled(voxels: Voxels, spacing: Sequence[float]) -> Volume:
        values = ((voxels - bottom) / (top - bottom)).astype(np.float32)
        return Volume(values, default_affine(values.shape, spacing))

    return Problem(
        low=scaled(low, acquisition.low_spacing),
        truth=scaled(scan.voxels, acquisition.high_spacing),
        acquisition=acquisition,
        factor=factor,
        profile=profile,
        snr=snr,
        scaling=(bottom, top - bottom),
    )


def measured_again(problem: Problem, truth: Voxels, *, seed: int = 0) -> Volume:
    """What the same scanner measures of another truth, both in the problem's scaled units."""
    # Rician noise needs the scanner's own zero, so it is added in the scan's own units.
    offset, span = problem.scaling
    low = _measured(truth.astype(np.float64) * span + offset, problem.acquisition, problem.snr, seed)
    return problem.low.with_data(((low - offset) / span).astype(np.float32))


def _measured(voxels: NDArray[Any], acquisition: Acquisition, snr: float | None, seed: int) -> NDArray[np.float64]:
    """What the scanner measures, noise included."""
    low = acquisition.forward(torch.from_numpy(np.array(voxels, dtype=np.float64)))
    if snr is not None:
        low = with_noise(low, snr=snr, generator=torch.Generator().manual_seed(seed))
    return low.numpy()

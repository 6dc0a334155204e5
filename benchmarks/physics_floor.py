"""What knowing the slice profile is worth without any learning: the regularised inverse beside interpolation.

Volumes: the MNI152 T1 template (installed with nilearn, 1 mm) and, when the folder of real scans is there (named by
MEDGAN_TEST_DATA), a FLAIR of one subject at 1 mm. Each is scaled by the 99.9th percentile of its non-zero voxels and
clipped to 0 ... 1, acquired with touching Gaussian slices, and brought back to its own grid. Interpolation is scipy's
(`ndimage.zoom` on cell-centred grids with reflecting borders), independent of medgan. The data range is 1. With noise
(Rician), look at the figures in the mask: the whole volume then counts the raised background of the magnitude image.

Run: python benchmarks/physics_floor.py [--json FILE] [--threads N]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medgan.acquisition import Acquisition, low_shape_for, regularisation_for, with_noise
from medgan.evaluation.restoration import foreground_mask, psnr, ssim
from medgan.files import write_json
from medgan.io import read_volume

Voxels = NDArray[np.float64]
FACTORS = ((1, 1, 2), (1, 1, 3), (1, 1, 4), (2, 2, 2))
SIGNAL_TO_NOISE = 30.0


def prepared(voxels: NDArray[Any]) -> Voxels:
    """Scaled to 0 ... 1 and cut about its centre to multiples of 12 voxels."""
    scaled = np.clip(voxels / np.percentile(voxels[voxels != 0], 99.9), 0, 1).astype(np.float64)
    first = [(size % 12) // 2 for size in scaled.shape]
    cut = tuple(slice(start, start + size // 12 * 12) for start, size in zip(first, scaled.shape, strict=True))
    return scaled[cut]


def volumes() -> Iterator[tuple[str, Voxels]]:
    """Name and voxels of each test volume, at 1 mm."""
    from nilearn.datasets import load_mni152_template

    yield "MNI152 T1", prepared(load_mni152_template(resolution=1).get_fdata())
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    flair = Path(os.environ.get("MEDGAN_TEST_DATA", beside)) / "mri_multicontrast_openms_1mm/patient07/FLAIR.nii.gz"
    if flair.is_file():
        yield "FLAIR", prepared(read_volume(flair).data[0])
    else:
        print(f"no FLAIR at {flair}: set MEDGAN_TEST_DATA for the second volume")


def interpolation(order: int, shape: tuple[int, ...]) -> Callable[[torch.Tensor], Voxels]:
    """scipy's B-spline interpolation to `shape`."""

    def restore(low: torch.Tensor) -> Voxels:
        factors = [high / small for high, small in zip(shape, low.shape, strict=True)]
        return ndimage.zoom(low.numpy(), factors, order=order, mode="reflect", grid_mode=True)

    return restore


def rows_of(name: str, truth: Voxels, factor: tuple[int, int, int], noisy: bool) -> Iterator[dict[str, Any]]:
    """One row of figures for each method."""
    model = Acquisition.between(truth.shape, low_shape_for(truth.shape, factor), high_spacing=(1, 1, 1))
    low = model.forward(torch.from_numpy(truth))
    if noisy:
        low = with_noise(low, snr=SIGNAL_TO_NOISE, generator=torch.Generator().manual_seed(0))
    methods: dict[str, Callable[[torch.Tensor], Voxels]] = {
        "linear": interpolation(1, truth.shape),
        "cubic": interpolation(3, truth.shape),
        "inverse": lambda y: model.inverse(y).numpy(),
    }
    if noisy:
        methods["inverse, noise told"] = lambda y: model.inverse(y, regularisation_for(1 / SIGNAL_TO_NOISE)).numpy()
    mask = foreground_mask(truth)
    for method, restore in methods.items():
        start = time.perf_counter()
        restored = restore(low)
        seconds = time.perf_counter() - start
        residual = model.forward(torch.from_numpy(restored)) - low
        yield {
            "volume": name,
            "factor": "x".join(map(str, factor)),
            "snr": SIGNAL_TO_NOISE if noisy else None,
            "method": method,
            "psnr_whole_db": psnr(truth, restored, data_range=1.0),
            "psnr_db": psnr(truth, restored, data_range=1.0, mask=mask),
            "ssim_whole": ssim(truth, restored, data_range=1.0),
            "consistency": float(residual.square().mean().sqrt()),
            "seconds": seconds,
        }


def main() -> None:
    """Print the table; write it as JSON if asked."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", type=Path, help="write the rows here as well")
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{'volume':<11}{'factor':<8}{'SNR':<6}{'method':<21}{'PSNR':>7}{'to cubic':>10}{'in mask':>9}{'to cubic':>10}"
        f"{'SSIM':>8}{'consistency':>13}{'seconds':>9}{'vs cubic':>10}"
    )
    table = []
    for name, truth in volumes():
        for factor in FACTORS:
            for noisy in (False, True):
                rows = list(rows_of(name, truth, factor, noisy))
                cubic = next(row for row in rows if row["method"] == "cubic")
                for row in rows:
                    print(
                        f"{name:<11}{row['factor']:<8}{row['snr'] or 'inf':<6}{row['method']:<21}"
                        f"{row['psnr_whole_db']:7.2f}{row['psnr_whole_db'] - cubic['psnr_whole_db']:+10.2f}"
                        f"{row['psnr_db']:9.2f}{row['psnr_db'] - cubic['psnr_db']:+10.2f}{row['ssim_whole']:8.4f}"
                        f"{row['consistency']:13.5f}{row['seconds']:9.2f}{row['seconds'] / cubic['seconds']:9.2f}x",
                        flush=True,
                    )
                table += rows
    if options.json:
        write_json(options.json, table)


if __name__ == "__main__":
    main()

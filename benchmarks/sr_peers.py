"""Other tools in the super-resolution benchmark: SimpleITK, TorchIO (if installed) and ECLARE (if named)."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sr_cases import Problem
from sr_methods import Method, Restore

from medgan.errors import MedganError
from medgan.io import read_volume
from medgan.io.nifti import write_nifti

Voxels = NDArray[np.float32]


def simpleitk_methods() -> list[Method]:
    """SimpleITK's resampling; its windowed sincs take minutes, and `sr_methods.lanczos` is the same."""
    import SimpleITK as sitk  # noqa: N813

    def restoring(interpolator: int) -> Restore:
        def restore(problem: Problem) -> Voxels:
            image = sitk.GetImageFromArray(problem.low.data[0].transpose(2, 1, 0))
            _place(image, problem.low)
            grid = sitk.Image(*problem.truth.shape, sitk.sitkFloat32)
            _place(grid, problem.truth)
            # Without extrapolation SimpleITK fills the half voxels at the field of view's edges with zero.
            resampled = sitk.Resample(image, grid, sitk.Transform(), interpolator, 0.0, sitk.sitkFloat32, True)
            return np.ascontiguousarray(sitk.GetArrayFromImage(resampled).transpose(2, 1, 0))

        return restore

    return [
        Method("SimpleITK linear", restoring(sitk.sitkLinear)),
        Method("SimpleITK B-spline", restoring(sitk.sitkBSpline)),
    ]


def _place(image: Any, volume: Any) -> None:
    """Give a SimpleITK image the spacing and origin of an axis-aligned volume."""
    image.SetSpacing(volume.spacing)
    image.SetOrigin(tuple(float(value) for value in volume.affine[:3, 3]))


def torchio_methods() -> list[Method]:
    """TorchIO's resampling onto the true grid; none where it is not installed."""
    if importlib.util.find_spec("torchio") is None:
        return []
    import torch
    import torchio

    def restore(problem: Problem) -> Voxels:
        image = torchio.ScalarImage(tensor=torch.from_numpy(problem.low.data.copy()), affine=problem.low.affine)
        target = (problem.truth.shape, problem.truth.affine)
        return torchio.Resample(target, image_interpolation="bspline")(image).numpy()[0]

    return [Method("TorchIO B-spline", restore)]


def eclare_methods(command: str | None, patches: int) -> list[Method]:
    """ECLARE 1.0.1 in an environment of its own, told the slice thickness; none unless named.

    Args:
        command: its `run-eclare`, or the Python of the environment that holds it.
        patches: how many patches it trains on, which decides its time.
    """
    if command is None:
        return []
    program = shutil.which(command)
    if program is None:
        raise MedganError(f"there is no command '{command}'", hint="Give the path of run-eclare.")
    if Path(program).name.startswith("python"):
        program = str(Path(program).parent / "run-eclare")

    def restore(problem: Problem) -> Voxels:
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "low.nii.gz", Path(folder) / "out"
            write_nifti(problem.low, source)
            thickness = str(max(problem.factor))
            run = [program, "--in-fpath", str(source), "--out-dir", str(out)]
            run += ["--relative-slice-thickness", thickness, "--n-patches", str(patches)]
            answer = subprocess.run(run, capture_output=True, text=True, errors="replace")
            written = sorted(out.rglob("*.nii*"))
            if answer.returncode or not written:
                raise MedganError(f"ECLARE failed: {answer.stderr.strip()[-300:]}", hint="Run it by hand.")
            return read_volume(written[0]).reoriented("RAS").as_float()[0]

    return [Method(f"ECLARE ({patches} patches)", restore, costly=True, slices_only=True)]

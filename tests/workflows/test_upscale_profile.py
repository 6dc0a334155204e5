"""`medgan upscale --profile`: the right slice profile restores better, and what was assumed is said."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.special import erf
from typer.testing import CliRunner

from medgan.acquisition import Acquisition, SliceProfile
from medgan.cli import app
from medgan.errors import MedganError
from medgan.inference.slice_profile import AssumedProfile
from medgan.inference.upscale import prepared
from medgan.volume import Volume
from medgan.workflows.self_supervised import _lesson, course_of
from medgan.workflows.upscale import upscale_scans

_THICK = 4


def _averages(sizes: tuple[int, int, int], steps: tuple[float, float, float]) -> np.ndarray:
    """The exact mean over every voxel of a sum of Gaussian blobs in 32 x 32 x 48 mm: box profiles, in closed form."""
    rng = np.random.default_rng(3)
    total = np.zeros(sizes)
    for _ in range(40):
        centre, width = rng.uniform((5, 5, 6), (27, 27, 42)), rng.uniform(1.2, 3.0, 3)
        x, y, z = (
            np.diff(erf((np.arange(n + 1) * step - middle) / (sigma * np.sqrt(2)))) * sigma * np.sqrt(np.pi / 2) / step
            for n, step, middle, sigma in zip(sizes, steps, centre, width, strict=True)
        )
        total += rng.uniform(50, 300) * x[:, None, None] * y[:, None] * z
    return total.astype(np.float32)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as rectangular slices of 4 mm show it."""
    path = tmp_path_factory.mktemp("scans") / "phantom.nii.gz"
    low = _averages((32, 32, 12), (1.0, 1.0, float(_THICK)))
    nib.save(nib.Nifti1Image(low, np.diag([1.0, 1.0, float(_THICK), 1.0])), path)
    return path


def _upscaled(scan: Path, out: Path, *words: str) -> np.ndarray:
    result = CliRunner().invoke(app, ["upscale", str(scan), "--out", str(out), "--model", "physics", *words])
    assert result.exit_code == 0, result.output
    return np.asarray(nib.load(out).dataobj)


def _psnr(restored: np.ndarray, truth: np.ndarray) -> float:
    return float(10 * np.log10(np.ptp(truth) ** 2 / np.square(restored - truth).mean(dtype=np.float64)))


def _contradiction(restored: np.ndarray, low: np.ndarray) -> float:
    """Root mean square, over the range, between the scan and the plain means of the result's voxels in its slices."""
    again = restored.reshape(*low.shape, _THICK).mean(axis=-1)
    return float(np.sqrt(np.square(again - low).mean(dtype=np.float64)) / np.ptp(low))


def test_the_profile_that_was_used_restores_better(scan: Path, tmp_path: Path) -> None:
    truth, low = _averages((32, 32, 48), (1.0, 1.0, 1.0)), np.asarray(nib.load(scan).dataobj)
    made = {
        name: _upscaled(scan, tmp_path / f"{name}.nii.gz", "--profile", name) for name in ("gaussian", "rectangular")
    }
    assert _psnr(made["rectangular"], truth) > _psnr(made["gaussian"], truth) + 2
    assert _contradiction(made["rectangular"], low) < 0.002 < _contradiction(made["gaussian"], low) / 3
    # A Gaussian is what is assumed when nothing is said.
    np.testing.assert_array_equal(_upscaled(scan, tmp_path / "plain.nii.gz"), made["gaussian"])


def test_a_measured_box_does_what_the_rectangular_profile_does(scan: Path, tmp_path: Path) -> None:
    profile = tmp_path / "scanner of Doe.txt"
    rows = ((x, 0.5 + 0.5 * np.sign(round(2 - abs(x), 6))) for x in np.arange(-2.1, 2.15, 0.1))
    profile.write_text("\n".join(f"{x:.2f} {seen}" for x, seen in rows))
    measured = _upscaled(scan, tmp_path / "measured.nii.gz", "--profile", str(profile))
    rectangular = _upscaled(scan, tmp_path / "rectangular.nii.gz", "--profile", "rectangular")
    gaussian = _upscaled(scan, tmp_path / "gaussian.nii.gz")
    truth = _averages((32, 32, 48), (1.0, 1.0, 1.0))
    assert abs(_psnr(measured, truth) - _psnr(rectangular, truth)) < 0.5
    assert _psnr(measured, truth) > _psnr(gaussian, truth) + 2


def test_what_was_assumed_is_said_without_a_path(scan: Path, tmp_path: Path) -> None:
    profile = tmp_path / "scanner of Doe.txt"
    profile.write_text("-3 0\n-1 1\n1 1\n3 0\n")
    page = tmp_path / "page.html"
    _upscaled(scan, tmp_path / "out.nii.gz", "--profile", str(profile), "--report", str(page))
    sidecar = (tmp_path / "out.json").read_text()
    (said,) = [step for step in json.loads(sidecar)["history"] if step.startswith("slices")]
    assert said.startswith("slices 4 mm thick (measured profile ")
    assert said.endswith(") every 4 mm, touching, by the profile")
    words = page.read_text()
    assert "measured profile" in words
    assert "scanner of" not in sidecar + words
    _upscaled(scan, tmp_path / "out.nii.gz", "--profile", "shinnar_le_roux", "--report", str(page))
    assert "Shinnar-Le Roux pulse profile" in page.read_text()


def test_another_profile_is_another_result_of_a_cohort(scan: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        (scans / name).write_bytes(scan.read_bytes())
    profile, options = tmp_path / "profile.txt", {"model": "physics", "spacing": (1.0, 1.0, 2.0)}

    def skipped(**words: object) -> int:
        return len(upscale_scans([scans], tmp_path / "out", **options, **words).skipped)  # type: ignore[arg-type]

    profile.write_text("-2 0\n0 1\n2 0\n")
    assert skipped(profile="rectangular") == 0
    assert skipped(profile="rectangular") == 2
    assert skipped(profile=profile) == 0
    assert skipped(profile=profile) == 2
    profile.write_text("-3 0\n0 1\n3 0\n")
    assert skipped(profile=profile) == 0


def test_a_profile_that_makes_no_sense_stops_before_anything_is_written(scan: Path, tmp_path: Path) -> None:
    profile = tmp_path / "wide.txt"
    profile.write_text("-60 0\n0 1\n60 0\n")
    with pytest.raises(MedganError, match="60 mm, which the profile says, is more than the field of view") as caught:
        upscale_scans([scan], tmp_path / "out", model="physics", profile=profile)
    assert caught.value.file == profile
    for wrong in ("gausian", "band_limit"):
        with pytest.raises(MedganError, match=f"'{wrong}' is no slice profile"):
            upscale_scans([scan], tmp_path / "out", model="physics", profile=wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["rectangular", "measured"])
def test_the_tuning_on_the_scan_itself_samples_by_the_profile(name: str) -> None:
    shape = SliceProfile((0.0, 1.0, 0.8, 0.0), 1.5) if name == "measured" else None
    profile = AssumedProfile(name, shape)
    scan = Volume(np.random.default_rng(0).random((20, 21, 8), dtype=np.float32), np.diag([1.0, 1.0, 3.0, 1.0]))
    scan, plan = prepared(scan, None, profile=profile)
    lesson = _lesson(scan, plan, course_of(scan, plan), None)
    width = shape.fwhm_mm if shape is not None else 3.0
    right = Acquisition.between(
        (6, 6, 12), (6, 6, 4), high_spacing=(1, 1, 1), thickness=(1, 1, width), profile=name, measured=shape
    )
    patch = torch.randn(6, 6, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lesson.acquisition((6, 6, 12)).forward(patch), right.forward(patch))

"""The super-resolution benchmark: its methods against closed forms, its protocol, and one small run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import sr_cases
import sr_linear
import sr_methods
import sr_peers
import sr_tables
import super_resolution
from scipy import ndimage

from medgan.errors import MedganError
from medgan.volume import Volume


def scan_of(voxels: np.ndarray, axis: int = 2, name: str = "scan") -> sr_cases.Scan:
    return sr_cases.Scan(name, voxels.astype(np.float32), (1.0, 1.0, 1.0), axis, (1.0, 1.0, 1.0))


def head(seed: int, shape: tuple[int, int, int] = (48, 48, 48)) -> np.ndarray:
    """A rough ball in air with even tissue inside."""
    random = np.random.default_rng(seed)
    distance = np.sqrt(sum(((axis - 23.5) / 22) ** 2 for axis in np.indices(shape)))
    folds = ndimage.gaussian_filter(random.standard_normal(shape), 1.2)
    voxels = np.where(distance < 1, np.where(distance < 0.7, 100.0, 70 + 40 * np.sign(folds)), 0.0)
    return ndimage.gaussian_filter(voxels, 0.5) + 2


def problem_of(scan: sr_cases.Scan, scenario: str = "1x1x2", **options: object) -> sr_cases.Problem:
    settings = {"profile": "gaussian", "snr": None, **options}
    return sr_cases.problem_of(scan, sr_cases.factor_along(scan, scenario), **settings)  # type: ignore[arg-type]


METHODS = {
    "nearest": sr_methods.spline(0),
    "linear": sr_methods.spline(1),
    "cubic": sr_methods.spline(3),
    "quintic": sr_methods.spline(5),
    "Lanczos": sr_methods.lanczos,
    "zero-filled": sr_methods.zero_filled,
    "physics": sr_methods.physics,
    **{method.name: method.restore for method in sr_peers.simpleitk_methods()},
    **{method.name: method.restore for method in sr_peers.torchio_methods()},
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scenario", ["2x2x2", "1x1x3"])
def test_every_method_keeps_level_and_place(name: str, scenario: str) -> None:
    # A broad blob off the centre: what interpolation does to it is far below what half a voxel of shift would do.
    grid = np.indices((24, 36, 24)) - np.array([11.0, 18.0, 12.0])[:, None, None, None]
    problem = problem_of(scan_of(5 + np.exp(-0.5 * (grid**2).sum(0) / 4.0**2), axis=1), scenario)
    restored = METHODS[name](problem)
    truth = problem.truth.data[0]
    assert restored.shape == truth.shape
    assert restored.mean() == pytest.approx(truth.mean(), abs=0.004)
    assert np.abs(restored - truth).max() < (0.25 if name == "nearest" else 0.17)
    for ours, true in zip(*(ndimage.center_of_mass(v - v.min()) for v in (restored, truth)), strict=True):
        assert ours == pytest.approx(true, abs=0.05)


def test_zero_filling_is_exact_for_what_the_low_grid_holds() -> None:
    problem = problem_of(scan_of(head(0)), "1x1x3")
    wave = np.cos(np.pi * 4 * (np.arange(48) + 0.5) / 48)
    low = np.broadcast_to(np.cos(np.pi * 4 * (np.arange(16) + 0.5) / 16), problem.low.shape)
    restored = sr_methods.zero_filled(problem.with_low(problem.low.with_data(low.astype(np.float32))))
    assert np.abs(restored - wave).max() < 1e-5
    assert np.abs(sr_methods.lanczos(problem.with_low(problem.low.with_data(low.copy()))) - wave).max() < 0.02


@pytest.mark.parametrize("scenario", ["1x1x3", "2x2x2"])
def test_the_linear_filter_learns_and_shifts_nothing(scenario: str) -> None:
    # Noise is what the physics that it starts from knows nothing of, and a filter learns to take off.
    training = [scan_of(head(seed), axis=seed % 3) for seed in range(3)]
    fitted = sr_linear.fitted_filter(training, scenario, profile="gaussian", snr=8.0)
    scan = scan_of(head(9), axis=1)
    problem = problem_of(scan, scenario, snr=8.0)
    answers = (fitted.restored(problem, scan.axis), sr_methods.physics(problem))
    filtered, physics = (float(np.square(answer - problem.truth.data[0]).mean()) for answer in answers)
    assert filtered < 0.9 * physics
    mirrored = np.flip(fitted.restored(problem, scan.axis), 1)
    of_mirrored = fitted.restored(problem.with_low(problem.low.with_data(np.flip(problem.low.data[0], 1))), scan.axis)
    assert np.abs(mirrored - of_mirrored).max() < 1e-3


def test_scans_are_scaled_by_what_was_measured_and_measured_again_alike() -> None:
    scan = scan_of(head(1))
    for snr in (None, 20.0):
        problem = problem_of(scan, "1x1x4", snr=snr)
        assert np.percentile(problem.low.data, (0.5, 99.5)) == pytest.approx((0, 1), abs=1e-5)
        offset, span = problem.scaling
        assert problem.truth.data[0] * span + offset == pytest.approx(scan.voxels, abs=1e-3)
        again = sr_cases.measured_again(problem, problem.truth.data[0])
        assert again.data == pytest.approx(problem.low.data, abs=1e-4)
    noisy, clean = (problem_of(scan, "1x1x4", snr=snr).low.data[0] for snr in (20.0, None))
    assert 0.01 < np.abs(noisy - clean)[12:36, 12:36, 3:9].std() < 0.1


def test_slices_lie_where_there_is_detail(tmp_path: Path) -> None:
    inside = sum(((axis - 19.5) / 17) ** 2 for axis in np.indices((40, 40, 40))) < 1
    noise = np.where(inside, np.random.default_rng(0).normal(100, 10, inside.shape), 0)
    for name, blur in (("even", (0, 0, 0)), ("interpolated", (0.4, 0, 1.5))):
        image = nib.Nifti1Image(ndimage.gaussian_filter(noise, blur).astype(np.float32), np.eye(4))
        nib.save(image, tmp_path / f"{name}.nii.gz")
    even = sr_cases.read_scan(tmp_path, "even", "even.nii.gz")
    other = sr_cases.read_scan(tmp_path, "interpolated", "interpolated.nii.gz", crop=24)
    assert (even.axis, even.voxels.shape, sr_cases.factor_along(even, "1x1x4")) == (2, (36, 36, 36), (1, 1, 4))
    assert (other.axis, other.voxels.shape, sr_cases.factor_along(other, "1x1x4")) == (1, (24, 24, 24), (1, 4, 1))
    assert sr_cases.factor_along(other, "2x2x2") == (2, 2, 2)
    for wrong in ("1x1x5", "2x2", "axb"):
        with pytest.raises(MedganError, match="no scenario"):
            sr_cases.factor_along(even, wrong)


def test_gains_and_verdicts() -> None:
    names = {"cubic": sr_methods.CUBIC, "filter": sr_methods.LINEAR_FILTER, "physics": sr_methods.PHYSICS}
    assert names == sr_tables.BASELINES
    decibels = {sr_methods.CUBIC: 30.0, sr_methods.LINEAR_FILTER: 31.0, sr_methods.PHYSICS: 31.5, "medgan, new": 32.0}
    rows = [
        {"scan": scan, "method": name, "psnr_db": value + (less if name == "medgan, new" else 0), "shift": 0.01}
        | {"spectral_ratio": 0.9}
        for scan, less in (("a", 0.0), ("b", -1.0), ("c", 0.5))
        for name, value in decibels.items()
    ]
    assert sr_tables.median_gains("medgan, new", rows) == {"cubic": 2.0, "filter": 1.0, "physics": 0.5}
    (verdict,) = sr_tables.verdicts(rows, ["medgan, new"])
    assert "+2.00 dB over cubic B-spline" in verdict
    assert "NOT above the physics floor: b" in verdict


def test_a_foreign_method_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("somebody")
    module.method = lambda low, factor: Volume(np.kron(low.data[0], np.ones(factor)), np.eye(4))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebody", module)
    problem = problem_of(scan_of(head(2)), "1x1x4")
    restored, seconds, memory = sr_methods.measured(sr_methods.foreign("theirs=somebody:method").restore, problem)
    assert restored == pytest.approx(METHODS["nearest"](problem))
    assert seconds > 0
    assert memory >= 0
    with pytest.raises(MedganError, match="names no method"):
        sr_methods.foreign("somebody:method")
    with pytest.raises(MedganError, match="cannot be loaded"):
        sr_methods.foreign("theirs=somebody:nothing")
    with pytest.raises(MedganError, match="instead of"):
        sr_methods.measured(lambda problem: problem.low.data[0], problem)


def test_eclare_is_run_as_its_manual_says(tmp_path: Path) -> None:
    program = tmp_path / "run-eclare"
    copy = "import shutil, sys, pathlib as p; a = sys.argv; o = p.Path(a[a.index('--out-dir') + 1]); o.mkdir()"
    program.write_text(
        f"#!{sys.executable}\n{copy}\n"
        f"p.Path({str(tmp_path / 'words')!r}).write_text(' '.join(a[1:]))\n"
        f"shutil.copy({str(tmp_path / 'answer.nii.gz')!r}, o / 'low_eclare.nii.gz')\n"
    )
    program.chmod(0o755)
    problem = problem_of(scan_of(head(3)), "1x1x4")
    nib.save(nib.Nifti1Image(problem.truth.data[0], problem.truth.affine), tmp_path / "answer.nii.gz")
    (method,) = sr_peers.eclare_methods(str(program), 77)
    assert method.restore(problem) == pytest.approx(problem.truth.data[0])
    words = (tmp_path / "words").read_text().split()
    assert words[words.index("--relative-slice-thickness") + 1] == "4"
    assert words[words.index("--n-patches") + 1] == "77"
    assert sr_peers.eclare_methods(None, 77) == []
    with pytest.raises(MedganError, match="no command"):
        sr_peers.eclare_methods(str(tmp_path / "missing"), 77)


def test_one_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lesions = np.zeros((48, 48, 48), dtype=np.uint8)
    lesions[20:24, 22:26, 18:22] = 1
    for seed, path in enumerate({**sr_cases.TEST, **sr_cases.TRAIN}.values()):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        voxels = head(seed) + 30.0 * lesions
        nib.save(nib.Nifti1Image(voxels.astype(np.float32), np.eye(4)), tmp_path / path)
        nib.save(nib.Nifti1Image(lesions, np.eye(4)), (tmp_path / path).parent / "lesion_mask.nii.gz")
    answer = tmp_path / "rows.json"
    words = ["--scans", str(tmp_path), "--quick", "--only", "FLAIR", "--json", str(answer), "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["super_resolution.py", *words])
    super_resolution.main()
    rows = {row["method"]: row for row in json.loads(answer.read_text())}
    assert {"nearest", "linear", "cubic B-spline", "linear filter", "medgan physics", "SimpleITK B-spline"} <= set(rows)
    physics, cubic = rows["medgan physics"], rows["cubic B-spline"]
    assert physics["psnr_db"] > cubic["psnr_db"]
    assert physics["consistency"] < 0.1 * cubic["consistency"]
    assert physics["resolution_mm"] < cubic["resolution_mm"] < 6
    assert physics["planted"]["lesions"] > 0
    assert 0.3 < physics["lesion_contrast"] < 1.1
    printed = capsys.readouterr().out
    assert "MEDIANS over 1 scans" in printed
    assert "thick slices along" in printed

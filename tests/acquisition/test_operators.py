"""The whole acquisition: exact adjoint, geometry, inverse, differentiability."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medgan.acquisition import (
    Acquisition,
    high_shape_for,
    low_shape_for,
    profile_matrix,
    regularisation_for,
    tikhonov_inverse,
)
from medgan.errors import MedganError

CASES = [
    {"high_shape": (12, 13, 24), "low_shape": (12, 13, 6)},
    {"high_shape": (12, 13, 24), "low_shape": (12, 13, 6), "thickness": (None, None, 3.0)},
    {"high_shape": (12, 13, 24), "low_shape": (12, 13, 6), "thickness": (None, None, 0.5)},
    {"high_shape": (10, 14, 9), "low_shape": (5, 7, 4)},
    {"high_shape": (10, 14, 101), "low_shape": (4, 14, 41), "profile": ("gaussian", "gaussian", "band_limit")},
    {"high_shape": (11, 14, 9), "low_shape": (5, 9, 4), "profile": "band_limit", "taper": 0.4},
    {"high_shape": (11, 1, 9), "low_shape": (1, 1, 9), "profile": ("band_limit", "gaussian", "gaussian")},
    {"high_shape": (8, 8, 8), "low_shape": (8, 8, 8), "thickness": (None, None, 2.5)},
]


def acquisition(**arguments: object) -> Acquisition:
    return Acquisition.between(**{"high_spacing": (1.0, 1.0, 1.0), **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_adjoint_is_the_exact_transpose(case: dict) -> None:
    model = acquisition(**case)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *model.high_shape, dtype=torch.float64, generator=generator)
    y = torch.randn(2, *model.low_shape, dtype=torch.float64, generator=generator)
    left, right = (model.forward(x) * y).sum(), (x * model.adjoint(y)).sum()
    assert left.item() == pytest.approx(right.item(), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_are_kept(case: dict, dtype: torch.dtype) -> None:
    model = acquisition(**case)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    low = model.forward(torch.full((2, 1, *model.high_shape), 700.0, dtype=dtype))
    high = model.inverse(torch.full((2, 1, *model.low_shape), 700.0, dtype=dtype))
    assert low.dtype == high.dtype == dtype
    assert low.shape == (2, 1, *model.low_shape)
    assert high.shape == (2, 1, *model.high_shape)
    torch.testing.assert_close(low, torch.full_like(low, 700.0), atol=tolerance, rtol=0)
    torch.testing.assert_close(high, torch.full_like(high, 700.0), atol=tolerance, rtol=0)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("axis", [-3, -2, -1])
def test_flips_commute(case: dict, axis: int) -> None:
    model = acquisition(**case)
    x = torch.rand(model.high_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.forward(x.flip(axis)), model.forward(x).flip(axis), atol=1e-12, rtol=0)
    y = model.forward(x)
    torch.testing.assert_close(model.inverse(y.flip(axis)), model.inverse(y).flip(axis), atol=1e-9, rtol=0)


def test_forward_equals_matrices_applied_to_each_axis() -> None:
    model = acquisition(
        high_shape=(9, 10, 12), low_shape=(4, 5, 3), thickness=(3.0, None, 5.0), high_spacing=(1, 2, 1.5)
    )
    x = np.random.default_rng(2).random((9, 10, 12))
    rows = [
        profile_matrix(4, 9, fwhm=np.sqrt(9 - 1)),
        profile_matrix(5, 10, fwhm=np.sqrt(16 - 4) / 2),
        profile_matrix(3, 12, fwhm=np.sqrt(25 - 2.25) / 1.5),
    ]
    expected = np.einsum("ai,bj,ck,ijk->abc", *rows, x)
    np.testing.assert_allclose(model.forward(torch.from_numpy(x)).numpy(), expected, atol=1e-12)
    assert model.low_spacing == pytest.approx((9 / 4, 4, 6))


@pytest.mark.parametrize(("high", "low"), [(80, 40), (81, 27), (80, 20), (80, 32), (101, 41), (77, 31)])
@pytest.mark.parametrize("profile", ["gaussian", "band_limit"])
@pytest.mark.parametrize("offset", [0.0, 0.3, -3.7])
def test_centroids_stay_in_place(high: int, low: int, profile: str, offset: float) -> None:
    """A small object keeps its centre of mass in mm, measured and restored."""
    model = acquisition(high_shape=(1, 1, high), low_shape=(1, 1, low), profile=("gaussian", "gaussian", profile))
    step = high / low
    where = (high - 1) / 2 + offset
    blob = torch.exp(-0.5 * ((torch.arange(high, dtype=torch.float64) - where) / step) ** 2).reshape(1, 1, high)
    measured = model.forward(blob)
    restored = model.inverse(measured)
    in_mm = (torch.arange(low, dtype=torch.float64) + 0.5) * step - 0.5
    assert ((measured * in_mm).sum() / measured.sum()).item() == pytest.approx(where, abs=0.01)
    assert ((restored * torch.arange(high)).sum() / restored.sum()).item() == pytest.approx(where, abs=0.01)


@pytest.mark.parametrize(("high", "low"), [(81, 27), (101, 41), (77, 31), (80, 40), (80, 20), (80, 32)])
def test_a_delta_in_the_middle_comes_back_in_the_middle(high: int, low: int) -> None:
    model = acquisition(high_shape=(1, 1, high), low_shape=(1, 1, low))
    delta = torch.zeros(1, 1, high, dtype=torch.float64)
    delta[..., [(high - 1) // 2, high // 2]] = 1.0
    restored = model.inverse(model.forward(delta))
    centroid = (restored * torch.arange(high)).sum() / restored.sum()
    assert centroid.item() == pytest.approx((high - 1) / 2, abs=0.01)
    assert restored.argmax().item() in ((high - 1) // 2, high // 2)


@pytest.mark.parametrize("case", CASES)
def test_inverse_explains_the_measurement(case: dict) -> None:
    model = acquisition(**case)
    x = torch.rand(model.high_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y = model.forward(x)
    again = model.forward(model.inverse(y, regularisation=1e-7))
    assert (again - y).square().mean().sqrt().item() < 0.02 * y.std().item() + 1e-12


@pytest.mark.parametrize("profile", ["gaussian", "rectangular", "shinnar_le_roux"])
@pytest.mark.parametrize("contrast", ["FLAIR", "T1", "T2"])
def test_inverse_explains_real_scans_without_being_told_to(test_data: Path, profile: str, contrast: str) -> None:
    """At the default regularisation, to a thousandth of the range, for slices that touch; with a gap it is no worse."""
    folder = test_data / "mri_multicontrast_openms_1mm" / "patient07"
    voxels = np.asarray(nib.load(folder / f"{contrast}.nii.gz").dataobj, dtype=np.float64)
    scan = torch.from_numpy(voxels[60:120, 80:140, 20:164] / np.percentile(voxels, 99.9))
    for factor, gap in ((2, 1), (2.5, 1), (3, 1), (4, 1), (6, 1), (4, 0.6)):
        low = low_shape_for(scan.shape, (1, 1, factor))
        model = acquisition(
            high_shape=scan.shape, low_shape=low, thickness=(None, None, gap * 144 / low[2]), profile=profile
        )
        y = model.forward(scan)
        assert (model.forward(model.inverse(y)) - y).square().mean().sqrt().item() < 1e-3


def test_inverse_solves_the_regularised_least_squares_problem() -> None:
    """Against a stacked least-squares solver: the minimum of |Ax - y|^2 + r k^3 |Dx|^2."""
    forward, strength = profile_matrix(8, 24, fwhm=2.8), 0.02
    y = np.random.default_rng(4).random(8)
    padded = np.pad(np.eye(24), ((1, 1), (0, 0)), mode="symmetric")
    differences = np.diff(padded, n=2, axis=0)
    stacked = np.vstack([forward, np.sqrt(strength * 3**3) * differences])
    expected = np.linalg.lstsq(stacked, np.concatenate([y, np.zeros(24)]), rcond=None)[0]
    np.testing.assert_allclose(tikhonov_inverse(forward, strength) @ y, expected, atol=1e-9)


def test_axes_that_do_not_change_are_left_alone() -> None:
    model = acquisition(high_shape=(12, 7, 8), low_shape=(12, 7, 4), thickness=(1.0004, 0.6, None))
    assert [axis.is_identity for axis in model.axes] == [True, True, False]
    x = torch.rand(12, 7, 8)
    inner = model.forward(x)
    torch.testing.assert_close(inner[3, 2], model.forward(x[3:4, 2:3].expand(12, 7, 8))[0, 0])


@pytest.mark.parametrize("method", ["forward", "adjoint", "inverse"])
def test_gradients(method: str) -> None:
    model = acquisition(high_shape=(4, 5, 6), low_shape=(2, 3, 6))
    shape = model.high_shape if method == "forward" else model.low_shape
    x = torch.rand(1, *shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(model, method), (x,))


def test_use_in_inference_mode_does_not_spoil_later_training() -> None:
    model = acquisition(high_shape=(6, 6, 6), low_shape=(6, 6, 3))
    with torch.inference_mode():
        model.forward(torch.rand(6, 6, 6))
    x = torch.rand(6, 6, 6, requires_grad=True)
    model.forward(x).square().sum().backward()
    assert x.grad is not None


def test_autocast_does_not_coarsen_the_physics() -> None:
    model = acquisition(high_shape=(8, 8, 8), low_shape=(8, 8, 4))
    x = torch.rand(8, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        inside = model.forward(x)
    torch.testing.assert_close(inside, model.forward(x), atol=0, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_description_survives_json(case: dict) -> None:
    model = acquisition(**case)
    assert Acquisition.from_description(json.loads(json.dumps(model.describe()))) == model


def test_sizes_for_a_factor() -> None:
    assert low_shape_for((101, 182, 5), (2.5, 1, 2)) == (40, 182, 3)
    assert low_shape_for((3, 3, 3), (10, 10, 10)) == (1, 1, 1)
    assert high_shape_for((41, 7, 5), (2.5, 1, 1.1)) == (103, 7, 6)


def test_more_noise_asks_for_more_smoothing() -> None:
    assert regularisation_for(0) < regularisation_for(1 / 50) < regularisation_for(1 / 20)


def test_regularisation_rule_beats_the_noise_free_choice_on_noisy_slices() -> None:
    """On noisy slices of a smooth random object the rule comes closer to the truth than the choice for none."""
    generator = torch.Generator().manual_seed(5)
    model = acquisition(high_shape=(16, 16, 120), low_shape=(16, 16, 60))
    truth = 1 + 0.3 * torch.sin(torch.arange(120, dtype=torch.float64) / 6).expand(16, 16, 120)
    noisy = model.forward(truth) + 0.05 * torch.randn(16, 16, 60, dtype=torch.float64, generator=generator)

    def error(noise: float) -> float:
        return (model.inverse(noisy, regularisation_for(noise)) - truth).square().mean().item()

    assert error(0.05) < 0.8 * error(0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"low_shape": (4, 4, 9)}, "more voxels"),
        ({"low_shape": (4, 4)}, "shape"),
        ({"thickness": (None, None, -1.0)}, "thickness along Z"),
        ({"thickness": (None, None, float("nan"))}, "thickness along Z"),
        ({"thickness": (1.0,)}, "three axes"),
        ({"profile": "gausian"}, "gaussian"),
        ({"profile": ("gaussian", "gaussian")}, "three"),
        ({"taper": 2.0}, "taper"),
        ({"high_spacing": (1.0, 0.0, 1.0)}, "spacing"),
    ],
)
def test_impossible_acquisitions_are_refused(change: dict, words: str) -> None:
    with pytest.raises(MedganError, match=words):
        acquisition(**{"high_shape": (4, 4, 8), "low_shape": (4, 4, 4), **change})


def test_wrong_tensors_are_refused() -> None:
    model = acquisition(high_shape=(4, 4, 8), low_shape=(4, 4, 4))
    with pytest.raises(MedganError, match="expects"):
        model.forward(torch.rand(4, 4, 4))
    with pytest.raises(TypeError, match="int64"):
        model.forward(torch.ones(4, 4, 8, dtype=torch.int64))
    with pytest.raises(MedganError, match="regularisation"):
        model.inverse(torch.rand(4, 4, 4), regularisation=0.0)

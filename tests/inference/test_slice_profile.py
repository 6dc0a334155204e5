"""Slice profiles by name and from files: what they change, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medgan.acquisition import SliceProfile
from medgan.errors import MedganError
from medgan.inference.planning import PROFILE, slices_of
from medgan.inference.slice_profile import AssumedProfile, profile_for, read_profile
from medgan.inference.uncertainty import View
from medgan.inference.upscale import acquisition_of, prepared, restored_channel, upscale
from medgan.volume import Volume

SKEWED = AssumedProfile("measured", SliceProfile((0.1, 0.9, 1.0, 0.5, 0.2, 0.1), 1.0))


def _scan(orientation: str = "RAS", shape: tuple[int, int, int] = (5, 6, 9)) -> Volume:
    voxels = np.random.default_rng(0).random(shape, dtype=np.float32)
    return Volume(voxels, np.diag([1.0, 1.0, 4.0, 1.0])).reoriented(orientation)


def _written(folder: Path, text: str) -> Path:
    (folder / "profile.txt").write_text(text)
    return folder / "profile.txt"


def test_a_profile_is_that_of_the_slices_alone() -> None:
    scan, plan = prepared(_scan("PSR"), None, factor=(2, 2, 2), profile=AssumedProfile("rectangular"))
    assert (plan.slices.axis, acquisition_of(plan, scan.shape, None).profile) == (
        2,
        ("gaussian", "gaussian", "rectangular"),
    )


def test_names_are_told_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert profile_for("shinnar_le_roux") == AssumedProfile("shinnar_le_roux")
    with pytest.raises(MedganError, match=r"'rectangle' is no slice profile.*Did you mean 'rectangular'"):
        profile_for("rectangle")
    with pytest.raises(MedganError, match=r"nowhere\.txt"):
        profile_for("nowhere.txt")
    Path("measured").write_text("-1 0\n0 1\n1 0\n")
    assert profile_for("measured").measured == SliceProfile((0.0, 1.0, 0.0), 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "# position, sensitivity\n-2 0\n-1 50\n0 100 # the peak\n\n1 50\n2 0\n",
        "\ufeff-2;0\n-1;50\n0;100\n1;50\n2;0",
        "10,0,\n11,50,\n12,100,\n13,50,\n14,0,\n",
        # Uneven positions of the same piecewise linear profile.
        "-2 0\n-1 50\n0 100\n2 0\n",
    ],
)
def test_files_of_several_kinds_are_read(text: str, tmp_path: Path) -> None:
    found = read_profile(_written(tmp_path, text))
    assert found.measured is not None
    np.testing.assert_allclose(np.array(found.measured.weights), [0, 50, 100, 50, 0], atol=1e-9)
    assert found.measured.step_mm == pytest.approx(1.0)
    # A triangle is half as high where it is half as wide.
    assert found.measured.fwhm_mm == pytest.approx(2.0)


def test_rounded_positions_count_as_even(tmp_path: Path) -> None:
    rows = [f"{0.33333 * k:.2f} {np.exp(-0.5 * (k - 6) ** 2 / 4)}" for k in range(13)]
    found = read_profile(_written(tmp_path, "\n".join(rows))).measured
    assert found is not None
    assert len(found.weights) == 13
    assert found.step_mm == pytest.approx(1 / 3, rel=0.01)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0\n1 -0.5\n2 0\n", "the sensitivity -0.5 in line 2 is negative"),
        ("0 0\n1 1\n1 0.5\n2 0\n", "the position 1 mm follows 1 mm"),
        ("2 0\n1 1\n0 0\n", "the position 1 mm follows 2 mm"),
        ("mm value\n0 0\n1 1\n2 0\n", "line 1 is 'mm value', not two numbers"),
        ("0 0 0\n1 1 1\n2 0 0\n", "line 1 is '0 0 0', not two numbers"),
        ("0 0\n1 nan\n2 0\n", "line 2 holds a number that is not finite"),
        ("0 0\n1 0\n2 0\n", "all sensitivities of the slice profile are 0"),
        ("0 1\n1 2\n", "needs 3 samples or more, here are 2"),
        ("", "needs 3 samples or more, here are 0"),
        ("0 0.6\n1 1\n2 0\n", "cut off: at its end it still has 60 % of its maximum"),
        ("0 0\n0.0001 1\n100 0\n", "needs 1000001 even samples of 0.0001 mm"),
    ],
)
def test_files_that_hold_no_profile_are_refused_by_line_and_value(text: str, words: str, tmp_path: Path) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(MedganError, match=words) as caught:
        read_profile(path)
    assert caught.value.file == path


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.txt").write_bytes(b"\xff\xfe\x00\x80" * 10)
    for path in (tmp_path / "image.txt", tmp_path):
        with pytest.raises(MedganError, match="text"):
            read_profile(path)


def test_a_measured_profile_says_how_thick_slices_are_unless_the_user_does(tmp_path: Path) -> None:
    profile = read_profile(_written(tmp_path, "-3 0\n0 1\n3 0\n"))
    scan = Volume(np.zeros((4, 4, 6)), np.diag([1.0, 1.0, 4.0, 1.0]), metadata={"slice_thickness": 2.0})
    found = slices_of(scan, profile=profile)
    assert (found.thickness, found.source) == (pytest.approx(3.0), PROFILE)
    assert f"3 mm thick (measured profile {profile.digest[:12]}) every 4 mm, 1 mm apart, by the profile" in str(found)
    assert str(tmp_path) not in str(found)
    assert slices_of(scan, 2.5, profile=profile).thickness == 2.5


@pytest.mark.parametrize(
    ("half", "words"),
    [(30, "thickness of 30 mm, which the profile says, is more than the field of view of 24 mm"), (21, "does not go")],
)
def test_a_profile_wider_than_the_field_of_view_is_refused_with_its_file(
    half: float, words: str, tmp_path: Path
) -> None:
    path = _written(tmp_path, f"-{half} 0\n0 1\n{half} 0\n")
    scan = Volume(np.zeros((4, 4, 6)), np.diag([1.0, 1.0, 4.0, 1.0]))
    with pytest.raises(MedganError, match=words) as caught:
        slices_of(scan, profile=read_profile(path))
    assert caught.value.file == path


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "IRP", "ASL"])
def test_a_skewed_profile_follows_the_slices_however_they_are_counted(orientation: str) -> None:
    """The order of the samples is that of the slices as they are stored: turning both changes nothing."""
    stored = _scan(orientation)
    is_turned = "I" in orientation
    result = upscale(stored, profile=SKEWED.mirrored() if is_turned else SKEWED).reoriented("RAS")
    np.testing.assert_allclose(result.data, upscale(_scan(), profile=SKEWED).data, atol=1e-6)
    other = upscale(_scan(), profile=SKEWED.mirrored())
    assert np.abs(result.data - other.data).max() > 1e-3
    assert SKEWED.mirrored().digest == SKEWED.digest
    assert SKEWED.mirrored() != SKEWED


def test_a_mirrored_view_sees_the_mirrored_profile() -> None:
    """Only then does the view, turned back, come to the same result."""
    scan, plan = prepared(_scan(), None, profile=SKEWED)
    view = View(flips=(2,))
    straight = restored_channel(scan.data[0], plan, None, 1.0, None, None)
    turned = restored_channel(view.of(scan.data[0]), view.plan(plan), None, 1.0, None, None)
    np.testing.assert_allclose(view.back(turned), straight, atol=1e-6)

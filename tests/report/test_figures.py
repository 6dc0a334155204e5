from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medgan.errors import MedganError
from medgan.report.figures import bars, curves, midplanes, montage, sample_grid, scale_for, scatter
from medgan.volume import Volume


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def ball(shape: tuple[int, int, int] = (20, 24, 16), spacing: float = 2.0, value: float = 100.0) -> Volume:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.6
    return Volume(value * inside.astype(np.float32), np.diag([spacing, spacing, spacing, 1]))


def test_midplanes_are_grey_until_a_difference_is_drawn() -> None:
    """Scans are grey and letters yellow; only negative differences are blue."""

    def blue(png: bytes) -> int:
        picture = pixels(png).astype(int)
        return int((picture[..., 2] > picture[..., 0] + 30).sum())

    scan = ball()
    darker = scan.with_data(-scan.data)
    assert blue(midplanes([("scan", scan), ("coarse", ball((10, 12, 8), 4.0))])) == 0
    assert blue(midplanes([("scan", scan)], differences=[("difference", darker)])) > 1000


def test_a_map_of_next_to_nothing_stays_dark_and_columns_are_as_wide_as_asked_for() -> None:
    scan = ball(value=100)

    def orange(share: float) -> float:
        wide = pixels(midplanes([("scan", scan)], magnitudes=[("map", scan.with_data(share * scan.data))])).astype(int)
        # The colour bar, at the right, always has all colours.
        map_alone = wide[:, wide.shape[1] // 2 : int(0.8 * wide.shape[1])]
        return float((map_alone[..., 0] > map_alone[..., 2] + 60).mean())

    assert orange(0.2) > 0.05
    assert orange(0.005) < 0.01
    narrow, wide = (pixels(midplanes([("scan", scan)] * 2, column_inches=inches)).shape[1] for inches in (2.0, 4.0))
    assert wide == pytest.approx(2 * narrow, rel=0.02)


def test_the_window_decides_what_is_white() -> None:
    scan = ball(value=100)
    white = [(pixels(midplanes([("scan", scan)], window=(0, top))) > 250).mean() for top in (100, 400)]
    assert white[0] > 0.1 > 0.01 > white[1]


def test_the_same_picture_every_time() -> None:
    assert midplanes([("scan", ball())]) == midplanes([("scan", ball())])
    assert b"Software" not in midplanes([("scan", ball())])


def test_sample_grid_draws_both_kinds() -> None:
    one = pixels(sample_grid([ball()], [ball()]))
    three = pixels(sample_grid([ball()] * 9, [ball()], most=3))
    assert three.shape[1] > 1.5 * one.shape[1]
    white = (three > 250).all(axis=2)
    upper, lower = white[: len(white) // 2], white[len(white) // 2 :]
    assert upper.sum() == pytest.approx(3 * lower.sum(), rel=0.1)
    with pytest.raises(MedganError, match="one real and one synthetic"):
        sample_grid([ball()], [])


def test_montage_holds_every_volume() -> None:
    left = pixels(montage([ball(), ball(value=0), ball(value=0), ball()]))
    right = pixels(montage([ball(value=0), ball(), ball(), ball(value=0)]))
    assert left.shape == right.shape
    assert (left > 200).sum() == (right > 200).sum() > 0
    assert not np.array_equal(left, right)
    assert (left[..., 0] == left[..., 2]).all()


def test_curves() -> None:
    steps = range(200)
    history = {
        "loss": [(s, 1.0) for s in steps],
        "broken": [(s, float("nan") if s % 7 else 1.0) for s in steps],
        "once": [(0.0, 3.0)],
        "empty": [],
    }
    one = pixels(curves(history, {"losses": ["loss", "broken"]}))
    two = pixels(curves(history, {"losses": ["loss"], "other": ["once", "absent"], "nothing": ["empty"]}))
    assert two.shape[1] == pytest.approx(2 * one.shape[1], rel=0.02)
    with pytest.raises(MedganError, match="none of the 4 metrics"):
        curves(history, {"nothing": ["empty", "absent"]})


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1, 50], "linear"), ([0.1, 50], "log"), ([0, 1000], "linear"), ([-1, 1000], "linear"), ([np.nan, 1, 1e3], "log")],
)
def test_logarithmic_when_apt(values: list[float], scale: str) -> None:
    assert scale_for(np.array(values, dtype=np.float64)) == scale


def test_scatter_marks_what_lies_below_the_threshold() -> None:
    def red(png: bytes) -> int:
        picture = pixels(png).astype(int)
        return int((picture[..., 0] > picture[..., 1:].max(axis=2) + 80).sum())

    groups: dict[str, list[float]] = {"synthetic": [0.1, 0.8], "held out": []}
    line_only = red(scatter({"synthetic": [0.7, 0.8], "held out": []}, label="distance", threshold=0.5))
    assert red(scatter(groups, label="distance")) == 0 < line_only
    assert red(scatter(groups, label="distance", threshold=0.5)) > line_only


def test_bars_grow_with_their_number() -> None:
    one, three = (
        pixels(bars({str(i): (i + 1.0, i, i + 2.0) for i in range(count)}, label="distance")) for count in (1, 3)
    )
    assert three.shape[0] > one.shape[0]

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medgan.errors import MedganError
from medgan.report.charts import bars, curves, lines, paired_dots, scale_for, scatter
from medgan.report.figures import midplanes, montage, sample_grid, scale_length, side_by_side
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


@pytest.mark.parametrize(("extent", "length"), [(400, 100), (180, 50), (40, 10), (7, 2), (2, 1), (0.5, 1)])
def test_bars_are_round_and_at_most_a_third_of_the_picture(extent: float, length: int) -> None:
    assert scale_length(extent) == length


def test_the_bar_is_as_long_as_it_says() -> None:
    """The axial plane is 40 mm wide; its bar of 10 mm is a quarter of that."""
    picture = pixels(midplanes([("scan", ball((20, 24, 16), 2.0, value=0.0))], window=(0, 1))).astype(int)
    grey = (np.abs(picture - 0xE8) < 6).all(axis=2)
    row = max(range(len(grey)), key=lambda n: longest_run(grey[n]))
    # All planes share one scale: the widest, the sagittal one, is 48 mm; margins take a little of the width.
    assert longest_run(grey[row]) / picture.shape[1] == pytest.approx(10 / 48, rel=0.12)


def longest_run(line: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def test_pairs_stand_side_by_side() -> None:
    pair = (("synthetic 0", ball()), ("training 3", ball(value=50)))
    one, two = (pixels(side_by_side([pair] * count)) for count in (1, 2))
    assert two.shape[1] == pytest.approx(2 * one.shape[1], rel=0.05)
    # Each scan has a grey scale of its own: both balls are white.
    white = (one > 250).all(axis=2)
    left, right = white[:, : white.shape[1] // 2], white[:, white.shape[1] // 2 :]
    assert left.sum() == pytest.approx(right.sum(), rel=0.1)
    with pytest.raises(MedganError, match="no pairs"):
        side_by_side([])


def test_lines_and_dots_show_all_series() -> None:
    def coloured(png: bytes) -> set[str]:
        found = pixels(png).astype(int)
        names = {"blue": (0, 0x72, 0xB2), "orange": (0xD5, 0x5E, 0)}
        return {name for name, colour in names.items() if (np.abs(found - colour).sum(axis=2) < 30).sum() > 40}

    series = {"real": [(0.0, 1.0), (1.0, 2.0)], "synthetic": [(0.0, 2.0), (1.0, 1.0)]}
    assert coloured(lines(series, across="x", up="y")) == {"blue", "orange"}
    groups = {f"region {n}": ([1.0, 2.0, 3.0] * 5, [2.0, 3.0] * 5) for n in range(4)}
    wide = paired_dots(groups, names=("real", "synthetic"), label="ml")
    assert (
        pixels(wide).shape[0] > 1.5 * pixels(paired_dots({"one": ([1.0], [])}, names=("a", "b"), label="ml")).shape[0]
    )

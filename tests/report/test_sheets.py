from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread

from medgan.errors import MedganError
from medgan.report.sheets import SheetRow, contact_sheet
from medgan.volume import Volume


def _volume(value: float) -> Volume:
    return Volume(np.full((1, 6, 8, 5), value, np.float32), np.eye(4))


def _row(low: float, high: float) -> SheetRow:
    first, last = _volume(low), _volume(high)
    return SheetRow("direction", [("-1", first), ("+1", last)], last.with_data(last.data - first.data))


def test_rows_share_grey_and_colour_scales() -> None:
    picture = imread(io.BytesIO(contact_sheet([_row(0, 100), _row(100, 0)])), format="png")[..., :3]
    colours = {tuple(np.round(pixel, 1)) for pixel in picture.reshape(-1, 3)}
    # White scans, and differences that are as much above zero in one row as below it in the other.
    assert (1.0, 1.0, 1.0) in colours
    assert any(red > blue + 0.3 for red, _, blue in colours)
    assert any(blue > red + 0.3 for red, _, blue in colours)


def test_rows_of_different_lengths_are_refused() -> None:
    row = _row(0, 1)
    with pytest.raises(MedganError, match=r"these have \[1, 2\]"):
        contact_sheet([row, SheetRow("short", row.scans[:1], row.difference)])
    with pytest.raises(MedganError, match="none"):
        contact_sheet([])

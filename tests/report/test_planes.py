from __future__ import annotations

import numpy as np
import pytest
from nibabel.orientations import aff2axcodes, io_orientation

from medgan.errors import MedganError
from medgan.report.planes import common_window, midplane_images, tiled
from medgan.volume import Volume

SHAPE, SPACING = (12, 16, 20), (1.0, 2.0, 3.0)
OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}


def marked(direction: str, orientation: str) -> Volume:
    """A dark scan with one bright voxel at the middle of its `direction` face, stored in `orientation`."""
    data, place = np.zeros(SHAPE, dtype=np.float32), [n // 2 for n in SHAPE]
    axis = ["RL", "AP", "SI"].index(next(pair for pair in ("RL", "AP", "SI") if direction in pair))
    place[axis] = SHAPE[axis] - 1 if direction in "RAS" else 0
    data[tuple(place)] = 1
    volume = Volume(data, np.diag([*SPACING, 1.0])).reoriented(orientation)
    assert "".join(aff2axcodes(volume.affine)) == orientation
    return volume


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "AIL", "SRA"])
@pytest.mark.parametrize(
    ("plane", "direction", "edge"),
    [
        (0, "L", "right"),
        (0, "R", "left"),
        (0, "A", "top"),
        (0, "P", "bottom"),
        (1, "L", "right"),
        (1, "R", "left"),
        (1, "S", "top"),
        (1, "I", "bottom"),
        (2, "A", "left"),
        (2, "P", "right"),
        (2, "S", "top"),
        (2, "I", "bottom"),
    ],
)
def test_marker_appears_at_the_edge_with_its_letter(orientation: str, plane: int, direction: str, edge: str) -> None:
    """Radiological: the patient's left on the right-hand side, whatever the order of the stored axes."""
    image = midplane_images(marked(direction, orientation))[plane]
    row, column = (int(i[0]) for i in np.nonzero(image.pixels))
    rows, columns = image.pixels.shape
    found = {"top": row == 0, "bottom": row == rows - 1, "left": column == 0, "right": column == columns - 1}
    assert [name for name, there in found.items() if there] == [edge]
    assert getattr(image, edge) == direction
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[edge]
    assert getattr(image, opposite) == OPPOSITE[direction]


def test_planes_have_true_proportions() -> None:
    axial, coronal, sagittal = midplane_images(marked("L", "SRA"))
    assert axial.pixels.shape == (16, 12)
    assert axial.pixel_size == (2.0, 1.0)
    assert axial.size == (32.0, 12.0)
    assert coronal.size == (60.0, 12.0)
    assert sagittal.size == (60.0, 32.0)


def test_oblique_scans_go_to_the_nearest_axes() -> None:
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, -1.0, 1.0])
    data = np.zeros(SHAPE, dtype=np.float32)
    data[-1, SHAPE[1] // 2 - 1, SHAPE[2] // 2] = 1
    assert io_orientation(affine)[0].tolist() == [0, -1]
    axial = midplane_images(Volume(data, affine))[0]
    assert np.argwhere(axial.pixels).tolist() == [[7, 11]]


def test_window_is_common_and_survives_odd_values() -> None:
    ramp = np.linspace(0, 1000, 27_000, dtype=np.float32).reshape(30, 30, 30)
    broken = ramp.copy()
    broken[0, 0, 0] = np.nan
    low, high = common_window([Volume(broken, np.eye(4)), Volume(ramp, np.eye(4))])
    assert (low, high) == (pytest.approx(5, abs=1), pytest.approx(995, abs=1))
    assert common_window([Volume(np.full((3, 3, 3), 7.0), np.eye(4))]) == (7, 8)
    with pytest.raises(MedganError, match="no volumes"):
        common_window([])


def test_tiles_are_square_pixels_side_by_side() -> None:
    volume = Volume(np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE), np.diag([*SPACING, 1.0]))
    images = midplane_images(volume)
    canvas = tiled(images, 1.0)
    assert canvas.shape == (60, 12 + 2 + 12 + 2 + 32)
    np.testing.assert_array_equal(canvas[14:46, :12], np.repeat(images[0].pixels, 2, axis=0))
    np.testing.assert_array_equal(canvas[:, -32:], np.kron(images[2].pixels, np.ones((3, 2))))
    assert np.isnan(canvas[:14, :12]).all()
    assert np.isnan(canvas[:, 12:14]).all()

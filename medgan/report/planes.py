"""Which voxels of a scan go where in a picture; pure functions, no drawing.

All pictures follow the **radiological convention**: the patient faces the viewer, so the patient's left is on the
right-hand side of axial and coronal planes, as in every radiology viewer. Sagittal planes are seen from the patient's
left, the face on the left-hand side. The letters at the edges say so in every picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.volume import Volume

CONVENTION = "Radiological convention: the patient's left is on the right-hand side."
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, eq=False)
class PlaneImage:
    """One plane of a scan as it is drawn.

    Args:
        name: "axial", "coronal" or "sagittal".
        pixels: (rows, columns) float32; row 0 is drawn at the top, column 0 at the left.
        pixel_size: height and width of a pixel in mm.
        left: the patient direction at the left-hand edge, a letter of L, R, A, P, S, I; and so on for the other edges.
        right: at the right-hand edge.
        top: at the upper edge.
        bottom: at the lower edge.
    """

    name: str
    pixels: NDArray[np.float32]
    pixel_size: tuple[float, float]
    left: str
    right: str
    top: str
    bottom: str

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in mm."""
        rows, columns = self.pixels.shape
        return rows * self.pixel_size[0], columns * self.pixel_size[1]


def midplane_images(volume: Volume, *, channel: int = 0) -> tuple[PlaneImage, PlaneImage, PlaneImage]:
    """The axial, coronal and sagittal planes through the middle of the grid, ready to draw.

    An oblique scan is turned to the nearest patient axes, never resampled. With an even number of voxels, the plane
    just beyond the middle is taken.
    """
    turned = volume.reoriented("RAS")
    data = turned.as_float()[channel]
    x, y, z = turned.spacing
    i, j, k = (n // 2 for n in turned.shape)
    return (
        PlaneImage("axial", data[::-1, ::-1, k].T, (y, x), "R", "L", "A", "P"),
        PlaneImage("coronal", data[::-1, j, ::-1].T, (z, x), "R", "L", "S", "I"),
        PlaneImage("sagittal", data[i, ::-1, ::-1].T, (z, y), "A", "P", "S", "I"),
    )


def common_window(volumes: Sequence[Volume]) -> tuple[float, float]:
    """Black and white for all volumes: the 0.5th and 99.5th percentiles of their voxels together, thinned for speed.

    Raises:
        MedganError: there are no volumes.
    """
    if not volumes:
        raise MedganError("there are no volumes to draw", hint="Give at least one.")
    samples = []
    for volume in volumes:
        values = volume.data.ravel()
        values = values[:: max(1, values.size // 50_000)]
        samples.append(values[np.isfinite(values)])
    low, high = (float(v) for v in np.percentile(np.concatenate(samples), (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)


def tiled(images: Sequence[PlaneImage], pixel: float, gap: int = 2) -> NDArray[np.float32]:
    """Planes side by side, centred vertically, as one array of square pixels of `pixel` mm; NaN between them."""
    squared = [_square_pixels(image, pixel) for image in images]
    height = max(rows for rows, _ in (tile.shape for tile in squared))
    tiles: list[NDArray[Any]] = []
    for number, tile in enumerate(squared):
        if number:
            tiles.append(np.full((height, gap), np.nan, dtype=np.float32))
        above = (height - tile.shape[0]) // 2
        tiles.append(
            np.pad(tile, ((above, height - tile.shape[0] - above), (0, 0)), constant_values=np.float32(np.nan))
        )
    return np.concatenate(tiles, axis=1)


def _square_pixels(image: PlaneImage, pixel: float) -> NDArray[np.float32]:
    """Nearest-neighbour samples on square pixels; the field of view is kept."""
    rows, columns = (max(1, round(extent / pixel)) for extent in image.size)
    row = ((np.arange(rows) + 0.5) * image.pixels.shape[0] / rows).astype(int)
    column = ((np.arange(columns) + 0.5) * image.pixels.shape[1] / columns).astype(int)
    return image.pixels[np.ix_(row, column)]

"""Pictures of scans, as PNG bytes.

Scans are drawn on black with a light rim of letters and a bar of so many mm, voxels as they are (no interpolation), in
true proportions.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medgan.errors import MedganError
from medgan.report.charts import png_of
from medgan.report.planes import (
    CONVENTION,
    PLANES,
    PlaneImage,
    common_window,
    midplane_images,
    tiled,
)
from medgan.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_INK, _FAINT, _LETTER = "#e8e8e8", "#9a9a9a", "#f2c14e"
_COLUMN_INCHES = 2.1
_MONTAGE_PLANE_PIXELS = 96
_LEAST_MAGNITUDE = 0.05
_BARS = (100, 50, 20, 10, 5, 2, 1)


def midplanes(
    columns: Sequence[tuple[str, Volume]],
    *,
    window: tuple[float, float] | None = None,
    differences: Sequence[tuple[str, Volume]] = (),
    magnitudes: Sequence[tuple[str, Volume]] = (),
    column_inches: float = _COLUMN_INCHES,
) -> bytes:
    """Axial, coronal and sagittal mid-planes (rows) of one or more scans (columns), in one grey scale.

    Args:
        columns: title and scan; scans of different grids are drawn on one scale of millimetres.
        window: the values drawn black and white; percentiles of all scans together by default.
        differences: title and signed difference, drawn beside the scans from blue through white to red, symmetric
            about zero, with a colour bar in the scans' units.
        magnitudes: title and map without negative values, drawn beside the scans from black at zero to light yellow,
            with a colour bar in the map's units that reaches a twentieth of the grey scale at least, so that next to
            nothing looks like it; instead of differences.
        column_inches: width of a column on a page.

    Returns:
        A PNG file.

    Raises:
        MedganError: there are no columns.
    """
    low, high = window or common_window([volume for _, volume in columns])
    drawn = [Column(title, midplane_images(volume), "gray", low, high) for title, volume in columns]
    if differences:
        limit = symmetric_limit([volume for _, volume in differences])
        drawn += [Column(title, midplane_images(volume), "RdBu_r", -limit, limit) for title, volume in differences]
    if magnitudes:
        most = max(common_window([volume for _, volume in magnitudes])[1], _LEAST_MAGNITUDE * (high - low))
        drawn += [Column(title, midplane_images(volume), "inferno", 0.0, most) for title, volume in magnitudes]
    return png_of(_plane_figure([drawn], colour_bar=bool(differences or magnitudes), column_inches=column_inches))


def sample_grid(real: Sequence[Volume], synthetic: Sequence[Volume], *, most: int = 6) -> bytes:
    """Mid-planes of real scans beside those of synthetic ones, each scan in a grey scale of its own.

    MRI intensities have no unit: scans of several scanners in one grey scale would show little but their gains.

    Args:
        real: the first `most` are drawn.
        synthetic: the first `most` are drawn.
        most: scans of each kind.

    Returns:
        A PNG file: the real scans' axial, coronal and sagittal planes above the synthetic scans' ones.

    Raises:
        MedganError: one kind has no scans.
    """
    if not real or not synthetic:
        raise MedganError("a comparison needs at least one real and one synthetic scan", hint="Give both.")
    bands = [
        [
            Column(f"{kind} {n}", midplane_images(volume), "gray", *common_window([volume]))
            for n, volume in enumerate(volumes[:most])
        ]
        for kind, volumes in (("real", real), ("synthetic", synthetic))
    ]
    return png_of(_plane_figure(bands))


def side_by_side(pairs: Sequence[tuple[tuple[str, Volume], tuple[str, Volume]]]) -> bytes:
    """Pairs of scans that should be compared by eye, each scan in a grey scale of its own.

    Args:
        pairs: title and scan, twice; such as a synthetic scan and the training scan nearest to it.

    Returns:
        A PNG file: one pair beside the next, for each scan the axial, coronal and sagittal mid-plane below one another.

    Raises:
        MedganError: there are no pairs.
    """
    if not pairs:
        raise MedganError("there are no pairs of scans to draw", hint="Give at least one.")
    columns = [
        Column(title, midplane_images(volume), "gray", *common_window([volume]))
        for pair in pairs
        for title, volume in pair
    ]
    return png_of(_plane_figure([columns]))


def montage(volumes: Sequence[Volume], *, window: tuple[float, float] | None = None) -> bytes:
    """The three mid-planes of every volume as one bare picture, quick enough for each tick of a training.

    The planes follow the same convention as the other pictures, without letters or titles; volumes run row by row.

    Args:
        volumes: of any grids.
        window: the values drawn black and white; percentiles of all volumes together by default.

    Returns:
        A PNG file.

    Raises:
        MedganError: there are no volumes.
    """
    from matplotlib.image import imsave

    low, high = window or common_window(volumes)
    planes = [midplane_images(volume) for volume in volumes]
    pixel = max(max(image.size) for images in planes for image in images) / _MONTAGE_PLANE_PIXELS
    strips = [tiled(images, pixel) for images in planes]
    across = max(1, round((len(strips) / 2) ** 0.5))
    height, width = (max(sizes) + 4 for sizes in zip(*(strip.shape for strip in strips), strict=True))
    canvas = np.full((-(-len(strips) // across) * height, across * width), np.nan, dtype=np.float32)
    for number, strip in enumerate(strips):
        top, left = number // across * height + 2, number % across * width + 2
        canvas[top : top + strip.shape[0], left : left + strip.shape[1]] = strip
    grey = np.clip((canvas - low) / (high - low), 0, 1) * 255
    stream = io.BytesIO()
    imsave(stream, np.repeat(np.nan_to_num(grey, nan=40)[..., None], 3, axis=2).astype(np.uint8), format="png")
    return stream.getvalue()


@dataclass(frozen=True, eq=False)
class Column:
    """The three planes of one scan, and the colours they are drawn in."""

    title: str
    images: tuple[PlaneImage, PlaneImage, PlaneImage]
    colour_map: str
    low: float
    high: float


def _plane_figure(
    bands: Sequence[Sequence[Column]], *, colour_bar: bool = False, column_inches: float = _COLUMN_INCHES
) -> Figure:
    """Bands of columns of planes; all share one scale of millimetres."""
    from matplotlib.figure import Figure

    columns = [column for band in bands for column in band]
    sizes = np.array([[image.size for image in column.images] for column in columns])
    heights, width = sizes[..., 0].max(axis=0), sizes[..., 1].max()
    across = max(len(band) for band in bands)
    inches_wide = max(column_inches * across, 3.4) + (0.7 if colour_bar else 0)
    inch = (inches_wide - 0.3 - (0.7 if colour_bar else 0)) / (width * across)
    figure = Figure(figsize=(inches_wide, heights.sum() * inch * len(bands) + 0.35 * len(bands) + 0.3))
    figure.set_facecolor("black")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.03, hspace=0.01)
    axes = figure.subplots(3 * len(bands), across, squeeze=False, height_ratios=[*heights] * len(bands))
    artist = None
    for number, band in enumerate(bands):
        rows = axes[3 * number : 3 * number + 3]
        for place in range(across):
            for row in range(3):
                rows[row, place].set(xlim=(-width / 2, width / 2), ylim=(-heights[row] / 2, heights[row] / 2))
                rows[row, place].set(xticks=[], yticks=[], aspect="equal", facecolor="black")
                if place < len(band):
                    artist = draw_plane(rows[row, place], band[place], row)
                    if row == 0 and place == 0:
                        _draw_scale(rows[0, 0])
            if place < len(band):
                rows[0, place].set_title(band[place].title, color=_INK, fontsize=9, pad=4)
        for row, name in enumerate(PLANES):
            rows[row, 0].set_ylabel(name, color=_FAINT, fontsize=8)
    if colour_bar and artist is not None:
        bar = figure.colorbar(artist, ax=axes[:, -1], shrink=0.6)
        bar.ax.tick_params(colors=_INK, labelsize=7)
    figure.supxlabel(CONVENTION, color=_FAINT, fontsize=6.5)
    return figure


def draw_plane(axes: Axes, column: Column, row: int) -> AxesImage:
    """One plane, centred on the origin of `axes` in mm, with the patient directions at its edges."""
    from matplotlib.patheffects import withStroke

    image = column.images[row]
    height, width = (extent / 2 for extent in image.size)
    artist = axes.imshow(
        image.pixels,
        cmap=column.colour_map,
        vmin=column.low,
        vmax=column.high,
        extent=(-width, width, -height, height),
        interpolation="nearest",
        origin="upper",
    )
    for spine in axes.spines.values():
        spine.set_visible(False)
    places = (
        (image.left, -width, 0, "left", "center"),
        (image.right, width, 0, "right", "center"),
        (image.top, 0, height, "center", "top"),
        (image.bottom, 0, -height, "center", "bottom"),
    )
    for letter, x, y, horizontal, vertical in places:
        text = axes.text(x, y, letter, color=_LETTER, fontsize=7, ha=horizontal, va=vertical)
        text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
    return artist


def scale_length(extent: float) -> int:
    """Length in mm of the bar for a picture `extent` mm wide: round, and at most a third of it where that can be."""
    return next((length for length in _BARS if length <= extent / 3), _BARS[-1])


def _draw_scale(axes: Axes) -> None:
    """A bar of so many mm in the lower right corner of axes in mm."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    length = scale_length(right - left)
    x, y = right - 0.04 * (right - left), bottom + 0.05 * (top - bottom)
    axes.plot([x - length, x], [y, y], color=_INK, linewidth=1.5, solid_capstyle="butt")
    axes.text(x, y + 0.015 * (top - bottom), f"{length} mm", color=_INK, fontsize=6, ha="right", va="bottom")


def symmetric_limit(volumes: Sequence[Volume]) -> float:
    """The 99.5th percentile of the absolute values of all volumes."""
    low, high = common_window(volumes)
    return max(abs(low), abs(high))

"""Pictures of scans and curves, as PNG bytes.

Scans are drawn on black with a light rim of letters, voxels as they are (no interpolation), in true proportions. Curves
are drawn dark on white, so that a page in dark colours can invert them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
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

History = Mapping[str, Sequence[tuple[float, float]]]

_INK, _FAINT, _LETTER = "#e8e8e8", "#9a9a9a", "#f2c14e"
# Wong's colours, told apart by colour-blind readers (Nature Methods 8, 441, 2011).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
_DOTS_PER_INCH = 130
_COLUMN_INCHES = 2.1
_MONTAGE_PLANE_PIXELS = 96
_LEAST_MAGNITUDE = 0.05


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
            Column(f"{kind} {n + 1}", midplane_images(volume), "gray", *common_window([volume]))
            for n, volume in enumerate(volumes[:most])
        ]
        for kind, volumes in (("real", real), ("synthetic", synthetic))
    ]
    return png_of(_plane_figure(bands))


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


def curves(history: History, groups: Mapping[str, Sequence[str]]) -> bytes:
    """Training curves, one small chart for each group.

    A logarithmic scale is chosen where all values are positive and span more than a factor of one hundred. Long, noisy
    curves are drawn faintly, with their running mean on top. Values that are not finite leave gaps.

    Args:
        history: for each metric, its (step, value) pairs in order.
        groups: title of each chart and the metrics in it; metrics without values are left out, and so are charts
            without metrics.

    Returns:
        A PNG file.

    Raises:
        MedganError: no group has any values.
    """
    charts = {title: [name for name in names if history.get(name)] for title, names in groups.items()}
    charts = {title: names for title, names in charts.items() if names}
    if not charts:
        raise MedganError(f"none of the {len(history)} metrics has values to draw in any chart")
    across = min(3, len(charts))
    down = -(-len(charts) // across)
    figure, axes = _charts(down, across, 3.6, 2.5)
    for chart, (title, names) in zip(axes, charts.items(), strict=False):
        values = [np.array(history[name], dtype=np.float64).T for name in names]
        for (steps, heights), name, colour in zip(values, names, _cycled(len(names)), strict=True):
            _draw_curve(chart, steps, heights, name, colour)
        chart.set_title(title, fontsize=9)
        chart.set_yscale(scale_for(np.concatenate([heights for _, heights in values])))
        chart.set_xlabel("step", fontsize=8)
        chart.legend(fontsize=7, frameon=False)
    for chart in axes[len(charts) :]:
        chart.set_axis_off()
    return png_of(figure)


def scale_for(values: NDArray[np.float64]) -> str:
    """ "log" if all finite values are positive and span more than a factor of one hundred, else "linear"."""
    finite = values[np.isfinite(values)]
    wide = finite.size > 0 and finite.min() > 0 and finite.max() > 100 * finite.min()
    return "log" if wide else "linear"


def bars(values: Mapping[str, tuple[float, float, float]], *, label: str) -> bytes:
    """Horizontal bars with intervals.

    Args:
        values: for each bar, its value and the ends of its interval.
        label: of the value axis, with the unit.

    Returns:
        A PNG file.
    """
    figure, (chart,) = _charts(1, 1, 6.4, 0.7 + 0.4 * len(values))
    middle, low, high = np.array(list(values.values()), dtype=np.float64).T
    places = np.arange(len(values))
    chart.barh(places, middle, height=0.55, color=_cycled(len(values)), alpha=0.85)
    chart.hlines(places, low, high, color="#222222", linewidth=1.4)
    chart.set_yticks(places, list(values), fontsize=8)
    chart.invert_yaxis()
    chart.axvline(0, color="#222222", linewidth=0.8)
    chart.set_xlabel(label, fontsize=8)
    return png_of(figure)


def scatter(groups: Mapping[str, Sequence[float]], *, label: str, threshold: float | None = None) -> bytes:
    """One row of dots for each group, such as distances to the nearest training scan; a bar marks each median.

    Args:
        groups: name and values.
        label: of the value axis.
        threshold: drawn as a dashed line; values below it become crosses.

    Returns:
        A PNG file.
    """
    figure, (chart,) = _charts(1, 1, 6.4, 0.8 + 0.6 * len(groups))
    for row, (values, colour) in enumerate(zip(groups.values(), _cycled(len(groups)), strict=True)):
        places = np.asarray(values, dtype=np.float64)
        # A golden-ratio sequence spreads the dots evenly and the same way each time.
        heights = row + 0.5 * (np.arange(len(places)) * 0.618034 % 1 - 0.5)
        below = places < (-np.inf if threshold is None else threshold)
        chart.scatter(places[~below], heights[~below], s=16, color=colour, alpha=0.75, linewidths=0)
        chart.scatter(places[below], heights[below], s=34, color="#c1121f", marker="x", linewidths=1.6)
        if len(places):
            chart.vlines(np.median(places), row - 0.34, row + 0.34, color="#222222", linewidth=1.6)
    if threshold is not None:
        chart.axvline(threshold, color="#c1121f", linewidth=1, linestyle="--")
    chart.set_yticks(range(len(groups)), list(groups), fontsize=8)
    chart.set_ylim(len(groups) - 0.4, -0.6)
    chart.set_xlim(left=0)
    chart.set_xlabel(label, fontsize=8)
    return png_of(figure)


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


def symmetric_limit(volumes: Sequence[Volume]) -> float:
    """The 99.5th percentile of the absolute values of all volumes."""
    low, high = common_window(volumes)
    return max(abs(low), abs(high))


def _charts(down: int, across: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of empty charts in the house style, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * across, height * down), facecolor="white")
    figure.set_layout_engine("constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for chart in axes:
        chart.spines[["top", "right"]].set_visible(False)
        chart.grid(color="#dddddd", linewidth=0.6)
        chart.set_axisbelow(True)
        chart.tick_params(labelsize=7)
    return figure, axes


def _draw_curve(chart: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], name: str, colour: str) -> None:
    """One metric; with its running mean if there are many points."""
    values = np.where(np.isfinite(values), values, np.nan)
    width = len(values) // 40
    if width < 2 or np.isnan(values).any():
        marker = "o" if len(values) < 30 else None
        chart.plot(steps, values, color=colour, linewidth=1.3, label=name, marker=marker, markersize=3)
        return
    chart.plot(steps, values, color=colour, linewidth=0.7, alpha=0.3)
    mean = np.convolve(values, np.full(width, 1 / width), mode="valid")
    chart.plot(steps[width // 2 : width // 2 + len(mean)], mean, color=colour, linewidth=1.4, label=name)


def _cycled(count: int) -> list[str]:
    """Colours for `count` things."""
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def png_of(figure: Figure) -> bytes:
    """The figure as a PNG file, without the date and version that would make every file differ."""
    stream = io.BytesIO()
    figure.savefig(
        stream, format="png", dpi=_DOTS_PER_INCH, facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    return stream.getvalue()

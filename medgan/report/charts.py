"""Charts, as PNG bytes: drawn dark on white, so that a page in dark colours can invert them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Mapping[str, Sequence[tuple[float, float]]]

# Wong's colours, told apart by colour-blind readers (Nature Methods 8, 441, 2011).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
_DOTS_PER_INCH = 130


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


def lines(series: Mapping[str, Sequence[tuple[float, float]]], *, across: str, up: str) -> bytes:
    """Curves in one chart, the second one dashed, so that curves on top of each other are seen.

    Args:
        series: name and (x, y) pairs of each.
        across: label of the horizontal axis, with the unit.
        up: label of the vertical axis, with the unit.

    Returns:
        A PNG file.
    """
    figure, (chart,) = _charts(1, 1, 6.4, 2.8)
    for number, ((name, pairs), colour) in enumerate(zip(series.items(), _cycled(len(series)), strict=True)):
        x, y = np.array(pairs, dtype=np.float64).T
        chart.plot(x, y, color=colour, linewidth=1.6, linestyle="--" if number % 2 else "-", label=name)
    chart.set_xlabel(across, fontsize=8)
    chart.set_ylabel(up, fontsize=8)
    chart.legend(fontsize=8, frameon=False)
    return png_of(figure)


def paired_dots(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, names: tuple[str, str], label: str
) -> bytes:
    """Two sets of values for each group, as dots one row below the other, with a bar at each median.

    Args:
        groups: title of each small chart and its two sets.
        names: of the two sets.
        label: of the value axes, with the unit.

    Returns:
        A PNG file.
    """
    across = min(3, len(groups))
    down = -(-len(groups) // across)
    figure, axes = _charts(down, across, 6.4 if across == 1 else 3.4, 1.5)
    for chart, (title, pair) in zip(axes, groups.items(), strict=False):
        for row, (values, colour) in enumerate(zip(pair, _cycled(2), strict=True)):
            places = np.asarray(values, dtype=np.float64)
            heights = row + 0.5 * (np.arange(len(places)) * 0.618034 % 1 - 0.5)
            chart.scatter(places, heights, s=12, color=colour, alpha=0.75, linewidths=0)
            if len(places):
                chart.vlines(np.median(places), row - 0.34, row + 0.34, color="#222222", linewidth=1.6)
        chart.set_title(title, fontsize=9)
        chart.set_yticks((0, 1), names, fontsize=8)
        chart.set_ylim(1.6, -0.6)
        chart.set_xlabel(label, fontsize=8)
    for chart in axes[len(groups) :]:
        chart.set_axis_off()
    return png_of(figure)


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

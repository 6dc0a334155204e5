"""Contact sheets: many scans at a glance, a row for each direction in which something was changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgan.errors import MedganError
from medgan.report.charts import png_of
from medgan.report.figures import Column, draw_plane, symmetric_limit
from medgan.report.planes import CONVENTION, PLANES, common_window, midplane_images
from medgan.volume import Volume

_INK, _FAINT = "#e8e8e8", "#9a9a9a"
_CELL_INCHES = 1.7


@dataclass(frozen=True)
class SheetRow:
    """One row.

    Args:
        title: left of it.
        scans: titles above the columns, and scans of one grid; as many as in the other rows.
        difference: signed, drawn at the end of the row from blue through white to red, symmetric about zero; all rows
            share one scale.
    """

    title: str
    scans: Sequence[tuple[str, Volume]]
    difference: Volume


def contact_sheet(rows: Sequence[SheetRow]) -> bytes:
    """One plane of every scan, in one grey scale: in each row the mid-plane in which most differs.

    Returns:
        A PNG file.

    Raises:
        MedganError: there are no rows, or rows of different lengths.
    """
    from matplotlib.figure import Figure

    lengths = {len(row.scans) for row in rows}
    if len(lengths) != 1:
        raise MedganError(f"a contact sheet needs rows of one length, these have {sorted(lengths) or 'none'}")
    low, high = common_window([volume for row in rows for _, volume in row.scans])
    limit = max(symmetric_limit([row.difference for row in rows]), float(np.finfo(np.float32).tiny))
    planes = [_telling_plane(row.difference) for row in rows]
    across = lengths.pop() + 1
    sizes = [midplane_images(row.difference)[plane].size for row, plane in zip(rows, planes, strict=True)]
    height, width = (max(extents) for extents in zip(*sizes, strict=True))
    figure = Figure(figsize=(_CELL_INCHES * across + 1.1, _CELL_INCHES * height / width * len(rows) + 0.8))
    figure.set_facecolor("black")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.03, hspace=0.02)
    axes = figure.subplots(len(rows), across, squeeze=False)
    artist = None
    for number, (row, plane, places) in enumerate(zip(rows, planes, axes, strict=True)):
        columns = [Column(title, midplane_images(volume), "gray", low, high) for title, volume in row.scans]
        columns.append(Column("last − first", midplane_images(row.difference), "RdBu_r", -limit, limit))
        for place, column in zip(places, columns, strict=True):
            place.set(xlim=(-width / 2, width / 2), ylim=(-height / 2, height / 2), xticks=[], yticks=[])
            place.set(aspect="equal", facecolor="black")
            artist = draw_plane(place, column, plane)
            if number == 0:
                place.set_title(column.title, color=_INK, fontsize=9, pad=4)
        places[0].set_ylabel(f"{row.title}\n{PLANES[plane]}", color=_INK, fontsize=9)
    if artist is not None:
        bar = figure.colorbar(artist, ax=axes[:, -1], shrink=0.6)
        bar.ax.tick_params(colors=_INK, labelsize=7)
    figure.supxlabel(CONVENTION, color=_FAINT, fontsize=6.5)
    return png_of(figure)


def _telling_plane(difference: Volume) -> int:
    """The mid-plane, 0 to 2, with the largest mean square."""
    squares = [float(np.square(image.pixels).mean()) for image in midplane_images(difference)]
    return int(np.argmax(squares))

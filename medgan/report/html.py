"""Self-contained HTML reports from typed blocks of content.

A report is one file: styles and pictures are inside, nothing is loaded from anywhere, no script runs. All text is
escaped, so names of files or patients' series cannot become markup.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.errors import MedganError
from medgan.files import write_text

Cell = str | float | int | bool | None


@dataclass(frozen=True)
class Heading:
    """A section title; level 2 for sections, 3 below them."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """Plain text; blank lines separate paragraphs."""

    text: str


@dataclass(frozen=True)
class Warning:
    """Something the reader must not miss."""

    text: str


@dataclass(frozen=True)
class KeyFigure:
    """One number that sums something up.

    Args:
        label: what it is.
        value: the number, or a text such as "12 of 64".
        note: what to compare it with.
    """

    label: str
    value: Cell
    note: str = ""


@dataclass(frozen=True)
class KeyFigures:
    """The few numbers to see first, side by side."""

    figures: Sequence[KeyFigure]


@dataclass(frozen=True)
class Table:
    """A table; the first column names the rows.

    Args:
        columns: headings.
        rows: cells, as many as there are headings; numbers are aligned and shown with four significant digits.
        caption: what the table shows.
        highlighted: numbers of the rows to mark.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    highlighted: Sequence[int] = ()


@dataclass(frozen=True)
class Picture:
    """A picture.

    Args:
        png: the bytes of a PNG file.
        alternative: what it shows, for those who cannot see it.
        caption: below it.
        chart: whether it is a chart, dark on white, whose colours are inverted on dark pages (scans never are).
    """

    png: bytes
    alternative: str
    caption: str = ""
    chart: bool = False


@dataclass(frozen=True)
class Curves:
    """Training curves, drawn by `medgan.report.figures.curves` when the report is made.

    Args:
        history: for each metric, its (step, value) pairs.
        groups: title of each chart and the metrics in it.
        caption: below them.
    """

    history: Mapping[str, Sequence[tuple[float, float]]]
    groups: Mapping[str, Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Commands:
    """Command lines to copy, one per item."""

    lines: Sequence[str]
    caption: str = ""


Block = Heading | Text | Warning | KeyFigures | Table | Picture | Curves | Commands


@dataclass(frozen=True)
class _View:
    """A block as the template sees it: its kind, its fields, a place to link to, which table columns are numbers."""

    kind: str
    content: Any
    anchor: str
    numeric: Sequence[bool] = ()


def render_report(title: str, subtitle: str, blocks: Sequence[Block]) -> str:
    """The report as the text of one HTML file.

    Reports with four sections or more begin with a table of contents.

    Raises:
        MedganError: a table's row has another number of cells than the table has columns, a heading's level is not 2 or
            3, or a picture is not a PNG file.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from medgan import __version__

    environment = Environment(
        loader=PackageLoader("medgan.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shown=shown, data_uri=data_uri, paragraphs=_paragraphs)
    views = [_view(block, number) for number, block in enumerate(blocks)]
    return environment.get_template("report.html").render(
        title=title,
        subtitle=subtitle,
        views=views,
        sections=[view for view in views if view.kind == "Heading" and view.content.level == 2],
        style=Markup((Path(__file__).parent / "style.css").read_text(encoding="utf-8")),
        version=__version__,
    )


def write_report(path: str | Path, title: str, subtitle: str, blocks: Sequence[Block]) -> Path:
    """Write the report to `path`, whole or not at all; the path is returned."""
    write_text(path, render_report(title, subtitle, blocks))
    return Path(path)


def shown(value: Cell) -> str:
    """A cell as text: numbers with four significant digits, yes and no, a dash for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if isinstance(value, str):
        return value
    if value == 0:
        return "0"
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"


def data_uri(png: bytes) -> str:
    """A PNG file as an address that holds the picture itself."""
    return "data:image/png;base64," + b64encode(png).decode("ascii")


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _view(block: Block, number: int) -> _View:
    """The block checked, and curves drawn."""
    if isinstance(block, Heading) and block.level not in (2, 3):
        raise MedganError(f"the heading '{block.text}' has level {block.level}; a report has levels 2 and 3")
    if isinstance(block, Curves):
        from medgan.report.figures import curves

        names = ", ".join(block.groups)
        block = Picture(
            curves(block.history, block.groups), f"Curves over the steps: {names}", block.caption, chart=True
        )
    if isinstance(block, Picture) and not block.png.startswith(b"\x89PNG"):
        raise MedganError(f"the picture '{block.alternative}' is not a PNG file")
    numeric = _numeric_columns(block) if isinstance(block, Table) else ()
    return _View(type(block).__name__, block, f"section-{number}", numeric)


def _numeric_columns(table: Table) -> list[bool]:
    """Which columns hold nothing but numbers and gaps, after a check that the rows fit."""
    for row in table.rows:
        if len(row) != len(table.columns):
            raise MedganError(f"a table row has {len(row)} cells for {len(table.columns)} columns: {list(row)}")
    columns = [[cell for cell in column if cell is not None] for column in zip(*table.rows, strict=True)]
    return [
        bool(column) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in column)
        for column in columns
    ] or [False] * len(table.columns)

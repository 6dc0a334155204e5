"""What a report is made of: typed blocks of content, without a word of markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medgan.volume import Volume

Cell = str | float | int | bool | None

LEVELS = ("good", "caution", "bad", "unknown")
"""Levels of a verdict, from best to worst; the last: there is too little to judge by."""


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
class VerdictCard:
    """One judgement.

    Args:
        topic: what is judged, such as "faithful".
        level: one of `LEVELS`.
        sentence: why, in words.
    """

    topic: str
    level: str
    sentence: str


@dataclass(frozen=True)
class Verdicts:
    """The judgements to see first, each with a colour, a sign and a word."""

    verdicts: Sequence[VerdictCard]


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
class Span:
    """A number and the interval around it; the ends are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measure:
    """A figure beside its floor: what the same calculation gives between real scans.

    Args:
        name: what is measured.
        meaning: what it is in a sentence, and which way is better.
        value: of the synthetic scans; None where it could not be measured.
        floor: between real scans; None where there is none.
        ratio: value over floor, as the one who measured defines it.
    """

    name: str
    meaning: str
    value: Span | None
    floor: Span | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Measures:
    """A table of figures with their floors, each drawn on a scale of its own."""

    rows: Sequence[Measure]
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first column names the rows.

    Args:
        columns: headings.
        rows: cells, as many as there are headings; numbers are aligned and shown with four significant digits.
        caption: what the table shows.
        highlighted: numbers of the rows to mark.
        folded: whether it is closed at first, under its caption.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    highlighted: Sequence[int] = ()
    folded: bool = False


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
class Viewer:
    """Scans to leaf through: three planes with a cross-hair, moved by mouse, finger or keyboard.

    The voxels travel inside the page, as 8 bits; of large scans the means of blocks of voxels, so that the page stays
    small.

    Args:
        scans: title and scan, of any grids; the first channel is shown, the first scan at the beginning.
        caption: below it.
        window: the values drawn black and white, one for all scans; percentiles of each scan by default.
    """

    scans: Sequence[tuple[str, Volume]]
    caption: str = ""
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class Curves:
    """Training curves, drawn by `medgan.report.charts.curves` when the report is made.

    Args:
        history: for each metric, its (step, value) pairs.
        groups: title of each chart and the metrics in it.
        caption: below them.
    """

    history: Mapping[str, Sequence[tuple[float, float]]]
    groups: Mapping[str, Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Excerpt:
    """Text to be copied somewhere else, such as the methods of a paper, with a button that does so.

    Args:
        text: blank lines separate paragraphs.
        references: what it cites, in order, numbered from 1.
        caption: above it.
    """

    text: str
    references: Sequence[str] = ()
    caption: str = ""


@dataclass(frozen=True)
class Commands:
    """Command lines to copy, one per item."""

    lines: Sequence[str]
    caption: str = ""


Block = (
    Heading | Text | Warning | Verdicts | KeyFigures | Measures | Table | Picture | Viewer | Curves | Excerpt | Commands
)

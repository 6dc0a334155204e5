"""Self-contained HTML reports from typed blocks of content.

A report is one file: styles, pictures and voxels are inside, nothing is loaded from anywhere, and a content security
policy in the page makes browsers refuse to. The one script is ours (`page.js`), named by its hash; pages that have
nothing to leaf through or to copy have none. All text is escaped, so names of files or patients' series cannot become
markup.
"""

from __future__ import annotations

import hashlib
import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.errors import MedganError
from medgan.files import write_text
from medgan.report.blocks import (
    LEVELS,
    Block,
    Cell,
    Commands,
    Curves,
    Excerpt,
    Heading,
    KeyFigure,
    KeyFigures,
    Measure,
    Measures,
    Picture,
    Span,
    Table,
    Text,
    VerdictCard,
    Verdicts,
    Viewer,
    Warning,
)

__all__ = [
    "Block",
    "Cell",
    "Commands",
    "Curves",
    "Excerpt",
    "Heading",
    "KeyFigure",
    "KeyFigures",
    "Measure",
    "Measures",
    "Picture",
    "Span",
    "Table",
    "Text",
    "VerdictCard",
    "Verdicts",
    "Viewer",
    "Warning",
    "data_uri",
    "render_report",
    "shown",
    "write_report",
]

_WORDS = {"good": "Good", "caution": "Caution", "bad": "Bad", "unknown": "Unknown"}
_SIGNS = {"good": "✓", "caution": "!", "bad": "✕", "unknown": "?"}


@dataclass(frozen=True)
class _View:
    """A block as the template sees it: its kind, its fields, a place to link to, and what was derived from it."""

    kind: str
    content: Any
    anchor: str
    derived: Any = None


def render_report(title: str, subtitle: str, blocks: Sequence[Block]) -> str:
    """The report as the text of one HTML file.

    Reports with four sections or more begin with a table of contents.

    Raises:
        MedganError: a table's row has another number of cells than the table has columns, a heading's level is not 2 or
            3, a verdict's level is none of `LEVELS`, a viewer has no scans, or a picture is not a PNG file.
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
    environment.filters.update(shown=shown, data_uri=data_uri, paragraphs=_paragraphs, ruler=_ruler)
    views = [_view(block, number) for number, block in enumerate(blocks)]
    script = _asset("page.js") if any(isinstance(block, Viewer | Excerpt) for block in blocks) else ""
    return environment.get_template("report.html").render(
        title=title,
        subtitle=subtitle,
        views=views,
        sections=[view for view in views if view.kind == "Heading" and view.content.level == 2],
        style=Markup(_asset("style.css")),
        script=Markup(script),
        policy=_policy(script),
        words=_WORDS,
        signs=_SIGNS,
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


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """What the page may do: show its own pictures and styles, run its own script, and nothing else."""
    rules = [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if script:
        # The template puts the text between the tags as it is: the hash is that of the very same bytes.
        digest = b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
        rules.append(f"script-src 'sha256-{digest}'")
    return "; ".join(rules)


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _ruler(measure: Measure) -> dict[str, Any] | None:
    """Where value and floor lie on a scale from 0 (or the lowest end) to the highest end, in percent of its length."""
    spans = [span for span in (measure.value, measure.floor) if span is not None]
    ends = [
        end for span in spans for end in (span.value, span.low, span.high) if end is not None and math.isfinite(end)
    ]
    if measure.value is None or not math.isfinite(measure.value.value) or not ends:
        return None
    low, high = min(0.0, *ends), max(ends)
    length = (high - low) or 1.0

    def place(end: float | None) -> float | None:
        return None if end is None or not math.isfinite(end) else round(3 + 94 * (end - low) / length, 2)

    value, floor = measure.value, measure.floor or Span(float("nan"))
    return {
        "value": place(value.value),
        "interval": (place(value.low), place(value.high)),
        "floor": place(floor.value),
        "band": (place(floor.low), place(floor.high)),
    }


def _view(block: Block, number: int) -> _View:
    """The block checked, curves drawn and scans packed."""
    if isinstance(block, Heading) and block.level not in (2, 3):
        raise MedganError(f"the heading '{block.text}' has level {block.level}; a report has levels 2 and 3")
    if isinstance(block, Curves):
        from medgan.report.charts import curves

        names = ", ".join(block.groups)
        block = Picture(
            curves(block.history, block.groups), f"Curves over the steps: {names}", block.caption, chart=True
        )
    if isinstance(block, Picture) and not block.png.startswith(b"\x89PNG"):
        raise MedganError(f"the picture '{block.alternative}' is not a PNG file")
    if isinstance(block, Verdicts):
        for verdict in block.verdicts:
            if verdict.level not in LEVELS:
                raise MedganError(f"the verdict '{verdict.topic}' has the level '{verdict.level}', not one of {LEVELS}")
    return _View(type(block).__name__, block, f"section-{number}", _derived(block))


def _derived(block: Block) -> Any:
    """What the template needs beside the block's own fields."""
    if isinstance(block, Table):
        return _numeric_columns(block)
    if isinstance(block, Picture):
        return _pixels(block.png)
    if isinstance(block, Viewer):
        from medgan.report.packing import packed_scans

        if not block.scans:
            raise MedganError("a viewer has no scans to show", hint="Give at least one.")
        return packed_scans(block.scans, window=block.window)
    return None


def _pixels(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG file (ISO/IEC 15948, 11.2.2)."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


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

"""The page about restored scans and their references; scans are numbered, because their names may be people's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgan.report.blocks import Block, Cell, KeyFigure
    from medgan.volume import Volume

Row = Mapping[str, Any]

_COLUMNS = {
    "psnr_db": "PSNR, foreground (dB)",
    "psnr_whole_db": "PSNR, whole (dB)",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "nrmse": "NRMSE",
    "hfen": "HFEN",
    "consistency_relative": "Data consistency",
    "lesion_contrast_kept": "Lesion contrast kept",
    "lesion_volume_kept": "Lesion volume kept",
}
_MEANINGS = (
    ("PSNR", "peak signal-to-noise ratio, over the range of the reference; higher is better"),
    ("SSIM, MS-SSIM", "structural similarity, at one and at several scales; 1 is best"),
    ("NRMSE", "norm of the error over that of the reference; 0 is best"),
    ("HFEN", "the same of edges and fine detail; 0 is best"),
    ("Spectral ratio", "energy of fine detail over the reference's: 1 is right, less is blur, more noise or invention"),
    ("Resolved", "what the scan resolves in mm, estimated against the reference"),
    ("Shift", "of the content against the reference, in voxels; 0 is right"),
    ("Data consistency", "error of the scan acquired again, over the range of what was measured; below its noise"),
    ("Lesions kept", "contrast and volume of lesions, restored over true; 1 is right, 0 is erased"),
)
_AGAIN = "medgan evaluate restoration --reference REFERENCE --restored RESTORED --out CARD"


def write_restoration_report(path: Path, rows: Sequence[Row], reference: Volume, restored: Volume) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        rows: figures of each pair.
        reference: of one pair, to be shown.
        restored: of the same.
    """
    from medgan.report.blocks import Commands, Heading, KeyFigures, Picture, Table, Text, Viewer
    from medgan.report.figures import midplanes
    from medgan.report.html import write_report
    from medgan.report.planes import common_window
    from medgan.workflows.methods import methods_of_restoration
    from medgan.workflows.report_provenance import provenance_blocks

    error = reference.with_data(restored.as_float() - reference.as_float())
    options = "".join(
        f" --{name} {name.upper()}"
        for name, key in (("acquired", "consistency_relative"), ("lesions", "lesion_contrast_kept"))
        if key in rows[0]
    )
    blocks: list[Block] = [
        KeyFigures(_key_figures(rows)),
        Heading("Scans"),
        Picture(
            midplanes(
                [("Reference", reference), ("Restored", restored)], differences=[("Restored − reference", error)]
            ),
            "Mid-planes of reference, restored scan and their difference",
            "The first pair; the difference in the scans' units.",
        ),
        Viewer(
            [("Restored", restored), ("Reference", reference)],
            "Change the scan and the cross-hair stays where it is.",
            window=common_window([reference]),
        ),
        Heading("Figures"),
        *_tables(rows),
        Table(["Figure", "Meaning"], [list(meaning) for meaning in _MEANINGS], "What the figures mean", folded=True),
        *methods_of_restoration(rows),
        *provenance_blocks(),
        Heading("Again"),
        Commands([_AGAIN + options], "Capitals stand for your files or folders, which reports do not name."),
    ]
    if len(rows) == 1:
        blocks.insert(1, Text("One pair says little of a method: give folders of equal names to compare many."))
    write_report(path, "Restored scans", f"{len(rows)} against their references", blocks)


def _key_figures(rows: Sequence[Row]) -> list[KeyFigure]:
    from medgan.report.blocks import KeyFigure

    shift = max(abs(value) for row in rows for value in row["shift"])
    keys = [
        KeyFigure("PSNR, foreground", _mean(rows, "psnr_db"), f"dB, mean of {len(rows)}"),
        KeyFigure("SSIM", _mean(rows, "ssim"), "1 is best"),
        KeyFigure("Largest shift", f"{shift:.3f} voxel", "0 is right"),
    ]
    if any("lesion_contrast_kept" in row for row in rows):
        keys.append(KeyFigure("Lesion contrast kept", _mean(rows, "lesion_contrast_kept"), "1 is right, 0 is erased"))
    return keys


def _tables(rows: Sequence[Row]) -> list[Block]:
    """One row for each scan; what is said of each axis in a table of its own."""
    from medgan.report.blocks import Table

    keys = [key for key in _COLUMNS if any(row.get(key) is not None for row in rows)]
    table: list[list[Cell]] = [[f"Scan {n}", *(row.get(key) for key in keys)] for n, row in enumerate(rows)]
    if len(rows) > 1:
        table.append(["Mean", *(_mean(rows, key) for key in keys)])
    each = ("spectral_ratio", "effective_resolution_mm", "shift")
    axes: list[list[Cell]] = [
        [f"Scan {n}", *(" / ".join(_number(value) for value in row[key]) for key in each)] for n, row in enumerate(rows)
    ]
    return [
        Table(["", *(_COLUMNS[key] for key in keys)], table, "Scans in the order of their names."),
        Table(["", "Spectral ratio", "Resolved (mm)", "Shift (voxels)"], axes, "Along the three array axes."),
    ]


def _mean(rows: Sequence[Row], key: str) -> float | None:
    """Over the rows that have it."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return sum(values) / len(values) if values else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) >= 1e-3 else "0"

"""The tables that the super-resolution benchmark prints."""

from __future__ import annotations

from statistics import median
from typing import Any

from sr_methods import CUBIC, LINEAR_FILTER, PHYSICS

Row = dict[str, Any]

BASELINES = {"cubic": CUBIC, "filter": LINEAR_FILTER, "physics": PHYSICS}
_COLUMNS = (
    ("SSIM", "ssim", "{:.4f}", 8),
    ("HFEN", "hfen", "{:.3f}", 7),
    ("spectral", "spectral_ratio", "{:.2f}", 10),
    ("shift", "shift", "{:.3f}", 7),
    ("FWHM mm", "resolution_mm", "{:.2f}", 9),
    ("consist.", "consistency", "{:.5f}", 10),
    ("lesions", "lesion_contrast", "{:.2f}", 9),
    ("volume", "lesion_volume", "{:.2f}", 8),
)


def gains(row: Row, beside: list[Row]) -> dict[str, float | None]:
    """Decibels in the mask over each baseline on the same scan."""
    found = {other["method"]: other["psnr_db"] for other in beside if other["scan"] == row["scan"]}
    return {short: row["psnr_db"] - found[name] if name in found else None for short, name in BASELINES.items()}


def heading() -> str:
    """The line above every table."""
    parts = [f"{'method':<24}{'PSNR':>7}{'whole':>7}", *(f"{'to ' + name:>11}" for name in BASELINES)]
    parts += [f"{title:>{width}}" for title, _, _, width in _COLUMNS]
    return "".join([*parts, f"{'erased':>8}{'invented':>10}{'seconds':>9}{'MB':>7}"])


def line(row: Row, over: dict[str, float | None]) -> str:
    """One method on one scan, or its medians."""
    parts = [f"{row['method']:<24}{row['psnr_db']:7.2f}{row['psnr_whole_db']:7.2f}"]
    parts += [f"{'-' if value is None else format(value, '+.2f'):>11}" for value in over.values()]
    for _, name, style, width in _COLUMNS:
        value = row[name]
        parts.append(f"{'-' if value is None else style.format(value):>{width}}")
    planted = row["planted"]
    parts.append(f"{counted(planted, 'erased', 'lesions'):>8}{counted(planted, 'invented', 'controls'):>10}")
    parts.append(f"{row['seconds']:9.2f}{row['memory_mb']:7.0f}")
    return "".join(parts)


def counted(planted: dict[str, Any] | None, what: str, of: str) -> str:
    """ "3/30", or a dash."""
    return "-" if planted is None else f"{planted[what]}/{planted[of]}"


def median_gains(method: str, rows: list[Row]) -> dict[str, float | None]:
    """The median over scans of a method's gains."""
    each = [gains(row, rows) for row in rows if row["method"] == method]
    return {
        name: median(values) if (values := [one[name] for one in each if one[name] is not None]) else None
        for name in BASELINES
    }


def verdicts(rows: list[Row], names: list[str]) -> list[str]:
    """For each of medgan's learned methods: gains over the baselines, and scans that fall below the physics floor."""
    lines = []
    for name in names:
        mine = [row for row in rows if row["method"] == name]
        if not mine:
            continue
        over = {baseline: value for baseline, value in median_gains(name, rows).items() if value is not None}
        below = [row["scan"] for row in mine if (gains(row, rows)["physics"] or 0.0) <= 0]
        floor = f"NOT above the physics floor: {', '.join(below)}" if below else "every scan above the physics floor"
        lines.append(
            f"{name}: "
            + ", ".join(f"{value:+.2f} dB over {BASELINES[baseline]}" for baseline, value in over.items())
            + f"; {floor}"
            + f"; largest shift {max(row['shift'] for row in mine):.3f} voxel"
            + f"; spectral ratio {median(row['spectral_ratio'] for row in mine):.2f}"
        )
    return lines

"""Runs: the trainings that were tracked, newest first, with the metric that each is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from medgan.tracking import RunSummary

_COLOURS = {"FINISHED": "green", "RUNNING": "cyan", "FAILED": "red", "KILLED": "yellow"}


def runs(store: str | Path | None = None, limit: int = 20) -> list[RunSummary]:
    """The tracked runs, newest first.

    Args:
        store: a folder with `mlflow.db`, that file, or a tracking URI; or None for MLFLOW_TRACKING_URI, else
            `runs/mlflow.db`, else `mlflow.db`.
        limit: most runs to list.

    Raises:
        MedganError: there is no store, or it cannot be read.
    """
    from medgan.tracking import list_runs

    return list_runs(store, limit)


def print_runs(summaries: Sequence[RunSummary], console: Console) -> None:
    """Print runs as a table of two lines each, which fits 80 columns with the whole run id."""
    from rich.table import Table
    from rich.text import Text

    if not summaries:
        console.print("No tracked runs yet; `medgan train` makes some.", markup=False, highlight=False)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("run", min_width=32, overflow="fold")
    for column in ("experiment", "started", "key metric"):
        table.add_column(column, no_wrap=column == "started", overflow="fold")
    for run in summaries:
        table.add_row(
            Text.assemble(run.name, "\n", (run.run_id, "dim")),
            Text.assemble(run.experiment, "\n", (run.status, _COLOURS.get(run.status, ""))),
            Text(f"{run.started.astimezone():%Y-%m-%d %H:%M}\n{_duration(run.duration)}"),
            Text(_metric(run)),
        )
    console.print(table)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _metric(run: RunSummary) -> str:
    if run.key_metric is None:
        return ""
    return f"{run.key_metric}\n{run.value:.4g}" if run.value is not None else f"{run.key_metric}\n-"

"""How a verb answers: exit codes, progress, failures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from medgan.reporter import ConsoleReporter

DONE, SOME_FAILED, BAD_INPUT = 0, 1, 2
# A shell reports a command that a signal ended as 128 plus the signal's number.
SIGNAL_EXIT = {"SIGINT": 130, "SIGTERM": 143}


def console() -> ConsoleReporter:
    """Progress on the terminal."""
    from medgan.reporter import ConsoleReporter

    return ConsoleReporter()


def line(row: dict[str, Any]) -> str:
    """A row of figures in one line."""
    return "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{value}" for key, value in row.items())


def print_json(content: Any) -> None:
    """Indented JSON on standard output."""
    typer.echo(json.dumps(content, indent=2))


def exit_with_failures(failures: Any, *, done: int) -> None:
    """List what failed, if anything did, and leave: with 1 if something was done besides, else with 2."""
    for path, reason in failures:
        typer.echo(f"failed: {reason if str(path) in reason else f'{path}: {reason}'}", err=True)
    if failures:
        raise typer.Exit(SOME_FAILED if done else BAD_INPUT)

"""What a workflow says while it runs: a bar on a terminal, a line per tick elsewhere, nothing for a caller who
wants silence.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class Reporter:
    """Says nothing; the default of every workflow called from Python."""

    def say(self, text: str) -> None:
        """One line of news."""

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` parts of the work called `label` are done; `note` holds current figures."""


class ConsoleReporter(Reporter):
    """Speaks on the console: live bars on a terminal, plain lines in a log file.

    Args:
        console: where to; standard error when None, so that results on standard output stay clean.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self.console = console or Console(stderr=True)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line = 0.0

    def __enter__(self) -> ConsoleReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def say(self, text: str) -> None:
        """One line; it appears above a running bar."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        """Move the bar called `label`, or print a line at most every two seconds where there is no terminal."""
        if self.console.is_terminal:
            self._move_bar(label, done, total, note)
            return
        now = time.monotonic()
        if done >= total or now - self._last_line > 2:
            self._last_line = now
            self.say(f"{label}: {done}/{total} {note}".rstrip())
            sys.stderr.flush()

    def _move_bar(self, label: str, done: int, total: int, note: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
            self._bars.start()
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=total, note=note)
        self._bars.update(self._tasks[label], completed=done, total=total, note=note)
        if done >= total:
            self._tasks.pop(label)
        if not self._tasks:
            self._close()

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

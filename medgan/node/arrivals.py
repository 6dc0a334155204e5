"""When a series is complete. DICOM's C-STORE has no word for it, so it is told from associations and silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field


@dataclass
class _Arrival:
    """One series on its way in: when its last instance came, and what became of the associations that brought it."""

    last: float
    open: set[Hashable] = field(default_factory=set)
    broken: set[Hashable] = field(default_factory=set)
    lacking: set[Hashable] = field(default_factory=set)


class Arrivals:
    """The series that are being received. Safe to use from many threads.

    A series is complete when every association that brought instances of it was released and none has come for
    `settle` seconds; or, while one is open and after one was broken off, when none has come for `quiet` seconds. If an
    instance had to be refused and no later association made that good, it is over after as long, but not whole.

    Args:
        settle: seconds.
        quiet: seconds.
        clock: monotonic seconds.
    """

    def __init__(self, *, settle: float, quiet: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._settle, self._quiet, self._clock = settle, quiet, clock
        self._series: dict[str, _Arrival] = {}
        self._lock = threading.Lock()

    def came(self, series: str, association: Hashable) -> None:
        """An instance of the series has come by this association."""
        with self._lock:
            arrival = self._series.setdefault(series, _Arrival(self._clock()))
            arrival.last = self._clock()
            arrival.open.add(association)

    def refused(self, series: str, association: Hashable) -> None:
        """An instance of the series could not be taken; its sender knows, and will send again."""
        with self._lock:
            if series in self._series:
                self._series[series].lacking.add(association)

    def ended(self, association: Hashable, *, released: bool) -> None:
        """The association was released, or broken off. Of both words about one association, released counts."""
        with self._lock:
            for arrival in self._series.values():
                if association not in arrival.open | arrival.broken:
                    continue
                arrival.open.discard(association)
                if released and association not in arrival.lacking:
                    # What an earlier association left undone, this one is taken to have made good.
                    arrival.broken.clear()
                    arrival.lacking.clear()
                    arrival.last = self._clock()
                else:
                    arrival.broken.add(association)

    def found(self, series: str) -> None:
        """Instances of the series lie on disk; whoever sent them, it was before the node started."""
        with self._lock:
            self._series.setdefault(series, _Arrival(self._clock(), broken={"before the start"}))

    def take_complete(self) -> dict[str, bool]:
        """The series that are complete now, and whether they are whole; they begin anew if more of them comes."""
        with self._lock:
            now = self._clock()
            complete = [name for name, arrival in self._series.items() if now - arrival.last >= self._wait(arrival)]
            return {name: not self._series.pop(name).lacking for name in complete}

    def _wait(self, arrival: _Arrival) -> float:
        return self._quiet if arrival.open or arrival.broken else min(self._settle, self._quiet)

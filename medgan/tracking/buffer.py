"""Metrics on their way to a slow store: collected at once, delivered in batches from one background thread."""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

BATCH = 1000
"""Most points in one delivery, the limit of MLflow's `log_batch`."""

_BACKLOG_LIMIT = 200_000
_LONGEST_PAUSE = 60.0


class TrackingWarning(UserWarning):
    """The tracking store refused or did not answer; training goes on."""


class DeliveryError(Exception):
    """A delivery failed and may succeed later."""


class Point(NamedTuple):
    """One metric at one step.

    Args:
        key: the metric's name.
        value: its value, which may be infinite or not a number.
        timestamp: milliseconds since 1970, when it was measured.
        step: the training step.
    """

    key: str
    value: float
    timestamp: int
    step: int


class MetricBuffer:
    """Takes metrics in microseconds and delivers them in batches from a background thread.

    A failed delivery is tried again, after pauses that grow up to a minute; the first failure of an outage and its end
    are said as a `TrackingWarning`. Nothing is lost: what a long outage piles up, and what is undelivered at the end,
    goes to `spill`.

    Args:
        deliver: sends at most `BATCH` points, oldest first; raises DeliveryError where trying again makes sense.
        spill: keeps points that could not be delivered.
        interval: seconds between deliveries.
    """

    def __init__(
        self,
        deliver: Callable[[Sequence[Point]], None],
        spill: Callable[[Sequence[Point]], None],
        *,
        interval: float = 5.0,
    ) -> None:
        self._deliver = deliver
        self._spill = spill
        self._interval = interval
        self._incoming: deque[tuple[Mapping[str, float], int, int]] = deque()
        self._backlog: deque[Point] = deque()
        self._delivering = threading.Lock()
        self._closing = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._work, name="medgan-tracking", daemon=True)
        self._thread.start()

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Take metrics of one step; the values are copied."""
        # Appending to a deque is atomic, so the training thread never waits for a lock.
        self._incoming.append(({key: float(value) for key, value in values.items()}, time.time_ns() // 1_000_000, step))

    def flush(self) -> bool:
        """Deliver everything now; whether it arrived."""
        with self._delivering:
            return self._drain()

    def close(self) -> None:
        """Deliver the rest, spill what does not arrive and stop the thread. Closing twice does nothing more."""
        self._closing.set()
        self._thread.join()
        with self._delivering:
            if not self._drain():
                self._give_up()

    def _work(self) -> None:
        while not self._closing.wait(min(self._interval * 2**self._failures, _LONGEST_PAUSE)):
            with self._delivering:
                if not self._drain() and len(self._backlog) > _BACKLOG_LIMIT:
                    self._give_up()

    def _drain(self) -> bool:
        while self._incoming:
            values, timestamp, step = self._incoming.popleft()
            self._backlog.extend(Point(key, value, timestamp, step) for key, value in values.items())
        while self._backlog:
            batch = [self._backlog[index] for index in range(min(BATCH, len(self._backlog)))]
            try:
                self._deliver(batch)
            except DeliveryError as error:
                self._report_failure(error)
                return False
            for _ in batch:
                self._backlog.popleft()
            if self._failures:
                self._failures = 0
                warnings.warn("the tracking store answers again", TrackingWarning, stacklevel=2)
        return True

    def _report_failure(self, error: DeliveryError) -> None:
        if not self._failures:
            warnings.warn(f"metrics wait for the tracking store: {error}", TrackingWarning, stacklevel=2)
        self._failures = min(self._failures + 1, 10)

    def _give_up(self) -> None:
        self._spill(list(self._backlog))
        self._backlog.clear()

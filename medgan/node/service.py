"""The node at work: a receiver, a thread that derives, a thread that sends."""

from __future__ import annotations

import errno
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from medgan.errors import MedganError
from medgan.files import atomic_path
from medgan.node.arrivals import Arrivals
from medgan.node.queue import DERIVED, INSTANCES, RESULT, Entry, SeriesQueue
from medgan.node.receiver import Receiver
from medgan.node.sender import DeliveryError, deliver
from medgan.node.settings import NodeSettings

# How often the node looks whether a series is complete or due, in seconds.
_POLL_SECONDS = 0.2
# A series during which the process died so often is taken to be the cause.
_MOST_ATTEMPTS = 5
# A destination that has so often refused a result will not have it.
_MOST_REFUSALS = 5
# How long a node that is to stop waits for a step that cannot be broken off; what is left is done at the next start.
_GRACE_SECONDS = 10.0
_DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
_PARTIAL = (
    "The series came in parts: it was derived before, and {absent} of the instances it had then did not come again "
    "with the {new} new ones. Send the whole series again, in one association."
)
_LACKING = "Instances of this series could not be taken, and were not sent again. What is sent now joins those here."


class StoppedError(Exception):
    """Deriving was broken off because the node is to stop."""


@dataclass(frozen=True)
class Made:
    """What became of a series.

    Args:
        refusals: why parts of it were refused, one sentence each, for the eyes of those who may see the series.
        warnings: what was found wrong with the results, one sentence each; they go into the log and the record, so
            nothing of a patient may be in them.
    """

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Derive(Protocol):
    """What the node does to a series."""

    def __call__(self, instances: Path, target: Path, should_stop: Callable[[], bool]) -> Made:
        """Write what is made of the DICOM files in the folder `instances` into the folder `target`.

        The same instances must give the same SOPInstanceUIDs, because a series may be derived again after a crash.

        Raises:
            MedganError: nothing could be made of them.
            StoppedError: `should_stop` said so.
        """


@dataclass
class _Waits:
    """When what failed is tried again: after a wait that doubles with each failure."""

    first: float
    longest: float
    failures: dict[str, int] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)

    def is_due(self, name: str) -> bool:
        return time.monotonic() >= self.due.get(name, 0.0)

    def failed(self, name: str) -> float:
        """Note a failure; the seconds until the next attempt."""
        self.failures[name] = self.failures.get(name, 0) + 1
        wait = min(self.longest, self.first * 2.0 ** (self.failures[name] - 1))
        self.due[name] = time.monotonic() + wait
        return wait

    def succeeded(self, name: str) -> None:
        self.failures.pop(name, None)
        self.due.pop(name, None)


class Node:
    """Receives series, derives them, and sends what was derived to the destination.

    Args:
        settings: addresses and limits.
        derive: what is done to a series; it runs in a thread of its own, one series at a time.
        say: takes lines of news, from several threads. Series are called by a hash; nothing of a patient is in them.
    """

    def __init__(self, settings: NodeSettings, derive: Derive, say: Callable[[str], None]) -> None:
        self._settings, self._derive, self._say = settings, derive, say
        self._stop = threading.Event()
        self._fault: BaseException | None = None
        self._destination_waits = _Waits(*settings.retry_seconds)
        self._entry_waits = _Waits(*settings.retry_seconds)
        self._refusals: dict[str, int] = {}

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Work until `should_stop` says so.

        A series that is being derived or sent then is left to the next start.

        Raises:
            MedganError: the storage or the address is taken.
        """
        settings = self._settings
        queue = SeriesQueue(settings.storage, max_series=settings.max_queue, min_free_bytes=settings.min_free_bytes)
        arrivals = Arrivals(settle=settings.settle_seconds, quiet=settings.quiet_seconds)
        receiver = Receiver(queue, arrivals, settings, self._say)
        workers = [
            threading.Thread(target=self._guarded, args=(work, queue), daemon=True)
            for work in (self._derive_one, self._send_one)
        ]
        try:
            host, port = receiver.start()
            self._announce(host, port, queue)
            for worker in workers:
                worker.start()
            while not (should_stop() or self._stop.is_set()):
                self._collect(queue, arrivals)
                self._stop.wait(_POLL_SECONDS)
        finally:
            self._stop.set()
            receiver.stop()
            for worker in workers:
                if worker.ident is not None:
                    worker.join(_GRACE_SECONDS)
            queue.close()
        if self._fault is not None:
            raise self._fault
        self._say("stopped; what was not finished is taken up at the next start")

    def _announce(self, host: str, port: int, queue: SeriesQueue) -> None:
        settings, peer = self._settings, self._settings.destination
        self._say(
            f"listening on {host}:{port} as {settings.ae_title}, sending to {peer.ae_title} at {peer.host}:{peer.port}"
        )
        if not settings.is_loopback:
            self._say(
                f"warning: {host} can be reached from other machines, and what is sent is neither encrypted nor "
                "authenticated (an AE title is no password); let only the senders through your firewall"
            )
        left = len(queue.incoming()) + sum(len(queue.waiting(state)) for state in ("complete", "derived"))
        if left:
            self._say(f"{left} series are left from the last time")

    def _collect(self, queue: SeriesQueue, arrivals: Arrivals) -> None:
        """Move the series that are complete on."""
        for series in queue.incoming():
            arrivals.found(series)
        for series, is_whole in arrivals.take_complete().items():
            entry = queue.complete(series, derivable=is_whole)
            if entry is None:
                continue
            self._say(f"series {series}: {'complete' if is_whole else 'incomplete'}, {len(entry.instances)} instances")
            if not is_whole:
                self._refuse(queue, entry, _LACKING)

    def _guarded(self, work: Callable[[SeriesQueue], bool], queue: SeriesQueue) -> None:
        """Work on until the node stops; a defect stops the node, because half a node would only look alive."""
        waits = _Waits(*self._settings.retry_seconds)
        try:
            while not self._stop.is_set():
                if not (waits.is_due("disk") and self._survived(work, queue, waits)):
                    self._stop.wait(_POLL_SECONDS)
        except BaseException as fault:  # noqa: BLE001 - handed to `run`, which raises it
            self._fault = fault
            self._stop.set()

    def _survived(self, work: Callable[[SeriesQueue], bool], queue: SeriesQueue, waits: _Waits) -> bool:
        """Do one piece of work, if there is one; a disk that is full or failing is waited for."""
        try:
            worked = work(queue)
        except (MedganError, OSError) as error:
            if not _is_disk_trouble(error):
                raise
            self._say(f"the disk is full or failing, tried again in {waits.failed('disk'):.0f} s")
            return False
        if worked:
            waits.succeeded("disk")
        return worked

    def _derive_one(self, queue: SeriesQueue) -> bool:
        """Derive the next complete series; whether there was one."""
        entry = queue.take()
        if entry is None:
            return False
        try:
            self._decide(queue, entry)
        except (StoppedError, MedganError, OSError) as error:
            queue.put_back(entry)
            if not isinstance(error, StoppedError):
                raise
        return True

    def _decide(self, queue: SeriesQueue, entry: Entry) -> None:
        """Derive a series, unless it should not be."""
        new, absent = queue.unseen(entry)
        if entry.attempts > _MOST_ATTEMPTS:
            self._refuse(queue, entry, f"The node died {_MOST_ATTEMPTS} times while it derived this series.")
        elif absent and not new:
            self._say(f"series {entry.series}: has been derived with all these instances before")
            queue.drop(entry)
        elif absent:
            self._refuse(queue, entry, _PARTIAL.format(absent=absent, new=new))
        else:
            self._derive_entry(queue, entry)

    def _derive_entry(self, queue: SeriesQueue, entry: Entry) -> None:
        started = time.monotonic()
        try:
            with atomic_path(entry.folder / RESULT) as target:
                target.mkdir()
                made = self._derive(entry.folder / INSTANCES, target, self._stop.is_set)
        except StoppedError:
            raise
        except Exception as error:
            if isinstance(error, MedganError | OSError) and _is_disk_trouble(error):
                raise
            defect = "" if isinstance(error, MedganError) else f"A defect of medgan:\n{traceback.format_exc()}"
            self._refuse(queue, entry, defect or str(error))
            return
        if not entry.results:
            self._refuse(queue, entry, "\n".join(made.refusals) or "Nothing could be made of it.")
            return
        done = queue.derived(entry, "\n".join(made.refusals) if made.refusals else None, made.warnings)
        for warning in made.warnings:
            self._say(f"series {entry.series}: WARNING, {warning}")
        partly = f", {len(made.refusals)} parts refused" if made.refusals else ""
        took = time.monotonic() - started
        self._say(f"series {entry.series}: derived in {took:.1f} s, {len(done.results)} instances{partly}")

    def _refuse(self, queue: SeriesQueue, entry: Entry, reason: str) -> None:
        aside = queue.refuse(entry, reason + "\n")
        self._say(f"series {entry.series}: refused, see refused/{aside.folder.name}/reason.txt")

    def _send_one(self, queue: SeriesQueue) -> bool:
        """Send what has waited longest; whether anything was sent."""
        if not self._destination_waits.is_due("destination"):
            return False
        for entry in queue.waiting(DERIVED):
            if self._entry_waits.is_due(entry.folder.name):
                return self._send_entry(queue, entry)
        return False

    def _send_entry(self, queue: SeriesQueue, entry: Entry) -> bool:
        name, files = entry.folder.name, entry.results
        try:
            deliver(files, self._settings, self._stop.is_set)
        except DeliveryError as error:
            if self._stop.is_set():
                return False
            if not error.is_final:
                wait = self._destination_waits.failed("destination")
                self._say(f"series {entry.series}: not sent, {error}; tried again in {wait:.0f} s")
                return False
            self._refusals[name] = self._refusals.get(name, 0) + 1
            if self._refusals[name] >= _MOST_REFUSALS:
                self._refuse(queue, entry, f"Derived, but not delivered: {error}.")
            else:
                wait = self._entry_waits.failed(name)
                self._say(f"series {entry.series}: not sent, {error}; tried again in {wait:.0f} s")
            return False
        self._destination_waits.succeeded("destination")
        self._entry_waits.succeeded(name)
        self._refusals.pop(name, None)
        queue.sent(entry)
        self._say(f"series {entry.series}: sent, {len(files)} instances")
        return True


def _is_disk_trouble(error: MedganError | OSError) -> bool:
    """Whether it lies with the disk, and not with the series."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _DISK_TROUBLE

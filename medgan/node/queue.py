"""The node's queue on disk: one folder per series, moved from state to state by atomic renames.

    incoming/SERIES/instances/*.dcm           being received
    complete/TIME-SERIES/instances/*.dcm      waiting to be derived
    derived/TIME-SERIES/derived/**            waiting to be sent
    sent/TIME-SERIES                          sent; about to be removed
    refused/TIME-SERIES/reason.txt            could not be derived or delivered; kept for a person to look at
    records/SERIES.json                       hashes of the instances that were derived, and warnings about what was
                                              made of them, kept for a month

SERIES is a short hash of the SeriesInstanceUID, TIME when the series was complete. The process may die at any point:
what the sender was told is stored is on the disk, and every step done twice gives what it gives once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from medgan.errors import MedganError
from medgan.files import read_json, write_text

INCOMING, COMPLETE, DERIVED, SENT, REFUSED, RECORDS = (
    "incoming",
    "complete",
    "derived",
    "sent",
    "refused",
    "records",
)
INSTANCES, RESULT, REASON, ATTEMPTS = "instances", "derived", "reason.txt", "attempts-"
_TEMPORARY = ".tmp-"
_RECORD_SECONDS = 30 * 24 * 3600


class QueueFullError(Exception):
    """There is no room for more: as many series as are allowed are in the node, or the disk is nearly full."""


def short_hash(uid: str) -> str:
    """A name for a series or an instance that says nothing of its UID: 16 hexadecimal digits."""
    return hashlib.sha256(uid.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """One series in the queue: its folder, and the short hash of its UID."""

    folder: Path

    @property
    def series(self) -> str:
        """Short hash of the SeriesInstanceUID."""
        return self.folder.name.rpartition("-")[2]

    @property
    def instances(self) -> list[Path]:
        """The files as they came."""
        return sorted(_visible(self.folder / INSTANCES))

    @property
    def results(self) -> list[Path]:
        """The files to send, in the order of their paths."""
        return sorted(path for path in (self.folder / RESULT).rglob("*") if path.is_file())

    @property
    def attempts(self) -> int:
        """How often deriving it was begun and not ended."""
        return max((int(path.name.removeprefix(ATTEMPTS)) for path in self.folder.glob(f"{ATTEMPTS}*")), default=0)


class SeriesQueue:
    """The queue of one storage folder. Safe to use from many threads, by one process at a time.

    Args:
        storage: the folder; made, readable by its owner only, if it is not there.
        max_series: how many series may be in the node at once, refused ones not counted.
        min_free_bytes: how much of the disk is left alone.

    Raises:
        MedganError: another node uses the folder, or it cannot be written.
    """

    def __init__(self, storage: str | Path, *, max_series: int, min_free_bytes: int) -> None:
        self.storage = Path(storage)
        self._max_series, self._min_free_bytes = max_series, min_free_bytes
        self._lock = threading.RLock()
        self._busy: set[str] = set()
        try:
            self.storage.parent.mkdir(parents=True, exist_ok=True)
            self.storage.mkdir(mode=0o700, exist_ok=True)
            for state in (INCOMING, COMPLETE, DERIVED, SENT, REFUSED, RECORDS):
                (self.storage / state).mkdir(mode=0o700, exist_ok=True)
            self._lock_file = (self.storage / "lock").open("w")
        except OSError as error:
            raise MedganError(f"the storage cannot be used ({error.strerror})", file=storage) from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock_file.close()
            raise MedganError(
                "another node uses this storage", file=storage, hint="Stop it, or choose another folder."
            ) from error
        self._recover()

    def close(self) -> None:
        """Let go of the storage."""
        self._lock_file.close()

    def store(self, series: str, instance: str, content: bytes) -> None:
        """Put one instance on the disk; when this returns, neither a kill nor a power cut loses it.

        Args:
            series: short hash of its SeriesInstanceUID.
            instance: short hash of its SOPInstanceUID; one that is there already is replaced.
            content: the file.

        Raises:
            QueueFullError: there is no room.
        """
        with self._lock:
            self._admit(series, len(content))
        temporary = self.storage / INCOMING / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            with self._lock:
                folder = self._receiving_folder(series)
                temporary.replace(folder / f"{instance}.dcm")
                _sync(folder)
        finally:
            temporary.unlink(missing_ok=True)

    def incoming(self) -> list[str]:
        """Short hashes of the series that are being received."""
        with self._lock:
            return sorted(path.name for path in _visible(self.storage / INCOMING))

    def waiting(self, state: str) -> list[Entry]:
        """The entries in a state, the longest waiting first."""
        with self._lock:
            return [Entry(path) for path in sorted(_visible(self.storage / state))]

    def complete(self, series: str, *, derivable: bool = True) -> Entry | None:
        """Move a received series to those that wait to be derived; None if nothing of it is there.

        One that is not `derivable` is not given out by `take`; it is to be refused.
        """
        with self._lock:
            folder = self.storage / INCOMING / series
            if not folder.is_dir():
                return None
            if not Entry(folder).instances:
                shutil.rmtree(folder)
                return None
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
            name = f"{stamp}-{series}"
            if not derivable:
                self._busy.add(name)
            return self._moved(Entry(folder), COMPLETE, name)

    def take(self) -> Entry | None:
        """The longest waiting complete series, to be derived now; None if there is none. Its attempts are counted."""
        with self._lock:
            for entry in self.waiting(COMPLETE):
                if entry.folder.name not in self._busy:
                    _count_attempts(entry, entry.attempts + 1)
                    self._busy.add(entry.folder.name)
                    return entry
            return None

    def put_back(self, entry: Entry) -> None:
        """Deriving was broken off through no fault of the series; it waits again, and the attempt does not count."""
        with self._lock:
            _count_attempts(entry, max(0, entry.attempts - 1))
            self._busy.discard(entry.folder.name)

    def unseen(self, entry: Entry) -> tuple[int, int]:
        """How many instances are new since the series was last derived, and how many of then are missing now.

        A series that was never derived is all new.
        """
        path = self._record(entry)
        before = set(read_json(path)["instances"]) if path.exists() else set()
        now = {file.stem for file in entry.instances}
        return len(now - before), len(before - now)

    def derived(self, entry: Entry, reason: str | None = None, warnings: Sequence[str] = ()) -> Entry:
        """Move a series whose results are written to those that wait to be sent.

        Args:
            entry: from `take`.
            reason: why parts of it were refused, if any were; the series is kept for that when it is sent.
            warnings: what was found wrong with the results, for the record, which outlives the series; nothing of a
                patient may be in them.
        """
        for path in (*entry.results, entry.folder / RESULT, entry.folder):
            _sync(path)
        with self._lock:
            if reason is not None:
                write_text(entry.folder / REASON, reason)
            instances = sorted(file.stem for file in entry.instances)
            record = {"instances": instances, "warnings": list(warnings)}
            write_text(self._record(entry), json.dumps(record))
            self._busy.discard(entry.folder.name)
            return self._moved(entry, DERIVED)

    def refuse(self, entry: Entry, reason: str) -> Entry:
        """Set a series aside with the reason beside it."""
        with self._lock:
            shutil.rmtree(entry.folder / RESULT, ignore_errors=True)
            write_text(entry.folder / REASON, reason)
            self._busy.discard(entry.folder.name)
            return self._moved(entry, REFUSED)

    def drop(self, entry: Entry) -> None:
        """Remove a series without a trace."""
        with self._lock:
            self._busy.discard(entry.folder.name)
            self._removed(self._moved(entry, SENT))

    def sent(self, entry: Entry) -> None:
        """The results have arrived: remove the series, or set it aside if parts of it were refused."""
        with self._lock:
            self._removed(self._moved(entry, SENT))
            self._forget_old_records()

    def _admit(self, series: str, size: int) -> None:
        """Make sure that there is a folder for the series, or that there may not be one."""
        if shutil.disk_usage(self.storage).free - size < self._min_free_bytes:
            raise QueueFullError("the disk is nearly full")
        if (self.storage / INCOMING / series).is_dir():
            return
        again = self._waiting_again(series)
        inside = sum(len(_visible(self.storage / state)) for state in (INCOMING, COMPLETE, DERIVED))
        if inside >= self._max_series and (again is None or again.folder.parent.name == REFUSED):
            raise QueueFullError(f"{inside} series are in the node")
        self._receiving_folder(series)

    def _receiving_folder(self, series: str) -> Path:
        """The folder of the series' instances; what waits or was refused of the same series is joined."""
        folder = self.storage / INCOMING / series
        again = None if folder.is_dir() else self._waiting_again(series)
        if again is not None:
            again = self._moved(again, INCOMING, series)
            shutil.rmtree(again.folder / RESULT, ignore_errors=True)
            (again.folder / REASON).unlink(missing_ok=True)
            _clear(again.folder.glob(f"{ATTEMPTS}*"))
        (folder / INSTANCES).mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(folder)
        _sync(folder.parent)
        return folder / INSTANCES

    def _waiting_again(self, series: str) -> Entry | None:
        """What of this series waits to be derived or was refused."""
        for entry in (*self.waiting(COMPLETE), *self.waiting(REFUSED)):
            if entry.series == series and entry.folder.name not in self._busy:
                return entry
        return None

    def _moved(self, entry: Entry, state: str, name: str | None = None) -> Entry:
        target = self.storage / state / (name or entry.folder.name)
        entry.folder.rename(target)
        _sync(target.parent)
        _sync(entry.folder.parent)
        return Entry(target)

    def _removed(self, entry: Entry) -> None:
        if (entry.folder / REASON).exists():
            shutil.rmtree(entry.folder / RESULT, ignore_errors=True)
            self._moved(entry, REFUSED)
        else:
            shutil.rmtree(entry.folder)

    def _recover(self) -> None:
        """Clear away what the last process left half done."""
        for state in (INCOMING, COMPLETE, DERIVED):
            for folder in _visible(self.storage / state):
                _clear(folder.glob(f"{_TEMPORARY}*"))
            _clear((self.storage / state).glob(f"{_TEMPORARY}*"))
        _clear((self.storage / RECORDS).glob(f"{_TEMPORARY}*"))
        for entry in self.waiting(SENT):
            self._removed(entry)
        self._forget_old_records()

    def _record(self, entry: Entry) -> Path:
        return self.storage / RECORDS / f"{entry.series}.json"

    def _forget_old_records(self) -> None:
        oldest = time.time() - _RECORD_SECONDS
        _clear(path for path in _visible(self.storage / RECORDS) if path.stat().st_mtime < oldest)


def _count_attempts(entry: Entry, attempts: int) -> None:
    """Keep the number in a file's name: a rename succeeds on a full disk too."""
    counter = entry.folder / f"{ATTEMPTS}{entry.attempts}"
    counter.touch()
    counter.rename(entry.folder / f"{ATTEMPTS}{attempts}")


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, unfinished things left out."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(_TEMPORARY)]
    except FileNotFoundError:
        return []


def _clear(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the disk write down a file, or which names a folder holds; a rename is safe from a power cut only then."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

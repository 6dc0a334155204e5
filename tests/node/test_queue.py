"""The queue: what is stored stays stored, whenever the process dies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medgan.errors import MedganError
from medgan.files import atomic_path
from medgan.node.queue import COMPLETE, DERIVED, INCOMING, REFUSED, SENT, Entry, QueueFullError, SeriesQueue, short_hash

A, B = short_hash("1.2.3"), short_hash("1.2.4")


@pytest.fixture
def reopened(tmp_path: Path) -> Iterator[Callable[[], SeriesQueue]]:
    """Opens the queue anew, as after a kill: nothing of the last one but its files is there."""
    opened: list[SeriesQueue] = []

    def again() -> SeriesQueue:
        if opened:
            opened[-1].close()
        opened.append(SeriesQueue(tmp_path / "storage", max_series=3, min_free_bytes=0))
        return opened[-1]

    yield again
    opened[-1].close()


def _derived(entry: Entry, content: bytes = b"result") -> None:
    with atomic_path(entry.folder / "derived") as target:
        target.mkdir()
        (target / "0.dcm").write_bytes(content)


def _states(queue: SeriesQueue) -> dict[str, int]:
    counts = {state: len(queue.waiting(state)) for state in (INCOMING, COMPLETE, DERIVED, SENT, REFUSED)}
    return {state: count for state, count in counts.items() if count}


def test_a_series_goes_from_state_to_state_and_leaves_nothing(reopened: Callable[[], SeriesQueue]) -> None:
    queue = reopened()
    queue.store(A, "one", b"1")
    queue.store(A, "two", b"2")
    assert (queue.incoming(), _states(queue)) == ([A], {INCOMING: 1})
    done = queue.complete(A)
    assert done is not None
    assert [path.read_bytes() for path in done.instances] == [b"1", b"2"]
    taken = queue.take()
    assert taken == done
    assert queue.take() is None, "it was taken twice"
    _derived(taken)
    waiting = queue.derived(taken)
    assert _states(queue) == {DERIVED: 1}
    assert [path.read_bytes() for path in waiting.results] == [b"result"]
    queue.sent(waiting)
    assert _states(queue) == {}


def test_a_kill_in_any_state_loses_nothing(reopened: Callable[[], SeriesQueue]) -> None:
    """After each step the queue is opened anew, and the series goes on from there."""
    reopened().store(A, "one", b"1")
    queue = reopened()
    assert queue.incoming() == [A]
    queue.store(A, "two", b"2")
    queue.complete(A)
    queue = reopened()
    taken = queue.take()
    assert taken is not None
    # Killed while it derives: half of the result lies under a temporary name.
    half = taken.folder / ".tmp-0-derived"
    half.mkdir()
    (half / "0.dcm").write_bytes(b"half")
    queue = reopened()
    again = queue.take()
    assert again is not None
    assert (again.attempts, half.exists()) == (2, False)
    # Killed between the result's appearance and the move.
    _derived(again, b"early")
    queue = reopened()
    last = queue.take()
    assert last is not None
    _derived(last, b"late")
    queue.derived(last)
    queue = reopened()
    (waiting,) = queue.waiting(DERIVED)
    assert [path.read_bytes() for path in waiting.results] == [b"late"]
    assert [path.read_bytes() for path in waiting.instances] == [b"1", b"2"]
    # Killed between the last answer of the destination and the removal.
    waiting.folder.rename(queue.storage / SENT / waiting.folder.name)
    assert _states(reopened()) == {}


def test_a_kill_while_an_instance_is_written_leaves_no_trace(reopened: Callable[[], SeriesQueue]) -> None:
    queue = reopened()
    queue.store(A, "one", b"1")
    half = queue.storage / INCOMING / ".tmp-half"
    half.write_bytes(b"ha")
    queue = reopened()
    assert not half.exists()
    done = queue.complete(A)
    assert done is not None
    assert [path.stem for path in done.instances] == ["one"]


def test_an_instance_that_cannot_be_written_leaves_no_trace(
    reopened: Callable[[], SeriesQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = reopened()

    def broken(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="No space"):
            queue.store(A, "one", b"1")
    assert [path for path in queue.storage.rglob("*") if path.is_file() and path.name != "lock"] == []
    queue.store(A, "one", b"1")
    assert len(queue.waiting(INCOMING)[0].instances) == 1


def test_an_instance_sent_again_replaces_itself(reopened: Callable[[], SeriesQueue]) -> None:
    queue = reopened()
    queue.store(A, "one", b"damaged")
    queue.store(A, "one", b"whole")
    done = queue.complete(A)
    assert done is not None
    assert [path.read_bytes() for path in done.instances] == [b"whole"]


@pytest.mark.parametrize("state", [COMPLETE, REFUSED])
def test_late_instances_join_what_waits_or_was_refused(reopened: Callable[[], SeriesQueue], state: str) -> None:
    queue = reopened()
    queue.store(A, "one", b"1")
    queue.complete(A)
    if state == REFUSED:
        taken = queue.take()
        assert taken is not None
        queue.refuse(taken, "too few slices")
    assert _states(queue) == {state: 1}
    queue.store(A, "two", b"2")
    assert _states(queue) == {INCOMING: 1}
    done = queue.complete(A)
    assert done is not None
    assert [path.stem for path in done.instances] == ["one", "two"]
    assert not (done.folder / "reason.txt").exists()
    assert done.attempts == 0


def test_late_instances_do_not_touch_a_series_that_is_being_derived(reopened: Callable[[], SeriesQueue]) -> None:
    queue = reopened()
    queue.store(A, "one", b"1")
    queue.complete(A)
    taken = queue.take()
    assert taken is not None
    queue.store(A, "two", b"2")
    assert _states(queue) == {INCOMING: 1, COMPLETE: 1}
    assert [path.stem for path in taken.instances] == ["one"]


def test_what_is_new_since_the_last_time_is_known(reopened: Callable[[], SeriesQueue]) -> None:
    queue = reopened()
    seen = []
    for names in (["one", "two"], ["one", "two"], ["two", "three"], ["two"], ["one", "two", "three"]):
        for name in names:
            queue.store(A, name, b"x")
        queue.complete(A)
        taken = queue.take()
        assert taken is not None
        seen.append(queue.unseen(taken))
        if seen[-1][1] == 0:
            _derived(taken)
            queue.sent(queue.derived(taken))
        else:
            queue.drop(taken)
        queue = reopened()
    assert seen == [(2, 0), (0, 0), (1, 1), (0, 1), (1, 0)]


def test_the_queue_is_bounded_by_series_and_what_was_refused_does_not_count(
    reopened: Callable[[], SeriesQueue],
) -> None:
    queue = reopened()
    for number in range(3):
        queue.store(short_hash(str(number)), "one", b"1")
    with pytest.raises(QueueFullError, match="3 series"):
        queue.store(A, "one", b"1")
    queue.store(short_hash("0"), "two", b"2")
    queue.complete(short_hash("0"))
    with pytest.raises(QueueFullError, match="3 series"):
        queue.store(A, "one", b"1")
    taken = queue.take()
    assert taken is not None
    queue.refuse(taken, "no grid")
    queue.store(A, "one", b"1")
    assert _states(queue) == {INCOMING: 3, REFUSED: 1}


def test_a_disk_that_is_nearly_full_takes_nothing(tmp_path: Path) -> None:
    everything = shutil.disk_usage(tmp_path).total
    queue = SeriesQueue(tmp_path / "storage", max_series=3, min_free_bytes=everything)
    with pytest.raises(QueueFullError, match="disk"):
        queue.store(A, "one", b"1")
    assert _states(queue) == {}
    queue.close()


def test_the_oldest_goes_first(reopened: Callable[[], SeriesQueue]) -> None:
    queue = reopened()
    for series in sorted((A, B), reverse=True):
        queue.store(series, "one", b"1")
        queue.complete(series)
    assert [entry.series for entry in (queue.take(), queue.take()) if entry] == sorted((A, B), reverse=True)


def test_a_series_refused_in_part_is_kept_after_it_was_sent(reopened: Callable[[], SeriesQueue]) -> None:
    queue = reopened()
    queue.store(A, "one", b"1")
    queue.complete(A)
    taken = queue.take()
    assert taken is not None
    _derived(taken)
    queue.sent(queue.derived(taken, "echo 2 has a gap"))
    (aside,) = queue.waiting(REFUSED)
    assert (aside.folder / "reason.txt").read_text() == "echo 2 has a gap"
    assert (len(aside.instances), aside.results) == (1, [])


def test_attempts_count_deaths_and_not_stops(reopened: Callable[[], SeriesQueue]) -> None:
    queue = reopened()
    queue.store(A, "one", b"1")
    queue.complete(A)
    for deaths in (1, 2, 3):
        queue = reopened()
        taken = queue.take()
        assert taken is not None
        assert taken.attempts == deaths
    queue.put_back(taken)
    again = queue.take()
    assert again is not None
    assert again.attempts == 3


def test_one_storage_serves_one_node(reopened: Callable[[], SeriesQueue]) -> None:
    queue = reopened()
    with pytest.raises(MedganError, match="another node"):
        SeriesQueue(queue.storage, max_series=1, min_free_bytes=0)


def test_the_storage_is_closed_to_others(reopened: Callable[[], SeriesQueue]) -> None:
    queue = reopened()
    queue.store(A, "one", b"1")
    folders = [queue.storage, *(path for path in queue.storage.iterdir() if path.is_dir())]
    assert {path.stat().st_mode & 0o077 for path in folders} == {0}


def test_a_file_in_place_of_the_storage_is_said(tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("")
    with pytest.raises(MedganError, match="storage cannot be used"):
        SeriesQueue(tmp_path / "storage", max_series=1, min_free_bytes=0)

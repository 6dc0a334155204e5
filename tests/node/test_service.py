"""The node between two peers in this process."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE

from medgan.errors import MedganError
from medgan.node import Made, NodeSettings, Peer
from medgan.node.service import StoppedError


def _uids(datasets: Sequence[Any]) -> set[str]:
    return {str(dataset.SOPInstanceUID) for dataset in datasets}


def test_a_series_comes_back_derived_and_leaves_nothing(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    node = start()
    assert send(series_of(1), node.port) == [0] * 8
    wait_for(lambda: node.said("sent, 8 instances"))
    assert len(archive.received) == 8
    assert len(_uids(archive.received)) == 8
    assert not _uids(archive.received) & _uids(series_of(1))
    assert {bytes(one.PixelData) for one in archive.received} == {bytes(one.PixelData) for one in series_of(1)}
    assert [node.files(state) for state in ("incoming", "complete", "derived", "sent", "refused")] == [[]] * 5


def test_nothing_said_tells_who_the_patient_is(start: Any, send: Any, series_of: Any, wait_for: Any) -> None:
    def refused(instances: Path, target: Path, should_stop: Callable[[], bool]) -> Made:
        raise MedganError(f"the slices of {pydicom.dcmread(next(instances.iterdir())).PatientName} have a gap")

    node = start(refused)
    datasets = series_of(1)
    send(datasets, node.port)
    wait_for(lambda: node.said("refused"))
    text = "\n".join(node.lines)
    secrets = ["Doe", "Jane", "SECRET", datasets[0].SeriesInstanceUID, datasets[0].StudyInstanceUID, "gap"]
    assert [secret for secret in secrets if secret in text] == []


def test_it_echoes(start: Any) -> None:
    node = start()
    entity = AE(ae_title="SENDER")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", node.port, ae_title="MEDGAN")
    assert association.send_c_echo().Status == 0
    association.release()


@pytest.mark.parametrize(
    ("calling", "called", "is_let_in"),
    [("SENDER", "MEDGAN", True), ("STRANGER", "MEDGAN", False), ("SENDER", "OTHER", False)],
)
def test_only_allowed_names_are_let_in(
    start: Any, send: Any, series_of: Any, calling: str, called: str, is_let_in: bool
) -> None:
    node = start(allow=("SENDER", "MODALITY"))
    assert bool(send(series_of(1), node.port, calling=calling, called=called)) == is_let_in
    assert node.said("an association was rejected") == (0 if is_let_in else 1)


def test_associations_are_limited(start: Any, send: Any, series_of: Any) -> None:
    node = start(max_associations=2)
    assert send(series_of(1)[:1], node.port, end="keep") == [0]
    assert send(series_of(2)[:1], node.port, end="keep") == [0]
    assert send(series_of(3)[:1], node.port) == []


def test_a_full_queue_refuses_another_series_and_finishes_those_it_has(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    node = start(max_queue=1)
    first = series_of(1)
    assert send(first[:4], node.port, end="keep") == [0] * 4
    assert send(series_of(2), node.port) == [0xA700] * 8
    assert send(first[4:], node.port) == [0] * 4
    node.stop()
    again = start(max_queue=1, quiet_seconds=0.1)
    wait_for(lambda: again.said("sent, 8 instances"))
    assert send(series_of(2), again.port) == [0] * 8
    wait_for(lambda: len(archive.received) == 16)


def test_a_full_disk_is_said_with_the_status(start: Any, send: Any, series_of: Any) -> None:
    node = start(min_free_bytes=1 << 60)
    assert send(series_of(1)[:2], node.port) == [0xA700] * 2
    assert node.files("incoming") == []


def test_an_instance_that_cannot_be_understood_is_refused_and_the_others_taken(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    node = start()
    datasets = series_of(1)
    del datasets[2].SeriesInstanceUID
    assert send(datasets, node.port) == [0, 0, 0xC000, 0, 0, 0, 0, 0]
    wait_for(lambda: len(archive.received) == 7)


def test_a_series_left_open_is_complete_after_quiet(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    node = start(quiet_seconds=0.5)
    send(series_of(1), node.port, end="keep")
    wait_for(lambda: len(archive.received) == 8)


def test_half_a_series_broken_off_waits_for_the_other_half(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    node = start(quiet_seconds=60)
    send(series_of(1)[:4], node.port, end="abort")
    send(series_of(2), node.port)
    wait_for(lambda: node.said("sent"))
    assert len(archive.received) == 8
    send(series_of(1)[4:], node.port)
    wait_for(lambda: len(archive.received) == 16)


def test_instances_of_a_series_that_was_sent_already_are_not_made_a_series_of_their_own(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    node = start()
    send(series_of(1)[:5], node.port)
    wait_for(lambda: node.said("sent, 5"))
    send(series_of(1)[5:], node.port)
    wait_for(lambda: node.said("refused, see"))
    assert len(archive.received) == 5
    (reason,) = [path for path in node.files("refused") if path.name == "reason.txt"]
    assert "Send the whole series again" in reason.read_text()
    send(series_of(1), node.port)
    wait_for(lambda: node.said("sent, 8"))
    assert node.files("refused") == []


def test_a_series_sent_twice_arrives_with_the_same_uids(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    node = start()
    for times in (1, 2):
        send(series_of(1), node.port)
        wait_for(lambda times=times: node.said("sent, 8") == times)
    assert len(archive.received) == 16
    assert len(_uids(archive.received)) == 8


def test_a_repeated_instance_of_a_series_that_was_sent_is_no_series(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    node = start()
    send(series_of(1), node.port)
    wait_for(lambda: node.said("sent, 8"))
    send(series_of(1)[7:], node.port)
    wait_for(lambda: node.said("all these instances before"))
    assert (len(archive.received), node.files("refused")) == (8, [])


def test_a_refused_series_is_kept_with_the_reason_and_costs_no_other(
    start: Any, send: Any, archive: Any, series_of: Any, copied: Any, wait_for: Any
) -> None:
    bad = series_of(1)[0].PatientID

    def picky(instances: Path, target: Path, should_stop: Callable[[], bool]) -> Made:
        if pydicom.dcmread(next(instances.iterdir())).PatientID == bad:
            raise MedganError("no grid", hint="Look at it.")
        return copied(instances, target, should_stop)

    node = start(picky)
    send([*series_of(1), *series_of(2)], node.port)
    wait_for(lambda: node.said("sent, 8") and node.said("refused"))
    assert {one.PatientID for one in archive.received} == {series_of(2)[0].PatientID}
    files = node.files("refused")
    assert len(files) == 10
    (reason,) = [path for path in files if path.name == "reason.txt"]
    assert reason.read_text() == "no grid. Look at it.\n"


def test_a_defect_met_in_one_series_stops_no_other(
    start: Any, send: Any, archive: Any, series_of: Any, copied: Any, wait_for: Any
) -> None:
    calls: list[Path] = []

    def defective(instances: Path, target: Path, should_stop: Callable[[], bool]) -> Made:
        calls.append(instances)
        if len(calls) == 1:
            raise ZeroDivisionError("Doe^Jane divided by zero")
        return copied(instances, target, should_stop)

    node = start(defective)
    send(series_of(1), node.port)
    wait_for(lambda: node.said("refused"))
    send(series_of(2), node.port)
    wait_for(lambda: len(archive.received) == 8)
    (reason,) = [path for path in node.files("refused") if path.name == "reason.txt"]
    assert "ZeroDivisionError" in reason.read_text()
    assert not node.said("Doe")


def test_parts_that_were_refused_are_kept_and_the_others_arrive(
    start: Any, send: Any, archive: Any, series_of: Any, copied: Any, wait_for: Any
) -> None:
    def partly(instances: Path, target: Path, should_stop: Callable[[], bool]) -> Made:
        copied(instances, target, should_stop)
        return Made(refusals=("echo 2 has a gap",))

    node = start(partly)
    send(series_of(1), node.port)
    wait_for(lambda: node.said("sent, 8"))
    assert len(archive.received) == 8
    assert "echo 2 has a gap" in [path.read_text() for path in node.files("refused") if path.name == "reason.txt"]


def test_warnings_are_said_and_outlive_the_series(
    start: Any, send: Any, archive: Any, series_of: Any, copied: Any, wait_for: Any
) -> None:
    def suspicious(instances: Path, target: Path, should_stop: Callable[[], bool]) -> Made:
        copied(instances, target, should_stop)
        return Made(warnings=("shift: 0.3 voxel",))

    node = start(suspicious)
    send(series_of(1), node.port)
    wait_for(lambda: node.said("sent, 8"))
    assert len(archive.received) == 8
    assert node.said("WARNING, shift: 0.3 voxel") == 1
    assert [node.files(state) for state in ("derived", "refused")] == [[], []]
    (record,) = [json.loads(path.read_text()) for path in node.files("records")]
    assert record["warnings"] == ["shift: 0.3 voxel"]
    assert len(record["instances"]) == 8


def test_a_full_disk_while_deriving_is_no_fault_of_the_series(
    start: Any, send: Any, archive: Any, series_of: Any, copied: Any, wait_for: Any
) -> None:
    calls: list[Path] = []

    def full_at_first(instances: Path, target: Path, should_stop: Callable[[], bool]) -> Made:
        calls.append(instances)
        if len(calls) < 3:
            raise OSError(28, "No space left on device")
        return copied(instances, target, should_stop)

    node = start(full_at_first)
    send(series_of(1), node.port)
    wait_for(lambda: len(archive.received) == 8)
    assert node.said("the disk is full") == 2


def test_a_real_disk_that_is_full_costs_nothing(
    start: Any, send: Any, archive: Any, series_of: Any, small_disk: Path, wait_for: Any
) -> None:
    """First the instances do not fit, then what is made of them."""
    node = start(storage=small_disk / "storage", quiet_seconds=1)
    datasets = series_of(1, size=64)
    assert set(send(datasets, node.port)) == {0, 0xA700}
    wait_for(lambda: node.said("incomplete"))
    assert len(archive.received) == 0
    subprocess.run(["mount", "-o", "remount,size=128k", str(small_disk)], check=True)
    assert send(datasets, node.port) == [0] * 8
    wait_for(lambda: node.said("the disk is full"))
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    wait_for(lambda: node.said("sent, 8"))
    assert {bytes(one.PixelData) for one in archive.received} == {bytes(one.PixelData) for one in datasets}
    assert node.files("refused") == []


def test_a_destination_that_is_away_gets_everything_when_it_is_back(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    archive.stop()
    node = start()
    for number in (1, 2):
        send(series_of(number), node.port)
    wait_for(lambda: node.said("cannot be reached") >= 2)
    assert len(node.files("derived")) >= 16
    archive.start()
    wait_for(lambda: len(archive.received) == 16)
    wait_for(lambda: not node.files("derived"))


def test_a_destination_that_has_no_room_is_asked_again(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    archive.answers = [0xA700] * 3
    node = start()
    send(series_of(1), node.port)
    wait_for(lambda: node.said("sent, 8"))
    assert node.said("status A700") == 3
    assert len(_uids(archive.received)) == 8


def test_a_destination_that_will_not_have_a_series_does_not_hold_up_the_others(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    archive.answers = [0xC000] * 5
    node = start()
    send(series_of(1), node.port)
    wait_for(lambda: node.said("refused"))
    send(series_of(2), node.port)
    wait_for(lambda: node.said("sent, 8"))
    (reason,) = [path for path in node.files("refused") if path.name == "reason.txt"]
    assert "status C000" in reason.read_text()


def test_a_warning_of_the_destination_is_a_success(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    archive.answers = [0xB000] * 8
    node = start()
    send(series_of(1), node.port)
    wait_for(lambda: node.said("sent, 8"))


def test_what_a_node_leaves_the_next_one_finishes(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    began = threading.Event()

    def endless(instances: Path, target: Path, should_stop: Callable[[], bool]) -> Made:
        began.set()
        wait_for(should_stop)
        raise StoppedError

    node = start(endless)
    send(series_of(1), node.port)
    assert began.wait(10)
    node.stop()
    assert node.said("taken up at the next start")
    again = start()
    assert again.said("1 series are left")
    wait_for(lambda: len(archive.received) == 8)
    assert again.said("attempt") == 0


def test_a_series_that_kills_the_node_again_and_again_is_refused(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    archive.stop()
    node = start()
    send(series_of(1), node.port)
    wait_for(lambda: node.said("derived in"))
    node.stop()
    (entry,) = (node.settings.storage / "derived").iterdir()
    (entry / "attempts-1").rename(entry / "attempts-5")
    entry.rename(node.settings.storage / "complete" / entry.name)
    again = start()
    wait_for(lambda: again.said("refused"))


def test_the_address_must_be_free(start: Any, archive: Any) -> None:
    node = start(port=archive.peer.port)
    assert isinstance(node.fault, MedganError)
    assert "cannot listen on" in str(node.fault)


def test_a_node_that_others_can_reach_says_so_and_wants_names(start: Any, tmp_path: Path) -> None:
    node = start(host="0.0.0.0", allow=("SENDER",))
    assert node.said("warning: 0.0.0.0 can be reached")
    with pytest.raises(MedganError, match="without --allow"):
        NodeSettings(tmp_path, Peer("A", "b", 1), host="0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_loopback_is_known(host: str, tmp_path: Path) -> None:
    assert NodeSettings(tmp_path, Peer("A", "b", 1), host=host).is_loopback


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("ARCHIVE@127.0.0.1:4242", Peer("ARCHIVE", "127.0.0.1", 4242)),
        ("PACS_1@pacs.example.org:104", Peer("PACS_1", "pacs.example.org", 104)),
        ("PACS@[::1]:104", Peer("PACS", "::1", 104)),
    ],
)
def test_a_destination_is_read(text: str, peer: Peer) -> None:
    assert Peer.parse(text) == peer


@pytest.mark.parametrize("text", ["", "ARCHIVE", "@h:1", "A@h", "A@h:0", "A@h:70000", "A@h:x", "SEVENTEEN_LETTERS@h:1"])
def test_a_destination_that_is_none_is_named(text: str) -> None:
    with pytest.raises(MedganError, match="--destination is"):
        Peer.parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ae_title": ""},
        {"ae_title": "A B"},
        {"allow": ("x" * 17,)},
        {"port": 70000},
        {"max_queue": 0},
        {"max_associations": 0},
        {"quiet_seconds": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="--"):
        NodeSettings(tmp_path, Peer("A", "b", 1), **wrong)

"""Small series to send, and the peers of a node: who sends, and where results go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE, evt

from medgan.errors import MedganError
from medgan.node import Made, Node, NodeSettings, Peer

NAME, IDENTIFIER = "Doe^Jane", "SECRET-42"


def _series_of(number: int, *, slices: int = 8, size: int = 16) -> list[FileDataset]:
    """A stack of axial slices, 4 mm apart with voxels of 1.5 mm in plane; each number is a series of its own.

    Voxel (column i, row j, slice k) holds 100 + number + 5 i + 3 j + 40 k.
    """
    entropy = [f"medgan node test {number}"]
    study, series, frame = (generate_uid(entropy_srcs=[*entropy, what]) for what in ("study", "series", "frame"))
    return [_slice(number, k, size, study, series, frame) for k in range(slices)]


def _slice(number: int, k: int, size: int, study: str, series: str, frame: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(k)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = NAME, f"{IDENTIFIER}-{number}", "19700101"
    dataset.PatientSex, dataset.StudyID, dataset.AccessionNumber = "F", "1", ""
    dataset.StudyDate, dataset.StudyTime, dataset.ReferringPhysicianName = "20200101", "120000", ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber, dataset.Manufacturer = "MR", 3, k + 1, "Phantoms"
    dataset.SeriesDescription, dataset.PatientPosition, dataset.PositionReferenceIndicator = "t2", "HFS", ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
    dataset.MRAcquisitionType, dataset.EchoTime, dataset.RepetitionTime, dataset.EchoTrainLength = "2D", 90, 4000, 1
    dataset.Rows = dataset.Columns = size
    dataset.PixelSpacing, dataset.SliceThickness = [1.5, 1.5], 4
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-10, -12, -14 + 4 * k]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    i, j = np.meshgrid(np.arange(size), np.arange(size))
    dataset.PixelData = (100 + number + 5 * i + 3 * j + 40 * k).astype("<u2").tobytes()
    return dataset


def _send(
    datasets: list[Any], port: int, *, calling: str = "SENDER", called: str = "MEDGAN", end: str = "release"
) -> list[int]:
    """Send by pynetdicom; the status of each answer, -1 for none, empty if the association was rejected.

    `end` is "release", "abort" or "keep" (the association stays open).
    """
    entity = AE(ae_title=calling)
    entity.add_requested_context(MRImageStorage)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return []
    statuses = [association.send_c_store(dataset).get("Status", -1) for dataset in datasets]
    if end == "release":
        association.release()
    elif end == "abort":
        association.abort()
    return statuses


class Archive:
    """A storage provider that keeps what it gets in memory.

    `answers` are given first, one per instance; afterwards every instance is taken.
    """

    def __init__(self) -> None:
        self.received: list[pydicom.Dataset] = []
        self.answers: list[int] = []
        self.peer = Peer("ARCHIVE", "127.0.0.1", 0)
        self._entity = AE(ae_title="ARCHIVE")
        self._entity.add_supported_context(MRImageStorage)
        self._listens = False

    def start(self) -> None:
        """Listen, at the same port as before; nothing if it listens."""
        if self._listens:
            return
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store)]
        server = self._entity.start_server(("127.0.0.1", self.peer.port), block=False, evt_handlers=handlers)
        assert server is not None
        self.peer = Peer("ARCHIVE", "127.0.0.1", int(server.server_address[1]))
        self._listens = True

    def stop(self) -> None:
        self._entity.shutdown()
        self._listens = False

    def _store(self, event: evt.Event) -> int:
        if self.answers:
            return self.answers.pop(0)
        self.received.append(event.dataset)
        return 0


def _wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Return as soon as the condition holds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def _copied(instances: Path, target: Path, should_stop: Callable[[], bool]) -> Made:
    """A derivation for tests of the transport: the same images under new UIDs that depend on the old ones alone."""
    for path in sorted(instances.iterdir()):
        dataset = pydicom.dcmread(path)
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            dataset[keyword].value = generate_uid(entropy_srcs=["derived", str(dataset[keyword].value)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(target / path.name)
    return Made()


class Running:
    """A node in a thread, with the lines that it says."""

    def __init__(self, settings: NodeSettings, derive: Any) -> None:
        self.settings = settings
        self.lines: list[str] = []
        self.port = 0
        self.fault: MedganError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(derive,))
        self._thread.start()
        _wait_for(lambda: self.lines or not self._thread.is_alive())
        if self.lines:
            self.port = int(self.lines[0].split(" as ")[0].rpartition(":")[2])

    def said(self, words: str) -> int:
        return sum(words in line for line in self.lines)

    def files(self, state: str) -> list[Path]:
        return [path for path in (self.settings.storage / state).rglob("*") if path.is_file()]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self, derive: Any) -> None:
        try:
            Node(self.settings, derive, self.lines.append).run(self._stop.is_set)
        except MedganError as fault:
            self.fault = fault


@pytest.fixture(scope="session")
def _archive() -> Iterator[Archive]:
    archive = Archive()
    yield archive
    archive.stop()


@pytest.fixture
def archive(_archive: Archive) -> Archive:
    """An empty archive that listens; always the same, because it takes half a second to stop one."""
    _archive.received, _archive.answers = [], []
    _archive.start()
    return _archive


@pytest.fixture
def series_of() -> Callable[..., list[FileDataset]]:
    return _series_of


@pytest.fixture
def send() -> Callable[..., list[int]]:
    return _send


@pytest.fixture
def copied() -> Callable[..., Made]:
    return _copied


@pytest.fixture
def wait_for() -> Callable[..., None]:
    return _wait_for


@pytest.fixture
def start(archive: Archive, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a node that sends to the archive; settings by name, `derive` to do something else than copy."""
    running: list[Running] = []

    def started(derive: Any = _copied, **settings: Any) -> Running:
        defaults: dict[str, Any] = {
            "storage": tmp_path / "storage",
            "destination": archive.peer,
            "port": 0,
            "settle_seconds": 0.1,
            "min_free_bytes": 0,
            "retry_seconds": (0.1, 0.4),
        }
        running.append(Running(NodeSettings(**{**defaults, **settings}), derive))
        return running[-1]

    yield started
    for one in running:
        one.stop()

"""The node between real peers: DCMTK's storescu and storescp, and Orthanc, started here where they are installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

SERIES = 50


def _program(name: str, package: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen]]:
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def received(tmp_path: Path, processes: list[subprocess.Popen], wait_for: Any) -> tuple[Path, int]:
    """The folder that storescp writes to, and its port."""
    folder, port = tmp_path / "received", _free_port()
    folder.mkdir()
    command = [_program("storescp", "dcmtk"), "-aet", "ARCHIVE", "-od", str(folder), str(port)]
    processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    wait_for(lambda: _listens(port))
    return folder, port


class NodeProcess:
    """`medgan node` as a process of its own, at one port through all its lives."""

    def __init__(self, storage: Path, destination: str, processes: list[subprocess.Popen], *options: str) -> None:
        self.storage, self.port = storage, _free_port()
        self.log = storage.with_suffix(".log")
        self._processes = processes
        self._command = [sys.executable, "-m", "medgan.cli", "node", "--storage", str(storage)]
        self._command += ["--destination", destination, "--port", str(self.port), "--factor", "1,1,2"]
        self._command += ["--allow", "SENDER,ORTHANC", "--max-associations", "64", "--quiet-seconds", "20", *options]
        self.process = self.start()

    def start(self) -> subprocess.Popen:
        said = self.text().count("listening on")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment)
        self._processes.append(self.process)
        end = time.monotonic() + 120
        while self.text().count("listening on") == said:
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, "the node did not start"
            time.sleep(0.05)
        return self.process

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def count(self, state: str) -> int:
        """How many series are in a state."""
        return sum(not path.name.startswith(".") for path in (self.storage / state).iterdir())

    def left(self) -> int:
        """How many series are in the node."""
        return sum(map(self.count, ("incoming", "complete", "derived", "sent")))


@pytest.fixture
def senders(tmp_path: Path, series_of: Any) -> Callable[[int], list[Path]]:
    """Writes so many series, one folder each."""

    def folders(count: int) -> list[Path]:
        places = [tmp_path / "to send" / f"{number:02d}" for number in range(count)]
        for number, place in enumerate(places):
            place.mkdir(parents=True)
            for index, dataset in enumerate(series_of(number)):
                pydicom.dcmwrite(place / f"{index}.dcm", dataset)
        return places

    return folders


def _store(folder: Path, port: int, *, tries: int = 1) -> bool:
    """Send a folder by storescu as a modality does: the whole series again until it is told that all is stored."""
    command = [_program("storescu", "dcmtk"), "-aet", "SENDER", "-aec", "MEDGAN", "-to", "10", "-td", "30", "-ta", "30"]
    for _ in range(tries):
        done = subprocess.run(
            [*command, "+sd", "127.0.0.1", str(port), str(folder)], capture_output=True, timeout=120, check=False
        )
        if done.returncode == 0:
            return True
        # Fifty impatient senders would leave no processor to the node that is starting.
        time.sleep(4)
    return False


def _store_all(folders: list[Path], port: int) -> list[threading.Thread]:
    """One storescu process per folder, all at once."""
    threads = [threading.Thread(target=_store, args=(folder, port), kwargs={"tries": 60}) for folder in folders]
    for thread in threads:
        thread.start()
    return threads


def _check_arrived(folder: Path, folders: list[Path]) -> None:
    """Every series came back once: twice as many slices at the right places, made from all slices of its source."""
    series = defaultdict(list)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        series[str(dataset.SeriesInstanceUID)].append(dataset)
    sources = {
        frozenset(str(pydicom.dcmread(path).SOPInstanceUID) for path in place.iterdir()): place for place in folders
    }
    assert len(series) == len(folders)
    for slices in series.values():
        assert len(slices) == 16
        made_from = frozenset(str(item.ReferencedSOPInstanceUID) for one in slices for item in one.SourceImageSequence)
        source = pydicom.dcmread(next(iter(sources.pop(made_from).iterdir())))
        assert {one.PatientID for one in slices} == {source.PatientID}
        places = sorted(float(one.ImagePositionPatient[2]) for one in slices)
        np.testing.assert_allclose(places, np.arange(16) * 2 - 15, atol=1e-6)
    assert sources == {}


def _check_said(node: NodeProcess) -> None:
    text = node.text()
    assert [word for word in ("Doe", "SECRET", "Traceback", "refused") if word in text] == []


def test_dcmtk_sends_and_receives(start: Any, senders: Any, received: tuple[Path, int], wait_for: Any) -> None:
    """The quick one: the node in this process, a storescu, a storescp."""
    from medgan.node import Peer
    from medgan.workflows.node import upscaling

    folder, port = received
    node = start(upscaling(None, factor=(1, 1, 2)), destination=Peer("ARCHIVE", "127.0.0.1", port))
    folders = senders(2)
    for one in folders:
        assert _store(one, node.port)
    wait_for(lambda: node.said("sent, 16") == 2)
    _check_arrived(folder, folders)


def test_dcmtk_echoes(start: Any) -> None:
    node = start(allow=("SENDER",))
    command = [_program("echoscu", "dcmtk"), "-aec", "MEDGAN", "127.0.0.1", str(node.port)]
    assert subprocess.run([*command, "-aet", "SENDER"], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*command, "-aet", "STRANGER"], capture_output=True, check=False).returncode != 0


@pytest.mark.slow
def test_fifty_series_sent_at_once_all_come_back(
    senders: Any, received: tuple[Path, int], processes: list[subprocess.Popen], tmp_path: Path, wait_for: Any
) -> None:
    folder, port = received
    folders = senders(SERIES)
    node = NodeProcess(tmp_path / "storage", f"ARCHIVE@127.0.0.1:{port}", processes)
    began = time.monotonic()
    for thread in _store_all(folders, node.port):
        thread.join()
    stored = time.monotonic() - began
    wait_for(lambda: len(list(folder.iterdir())) >= 16 * SERIES and not node.left(), 300)
    sys.stdout.write(f"\n{SERIES} series stored in {stored:.1f} s, back after {time.monotonic() - began:.1f} s\n")
    _check_arrived(folder, folders)
    _check_said(node)
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(30) == 0


@pytest.mark.slow
def test_a_node_killed_in_the_middle_loses_nothing(
    senders: Any, received: tuple[Path, int], processes: list[subprocess.Popen], tmp_path: Path, wait_for: Any
) -> None:
    """SIGKILL twice while it receives, while series wait to be derived, and twice while it sends."""
    folder, port = received
    folders = senders(SERIES)
    node = NodeProcess(tmp_path / "storage", f"ARCHIVE@127.0.0.1:{port}", processes)
    threads = _store_all(folders, node.port)
    for state, fewest in (("incoming", 5), ("incoming", 10), ("complete", 2), ("derived", 20), ("derived", 10)):
        wait_for(lambda state=state, fewest=fewest: node.count(state) >= fewest, 120)
        back = len(list(folder.iterdir()))
        if state == "derived":
            wait_for(lambda back=back: len(list(folder.iterdir())) > back + 20, 120)
        node.process.kill()
        node.process.wait()
        states = ", ".join(f"{node.count(one)} {one}" for one in ("incoming", "complete", "derived"))
        sys.stdout.write(f"\nkilled with {states} in the node and {len(list(folder.iterdir())) // 16} series back\n")
        node.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: not node.left(), 300)
    _check_arrived(folder, folders)
    _check_said(node)


@pytest.mark.slow
def test_a_node_killed_while_it_receives_waits_for_the_rest(
    senders: Any,
    series_of: Any,
    send: Any,
    received: tuple[Path, int],
    processes: list[subprocess.Popen],
    tmp_path: Path,
) -> None:
    """Half a series is in; the other half comes after the kill, and one whole series is made of both."""
    folder, port = received
    folders = senders(1)
    node = NodeProcess(tmp_path / "storage", f"ARCHIVE@127.0.0.1:{port}", processes)
    assert send(series_of(0)[:4], node.port, end="keep") == [0] * 4
    node.process.kill()
    node.process.wait()
    node.start()
    assert send(series_of(0)[4:], node.port) == [0] * 4
    end = time.monotonic() + 60
    while len(list(folder.iterdir())) < 16 or node.left():
        assert time.monotonic() < end
        time.sleep(0.1)
    _check_arrived(folder, folders)


@pytest.mark.slow
def test_orthanc_sends_and_gets_everything_back_in_the_same_study(
    senders: Any, processes: list[subprocess.Popen], tmp_path: Path, wait_for: Any
) -> None:
    count = 10
    orthanc = _Orthanc(tmp_path / "orthanc", processes)
    wait_for(lambda: _listens(orthanc.http) and _listens(orthanc.dicom), 60)
    node = NodeProcess(tmp_path / "storage", f"ORTHANC@127.0.0.1:{orthanc.dicom}", processes)
    orthanc.ask("PUT", "modalities/node", {"AET": "MEDGAN", "Host": "127.0.0.1", "Port": node.port})
    for place in senders(count):
        for path in place.iterdir():
            orthanc.ask("POST", "instances", path.read_bytes())
    sources = orthanc.ask("GET", "series")
    assert len(sources) == count
    jobs = [orthanc.ask("POST", "modalities/node/store", {"Resources": [one], "Asynchronous": True}) for one in sources]
    assert len(jobs) == count
    wait_for(lambda: orthanc.ask("GET", "statistics")["CountInstances"] == 24 * count and not node.left(), 300)
    figures = orthanc.ask("GET", "statistics")
    assert (figures["CountSeries"], figures["CountStudies"], figures["CountPatients"]) == (2 * count, count, count)
    derived = [orthanc.ask("GET", f"series/{one}") for one in orthanc.ask("GET", "series") if one not in sources]
    assert {len(one["Instances"]) for one in derived} == {16}
    assert all("UPSCALED" in one["MainDicomTags"]["SeriesDescription"] for one in derived)
    _check_said(node)


class _Orthanc:
    """An Orthanc of its own, on loopback."""

    def __init__(self, folder: Path, processes: list[subprocess.Popen]) -> None:
        program = _program("Orthanc", "orthanc")
        folder.mkdir()
        self.http, self.dicom = _free_port(), _free_port()
        settings: dict[str, Any] = {
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
            "OverwriteInstances": True,
            "ConcurrentJobs": 10,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        log = (folder / "log.txt").open("w")
        processes.append(subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log))
        log.close()

    def ask(self, method: str, place: str, content: Any = None) -> Any:
        data = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/{place}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None

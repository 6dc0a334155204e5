"""The node as it is run: the series are upscaled as `medgan upscale` does it, and the command line keeps its word."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from medgan.node import Made
from medgan.workflows import node as node_workflow
from medgan.workflows.node import _quiet_libraries, upscaling
from medgan.workflows.upscale import upscale_scans


@pytest.fixture
def written(tmp_path: Path) -> Callable[[list[Any]], Path]:
    def folder(datasets: list[Any]) -> Path:
        place = tmp_path / "instances"
        place.mkdir()
        for number, dataset in enumerate(datasets):
            pydicom.dcmwrite(place / f"{number:03d}.dcm", dataset)
        return place

    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "derived").mkdir()
    return tmp_path / "derived"


def _never() -> bool:
    return False


def _read(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def test_the_node_makes_what_upscale_makes(
    written: Callable[..., Path], series_of: Any, target: Path, tmp_path: Path
) -> None:
    place = written(series_of(1))
    assert upscaling(None, factor=(1, 1, 2))(place, target, _never) == Made()
    upscale_scans([place], tmp_path / "by hand", model="physics", factor=(1, 1, 2), format="dicom")
    ours, theirs = _read(target), _read(tmp_path / "by hand")
    assert len(ours) == 16
    assert [one.SOPInstanceUID for one in ours] == [one.SOPInstanceUID for one in theirs]
    assert [one.PixelData for one in ours] == [one.PixelData for one in theirs]


def test_every_volume_of_a_series_becomes_a_series_and_those_with_a_gap_are_refused(
    written: Callable[..., Path], series_of: Any, target: Path
) -> None:
    datasets = series_of(1)
    for echo in (20, 30):
        for dataset in series_of(1):
            dataset.EchoTime, dataset.EchoNumbers = echo, echo // 10
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            datasets.append(dataset)
    for dataset in datasets[:8]:
        dataset.EchoNumbers = 1
    del datasets[11]
    (refusal,) = upscaling(None, factor=(1, 1, 2))(written(datasets), target, _never).refusals
    assert "missing" in refusal
    made = _read(target)
    assert len(made) == 32
    assert len({one.SeriesInstanceUID for one in made}) == 2


def test_what_medgan_made_is_not_upscaled_again(
    written: Callable[..., Path], series_of: Any, target: Path, tmp_path: Path
) -> None:
    derive = upscaling(None, factor=(1, 1, 2))
    derive(written(series_of(1)), target, _never)
    (tmp_path / "again").mkdir()
    (refusal,) = derive(target, tmp_path / "again", _never).refusals
    assert "Made by medgan" in refusal
    assert list((tmp_path / "again").iterdir()) == []


def test_faults_of_the_results_are_warnings_in_log_and_record_that_name_nobody(
    start: Any, send: Any, series_of: Any, wait_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = node_workflow.upscaled

    def shifted(*arguments: Any, **options: Any) -> Any:
        volume = honest(*arguments, **options)
        return volume.with_data(np.roll(volume.data, 3, axis=1))

    monkeypatch.setattr(node_workflow, "upscaled", shifted)
    node = start(upscaling(None, factor=(1, 1, 2)))
    datasets = series_of(1)
    send(datasets, node.port)
    wait_for(lambda: node.said("sent, 16"))
    (record,) = [path.read_text() for path in node.files("records")]
    secrets = ["Doe", "Jane", "SECRET", datasets[0].SeriesInstanceUID, datasets[0].StudyInstanceUID]
    for text in ("\n".join(node.lines), record):
        assert "output check: contradiction: " in text
        assert [secret for secret in secrets if secret in text] == []


def test_a_stop_is_obeyed(written: Callable[..., Path], series_of: Any, target: Path) -> None:
    from medgan.node.service import StoppedError

    with pytest.raises(StoppedError):
        upscaling(None)(written(series_of(1)), target, lambda: True)


def test_a_series_that_the_strict_reader_refuses_is_set_aside(
    start: Any, send: Any, archive: Any, series_of: Any, wait_for: Any
) -> None:
    node = start(upscaling(None, factor=(1, 1, 2)))
    gap = series_of(1)
    del gap[3]
    send(gap, node.port)
    send(series_of(2), node.port)
    wait_for(lambda: node.said("sent, 16") and node.said("refused"))
    assert {one.PatientID for one in archive.received} == {series_of(2)[0].PatientID}
    (reason,) = [path for path in node.files("refused") if path.name == "reason.txt"]
    assert "missing" in reason.read_text()
    # The slice that was missing comes after all.
    send(series_of(1)[3:4], node.port)
    wait_for(lambda: node.said("sent, 16") == 2)
    places = sorted(float(one.ImagePositionPatient[2]) for one in archive.received[16:])
    np.testing.assert_allclose(places, np.arange(16) * 2 - 15, atol=1e-6)
    assert node.files("refused") == []


def test_libraries_do_not_speak_while_the_node_runs(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _quiet_libraries():
            for name in ("pydicom", "pynetdicom", "pynetdicom.service-c"):
                logging.getLogger(name).error("Doe^Jane")
            warnings.warn("Invalid value for VR PN: Doe^Jane", stacklevel=1)
        logging.getLogger("pynetdicom").error("afterwards")
    assert caught == []
    assert [record.message for record in caplog.records] == ["afterwards"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--destination", "nowhere"], "--destination is 'nowhere'"),
        (["--destination", "A@h:1", "--host", "0.0.0.0"], "without --allow"),
        (["--destination", "A@h:1", "--factor", "0.5,1,1"], "factor"),
        (["--destination", "A@h:1", "--model", "/nowhere"], "/nowhere"),
        (["--destination", "A@h:1", "--max-queue", "0"], "--max-queue is 0"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from medgan.cli import main

    monkeypatch.setattr(sys, "argv", ["medgan", "node", "--storage", str(tmp_path / "storage"), *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "storage").exists()


def test_a_signal_ends_it_cleanly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medgan.cli", "node", "--storage", str(tmp_path / "storage"), "--port", "0"]
    command += ["--model", "physics", "--destination", "A@127.0.0.1:1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "listening on 127.0.0.1:" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(30) == 0
    assert "stopped" in rest
    assert "Traceback" not in rest

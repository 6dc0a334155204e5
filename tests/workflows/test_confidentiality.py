"""What is known of people when a model is trained, and that none of it leaves for MLflow, reports or models.

Names, numbers and dates are planted in headers, in the names of files and folders, in a table of participants and in
the name of the cohort's folder; then every byte that a training leaves behind is searched for them.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from medgan.data.prepare import prepare
from medgan.workflows.evaluate import evaluate_synthesis_files
from medgan.workflows.generate import generate_scans
from medgan.workflows.upscale import upscale_scans

NAMES = ("Quuxington", "Grimbolda", "MRN5550", "zebrafishward", "19610213", "Trelawneycohort", "Wintergardens")
TASKS = {
    "synthesis": [
        *("network.width=8", "network.max_width=8", "network.latent_size=8", "synthesis.evaluation_samples=4"),
        "training.batch_size=2",
    ],
    "super_resolution": [
        *("network.channels=4", "network.growth=2", "network.blocks=1", "super_resolution.patch=[16,16,16]"),
        *("super_resolution.adversarial.discriminator_width=4", "super_resolution.pretraining.images=4"),
        *("super_resolution.adversarial.images=4", "training.batch_size=2"),
    ],
}
# Only the run's own record may say where its cohort lies: a training is continued by it.
LOCAL = ("run.json",)


def _voxels(index: int) -> np.ndarray:
    rng = np.random.default_rng(index)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (18, 20, 16)), indexing="ij")
    head = np.clip(4 * (1 - (x / rng.uniform(0.7, 0.9)) ** 2 - y**2 / 0.7 - z**2 / 0.6), 0, 1)
    return np.asarray(800 * head + 10 * rng.random(head.shape)).astype(np.int16)


def _dicom(folder: Path, index: int) -> None:
    folder.mkdir(parents=True)
    series, voxels = generate_uid(), _voxels(index)
    for k in range(voxels.shape[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID, image.SeriesInstanceUID = MRImageStorage, generate_uid(), series
        image.PatientName, image.PatientID = f"Quuxington^Wilma{index}", f"MRN5550{index:03d}"
        image.PatientBirthDate, image.InstitutionName = "19610213", "Wintergardens Hospital"
        image.SeriesDescription, image.StudyDescription = "t1 zebrafishward", "Quuxington zebrafishward"
        image.Modality, image.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M"]
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-70, -80, 8 * k]
        image.PixelSpacing, image.Rows, image.Columns = [8, 8], voxels.shape[1], voxels.shape[0]
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 1
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelData = np.ascontiguousarray(voxels[:, :, k].T).tobytes()
        pydicom.dcmwrite(folder / f"Grimbolda_{k}.dcm", image, enforce_file_format=True)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight scans, half of them DICOM, with identifiers wherever there is room."""
    folder = tmp_path_factory.mktemp("scans") / "Wintergardens_zebrafishward"
    folder.mkdir()
    for index in range(8):
        if index % 2:
            _dicom(folder / f"Quuxington_MRN5550{index:03d}", index)
            continue
        image = nib.Nifti1Image(_voxels(index), np.diag([8.0, 8, 8, 1]))
        image.header["descrip"], image.header["aux_file"] = "Quuxington 19610213", "Grimbolda.dcm"
        image.header["intent_name"], image.header["db_name"] = "MRN5550", "Quuxington"
        nib.save(image, folder / f"Grimbolda-MRN5550{index:03d}_T1w.nii.gz")
    rows = [f"Grimbolda-MRN5550{index:03d}\tzebrafishward" for index in range(0, 8, 2)]
    (folder / "participants.tsv").write_text("\n".join(["participant_id\tward", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def cohort(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohorts") / "Trelawneycohort"
    prepare([scans], folder, spacing=(8, 8, 8), split=(0.5, 0.25, 0.25))
    assert _found_in((folder / "manifest.jsonl").read_bytes()), "identifiers are known where they could leak from"
    return folder


def _found_in(content: bytes) -> set[str]:
    if content[:2] == b"\x1f\x8b":
        content += gzip.decompress(content)
    folded = content.lower()
    return {name for name in NAMES if name.lower().encode() in folded or name.lower().encode("utf-16-le") in folded}


def _leaks(folder: Path) -> dict[str, set[str]]:
    """Files below the folder that hold or are called by something planted."""
    paths = [path for path in folder.rglob("*") if path.name not in LOCAL]
    found = {
        path.relative_to(folder).as_posix(): _found_in(path.relative_to(folder).as_posix().encode())
        | (_found_in(path.read_bytes()) if path.is_file() else set())
        for path in paths
    }
    return {path: names for path, names in found.items() if names}


@pytest.fixture(scope="module", params=["super_resolution", pytest.param("synthesis", marks=pytest.mark.slow)])
def trained(request: pytest.FixtureRequest, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A finished training, by the command line as anybody would, with the folder it was started in full of names."""
    place = tmp_path_factory.mktemp(request.param)
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    (place / "participants.tsv").write_text("nobody\n")
    (place / "model.py").write_text("width = 1\n")
    git = ["git", "-C", str(place), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "begin"], check=True)
    (place / "participants.tsv").write_text("Quuxington\tMRN5550\n")
    (place / "model.py").write_text("width = 2\n")
    (place / "Grimbolda_MRN5550.nii.gz").write_bytes(b"")
    sets = [part for text in [*TASKS[request.param], "training.tick_steps=1"] for part in ("--set", text)]
    shutil.copytree(cohort, place / "Trelawneycohort")
    (place / ".gitignore").write_text("Trelawneycohort\n")
    command = [sys.executable, "-m", "medgan.cli", "train", f"{request.param}/quickstart", "--data", "Trelawneycohort"]
    command += ["--out", "runs/run", "--steps", "2", "--device", "cpu", *sets]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return request.param, place / "runs"


def test_a_training_leaves_no_identifier_behind(trained: tuple[str, Path]) -> None:
    _, runs = trained
    assert {"mlflow.db", "mlruns", "run"} <= {path.name for path in runs.iterdir()}
    assert _leaks(runs) == {}


def test_what_was_searched_is_what_was_trained(trained: tuple[str, Path]) -> None:
    """The places where identifiers could be are filled, so that the search above means something."""
    _, runs = trained
    store = sqlite3.connect(runs / "mlflow.db")
    assert store.execute("select count(*) from datasets").fetchone() == (1,)
    assert store.execute("select count(*) from runs where status = 'FINISHED'").fetchone() == (1,)
    store.close()
    (environment,) = runs.glob("mlruns/**/environment.json")
    assert json.loads(environment.read_text())["git_dirty"] is True
    (diff,) = runs.glob("mlruns/**/changes.diff")
    assert "width = 2" in diff.read_text()
    for name in ("report.html", "figures.json", "model/config.json"):
        assert (runs / "run" / name).stat().st_size


def test_results_of_a_model_name_nobody_in_their_content(
    trained: tuple[str, Path], scans: Path, tmp_path: Path
) -> None:
    task, runs = trained
    if task == "synthesis":
        generate_scans(runs / "run", 4, tmp_path / "out", device="cpu")
        evaluate_synthesis_files(scans, tmp_path / "out", tmp_path / "card", seed=0)
    else:
        upscale_scans([scans], tmp_path / "out", model=runs / "run", device="cpu", factor=(1, 1, 1))
    content = {path: _found_in(path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()}
    assert len(content) >= 6
    assert {path.name: names for path, names in content.items() if names} == {}


def test_a_volume_does_not_remember_where_it_was(cohort: Path, scans: Path) -> None:
    import medgan
    from medgan.data.cohort import Cohort

    opened = Cohort.load(cohort)
    histories = [opened.volume(record).history for record in opened.records]
    histories += [medgan.read_volume(path).history for path in scans.iterdir() if path.suffix != ".tsv"]
    assert not _found_in(repr(histories).encode())

"""Translation from files to files: training, `medgan translate`, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pydicom
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from medgan.cli import app
from medgan.data.prepare import prepare
from medgan.errors import MedganError
from medgan.inference.model import load_model
from medgan.inference.translate import translate
from medgan.io import read_volume
from medgan.reporter import Reporter
from medgan.workflows.train import TrainingOutcome, train
from medgan.workflows.translate import translate_scans

SHAPE = (14, 13, 15)
TINY = [
    "network.channels=2",
    "network.levels=2",
    "translation.patch=[8,8,8]",
    "translation.margin=2",
    "translation.discriminator_width=2",
    "translation.pool_size=3",
    "training.batch_size=2",
    "training.mode=exact",
    "training.tick_steps=2",
    "training.checkpoint_ticks=1",
]


class Heard(Reporter):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six subjects with T1w and T2w on oblique grids, and one with T1w alone, which is to train."""
    folder = tmp_path_factory.mktemp("scans")
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    rows = ["participant_id\tsplit"]
    for subject in range(7):
        rng = np.random.default_rng(subject)
        a, b, c = rng.uniform(0.6, 0.9, 3)
        head = np.clip(4 * (1 - (x / a) ** 2 - (y / b) ** 2 - (z / c) ** 2), 0, 1)
        t1 = 800 * head * (0.6 + 0.4 * np.cos(5 * x) * np.cos(4 * y)) + rng.uniform(0, 9, SHAPE)
        t2 = 3000 * head * (1 - t1 / 900) + rng.uniform(0, 9, SHAPE)
        affine = nib.affines.from_matvec(np.diag([2.0, 2.0, 2.0]), [-14 + subject, -13, -15])
        for contrast, voxels in (("T1w", t1), ("T2w", t2)):
            if subject < 6 or contrast == "T1w":
                nib.save(
                    nib.Nifti1Image(voxels.astype(np.float32), affine), folder / f"sub-{subject}_{contrast}.nii.gz"
                )
        rows.append(f"{subject}\t{'test' if subject in (4, 5) else 'train'}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def cohort(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "both"
    prepare([scans], folder, own_grids=True)
    return folder


def _train(method: str, cohort: Path, out: Path | None, **options: Any) -> TrainingOutcome:
    if "resume" not in options:
        tracking = f"tracking.enabled={str(method == 'pix2pix').lower()}"
        options = {"overrides": [*TINY, tracking], "steps": 6, "out": out, **options}
    return train(f"translation/{method}", cohort, device="cpu", **options)


@pytest.fixture(scope="module", params=["pix2pix", "cyclegan"])
def trained(
    request: pytest.FixtureRequest, cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, TrainingOutcome]:
    heard = Heard()
    outcome = _train(request.param, cohort, tmp_path_factory.mktemp(request.param) / "run", reporter=heard)
    left_out = [line for line in heard.lines if "1 of 5 visits are left out" in line and ": sub-6" in line]
    assert len(left_out) == (request.param == "pix2pix")
    return request.param, outcome


def test_a_finished_run_leaves_everything(trained: tuple[str, TrainingOutcome]) -> None:
    method, outcome = trained
    config = json.loads((outcome.folder / "model" / "config.json").read_text())
    assert (config["task"], config["source"], config["target"]) == ("translation", "T1w", "T2w")
    assert config["directions"] == (["there"] if method == "pix2pix" else ["there", "back"])
    assert config["normalisation"]["target"]["high"] > 2 * config["normalisation"]["source"]["high"]
    assert (outcome.folder / "report.html").stat().st_size > 10_000
    expected = {"psnr_gain_db", "mean"} if method == "pix2pix" else {"cycle_error", "intensity_distance"}
    assert expected <= outcome.figures.keys()


def test_the_tracked_model_translates_too(trained: tuple[str, TrainingOutcome], scans: Path, tmp_path: Path) -> None:
    method, outcome = trained
    if method == "cyclegan":
        assert outcome.run_id is None
        return
    client = MlflowClient(f"sqlite:///{outcome.folder.parent / 'mlflow.db'}")
    served = mlflow.pyfunc.load_model(client.download_artifacts(str(outcome.run_id), "model", str(tmp_path)))
    scan = read_volume(scans / "sub-4_T1w.nii.gz")
    expected = translate(scan, load_model(outcome.folder)).data[0]
    np.testing.assert_allclose(served.predict(str(scans / "sub-4_T1w.nii.gz")), expected, rtol=1e-6)
    np.testing.assert_allclose(served.predict(scan.as_float()), expected, rtol=1e-6)


@pytest.mark.slow
def test_stop_and_resume_equals_uninterrupted(
    trained: tuple[str, TrainingOutcome], cohort: Path, tmp_path: Path
) -> None:
    method, outcome = trained
    assert not _train(method, cohort, tmp_path / "run", stop_after=3).finished
    resumed = _train(method, cohort, None, resume=tmp_path / "run")
    weights = [(one.folder / "model" / "weights.safetensors").read_bytes() for one in (outcome, resumed)]
    assert weights[0] == weights[1]


def test_a_file_becomes_a_file_in_the_same_place(
    trained: tuple[str, TrainingOutcome], scans: Path, tmp_path: Path
) -> None:
    _, outcome = trained
    out = tmp_path / "made.nii.gz"
    answer = CliRunner().invoke(
        app, ["translate", str(scans / "sub-4_T1w.nii.gz"), "--model", str(outcome.folder), "-o", str(out)]
    )
    assert answer.exit_code == 0, answer.output
    source, made = nib.load(scans / "sub-4_T1w.nii.gz"), nib.load(out)
    np.testing.assert_array_equal(made.affine, source.affine)
    assert made.shape == source.shape
    assert b"DERIVED" in bytes(made.header["descrip"])
    assert read_volume(out).metadata["made_contrast"] is True
    sidecar = json.loads((tmp_path / "made.json").read_text())
    assert (sidecar["source_contrast"], sidecar["made_contrast"]) == ("T1w", "T2w")
    assert len(sidecar["model_sha256"]) == 64
    assert "invented" in sidecar["notice"]
    assert str(scans) not in json.dumps(sidecar)


def test_the_way_back(trained: tuple[str, TrainingOutcome], scans: Path, tmp_path: Path) -> None:
    method, outcome = trained
    arguments: dict[str, Any] = {"model": outcome.folder, "reverse": True, "device": "cpu"}
    scan = scans / "sub-4_T2w.nii.gz"
    if method == "pix2pix":
        with pytest.raises(MedganError, match="from T1w to T2w alone"):
            translate_scans([scan], tmp_path / "made.nii.gz", **arguments)
    else:
        translate_scans([scan], tmp_path / "made.nii.gz", **arguments)
        assert json.loads((tmp_path / "made.json").read_text())["made_contrast"] == "T1w"


@pytest.fixture(scope="module")
def model(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train("pix2pix", cohort, tmp_path_factory.mktemp("model") / "run", steps=2).folder


def test_a_dicom_series_becomes_a_derived_one(model: Path, patient_series: Path, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="does not hold there"):
        translate_scans([patient_series], tmp_path / "out", model=model, format="dicom", device="cpu")
    config = json.loads((model / "model" / "config.json").read_text())
    (model / "model" / "config.json").write_text(json.dumps({**config, "spacing": [1.0, 1.0, 2.0]}))
    try:
        (folder,) = translate_scans(
            [patient_series], tmp_path / "out", model=model, format="dicom", device="cpu"
        ).written
    finally:
        (model / "model" / "config.json").write_text(json.dumps(config))
    image = pydicom.dcmread(sorted(folder.iterdir())[0])
    assert image.PatientID == "SECRET-42"
    assert image.ImageType[0] == "DERIVED"
    assert "translated from T1w to T2w" in image.DerivationDescription
    np.testing.assert_allclose(read_volume(folder).affine, read_volume(patient_series).affine, atol=1e-6)


def test_what_cannot_be_translated_is_refused(model: Path, scans: Path, tmp_path: Path) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    labels = np.zeros(SHAPE, np.int16)
    labels[3:9, 3:9, 3:9] = 1
    labels[9:12, 3:9, 3:9] = 2
    for name, voxels, message in (
        ("flat", np.full(SHAPE, 7, np.int16), "there is nothing to translate"),
        ("sub-1_dseg", labels, "label map .*the labels fit the result"),
    ):
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / f"{name}.nii.gz")
        with pytest.raises(MedganError, match=message):
            translate_scans([tmp_path / f"{name}.nii.gz"], tmp_path / "out.nii.gz", model=model, device="cpu")
    with pytest.raises(MedganError, match="by its name this is a T2w scan, and the model translates from T1w"):
        translate_scans([scans / "sub-4_T2w.nii.gz"], tmp_path / "out.nii.gz", model=model, device="cpu")
    with pytest.raises(MedganError, match="would replace the scan"):
        translate_scans([scans / "sub-4_T1w.nii.gz"], scans / "sub-4_T1w.nii.gz", model=model, device="cpu")
    with pytest.raises(MedganError, match="no format"):
        translate_scans([scans / "sub-4_T1w.nii.gz"], tmp_path / "out", model=model, format="png", device="cpu")
    assert not (tmp_path / "out.nii.gz").exists()


def test_of_several_scans_one_that_fails_does_not_cost_the_others(model: Path, scans: Path, tmp_path: Path) -> None:
    names = ["sub-4_T1w.nii.gz", "sub-4_T2w.nii.gz", "sub-5_T1w.nii.gz"]
    result = translate_scans([scans / name for name in names], tmp_path / "out", model=model, device="cpu")
    assert {path.name for path in result.written} == {names[0], names[2]}
    ((failed, reason),) = result.failures
    assert failed.name == names[1]
    assert "T2w" in reason


def test_a_model_for_something_else_is_refused(model: Path, scans: Path, tmp_path: Path) -> None:
    from medgan.workflows.upscale import upscale_scans

    with pytest.raises(MedganError, match="trained for translation, upscale needs"):
        upscale_scans([scans / "sub-4_T1w.nii.gz"], tmp_path / "out.nii.gz", model=model, device="cpu")
    with pytest.raises(MedganError, match="trained for super-resolution, translate needs"):
        translate_scans([scans / "sub-4_T1w.nii.gz"], tmp_path / "o.nii.gz", model="mri-universal", device="cpu")


def test_cohorts_that_cannot_teach_leave_nothing_behind(cohort: Path, tmp_path: Path) -> None:
    for overrides, message in (
        (["target=FLAIR"], "no FLAIR scan in its split 'train' .contrasts there: T1w, T2w"),
        (["training.stop.below=1"], "training.stop is kid"),
    ):
        with pytest.raises(MedganError, match=message):
            _train("pix2pix", cohort, tmp_path / "run", overrides=[*TINY, "tracking.enabled=false", *overrides])
    assert not (tmp_path / "run").exists()

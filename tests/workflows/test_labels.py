"""Labels from a participants table to samples by label."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from typer.testing import CliRunner

from medgan.cli import app
from medgan.data.cohort import Cohort
from medgan.data.prepare import prepare
from medgan.errors import MedganError
from medgan.inference.generate import generate
from medgan.inference.model import load_model
from medgan.io import read_volume
from medgan.recipe import SynthesisRecipe
from medgan.recipe_files import load_recipe
from medgan.training.batches import LabelledVolumes
from medgan.workflows.arguments import labels
from medgan.workflows.export_model import normalisation_of, typical_affine
from medgan.workflows.generate import generate_scans
from medgan.workflows.plan import describe_training
from medgan.workflows.train import CohortBatches, build_objective, train

TINY = [
    "network.width=8",
    "network.max_width=8",
    "network.latent_size=4",
    "network.base_size=3",
    "training.batch_size=4",
    "training.tick_steps=1",
    "training.watchdogs.mode=off",
    "training.mode=exact",
    "synthesis.evaluation_samples=4",
    "tracking.enabled=false",
]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Twelve scans: the larger the ball, the older; patients have it on the left."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "scans").mkdir()
    rows = ["participant_id\tage\tgroup\tcentre"]
    for index in range(12):
        patient, age = index % 2, 20 + 5 * index
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in (12, 14, 10)), indexing="ij"))
        middle = np.array([3.5 if patient else 8.5, 7, 5])[:, None, None, None]
        scan = 800 * np.exp(-((grid - middle) ** 2).sum(axis=0) / (4 + age / 10)) + 5
        nib.save(
            nib.Nifti1Image(scan.astype(np.float32), np.diag([4, 4, 4, 1])),
            folder / "scans" / f"sub-{index:02d}.nii.gz",
        )
        rows.append(f"sub-{index:02d}\t{age}\t{'patient' if patient else 'control'}\t{'n/a' if index == 3 else 1}")
    (folder / "scans" / "participants.tsv").write_text("\n".join(rows) + "\n")
    prepare([folder / "scans"], folder / "cohort", spacing=(4, 4, 4), split=(0.7, 0.15, 0.15))
    return Cohort.load(folder / "cohort")


def _recipe(*overrides: str) -> SynthesisRecipe:
    recipe = load_recipe("synthesis/cgan", [*TINY, "synthesis.labels.names=[group,age]", *overrides])
    assert isinstance(recipe, SynthesisRecipe)
    return recipe


@pytest.fixture(scope="module")
def model(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as a training would write it, with untrained weights."""
    from medgan.networks.saved import save_model

    objective = build_objective(_recipe(), cohort, torch.device("cpu"))
    config, weights = objective.export(objective.networks["generator"])
    config |= {"medgan_version": "0", "normalisation": normalisation_of(cohort), "affine": typical_affine(cohort)}
    return save_model(tmp_path_factory.mktemp("run") / "model", config, weights)


def test_batches_with_labels_are_a_function_of_seed_and_position(cohort: Cohort) -> None:
    sources = [
        CohortBatches(_recipe(f"training.workers={workers}", "synthesis.flip=false"), cohort) for workers in (0, 2)
    ]
    streams = [source.stream(1) for source in sources]
    coding = build_objective(_recipe(), cohort, torch.device("cpu")).networks["generator"].coding
    for step in (1, 2, 3):
        one, other = (next(stream) for stream in streams)
        assert isinstance(one, LabelledVolumes)
        assert isinstance(other, LabelledVolumes)
        assert torch.equal(one.volumes, other.volumes)
        assert torch.equal(one.labels, other.labels)
        records = sources[0].source.batch(step).records
        for code, record in zip(one.labels, records, strict=True):
            assert coding.decoded(code.numpy())["group"] == record.labels["group"]  # type: ignore[operator, union-attr]
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]


def test_a_recipe_without_labels_has_plain_batches(cohort: Cohort) -> None:
    recipe = _recipe("synthesis.labels.names=[]")
    batch = next(CohortBatches(recipe, cohort).stream(0))
    assert isinstance(batch, torch.Tensor)
    objective = build_objective(recipe, cohort, torch.device("cpu"))
    assert objective.export(objective.networks["generator"])[0]["labels"] == []


def test_cohorts_that_lack_labels_are_refused_before_a_training(cohort: Cohort) -> None:
    for names, words in (
        ("agee", "no scan of the cohort has a label 'agee'"),
        ("centre", "label centre is .*missing|in all"),
    ):
        with pytest.raises(MedganError, match=words):
            describe_training("synthesis/cgan", cohort.folder, overrides=[*TINY, f"synthesis.labels.names={names}"])
    with pytest.raises(MedganError, match=r"labels.*not told labels"):
        load_recipe("synthesis/alpha_wgan", ["synthesis.labels.names=age"])
    with pytest.raises(MedganError, match="names has age twice"):
        load_recipe("synthesis/cgan", ["synthesis.labels.names=[age,age]"])
    with pytest.raises(MedganError, match=r"synthesis\.labels\.names"):
        load_recipe("synthesis/cgan", ["synthesis.labels.names=3"])
    with pytest.raises(MedganError, match="classes has site, which names has not"):
        load_recipe("synthesis/cgan", ["synthesis.labels.classes=site"])


def test_samples_have_the_labels_that_are_asked_for(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate_scans(model, 2, out, labels={"age": "50", "group": "patient"}, device="cpu")
    samples = json.loads((out / "samples.json").read_text())["samples"]
    assert [one["labels"] for one in samples] == [{"group": "patient", "age": 50.0}] * 2
    loaded = load_model(model)
    assert loaded.config["labels"] == ["group", "age"]
    (volume,) = generate(loaded, 1, first=1, labels={"age": 50.0, "group": "patient"})
    assert volume.metadata["labels"] == {"group": "patient", "age": 50.0}
    network = loaded.network()
    from medgan.networks.latents import latent

    with torch.inference_mode():
        raw = network(latent(0, 1, 4)[None], network.codes([volume.metadata["labels"]]))[0]  # type: ignore[operator]
    scale = loaded.config["normalisation"]
    expected = np.maximum(scale["low"] + (raw.numpy() + 1) / 2 * (scale["high"] - scale["low"]), scale["minimum"])
    np.testing.assert_allclose(volume.data, expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(read_volume(out / "synthetic-0001.nii.gz").data, volume.data)
    (young,) = generate(loaded, 1, first=1, labels={"age": 20.0, "group": "patient"})
    assert not np.array_equal(young.data, volume.data)


def test_labels_that_are_not_asked_for_are_drawn_and_recorded(model: Path) -> None:
    loaded = load_model(model)
    many = [volume.metadata["labels"] for volume in generate(loaded, 12, seed=4)]
    assert {one["group"] for one in many} == {"patient", "control"}
    assert all(20 <= one["age"] <= 75 for one in many)
    (alone,) = generate(loaded, 1, seed=4, first=7)
    assert alone.metadata["labels"] == many[7]
    (no_label,) = generate(loaded, 1, labels={"age": None, "group": None})
    assert no_label.metadata["labels"] == {"group": None, "age": None}


def test_bids_and_dicom_know_the_labels(model: Path, tmp_path: Path) -> None:
    generate_scans(model, 2, tmp_path / "bids", labels={"age": 30.0}, format="bids", contrast="T1w", device="cpu")
    rows = [row.split("\t") for row in (tmp_path / "bids" / "participants.tsv").read_text().splitlines()]
    assert rows[0] == ["participant_id", "synthetic", "group", "age"]
    assert [row[3] for row in rows[1:]] == ["30.0", "30.0"]
    sidecar = json.loads(next((tmp_path / "bids").glob("sub-*0001/anat/*.json")).read_text())
    assert sidecar["MedganLabels"] == {"group": rows[2][2], "age": 30.0}
    identities = set()
    for age in (30.0, 40.0):
        (series,) = generate_scans(model, 1, tmp_path / f"{age}", labels={"age": age}, format="dicom", device="cpu")
        image = pydicom.dcmread(next(series.iterdir()))
        identities.add((image.PatientID, image.SeriesInstanceUID))
    assert len({one for one, _ in identities}) == len({other for _, other in identities}) == 2


def test_labels_on_the_command_line(model: Path, tmp_path: Path) -> None:
    assert labels(["sex=F", "age = 60", "site="], "--label") == {"sex": "F", "age": "60", "site": None}
    for texts, words in ((["age"], "it must be a label, = and a value"), (["age=1", "age=2"], "names age twice")):
        with pytest.raises(MedganError, match=words):
            labels(texts, "--label")

    def called(*options: str) -> object:
        result = CliRunner().invoke(app, ["generate", str(model), "-n", "1", "--out", str(tmp_path / "out"), *options])
        return result.exception

    for options, words in (
        (("--label", "sex=F"), "no label 'sex'; it was trained with group, age"),
        (("--label", "group=ill"), "group is 'ill', which no training scan was; it is one of control, patient"),
        (("--label", "age=130"), "only reach from 20 to 75"),
    ):
        error = called(*options)
        assert words in str(error), error
        assert not (tmp_path / "out").exists()
    assert called("--label", "group=patient", "--label", "age=33", "--device", "cpu") is None
    (one,) = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
    assert one["labels"] == {"group": "patient", "age": 33.0}


@pytest.mark.slow
def test_from_a_cohort_to_samples_by_label(cohort: Cohort, tmp_path: Path) -> None:
    names = "synthesis.labels.names=[group,age]"
    outcome = train(
        "synthesis/cgan", cohort.folder, overrides=[*TINY, names], steps=3, out=tmp_path / "run", device="cpu"
    )
    assert outcome.finished
    (path,) = generate_scans(tmp_path / "run", 1, tmp_path / "out", labels={"group": "patient"}, device="cpu")
    assert read_volume(path).shape == (12, 14, 10)

"""Label maps to scans from cohort to files: training, evaluation, generated pairs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medgan.cli import app
from medgan.data.cohort import Cohort
from medgan.data.prepare import prepare
from medgan.errors import MedganError
from medgan.io import read_volume
from medgan.workflows.generate import generate_scans
from medgan.workflows.generate_from_masks import generate_from_masks
from medgan.workflows.train import train

SIZES = [
    "network.width=4",
    "network.max_width=8",
    "network.latent_size=8",
    "network.embedding=4",
    "network.base_size=2",
    "network.discriminator_width=4",
    "training.batch_size=2",
    "training.tick_steps=1",
    "tracking.enabled=false",
]
SHAPE = (10, 12, 9)
AFFINE = np.array([[-2.0, 0.2, 0, 9], [0.2, 2, 0, -4], [0, 0, 3, 2], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scans of a bright and a dark block, and their label maps 1 and 4."""
    root = tmp_path_factory.mktemp("pairs")
    for number in range(12):
        rng = np.random.default_rng(number)
        labels = np.zeros(SHAPE, np.uint8)
        a, b = rng.integers(1, 4, 2)
        labels[a : a + 4, 2:8, 2:7], labels[6:9, b : b + 5, 3:8] = 1, 4
        scan = np.choose(np.searchsorted([0, 1, 4], labels), [100, 800, 400]) + 20 * rng.random(SHAPE)
        for kind, data in (("images", scan.astype(np.float32)), ("labels", labels)):
            (root / kind).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(data, AFFINE), root / kind / f"case_{number:02d}.nii.gz")
    return root


@pytest.fixture(scope="module")
def cohort(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    out = tmp_path_factory.mktemp("cohort") / "pairs"
    return prepare([scans / "images"], out, masks=scans / "labels", split=(0.5, 0.1, 0.4)).cohort


@pytest.fixture(scope="module")
def run(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    outcome = train("synthesis/mask_to_scan", cohort.folder, overrides=SIZES, steps=2, out=out, device="cpu")
    assert outcome.finished
    return out


@pytest.fixture(scope="module")
def pairs(run: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans for each of two label maps."""
    root = tmp_path_factory.mktemp("generated")
    (root / "masks").mkdir()
    for number in (0, 1):
        shutil.copy(scans / "labels" / f"case_{number:02d}.nii.gz", root / "masks" / f"patient_{number}.nii.gz")
    generate_from_masks(run, root / "masks", 3, root / "out", seed=7)
    return root


def test_a_training_is_evaluated_inside_labels_and_reported(run: Path, cohort: Cohort) -> None:
    figures = json.loads((run / "figures.json").read_text())
    assert figures["task"] == "mask_to_scan"
    assert figures["held_out"] == len(cohort.split("test"))
    assert [one["label"] for one in figures["labels"]] == [0, 1, 4]
    bright = figures["labels"][1]
    truths = []
    for record in cohort.split("test"):
        voxels, mask = np.asarray(cohort.voxels(record)), np.asarray(cohort.mask(record))
        low, high = (np.percentile(voxels, one) for one in (0.5, 99.5))
        truths.append(((voxels[mask == 1] - low) / (high - low)).mean())
    assert bright["real_mean"] == pytest.approx(np.mean(truths), abs=1e-4)
    assert figures["kid"] is not None
    page = (run / "report.html").read_text()
    assert "Scans made from label maps" in page
    assert "case_" not in page
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["mask_labels"] == [0, 1, 4]
    learned = config["training"]["trained_on"]
    scans = {record.voxels_sha256 for record in cohort.split("train")}
    assert set(learned) == scans | {record.mask.voxels_sha256 for record in cohort.split("train") if record.mask}


def test_pairs_lie_on_the_grid_of_their_label_map(pairs: Path) -> None:
    names = sorted(path.name for path in (pairs / "out" / "images").glob("*.nii.gz"))
    assert names == [f"synthetic-{number:04d}.nii.gz" for number in range(6)]
    for number, name in enumerate(names):
        source = nib.load(pairs / "masks" / f"patient_{number // 3}.nii.gz")
        label_map, scan = (nib.load(pairs / "out" / kind / name) for kind in ("labels", "images"))
        np.testing.assert_array_equal(np.asarray(label_map.dataobj), np.asarray(source.dataobj))
        assert label_map.get_data_dtype() == np.uint8
        for image in (label_map, scan):
            assert image.shape == SHAPE
            np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
        assert read_volume(pairs / "out" / "images" / name).metadata["synthetic"]


def test_samples_tell_their_parents_but_nobodys_name(pairs: Path) -> None:
    text = (pairs / "out" / "samples.json").read_text()
    assert "patient_" not in text
    about = json.loads(text)
    for number, one in enumerate(about["samples"]):
        source = pairs / "masks" / f"patient_{number // 3}.nii.gz"
        (parent,) = one["parents"]
        assert (parent["kind"], parent["sha256"]) == ("label map", hashlib.sha256(source.read_bytes()).hexdigest())
        assert (one["seed"], one["index"]) == (7, number % 3)
        assert (pairs / "out" / one["file"]).is_file()
        assert (pairs / "out" / one["label_map"]).is_file()


def test_a_scan_is_the_same_whatever_else_is_drawn(run: Path, pairs: Path, tmp_path: Path) -> None:
    made = generate_from_masks(run, pairs / "masks" / "patient_1.nii.gz", 1, tmp_path / "one", seed=7)
    np.testing.assert_array_equal(
        read_volume(made.images[0]).data, read_volume(pairs / "out" / "images" / "synthetic-0003.nii.gz").data
    )


def test_pairs_are_a_cohort_whose_siblings_stay_together(pairs: Path, tmp_path: Path) -> None:
    out = pairs / "out"
    cohort = prepare([out / "images"], tmp_path / "cohort", masks=out / "labels", split=(0.5, 0.5, 0)).cohort
    assert len(cohort.records) == 6
    assert {record.subject for record in cohort.records} == {"mask-0000", "mask-0001"}
    assert all(record.mask is not None for record in cohort.records)
    assert len({record.split for record in cohort.records if record.subject == "mask-0000"}) == 1


def test_warped_pairs_show_other_shapes_and_keep_their_parents(run: Path, pairs: Path, tmp_path: Path) -> None:
    source = pairs / "masks" / "patient_0.nii.gz"
    made = generate_from_masks(run, source, 2, tmp_path / "out", warp=1.5)
    original = np.asarray(nib.load(source).dataobj)
    shapes = [np.asarray(nib.load(path).dataobj) for path in made.labels]
    assert not np.array_equal(shapes[0], original)
    assert not np.array_equal(shapes[0], shapes[1])
    assert set(np.unique(shapes)) <= {0, 1, 4}
    about = json.loads((tmp_path / "out" / "samples.json").read_text())
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert [one["parents"][0]["sha256"] for one in about["samples"]] == [digest, digest]
    # A pair for the label map of a pair descends from the first parent as well.
    generate_from_masks(run, made.labels[1], 1, tmp_path / "again")
    (again,) = json.loads((tmp_path / "again" / "samples.json").read_text())["samples"]
    assert digest in {one["sha256"] for one in again["parents"]}
    with pytest.raises(MedganError, match="warp"):
        generate_from_masks(run, source, 1, tmp_path / "none", warp=-1.0)


def test_one_bad_label_map_of_several_is_listed(run: Path, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    shutil.copy(scans / "labels" / "case_00.nii.gz", tmp_path / "masks" / "a.nii.gz")
    shutil.copy(scans / "images" / "case_00.nii.gz", tmp_path / "masks" / "b.nii.gz")
    answer = CliRunner().invoke(
        app, ["generate", str(run), "--masks", str(tmp_path / "masks"), "-n", "1", "--out", str(tmp_path / "out")]
    )
    assert answer.exit_code == 1, answer.output
    assert "1 synthetic scans with their label maps" in answer.output
    assert "no labels" in answer.output
    with pytest.raises(MedganError, match="no labels"):
        generate_from_masks(run, tmp_path / "masks" / "b.nii.gz", 1, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_does_not_go_together_is_refused(run: Path, scans: Path, tmp_path: Path) -> None:
    label_map = scans / "labels" / "case_00.nii.gz"
    with pytest.raises(MedganError, match="trained for mask-to-scan") as caught:
        generate_scans(run, 1, tmp_path / "out")
    assert "--masks" in str(caught.value)
    with pytest.raises(MedganError, match="written as NIfTI, not as 'dicom'"):
        generate_from_masks(run, label_map, 1, tmp_path / "out", format="dicom")
    plain = prepare([scans / "images"], tmp_path / "plain").cohort
    with pytest.raises(MedganError, match="have no label map"):
        train("synthesis/mask_to_scan", plain.folder, overrides=SIZES, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()

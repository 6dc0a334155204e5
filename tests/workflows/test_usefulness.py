"""Usefulness from generated pairs to the page, on blocks that a network learns in seconds; and every way to cheat."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from medgan.cli import app
from medgan.data.cohort import Cohort
from medgan.data.kinship import training_hashes
from medgan.data.leaks import require_no_leak
from medgan.data.lineage import LeakError, voxels_sha256
from medgan.data.masked_volumes import label_values_of
from medgan.data.prepare import prepare
from medgan.errors import MedganError
from medgan.io import read_volume
from medgan.networks.saved import save_model
from medgan.recipe_files import load_recipe
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.tracking import list_runs
from medgan.training.mask_to_scan import MaskToScanObjective
from medgan.workflows.generate_from_masks import generate_from_masks
from medgan.workflows.usefulness import UsefulnessOptions, evaluate_usefulness

SHAPE = (10, 12, 9)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SMALL = [
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
QUICK = UsefulnessOptions(steps=20, width=4, batch_size=2, seeds=2, learning_rate=0.01, tracking=False)


def _write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scans of a bright and a dim block with their label maps; half of them for the test."""
    root = tmp_path_factory.mktemp("scans")
    rows = ["file\tsubject\tsplit\tgroup"]
    for number in range(12):
        rng = np.random.default_rng(number)
        labels = np.zeros(SHAPE, np.uint8)
        a, b, c = number % 3 + 1, number // 3 + 1, rng.integers(2, 4)
        labels[a : a + 4, 2:8, c:7], labels[6:9, b : b + 5, 3:8] = 1, 4
        scan = np.choose(np.searchsorted([0, 1, 4], labels), [100, 800, 400]) + 40 * rng.random(SHAPE)
        if number % 2:
            scan[:2] = 900
        _write(root / "images" / f"case_{number:02d}.nii.gz", scan.astype(np.float32))
        _write(root / "labels" / f"case_{number:02d}.nii.gz", labels)
        group = "patient" if number % 2 else "control"
        rows.append(f"case_{number:02d}.nii.gz\tcase_{number:02d}\t{'train' if number < 6 else 'test'}\t{group}")
    (root / "images" / "participants.tsv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def real(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    out = tmp_path_factory.mktemp("cohort") / "real"
    return prepare([scans / "images"], out, masks=scans / "labels").cohort


def _generator(cohort: Cohort, folder: Path) -> Path:
    """A generator with fresh weights that says that it learned from a cohort's training scans."""
    labels = label_values_of(cohort)
    recipe = load_recipe("synthesis/mask_to_scan", SMALL)
    assert isinstance(recipe, MaskToScanRecipe)
    objective = MaskToScanObjective(
        recipe, labels=labels, shape=cohort.shape, spacing=cohort.spacing, device=torch.device("cpu")
    )
    config, weights = objective.export(objective.generator)
    config |= {
        "medgan_version": "0",
        "normalisation": {"low": 100.0, "high": 800.0, "minimum": 0.0},
        "training": {"trained_on": training_hashes(cohort)},
    }
    return save_model(folder, config, weights)


@pytest.fixture(scope="module")
def model(real: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _generator(real, tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def pairs(model: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two warped pairs for each training label map."""
    root = tmp_path_factory.mktemp("pairs")
    for number in range(6):
        (root / "masks").mkdir(exist_ok=True)
        shutil.copy(scans / "labels" / f"case_{number:02d}.nii.gz", root / "masks" / f"{number}.nii.gz")
    generate_from_masks(model, root / "masks", 2, root / "out", warp=1.0)
    return root / "out"


def _synthetic(folder: Path, out: Path, real: Cohort) -> Cohort:
    return prepare(
        [folder / "images"], out, spacing=real.spacing, shape=real.shape, masks=folder / "labels", split=(1, 0, 0)
    ).cohort


def test_the_card_compares_arms_seed_by_seed(real: Cohort, pairs: Path, tmp_path: Path) -> None:
    options = UsefulnessOptions(**{**vars(QUICK), "tracking": True})
    figures = evaluate_usefulness(real.folder, pairs, tmp_path / "card", options=options, device="cpu")
    assert json.loads((tmp_path / "card" / "usefulness.json").read_text()) == figures
    assert figures["counts"] == {"real": 6, "synthetic": 12, "test_scans": 6, "test_subjects": 6}
    arms, first = figures["arms"], figures["differences"][0]
    assert list(arms) == ["real", "real+synthetic", "synthetic"]
    assert (first["first"], first["second"], first["measure"]) == ("real", "real+synthetic", "Dice")
    gaps = np.subtract(arms["real+synthetic"]["by_seed"], arms["real"]["by_seed"])
    assert first["estimate"]["value"] == pytest.approx(gaps.mean())
    assert arms["real"]["mean"] == pytest.approx(np.mean(arms["real"]["by_seed"]))
    assert arms["real"]["mean"] == pytest.approx(np.mean(list(arms["real"]["by_label"].values())))
    # Blocks of three grey values are easy; a generator that was never trained draws nothing of use.
    assert arms["real"]["mean"] > 0.5 > arms["synthetic"]["mean"]
    assert ("includes zero" in figures["sentence"]) == first["includes_zero"]
    assert figures["descent"]["of_training_scans"] == 12
    assert figures["descent"]["generators_learned_from"] == 6
    assert figures["descent"]["unknown"] == figures["descent"]["generators_learned_elsewhere"] == 0
    assert any("seed" in caution for caution in figures["cautions"])
    page = (tmp_path / "card" / "usefulness.html").read_text()
    assert figures["sentence"] in page
    assert "case_" not in page + json.dumps(figures)
    (run,) = list_runs(tmp_path)
    assert run.value == pytest.approx(first["estimate"]["value"])


@pytest.mark.slow
def test_the_same_call_gives_the_same_figures(real: Cohort, pairs: Path, tmp_path: Path) -> None:
    options = UsefulnessOptions(**{**vars(QUICK), "steps": 2, "seeds": 1})
    first, second = (
        evaluate_usefulness(real.folder, pairs, tmp_path / name, options=options, device="cpu") for name in "ab"
    )
    assert first == second


def test_a_child_of_a_test_scan_is_refused(real: Cohort, model: Path, scans: Path, tmp_path: Path, pairs: Path) -> None:
    for warp in (0.0, 1.0):
        out = tmp_path / f"warped {warp}"
        generate_from_masks(model, scans / "labels" / "case_11.nii.gz", 1, out, warp=warp)
        with pytest.raises(LeakError, match=r"label map of a test scan.*\('case_11' of the real cohort\)"):
            evaluate_usefulness(real.folder, out, tmp_path / "card", options=QUICK, device="cpu")
    assert not (tmp_path / "card").exists()
    # Copied to other names and saved in another format, type and order of axes, it is the same child.
    moved = tmp_path / "moved"
    for kind in ("images", "labels"):
        image = nib.load(out / kind / "synthetic-0000.nii.gz")
        flipped = nib.as_closest_canonical(image).slicer[::-1]
        _write(moved / kind / "something.nii", np.asarray(flipped.dataobj, np.float64), flipped.affine)
    shutil.copy(out / "samples.json", moved / "samples.json")
    made = _synthetic(moved, tmp_path / "cohort", real)
    with pytest.raises(LeakError, match="case_11"):
        require_no_leak(real, made)


def test_a_child_without_papers_is_known_by_an_unchanged_label_map(
    real: Cohort, model: Path, scans: Path, tmp_path: Path
) -> None:
    generate_from_masks(model, scans / "labels" / "case_09.nii.gz", 1, tmp_path / "out")
    (tmp_path / "out" / "samples.json").unlink()
    made = _synthetic(tmp_path / "out", tmp_path / "cohort", real)
    with pytest.raises(LeakError, match=r"show the very same.*case_09"):
        require_no_leak(real, made, allow_unknown=True)


def test_a_generator_that_was_trained_on_test_scans_is_refused(real: Cohort, scans: Path, tmp_path: Path) -> None:
    table = (scans / "images" / "participants.tsv").read_text()
    shutil.copytree(scans, tmp_path / "other")
    (tmp_path / "other" / "images" / "participants.tsv").write_text(
        table.replace("case_07\ttest", "case_07\ttrain").replace("case_00\ttrain", "case_00\ttest")
    )
    other = prepare([tmp_path / "other" / "images"], tmp_path / "cohort", masks=tmp_path / "other" / "labels").cohort
    model = _generator(other, tmp_path / "model")
    generate_from_masks(model, scans / "labels" / "case_01.nii.gz", 1, tmp_path / "out", warp=1.0)
    with pytest.raises(LeakError, match=r"generator that was trained on a test scan \('case_07'"):
        evaluate_usefulness(real.folder, tmp_path / "out", tmp_path / "card", options=QUICK, device="cpu")


def test_unknown_parents_are_refused_unless_said_and_then_told(real: Cohort, pairs: Path, tmp_path: Path) -> None:
    shutil.copytree(pairs, tmp_path / "pairs")
    (tmp_path / "pairs" / "samples.json").unlink()
    with pytest.raises(LeakError, match="--allow-unknown-parents"):
        evaluate_usefulness(real.folder, tmp_path / "pairs", tmp_path / "card", options=QUICK, device="cpu")
    made = _synthetic(tmp_path / "pairs", tmp_path / "cohort", real)
    descent = require_no_leak(real, made, allow_unknown=True)
    assert descent.unknown == 12
    assert "nobody knows" in descent.cautions()[0]
    # A model that does not say what it learned from is as unknown.
    content = json.loads((pairs / "samples.json").read_text())
    (tmp_path / "pairs" / "samples.json").write_text(json.dumps({**content, "trained_on": None}))
    made = _synthetic(tmp_path / "pairs", tmp_path / "again", real)
    with pytest.raises(LeakError, match="do not say what"):
        require_no_leak(real, made)


def test_a_real_scan_among_the_synthetic_ones_is_found(real: Cohort, scans: Path, pairs: Path, tmp_path: Path) -> None:
    shutil.copytree(pairs, tmp_path / "pairs")
    image = nib.load(scans / "images" / "case_10.nii.gz")
    for kind, data in (
        ("images", np.asarray(image.dataobj, np.float32)[:, ::-1]),
        ("labels", np.zeros(SHAPE, np.uint8)),
    ):
        turned = image.affine @ np.array([[1, 0, 0, 0], [0, -1, 0, SHAPE[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
        _write(tmp_path / "pairs" / kind / "synthetic-0099.nii.gz", data, turned)
    made = _synthetic(tmp_path / "pairs", tmp_path / "cohort", real)
    with pytest.raises(LeakError, match="is the real test scan 'case_10'"):
        require_no_leak(real, made, allow_unknown=True)


def test_classes_are_told_apart_from_samples_by_label(real: Cohort, tmp_path: Path) -> None:
    """Samples that stand for a generator's: half of them bright at one end, as patients are."""
    samples = []
    for number in range(6):
        rng = np.random.default_rng(100 + number)
        scan = 40 * rng.random(SHAPE) + 100
        scan[3:7, 3:8, 2:7] = 800
        if number % 2:
            scan[:2] = 900
        name = f"synthetic-{number:04d}.nii.gz"
        _write(tmp_path / "made" / name, scan.astype(np.float32))
        labels = {"group": "patient" if number % 2 else "control"}
        digest = voxels_sha256(read_volume(tmp_path / "made" / name))
        samples.append({"file": name, "labels": labels, "voxels_sha256": digest})
    about = {"synthetic": True, "model_sha256": "0" * 64, "trained_on": training_hashes(real), "samples": samples}
    (tmp_path / "made" / "samples.json").write_text(json.dumps(about))
    options = UsefulnessOptions(**{**vars(QUICK), "steps": 40, "seeds": 1})
    figures = evaluate_usefulness(
        real.folder, tmp_path / "made", tmp_path / "card", label="group", options=options, device="cpu"
    )
    assert figures["counts"]["classes"] == ["control", "patient"]
    assert figures["arms"]["synthetic"]["mean"] > 0.9
    assert figures["arms"]["real"]["balanced_accuracy"] > 0.6
    assert {one["measure"] for one in figures["differences"]} == {"area under the curve", "balanced accuracy"}
    with pytest.raises(MedganError, match="nothing to tell apart"):
        evaluate_usefulness(real.folder, tmp_path / "made", tmp_path / "card", label="sex", options=options)


def test_what_cannot_be_measured_is_said(real: Cohort, scans: Path, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="images/ and labels/ are expected"):
        evaluate_usefulness(real.folder, pairs / "images", tmp_path / "card", options=QUICK)
    made = _synthetic(pairs, tmp_path / "cohort", real)
    with pytest.raises(MedganError, match="both are needed"):
        evaluate_usefulness(made.folder, pairs, tmp_path / "card", options=QUICK)
    with pytest.raises(MedganError, match="share"):
        UsefulnessOptions(share=1.0)
    with pytest.raises(MedganError, match="seeds"):
        UsefulnessOptions(seeds=0)


def test_the_verb(real: Cohort, pairs: Path, tmp_path: Path) -> None:
    words = ["evaluate", "usefulness", "--real", str(real.folder), "--synthetic", str(pairs), "--out"]
    quick = ["--steps", "2", "--width", "4", "--seeds", "1", "--no-tracking", "--device", "cpu"]
    answer = CliRunner().invoke(app, [*words, str(tmp_path / "card"), *quick])
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.strip().endswith("usefulness.html")
    assert "usefulness" in CliRunner().invoke(app, ["evaluate", "--help"]).output

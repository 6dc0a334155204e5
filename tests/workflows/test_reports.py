"""The pages about runs and evaluations: what stands on them, and what must not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medgan.data.cohort import Cohort
from medgan.errors import MedganError
from medgan.files import read_json
from medgan.recipe_files import load_recipe
from medgan.volume import Volume
from medgan.workflows.closest_blocks import close_pairs
from medgan.workflows.evaluate import evaluate_synthesis_files
from medgan.workflows.evaluate_restoration import evaluate_restoration_files
from medgan.workflows.methods import _networks, methods_of_card, methods_of_training, sentences_of_card
from medgan.workflows.methods_references import REFERENCES, cited

RECIPES = [f"{path.parent.name}/{path.stem}" for path in Path(__file__).parents[2].glob("configs/*/*.yaml")]


@pytest.fixture(scope="module")
def card_folder(phantom_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of four phantoms and a copy of a fifth against eight others, with volumes of regions."""
    folder = tmp_path_factory.mktemp("card")
    scans = sorted(phantom_scans.iterdir())
    for kind, chosen in (("real", scans[:8]), ("synthetic", [*scans[8:12], scans[2]])):
        (folder / kind).mkdir()
        for number, scan in enumerate(chosen):
            (folder / kind / f"Jane_Doe_{number}.nii.gz").write_bytes(scan.read_bytes())
    module = folder / "phantom_regions.py"
    module.write_text("def segment(volume):\n    return volume.data[0] > 400\nsegment.names = {1: 'head <b>'}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        evaluate_synthesis_files(
            folder / "real",
            folder / "synthetic",
            folder / "card",
            encoder="random",
            segmentation="phantom_regions:segment",
            cache=False,
        )
    return folder / "card"


def test_card_holds_verdicts_and_volumes(card_folder: Path, phantom_scans: Path) -> None:
    card = read_json(card_folder / "card.json")
    assert [verdict["topic"] for verdict in card["verdicts"]] == ["faithful", "diverse", "private", "anatomy"]
    assert all(verdict["level"] in ("good", "caution", "bad", "unknown") for verdict in card["verdicts"])
    (head,) = card["anatomy"]["regions"]
    images = [nib.load(path) for path in sorted(phantom_scans.iterdir())[:8]]
    volumes = [float((np.asarray(image.dataobj) > 400).sum() * 8**3 / 1000) for image in images]
    assert head["real_mean_ml"] == pytest.approx(np.mean(volumes))


def test_page_of_the_card_names_nobody_and_no_place(card_folder: Path) -> None:
    page = (card_folder / "card.html").read_text(encoding="utf-8")
    assert not re.search("Jane_Doe", page)
    assert str(card_folder.parent) not in page
    assert "head &lt;b&gt;" in page
    for words in ("Faithful", "Unknown", "On one scale", "Methods", "Provenance", "--segmentation SEGMENTATION"):
        assert words in page
    assert not re.search(r'(src|href)="(?!#|data:image/png)', page)


def test_the_copied_scan_is_the_first_pair(card_folder: Path) -> None:
    pairs = close_pairs(read_json(card_folder / "card.json"))
    assert len(pairs) >= 3
    # Numbers are those of the files in order of name: the copy is the last sample, of the third training scan.
    assert (pairs[0].sample, pairs[0].training) == (4, 2)


def test_cards_of_older_versions_have_pages(card_folder: Path, tmp_path: Path) -> None:
    from medgan.workflows.run_report import write_synthesis_card

    card = read_json(card_folder / "card.json")
    known = ("encoder", "features", "shape", "counts", "seed", "kid", "kid_floor", "diversity", "real_diversity")
    old = {key: card[key] for key in (*known, "intensity_distance", "intensity_floor")}
    audit = card["memorization"]
    old["memorization"] = {key: audit[key] for key in ("features", "voxels", "reference", "flagged")}
    scans = [Volume(np.random.default_rng(n).random((8, 8, 8)), np.eye(4)) for n in range(4)]
    write_synthesis_card(tmp_path / "old.html", old, scans, scans)
    page = (tmp_path / "old.html").read_text(encoding="utf-8")
    assert "KID" in page
    assert "Anatomy" not in page


def test_citations_are_numbered_in_order_of_mention() -> None:
    text, references = cited("As {kid}, {adam} and again {kid}.")
    assert text == "As [1], [2] and again [1]."
    assert references == [REFERENCES["kid"], REFERENCES["adam"]]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_methods_sentence(name: str) -> None:
    recipe = load_recipe(name)
    text, references = cited(_networks(recipe))
    assert recipe.task == "encoding" or len(text) > 50
    numbers = {int(number) for number in re.findall(r"\[(\d+)\]", text)}
    assert numbers == set(range(1, len(references) + 1))
    assert "{" not in text


def test_methods_of_a_training_hold_its_numbers(card_folder: Path, phantom_cohort: Path) -> None:
    recipe, cohort = load_recipe("synthesis/r3gan"), Cohort.load(phantom_cohort)
    card = read_json(card_folder / "card.json")
    (_, excerpt) = methods_of_training(recipe, cohort, card, steps=70, images=1234, device="a {machine}")
    text = excerpt.text  # type: ignore[union-attr]
    count = len(cohort.split("train"))
    for words in (f"trained on {count} scans", "14 subjects", "8 × 8 × 8 mm", "70 steps", "1234 images", "a (machine)"):
        assert words in text
    assert f"{card['kid']['value']:.3g}" in text
    (_, alone) = methods_of_card(card)
    assert cited(sentences_of_card(card))[1] == list(alone.references)  # type: ignore[union-attr]


def written(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine), path)


def test_restored_scans_with_everything_beside_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("Jane_Doe", "Joe_Roe"):
        truth = 500 + 50 * ndimage.gaussian_filter(rng.standard_normal((24, 24, 24)), 1.5) / 0.05
        truth[:3], truth[-3:] = 0, 0
        lesions = np.zeros_like(truth)
        lesions[10:14, 10:14, 10:14] = 1
        truth[lesions > 0] += 400
        restored = ndimage.gaussian_filter1d(truth, 0.8, axis=2)
        written(tmp_path / "truth" / f"{name}.nii.gz", truth, np.eye(4))
        written(tmp_path / "restored" / f"{name}.nii.gz", restored, np.eye(4))
        written(tmp_path / "lesions" / f"{name}.nii.gz", lesions, np.eye(4))
        thick = np.diag([1, 1, 2.0, 1])
        thick[2, 3] = 0.5
        written(tmp_path / "thick" / f"{name}.nii.gz", truth.reshape(24, 24, 12, 2).mean(3), thick)
    places: dict[str, Any] = {"lesions": tmp_path / "lesions", "acquired": tmp_path / "thick", "out": tmp_path / "card"}
    table = evaluate_restoration_files(tmp_path / "truth", tmp_path / "restored", **places)
    assert [row["name"] for row in table.rows] == ["Jane_Doe", "Joe_Roe"]
    for row in table.rows:
        assert 0 < row["lesion_contrast_kept"] < 1
        assert row["effective_resolution_mm"][2] > 1.5 > row["effective_resolution_mm"][0]
        assert 0 < row["consistency_relative"] < 0.1
    assert read_json(tmp_path / "card" / "restoration.json") == json.loads(json.dumps(table.rows))
    page = (tmp_path / "card" / "restoration.html").read_text(encoding="utf-8")
    assert "--acquired ACQUIRED --lesions LESIONS" in page
    assert not re.search("Jane_Doe|Joe_Roe", page)
    (tmp_path / "thick" / "Joe_Roe.nii.gz").unlink()
    with pytest.raises(MedganError, match="no scan here for Joe_Roe"):
        evaluate_restoration_files(tmp_path / "truth", tmp_path / "restored", acquired=tmp_path / "thick")

"""What is seen of translating networks: those that fail in a known way, and a training that does not."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.data.cohort import Cohort
from medgan.data.pairs import paired
from medgan.data.prepare import prepare
from medgan.errors import MedganError
from medgan.recipe_files import load_recipe
from medgan.recipe_translation import TranslationRecipe
from medgan.workflows.train import train
from medgan.workflows.watching_translation import TranslationLook

SHAPE = (16, 16, 16)
SMALL = ["translation.patch=[12,12,12]", "translation.margin=2", "training.batch_size=3", "tracking.enabled=false"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Eight subjects with T1w and, of just the same tissues, T2w = the square root of (1.01 - T1w) in a head."""
    folder = tmp_path_factory.mktemp("scans")
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    rows = ["participant_id\tsplit"]
    for subject in range(8):
        a, b, c = np.random.default_rng(subject).uniform(0.6, 0.9, 3)
        head = ((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2) < 1
        t1 = head * (0.55 + 0.4 * np.cos(5 * x + subject) * np.cos(4 * y))
        for contrast, voxels in (("T1w", 800 * t1), ("T2w", 900 * head * np.sqrt(np.clip(1.01 - t1, 0, None)))):
            image = nib.Nifti1Image(voxels.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
            nib.save(image, folder / f"sub-{subject}_{contrast}.nii.gz")
        rows.append(f"{subject}\t{'train' if subject < 5 else 'validation' if subject == 5 else 'test'}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return prepare([folder], tmp_path_factory.mktemp("cohort") / "both", own_grids=True).cohort


def _recipe(method: str, *changed: str) -> TranslationRecipe:
    recipe = load_recipe(f"translation/{method}", [*SMALL, *changed])
    assert isinstance(recipe, TranslationRecipe)
    return recipe


def _seen(cohort: Cohort, method: str, *changed: str, **networks: nn.Module) -> dict[str, float]:
    look = TranslationLook(_recipe(method, *changed), cohort, torch.device("cpu"))
    return look(nn.ModuleDict(networks))


class _Map(nn.Module):
    """A function of voxels."""

    def __init__(self, function) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.function = function

    def forward(self, volumes: Tensor) -> Tensor:
        return self.function(volumes)  # type: ignore[no-any-return]


SAME = _Map(lambda volumes: volumes)
INVERTED = _Map(lambda volumes: 1 - volumes)
TRUE = _Map(lambda t1: torch.where(t1 > 0.02, (1.01 - 0.95 * t1).clamp(min=0).sqrt(), 0.0))
TRUE_BACK = _Map(lambda t2: torch.where(t2 > 0.02, (1.01 - t2.square()) / 0.95, 0.0))


def test_true_translators_are_left_in_peace(cohort: Cohort) -> None:
    metrics = _seen(cohort, "cyclegan", there=TRUE, back=TRUE_BACK)
    assert metrics["samples/change"] > 0.8
    assert metrics["samples/air"] < -0.2
    assert metrics["samples/noise_gain"] < 5
    assert "samples/noise_gain" not in _seen(cohort, "pix2pix", there=TRUE)


def test_translators_that_change_nothing_and_those_that_turn_air_bright(cohort: Cohort) -> None:
    # One direction is enough.
    assert _seen(cohort, "cyclegan", there=TRUE, back=SAME)["samples/change"] == 0
    assert _seen(cohort, "pix2pix", there=SAME)["samples/change"] == 0
    assert _seen(cohort, "cyclegan", there=INVERTED, back=TRUE_BACK)["samples/air"] > 0.2


def test_a_cycle_that_is_closed_by_a_faint_trace(cohort: Cohort) -> None:
    def blurred(volumes: Tensor) -> Tensor:
        return F.avg_pool3d(F.pad(volumes, (1,) * 6, mode="replicate"), 3, stride=1)

    # A blurred scan in which the detail lives on at a fiftieth of its strength, and a way back that magnifies it.
    hiding = _Map(lambda volumes: blurred(volumes) + 0.02 * (volumes - blurred(volumes)))
    finding = _Map(lambda made: blurred(made) + 50 * (made - blurred(made)))
    assert _seen(cohort, "cyclegan", there=hiding, back=finding)["samples/noise_gain"] > 30


def test_the_error_of_a_stopping_rule_is_that_of_held_out_pairs(cohort: Cohort) -> None:
    whole = ["translation.patch=[16,16,16]", "translation.margin=0"]
    rule = [*whole, "training.stop.metric=error", "training.stop.samples=4", "training.watchdogs.mode=off"]
    error = _seen(cohort, "pix2pix", *rule, there=SAME)
    assert set(error) == {"samples/error"}
    (pair,) = paired(cohort, "validation", "T1w", "T2w").pairs
    first, second = (
        np.asarray(cohort.voxels(one), dtype=np.float64) / one.percentiles["99.5"] for one in (pair.source, pair.target)
    )
    assert error["samples/error"] == pytest.approx(np.abs(first - second).mean(), rel=1e-4)
    assert _seen(cohort, "pix2pix", *rule, there=TRUE)["samples/error"] < 0.4 * error["samples/error"]
    assert _seen(cohort, "pix2pix", *rule, "training.stop.scans=train", there=SAME) != error


def test_looking_leaves_the_random_state_alone(cohort: Cohort) -> None:
    torch.manual_seed(5)
    expected = torch.randn(4)
    torch.manual_seed(5)
    first, second = (_seen(cohort, "cyclegan", there=TRUE, back=TRUE_BACK) for _ in range(2))
    assert torch.equal(torch.randn(4), expected)
    assert first == second


TINY = [
    *SMALL,
    "network.channels=2",
    "network.levels=2",
    "translation.patch=[8,8,8]",
    "translation.discriminator_width=2",
    "training.tick_steps=1",
    "training.checkpoint_ticks=1",
    "training.mode=exact",
]


def test_a_training_is_warned_and_ended_by_its_error(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No training is bad enough in four steps; that this one changes nothing is known because it is made to.
    monkeypatch.setattr(TranslationLook, "_watched", lambda self, average: {"samples/change": 0.01})
    rule = ["training.stop.metric=error", "training.stop.patience=3", "translation.learning_rate=1e-12"]
    sizes = ["training.stop.samples=4", "translation.ema_images=0"]
    overrides = [*TINY, *rule, *sizes]
    outcome = train("translation/pix2pix", cohort.folder, overrides=overrides, steps=9, out=tmp_path / "run")
    assert outcome.ended is not None
    assert outcome.ended.startswith("error has not improved on ")
    (notice,) = outcome.notices
    assert (notice.kind, notice.step) == ("unchanged_scans", 3)
    assert "translation.identity_weight" in notice.remedy


def test_rules_that_cannot_be_followed_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    for method, metric in (("cyclegan", "error"), ("cyclegan", "kid"), ("pix2pix", "kid")):
        overrides = [*TINY, f"training.stop.metric={metric}"]
        with pytest.raises(MedganError, match=f"training.stop is {metric}.*cannot be measured"):
            train(f"translation/{method}", cohort.folder, overrides=overrides, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()

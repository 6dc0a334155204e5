"""What is seen of generators of scans for label maps: those that fail in a known way, and one that does not."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medgan.data.cohort import Cohort
from medgan.data.prepare import prepare
from medgan.recipe_files import load_recipe
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.workflows.train import train
from medgan.workflows.watching_masks import MaskLook

SHAPE = (10, 12, 9)
VALUES = (100.0, 800.0, 400.0)
TINY = [
    "network.width=4",
    "network.max_width=8",
    "network.latent_size=8",
    "network.embedding=4",
    "network.base_size=2",
    "network.discriminator_width=4",
    "training.batch_size=2",
    "training.tick_steps=1",
    "training.checkpoint_ticks=1",
    "tracking.enabled=false",
]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Ten scans of a bright and a dark block at random places, and their label maps 1 and 4."""
    root = tmp_path_factory.mktemp("pairs")
    for number in range(10):
        rng = np.random.default_rng(number)
        labels = np.zeros(SHAPE, np.uint8)
        a, b = rng.integers(1, 4, 2)
        labels[a : a + 4, 2:8, 2:7], labels[6:9, b : b + 5, 3:8] = 1, 4
        scan = np.choose(np.searchsorted([0, 1, 4], labels), VALUES) + 50 * rng.standard_normal(SHAPE)
        for kind, data in (("images", scan.astype(np.float32)), ("labels", labels)):
            (root / kind).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0])), root / kind / f"case_{number:02d}.nii.gz")
    out = tmp_path_factory.mktemp("cohort") / "pairs"
    return prepare([root / "images"], out, masks=root / "labels", split=(0.6, 0.2, 0.2)).cohort


class _Painter(nn.Module):
    """Paints labels with their true intensities and adds a texture of the latent vector, each as strongly as told."""

    def __init__(self, labels: float, latents: float) -> None:
        super().__init__()
        self.labels, self.latents = labels, latents
        self.register_buffer("values", torch.tensor(VALUES) / 900)

    def forward(self, latents: Tensor, numbers: Tensor) -> Tensor:
        painted = self.get_buffer("values")[numbers.long()]
        texture = [torch.randn(numbers.shape[1:], generator=_generator(one)) for one in latents]
        return 2 * (self.labels * painted + self.latents * torch.stack(texture)) - 1


def _generator(latent: Tensor) -> torch.Generator:
    return torch.Generator().manual_seed(int(1e6 * latent[0].abs()))


def _seen(cohort: Cohort, labels: float, latents: float) -> dict[str, float]:
    recipe = load_recipe("synthesis/mask_to_scan", TINY)
    assert isinstance(recipe, MaskToScanRecipe)
    return MaskLook(recipe, cohort, torch.device("cpu"))(_Painter(labels, latents))


def test_a_generator_that_heeds_both_is_told_from_those_that_do_not(cohort: Cohort) -> None:
    good = _seen(cohort, 1.0, 0.05)
    # Percentiles are not quite 0 and 900.
    assert good["samples/label_response"] == pytest.approx(1, abs=0.15)
    assert 0.1 < good["samples/latent_response"] < 1
    assert abs(_seen(cohort, 0.0, 0.05)["samples/label_response"]) < 0.05
    assert _seen(cohort, 1.0, 0.0)["samples/latent_response"] == 0
    assert _seen(cohort, -1.0, 0.05)["samples/label_response"] < -0.8


def test_a_training_that_learns_nothing_is_warned(cohort: Cohort, tmp_path: Path) -> None:
    frozen = ["mask_to_scan.learning_rate=1e-9"]
    outcome = train("synthesis/mask_to_scan", cohort.folder, overrides=[*TINY, *frozen], steps=4, out=tmp_path / "run")
    (notice,) = (one for one in outcome.notices if one.kind == "ignored_labels")
    assert notice.step == 3
    assert "mask_to_scan.feature_weight" in notice.remedy

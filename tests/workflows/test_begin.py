"""Trainings that start from a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan.data.prepare import prepare
from medgan.errors import MedganError
from medgan.inference.model import load_model
from medgan.workflows.train import train

SMALL = [
    "network.channels=4",
    "network.blocks=1",
    "super_resolution.patch=[16,16,16]",
    "training.batch_size=2",
    "training.mode=exact",
    "tracking.enabled=false",
]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans of different sizes and spacings."""
    import nibabel as nib
    from scipy.ndimage import gaussian_filter

    folder = tmp_path_factory.mktemp("own_grids")
    rng = np.random.default_rng(0)
    for number in range(6):
        shape, step = (22 + number, 24, 26 - number), 1.0 + 0.2 * number
        data = 1000 * gaussian_filter(rng.normal(size=shape), 1.5)
        nib.save(nib.Nifti1Image(data.astype(np.float32), np.diag([step, step, step, 1])), folder / f"s{number}.nii")
    prepare([folder], folder / "cohort", own_grids=True, split=(0.6, 0.2, 0.2))
    return folder / "cohort"


@pytest.fixture(scope="module")
def first(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "run"
    train("super_resolution/universal", cohort, overrides=SMALL, steps=3, out=out)
    return out


def weights(run: Path, end: str) -> dict[str, torch.Tensor]:
    loaded = load_model(run)
    return {name: one for name, one in loaded.weights.items() if name.startswith(end)}


def test_scans_of_different_grids_train_one_network(first: Path) -> None:
    assert any(one.any() for name, one in weights(first, "fidelity.").items() if "tail" in name)


def test_texture_alone_keeps_the_fidelity_it_started_from(cohort: Path, first: Path, tmp_path: Path) -> None:
    stages = ["super_resolution.pretraining.images=0", "super_resolution.adversarial.images=4"]
    train("super_resolution/universal", cohort, overrides=[*SMALL, *stages], out=tmp_path / "run", start_from=first)
    before, after = weights(first, "fidelity."), weights(tmp_path / "run", "fidelity.")
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)
    perceptual = weights(tmp_path / "run", "perceptual.")
    assert any(
        not torch.equal(value, perceptual[name.replace("fidelity.", "perceptual.")]) for name, value in before.items()
    )
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["training"]["start_from_sha256"] == load_model(first).sha256


def test_a_deeper_network_begins_where_the_model_stands(cohort: Path, first: Path, tmp_path: Path) -> None:
    deeper = [*SMALL, "network.blocks=2", "super_resolution.pretraining.learning_rate=0"]
    train("super_resolution/universal", cohort, overrides=deeper, steps=1, out=tmp_path / "run", start_from=first)
    before, after = weights(first, "fidelity."), weights(tmp_path / "run", "fidelity.")
    torch.testing.assert_close(after["fidelity.tail.weight"], before["fidelity.tail.weight"])
    assert not after["fidelity.body.1.narrow.weight"].any()


def test_a_model_of_another_size_is_refused(cohort: Path, first: Path, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="another network"):
        train(
            "super_resolution/universal",
            cohort,
            overrides=[*SMALL, "network.channels=5"],
            out=tmp_path / "run",
            start_from=first,
        )
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_trains_nothing_is_refused(cohort: Path) -> None:
    with pytest.raises(MedganError, match="nothing would be trained"):
        stages = ["super_resolution.pretraining.images=0", "super_resolution.adversarial.images=0"]
        train("super_resolution/universal", cohort, overrides=stages)

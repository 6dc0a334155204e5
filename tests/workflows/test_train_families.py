"""Every family's shipped recipe, at a tiny size, from cohort to report and samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medgan.io import read_volume
from medgan.workflows.generate import generate_scans
from medgan.workflows.train import train

RECIPES = {
    "dcgan": [],
    "wgan_gp": [],
    "stylegan": ["network.haar_head=true", "synthesis.path_length.weight=2"],
    "progressive": ["network.haar_head=true"],
    "hagan": ["network.base_size=2"],
    "alpha_wgan": [],
    "vqgan": ["network.halvings=2", "network.prior_width=8", "network.prior_layers=1", "network.codebook_size=8"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_is_evaluated_and_generates(name: str, phantom_cohort: Path, tmp_path: Path) -> None:
    sizes = ["network.width=4", "network.max_width=8", "training.batch_size=4"]
    if name != "vqgan":
        sizes.append("network.latent_size=8")
    overrides = [*sizes, "synthesis.evaluation_samples=4", "training.tick_steps=1", *RECIPES[name]]
    outcome = train(
        f"synthesis/{name}", phantom_cohort, overrides=overrides, steps=3, out=tmp_path / "run", device="cpu"
    )
    assert outcome.finished
    assert (outcome.folder / "report.html").is_file()
    assert outcome.figures
    paths = generate_scans(outcome.folder / "model", 2, tmp_path / "samples", seed=1)
    first, second = (read_volume(path) for path in paths)
    assert first.shape == (18, 22, 17)
    assert np.isfinite(first.data).all()
    assert not np.array_equal(first.data, second.data)

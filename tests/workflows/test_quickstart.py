"""The whole tour, with networks too small to learn anything: what is made, where, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from medgan.errors import MedganError
from medgan.io import read_volume
from medgan.recipe_files import recipe_path
from medgan.workflows import quickstart as module
from medgan.workflows.quickstart import closing_words, quickstart


@pytest.fixture
def hurried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both recipes of the tour, cut to a few steps of tiny networks."""
    for constant, group, network in (
        ("SUPER_RESOLUTION", "super_resolution", {"channels": 4, "growth": 2, "blocks": 1}),
        ("SYNTHESIS", "synthesis", {"width": 8, "max_width": 8, "latent_size": 8}),
    ):
        content = yaml.safe_load(recipe_path(getattr(module, constant)).read_text())
        content["network"] |= network
        content["training"] = {**content.get("training", {}), "batch_size": 2, "tick_steps": 2}
        if group == "synthesis":
            content["synthesis"] |= {"images": 8, "evaluation_samples": 4}
        else:
            content["super_resolution"]["pretraining"]["images"] = 6
            content["super_resolution"]["adversarial"] |= {"images": 4, "discriminator_width": 4}
        path = tmp_path / f"{group}.yaml"
        path.write_text(yaml.safe_dump(content))
        monkeypatch.setattr(module, constant, str(path))


@pytest.mark.usefixtures("hurried")
def test_the_tour_on_a_folder_of_scans(phantom_scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "tour"
    summary = quickstart(out, data=phantom_scans, device="cpu", jobs=1)
    assert json.loads((out / "summary.json").read_text()) == summary
    assert {"psnr_gain_db", "kid_ratio_to_untrained", "seconds"} <= summary.keys()
    for key in ("upscaled_scan", "low_resolution_scan", "true_scan", "synthetic_scans", "report", "tracking_store"):
        assert Path(summary[key]).exists(), key
    low, upscaled, truth = (
        read_volume(summary[name]) for name in ("low_resolution_scan", "upscaled_scan", "true_scan")
    )
    assert low.shape != truth.shape
    assert upscaled.shape == truth.shape
    np.testing.assert_allclose(upscaled.affine, truth.affine, atol=1e-4)
    assert len(list(Path(summary["synthetic_scans"]).glob("*.nii.gz"))) == 8
    client = MlflowClient(f"sqlite:///{summary['tracking_store']}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    for run in runs:
        assert {"images", "model"} <= {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert run.data.params
    page = (out / "report.html").read_text()
    assert "A held-out scan, upscaled" in page
    words = closing_words(summary)
    for key in ("upscaled_scan", "synthetic_scans", "report", "tracking_store"):
        assert summary[key] in words
    with pytest.raises(MedganError, match="holds a quickstart already"):
        quickstart(out, data=phantom_scans)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.networks.dcgan import DCGANGenerator
from medgan.networks.saved import save_model
from medgan.workflows.control import Control, control_scans
from medgan.workflows.explore import explore_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = DCGANGenerator(shapes=[(3, 4, 3), (6, 7, 5)], channels=[6, 4], out_shape=(6, 7, 5), latent_size=4)
    config = {
        "medgan_version": "0",
        "task": "synthesis",
        "network": {"name": "dcgan_generator", "arguments": network.arguments},
        "normalisation": {"low": 10.0, "high": 210.0, "minimum": 5.0},
        "affine": np.diag([3.0, 3.0, 4.0, 1.0]).tolist(),
    }
    return save_model(tmp_path_factory.mktemp("model") / "model", config, network.state_dict())


def test_a_page_and_a_file_of_directions_that_generate_takes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = explore_model(model, tmp_path / "page.html", directions=2, steps=3)
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert "<script src" not in text
    assert "://" not in text.replace("http://www.w3.org", "")
    assert str(tmp_path) not in text
    assert "arXiv:1812.01161" in text
    content = json.loads((tmp_path / "page.json").read_text())
    assert (content["space"], np.shape(content["vectors"])) == ("latents", (2, 4))
    assert content["changes"][0] >= content["changes"][1] > 0
    monkeypatch.setattr("medgan.workflows.overview.Overview.write", lambda self, folder: None)
    control = Control(along=("2:1.5",), directions=tmp_path / "page.json")
    assert len(control_scans(model, 1, control, tmp_path / "out")) == 1
    monkeypatch.setattr("medgan.report.sheets.contact_sheet", lambda rows: b"\x89PNG")
    monkeypatch.setattr("medgan.report.figures.midplanes", lambda *columns, **options: b"\x89PNG")
    explore_model(model, tmp_path / "again.html", directions=2, steps=3)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "page.json").read_bytes()


def test_what_cannot_be_shown_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="latents of this model have 4"):
        explore_model(model, tmp_path / "page.html", directions=5)
    with pytest.raises(MedganError, match=r"Name it FILE\.html"):
        explore_model(model, tmp_path / "page")
    for reach in (0.0, float("nan"), 11.0):
        with pytest.raises(MedganError, match="--reach is"):
            explore_model(model, tmp_path / "page.html", reach=reach)
    with pytest.raises(MedganError, match="--steps 2"):
        explore_model(model, tmp_path / "page.html", steps=1)
    with pytest.raises(MedganError, match="super-resolution, explore needs one for synthesis"):
        explore_model("mri-universal", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.inference.generate import generate
from medgan.inference.model import load_model, require_task
from medgan.io import read_volume
from medgan.networks.latents import latent, latents
from medgan.networks.r3gan import R3Generator
from medgan.networks.saved import load_weights, save_model
from medgan.workflows.generate import generate_scans
from medgan.workflows.models import resolve_model

AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 4, -20], [0, 0, 0, 1]])


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = R3Generator(
        shapes=[(5, 6, 4)], channels=[8], out_shape=(9, 12, 8), latent_size=4, blocks=1, haar_head=True
    )
    config = {
        "medgan_version": "0",
        "task": "synthesis",
        "network": {"name": "r3_generator", "arguments": network.arguments},
        "normalisation": {"low": 10.0, "high": 210.0, "minimum": 5.0},
        "affine": AFFINE.tolist(),
    }
    return save_model(tmp_path / "run" / "model", config, network.state_dict())


def test_sample_i_depends_on_model_seed_and_i_alone(model_folder: Path) -> None:
    model = load_model(model_folder)
    five = list(generate(model, 5, seed=3))
    third = next(generate(model, 1, seed=3, first=2))
    np.testing.assert_array_equal(third.data, five[2].data)
    assert not np.array_equal(five[0].data, five[1].data)
    assert not np.array_equal(next(generate(model, 1, seed=4)).data, five[0].data)


def test_samples_have_the_cohorts_place_and_units(model_folder: Path) -> None:
    model = load_model(model_folder)
    volume = next(generate(model, 1))
    assert volume.shape == (9, 12, 8)
    np.testing.assert_array_equal(volume.affine, AFFINE)
    with torch.inference_mode():
        raw = model.network()(latent(0, 0, 4)[None])[0].numpy()
    np.testing.assert_allclose(volume.data, np.maximum(10 + (raw + 1) * 100, 5), rtol=1e-5)


def test_latents_are_the_same_everywhere() -> None:
    """Pinned values: a change here would change every scan that anyone has drawn."""
    expected = np.random.Generator(np.random.Philox(np.random.SeedSequence([7, 2]))).standard_normal(
        3, dtype=np.float32
    )
    np.testing.assert_array_equal(latent(7, 2, 3).numpy(), expected)
    torch.testing.assert_close(latents(7, range(1, 3), 3)[1], latent(7, 2, 3), rtol=0, atol=0)
    many = latents(0, range(4000), 8)
    assert abs(many.mean().item()) < 0.02
    assert abs(many.std().item() - 1) < 0.02


def test_files_say_that_they_are_synthetic(model_folder: Path, tmp_path: Path) -> None:
    paths = generate_scans(model_folder.parent, 2, tmp_path / "out", seed=1, device="cpu")
    image = nib.load(paths[1])
    np.testing.assert_allclose(image.affine, AFFINE)
    assert b"SYNTHETIC" in image.header["descrip"].tobytes()
    assert read_volume(paths[1]).metadata["synthetic"] is True
    about = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert about["synthetic"] is True
    assert [sample["index"] for sample in about["samples"]] == [0, 1]
    with pytest.raises(MedganError, match="exists already"):
        generate_scans(model_folder, 1, tmp_path / "out")


def test_damaged_and_foreign_models_are_named(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="trained for synthesis, upscale needs one for super-resolution"):
        require_task(load_model(model_folder), "super_resolution", "upscale")
    with pytest.raises(MedganError, match="no such model folder"):
        resolve_model(tmp_path / "nowhere")
    weights = model_folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(MedganError, match=r"weights\.safetensors: the weights are damaged"):
        load_weights(model_folder)
    config = model_folder / "config.json"
    content = json.loads(config.read_text())
    del content["network"]
    config.write_text(json.dumps(content))
    with pytest.raises(MedganError, match="lacks network"):
        load_model(model_folder)

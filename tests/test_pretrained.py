"""The models that come with medgan keep what their cards promise."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medgan.acquisition import Acquisition
from medgan.geometry import resampled_affine
from medgan.inference.model import load_model
from medgan.inference.upscale import upscale
from medgan.pretrained import shipped_model, shipped_models
from medgan.volume import Volume

MOST_BYTES = 12 * 2**20
UNIVERSAL = "mri-universal"


@pytest.mark.parametrize("name", shipped_models())
def test_every_model_has_a_card_and_is_small(name: str) -> None:
    folder = shipped_model(name)
    assert (folder / "weights.safetensors").stat().st_size <= MOST_BYTES
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("What it was trained on", "Licence", "medgan train", "Figures", "Limits", "Not for diagnosis"):
        assert part in card
    assert load_model(folder).config["task"] in ("super_resolution", "synthesis", "encoding")


def template() -> Volume:
    """The middle of the average T1 brain that comes with nilearn: of no training, but smoother than any scan."""
    data = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    image = nib.load(Path(str(files("nilearn"))) / data)
    voxels = np.asarray(image.dataobj, dtype=np.float32)[50:130, 60:140, 50:130]
    return Volume(voxels, np.diag([1.0, 1.0, 1.0, 1.0]))


@pytest.mark.parametrize(("factor", "least_gain"), [((2, 2, 2), 0.5), ((4, 1, 1), 0.5)])
def test_the_universal_model_betters_the_physics_on_a_brain_of_another_source(
    factor: tuple[int, int, int], least_gain: float
) -> None:
    truth = template()
    low_shape = tuple(size // by for size, by in zip(truth.shape, factor, strict=True))
    acquisition = Acquisition.between(truth.shape, low_shape, high_spacing=(1, 1, 1))
    measured = acquisition.forward(torch.from_numpy(truth.as_float().copy()))
    low = Volume(measured.numpy(), resampled_affine(truth.affine, truth.shape, low_shape))

    def decibels(restored: Volume) -> float:
        return float(-10 * np.log10(np.square(restored.data - truth.data).mean()))

    restored = upscale(low, load_model(shipped_model(UNIVERSAL)), factor=factor)
    assert decibels(restored) > decibels(upscale(low, None, factor=factor)) + least_gain
    # And it explains what was measured.
    again = acquisition.forward(torch.from_numpy(restored.as_float().copy()))
    assert float((again - measured).abs().max()) < 0.02 * float(measured.max())

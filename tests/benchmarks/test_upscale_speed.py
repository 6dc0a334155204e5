"""The speed benchmark: both ways give the same answer where windows do not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import upscale_speed

from medgan.acquisition import Acquisition
from medgan.inference import upscale as upscaling
from medgan.inference.tiling import apply_tiled


def test_windows_of_monai_stand_in_for_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscale_speed, "_ROI", 24)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(2, 1, 1))
    x = torch.randn(1, 1, 60, 20, 20)
    ours = apply_tiled(network, x, tile=(32, 32, 32), halo=1, multiple=1)
    theirs = upscale_speed.windows_of_monai(network, x, tile=(32, 32, 32), halo=1, multiple=1)
    assert theirs.shape == ours.shape
    # The windows' own borders are blended in, so only most voxels agree to the last digits.
    assert float((theirs - ours).abs().median()) < 1e-6


def test_both_ways_start_from_the_same_physics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscaling, "apply_tiled", upscaling.apply_tiled)
    truth = upscale_speed.phantom((24, 24, 24))
    low = Acquisition.between(truth.shape, (24, 24, 6), high_spacing=(1, 1, 1)).forward(torch.from_numpy(truth))
    np.save(tmp_path / "low.npy", low.numpy())
    model = upscale_speed.random_model(tmp_path / "model")
    threads = torch.get_num_threads()
    figures = {way: upscale_speed.timed(way, tmp_path, model, threads, (1, 1, 4)) for way in upscale_speed.WAYS}
    ours, theirs = (np.load(tmp_path / f"{way}.npy") for way in upscale_speed.WAYS)
    assert upscaling.apply_tiled is upscale_speed.windows_of_monai
    assert ours.shape == truth.shape
    # MONAI pads a volume smaller than its window; away from the borders that is not felt.
    assert np.abs(ours - theirs)[8:-8, 8:-8, 8:-8].max() < 0.02 * float(np.ptp(truth))
    assert all(row["seconds"] > 0 and row["peak_mb"] > 100 for row in figures.values())


@pytest.mark.slow
def test_the_whole_comparison() -> None:
    figures = upscale_speed.compared(upscale_speed.phantom((48, 48, 48)), (1, 1, 4), None, 1)
    assert figures["medgan"]["psnr_db"] == pytest.approx(figures["monai"]["psnr_db"], abs=0.5)

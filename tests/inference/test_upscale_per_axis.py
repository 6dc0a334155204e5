"""Networks whose blocks and reach differ from axis to axis, through the whole of an upscaling."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan.inference.memory import footprint_of, peak_bytes
from medgan.inference.model import load_model
from medgan.inference.upscale import upscale
from medgan.networks.saved import save_model
from medgan.networks.wide_activation import WideActivationNetwork
from medgan.volume import Volume


def _model(folder: Path, factor: list[float]) -> Path:
    torch.manual_seed(0)
    network = WideActivationNetwork(channels=4, expansion=2, blocks=1, factor=factor)
    weights = {
        f"{end}.{name}": value + 0.1 * torch.randn_like(value)
        for end in ("fidelity", "perceptual")
        for name, value in network.state_dict().items()
    }
    acquisition = {"factor": factor, "thickness": 1.0, "profile": "gaussian", "noise": 0.0, "regularisation": None}
    config = {
        "medgan_version": "0",
        "task": "super_resolution",
        "network": {"name": "wide_activation", "arguments": network.arguments},
        "normalisation": {"percentiles": [0.5, 99.5]},
        "acquisition": acquisition,
    }
    return save_model(folder, config, weights)


@pytest.mark.parametrize("factor", [[1, 1, 4], [1, 1, 2.5]])
def test_tiles_do_not_show_whichever_axis_is_thick(factor: list[float], tmp_path: Path) -> None:
    model = load_model(_model(tmp_path / "model", factor))
    voxels = np.random.default_rng(0).random((21, 24, 11), dtype=np.float32) * 700
    results = []
    for order in ((0, 1, 2), (2, 0, 1)):
        affine = np.diag([*np.array([1.0, 1.0, factor[2]])[list(order)], 1.0])
        low = Volume(voxels.transpose(order), affine)
        whole = upscale(low, model, tile=(512, 512, 512))
        tiled = upscale(low, model, tile=(10, 12, 14))
        assert np.abs(whole.data - tiled.data).max() / 700 < 1e-5
        assert np.abs(whole.data - upscale(low, None).data).max() / 700 > 1e-3
        results.append(whole.data[0].transpose(tuple(np.argsort(order))))
    # The network sees the thick axis where it learned it, so the scan's own order of axes makes no difference.
    np.testing.assert_allclose(results[0], results[1], atol=1e-2)


def test_memory_is_asked_for_by_what_is_folded_and_read_along_each_axis() -> None:
    shapes = {"low_shape": (100, 100, 50), "high_shape": (100, 100, 200)}
    bare = peak_bytes(**shapes)  # type: ignore[arg-type]

    def asked(factor: list[float], channels: int) -> int:
        network = WideActivationNetwork(channels=channels, expansion=2, blocks=1, factor=factor)
        footprint = footprint_of(network)
        assert footprint.halo == network.receptive_field
        tile = (20, 20, 20)
        return peak_bytes(**shapes, footprint=footprint, tile=tile) - bare  # type: ignore[arg-type]

    assert asked([1, 1, 4], 20) == pytest.approx(2 * asked([1, 1, 4], 10), rel=1e-6)
    network = WideActivationNetwork(channels=10, expansion=2, blocks=1, factor=[1, 1, 4])
    widest = max(max(weight.shape[:2]) for weight in network.parameters() if weight.ndim == 5)
    seen = math.prod(
        min(20 + 2 * around, size) for around, size in zip(network.receptive_field, (100, 100, 200), strict=True)
    )
    assert asked([1, 1, 4], 10) == int(4 * 6 * widest * seen / 4)

"""A scan in another contrast: same place, units of the wanted contrast, tiles that cannot be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.inference.model import Model, load_model
from medgan.inference.translate import footprint, tile_of, translate, translator
from medgan.networks.saved import save_model
from medgan.networks.translation import ResidualUNet
from medgan.volume import Volume

MARGIN = 3
SOURCE = {"kind": "scan", "low": 10.0, "high": 500.0, "minimum": 0.0}
TARGET = {"kind": "scan", "low": -20.0, "high": 1980.0, "minimum": -30.0}


def _model(
    folder: Path,
    *,
    directions: tuple[str, ...] = ("there",),
    normalisation: dict[str, Any] | None = None,
    **network: Any,
) -> Model:
    torch.manual_seed(0)
    arguments = {"channels": 4, "levels": 2, **network}
    weights = {}
    for way in directions:
        weights |= {f"{way}.{name}": one for name, one in ResidualUNet(**arguments).state_dict().items()}
    config = {
        "medgan_version": "1",
        "task": "translation",
        "network": {"name": "residual_u_net", "arguments": ResidualUNet(**arguments).arguments},
        "normalisation": normalisation or {"source": SOURCE, "target": TARGET},
        "source": "T1w",
        "target": "T2w",
        "directions": list(directions),
        "margin": MARGIN,
        "spacing": [1.0, 1.1, 1.2],
    }
    return load_model(save_model(folder, config, weights))


def _oblique(channels: int = 1, spacing: tuple[float, float, float] = (1.2, 1.0, 1.1)) -> Volume:
    """An odd, oblique scan of orientation SRA, nearly."""
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    axes = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes * spacing
    affine[:3, 3] = (-31.7, 12.3, 4.56789)
    rng = np.random.default_rng(0)
    return Volume(rng.integers(0, 900, (channels, 13, 9, 15)).astype(np.int16), affine, ("read",), {"echo_time": 3.0})


def test_place_and_shape_are_exactly_the_scans(tmp_path: Path) -> None:
    scan = _oblique()
    result = translate(scan, _model(tmp_path / "model"))
    np.testing.assert_array_equal(result.affine, scan.affine)
    assert result.shape == scan.shape
    assert result.data.dtype == np.float32
    assert result.history[0] == "read"
    assert "translated from T1w to T2w by model" in result.history[-1]
    assert result.metadata["made_contrast"] is True
    assert "synthetic" not in result.metadata
    assert "echo_time" not in result.metadata


def test_voxels_are_what_the_network_makes_of_the_turned_scan_in_units_of_the_target(tmp_path: Path) -> None:
    model, scan = _model(tmp_path / "model"), _oblique()
    turned = scan.reoriented("RAS")
    low, high = np.percentile(scan.data, (0.5, 99.5))
    seen = np.pad((turned.data[0] - low) / (high - low), MARGIN, mode="edge").astype(np.float32)
    with torch.inference_mode():
        made = translator(model, False)(torch.from_numpy(seen)[None, None])[0, 0].numpy()
    inside = (slice(MARGIN, -MARGIN),) * 3
    expected = np.maximum(made[inside] * 2000.0 - 20.0, -30.0)
    result = translate(scan, model).reoriented("RAS")
    np.testing.assert_allclose(result.data[0], expected, atol=0.02)


@pytest.mark.parametrize("network", [{}, {"haar_head": True}])
def test_tiles_cannot_be_seen(tmp_path: Path, network: dict[str, Any]) -> None:
    model, scan = _model(tmp_path / "model", **network), _oblique()
    whole = translate(scan, model).data
    tiled = translate(scan, model, tile=(4, 8, 5)).data
    # Of a range of 2000 units.
    np.testing.assert_allclose(tiled, whole, atol=2000 * 1e-5)


def test_channels_are_translated_one_by_one(tmp_path: Path) -> None:
    model, both = _model(tmp_path / "model"), _oblique(channels=2)
    result = translate(both, model)
    assert result.channels == 2
    for channel in range(2):
        alone = translate(both.with_data(both.data[channel]), model)
        np.testing.assert_array_equal(result.data[channel], alone.data[0])


def test_a_range_of_the_cohort_is_not_the_scans_own(tmp_path: Path) -> None:
    ranges = {"source": {**SOURCE, "kind": "cohort"}, "target": TARGET}
    model, scan = _model(tmp_path / "model", normalisation=ranges), _oblique()
    brighter = scan.with_data(scan.data * 2)
    assert np.abs(translate(brighter, model).data - translate(scan, model).data).max() > 1
    own = _model(tmp_path / "own")
    np.testing.assert_allclose(translate(brighter, own).data, translate(scan, own).data, atol=0.01)


def test_the_way_back_is_another_network_and_another_range(tmp_path: Path) -> None:
    model, scan = _model(tmp_path / "model", directions=("there", "back")), _oblique()
    back = translate(scan, model, reverse=True)
    assert "from T2w to T1w" in back.history[-1]
    there = (translate(scan, model).data + 20) / 2000
    assert np.abs((back.data - 10) / 490 - there).max() > 0.05
    with pytest.raises(MedganError, match="from T1w to T2w alone"):
        translate(scan, _model(tmp_path / "one"), reverse=True)


def test_instance_normalisation_refuses_tiles(tmp_path: Path) -> None:
    model, scan = _model(tmp_path / "model", normalisation=None), _oblique()
    tied = _model(tmp_path / "tied", normalisation=None)
    network = ResidualUNet(channels=4, levels=2, normalisation="instance")
    config = {**tied.config, "network": {"name": "residual_u_net", "arguments": network.arguments}}
    weights = {f"there.{name}": one for name, one in network.state_dict().items()}
    tied = load_model(save_model(tmp_path / "instance", config, weights))
    assert translate(scan, tied).shape == scan.shape
    with pytest.raises(MedganError, match=r"instance normalisation.*network\.normalisation=none"):
        translate(scan, tied, tile=(8, 8, 8))
    assert tile_of(translator(model, False), (500, 500, 500)) != (500, 500, 500)
    assert tile_of(translator(tied, False), (500, 500, 500)) == (500, 500, 500)


def test_the_footprint_counts_the_finest_features() -> None:
    fine, folded = (footprint(ResidualUNet(channels=8, levels=2, haar_head=haar)) for haar in (False, True))
    assert fine.of_tile((64, 64, 64), (64, 64, 64)) == 8 * folded.of_tile((64, 64, 64), (64, 64, 64))


def test_voxels_of_another_size_are_told_or_refused(tmp_path: Path) -> None:
    model = _model(tmp_path / "model")
    told = translate(_oblique(spacing=(1.2, 1.25, 1.1)), model)
    assert any(
        "1.25 x 1.1 x 1.2 mm (R, A, S), and the model was trained on 1 x 1.1 x 1.2 mm" in one for one in told.history
    )
    with pytest.raises(MedganError, match="does not hold there"):
        translate(_oblique(spacing=(3.0, 1.0, 1.1)), model)


def test_bad_voxels_and_other_models_are_refused(tmp_path: Path) -> None:
    model, scan = _model(tmp_path / "model"), _oblique()
    broken = scan.as_float().copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(MedganError, match="1 of 1755 voxels are not finite"):
        translate(scan.with_data(broken), model)
    other = Model(model.folder, {**model.config, "task": "super_resolution"}, model.device, model.sha256, model.weights)
    with pytest.raises(MedganError, match="translate needs one for translation"):
        translate(scan, other)

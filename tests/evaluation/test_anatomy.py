"""Volumes of regions against closed forms, scipy and the embedded cohort's own template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from medgan.errors import MedganError
from medgan.evaluation.anatomy import evaluate_anatomy, region_volumes
from medgan.evaluation.segmenters import Segmenter, load_segmenter
from medgan.volume import Volume


def box(side: int, value: float = 1.0, spacing: float = 2.0) -> Volume:
    """A cube of `side` voxels in 16^3."""
    voxels = np.zeros((16, 16, 16), dtype=np.float32)
    voxels[2 : 2 + side, 2 : 2 + side, 2 : 2 + side] = value
    return Volume(voxels, np.diag([spacing, spacing, spacing, 1.0]))


def threshold(volume: Volume) -> NDArray[Any]:
    return (volume.data[0] > 0.5).astype(np.uint8)


def test_volume_is_voxels_times_the_determinant() -> None:
    labels = np.zeros((10, 10, 10), dtype=np.int16)
    labels[:5, :4, :3], labels[9, 9, 9] = 1, 4
    sheared = np.array([[0, 2, 0.5, 9], [-1.5, 0, 0, 3], [0, 0.3, 3, 1], [0, 0, 0, 1]])
    voxel = 1.5 * (2 * 3 - 0.5 * 0.3) / 1000  # expanded along the second row by hand
    assert region_volumes(labels, sheared) == pytest.approx({1: 60 * voxel, 4: voxel})
    assert region_volumes(np.zeros((2, 2, 2)), np.eye(4)) == {}


def test_what_is_no_label_map_is_refused() -> None:
    for labels, what in (
        (np.full((2, 2, 2), 0.5), "whole numbers"),
        (np.zeros((2, 2)), "three axes"),
        (np.arange(1000).reshape(10, 10, 10), "1000 different numbers"),
    ):
        with pytest.raises(MedganError, match=what):
            region_volumes(labels, np.eye(4))


def test_distances_are_scipy_s_and_equals_are_compared_with_equals() -> None:
    rng = np.random.default_rng(0)
    sides = {"real": rng.integers(4, 9, 20), "synthetic": rng.integers(6, 11, 12)}
    real, synthetic = ([box(int(side)) for side in sides[kind]] for kind in ("real", "synthetic"))
    figures = evaluate_anatomy(real, synthetic, Segmenter("box", threshold, {1: "cube"}))
    (cube,) = figures.regions
    volumes = {kind: (2.0 * values) ** 3 / 1000 for kind, values in sides.items()}
    assert cube.name == "cube"
    assert cube.real_mean_ml == pytest.approx(volumes["real"].mean())
    assert cube.synthetic_deviation_ml == pytest.approx(volumes["synthetic"].std(ddof=1))
    assert cube.distance_ml == pytest.approx(stats.wasserstein_distance(volumes["real"], volumes["synthetic"]))
    assert cube.real_ml == pytest.approx(sorted(volumes["real"]))
    assert cube.ratio is not None
    assert cube.ratio > 1
    json.dumps(figures.to_dict(), allow_nan=False)


def test_other_real_scans_pass_and_a_missing_region_counts_as_nothing() -> None:
    rng = np.random.default_rng(1)
    real, others = ([box(int(side)) for side in rng.integers(4, 9, 24)] for _ in range(2))
    (same,) = evaluate_anatomy(real, others, Segmenter("box", threshold)).regions
    assert same.ratio is not None
    assert same.ratio < 1
    (gone,) = evaluate_anatomy(real, [box(0)] * 8, Segmenter("box", threshold)).regions
    assert gone.synthetic_mean_ml == 0
    assert gone.distance_ml == pytest.approx(gone.real_mean_ml)


def test_a_label_map_may_have_a_grid_of_its_own() -> None:
    coarse = Segmenter("coarse", lambda volume: Volume(threshold(volume)[::2, ::2, ::2], np.diag([4.0, 4.0, 4.0, 1])))
    (cube,) = evaluate_anatomy([box(8)] * 4, [box(8)] * 4, coarse).regions
    assert cube.real_mean_ml == pytest.approx(16**3 / 1000)
    assert cube.ratio is None
    with pytest.raises(MedganError, match=r"gave \(8, 8, 8\) voxels"):
        evaluate_anatomy([box(8)] * 4, [box(8)] * 4, Segmenter("cut", lambda volume: threshold(volume)[:8, :8, :8]))


def test_too_few_scans_and_empty_segmentations_are_named() -> None:
    with pytest.raises(MedganError, match="there are 3 synthetic"):
        evaluate_anatomy([box(4)] * 4, [box(4)] * 3, Segmenter("box", threshold))
    with pytest.raises(MedganError, match="found no region"):
        evaluate_anatomy([box(0)] * 4, [box(0)] * 4, Segmenter("box", threshold))


def test_a_function_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def segment(volume):\n    return volume.data[0] > 0.5\nsegment.names = {1: 'cube'}\nnumber = 3\n"
    (tmp_path / "own_segmentation.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    found = load_segmenter("own_segmentation:segment")
    assert found.names == {1: "cube"}
    assert region_volumes(np.asarray(found(box(3))), box(3).affine) == pytest.approx({1: 27 * 8 / 1000})
    for source, what in (
        ("own_segmentation:other", "has no 'other'"),
        ("own_segmentation:number", "cannot be called"),
        ("no_such_module:segment", "no module 'no_such_module'"),
        ("nowhere/at all", "no segmentation model here"),
    ):
        with pytest.raises(MedganError, match=what):
            load_segmenter(source)


def test_a_torchscript_file_in_any_orientation(tmp_path: Path) -> None:
    import torch

    class Halves(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bright = torch.where(x > 0.5, 1.0, 0.0)
            left = torch.zeros_like(bright)
            left[:, :, : x.shape[2] // 2] = 1.0  # RAS: the first half along X is the patient's left
            return torch.cat([0.5 * torch.ones_like(bright), bright * left, bright * (1 - left)], dim=1)

    torch.jit.script(Halves()).save(str(tmp_path / "halves.pt"))
    segmenter = load_segmenter(tmp_path / "halves.pt")
    voxels = np.zeros((16, 16, 16), dtype=np.float32)
    voxels[:4] = 500.0  # X grows to the left here, so this is the right
    volume = Volume(voxels, np.diag([-2.0, 2, 2, 1]))
    answer = segmenter(volume)
    assert isinstance(answer, Volume)
    assert region_volumes(answer.data[0], answer.affine) == pytest.approx({2: 4 * 256 * 8 / 1000})
    (tmp_path / "broken.pt").write_bytes(b"no model")
    with pytest.raises(MedganError, match="no TorchScript"):
        load_segmenter(tmp_path / "broken.pt")


def test_a_monai_bundle_with_its_own_transforms(tmp_path: Path) -> None:
    """A network that tells bright from dark after resampling to 2 mm; the answer is brought back to the scan's grid."""
    import torch

    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    image = {"keys": "image"}
    configuration = {
        "imports": ["$import torch"],
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", **image},
                {"_target_": "EnsureChannelFirstd", **image},
                {"_target_": "Orientationd", "axcodes": "RAS", **image},
                {"_target_": "Spacingd", "pixdim": [2.0, 2.0, 2.0], "mode": "nearest", **image},
                {"_target_": "ScaleIntensityd", **image},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 1},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "/nowhere"},
            ],
        },
    }
    (tmp_path / "configs" / "inference.json").write_text(json.dumps(configuration))
    metadata = {
        "name": "Bright things",
        "version": "0.1.0",
        "network_data_format": {"outputs": {"pred": {"channel_def": {"0": "background", "1": "bright"}}}},
    }
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(metadata))
    network = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight[:], network.bias[:] = torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1, 1), torch.tensor([0.5, -0.5])
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")

    segmenter = load_segmenter(tmp_path)
    assert segmenter.name == "MONAI bundle Bright things 0.1.0"
    assert segmenter.names == {0: "background", 1: "bright"}
    voxels = np.zeros((20, 24, 12), dtype=np.float32)
    voxels[4:12, 6:18, 2:8] = 300
    scan = Volume(voxels, np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1]]))
    answer = segmenter(scan)
    assert isinstance(answer, Volume)
    assert answer.shape == scan.shape
    (volume,) = region_volumes(answer.data[0], answer.affine).values()
    assert volume == pytest.approx(8 * 12 * 6 * 2 / 1000, rel=0.15)
    with pytest.raises(MedganError, match=r"no configs/inference\.json"):
        load_segmenter(tmp_path / "models")


@pytest.mark.slow
def test_brains_of_the_embedded_cohort_have_the_volume_of_their_bent_template() -> None:
    from scipy.ndimage import map_coordinates

    from medgan.data.anatomy import grown, template
    from medgan.data.demo import between_nodes, virtual_subject

    common = template()
    brain = (common.maps[:3].sum(axis=0) > 0.5).astype(np.float32)
    for index in range(2):
        volume, _ = virtual_subject(index, spacing=3.0)
        # Fluid, the darkest tissue, is at least 0.26 of 680; air is noise of at most 19.
        (found,) = region_volumes(volume.data[0] > 0.5 * 0.26 * 680, volume.affine).values()
        anatomy = grown(common, np.random.default_rng([0, index]))
        axes = [np.arange(n, dtype=np.float64) for n in common.shape]
        places = between_nodes(anatomy.displacement, axes)
        for component, (axis, along) in zip(places, enumerate(axes), strict=True):
            component += np.expand_dims(along, [other for other in range(3) if other != axis])
        truth = float(map_coordinates(brain, places, order=1, mode="constant").sum()) / 1000
        assert found == pytest.approx(truth, rel=0.03)

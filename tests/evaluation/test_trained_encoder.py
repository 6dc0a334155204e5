"""The encoder that medgan trains, and the ladder that judges encoders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medgan.errors import MedganError
from medgan.evaluation.encoders import encoder_named
from medgan.evaluation.features import RandomEncoder
from medgan.evaluation.sensitivity import (
    STANDARD_LADDERS,
    Ladder,
    Response,
    noisy,
    sensitivity,
    shuffled,
    warped,
)
from medgan.evaluation.trained_encoder import TrainedEncoder, block_widths, reduced
from medgan.networks.encoder import FeatureEncoder
from medgan.networks.saved import save_model
from medgan.pretrained import shipped_models

Arrays = list[NDArray[np.float32]]


def network(seed: int = 0) -> FeatureEncoder:
    torch.manual_seed(seed)
    return FeatureEncoder((4, 6, 8), hidden=12, descriptor=5)


def saved(folder: Path, task: str = "encoding") -> Path:
    made = network()
    config = {
        "medgan_version": "0",
        "task": task,
        "network": {"name": "feature_encoder", "arguments": made.arguments},
        "normalisation": {"percentiles": [0.5, 99.5]},
    }
    return save_model(folder, config, made.state_dict())


@pytest.mark.parametrize("shape", [(8, 8, 8), (33, 20, 9), (40, 12, 70)])
def test_columns_do_not_depend_on_shape_rows_not_on_batch_mates(shape: tuple[int, int, int]) -> None:
    volumes = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    encoder = TrainedEncoder(network(), "mine")
    found = encoder.extract(volumes)
    assert found.shape == (3, 10)
    alone = np.concatenate([encoder.extract([volume]) for volume in volumes])
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


def test_threads_change_nothing_that_matters() -> None:
    volumes = np.random.default_rng(1).random((2, 30, 26, 28)).astype(np.float32)
    encoder, before = TrainedEncoder(network(), "mine"), torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(encoder.extract(volumes))
            assert np.array_equal(found[-1], encoder.extract(volumes))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


def test_the_whole_is_averaged_over_blocks_of_about_equal_sides_in_mm() -> None:
    assert block_widths((120, 120, 90), (1, 1, 1)) == (4, 4, 4)
    assert block_widths((24, 24, 24), (1, 1, 1)) == (2, 2, 2)
    assert block_widths((8, 15, 16), (1, 1, 1)) == (1, 1, 2)
    # Slices four times as thick as the voxels are wide: 128 mm in 32 blocks of 4 mm.
    assert block_widths((128, 128, 30), (1, 1, 4)) == (4, 4, 1)
    volumes = torch.rand(2, 1, 16, 20, 18)
    wanted = ndimage.uniform_filter(volumes[0, 0].numpy(), 2, origin=-1)[::2, ::2, ::2]
    np.testing.assert_allclose(reduced(volumes, (1, 1, 1))[0, 0].numpy(), wanted, rtol=1e-4, atol=1e-6)


def test_the_name_tells_weights_and_shapes_of_voxels_apart() -> None:
    one = TrainedEncoder(network(), "mine")
    assert one.name == TrainedEncoder(network(), "mine", spacing=(2.0, 2.0, 2.0)).name
    assert one.name != TrainedEncoder(network(1), "mine").name
    thick = TrainedEncoder(network(), "mine", spacing=(1.0, 1.0, 4.0))
    assert thick.name == f"{one.name}-voxel1x1x4"
    volumes = np.random.default_rng(0).random((1, 40, 40, 20)).astype(np.float32)
    assert not np.array_equal(thick.extract(volumes), one.extract(volumes))


def test_left_and_right_are_not_the_same() -> None:
    volume = np.random.default_rng(0).random((24, 20, 22)).astype(np.float32)
    encoder = TrainedEncoder(network(), "mine")
    assert not np.allclose(encoder.extract([volume]), encoder.extract([volume[::-1]]), rtol=1e-4)


def test_a_folder_by_its_name(tmp_path: Path) -> None:
    folder = saved(tmp_path / "encoders" / "mine")
    volumes = np.random.default_rng(0).random((2, 12, 14, 16)).astype(np.float32)
    found = encoder_named(str(folder))
    np.testing.assert_array_equal(found.extract(volumes), TrainedEncoder(network(), "mine").extract(volumes))
    with pytest.raises(MedganError, match="trained for super-resolution, it is no encoder"):
        encoder_named(str(saved(tmp_path / "other", "super_resolution")))
    with pytest.raises(MedganError, match="no model here"):
        encoder_named(str(folder.parent))


class Means:
    """Three numbers that know nothing of noise: means of the volume and of two of its halves."""

    name = "means"

    def extract(self, volumes: Iterable[NDArray[Any]], batch: int = 8) -> NDArray[np.float64]:
        parts = [(one.mean(), one[: len(one) // 2].mean(), one[:, : one.shape[1] // 2].mean()) for one in volumes]
        return np.array(parts, dtype=np.float64)


def test_responses_grow_with_what_an_encoder_sees(heads: Arrays) -> None:
    def brighter(voxels: NDArray[np.float32], gain: float, random: np.random.Generator) -> NDArray[np.float32]:
        return voxels * np.float32(gain)

    scans = heads[:16]
    seen, unseen = sensitivity(
        Means(),
        scans,
        (Ladder("gain", brighter, (1.02, 1.1, 1.5)), Ladder("shuffled", lambda v, s, r: v[:, ::-1], (1.0,))),
    )
    assert seen.is_monotone
    assert seen.responses[-1] > 10
    # The mean and one half's stay as they are: little is seen.
    assert (seen.seen, unseen.seen) == (sum(one > 2 for one in seen.responses), 0)
    assert not Response("kind", (1, 2), (2.0, 1.0)).is_monotone
    with pytest.raises(MedganError, match="too few to halve"):
        sensitivity(Means(), scans[:7])


def test_degradations_of_the_ladder_are_as_strong_as_they_say() -> None:
    random = np.random.default_rng(0)
    flat = np.ones((40, 40, 40), np.float32)
    # Rician noise far above zero is Gaussian.
    assert float((noisy(flat, 0.02, random) - flat).std()) == pytest.approx(0.02, rel=0.05)
    places = random.permutation(flat.size).reshape(flat.shape).astype(np.float32)
    mixed = shuffled(places, 0.4, random)
    assert float((mixed != places).mean()) == pytest.approx(0.4, abs=0.02)
    np.testing.assert_array_equal(np.sort(mixed.ravel()), np.sort(places.ravel()))
    ramp = np.broadcast_to(np.arange(40.0, dtype=np.float32)[:, None, None], (40, 40, 40))
    moved = np.mean([np.square(warped(ramp, 1.0, random) - ramp)[6:-6].mean() for _ in range(6)]) ** 0.5
    assert moved == pytest.approx(1.0, rel=0.15)


@pytest.fixture(scope="module")
def crops(test_data: Path) -> Arrays:
    """The middle 24 voxels a side of ten hippocampus crops that the shipped encoder was not trained on."""
    found = []
    for path in sorted((test_data / "mri_t1_hippocampus_1mm" / "images").glob("*.nii.gz"))[130:140]:
        voxels = np.asarray(nib.load(path).dataobj, dtype=np.float32)
        start = [(length - 24) // 2 for length in voxels.shape]
        cut = voxels[tuple(slice(first, first + 24) for first in start)]
        low, high = np.percentile(voxels, (0.5, 99.5))
        found.append((cut - low) / (high - low))
    return found


@pytest.mark.data
@pytest.mark.parametrize("name", shipped_models("encoding"))
def test_the_shipped_encoder_sees_what_the_random_one_overlooks(name: str, crops: Arrays) -> None:
    ladders = [Ladder(one.kind, one.degrade, one.strengths[1:]) for one in STANDARD_LADDERS[:2]]
    trained, random = (sensitivity(one, crops, ladders) for one in (encoder_named(name), RandomEncoder()))
    for one, other in zip(trained, random, strict=True):
        assert one.is_monotone, one
        assert one.responses[0] > other.responses[0], (one, other)

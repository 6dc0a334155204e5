"""Tuning on one scan: what is cut from it, how it is sampled, and what is learned."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from scipy import ndimage

from medgan.acquisition import Acquisition
from medgan.acquisition.condition import condition
from medgan.acquisition.operators import axis_matrix
from medgan.errors import MedganError
from medgan.networks.conditioned import ConditionedNetwork
from medgan.recipe import SuperResolutionRecipe
from medgan.training.phases import Moment
from medgan.training.self_supervised import Lesson, LessonPatches, LessonScanner, tuned_on

STEP = (1.0, 100.0, 10_000.0)


def _recipe(steps: int, seed: int = 0) -> SuperResolutionRecipe:
    return SuperResolutionRecipe.model_validate(
        {
            "task": "super_resolution",
            "super_resolution": {
                "patch": [12, 12, 16],
                "fidelity_loss": "l2",
                "optimizer": "muon",
                "pretraining": {"images": 4 * steps, "learning_rate": {"start": 0.006, "end": 0.0001}},
                "ema_images": 40,
            },
            "training": {"batch_size": 4, "seed": seed, "mode": "exact", "tick_steps": 10},
        }
    )


def _network(channels: int = 8) -> ConditionedNetwork:
    torch.manual_seed(0)
    return ConditionedNetwork(channels=channels, blocks=1)


def _coordinates(shape: tuple[int, int, int]) -> np.ndarray:
    """A volume whose voxels say where they are: neighbours differ by `STEP` along each axis."""
    return sum(step * axis for step, axis in zip(STEP, np.indices(shape), strict=True)).astype(np.float32)


def _cells(shape: tuple[int, int, int], seed: int, width: float = 2.0) -> np.ndarray:
    """Two tissues with edges, alike in all directions."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), width)
    return ndimage.gaussian_filter((noise > 0).astype(np.float32), 0.5)


@pytest.mark.parametrize(("slice_axis", "sharp"), [(2, (0, 1)), (0, (1, 2)), (1, (0, 2)), (2, (1,))])
def test_the_last_axis_of_a_patch_is_a_sharp_one_and_each_as_often(slice_axis: int, sharp: tuple[int, ...]) -> None:
    lesson = Lesson((_coordinates((20, 21, 22)),), slice_axis, sharp, factor=4.0, thickness=4.0)
    patches = LessonPatches(lesson, (8, 9, 12), batch_size=4, seed=3)
    last, others, mirrored = [], set(), set()
    for number in range(40):
        patch = patches.item(number)
        assert patch.shape == (8, 9, 12)
        steps = [float(np.diff(patch, axis=axis).flat[0]) for axis in range(3)]
        which = [STEP.index(abs(step)) for step in steps]
        assert sorted(which) == [0, 1, 2]
        last.append(which[2])
        others.add(tuple(which))
        mirrored.add(tuple(step > 0 for step in steps))
    assert {axis: last.count(axis) for axis in sharp} == {axis: 40 // len(sharp) for axis in sharp}
    assert len(others) == 2 * len(sharp)
    assert len(mirrored) == 8


def test_batches_depend_on_seed_and_position_alone() -> None:
    lesson = Lesson((_cells((20, 21, 22), 0), _cells((20, 21, 22), 1)), 2, (0, 1), 4.0, 4.0, noise=(0.0, 0.0))
    patches = LessonPatches(lesson, (8, 8, 8), batch_size=3, seed=3)
    stream = list(islice(patches.stream(0), 5))
    torch.testing.assert_close(next(patches.stream(4)), stream[4], rtol=0, atol=0)
    assert stream[0].shape == (3, 1, 8, 8, 8)
    other = next(LessonPatches(lesson, (8, 8, 8), batch_size=3, seed=4).stream(0))
    assert not torch.equal(other, stream[0])


def test_patches_are_sampled_as_the_scan_was() -> None:
    """0.8 mm voxels, slices of 3 mm every 4 mm: the weights of an inner slice are those of the scan's own slices."""
    lesson = Lesson((np.zeros((40, 40, 80), np.float32),), 2, (0, 1), factor=5.0, thickness=3.0 / 0.8)
    patch = lesson.patch_shape((8, 8, 42))
    assert patch == (8, 8, 40)
    scan = Acquisition.between((40, 40, 80), (40, 40, 16), high_spacing=(0.8, 0.8, 0.8), thickness=(0.8, 0.8, 3.0))
    own = lesson.acquisition(patch)
    inner, other = (axis_matrix(one.axes[2], "forward") for one in (own, scan))
    np.testing.assert_allclose(inner[4], other[8, 20:60], atol=1e-6)
    assert own.axes[0].is_identity
    assert own.axes[1].is_identity
    assert condition(own) == pytest.approx(condition(scan))


def test_noise_is_filled_up_to_that_of_the_scan() -> None:
    """White noise of the planes loses variance by sampling; with what is added a slice is as noisy as the scan."""
    rng = np.random.default_rng(0)
    lesson = Lesson((np.zeros((8, 8, 8), np.float32),), 2, (0, 1), factor=4.0, thickness=4.0, noise=(0.1,))
    scanner = LessonScanner(lesson, (32, 32, 32), seed=0)
    planes = torch.from_numpy(0.1 * rng.standard_normal((4, 1, 32, 32, 32), dtype=np.float32))
    low = scanner.acquisition.forward(planes) + scanner.noise_for((4, 1, 32, 32, 8), 0)
    assert float(low.std()) == pytest.approx(0.1, rel=0.03)
    again, later = (scanner.acquired(planes, Moment(step, 0, 0.0)).start for step in (0, 1))
    assert torch.equal(again, scanner.acquired(planes, Moment(0, 0, 0.0)).start)
    assert not torch.equal(again, later)


def test_planes_teach_what_lies_between_the_slices() -> None:
    """The truth along the slice axis was never shown, and the tuned network is nearer to it than the physics."""
    truth = torch.from_numpy(_cells((36, 36, 36), 5, width=4.0))[None, None]
    acquisition = Acquisition.between((36, 36, 36), (36, 36, 12), high_spacing=(1.0, 1.0, 1.0))
    start = acquisition.inverse(acquisition.forward(truth))
    lesson = Lesson((start[0, 0].numpy(),), 2, (0, 1), factor=3.0, thickness=3.0)
    network = tuned_on(lesson, _network(channels=16), _recipe(steps=160))
    with torch.no_grad():
        residual = network(start, torch.tensor([condition(acquisition)])) - start
    restored = start + residual - acquisition.inverse(acquisition.forward(residual))
    before, after = ((one - truth).square().mean() for one in (start, restored))
    assert 10 * torch.log10(before / after) > 0.7


def test_tuning_is_the_same_for_the_same_seed_and_leaves_its_start_alone() -> None:
    lesson = Lesson((_cells((20, 20, 20), 0),), 2, (0, 1), factor=2.0, thickness=2.0, noise=(0.05,))
    network = _network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    one, same, other = (tuned_on(lesson, network, _recipe(4, seed)).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_loss_that_explodes_is_an_error_and_no_result() -> None:
    lesson = Lesson((np.full((20, 20, 20), 1e30, np.float32),), 2, (0, 1), factor=2.0, thickness=2.0)
    with pytest.raises(MedganError, match="tuning on the scan itself failed"):
        tuned_on(lesson, _network(), _recipe(2))

"""What an encoder is trained on, and that it learns it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from medgan.recipe import EncodingRecipe
from medgan.recipe_files import load_recipe
from medgan.training.degradations import (
    DEGRADATIONS,
    blurred,
    blurred_along_one,
    degraded,
    drawn_strengths,
    noisy,
    recontrasted,
    shaded,
    shuffled,
    warped,
)
from medgan.training.encoding import EncodingObjective, found_again, neighbouring_strengths, scores
from medgan.training.memory import training_memory
from medgan.training.phases import Moment


@pytest.fixture
def volumes() -> torch.Tensor:
    """Four volumes of 24 x 20 x 22 voxels."""
    return torch.rand((4, 1, 24, 20, 22), generator=torch.Generator().manual_seed(0))


def test_blur_is_scipys(volumes: torch.Tensor) -> None:
    sigmas = torch.tensor([0.4, 0.8, 1.2, 2.0])
    inside = (slice(8, -8),) * 3
    for before, after, sigma in zip(volumes, blurred(volumes, sigmas), sigmas.tolist(), strict=True):
        wanted = ndimage.gaussian_filter(before[0].numpy(), sigma, truncate=6)
        np.testing.assert_allclose(after[0].numpy()[inside], wanted[inside], atol=2e-3)
    along = blurred_along_one(volumes, sigmas)
    means = [float((along.mean(dim=axis) - volumes.mean(dim=axis)).abs().mean()) for axis in (2, 3, 4)]
    assert sorted(means)[0] < 0.2 * sorted(means)[1]


def test_noise_has_the_deviation_asked_for(volumes: torch.Tensor) -> None:
    torch.manual_seed(0)
    found = (noisy(volumes, torch.tensor([0.01, 0.05, 0.1, 0.2])) - volumes).std(dim=(1, 2, 3, 4))
    np.testing.assert_allclose(found.numpy(), [0.01, 0.05, 0.1, 0.2], rtol=0.05)


def test_shuffling_moves_a_share_of_the_blocks_and_keeps_every_voxel() -> None:
    torch.manual_seed(0)
    whole = torch.rand(4, 1, 24, 24, 24)
    for _ in range(6):
        result = shuffled(whole, torch.tensor([0.02, 0.3, 0.6, 1.0]))
        for before, after in zip(whole, result, strict=True):
            np.testing.assert_array_equal(np.sort(before.numpy().ravel()), np.sort(after.numpy().ravel()))
        moved = (result != whole).float().mean(dim=(1, 2, 3, 4))
        assert 0 < moved[0] < 0.75
        assert moved[3] > 0.8


def test_warps_displace_by_the_amplitude() -> None:
    torch.manual_seed(0)
    # The value of a ramp tells the place along its axis that a voxel came from.
    for axis, size in ((2, 28), (3, 24), (4, 26)):
        shape = [1, 1, 1, 1, 1]
        shape[axis] = size
        ramp = torch.arange(float(size)).view(shape).expand(200, 1, *(s if s > 1 else 12 for s in shape[2:]))
        inner = [slice(None)] * 5
        inner[axis] = slice(6, -6)
        displacement = (warped(ramp, torch.full((200,), 1.5)) - ramp)[tuple(inner)]
        assert float(displacement.square().mean().sqrt()) == pytest.approx(1.5, rel=0.1)


def test_shading_and_contrast(volumes: torch.Tensor) -> None:
    torch.manual_seed(0)
    many = torch.ones(300, 1, 12, 12, 12)
    logarithms = shaded(many, torch.full((300,), 0.3)).log()
    assert float(logarithms.square().mean().sqrt()) == pytest.approx(0.3, rel=0.1)
    exponents = recontrasted(volumes, torch.full((4,), 0.5)).log() / volumes.log()
    allowed = np.exp([-0.5, 0.5])
    assert all(np.abs(allowed - float(one.median())).min() < 1e-3 for one in exponents)


def test_stronger_is_further_away_and_absent_is_nothing(volumes: torch.Tensor) -> None:
    smooth = blurred(volumes, torch.ones(4))
    for name, degradation in DEGRADATIONS.items():
        distances = []
        for strength in (0.0, 0.5, 1.0):
            torch.manual_seed(3)
            distances.append(float((degradation(smooth, torch.full((4,), strength)) - smooth).square().mean()))
        assert distances == sorted(distances), name
        assert distances[0] > 0, name
    absent = -torch.ones(4, len(DEGRADATIONS))
    assert torch.equal(degraded(volumes, absent), volumes)
    strengths = absent.clone()
    strengths[2, 0] = 0.5
    changed = (degraded(volumes, strengths) != volumes).flatten(1).any(dim=1)
    assert changed.tolist() == [False, False, True, False]


def test_neighbours_differ_in_one_kind() -> None:
    torch.manual_seed(0)
    first, second = neighbouring_strengths(500, 0.35).chunk(2)
    assert bool(((first != second).sum(dim=1) == 1).all())
    assert float((first >= 0).float().mean()) == pytest.approx(0.35, abs=0.03)
    assert bool((drawn_strengths(10, 1.0) >= 0).all())
    np.testing.assert_allclose(scores(torch.tensor([-1.0, 0.0, 0.5, 1.0])).numpy(), [0, 0.1, 0.55, 1], rtol=1e-6)


def test_partners_are_found_among_all_others() -> None:
    unit = torch.eye(3)
    loss, share = found_again(torch.cat((unit, unit)), 2, 0.1)
    # Each view has one partner at cosine 1 and four others at 0.
    assert float(loss) == pytest.approx(np.log(1 + 4 * np.exp(-10)), rel=1e-2)
    assert float(share) == 1.0
    same, _ = found_again(torch.ones(6, 3), 2, 0.1)
    assert float(same) == pytest.approx(np.log(5), rel=1e-5)
    _, exchanged = found_again(torch.cat((unit, unit.roll(1, 0))), 2, 0.1)
    assert float(exchanged) == 0.0


def recipe(**network: object) -> EncodingRecipe:
    loaded = load_recipe(
        "encoding/degradations",
        ["network.channels=[4,8,8]", "network.hidden=16", "network.descriptor=8", "encoding.view=12"],
    )
    assert isinstance(loaded, EncodingRecipe)
    return loaded


def test_the_objective_learns_and_exports_its_encoder() -> None:
    objective = EncodingObjective(recipe(), device=torch.device("cpu"))
    (phase,) = objective.phases
    volumes = blurred(torch.rand((4, 1, 24, 24, 24), generator=torch.Generator().manual_seed(0)), torch.full((4,), 1.5))
    losses = []
    for step in range(30):
        moment = Moment(step, 4 * step, step / 1000)
        phase.tune(phase.optimizer, moment)
        phase.optimizer.zero_grad()
        loss, reported = phase.loss(volumes, moment)
        loss.backward()
        phase.optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
    assert set(reported) == {"naming", "finding", "found_share"}
    config, weights = objective.export(objective.network)
    assert config["task"] == "encoding"
    assert config["network"]["arguments"]["descriptor"] == 8
    assert not any(name.startswith(("strengths", "identity", "encoder")) for name in weights)
    assert objective.network.encoder.load_state_dict(weights)


def test_half_precision_is_the_networks_alone() -> None:
    objective = EncodingObjective(recipe(), device=torch.device("cpu"))
    volumes = torch.rand((2, 1, 24, 24, 24), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = objective.loss(volumes, Moment(0, 0, 0.0))
    assert bool(torch.isfinite(loss))


def test_its_memory_is_estimated_without_voxels() -> None:
    found = {}
    for side in (24, 40):
        objective = EncodingObjective(recipe(), device=torch.device("cpu"))
        found[side] = training_memory(objective, recipe().training, torch.zeros(1, 1, side, side, side)).activations
    # Two degradations of eight patches at least.
    assert found[40] > 16 * 4 * 40**3
    assert found[40] > found[24]

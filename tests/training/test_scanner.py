"""Simulated scanners, and what the restoring objective makes of them."""

from __future__ import annotations

import pytest
import torch

from medgan.acquisition import Acquisition
from medgan.recipe import AcquisitionOptions, RandomAcquisition, SuperResolutionRecipe
from medgan.training.phases import Moment
from medgan.training.restoration import RestorationObjective, balanced_error, restored_by
from medgan.training.scanner import FixedScanner, RandomScanner

NOW = Moment(5, 40, 0.1)
QUIET = RandomAcquisition(noise=0.0)


def patches(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))


def test_a_fixed_scanner_is_its_acquisition() -> None:
    options = AcquisitionOptions(factor=(1, 1, 4), thickness=0.75)
    acquired = FixedScanner(options, (16, 16, 16), (1.0, 1.0, 2.0)).acquired(patches(), NOW)
    alone = Acquisition.between((16, 16, 16), (16, 16, 4), high_spacing=(1, 1, 2), thickness=(None, None, 6.0))
    expected = alone.inverse(alone.forward(patches()))
    torch.testing.assert_close(acquired.start, expected, rtol=0, atol=1e-5)


def test_random_scanners_follow_seed_step_and_place_alone() -> None:
    options = AcquisitionOptions(random=QUIET)
    first, again, other = (RandomScanner(options, seed) for seed in (1, 1, 2))
    start = first.acquired(patches(), NOW).start
    torch.testing.assert_close(again.acquired(patches(), NOW).start, start, rtol=0, atol=0)
    assert not torch.equal(other.acquired(patches(), NOW).start, start)
    assert not torch.equal(first.acquired(patches(), Moment(6, 48, 0.1)).start, start)
    # A patch is scanned alike whatever stands beside it in the batch.
    torch.testing.assert_close(first.acquired(patches()[:1], NOW).start, start[:1], rtol=0, atol=1e-6)


def test_what_is_restored_explains_what_was_measured() -> None:
    acquired = RandomScanner(AcquisitionOptions(random=QUIET), 0).acquired(patches(), NOW)

    class Anything(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(3))

    restored = restored_by(Anything(), acquired)
    assert (restored - acquired.start).norm() > 1
    measured, explained = acquired.acquisitions.forward(patches()), acquired.acquisitions.forward(restored)
    assert (explained - measured).norm() / measured.norm() < 0.02


def test_the_balanced_error_is_a_ratio_of_errors() -> None:
    truth = torch.zeros(2, 1, 4, 4, 4)
    start = truth + torch.tensor([0.2, 0.4]).view(2, 1, 1, 1, 1)
    value = balanced_error(start, 0.5 * start, truth)
    assert float(value) == pytest.approx(0.25, rel=1e-2)
    assert float(balanced_error(truth, truth, truth)) == 0  # air


def test_an_untrained_universal_network_is_the_physics() -> None:
    recipe = SuperResolutionRecipe.model_validate(
        {
            "task": "super_resolution",
            "acquisition": {"random": {"noise": 0.0}},
            "network": {"kind": "conditioned", "channels": 4, "blocks": 1},
            "super_resolution": {"patch": [16, 16, 16], "fidelity_loss": "balanced", "optimizer": "muon"},
        }
    )
    objective = RestorationObjective(recipe, patch=(16, 16, 16), spacing=(1.0, 1.0, 1.0), device=torch.device("cpu"))
    acquired = objective.scanner.acquired(patches(), NOW)
    torch.testing.assert_close(objective.restored(acquired), acquired.start, rtol=0, atol=1e-6)
    _, reported = objective.fidelity_loss(patches(), NOW)
    assert float(reported["gain_db"]) == pytest.approx(0, abs=1e-4)

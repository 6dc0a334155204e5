"""The game against discriminators of patches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medgan.recipe import PenaltyOptions, Schedule
from medgan.training.patch_game import PatchGame
from medgan.training.phases import Moment


class _Slope(nn.Module):
    """Logits are three times the volumes, so that the gradient of their mean is known."""

    def forward(self, candidate: Tensor, beside: Tensor | None) -> Tensor:
        return 3 * candidate


def _added_by_penalty(options: PenaltyOptions, progress: float) -> float:
    volumes = torch.rand((2, 1, 4, 5, 6), generator=torch.Generator().manual_seed(0))
    moment = Moment(step=0, images=0, progress=progress)
    arguments = (_Slope(), volumes, -volumes, None, moment)
    loss, _ = PatchGame("non_saturating", options).judgement(*arguments)
    without, _ = PatchGame("non_saturating", PenaltyOptions(kind="none")).judgement(*arguments)
    return float(loss.detach() - without.detach())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # (3 / voxels)^2 summed over voxels, brought to one voxel's scale, is 9.
        (PenaltyOptions(kind="r1"), (4.5, 0.45)),
        (PenaltyOptions(kind="r1", strength=8), (36.0, 3.6)),
        (PenaltyOptions(kind="r1+r2", strength=8, interval=4), (288.0, 28.8)),
        (PenaltyOptions(kind="r1", weight=Schedule(start=2.0, end=2.0)), (9.0, 9.0)),
    ],
)
def test_the_penalty_weighs_what_the_recipe_says(options: PenaltyOptions, expected: tuple[float, float]) -> None:
    assert _added_by_penalty(options, 0.0) == pytest.approx(expected[0], rel=1e-4)
    assert _added_by_penalty(options, 1.0) == pytest.approx(expected[1], rel=1e-4)

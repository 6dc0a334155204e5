"""The automatic weight of R1 and R2, against the rule worked out by hand."""

from __future__ import annotations

import pytest

from medgan.recipe import Schedule, SynthesisPenaltyOptions
from medgan.training.penalty import GradientPenalty, resolved_weight
from medgan.training.phases import Moment


@pytest.mark.parametrize(
    ("side", "batch_size", "start"),
    # 2e-4 times 32768, 110592 and 262144 voxels, over the batch.
    [(32, 16, 0.4096), (48, 16, 1.3824), (64, 16, 3.2768), (32, 8, 0.8192), (48, 4, 5.5296), (64, 2, 26.2144)],
)
def test_the_automatic_weight_of_cubes(side: int, batch_size: int, start: float) -> None:
    options = SynthesisPenaltyOptions(interval=4)
    weight = resolved_weight(options, (side, side, side), batch_size)
    assert weight.start == pytest.approx(start)
    assert weight.end == pytest.approx(start / 10)
    penalty = GradientPenalty(options, shape=(side, side, side), batch_size=batch_size)
    # Half of it, four times as strong at each fourth step; halfway, the mean of both ends.
    assert penalty.factor(Moment(0, 0, 0.0)) == pytest.approx(2 * start)
    assert penalty.factor(Moment(0, 0, 0.5)) == pytest.approx(2 * 0.55 * start)
    assert penalty.factor(Moment(0, 0, 1.0)) == pytest.approx(0.2 * start)


def test_the_automatic_weight_follows_the_voxels_of_any_shape() -> None:
    weights = [
        resolved_weight(SynthesisPenaltyOptions(), shape, 8).start
        for shape in ((40, 48, 32), (80, 48, 32), (80, 96, 64))
    ]
    assert weights[1] == pytest.approx(2 * weights[0])
    assert weights[2] == pytest.approx(8 * weights[0])


def test_strength_is_a_factor_on_an_automatic_weight_alone() -> None:
    plain, strong = (
        resolved_weight(SynthesisPenaltyOptions(strength=strength), (32, 32, 32), 16) for strength in (1.0, 32.0)
    )
    assert strong.start == pytest.approx(32 * plain.start)
    assert strong.end == pytest.approx(32 * plain.end)
    held = resolved_weight(SynthesisPenaltyOptions(kind="gradient_penalty", strength=2.0), (32, 32, 32), 16)
    assert held.start == held.end == 20
    with pytest.raises(ValueError, match="strength 32 is a factor on weight: auto"):
        SynthesisPenaltyOptions(strength=32, weight=Schedule(start=1, end=1))

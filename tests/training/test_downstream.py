from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from medgan.data.examples import Example
from medgan.errors import MedganError
from medgan.training.downstream import (
    DownstreamOptions,
    Source,
    classification_network,
    segmentation_network,
    segmented,
    trained,
)

CPU = torch.device("cpu")


class Constant:
    """Scans of one value, whose class is that value."""

    def __init__(self, value: int, count: int = 3) -> None:
        self.value, self.count, self.drawn = value, count, Counter[int]()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        self.drawn[index] += 1
        return np.full((8, 9, 10), self.value, np.float32), np.array(self.value)


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 2)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return self.layer(volumes.mean(dim=(2, 3, 4)))


def _trained(sources: list[Source], **options: int) -> tuple[torch.nn.Module, list[float]]:
    losses: list[float] = []
    model = trained(
        Tiny,
        torch.nn.functional.cross_entropy,
        sources,
        (1.0, 1.0, 1.0),
        DownstreamOptions(**{"steps": 4, "batch_size": 8, **options}),
        seed=3,
        device=CPU,
        report=lambda step, loss: losses.append(loss),
    )
    return model, losses


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_sources_are_seen_by_their_share(share: float) -> None:
    first, second = Constant(0), Constant(1, count=5)
    _trained([Source(first, 1 - share), Source(second, share)], steps=50)
    assert first.drawn.total() + second.drawn.total() == 400
    assert second.drawn.total() / 400 == pytest.approx(share, abs=0.07)
    assert min(second.drawn[index] for index in range(5)) > 0


def test_a_seed_decides_all_but_the_scans() -> None:
    """Without a step of any size, the first weights and what is reported depend on the seed and the scans alone."""
    same = [_trained([Source(Constant(0), 1.0)]) for _ in range(2)]
    assert same[0][1] == same[1][1]
    for one, other in zip(same[0][0].parameters(), same[1][0].parameters(), strict=True):
        assert torch.equal(one, other)
    before = torch.random.get_rng_state()
    _trained([Source(Constant(0), 1.0)])
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("shape", [(9, 12, 10), (18, 24, 18), (33, 35, 40)])
def test_the_segmentation_network_takes_any_shape(shape: tuple[int, int, int]) -> None:
    network = segmentation_network(3, shape, 4).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, *shape)).shape == (1, 3, *shape)
    assert segmented(network, np.zeros(shape, np.float32), CPU).shape == shape


@pytest.mark.parametrize("shape", [(5, 9, 6), (10, 12, 9), (16, 20, 18)])
def test_the_classifier_takes_small_scans(shape: tuple[int, int, int]) -> None:
    network = classification_network(3, shape, 4)
    assert network(torch.zeros(2, 1, *shape)).shape == (2, 3)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(MedganError, match="steps is 0"):
        DownstreamOptions(steps=0)
    with pytest.raises(MedganError, match="too small"):
        classification_network(2, (4, 8, 8), 4)

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.evaluation.diversity import ms_ssim, ms_ssim_diversity, scales_for

Arrays = list[NDArray[np.float32]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8, 8, 8), (1, 7)),
        ((9, 20, 20), (1, 9)),
        ((16, 16, 16), (1, 11)),
        ((24, 24, 24), (2, 11)),
        ((44, 60, 60), (3, 11)),
        ((176, 200, 300), (5, 11)),
    ],
)
def test_scales_adapt_to_the_shape(shape: tuple[int, int, int], expected: tuple[int, int]) -> None:
    assert scales_for(shape) == expected


@pytest.mark.parametrize(("shape", "scales"), [((44, 46, 48), 2), ((50, 44, 47), 3)])
def test_against_monai(make_head: Callable[..., NDArray[np.float32]], shape: tuple[int, int, int], scales: int) -> None:
    import torch
    from monai.metrics import MultiScaleSSIMMetric

    random = np.random.default_rng(0)
    first, second = make_head(1, shape), make_head(2, shape) + random.normal(0, 0.02, shape).astype(np.float32)
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales])
    metric = MultiScaleSSIMMetric(spatial_dims=3, data_range=1.0, weights=list(weights / weights.sum()))
    theirs = float(metric(torch.from_numpy(first)[None, None], torch.from_numpy(second)[None, None]))
    assert ms_ssim(first[None], second[None], scales=scales)[0] == pytest.approx(theirs, abs=1e-5)


def test_one_for_equal_volumes(heads: Arrays) -> None:
    assert ms_ssim(heads[0][None], heads[0][None], scales=1)[0] == pytest.approx(1, abs=1e-6)


def test_collapse_shows(heads: Arrays) -> None:
    random = np.random.default_rng(0)
    collapsed = [heads[0] + random.normal(0, 0.01, heads[0].shape).astype(np.float32) for _ in range(10)]
    assert ms_ssim_diversity(collapsed).mean > ms_ssim_diversity(heads).mean + 0.2


def test_pairs(heads: Arrays) -> None:
    every = ms_ssim_diversity(heads[:5], pairs=100)
    pairs = [(heads[i][None], heads[j][None]) for i in range(5) for j in range(i)]
    expected = [ms_ssim(*pair, scales=every.scales)[0] for pair in pairs]
    assert every.pairs == 10
    assert every.mean == pytest.approx(np.mean(expected))
    assert every.standard_deviation == pytest.approx(np.std(expected))
    some = [ms_ssim_diversity(heads[:12], pairs=4, seed=seed) for seed in (0, 0, 1)]
    assert some[0].pairs == 4
    assert some[0] == some[1] != some[2]


def test_unusable_sets(heads: Arrays) -> None:
    with pytest.raises(MedganError, match="there is 1"):
        ms_ssim_diversity(heads[:1])
    with pytest.raises(MedganError, match="volume 1 has shape"):
        ms_ssim_diversity([heads[0], heads[1][:-1]])


def test_fewer_pairs_of_large_volumes() -> None:
    random = np.random.default_rng(0)
    small = [random.random((16, 16, 16), dtype=np.float32) for _ in range(21)]
    assert ms_ssim_diversity(small).pairs == 200
    large = [np.broadcast_to(random.random((1, 16, 1), dtype=np.float32), (160, 16, 300)) for _ in range(12)]
    assert ms_ssim_diversity(large).pairs == 66
    assert ms_ssim_diversity(large, pairs=3).pairs == 3

"""The set of known modes: its classifier is right where the answer is known, and the collapse is told apart."""

from __future__ import annotations

import math

import modes
import numpy as np
import pytest
import torch
from scipy.stats import norm


def _all(repeats: int) -> np.ndarray:
    return np.tile(np.arange(modes.MODES), repeats)


def test_every_clean_volume_is_classified_rightly() -> None:
    wanted = _all(10)
    volumes = modes.drawn(wanted, np.random.default_rng(0))
    assert volumes.shape == (270, 16, 16, 16)
    np.testing.assert_array_equal(modes.classified(volumes), wanted)


def test_filters_are_far_apart() -> None:
    flat = modes.filters().reshape(9, -1)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[~np.eye(9, dtype=bool)]
    assert cosines.max() < 0.65
    # Objects at different positions do not touch.
    positions = flat.reshape(3, 3, -1).max(axis=1)
    assert (positions.sum(axis=0) <= 1).all()


def test_confusion_of_intensities_is_that_of_gaussian_noise() -> None:
    spread, wanted = 0.15, _all(200)
    random = np.random.default_rng(0)
    objects = modes.filters()[wanted // 3]
    brightness = np.array(modes.LEVELS)[wanted % 3] + spread * random.standard_normal(len(wanted))
    # Far from zero, where an object would vanish.
    kept = brightness > 0.05
    found = modes.classified((brightness[:, None, None, None] * objects).astype(np.float32)[kept])
    wanted = wanted[kept]
    np.testing.assert_array_equal(found // 3, wanted // 3)
    tail = norm.sf((modes.LEVELS[1] - modes.LEVELS[0]) / 2 / spread)
    for level, expected in ((1, 2 * tail), (2, tail)):
        wrong = (found != wanted)[wanted % 3 == level].mean()
        assert wrong == pytest.approx(expected, abs=4 * math.sqrt(expected / 1800))


def test_what_resembles_no_mode_is_not_recognised() -> None:
    random = np.random.default_rng(0)
    noise = random.standard_normal((50, 16, 16, 16)).astype(np.float32)
    assert (modes.classified(np.abs(noise)) == -1).all()
    assert (modes.classified(np.zeros((2, 16, 16, 16), np.float32)) == -1).all()
    mean = modes.drawn(_all(10), random).mean(axis=0, keepdims=True)
    assert modes.classified(mean)[0] == -1


def test_coverage_and_divergence_by_hand() -> None:
    assert modes.coverage(_all(26)) == modes.Coverage(27, 1.0, pytest.approx(0))
    assert modes.coverage(np.full(702, 5)) == modes.Coverage(1, 1.0, pytest.approx(math.log(27)))
    half = np.concatenate([np.full(30, 3), np.full(10, 4), np.full(60, -1)])
    divergence = 0.75 * math.log(0.75 * 27) + 0.25 * math.log(0.25 * 27)
    assert modes.coverage(half) == modes.Coverage(2, 0.4, pytest.approx(divergence))
    assert modes.coverage(np.full(5, -1)) == modes.Coverage(0, 0.0, None)


def test_batches_depend_on_their_position_alone() -> None:
    first, second = (next(modes.Shapes(8, 0).stream(position)) for position in (3, 4))
    stream = modes.Shapes(8, 0).stream(3)
    assert torch.equal(first, next(stream))
    assert torch.equal(second, next(stream))
    assert not torch.equal(first, second)
    assert first.shape == (8, 1, 16, 16, 16)


class _Repeating(torch.nn.Module):
    """A generator of the set itself, but of some modes only."""

    latent_size = 32

    def __init__(self, allowed: int) -> None:
        super().__init__()
        self.allowed = allowed

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        chosen = np.floor(norm.cdf(latents[:, 0].numpy()) * self.allowed).astype(np.int64)
        order = np.random.default_rng(0).permutation(modes.MODES)
        return torch.from_numpy(2 * modes.drawn(order[chosen], np.random.default_rng(len(chosen))) - 1)[:, None]


def test_the_look_of_the_watchdogs_tells_few_modes_from_all() -> None:
    from gan_runs import synthesis_recipe

    from medgan.workflows.watching import SampleLook

    look = SampleLook(synthesis_recipe("synthesis/quickstart", modes.COMMON), modes.scans, torch.device("cpu"))
    values = {allowed: look(_Repeating(allowed))["samples/diversity"] for allowed in (27, 3, 1)}
    assert values[27] == pytest.approx(1, abs=0.25)
    assert values[3] < 0.5
    assert values[1] < 0.1


def test_a_case_trains_from_end_to_end() -> None:
    small = ["network.width=4", "network.max_width=4", "training.batch_size=4", "training.watchdogs.samples=4"]
    recipe, overrides = modes.CASES["collapsing"]
    row = modes.trained(recipe, [*modes.COMMON, *overrides, *small], 0.01, torch.device("cpu"), looks=2)
    assert row["steps"] >= 1
    assert 0 <= row["modes"] <= 27


@pytest.mark.slow
def test_the_collapsing_case_is_named_and_the_default_one_is_not() -> None:
    rows = {name: modes.trained(*_case(name), 120, torch.device("cpu")) for name in ("collapsing", "r3gan")}
    assert rows["collapsing"]["warnings"]
    assert rows["collapsing"]["modes"] < rows["r3gan"]["modes"]
    assert "mode_collapse" not in rows["r3gan"]["warnings"]


def _case(name: str) -> tuple[str, list[str]]:
    recipe, overrides = modes.CASES[name]
    return recipe, [*modes.COMMON, *overrides]

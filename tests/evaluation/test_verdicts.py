"""Judgements of made-up cards, and of cards that were measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from medgan.evaluation.verdicts import chance_flags, restoration_verdicts, verdicts


def estimate(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "method": ""}


def card(**changes: Any) -> dict[str, Any]:
    """What a perfect generator gets."""
    perfect = {
        "counts": {"real": 60, "synthetic": 60, "holdout": 20},
        "kid": estimate(0.1, -0.1, 0.4),
        "kid_floor": estimate(0.0, -0.3, 0.5),
        "diversity": {"mean": 0.61},
        "real_diversity": {"mean": 0.6},
        "intensity_distance": 0.01,
        "intensity_floor": estimate(0.01, 0.005, 0.02),
        "coverage": {name: estimate(0.9, 0.8, 1.0) for name in ("precision", "recall", "coverage")},
        "coverage_floor": {name: estimate(0.95, 0.9, 1.0) for name in ("precision", "recall", "coverage")},
        "ratios": {"kid": 0.2, "spectrum": 0.9, "intensity": 0.5, "precision": 0.95, "recall": 0.9, "coverage": 0.96},
        "memorization": {"flagged": [], "reference": "held-out scans", "membership": None},
    }
    return perfect | changes


def level(topic: str, **changes: Any) -> str:
    return {verdict.topic: verdict.level for verdict in verdicts(card(**changes))}[topic]


def ratios(**changes: float) -> dict[str, float]:
    return card()["ratios"] | changes


def test_a_perfect_card_is_good_and_anatomy_unknown() -> None:
    found = verdicts(card())
    assert [(one.topic, one.level) for one in found] == [
        ("faithful", "good"),
        ("diverse", "good"),
        ("private", "good"),
        ("anatomy", "unknown"),
    ]
    assert all(one.sentence.endswith(".") and str(one).startswith(one.topic) for one in found)
    assert found[0].to_dict().keys() == {"topic", "level", "sentence"}


@pytest.mark.parametrize(("ratio", "expected"), [(0.9, "good"), (1.5, "caution"), (5.0, "bad"), (-0.3, "good")])
def test_faithful_follows_the_floor(ratio: float, expected: str) -> None:
    assert level("faithful", ratios=ratios(kid=ratio)) == expected


def test_detail_takes_the_good_away_but_makes_nothing_bad() -> None:
    assert level("faithful", ratios=ratios(spectrum=15.0)) == "caution"
    (faithful, *_) = verdicts(card(ratios=ratios(intensity=3.0)))
    assert "grey levels" in faithful.sentence
    assert "sharpness" not in faithful.sentence


def test_few_scans_earn_no_praise_and_hide_no_fault() -> None:
    few = {"real": 60, "synthetic": 8, "holdout": 20}
    assert {one.topic: one.level for one in verdicts(card(counts=few))} == dict.fromkeys(
        ("faithful", "diverse", "private", "anatomy"), "unknown"
    )
    assert level("faithful", counts=few, ratios=ratios(kid=9.0)) == "bad"
    assert level("diverse", counts=few, diversity={"mean": 0.95}) == "bad"
    assert level("private", counts=few, memorization={"flagged": [1, 2, 3, 4]}) == "bad"


@pytest.mark.parametrize(("likeness", "expected"), [(0.61, "good"), (0.7, "caution"), (0.9, "bad"), (0.4, "caution")])
def test_diverse_by_likeness(likeness: float, expected: str) -> None:
    assert level("diverse", diversity={"mean": likeness}) == expected


def test_diverse_by_variety_reached() -> None:
    assert level("diverse", ratios=ratios(coverage=0.6, recall=0.6)) == "caution"
    assert level("diverse", ratios=ratios(coverage=0.7, recall=0.3)) == "bad"
    # Blurred scans lie outside, and so cannot cover: that is no lack of variety.
    assert level("diverse", ratios=ratios(coverage=0.6, recall=0.3, precision=0.6)) == "good"


def test_private_counts_more_than_chance() -> None:
    def audit(count: int, **more: Any) -> dict[str, Any]:
        return {"flagged": list(range(count)), "reference": "held-out scans", **more}

    assert level("private", memorization=audit(1)) == "caution"
    assert level("private", memorization=audit(5)) == "bad"
    assert level("private", memorization=audit(0, membership={"auc": 0.6, "low": 0.53, "high": 0.67})) == "caution"
    assert level("private", memorization=audit(0, membership={"auc": 0.9, "low": 0.8, "high": 0.95})) == "bad"
    assert level("private", memorization=audit(0, membership={"auc": 0.5, "low": 0.4, "high": 0.6})) == "good"
    assert level("private", memorization=audit(1, copies={"chances": [1e-6] + [0.5] * 59})) == "bad"
    assert level("private", memorization=audit(1, copies={"chances": [1e-3] + [0.5] * 59})) == "caution"
    assert level("private", counts={"real": 60, "synthetic": 60, "holdout": 0}) == "unknown"


@pytest.mark.parametrize("samples", [1, 4, 24, 100, 1000])
def test_chance_flags_are_the_binomial_quantile(samples: int) -> None:
    assert chance_flags(samples) == stats.binom.ppf(0.95, samples, 0.01)


@pytest.mark.parametrize(("ratio", "expected"), [(0.8, "good"), (1.4, "caution"), (3.0, "bad")])
def test_anatomy_by_the_worst_region(ratio: float, expected: str) -> None:
    volumes = {"synthetic_mean_ml": 21.0, "real_mean_ml": 30.0}
    regions = [
        {"name": "ventricles", "ratio": ratio, **volumes},
        {"name": "cortex", "ratio": 0.3, **volumes},
        {"name": "sella", "ratio": None, **volumes},
    ]
    found = verdicts(card(anatomy={"regions": regions}))[-1]
    assert found.level == expected
    assert "ventricles (21 ml on average, real 30 ml)" in found.sentence


def test_cards_of_older_versions_and_empty_ones_are_judged_as_far_as_they_go() -> None:
    old = card()
    for key in ("ratios", "coverage", "coverage_floor"):
        del old[key]
    assert [one.level for one in verdicts(old)] == ["good", "good", "good", "unknown"]
    old["kid"] = estimate(5.0, 4.0, 6.0)
    assert verdicts(old)[0].level == "bad"
    assert {one.level for one in verdicts({})} == {"unknown"}


def test_restoration_against_interpolation_and_physics() -> None:
    def figures(cubic: float, physics: float, ours: float) -> dict[str, Any]:
        names = {"cubic": cubic, "physics": physics, "fidelity": ours}
        return {"mean": {name: {"psnr_db": value, "ssim": value / 40} for name, value in names.items()}, "scans": [1]}

    def levels(*values: float) -> list[str]:
        return [one.level for one in restoration_verdicts(figures(*values))]

    assert levels(30, 31, 33) == ["good", "good"]
    assert levels(30, 31, 30.1) == ["caution", "bad"]
    assert levels(30, 29, 29.1) == ["bad", "caution"]
    assert [one.level for one in restoration_verdicts({})] == ["unknown"]


def test_of_measured_scans() -> None:
    """Other phantoms pass; noise does not; copies are no private matter."""
    from medgan.evaluation.synthesis import evaluate_synthesis

    def phantom(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        x, y, z = np.meshgrid(*[np.linspace(-1, 1, 12)] * 3, indexing="ij")
        a, b, c = rng.uniform(0.6, 0.9, 3)
        head = np.clip(3 * (1 - (x / a) ** 2 - (y / b) ** 2 - (z / c) ** 2), 0, 1)
        return (head + 0.02 * rng.standard_normal(head.shape)).astype(np.float32)

    real, others, held_out = ([phantom(seed + i) for i in range(20)] for seed in (0, 100, 200))

    def judged(synthetic: list[np.ndarray]) -> dict[str, str]:
        figures = evaluate_synthesis(real, synthetic, holdout=held_out).to_dict()
        return {one.topic: one.level for one in verdicts(figures)}

    innocent = judged(others)
    assert innocent["faithful"] == "good"
    assert innocent["private"] in ("good", "caution")
    noisy = [scan + 0.3 * np.random.default_rng(i).standard_normal(scan.shape) for i, scan in enumerate(others)]
    assert judged([np.asarray(scan, dtype=np.float32) for scan in noisy])["faithful"] == "bad"
    assert judged([scan + np.float32(1e-4) for scan in real])["private"] == "bad"

"""Labels drawn as the training scans have them, as a function of seed and index."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from medgan.label_distribution import LabelDistribution
from medgan.labels import LabelCoding, class_label, continuous_label


def _rows(count: int = 400) -> list[dict]:
    """Patients are a quarter and 30 years older; height rises with age; sites do not matter."""
    rng = np.random.default_rng(3)
    rows = []
    for index in range(count):
        patient = index % 4 == 0
        age = rng.uniform(20, 60) + 30 * patient
        height = 150 + age / 2 + rng.normal(0, 4)
        rows.append({"group": "patient" if patient else "control", "age": age, "height": height})
    return rows


ROWS = _rows()


def _distribution(rows: list[dict]) -> LabelDistribution:
    coding = LabelCoding(
        (
            continuous_label("age", [row["age"] for row in rows]),
            class_label("group", [row["group"] for row in rows]),
            continuous_label("height", [row["height"] for row in rows]),
        )
    )
    return LabelDistribution.fitted(coding, rows)


FITTED = _distribution(ROWS)


def _drawn(asked: dict, count: int = 200, seed: int = 0) -> list[dict]:
    return [FITTED.drawn(asked, seed=seed, index=index) for index in range(count)]


def test_draws_have_the_shares_and_the_quantiles_of_the_training_scans() -> None:
    drawn = _drawn({}, 800)
    groups = Counter(one["group"] for one in drawn)
    assert groups["patient"] / 800 == pytest.approx(0.25, abs=0.06)
    for group, low in (("control", 20), ("patient", 50)):
        ages = [one["age"] for one in drawn if one["group"] == group]
        assert low <= min(ages) < max(ages) <= low + 40
        expected = np.quantile([row["age"] for row in ROWS if row["group"] == group], (0.25, 0.5, 0.75))
        np.testing.assert_allclose(np.quantile(ages, (0.25, 0.5, 0.75)), expected, atol=4)


def test_continuous_labels_rise_together_as_in_the_training_scans() -> None:
    def correlation(rows: list[dict]) -> float:
        controls = [row for row in rows if row["group"] == "control"]
        return float(np.corrcoef([[row["age"], row["height"]] for row in controls], rowvar=False)[0, 1])

    assert correlation(_drawn({}, 500)) == pytest.approx(correlation(ROWS), abs=0.15)
    tall, small = (np.mean([one["height"] for one in _drawn({"age": age})]) for age in (58.0, 22.0))
    assert tall > small + 8


def test_what_is_asked_for_is_kept_and_the_rest_agrees_with_it() -> None:
    drawn = _drawn({"group": "patient"})
    assert {one["group"] for one in drawn} == {"patient"}
    assert min(one["age"] for one in drawn) >= 50
    assert {one["age"] for one in _drawn({"age": 33.0}, 20)} == {33.0}
    unknown = FITTED.drawn(dict.fromkeys(FITTED.coding.names), seed=0, index=0)
    assert unknown == {"age": None, "group": None, "height": None}
    assert list(unknown) == FITTED.coding.names


def test_a_draw_is_a_function_of_seed_and_index() -> None:
    assert FITTED.drawn({}, seed=5, index=7) == FITTED.drawn({}, seed=5, index=7)
    assert len({one["age"] for one in _drawn({}, 50)}) > 35
    assert FITTED.drawn({}, seed=6, index=7) != FITTED.drawn({}, seed=5, index=7)
    # Asking for one label leaves the draw of a class as it was.
    assert [one["group"] for one in _drawn({"age": 40.0}, 50)] == [one["group"] for one in _drawn({}, 50)]


def test_drawn_numbers_have_no_needless_digits() -> None:
    assert all(one["age"] == round(one["age"], 1) for one in _drawn({}, 20))


def test_a_distribution_survives_json() -> None:
    assert LabelDistribution.from_json(json.loads(json.dumps(FITTED.to_json()))) == FITTED


def test_few_scans_are_not_listed_one_by_one() -> None:
    for count in (9, 24, 100):
        for cell in _distribution(_rows(count)).cells:
            assert all(2 <= len(quantiles) <= max(2, count // 4, 1) for quantiles in cell.quantiles)
    # Six patients are too few for quantiles of their own.
    cells = {cell.classes[0]: cell for cell in _distribution(_rows(24)).cells}
    assert cells["patient"].quantiles == cells["control"].quantiles

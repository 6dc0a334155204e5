"""Labels as numbers: the coding there and back, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.labels import ClassLabel, ContinuousLabel, LabelCoding, class_label, continuous_label

AGES = [20.0, 30.0, 40.0, 70.0]
CODING = LabelCoding((class_label("sex", ["M", "F", "F", "M", "M"]), continuous_label("age", AGES)))


def test_classes_are_one_hot_and_numbers_are_standardised() -> None:
    mean, deviation = np.mean(AGES), np.std(AGES)
    assert CODING.size == 5
    code = CODING.coded({"age": 30.0, "sex": "F", "weight": 80.0})
    np.testing.assert_allclose(code, [1, 0, 0, (30 - mean) / deviation, 0], rtol=1e-6)
    np.testing.assert_allclose(CODING.coded({"sex": "M"}), [0, 1, 0, 0, 1])
    np.testing.assert_allclose(CODING.dropped(), [0, 0, 1, 0, 1])
    np.testing.assert_allclose(CODING.typical(), [0.4, 0.6, 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("values", [{"sex": "F", "age": 61.5}, {"sex": None, "age": 20.0}, {"sex": "M", "age": None}])
def test_a_code_leads_back_to_the_labels(values: dict) -> None:
    back = CODING.decoded(CODING.coded(values))
    assert back["sex"] == values["sex"]
    assert back["age"] == (None if values["age"] is None else pytest.approx(values["age"], abs=1e-4))


def test_a_coding_survives_json() -> None:
    assert LabelCoding.from_json(json.loads(json.dumps(CODING.to_json()))) == CODING


def test_what_is_asked_for_is_checked_against_the_training_scans() -> None:
    assert CODING.checked({"age": "30", "sex": "F"}) == {"sex": "F", "age": 30.0}
    assert list(CODING.checked({"age": 70, "sex": None})) == ["sex", "age"]
    for asked, words in [
        ({"Sex": "F"}, r"no label 'Sex'; it was trained with sex, age.*Did you mean 'sex'"),
        ({"sex": "male"}, r"label sex is 'male', which no training scan was; it is one of F, M"),
        ({"age": "old"}, r"label age is 'old'; it is a number from 20 to 70"),
        ({"age": "70.5"}, r"label age is 70.5, but the training scans only reach from 20 to 70"),
        ({"age": "nan"}, r"label age is nan, but the training scans only reach"),
    ]:
        with pytest.raises(MedganError, match=words):
            CODING.checked(asked)


def test_numbers_can_be_classes() -> None:
    label = class_label("scanner", [1.0, 2.0, 2.0, 1.0])
    assert label == ClassLabel("scanner", ("1", "2"), (2, 2))
    assert label.checked("2") == label.checked(2.0) == "2"


def test_labels_that_teach_nothing_are_refused() -> None:
    with pytest.raises(MedganError, match="label sex is 'F' in all 3 training scans"):
        class_label("sex", ["F"] * 3)
    with pytest.raises(MedganError, match="label age is 50 in all 2 training scans"):
        continuous_label("age", [50.0, 50.0])
    with pytest.raises(MedganError, match=r"2 of 3 classes with a single training scan \(B, C\)"):
        class_label("site", ["A", "A", "B", "C"])
    # What spoils a column of numbers is named.
    with pytest.raises(MedganError, match=r"Its values are numbers but for 90\+"):
        class_label("age", ["44", "45", "61", "90+"])


def test_the_deviation_is_that_of_the_training_scans() -> None:
    label = continuous_label("age", AGES)
    assert label == ContinuousLabel("age", 40.0, pytest.approx(np.std(AGES)), 20.0, 70.0)  # type: ignore[arg-type]
    codes = np.array([CODING.coded({"sex": "F", "age": age})[3] for age in AGES])
    assert (codes.mean(), codes.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))


def test_distances_from_the_training_scans_mean_are_zero_where_nothing_is_known() -> None:
    matrix, offset = CODING.deviations(fewest=3)
    known = CODING.coded({"age": 30.0, "sex": "M"}) @ matrix + offset
    # There are two scans of F: too few to count.
    np.testing.assert_allclose(CODING.coded({"sex": "F"}) @ matrix + offset, 0, atol=1e-6)
    np.testing.assert_allclose(known, [0, 0.4, 0, (30 - np.mean(AGES)) / np.std(AGES), 0], atol=1e-6)
    np.testing.assert_allclose(CODING.coded({"sex": "M"}) @ matrix + offset, [0, 0.4, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(CODING.dropped() @ matrix + offset, 0, atol=1e-6)

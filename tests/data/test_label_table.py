"""From a cohort's labels to a coding, and every cohort that a network could not learn labels from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from medgan.data.cohort import Cohort, ScanRecord
from medgan.data.label_table import label_codes, labels_of
from medgan.data.participants import Label
from medgan.errors import MedganError
from medgan.label_distribution import LabelDistribution
from medgan.labels import ClassLabel, ContinuousLabel
from medgan.recipe import LabelOptions

GRID = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def _record(index: int, labels: Mapping[str, Label], split: str = "train") -> ScanRecord:
    name, size, step = f"sub-{index:02d}", (4, 4, 4), (1.0, 1.0, 1.0)
    voxels = f"voxels/{name}.npy"
    return ScanRecord(name, name, "", size, step, "RAS", {}, 0.0, name, labels, split, voxels, GRID, size, step)


def _cohort(rows: Sequence[Mapping[str, Label]], held_out: Sequence[Mapping[str, Label]] = ()) -> Cohort:
    records = [_record(index, row) for index, row in enumerate(rows)]
    records += [_record(50 + index, row, "test") for index, row in enumerate(held_out)]
    return Cohort(Path("cohort"), tuple(records), {"shape": (4, 4, 4), "spacing": (1, 1, 1)}, "")


ROWS: list[dict[str, Label]] = [
    {"age": 20.0 + index, "sex": "FM"[index % 2], "site": 1.0 + index % 2} for index in range(6)
]


def _fitted(cohort: Cohort, **options: object) -> LabelDistribution:
    found = labels_of(cohort, LabelOptions.model_validate(options))
    assert found is not None
    return found


def test_no_names_no_labels() -> None:
    assert labels_of(_cohort(ROWS), LabelOptions()) is None


def test_numbers_are_continuous_unless_they_are_named_as_classes() -> None:
    kinds = {name: type(label) for name, label in _labels(names=("age", "sex", "site"), classes=("site",)).items()}
    assert kinds == {"age": ContinuousLabel, "sex": ClassLabel, "site": ClassLabel}
    assert isinstance(_labels(names=("site",))["site"], ContinuousLabel)


def _labels(**options: object) -> dict[str, object]:
    return {label.name: label for label in _fitted(_cohort(ROWS), **options).coding.labels}


def test_mean_and_deviation_are_those_of_the_training_scans_alone() -> None:
    cohort = _cohort(ROWS, held_out=[{"age": 90.0}, {"age": 90.0}])
    (label,) = _fitted(cohort, names=("age",)).coding.labels
    ages = [20.0 + index for index in range(6)]
    assert label == ContinuousLabel("age", 22.5, pytest.approx(np.std(ages)), 20.0, 25.0)  # type: ignore[arg-type]


def test_codes_of_a_batch() -> None:
    cohort = _cohort(ROWS)
    labels = _fitted(cohort, names=("sex", "age"))
    codes = label_codes(labels, cohort.records[:2])
    assert codes.shape == (2, 5)
    np.testing.assert_allclose(codes[1].numpy(), labels.coding.coded({"sex": "M", "age": 21.0}))


def _refused(words: str, rows: Sequence[Mapping[str, Label]], **options: object) -> None:
    with pytest.raises(MedganError, match=words) as caught:
        labels_of(_cohort(rows), LabelOptions.model_validate(options))
    assert caught.value.file == Path("cohort")
    assert caught.value.hint


def test_cohorts_that_lack_labels_are_refused_with_the_scans() -> None:
    _refused("no scan of the cohort has a label 'agee'. Did you mean 'age'", ROWS, names=("agee",))
    _refused("no scan of the cohort has a label 'age'. Put a participants.tsv", [{}] * 4, names=("age",))
    gaps = [*ROWS, {"sex": "F"}, {"sex": "M"}]
    _refused(r"label age is missing in 2 of 8 training scans \(sub-06, sub-07\).*missing=allow", gaps, names=("age",))
    apart = [{"age": 20.0}, {"age": 21.0}, {"sex": "F"}, {"sex": "M"}, {"sex": "F"}, {"sex": "M"}]
    _refused("no training scan has all of the labels age, sex", apart, names=("age", "sex"), missing="allow")


def test_classes_and_numbers_that_teach_nothing_are_refused() -> None:
    lone = [*ROWS, {"age": 33.0, "sex": "X", "site": 1.0}]
    _refused(r"label sex has 1 of 3 classes with a single training scan \(X\)", lone, names=("sex",))
    _refused("label age is 50 in all 4 training scans", [{"age": 50.0}] * 4, names=("age",))


def test_gaps_are_coded_as_unknown_where_they_are_allowed() -> None:
    cohort = _cohort([*ROWS, {"sex": "F"}])
    labels = _fitted(cohort, names=("sex", "age"), missing="allow")
    np.testing.assert_allclose(label_codes(labels, cohort.records[-1:])[0].numpy(), [1, 0, 0, 0, 1])
    drawn = [labels.drawn({}, seed=0, index=index)["age"] for index in range(20)]
    assert all(20 <= age <= 25 for age in drawn)

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan.data.splits import checked_fractions, split_subjects
from medgan.errors import MedganError

PEOPLE = [f"sub-{number}" for number in range(40)]


def test_sizes_follow_the_fractions() -> None:
    assert Counter(split_subjects(PEOPLE, (0.8, 0.1, 0.1), 0, {}).values()) == {"train": 32, "validation": 4, "test": 4}
    assert Counter(split_subjects(PEOPLE, (0.5, 0.5, 0), 0, {}).values()) == {"train": 20, "validation": 20}


@settings(max_examples=60)
@given(
    count=st.integers(3, 60),
    weights=st.tuples(*[st.integers(1, 50)] * 3),
    seed=st.integers(0, 5),
)
def test_every_part_gets_one_and_is_off_by_less_than_three(count: int, weights: tuple, seed: int) -> None:
    fractions = [weight / sum(weights) for weight in weights]
    sizes = Counter(split_subjects(PEOPLE[:count] + [f"x{i}" for i in range(count - 40)], fractions, seed, {}).values())
    assert sum(sizes.values()) == count
    for name, fraction in zip(("train", "validation", "test"), fractions, strict=True):
        assert sizes[name] >= 1
        assert abs(sizes[name] - fraction * count) < 3


def test_it_depends_on_the_seed_and_not_on_the_order() -> None:
    first = split_subjects(PEOPLE, (0.8, 0.1, 0.1), 0, {})
    assert split_subjects(PEOPLE[::-1], (0.8, 0.1, 0.1), 0, {}) == first
    assert split_subjects(PEOPLE, (0.8, 0.1, 0.1), 1, {}) != first


def test_given_splits_stand() -> None:
    given_splits = {"sub-3": "test", "sub-4": "train"}
    result = split_subjects(PEOPLE, (0.5, 0.5, 0), 0, given_splits)
    assert {name: result[name] for name in given_splits} == given_splits
    assert Counter(value for name, value in result.items() if name not in given_splits) == {
        "train": 19,
        "validation": 19,
    }
    assert split_subjects(["a", "b"], (0.8, 0.1, 0.1), 0, {"a": "train", "b": "train"}) == {"a": "train", "b": "train"}


def test_too_few_subjects() -> None:
    with pytest.raises(MedganError, match=r"2 subjects .*train and validation and test.*at least 3 are needed"):
        split_subjects(["a", "b"], (0.8, 0.1, 0.1), 0, {})
    assert split_subjects(["a"], (1, 0, 0), 0, {}) == {"a": "train"}


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.6, 0), (1.5, -0.5, 0), (float("nan"), 0.5, 0.5)])
def test_impossible_fractions(fractions: tuple) -> None:
    with pytest.raises(MedganError, match="add up to 1"):
        checked_fractions(fractions)

"""The rule that ends a training, on histories that are written by hand."""

from __future__ import annotations

import pytest

from medgan.errors import MedganError
from medgan.recipe import StopOptions
from medgan.recipe_files import load_recipe
from medgan.training.metrics import History
from medgan.training.stopping import best_evaluation, reason_to_stop


def _history(*values: float) -> History:
    return {"samples/kid": [(100 * (look + 1), value) for look, value in enumerate(values)]}


def test_it_ends_when_the_score_is_reached_and_not_before() -> None:
    rule = StopOptions(below=0.1)
    assert reason_to_stop({}, rule) is None
    assert reason_to_stop(_history(0.5, 0.1), rule) is None
    assert reason_to_stop(_history(0.5, 0.0999), rule) == "kid is 0.0999, below 0.1"


def test_it_ends_when_nothing_better_came_for_as_long_as_patience_lasts() -> None:
    rule = StopOptions(patience=2)
    assert reason_to_stop(_history(0.5, 0.3, 0.4), rule) is None
    assert reason_to_stop(_history(0.5, 0.3, 0.4, 0.29, 0.3), rule) is None
    assert reason_to_stop(_history(0.5, 0.3, 0.4, 0.3), rule) == "kid has not improved on 0.3 for 2 evaluations"


def test_the_best_evaluation_is_the_lowest_and_the_first_of_equals() -> None:
    assert best_evaluation({}, StopOptions()) is None
    assert best_evaluation(_history(0.5, 0.2, 0.3, 0.2), StopOptions()) == (200, 0.2)


def test_watchdogs_are_switched_off_by_the_word_that_yaml_takes_for_false() -> None:
    for text in ("off", "'off'"):
        recipe = load_recipe("synthesis/quickstart", [f"training.watchdogs.mode={text}"])
        assert recipe.training.watchdogs.mode == "off"


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["training.accumulation=9"], "accumulation 9 splits a batch of 8 into empty parts"),
        (["training.keep=last", "training.stop.metric=kid"], "needs below or patience"),
        (["training.stop.metric=fid"], "training.stop.metric"),
        (["training.watchdogs.mode=bark"], "training.watchdogs.mode"),
        (["training.accumulation=2", "synthesis.loss=relativistic_average"], "compares means over a whole batch"),
        (["training.accumulation=2", "synthesis.feature_weight=1"], "compares means over a whole batch"),
    ],
)
def test_rules_that_cannot_work_are_refused_when_they_are_read(assignments: list[str], message: str) -> None:
    with pytest.raises(MedganError, match=message):
        load_recipe("synthesis/quickstart", assignments)

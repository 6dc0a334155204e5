"""The benchmark of sub-volumes on tiny sizes: boxes take less, and only the size of the box differs."""

from __future__ import annotations

import hagan_memory
import pytest

SIDE = 24


def test_only_the_box_differs() -> None:
    boxes, whole = (hagan_memory.recipe_for(share, 4, 2) for share in (0.5, 1.0))
    assert boxes.model_copy(update={"network": whole.network}) == whole
    assert boxes.network.model_copy(update={"sub_volume": 1.0}) == whole.network


@pytest.mark.slow
def test_boxes_take_less_and_the_estimate_knows_it() -> None:
    recipes = [hagan_memory.recipe_for(share, 4, 4) for share in (0.5, 1.0)]
    boxes, whole = (hagan_memory.measured_peak(recipe, SIDE) for recipe in recipes)
    assert boxes < 0.6 * whole
    estimates = [hagan_memory.estimated_peak(recipe, SIDE) for recipe in recipes]
    assert estimates == pytest.approx([boxes, whole], rel=0.4)

"""When a series counts as complete."""

from __future__ import annotations

import pytest

from medgan.node.arrivals import Arrivals


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def arrivals(clock: Clock) -> Arrivals:
    return Arrivals(settle=2, quiet=30, clock=clock)


def test_a_released_series_is_complete_after_it_settled(arrivals: Arrivals, clock: Clock) -> None:
    arrivals.came("a", "first")
    clock.now += 5
    assert arrivals.take_complete() == {}
    arrivals.ended("first", released=True)
    clock.now += 1.9
    assert arrivals.take_complete() == {}
    clock.now += 0.2
    assert arrivals.take_complete() == {"a": True}
    assert arrivals.take_complete() == {}


def test_one_association_per_instance_makes_one_series(arrivals: Arrivals, clock: Clock) -> None:
    for number in range(5):
        arrivals.came("a", number)
        arrivals.ended(number, released=True)
        clock.now += 1.5
        assert arrivals.take_complete() == {}
    clock.now += 1
    assert arrivals.take_complete() == {"a": True}


@pytest.mark.parametrize("broken", [False, True], ids=["left open", "broken off"])
def test_a_series_that_was_not_released_waits_for_quiet(arrivals: Arrivals, clock: Clock, broken: bool) -> None:
    arrivals.came("a", "first")
    if broken:
        arrivals.ended("first", released=False)
    clock.now += 29
    assert arrivals.take_complete() == {}
    arrivals.came("a", "first")
    clock.now += 29
    assert arrivals.take_complete() == {}
    clock.now += 2
    assert arrivals.take_complete() == {"a": True}


def test_a_second_association_makes_good_what_the_first_left_undone(arrivals: Arrivals, clock: Clock) -> None:
    arrivals.came("a", "first")
    arrivals.ended("first", released=False)
    arrivals.came("a", "second")
    arrivals.ended("second", released=True)
    clock.now += 3
    assert arrivals.take_complete() == {"a": True}


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_a_release_counts_whether_the_connection_closes_before_or_after(
    arrivals: Arrivals, clock: Clock, order: tuple[bool, bool]
) -> None:
    arrivals.came("a", "first")
    for released in order:
        arrivals.ended("first", released=released)
    clock.now += 3
    assert arrivals.take_complete() == {"a": True}


def test_series_of_one_association_are_apart_from_those_of_another(arrivals: Arrivals, clock: Clock) -> None:
    arrivals.came("a", "first")
    arrivals.came("b", "first")
    arrivals.came("b", "second")
    arrivals.ended("first", released=True)
    clock.now += 3
    assert arrivals.take_complete() == {"a": True}
    arrivals.ended("second", released=True)
    clock.now += 3
    assert arrivals.take_complete() == {"b": True}


def test_what_was_found_on_disk_waits_for_its_sender(arrivals: Arrivals, clock: Clock) -> None:
    arrivals.found("a")
    clock.now += 29
    arrivals.found("a")
    assert arrivals.take_complete() == {}
    clock.now += 2
    assert arrivals.take_complete() == {"a": True}


def test_quiet_shorter_than_settling_is_obeyed(clock: Clock) -> None:
    arrivals = Arrivals(settle=2, quiet=0.5, clock=clock)
    arrivals.came("a", "first")
    arrivals.ended("first", released=True)
    clock.now += 0.6
    assert arrivals.take_complete() == {"a": True}


def test_a_series_of_which_something_was_refused_is_not_whole_until_it_is_made_good(
    arrivals: Arrivals, clock: Clock
) -> None:
    for series in ("a", "b"):
        arrivals.came(series, "first")
        arrivals.refused(series, "first")
    arrivals.ended("first", released=True)
    arrivals.came("b", "second")
    arrivals.ended("second", released=True)
    clock.now += 3
    assert arrivals.take_complete() == {"b": True}
    clock.now += 30
    assert arrivals.take_complete() == {"a": False}

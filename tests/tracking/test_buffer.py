from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence

import pytest

from medgan.tracking.buffer import BATCH, DeliveryError, MetricBuffer, Point, TrackingWarning


class Store:
    """Takes points, or refuses while `down`."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.sizes: list[int] = []
        self.spilled: list[Point] = []
        self.down = False
        self.threads: set[str] = set()
        self.arrived = threading.Event()

    def deliver(self, points: Sequence[Point]) -> None:
        self.threads.add(threading.current_thread().name)
        if self.down:
            raise DeliveryError("out of order")
        self.sizes.append(len(points))
        self.points.extend(points)
        self.arrived.set()

    def spill(self, points: Sequence[Point]) -> None:
        self.spilled.extend(points)


@pytest.fixture
def store() -> Store:
    return Store()


def test_everything_arrives_in_order_in_batches_that_the_store_takes(store: Store) -> None:
    buffer = MetricBuffer(store.deliver, store.spill, interval=60)
    for step in range(901):
        buffer.add({"a": step, "b": -step, "c": 0.5}, step)
    assert buffer.flush()
    assert [(point.key, point.value, point.step) for point in store.points] == [
        entry for step in range(901) for entry in (("a", step, step), ("b", -step, step), ("c", 0.5, step))
    ]
    assert store.sizes == [BATCH, BATCH, 703]
    assert [point.timestamp for point in store.points] == sorted(point.timestamp for point in store.points)
    buffer.close()


def test_the_background_thread_delivers_without_being_asked(store: Store) -> None:
    buffer = MetricBuffer(store.deliver, store.spill, interval=0.01)
    buffer.add({"a": 1.0}, 1)
    assert store.arrived.wait(20)
    assert store.threads == {"medgan-tracking"}
    buffer.close()


def test_values_are_those_of_the_moment(store: Store) -> None:
    buffer = MetricBuffer(store.deliver, store.spill, interval=60)
    values = {"a": 1.0}
    buffer.add(values, 1)
    values["a"] = 2.0
    buffer.flush()
    assert [point.value for point in store.points] == [1.0]
    buffer.close()


def test_an_outage_loses_nothing_and_warns_once(store: Store) -> None:
    buffer = MetricBuffer(store.deliver, store.spill, interval=60)
    store.down = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(3):
            buffer.add({"a": float(step)}, step)
            assert not buffer.flush()
        store.down = False
        buffer.add({"a": 3.0}, 3)
        assert buffer.flush()
    said = [str(entry.message) for entry in caught if entry.category is TrackingWarning]
    assert len(said) == 2
    assert "out of order" in said[0]
    assert "answers again" in said[1]
    assert [point.step for point in store.points] == [0, 1, 2, 3]
    buffer.close()


def test_what_never_arrives_is_spilled_at_the_end(store: Store) -> None:
    buffer = MetricBuffer(store.deliver, store.spill, interval=60)
    store.down = True
    buffer.add({"a": 1.0, "b": 2.0}, 7)
    with pytest.warns(TrackingWarning, match="out of order"):
        buffer.close()
    assert [(point.key, point.step) for point in store.spilled] == [("a", 7), ("b", 7)]
    buffer.close()
    assert len(store.spilled) == 2


def test_a_defect_is_not_taken_for_an_outage() -> None:
    def broken(points: Sequence[Point]) -> None:
        raise TypeError("a defect")

    buffer = MetricBuffer(broken, lambda points: None, interval=60)
    buffer.add({"a": 1.0}, 1)
    with pytest.raises(TypeError, match="a defect"):
        buffer.flush()
    with pytest.raises(TypeError, match="a defect"):
        buffer.close()

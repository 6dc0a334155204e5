from __future__ import annotations

import math
import os

import pytest

from medgan.data.processes import counter, mapped
from medgan.errors import MedganError


def test_results_come_in_order_whatever_the_jobs() -> None:
    reported: list[int] = []
    items = [5, 3, 0, 7]
    assert mapped(math.factorial, items, jobs=2, finished=reported.append) == [120, 6, 1, 5040]
    assert sorted(reported) == [0, 1, 2, 3]
    assert mapped(math.factorial, items) == [120, 6, 1, 5040]


def test_an_exception_reaches_the_caller() -> None:
    for jobs in (1, 2):
        with pytest.raises(ValueError, match="factorial"):
            mapped(math.factorial, [2, -1], jobs=jobs)


def test_a_killed_worker_is_explained() -> None:
    with pytest.raises(MedganError, match="lack of memory"):
        mapped(os._exit, [1, 1], jobs=2)


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert mapped(os.getenv, ["OMP_NUM_THREADS", "MKL_NUM_THREADS"], jobs=2) == ["1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_fewer_than_one_job_is_refused() -> None:
    with pytest.raises(MedganError, match="at least 1"):
        mapped(math.factorial, [1], jobs=0)


def test_the_counter_goes_on_where_it_was_told() -> None:
    seen: list[tuple[int, int, str]] = []
    finished = counter(lambda *report: seen.append(report), ["a", "b"], before=3, total=5)
    finished(1)
    finished(0)
    assert seen == [(4, 5, "b"), (5, 5, "a")]
    counter(None, ["a"])(0)

"""A supervised training: told once, ended by its rule, the best weights kept, all of it through a resume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from medgan.recipe import StopOptions, TrainingOptions, WatchdogOptions
from medgan.training.phases import Moment, Phase
from medgan.training.supervision import Notice, Supervisor
from medgan.training.trainer import Trainer, TrainingResult


class _Batches:
    def stream(self, position: int) -> Iterator[Tensor]:
        while True:
            yield torch.ones(1, 1, 2, 2, 2)


class _Counting:
    """One weight that grows by one in each of 40 steps; the average is a copy of it."""

    averaged, images = "generator", 40

    def __init__(self) -> None:
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.network.weight)
        optimizer = SGD(self.network.parameters(), lr=1.0)
        self._phases = (Phase("generator", self.network, optimizer, self._loss, self._tune),)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"generator": self.network}

    @property
    def phases(self) -> Sequence[Phase]:
        return self._phases

    def half_life(self, moment: Moment) -> float:
        return 0.0

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        pass

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    def _tune(self, optimizer: Optimizer, moment: Moment) -> None:
        pass

    def _loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        return -self.network.weight.sum(), {}


def _weight(network: nn.Module) -> int:
    return round(float(next(network.parameters())))


def _look(metric: str, values: Mapping[int, float]) -> Any:
    """A look whose answer is known by the weight that is looked at, which counts the steps."""
    return lambda average: {f"samples/{metric}": values[_weight(average)]}


def _trained(folder: Path, options: TrainingOptions, look: Any, **run: Any) -> tuple[TrainingResult, list[Notice]]:
    told: list[Notice] = []
    trainer = Trainer(
        _Counting(),
        _Batches(),
        options,
        device=torch.device("cpu"),
        checkpoints=folder,
        supervisor=Supervisor(options, look=look, tell=lambda notice, notices: told.append(notice)),
    )
    if folder.exists():
        trainer.resume()
    return trainer.run(**run), told


def _options(**fields: Any) -> TrainingOptions:
    return TrainingOptions(batch_size=1, tick_steps=2, checkpoint_ticks=2, mode="exact", **fields)


# Looks come at every fourth step.
KID = dict(zip(range(4, 44, 4), (0.9, 0.5, 0.3, 0.4, 0.35, 0.31, 0.2, 0.1, 0.05, 0.01), strict=True))


def test_patience_ends_the_training_and_the_best_weights_are_the_product(tmp_path: Path) -> None:
    result, _ = _trained(tmp_path / "a", _options(stop=StopOptions(patience=3)), _look("kid", KID))
    assert (result.finished, result.signal, result.moment.step) == (True, None, 24)
    assert result.ended == "kid has not improved on 0.3 for 3 evaluations"
    assert (_weight(result.average), result.best_step) == (12, 12)
    last, _ = _trained(tmp_path / "b", _options(stop=StopOptions(patience=3), keep="last"), _look("kid", KID))
    assert (_weight(last.average), last.best_step, last.moment.step) == (24, None, 24)


def test_a_score_that_is_reached_ends_the_training(tmp_path: Path) -> None:
    result, _ = _trained(tmp_path / "a", _options(stop=StopOptions(below=0.32)), _look("kid", KID))
    assert (result.moment.step, _weight(result.average)) == (12, 12)
    assert result.history["samples/kid"] == [(4, 0.9), (8, 0.5), (12, 0.3)]


def test_a_training_that_is_not_ended_keeps_its_best_weights_too(tmp_path: Path) -> None:
    values = KID | {36: 0.001}
    result, _ = _trained(tmp_path / "a", _options(stop=StopOptions()), _look("kid", values))
    assert (result.finished, result.ended, result.moment.step) == (True, None, 40)
    assert (_weight(result.average), result.best_step) == (36, 36)


@pytest.mark.parametrize("stop", [3, 12, 15, 23])
def test_an_interrupted_training_ends_like_one_that_was_not(tmp_path: Path, stop: int) -> None:
    options, look = _options(stop=StopOptions(patience=3)), _look("kid", KID)
    straight, _ = _trained(tmp_path / "straight", options, look)
    first, _ = _trained(tmp_path / "run", options, look, stop_after=stop)
    assert (first.finished, first.moment.step) == (False, stop)
    resumed, _ = _trained(tmp_path / "run", options, look)
    assert (resumed.ended, resumed.moment, resumed.best_step) == (straight.ended, straight.moment, straight.best_step)
    assert _weight(resumed.average) == _weight(straight.average) == 12
    assert resumed.history["samples/kid"] == straight.history["samples/kid"]


def test_a_training_that_was_ended_stays_ended_when_resumed(tmp_path: Path) -> None:
    options = _options(stop=StopOptions(below=0.32))
    ended, _ = _trained(tmp_path / "run", options, _look("kid", KID))
    again, _ = _trained(tmp_path / "run", options, _look("kid", KID))
    assert (again.finished, again.ended, again.moment) == (True, ended.ended, ended.moment)
    assert _weight(again.average) == 12


# Collapsed at the looks of steps 16 and 20, recovered at 24, collapsed again at 32 and 36.
DIVERSITY = dict(zip(range(4, 44, 4), (0.1, 0.5, 0.7, 0.1, 0.1, 0.5, 0.6, 0.1, 0.1, 0.1), strict=True))


def test_a_failure_is_told_once_until_it_is_over(tmp_path: Path) -> None:
    result, told = _trained(tmp_path / "a", _options(), _look("diversity", DIVERSITY))
    assert [(notice.kind, notice.step, notice.recovered) for notice in told] == [
        ("mode_collapse", 20, None),
        ("mode_collapse", 20, 24),
        ("mode_collapse", 36, None),
    ]
    assert [(notice.step, notice.recovered) for notice in result.notices] == [(20, 24), (36, None)]
    assert "10%" in str(told[0])
    assert "synthesis.loss=relativistic" in str(told[0])
    assert str(told[1]).startswith("Recovered from mode collapse at step 24")
    assert (result.finished, result.ended) == (True, None)


def test_what_was_told_before_an_interruption_is_not_told_again(tmp_path: Path) -> None:
    options, look = _options(), _look("diversity", DIVERSITY)
    _, first = _trained(tmp_path / "run", options, look, stop_after=21)
    result, second = _trained(tmp_path / "run", options, look)
    assert [(notice.step, notice.recovered) for notice in first] == [(20, None)]
    assert [(notice.step, notice.recovered) for notice in second] == [(20, 24), (36, None)]
    assert [(notice.step, notice.recovered) for notice in result.notices] == [(20, 24), (36, None)]


def test_a_watchdog_may_end_the_training(tmp_path: Path) -> None:
    options = _options(watchdogs=WatchdogOptions(mode="stop"))
    result, _ = _trained(tmp_path / "a", options, _look("diversity", DIVERSITY))
    assert (result.finished, result.ended, result.moment.step) == (True, "watchdog: mode_collapse", 20)


def test_watchdogs_may_be_off(tmp_path: Path) -> None:
    options = _options(watchdogs=WatchdogOptions(mode="off"))
    result, told = _trained(tmp_path / "a", options, _look("diversity", DIVERSITY))
    assert (result.notices, told, result.moment.step) == ((), [], 40)

"""Who looks after a training: watchdogs, the rule that ends it early, and the best weights so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from medgan.recipe import TrainingOptions
from medgan.training.average import frozen_copy
from medgan.training.metrics import History
from medgan.training.phases import Moment
from medgan.training.remedies import GAMES, Game
from medgan.training.stopping import best_evaluation, reason_to_stop
from medgan.training.watchdogs import Alarm, alarms

Look = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class Notice:
    """An alarm that was raised, and whether it is over.

    Args:
        kind: as in `medgan.training.watchdogs.WATCHDOGS`.
        step: at which it was raised.
        evidence: what was measured then.
        remedy: what to change.
        recovered: the step at which it was no longer found; None while it stands.
    """

    kind: str
    step: int
    evidence: str
    remedy: str
    recovered: int | None = None

    def __str__(self) -> str:
        name = self.kind.replace("_", " ")
        if self.recovered is not None:
            return f"Recovered from {name} at step {self.recovered} (warned at step {self.step})"
        return f"Warning, {name} at step {self.step}: {self.evidence}. {self.remedy}"


Tell = Callable[[Notice, Sequence[Notice]], None]


class Supervisor:
    """Judges a training at its ticks; its state travels in checkpoints.

    Each kind of failure is told once, and again only after it was over.

    Args:
        options: of the training: `watchdogs`, `stop` and `keep`.
        look: measures samples of the averaged network at checkpoints, metrics by name; None where that is not possible.
        tell: called with each new or ended notice, and with all notices so far.
        game: what is trained, for the remedies.
    """

    def __init__(
        self,
        options: TrainingOptions,
        *,
        look: Look | None = None,
        tell: Tell | None = None,
        game: Game = GAMES["synthesis"],
    ) -> None:
        self.options, self.game = options, game
        self.notices: tuple[Notice, ...] = ()
        self.best: dict[str, Tensor] | None = None
        self.best_step: int | None = None
        self._look, self._tell = look, tell

    def looked(self, average: nn.Module) -> dict[str, float]:
        """What the samples of the averaged network measure, as metrics for the history."""
        return dict(self._look(average)) if self._look is not None else {}

    def judged(self, moment: Moment, history: History, average: nn.Module) -> str | None:
        """Warn of what goes wrong, keep the best weights.

        Args:
            moment: the tick, whose metrics are in the history already.
            history: of all metrics.
            average: the averaged network.

        Returns:
            Why the training ends now, or None.
        """
        reason = None
        if self.options.watchdogs.mode != "off":
            raised = self._warned(moment.step, alarms(history, self.game))
            if raised and self.options.watchdogs.mode == "stop":
                reason = f"watchdog: {', '.join(alarm.kind for alarm in raised)}"
        rule = self.options.stop
        if rule is None:
            return reason
        best = best_evaluation(history, rule)
        if self.options.keep == "best" and best is not None and best[0] == moment.step:
            self.best_step = moment.step
            self.best = {name: value.detach().cpu().clone() for name, value in average.state_dict().items()}
        return reason or reason_to_stop(history, rule)

    def _warned(self, step: int, found: Sequence[Alarm]) -> list[Alarm]:
        """Tell what is new and what is over; the new alarms."""
        by_kind = {alarm.kind: alarm for alarm in found}
        standing = {notice.kind for notice in self.notices if notice.recovered is None}
        for index, notice in enumerate(self.notices):
            if notice.recovered is None and notice.kind not in by_kind:
                over = replace(notice, recovered=step)
                self.notices = (*self.notices[:index], over, *self.notices[index + 1 :])
                self._told(over)
        raised = [alarm for kind, alarm in by_kind.items() if kind not in standing]
        for alarm in raised:
            notice = Notice(alarm.kind, step, alarm.evidence, alarm.remedy)
            self.notices = (*self.notices, notice)
            self._told(notice)
        return raised

    def _told(self, notice: Notice) -> None:
        if self._tell is not None:
            self._tell(notice, self.notices)

    def product(self, average: nn.Module) -> nn.Module:
        """The network to export: a copy of `average` with the best weights where they were kept, else itself."""
        if self.best is None:
            return average
        chosen = frozen_copy(average)
        chosen.load_state_dict(self.best)
        return chosen

    def state_dict(self) -> dict[str, Any]:
        """Notices and best weights, for a checkpoint."""
        notices = [asdict(notice) for notice in self.notices]
        return {"notices": notices, "best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back `state_dict()`."""
        self.notices = tuple(Notice(**values) for values in state["notices"])
        self.best, self.best_step = state["best"], state["best_step"]

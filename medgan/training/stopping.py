"""When a training has reached its aim, or will not come nearer: pure functions of its history."""

from __future__ import annotations

from medgan.recipe import StopOptions
from medgan.training.metrics import History


def evaluations(history: History, options: StopOptions) -> list[tuple[int, float]]:
    """The (step, value) pairs of the metric that decides, evaluated on samples at checkpoints."""
    return history.get(f"samples/{options.metric}", [])


def best_evaluation(history: History, options: StopOptions) -> tuple[int, float] | None:
    """Step and value of the lowest evaluation, the first of equals; None before there is one."""
    return min(evaluations(history, options), key=lambda pair: pair[1], default=None)


def reason_to_stop(history: History, options: StopOptions) -> str | None:
    """Why the training ends now, in words, or None where it goes on."""
    values = [value for _, value in evaluations(history, options)]
    if not values:
        return None
    if options.below is not None and values[-1] < options.below:
        return f"{options.metric} is {values[-1]:.4g}, below {options.below:g}"
    since_best = len(values) - 1 - values.index(min(values))
    if options.patience is not None and since_best >= options.patience:
        return f"{options.metric} has not improved on {min(values):.4g} for {since_best} evaluations"
    return None

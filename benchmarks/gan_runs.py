"""Trainings for the GAN benchmarks: measured per step, and made as long as a budget of time allows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgan.data.principal import PrincipalComponents
from medgan.geometry import Shape, Spacing
from medgan.label_distribution import LabelDistribution
from medgan.recipe import SynthesisRecipe
from medgan.recipe_files import load_recipe
from medgan.training.kinds import synthesis_objective
from medgan.training.supervision import Supervisor
from medgan.training.trainer import BatchSource, Trainer, TrainingResult

WARM_UP = 2


def apart(script: str, arguments: list[str], *, threads: int) -> dict[str, Any]:
    """What a benchmark prints as JSON on its last line, run in a process of its own.

    Args:
        script: the benchmark's file.
        arguments: of its command line.
        threads: cores that it may use.

    Raises:
        SystemExit: it failed, with what it said.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    words = [sys.executable, script, *arguments]
    answer = subprocess.run(words, capture_output=True, text=True, env=environment)
    if answer.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{answer.stderr}")
    figures: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return figures


class SmoothVolumes:
    """Batches of smooth random volumes in 0..1, for timing alone.

    Args:
        shape: voxels of a volume.
        batch_size: volumes in a batch.
    """

    def __init__(self, shape: Shape, batch_size: int) -> None:
        self.shape, self.batch_size = shape, batch_size

    def stream(self, position: int) -> Iterator[torch.Tensor]:
        """Batches from `position` on."""
        while True:
            coarse = np.random.default_rng(position).random((self.batch_size, 1, 4, 4, 4), dtype=np.float32)
            yield torch.nn.functional.interpolate(torch.from_numpy(coarse), self.shape, mode="trilinear")
            position += 1


def synthesis_recipe(name: str, overrides: list[str]) -> SynthesisRecipe:
    """A recipe that trains a GAN.

    Raises:
        TypeError: it trains something else.
    """
    recipe = load_recipe(name, overrides)
    if not isinstance(recipe, SynthesisRecipe):
        raise TypeError(f"{name} trains no GAN")
    return recipe


def with_training(recipe: SynthesisRecipe, **fields: Any) -> SynthesisRecipe:
    """The same recipe with other fields of its `training`."""
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=fields)})


def prepared(
    recipe: SynthesisRecipe,
    source: BatchSource,
    folder: Path,
    *,
    shape: Shape,
    spacing: Spacing,
    device: torch.device,
    labels: LabelDistribution | None = None,
    start: PrincipalComponents | None = None,
    supervisor: Supervisor | None = None,
) -> Trainer:
    """A trainer with fresh networks; its checkpoints go to `folder`."""
    objective = synthesis_objective(recipe, shape=shape, spacing=spacing, device=device, labels=labels, start=start)
    return Trainer(objective, source, recipe.training, device=device, checkpoints=folder, supervisor=supervisor)


class CostClock:
    """Seconds since it was made: on a CPU those that all its cores worked for this process, which other programs do not
    change, on a GPU those of the wall.
    """

    def __init__(self, device: torch.device) -> None:
        self._now = time.process_time if device.type == "cpu" else time.perf_counter
        self._start = self._now()

    def seconds(self) -> float:
        """How many have passed."""
        return self._now() - self._start


def seconds_per_step(trainer: Trainer, steps: int) -> float:
    """Mean cost of the next `steps` steps of a fresh trainer, after two that warm it up."""
    trainer.run(stop_after=WARM_UP)
    clock = CostClock(trainer.device)
    trainer.run(stop_after=WARM_UP + steps)
    return clock.seconds() / steps


def cost_of_step(trainer: Trainer, steps: int) -> float:
    """Mean cost of `steps` steps: a fifth of them at each of five moments of the training, after two that warm up.

    A training may be cheap while it is young and dear when networks have grown or other phases are awake.
    """
    costs = []
    for tenth in (1, 3, 5, 7, 9):
        trainer.images = trainer.objective.images * tenth // 10
        trainer.run(stop_after=trainer.step + WARM_UP)
        clock = CostClock(trainer.device)
        trainer.run(stop_after=trainer.step + max(1, steps // 5))
        costs.append(clock.seconds() / max(1, steps // 5))
    return sum(costs) / len(costs)


def steps_within(recipe: SynthesisRecipe, source: BatchSource, seconds: float, **grid: Any) -> int:
    """How many steps of this training cost `seconds` here (`cost_of_step`), at least one; `grid` as for `prepared`."""
    alone = with_training(recipe.with_steps(10**6), tick_steps=10**6)
    with tempfile.TemporaryDirectory() as folder:
        per_step = cost_of_step(prepared(alone, source, Path(folder), **grid), 30)
    return max(1, int(seconds / per_step))


def train_within(
    recipe: SynthesisRecipe,
    source: BatchSource,
    seconds: float,
    *,
    looks: int,
    supervisor: Supervisor | None = None,
    **grid: Any,
) -> TrainingResult:
    """A whole training, schedules included, that costs about `seconds`; a supervisor looks about `looks` times."""
    steps = steps_within(recipe, source, seconds, **grid)
    whole = with_training(recipe.with_steps(steps), tick_steps=max(1, steps // looks), checkpoint_ticks=1)
    with tempfile.TemporaryDirectory() as folder:
        return prepared(whole, source, Path(folder), supervisor=supervisor, **grid).run()

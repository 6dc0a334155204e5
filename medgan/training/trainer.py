"""The loop: runs an objective's phases, averages weights, ticks, checkpoints, resumes.

It is plain PyTorch and knows neither GANs nor tracking: what happens at a tick is a list of callables that the
    workflow hands in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medgan.errors import MedganError
from medgan.networks.recompute import recompute_activations
from medgan.recipe import TrainingOptions
from medgan.training.accumulation import accumulate_gradients, refuse_mixing
from medgan.training.average import frozen_copy, update_average
from medgan.training.batches import Examples
from medgan.training.checkpoint import load_checkpoint, save_checkpoint
from medgan.training.interruption import Interruption, catching_signals
from medgan.training.metrics import History, Sums
from medgan.training.numerics import autocast_dtype, numerics, random_state, restore_random_state
from medgan.training.phases import Moment, Objective, Phase
from medgan.training.supervision import Notice, Supervisor


class BatchSource(Protocol):
    """Batches as a function of position, so that a resumed training sees what an uninterrupted one would."""

    def stream(self, position: int) -> Iterator[Examples]:
        """Volumes (B, 1, X, Y, Z), float32, or what else the objective takes, from batch `position` on, without end."""


@dataclass(frozen=True)
class Tick:
    """What the callables at a tick are told.

    Args:
        moment: where the training stands.
        metrics: means since the last tick, by name.
        average: the averaged network, in evaluation mode.
    """

    moment: Moment
    metrics: dict[str, float]
    average: nn.Module


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Args:
        finished: whether all images were seen, or a rule or watchdog ended it.
        signal: name of the signal that ended it early, if one did.
        average: the averaged network; of the best evaluation where those weights were kept.
        history: every reported metric as (step, value) pairs.
        moment: where it stands.
        ended: why a rule or watchdog ended it before all images were seen.
        notices: what watchdogs warned of.
        best_step: the step whose weights `average` has, where those of the best evaluation were kept.
    """

    finished: bool
    signal: str | None
    average: nn.Module
    history: History
    moment: Moment
    ended: str | None = None
    notices: tuple[Notice, ...] = ()
    best_step: int | None = None


class Trainer:
    """Train one objective.

    Args:
        objective: what is trained, its networks already on `device`.
        source: the batches.
        options: the loop's part of the recipe.
        device: where the networks are.
        checkpoints: folder of this run's checkpoints.
        notes: plain values that a checkpoint must carry along, such as the recipe and the tracked run's id.
        on_tick: called in turn at each tick, after the metrics were found finite.
        supervisor: looks after the training at its ticks; by default nobody does.

    Raises:
        MedganError: batches are to be split, and a network mixes the volumes of a batch; no block can be recomputed,
            and it is asked for; the device does not compute the precision asked for.
    """

    def __init__(
        self,
        objective: Objective,
        source: BatchSource,
        options: TrainingOptions,
        *,
        device: torch.device,
        checkpoints: Path,
        notes: dict[str, Any] | None = None,
        on_tick: Sequence[Callable[[Tick], None]] = (),
        supervisor: Supervisor | None = None,
    ) -> None:
        if options.accumulation > 1:
            refuse_mixing(objective.networks.values())
        self.objective, self.source, self.options = objective, source, options
        self.device, self.checkpoints, self.notes, self.on_tick = device, checkpoints, dict(notes or {}), list(on_tick)
        self.step, self.position, self.images = 0, 0, 0
        self.supervisor = supervisor
        self.ended: str | None = None
        self.history: History = {}
        self.average = frozen_copy(objective.networks[objective.averaged])
        self._sums = Sums()
        self.dtype = autocast_dtype(device, options.mode, options.precision)
        if options.recompute:
            recompute_activations(dict(objective.networks))
        self._batches_per_step = max(phase.repeats for phase in objective.phases)

    @property
    def moment(self) -> Moment:
        """Where the training stands."""
        return Moment(self.step, self.images, min(1.0, self.images / self.objective.images))

    def run(self, *, stop_after: int | None = None) -> TrainingResult:
        """Train to the end, to the supervisor's, to a signal, or to step `stop_after`; a checkpoint is written last.

        Raises:
            MedganError: a loss or gradient is no longer finite; the newest checkpoint is from before that.
        """
        with numerics(self.options.mode), catching_signals() as interruption:
            batches = self.source.stream(self.position)
            self._tick_start, self._tick_images = time.perf_counter(), self.images
            while self.images < self.objective.images and not interruption and self.ended is None:
                self._step([next(batches) for _ in range(self._batches_per_step)])
                done = self.images >= self.objective.images
                stopping = done or bool(interruption) or self.step == stop_after
                if stopping or self.step % self.options.tick_steps == 0:
                    self._tick(final=stopping)
                if self.step == stop_after:
                    break
        return self._result(interruption)

    def _result(self, interruption: Interruption) -> TrainingResult:
        finished = self.images >= self.objective.images or self.ended is not None
        name = interruption.signal.name if interruption.signal and not finished else None
        result = TrainingResult(finished, name, self.average, self.history, self.moment, self.ended)
        if self.supervisor is None:
            return result
        result = replace(result, notices=self.supervisor.notices)
        if not finished:
            return result
        return replace(result, average=self.supervisor.product(self.average), best_step=self.supervisor.best_step)

    def _step(self, batches: list[Examples]) -> None:
        """All active phases once, then the average."""
        volumes = [self._on_device(batch) for batch in batches]
        moment = self.moment
        for phase in self.objective.phases:
            if phase.active(moment):
                for batch in volumes[: phase.repeats]:
                    self._optimise(phase, batch, moment)
        seen = sum(len(batch) for batch in volumes)
        self.step, self.position, self.images = self.step + 1, self.position + len(volumes), self.images + seen
        network = self.objective.networks[self.objective.averaged]
        update_average(self.average, network, images=seen, half_life=self.objective.half_life(moment))
        self.objective.after_step(self.moment, self.average)

    def _optimise(self, phase: Phase, volumes: Examples, moment: Moment) -> None:
        """One optimisation of one phase."""
        reported = self.differentiated(phase, volumes, moment)
        limit = self.options.gradient_clip if self.options.gradient_clip is not None else math.inf
        norm = nn.utils.clip_grad_norm_(phase.module.parameters(), limit)
        phase.optimizer.step()
        for name, value in {"loss": reported["loss"], "gradient_norm": norm, **reported}.items():
            self._sums.add(f"{phase.name}/{name}", value)

    def differentiated(self, phase: Phase, volumes: Examples, moment: Moment) -> dict[str, Tensor]:
        """The phase's loss and its reports; the gradients are in the module's parameters then.

        Args:
            phase: whose optimizer is tuned, and whose module alone gets gradients.
            volumes: the batch, on the device.
            moment: where the training stands.
        """
        for network in self.objective.networks.values():
            network.requires_grad_(network is phase.module)
        phase.tune(phase.optimizer, moment)
        phase.optimizer.zero_grad(set_to_none=True)

        def precision() -> torch.autocast:
            return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

        if self.options.accumulation > 1:
            return accumulate_gradients(phase, volumes, moment, self.options.accumulation, precision)
        with precision():
            loss, reported = phase.loss(volumes, moment)
        loss.backward()
        return {"loss": loss, **reported}

    def _on_device(self, batch: Examples) -> Examples:
        moved: Examples = batch.to(self.device, non_blocking=True)
        return moved.contiguous(memory_format=torch.channels_last_3d)

    def _tick(self, *, final: bool) -> None:
        """Report, refuse what is not finite, have it judged, call what was handed in, checkpoint."""
        metrics = self._sums.means()
        self._refuse_not_finite(metrics)
        seconds = time.perf_counter() - self._tick_start
        metrics["speed/images_per_second"] = (self.images - self._tick_images) / seconds
        if self.device.type == "cuda":
            metrics["memory/peak_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        due = self.step % (self.options.tick_steps * self.options.checkpoint_ticks) == 0
        metrics |= self._supervised(metrics, at_checkpoint=due or self.images >= self.objective.images)
        for call in self.on_tick:
            call(Tick(self.moment, metrics, self.average))
        if final or due or self.ended is not None:
            save_checkpoint(self.checkpoints, self.state())
        self._tick_start, self._tick_images = time.perf_counter(), self.images

    def _refuse_not_finite(self, metrics: dict[str, float]) -> None:
        broken = sorted(name for name, value in metrics.items() if not math.isfinite(value))
        if broken:
            newest = max(self.checkpoints.glob("step-*.pt"), default=None)
            kept = f"The newest checkpoint is {newest.name}." if newest else "No checkpoint was written yet."
            raise MedganError(
                f"training stopped at step {self.step}: {', '.join(broken)} is no longer a finite number",
                file=self.checkpoints.parent,
                hint=f"{kept} Lower the learning rate, raise the penalty's weight, or set training.gradient_clip.",
            )

    def _supervised(self, metrics: dict[str, float], *, at_checkpoint: bool) -> dict[str, float]:
        """Remember the tick's metrics and what the supervisor measures, which is returned, and heed its judgement.

        Samples are looked at where an uninterrupted training would, so that one that was resumed ends like it.
        """
        measured = self.supervisor.looked(self.average) if self.supervisor is not None and at_checkpoint else {}
        for name, value in {**metrics, **measured}.items():
            self.history.setdefault(name, []).append((self.step, value))
        if self.supervisor is not None:
            self.ended = self.supervisor.judged(self.moment, self.history, self.average)
            # With all images seen there is nothing left to end.
            if self.images >= self.objective.images:
                self.ended = None
        return measured

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs: state_dicts, counters, random states, history, notes."""
        networks = self.objective.networks
        return {
            "step": self.step,
            "position": self.position,
            "images": self.images,
            "networks": {name: network.state_dict() for name, network in networks.items()},
            "average": self.average.state_dict(),
            "optimizers": {phase.name: phase.optimizer.state_dict() for phase in self.objective.phases},
            "random": random_state(),
            "history": {name: [list(pair) for pair in pairs] for name, pairs in self.history.items()},
            "notes": self.notes,
            "ended": self.ended,
            "supervisor": self.supervisor.state_dict() if self.supervisor is not None else None,
        }

    def resume(self) -> None:
        """Continue from the newest checkpoint of this run.

        Raises:
            MedganError: there is none, it is damaged, or its networks have other shapes.
        """
        state = load_checkpoint(self.checkpoints)
        try:
            for name, network in self.objective.networks.items():
                network.load_state_dict(state["networks"][name])
            self.average.load_state_dict(state["average"])
            for phase in self.objective.phases:
                phase.optimizer.load_state_dict(state["optimizers"][phase.name])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MedganError(
                f"the checkpoint does not fit this recipe and cohort ({reason})",
                file=self.checkpoints,
                hint="Resume with the run's own recipe and cohort.",
            ) from error
        self.step, self.position, self.images = state["step"], state["position"], state["images"]
        self.history = {name: [(int(s), v) for s, v in pairs] for name, pairs in state["history"].items()}
        self.ended = state.get("ended")
        if self.supervisor is not None and state.get("supervisor") is not None:
            self.supervisor.load_state_dict(state["supervisor"])
        restore_random_state(state["random"])

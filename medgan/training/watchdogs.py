"""What goes wrong with adversarial trainings, recognised by their history: pure functions, each with its evidence.

A watchdog reads the metrics of the last ticks and says in words why it barks, or nothing. Metrics that a training does
not report (a loss without a penalty, a cohort too small for samples to be compared) silence the watchdogs that read
them. That a value is not finite is no warning but the end of the training; see `medgan.training.trainer`.

Metrics named "samples/..." are measured at checkpoints on samples of the averaged generator:
    samples/diversity: how many different scans the samples are worth, 0 for one scan repeated, 1 as the cohort.
    samples/nearest_training: median distance of samples to their nearest training scan, over that of held-out scans.
    samples/nearest_training_auc: probability that a sample singles out one training scan more than a held-out scan
        does; 0.5 for scans that the generator did not copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from medgan.training.metrics import History

# Ticks that must agree: one alone may be an accident of its batches.
_TICKS = 3
_LOOKS = 2
# Of the largest gradient norm that the generator has had over three ticks.
_VANISHED = 1e-3
# Logistic, hinge and least-squares losses lie between about 0.3 and 2 in a balanced game.
_WON = 0.02
_DOMINATES, _GROWN, _ABSURD = 10.0, 5.0, 1000.0
_COLLAPSED = 0.2
# As many codes, used alike, make a batch of scans: one for the air and hardly another.
_FEWEST_CODES = 2.0
_NEARER, _SINGLED_OUT = 0.8, 0.8


@dataclass(frozen=True)
class Alarm:
    """One watchdog's warning.

    Args:
        kind: its name, a key of `WATCHDOGS`.
        evidence: what was measured, in words and numbers.
        remedy: what to change.
    """

    kind: str
    evidence: str
    remedy: str


@dataclass(frozen=True)
class Watchdog:
    """A way in which a training fails.

    Args:
        evidence: the history to what shows the failure, or to None.
        remedy: what to change.
    """

    evidence: Callable[[History], str | None]
    remedy: str


def alarms(history: History) -> tuple[Alarm, ...]:
    """All that is wrong by the newest metrics."""
    found = ((kind, dog, dog.evidence(history)) for kind, dog in WATCHDOGS.items())
    return tuple(Alarm(kind, evidence, dog.remedy) for kind, dog, evidence in found if evidence is not None)


def vanishing_gradient(history: History) -> str | None:
    """The generator is no longer told anything: its gradient has shrunk to a thousandth of what it was."""
    norms = _values(history, "generator/gradient_norm")
    if len(norms) < 2 * _TICKS:
        return None
    now = median(norms[-_TICKS:])
    largest = max(median(norms[start : start + _TICKS]) for start in range(len(norms) - _TICKS + 1))
    if now > _VANISHED * largest:
        return None
    return f"the norm of the generator's gradient is {now:.3g}, it has been {largest:.3g}"


def discriminator_wins(history: History) -> str | None:
    """The discriminator tells all generated volumes from real ones: its loss, where that cannot be negative, is
    practically zero.
    """
    losses = _values(history, "discriminator/adversarial")[-_TICKS:]
    if len(losses) < _TICKS or not all(0 <= loss < _WON for loss in losses):
        return None
    real, generated = (_values(history, f"discriminator/{name}_logit")[-1:] for name in ("real", "generated"))
    logits = f"; logits: {real[0]:.3g} for real, {generated[0]:.3g} for generated volumes" if real and generated else ""
    return f"the discriminator's adversarial loss is {losses[-1]:.2g}, below {_WON:g} for {_TICKS} ticks{logits}"


def exploding_penalty(history: History) -> str | None:
    """What the penalties add to the discriminator's loss dwarfs the game itself, and has grown or is absurd."""
    whole, adversarial = _together(history, "discriminator/loss", "discriminator/adversarial")
    if len(whole) < _TICKS:
        return None
    added = [loss - part for loss, part in zip(whole, adversarial, strict=True)]
    shares = [extra / (abs(part) + math.log(2)) for extra, part in zip(added, adversarial, strict=True)]
    now, before = shares[-_TICKS:], added[:-_TICKS]
    grown = bool(before) and median(added[-_TICKS:]) > _GROWN * max(median(before), 0.0)
    if min(now) < _DOMINATES or not (grown or min(now) > _ABSURD):
        return None
    return f"the penalty adds {added[-1]:.3g} to the discriminator's adversarial loss of {adversarial[-1]:.3g}"


def mode_collapse(history: History) -> str | None:
    """Samples are worth far fewer different scans than the cohort is, and are not becoming more."""
    values = _values(history, "samples/diversity")
    # The first look does not count: every generator begins with samples that hardly differ.
    if len(values) <= _LOOKS or max(values[-_LOOKS:]) >= _COLLAPSED:
        return None
    share = max(values[-1], 0.0)
    return f"samples have {share:.0%} of the cohort's diversity, below {_COLLAPSED:.0%} at {_LOOKS} checkpoints"


def codebook_collapse(history: History) -> str | None:
    """An autoencoder writes all scans with hardly more than one code, so that codes say nothing of them."""
    used = _values(history, "autoencoder/codes_used")[-_TICKS:]
    if len(used) < _TICKS or max(used) >= _FEWEST_CODES:
        return None
    return f"batches use {used[-1]:.2g} codes of the codebook, below {_FEWEST_CODES:g} for {_TICKS} ticks"


def memorisation(history: History) -> str | None:
    """Samples lie nearer to single training scans than scans do that the generator never saw."""
    distances, areas = _together(history, "samples/nearest_training", "samples/nearest_training_auc")
    if len(distances) < _LOOKS or max(distances[-_LOOKS:]) >= _NEARER or min(areas[-_LOOKS:]) <= _SINGLED_OUT:
        return None
    return (
        f"the nearest training scan of a sample is at {distances[-1]:.0%} of the distance of held-out scans to theirs, "
        f"and {areas[-1]:.0%} of comparisons find samples singling out one training scan more than held-out scans do"
    )


WATCHDOGS: Mapping[str, Watchdog] = {
    "vanishing_gradient": Watchdog(
        vanishing_gradient,
        "Use a loss that does not saturate (synthesis.loss=relativistic or non_saturating), add a gradient penalty, or "
        "lower synthesis.optimizer.discriminator_learning_rate.",
    ),
    "discriminator_wins": Watchdog(
        discriminator_wins,
        "Raise synthesis.penalty.weight, lower synthesis.optimizer.discriminator_learning_rate or "
        "synthesis.discriminator_steps, or give more scans.",
    ),
    "exploding_penalty": Watchdog(
        exploding_penalty,
        "Lower the learning rates or synthesis.penalty.weight, set training.gradient_clip, or set "
        "synthesis.penalty.interval=1.",
    ),
    "mode_collapse": Watchdog(
        mode_collapse,
        "Use synthesis.loss=relativistic with synthesis.penalty.kind=r1+r2, lower the learning rates, or begin again "
        "with another training.seed.",
    ),
    "codebook_collapse": Watchdog(
        codebook_collapse,
        "Lower synthesis.optimizer.learning_rate or synthesis.autoencoding.commitment_weight, or lower "
        "synthesis.autoencoding.codebook_decay so that the codebook follows faster.",
    ),
    "memorisation": Watchdog(
        memorisation,
        "Give more scans, train for fewer synthesis.images, or make the networks smaller (network.width); audit the "
        "samples with `medgan evaluate synthesis` before any of them leaves the house.",
    ),
}
"""All watchdogs by the kind of failure that they name."""


def _values(history: History, name: str) -> list[float]:
    return [value for _, value in history.get(name, [])]


def _together(history: History, first: str, second: str) -> tuple[list[float], list[float]]:
    """The values of two metrics at the steps at which both were reported."""
    others = dict(history.get(second, []))
    pairs = [(value, others[step]) for step, value in history.get(first, []) if step in others]
    return [one for one, _ in pairs], [other for _, other in pairs]

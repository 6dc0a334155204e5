"""What goes wrong with adversarial trainings, recognised by their history: pure functions, each with its evidence.

A watchdog reads the metrics of the last ticks and says in words why it barks, or nothing. Metrics that a training does
not report (a loss without a penalty, a cohort too small for samples to be compared) silence the watchdogs that read
them. That a value is not finite is no warning but the end of the training; see `medgan.training.trainer`.

Metrics named "samples/..." are measured at checkpoints on what the averaged network makes:
    samples/diversity: how many different scans the samples are worth, 0 for one scan repeated, 1 as the cohort.
    samples/nearest_training: median distance of samples to their nearest training scan, over that of held-out scans.
    samples/nearest_training_auc: probability that a sample singles out one training scan more than a held-out scan
        does; 0.5 for scans that the generator did not copy.
    samples/change: by how much translation changes intensities, over the least that turns the one contrast's
        intensities into the other's; 0 for scans that stay as they are.
    samples/air: mean of a translation where its source is air, less its mean elsewhere.
    samples/noise_gain: how many times larger a small noise on translated scans is after the way back.
    samples/label_response: how much of the difference in mean intensity between labels a generator makes where a
        label map is exchanged for another one; 1 for all of it, 0 for none.
    samples/latent_response: how far scans made for one label map lie apart, over how far real scans do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from medgan.training.metrics import History
from medgan.training.remedies import GAMES, Game, remedy

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
_UNCHANGED, _HIDDEN = 0.25, 10.0
_IGNORED_LABELS, _IGNORED_LATENTS = 0.1, 0.01

# Names of phases that train what judges and what makes scans; "texture" is super-resolution's.
_JUDGES = ("discriminator", "code_discriminator")
_MAKERS = ("generator", "encoder", "autoencoder", "translator", "texture")


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


def alarms(history: History, game: Game = GAMES["synthesis"]) -> tuple[Alarm, ...]:
    """All that is wrong by the newest metrics.

    Args:
        history: of all metrics.
        game: what is trained, for the remedies.
    """
    found = ((kind, evidence(history)) for kind, evidence in WATCHDOGS.items())
    return tuple(Alarm(kind, evidence, remedy(kind, game)) for kind, evidence in found if evidence is not None)


def vanishing_gradient(history: History) -> str | None:
    """A generating network is no longer told anything: its gradient has shrunk to a thousandth of what it was."""
    for maker in _MAKERS:
        norms = _values(history, f"{maker}/gradient_norm")
        if len(norms) < 2 * _TICKS:
            continue
        now = median(norms[-_TICKS:])
        largest = max(median(norms[start : start + _TICKS]) for start in range(len(norms) - _TICKS + 1))
        if now <= _VANISHED * largest:
            name = "generator" if maker == "texture" else maker
            return f"the norm of the {name}'s gradient is {now:.3g}, it has been {largest:.3g}"
    return None


def discriminator_wins(history: History) -> str | None:
    """A discriminator tells all generated volumes from real ones: its loss, where that cannot be negative, is
    practically zero.
    """
    for judge in _JUDGES:
        for way in _ways(history, judge):
            losses = _values(history, f"{judge}/adversarial{way}")[-_TICKS:]
            if len(losses) == _TICKS and all(0 <= loss < _WON for loss in losses):
                return _victory(history, judge, way, losses[-1])
    return None


def _victory(history: History, judge: str, way: str, loss: float) -> str:
    real, generated = (_values(history, f"{judge}/{name}_logit{way}")[-1:] for name in ("real", "generated"))
    shown = "codes" if judge == "code_discriminator" else "volumes"
    logits = f"; logits: {real[0]:.3g} for real, {generated[0]:.3g} for generated {shown}" if real and generated else ""
    which = f" ({way.removeprefix('_')})" if way else ""
    name = judge.replace("_", " ")
    return f"the {name}'s adversarial loss{which} is {loss:.2g}, below {_WON:g} for {_TICKS} ticks{logits}"


def exploding_penalty(history: History) -> str | None:
    """What the penalties add to a discriminator's loss dwarfs the game itself, and has grown or is absurd."""
    for judge in _JUDGES:
        names = [f"{judge}/adversarial{way}" for way in _ways(history, judge)]
        if not names:
            continue
        whole, *parts = _together(history, f"{judge}/loss", *names)
        adversarial = [sum(at_once) for at_once in zip(*parts, strict=True)]
        evidence = _dwarfed(whole, adversarial)
        if evidence is not None:
            return f"the penalty adds {evidence} to the {judge.replace('_', ' ')}'s adversarial loss"
    return None


def _dwarfed(whole: list[float], adversarial: list[float]) -> str | None:
    """What is added to an adversarial loss, in numbers, where it is far too much."""
    if len(whole) < _TICKS:
        return None
    added = [loss - part for loss, part in zip(whole, adversarial, strict=True)]
    shares = [extra / (abs(part) + math.log(2)) for extra, part in zip(added, adversarial, strict=True)]
    now, before = shares[-_TICKS:], added[:-_TICKS]
    grown = bool(before) and median(added[-_TICKS:]) > _GROWN * max(median(before), 0.0)
    if min(now) < _DOMINATES or not (grown or min(now) > _ABSURD):
        return None
    return f"{added[-1]:.3g} (beside {adversarial[-1]:.3g})"


def mode_collapse(history: History) -> str | None:
    """Samples are worth far fewer different scans than the cohort is, and are not becoming more."""
    values = _from_the_third(history, "samples/diversity")
    if not values or max(values) >= _COLLAPSED:
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


def unchanged_scans(history: History) -> str | None:
    """Translation gives scans back as they were."""
    changes = _from_the_third(history, "samples/change")
    if not changes or max(changes) >= _UNCHANGED:
        return None
    return (
        f"translation changes intensities by {changes[-1]:.0%} of the least that turns the one contrast's intensities "
        f"into the other's, below {_UNCHANGED:.0%} at {_LOOKS} checkpoints"
    )


def inverted_intensities(history: History) -> str | None:
    """Translation makes air brighter than what is in it."""
    differences = _from_the_third(history, "samples/air")
    if not differences or min(differences) <= 0:
        return None
    return (
        f"where sources are air, translated scans are {differences[-1]:.2g} brighter than elsewhere (normalised "
        f"intensity), at {_LOOKS} checkpoints"
    )


def hidden_information(history: History) -> str | None:
    """Scans come back by a trace too faint to see in the translated ones (Chu et al. 2017, arXiv:1712.02950)."""
    gains = _from_the_third(history, "samples/noise_gain")
    if not gains or min(gains) <= _HIDDEN:
        return None
    return (
        f"a faint noise on translated scans is {gains[-1]:.3g} times stronger after the way back, above {_HIDDEN:g} at "
        f"{_LOOKS} checkpoints: the cycle is closed by what cannot be seen"
    )


def ignored_labels(history: History) -> str | None:
    """A generator makes the same scan for whatever label map."""
    responses = _from_the_third(history, "samples/label_response")
    if not responses or max(responses) >= _IGNORED_LABELS:
        return None
    return (
        f"where the label map is exchanged, intensities follow by {max(responses[-1], 0.0):.0%} of the difference "
        f"between the labels' means, below {_IGNORED_LABELS:.0%} at {_LOOKS} checkpoints"
    )


def ignored_latents(history: History) -> str | None:
    """A generator makes one scan for each label map, whatever the latent vector."""
    responses = _from_the_third(history, "samples/latent_response")
    if not responses or max(responses) >= _IGNORED_LATENTS:
        return None
    return (
        f"scans made for one label map lie apart by {responses[-1]:.2%} of what real scans do, below "
        f"{_IGNORED_LATENTS:.0%} at {_LOOKS} checkpoints"
    )


WATCHDOGS: Mapping[str, Callable[[History], str | None]] = {
    "vanishing_gradient": vanishing_gradient,
    "discriminator_wins": discriminator_wins,
    "exploding_penalty": exploding_penalty,
    "mode_collapse": mode_collapse,
    "codebook_collapse": codebook_collapse,
    "memorisation": memorisation,
    "unchanged_scans": unchanged_scans,
    "inverted_intensities": inverted_intensities,
    "hidden_information": hidden_information,
    "ignored_labels": ignored_labels,
    "ignored_latents": ignored_latents,
}
"""All watchdogs by the kind of failure that they name: the history to what shows it, or to None."""


def _values(history: History, name: str) -> list[float]:
    return [value for _, value in history.get(name, [])]


def _from_the_third(history: History, name: str) -> list[float]:
    """The values of the last two looks, from the third on: every network begins with samples that hardly differ."""
    values = _values(history, name)
    return values[-_LOOKS:] if len(values) > _LOOKS else []


def _ways(history: History, judge: str) -> list[str]:
    """The endings of the names of a discriminator's adversarial losses: several where it judges several things."""
    start = f"{judge}/adversarial"
    endings = [name.removeprefix(start) for name in history if name.startswith(start)]
    return [ending for ending in endings if not ending or ending.startswith("_")]


def _together(history: History, *names: str) -> list[list[float]]:
    """The values of several metrics at the steps at which all were reported."""
    tables = [dict(history.get(name, [])) for name in names]
    steps = [step for step in tables[0] if all(step in table for table in tables)]
    return [[table[step] for step in steps] for table in tables]

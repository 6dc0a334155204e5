"""What an evaluation card comes to, in words: four judgements, each with the figures that led to it.

A judgement is a pure function of the card. It never rests on a figure alone, but on the figure beside its floor, which
is what real scans get when they are compared with other real scans in the same way. What lies inside the floor cannot
be told from real by that figure; how far outside is still tolerable is a convention, which the constants below state.

Too few scans are no evidence of quality: below `FEWEST_SCANS` of a kind nothing is called good, because a floor of so
few is wide enough to hold almost everything. What is wrong can be seen in few scans, and is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

Level = Literal["good", "caution", "bad", "unknown"]
Card = Mapping[str, Any]

FEWEST_SCANS = 20
"""Real and synthetic scans without which nothing is called good: halves of ten are the least that an interval of a
kernel distance means anything for."""
FAR = 4.0
"""Kernel distance over the upper end of its floor's interval from which synthetic scans count as different. Measured on
72 T1-weighted heads of 4 mm by random features, half of them as they are against the other half changed: unchanged 0.3;
blurred with a standard deviation of 0.3, 0.5, 0.75, 1 and 2 voxels 0.3, 1.6, 3.9, 6.3 and 25; with noise of 1, 3 and
10 % of the range 0.5, 1.8 and 16. So 1 is where a trained eye begins to see something, and 4 where anyone does. Of a
gain, which no eye sees, 10 % make 34: a set that is bad for that alone says so by its grey levels."""
FAR_DETAIL = 2.0
"""The same for spectrum and intensities, which alone never make a set bad."""
LESS_DIVERSE, COLLAPSED = 0.15, 0.4
"""Part of the real scans' dissimilarity (one less the mean MS-SSIM) that the synthetic ones lack: from the first on it
shows, from the second on a few looks make up the set."""
TOO_DIVERSE = 0.25
"""Part by which synthetic scans are less alike than real ones, from which on noise or artefacts explain it better than
anatomy."""
MISSED, LOST = 0.75, 0.5
"""Coverage as a part of what other real scans reach, below which kinds of scans are missed. Of scans that look unlike
real ones, only those that pass (the precision) could reach anything; coverage is therefore divided by it. Where nearly
all pass, recall counts too. On the heads above, unchanged ones reach 0.84, blurred and noisy ones 0.9 and more, and six
of them repeated six times 0.41."""
_LEAST_PRECISION, _PRECISE = 0.2, 0.9
FALSE_ALARMS = 0.01
"""Part of innocent scans that the audit may flag by chance."""
DOUBT = 0.01
"""Chance that the closest of all innocent samples is as close as one that counts as a copy beyond doubt."""
LEAKING = 0.6
"""Lower end of the interval of a membership attack's area under the curve, from which on it works in practice."""
FAR_VOLUMES = 2.0
"""Distance of a region's volumes over the upper end of its floor's interval, from which on it counts as wrong."""

CLEAR_GAIN = 0.3
"""Decibels of peak signal-to-noise ratio, 3 % less error, from which a gain counts."""


@dataclass(frozen=True)
class Verdict:
    """One judgement.

    Args:
        topic: "faithful", "diverse", "private" or "anatomy".
        level: "good": as real scans are, by these figures; "caution": look before use; "bad": not fit for use as it is;
            "unknown": a figure is missing or there are too few scans.
        sentence: why, in words for those who know scans and not the statistics.
    """

    topic: str
    level: Level
    sentence: str

    def to_dict(self) -> dict[str, str]:
        """As plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.topic}: {self.level}. {self.sentence}"


def verdicts(card: Card) -> list[Verdict]:
    """The judgements of an evaluation card, in the order faithful, diverse, private, anatomy.

    Args:
        card: as `SynthesisFigures.to_dict` gives it; keys that older cards lack are done without.
    """
    return [_faithful(card), _diverse(card), _private(card), _anatomy(card)]


def _faithful(card: Card) -> Verdict:
    """By the kernel distance; detail and intensities may take the good away."""
    kid, floor = card.get("kid"), card.get("kid_floor")
    ratio = ratio_of(card, "kid")
    if not kid or not floor or ratio is None:
        return Verdict("faithful", "unknown", "The card has no distance to the real scans with a floor beside it.")
    compared = f"Their distance to the real scans is {_times(ratio)} the most that real scans show among themselves"
    if ratio > FAR:
        return Verdict(
            "faithful", "bad", f"The synthetic scans look different from real ones. {compared}.{_seen(card)}"
        )
    if ratio > 1:
        sentence = f"The synthetic scans differ somewhat from real ones. {compared}.{_seen(card)}"
        return Verdict("faithful", "caution", sentence)
    off = _off(card)
    if off:
        sentence = f"The scans pass as real by their features, but {' and '.join(off)} differ from those of real scans."
        return Verdict("faithful", "caution", sentence)
    if _few(card):
        return Verdict("faithful", "unknown", f"No difference to real scans was found, but {_few(card)}.")
    return Verdict("faithful", "good", f"The synthetic scans cannot be told from other real ones. {compared}.")


def _seen(card: Card) -> str:
    """How many synthetic scans look real, where the card knows."""
    ours, theirs = _estimate(card, "coverage", "precision"), _estimate(card, "coverage_floor", "precision")
    if ours is None or theirs is None:
        return ""
    return f" {_percent(ours)} of them lie among the real scans, where {_percent(theirs)} of other real scans do."


def _off(card: Card) -> list[str]:
    """What differs by more than the floor allows for, though the features do not."""
    words = {"spectrum": "sharpness and noise", "intensity": "grey levels"}
    return [name for key, name in words.items() if (ratio := ratio_of(card, key)) is not None and ratio > FAR_DETAIL]


def _diverse(card: Card) -> Verdict:
    """By likeness among the scans, and by how much of the real scans' variety is met."""
    ours, theirs = (card.get(name, {}).get("mean") for name in ("diversity", "real_diversity"))
    if ours is None or theirs is None or theirs >= 1:
        return Verdict("diverse", "unknown", "The card does not say how alike the scans are among themselves.")
    lacking = 1 - (1 - ours) / (1 - theirs)
    reached = _reached(card)
    least = 1.0 if reached is None else reached
    alike = (
        f"They are as different from each other as real scans are ({_percent(1 - lacking)} of it)"
        if abs(lacking) < LESS_DIVERSE
        else f"They show {_percent(1 - lacking)} of the difference that real scans show among themselves"
    )
    met = "" if least >= MISSED else f", and reach {_percent(least)} of the variety that other real scans reach"
    if lacking > COLLAPSED or least < LOST:
        return Verdict("diverse", "bad", f"The synthetic scans lack variety. {alike}{met}.")
    if lacking > LESS_DIVERSE or least < MISSED:
        return Verdict("diverse", "caution", f"The synthetic scans vary less than real ones. {alike}{met}.")
    if -lacking > TOO_DIVERSE:
        sentence = f"More than real scans differ: noise or artefacts explain that better than anatomy. {alike}{met}."
        return Verdict("diverse", "caution", sentence)
    if _few(card):
        return Verdict("diverse", "unknown", f"{alike}{met}; but {_few(card)}.")
    return Verdict("diverse", "good", f"The synthetic scans vary as real ones do. {alike}{met}.")


def _reached(card: Card) -> float | None:
    """Part of the real variety that synthetic scans reach, of those that look real; at most one."""
    coverage, precision = ratio_of(card, "coverage"), ratio_of(card, "precision")
    if coverage is None or precision is None or precision < _LEAST_PRECISION:
        return None
    reached = min(1.0, coverage / min(1.0, precision))
    recall = ratio_of(card, "recall")
    return reached if recall is None or precision < _PRECISE else min(reached, recall)


def _private(card: Card) -> Verdict:
    """By flagged samples against what chance flags, and by a membership attack."""
    audit = card.get("memorization")
    samples = card.get("counts", {}).get("synthetic", 0)
    if not audit or not samples:
        return Verdict("private", "unknown", "The card has no audit for copies of training scans.")
    flagged = len(audit.get("flagged", ()))
    attack = audit.get("membership") or {"low": 0.0}
    leak = ""
    if attack["low"] > 0.5:
        leak = f" Who holds a scan can tell better than chance whether it was trained on (area {attack['auc']:.2f})."
    certain = _certain(audit, samples)
    found = f"{flagged} of {samples} synthetic scans are suspiciously close to one training scan"
    if certain:
        found += f", {certain} of them beyond doubt"
    if certain or flagged > chance_flags(samples) or attack["low"] > LEAKING:
        return Verdict("private", "bad", f"{found}.{leak} Do not release model or samples without looking at them.")
    if flagged or leak:
        look = " Chance flags as many; compare the pairs." if flagged else ""
        return Verdict("private", "caution", f"{found}.{look}{leak}")
    if not card["counts"].get("holdout"):
        sentence = f"{found}, but no scans were held out that would show what innocent ones get."
        return Verdict("private", "unknown", sentence)
    if _few(card):
        return Verdict("private", "unknown", f"{found}, but {_few(card)}.")
    return Verdict("private", "good", f"{found}. No audit finds every copy: this is no proof of anonymity.")


def _certain(audit: Card, samples: int) -> int:
    """How many samples no innocent set of this size would hold but with the chance `DOUBT`."""
    chances = (audit.get("copies") or {}).get("chances", ())
    return sum(chance * samples < DOUBT for chance in chances)


def chance_flags(samples: int) -> int:
    """The most samples that an audit with `FALSE_ALARMS` flags among innocent ones, 95 times of 100 (binomial)."""
    chance, total, flagged = (1 - FALSE_ALARMS) ** samples, 0.0, 0
    while total + chance < 0.95 and flagged < samples:
        total += chance
        chance *= (samples - flagged) / (flagged + 1) * FALSE_ALARMS / (1 - FALSE_ALARMS)
        flagged += 1
    return flagged


def _anatomy(card: Card) -> Verdict:
    """By the region whose volumes differ most."""
    regions: Sequence[Card] = (card.get("anatomy") or {}).get("regions", ())
    rated = [(region["ratio"], region) for region in regions if region.get("ratio") is not None]
    if not rated:
        return Verdict("anatomy", "unknown", "No volumes of regions were measured: give a --segmentation.")
    ratio, worst = max(rated, key=lambda pair: pair[0])
    means = f"{_millilitres(worst['synthetic_mean_ml'])} on average, real {_millilitres(worst['real_mean_ml'])}"
    compared = f"{_times(ratio)} the most that real scans show among themselves"
    wrong = [region["name"] for value, region in rated if value > 1]
    if ratio > 1:
        level: Level = "bad" if ratio > FAR_VOLUMES else "caution"
        named = f"Volumes are off in {len(wrong)} of {len(rated)} regions, most in {worst['name']}"
        return Verdict("anatomy", level, f"{named} ({means}): the distance is {compared}.")
    if _few(card):
        return Verdict("anatomy", "unknown", f"Volumes of all {len(rated)} regions pass, but {_few(card)}.")
    sentence = f"Volumes of all {len(rated)} regions are spread as in real scans; furthest off is {worst['name']}"
    return Verdict("anatomy", "good", f"{sentence} ({means}).")


def restoration_verdicts(figures: Card) -> list[Verdict]:
    """The judgements of a super-resolution training: against interpolation and against physics without learning.

    Args:
        figures: "mean" with the figures of "cubic", "physics" and "fidelity", and "scans", of held-out scans.
    """
    means, scans = figures.get("mean", {}), len(figures.get("scans", ()))
    if not {"cubic", "physics", "fidelity"} <= means.keys():
        return [Verdict("sharper", "unknown", "No held-out scan was upscaled and compared with its truth.")]
    ours, similar = means["fidelity"]["psnr_db"], means["fidelity"]["ssim"]
    gain, learned = ours - means["cubic"]["psnr_db"], ours - means["physics"]["psnr_db"]
    held_out = f"on {scans} held-out scan{'s' if scans > 1 else ''}"
    better = f"{gain:+.2f} dB against interpolation {held_out}"
    if gain <= 0 or similar < means["cubic"]["ssim"]:
        found = Verdict(
            "sharper", "bad", f"Restored scans are no closer to the truth than interpolated ones: {better}."
        )
    elif gain < CLEAR_GAIN:
        found = Verdict("sharper", "caution", f"Restored scans are hardly closer to the truth: {better}.")
    else:
        found = Verdict("sharper", "good", f"Restored scans are closer to the truth: {better}.")
    words = f"{learned:+.2f} dB against the physics of the acquisition alone {held_out}"
    if learned < 0:
        return [
            found,
            Verdict("learned", "bad", f"The network does harm: {words}. Use --model physics, or train longer."),
        ]
    level: Level = "good" if learned >= CLEAR_GAIN else "caution"
    added = "adds to" if level == "good" else "adds little to"
    return [found, Verdict("learned", level, f"The network {added} what needs no learning: {words}.")]


def ratio_of(card: Card, name: str) -> float | None:
    """A figure over its floor: from the card, or of the floor's upper end for cards that have no ratios yet."""
    known = card.get("ratios", {}).get(name)
    if known is not None:
        return float(known)
    value = card.get("kid", {}).get("value") if name == "kid" else card.get(f"{name}_distance")
    high = (card.get(f"{name}_floor") or {}).get("high")
    if value is None or not high or "ratios" in card:
        return None
    return float(value) / float(high) if high > 0 else None


def _estimate(card: Card, *names: str) -> float | None:
    """The value of an estimate inside the card."""
    found: Any = card
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    value = found.get("value") if isinstance(found, Mapping) else found
    return float(value) if value is not None and isfinite(value) else None


def _few(card: Card) -> str:
    """Why there are too few scans to praise anything; empty if there are enough."""
    counts = card.get("counts", {})
    few = [f"{counts.get(kind, 0)} {kind}" for kind in ("real", "synthetic") if counts.get(kind, 0) < FEWEST_SCANS]
    return f"{' and '.join(few)} scans are too few to be sure ({FEWEST_SCANS} of each are the least)" if few else ""


def _times(ratio: float) -> str:
    return f"{max(ratio, 0.0):.2g} times" if ratio < 100 else f"{ratio:.0f} times"


def _millilitres(volume: float) -> str:
    return f"{volume:.0f} ml" if volume >= 100 else f"{volume:.3g} ml"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"

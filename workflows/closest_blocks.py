"""Samples beside their nearest training scans, in blocks of a page: the part of the card to look at, not to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medgan.report.blocks import Block, Heading, Picture, Table, Text, Warning

if TYPE_CHECKING:
    from medgan.volume import Volume

Card = Mapping[str, Any]

_FEWEST_PAIRS, _MOST_PAIRS = 3, 6


@dataclass(frozen=True)
class ClosePair:
    """A synthetic scan and the training scan nearest to it.

    Args:
        sample: number of the synthetic scan, from 0.
        training: number of the training scan, from 0.
        closeness: relative distance over the audit's threshold; below 1 it is flagged.
        flagged: whether any part of the audit flags the sample.
    """

    sample: int
    training: int
    closeness: float
    flagged: bool


def close_pairs(card: Card) -> list[ClosePair]:
    """The samples to look at: up to six flagged ones, the least innocent first, and the closest others up to three.

    Each comes with the training scan that it is closest to.
    """
    audit = card["memorization"]
    flagged = set(audit["flagged"])
    found: dict[int, ClosePair] = {}
    for name in ("features", "voxels"):
        statistics = audit.get(name) or {}
        threshold = statistics.get("threshold") or 1.0
        for sample, near in enumerate(statistics.get("neighbours", ())):
            closeness = near["relative"] / threshold
            if sample not in found or closeness < found[sample].closeness:
                found[sample] = ClosePair(sample, near["index"], closeness, sample in flagged)
    chances = (audit.get("copies") or {}).get("chances", ())
    for pair in audit.get("pairs") or ():
        sample = pair["sample"]
        known = found[sample].closeness if sample in found else 1.0
        closeness = min(known, chances[sample]) if sample < len(chances) else known
        found[sample] = ClosePair(sample, pair["training"], closeness, True)
    order = sorted(found.values(), key=lambda pair: (not pair.flagged, pair.closeness))
    return order[: max(_FEWEST_PAIRS, min(_MOST_PAIRS, len(flagged)))]


def closest_blocks(card: Card, pairs: Sequence[tuple[ClosePair, Volume, Volume]]) -> list[Block]:
    """Samples beside the training scans that they are closest to, and what the audit says of all.

    Args:
        card: the figures.
        pairs: what `close_pairs` names, with the scans.
    """
    from medgan.report.figures import side_by_side

    audit = card["memorization"]
    blocks: list[Block] = [Heading("Closest to a training scan")]
    if audit["flagged"]:
        named = ", ".join(str(number) for number in audit["flagged"])
        blocks.append(Warning(f"Synthetic scans {named} are closer to one training scan than innocent scans are."))
    blocks.append(
        Text(
            f"Every synthetic scan was compared with every training scan, mirrored ones included; the reference are "
            f"{audit['reference']}. " + ("" if audit["flagged"] else "None is suspiciously close. ") + "No audit finds "
            "every copy: look for yourself."
        )
    )
    for start in range(0, len(pairs), _FEWEST_PAIRS):
        shown = pairs[start : start + _FEWEST_PAIRS]
        picture = side_by_side(
            [
                ((f"synthetic {pair.sample}", sample), (f"training {pair.training}", training))
                for pair, sample, training in shown
            ]
        )
        named = ", ".join(str(pair.sample) for pair, *_ in shown if pair.flagged)
        caption = "Each sample to the left of its nearest training scan; "
        caption += f"flagged: {named}." if named else "none of these is flagged."
        blocks.append(Picture(picture, "Synthetic scans beside their nearest training scans", caption))
    blocks += _flagged(audit)
    groups = {
        "synthetic": [near["relative"] for near in audit["features"]["neighbours"]],
        audit["reference"].split(",")[0]: [near["relative"] for near in audit["features"]["reference"]],
    }
    return [*blocks, _distances_chart(groups, audit["features"]["threshold"]), *_membership(audit)]


def _flagged(audit: Card) -> list[Block]:
    """Every flagged sample, and how the search for copies was calibrated."""
    copies, blocks = audit.get("copies"), list[Block]()
    if copies:
        text = (
            "The search for disguised copies (mirrored, shifted, turned, blurred, of other contrast) was calibrated on "
            f"{copies['references']} real scans, of which it flags {copies['false_alarms']}."
        )
        if copies.get("extrapolated"):
            text += " These are too few to count so rare an event: its threshold is extrapolated."
        if copies.get("repeated"):
            text += (
                f" Training scans {', '.join(map(str, copies['repeated']))} look like copies of other training scans."
            )
        blocks.append(Text(text))
    pairs = audit.get("pairs") or ()
    if pairs:
        rows: list[list[Any]] = [
            [
                f"synthetic {pair['sample']}",
                f"training {pair['training']}",
                ", ".join(pair["by"]),
                copies["matches"][pair["sample"]]["similarity"] if copies else None,
                copies["chances"][pair["sample"]] if copies else None,
            ]
            for pair in pairs
        ]
        columns = ["Sample", "Closest to", "Flagged by", "Likeness of edges", "Chance if innocent"]
        blocks.append(Table(columns, rows, "Flagged samples", folded=len(rows) > _MOST_PAIRS))
    return blocks


def _distances_chart(groups: Mapping[str, Sequence[float]], threshold: float) -> Picture:
    from medgan.report.charts import scatter

    picture = scatter(
        groups, label="distance to the nearest training scan over that to the following ones", threshold=threshold
    )
    caption = "A dot for each scan, by features. Left of the dashed line real scans practically never lie."
    return Picture(picture, "Relative distances to the nearest training scan", caption, chart=True)


def _membership(audit: Card) -> list[Block]:
    """How well an attacker does."""
    attack = audit.get("membership")
    if not attack:
        return []
    return [
        Text(
            "Membership: who holds a scan and the synthetic set can tell whether the scan was trained on with an area "
            f"under the curve of {attack['auc']:.2f} ({attack['low']:.2f} to {attack['high']:.2f}); 0.5 is chance."
        )
    ]

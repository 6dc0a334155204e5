"""Which encoder sees what: rising degradations of held-out scans, copies among strangers, and what it costs.

    python benchmarks/encoders.py COHORT --encoder random --encoder runs/mine --subjects sub-ixi --side 48

Judged on scans that no encoder was trained on. A response is the KID between one half of the scans and the other,
degraded half, above that of undegraded halves and in standard deviations of the latter (medgan.evaluation.sensitivity).
Degradations come in two groups: those of the kinds that `encoding/degradations` trains on, made by other code, and
kinds that it never saw. Anatomy is judged at half the resolution, where the smoothing that comes with interpolation is
no longer seen.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.data.cohort import Cohort
from medgan.data.cutting import cut_around
from medgan.data.intensity import normalise
from medgan.evaluation.encoders import Encoder, encoder_named
from medgan.evaluation.features import Standardisation
from medgan.evaluation.sensitivity import STANDARD_LADDERS, Ladder, blurred, sensitivity, warped

Array = NDArray[np.float32]


def ghosted(voxels: Array, share: float, random: np.random.Generator) -> Array:
    """A share of the scan, shifted by half its length along one axis, on top of it."""
    return (voxels + share * np.roll(voxels, voxels.shape[1] // 2, axis=1)).astype(np.float32)


def checkered(voxels: Array, depth: float, random: np.random.Generator) -> Array:
    """Every other voxel brighter and darker, as transposed convolutions leave it."""
    return (voxels * (1 + depth * (-1.0) ** np.indices(voxels.shape).sum(axis=0))).astype(np.float32)


def quantised(voxels: Array, step: float, random: np.random.Generator) -> Array:
    """Intensities in steps."""
    return (np.round(voxels / step) * step).astype(np.float32)


def with_hole(voxels: Array, share: float, random: np.random.Generator) -> Array:
    """A cube of this share of the volume, anywhere, holds nothing."""
    result, edge = voxels.copy(), round((share * voxels.size) ** (1 / 3))
    start = [int(random.integers(0, max(1, length - edge))) for length in voxels.shape]
    result[tuple(slice(first, first + edge) for first in start)] = 0
    return result


UNSEEN_LADDERS = (
    Ladder("ghost", ghosted, (0.03, 0.08, 0.2, 0.4)),
    Ladder("checkerboard", checkered, (0.01, 0.03, 0.1, 0.3)),
    Ladder("quantised", quantised, (0.03, 0.06, 0.12, 0.25)),
    Ladder("hole", with_hole, (0.002, 0.01, 0.05, 0.2)),
)


def blended(scans: list[Array]) -> Ladder:
    """A share of another scan mixed in: the averages that a generator without detail falls back to."""

    def blend(voxels: Array, share: float, random: np.random.Generator) -> Array:
        other = scans[int(random.integers(len(scans)))]
        return ((1 - share) * voxels + share * other).astype(np.float32)

    return Ladder("blend of two", blend, (0.05, 0.1, 0.2, 0.5))


def halved(voxels: Array) -> Array:
    """Means over 2 x 2 x 2 voxels."""
    x, y, z = (length // 2 for length in voxels.shape)
    whole = voxels[: 2 * x, : 2 * y, : 2 * z]
    return whole.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5)).astype(np.float32)


class Halving:
    """An encoder of halved scans, so that ladders may work on whole ones."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.name = encoder, encoder.name

    def extract(self, volumes: Iterable[NDArray[Any]], batch: int = 8) -> NDArray[np.float64]:
        """Features of the halved volumes."""
        return self.encoder.extract((halved(np.asarray(volume)) for volume in volumes), batch)


def copies_found(encoder: Encoder, scans: list[Array]) -> float:
    """The share of disguised copies whose nearest scan is their original."""
    random = np.random.default_rng(0)
    disguised = []
    for number, scan in enumerate(scans):
        copy = np.roll(scan, (number % 3 - 1, 1, -1), axis=(0, 1, 2)) * (0.9 + 0.05 * (number % 5))
        disguised.append(blurred(copy.astype(np.float32), 0.4 + 0.1 * (number % 4), random))
    raw = encoder.extract(scans)
    standardisation = Standardisation.fitted(raw)
    known, found = standardisation.applied(raw), standardisation.applied(encoder.extract(disguised))
    distances = ((found[:, None, :] - known[None, :, :]) ** 2).sum(axis=2)
    return float((distances.argmin(axis=1) == np.arange(len(scans))).mean())


def held_out(cohort: Cohort, subjects: str, side: int, most: int) -> list[Array]:
    """The middle of scans outside the training split, normalised."""
    records = [one for one in cohort.records if one.split != "train" and one.subject.startswith(subjects)]
    scans = []
    for record in records[:most]:
        voxels = cohort.voxels(record)
        cut, _ = cut_around(voxels, [length // 2 for length in voxels.shape], (side,) * 3)
        scans.append(normalise(np.array(cut), record.percentiles["0.5"], record.percentiles["99.5"]))
    return scans


def judged(encoder: Encoder, scans: list[Array]) -> dict[str, object]:
    """All figures of one encoder."""
    start = time.process_time()
    features = encoder.extract(scans)
    seconds = (time.process_time() - start) / len(scans)
    rows = {"trained on": STANDARD_LADDERS[:3], "unseen": (*UNSEEN_LADDERS, blended(scans))}
    responses = {
        f"{group}: {one.kind}": {"responses": one.responses, "monotone": one.is_monotone}
        for group, ladders in rows.items()
        for one in sensitivity(encoder, scans, ladders)
    }
    warp = sensitivity(Halving(encoder), scans, (Ladder("warp", warped, (0.5, 1.0, 2.0, 4.0)),))[0]
    responses["trained on: warp, halved"] = {"responses": warp.responses, "monotone": warp.is_monotone}
    return {
        "features": features.shape[1],
        "seconds_per_scan": seconds,
        "copies_found": copies_found(encoder, scans),
        "responses": responses,
    }


def main() -> None:
    """Print a table, and write the figures if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--encoder", action="append", required=True, help="as medgan evaluate synthesis takes it")
    parser.add_argument("--subjects", default="", help="how their names begin")
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--most", type=int, default=28)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    scans = held_out(Cohort.load(options.cohort), options.subjects, options.side, options.most)
    print(f"{len(scans)} held-out scans of {options.side} voxels a side")
    figures = {}
    for name in options.encoder:
        encoder = encoder_named(name)
        figures[encoder.name] = found = judged(encoder, scans)
        print(f"\n{encoder.name}: {found['features']} features, {found['seconds_per_scan']:.3f} s of CPU for a scan,")
        print(f"copies found {found['copies_found']:.0%}\n")
        print("| Degradation | weakest | | | strongest |\n|---|---|---|---|---|")
        for kind, row in found["responses"].items():  # type: ignore[attr-defined]
            mark = "" if row["monotone"] else " (not monotone)"
            print(f"| {kind}{mark} | " + " | ".join(f"{value:.2f}" for value in row["responses"]) + " |")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

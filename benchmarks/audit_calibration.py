"""Is the search for copies right? Twenty kinds of disguise against real scans that are no copies.

The scans are split into folds. In each, one part is held out and the rest are the training scans, which alone calibrate
the threshold at the stated rate of false alarms (each against the others). Then training scans are disguised, by every
kind at every strength, and it is counted how many are flagged; and every held-out scan is looked at, of which none is a
copy. Over all folds every scan has been held out once, so false alarms are counted on scans that calibrated nothing.
Scans of one data set come from one scanner: other scanners' may do better or worse.

Run: python benchmarks/audit_calibration.py [--data FOLDER] [--folds 4] [--copies 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from disguises import KINDS, Array, disguised
from numpy.typing import NDArray

from medgan.evaluation.copies import FALSE_ALARMS, CopyDetector, ScanMaps, scan_maps

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mri_t1_ixi_2mm"


@dataclass(frozen=True)
class Planted:
    """A disguised copy and what became of it.

    Args:
        kind: of the disguise.
        strength: of the disguise.
        flagged: whether it was found out.
        right: whether the training scan that was named is the one it was made from, or the other one of a mixture.
        score: over the threshold.
    """

    kind: str
    strength: float
    flagged: bool
    right: bool
    score: float


@dataclass(frozen=True)
class Calibration:
    """What all folds came to.

    Args:
        copies: all that were planted.
        held_out: scores of scans that are no copies, over their fold's threshold; above one is a false alarm.
        training: how many training scans each fold had.
        seconds: for one scan looked at, on average.
    """

    copies: list[Planted]
    held_out: list[float]
    training: list[int]
    seconds: float


class RealScans:
    """Scans in files, normalised to about 0..1, in RAS order; one is in memory at a time."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.rglob("*.nii.gz"))
        if len(self.paths) < 12:
            raise SystemExit(f"{folder} holds {len(self.paths)} scans (*.nii.gz); this takes at least 12")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Array:
        image = nib.as_closest_canonical(nib.load(self.paths[index]))
        voxels: NDArray[Any] = np.asarray(image.dataobj, dtype=np.float32)
        low, high = np.percentile(voxels, (0.5, 99.5))
        return np.asarray((voxels - low) / (high - low), dtype=np.float32)


def folds_of(count: int, folds: int, seed: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Numbers of training and held-out scans; every scan is held out once."""
    order = np.random.default_rng(seed).permutation(count)
    for part in np.array_split(order, folds):
        yield np.setdiff1d(order, part), np.sort(part)


def calibrated(scans: RealScans, *, folds: int, copies: int, seed: int, rate: float = FALSE_ALARMS) -> Calibration:
    """Plant and look for copies in every fold.

    Args:
        scans: real ones, of one shape.
        folds: how many.
        copies: planted in each fold by each kind at each strength.
        seed: of folds and disguises.
        rate: of false alarms that is asked for.
    """
    random = np.random.default_rng(seed)
    maps = [scan_maps(scans[number]) for number in range(len(scans))]
    planted: list[Planted] = []
    held_out: list[float] = []
    sizes: list[int] = []
    spent, looks = 0.0, 0
    for training, unseen in folds_of(len(scans), folds, seed):
        begun = time.process_time()
        detector = CopyDetector.calibrated([maps[number] for number in training])
        threshold = detector.tail.threshold(rate)
        held_out += [detector.search.match(maps[number]).score / threshold for number in unseen]
        spent, looks = spent + time.process_time() - begun, looks + len(scans)
        sizes.append(len(training))
        planted += _planted(scans, training, detector, threshold, copies, random)
    return Calibration(planted, held_out, sizes, spent / looks)


def _planted(
    scans: RealScans,
    training: NDArray[Any],
    detector: CopyDetector,
    threshold: float,
    copies: int,
    random: np.random.Generator,
) -> Iterator[Planted]:
    """Copies of one fold's training scans, the same ones for all disguises."""
    for one, other in random.permutation(len(training))[: 2 * copies].reshape(copies, 2):
        source, partner = scans[training[one]], scans[training[other]]
        for name, kind in KINDS.items():
            for strength in (*kind.strengths, *kind.beyond):
                made: ScanMaps = scan_maps(disguised(name, source, strength, random, partner))
                match = detector.search.match(made)
                right = bool(match.index == one or (name == "mixed with another" and match.index == other))
                yield Planted(name, strength, match.score > threshold, right, match.score / threshold)


def table(result: Calibration) -> str:
    """One line for each kind at each strength, and the sums."""
    lines = [f"{'disguise':<24}{'strength':>24}{'caught':>12}{'right scan':>12}{'least score':>13}"]
    for name, kind in KINDS.items():
        for strength in (*kind.strengths, *kind.beyond):
            found = [one for one in result.copies if (one.kind, one.strength) == (name, strength)]
            caught, right = sum(one.flagged for one in found), sum(one.flagged and one.right for one in found)
            said = f"{strength:g} {kind.unit}" if kind.unit else ""
            said += " *" if strength in kind.beyond else ""
            least = min(one.score for one in found)
            lines.append(f"{name:<24}{said:>24}{f'{caught}/{len(found)}':>12}{f'{right}/{caught}':>12}{least:>13.2f}")
    promised = [one for one in result.copies if one.strength in KINDS[one.kind].strengths]
    caught, alarms = sum(one.flagged for one in promised), sum(score > 1 for score in result.held_out)
    total, real = len(promised), len(result.held_out)
    lines += [
        f"caught: {caught} of {total} ({100 * caught / total:.1f} %); lines with * are beyond what is promised and not "
        "counted",
        f"false alarms: {alarms} of {real} real held-out scans ({100 * alarms / real:.1f} %), the highest at "
        f"{max(result.held_out):.2f} of the threshold",
        f"{min(result.training)} to {max(result.training)} training scans; {result.seconds:.2f} s of one core per scan",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("MEDGAN_TEST_DATA")
    default = Path(folder) / "mri_t1_ixi_2mm" if folder else DATA
    parser.add_argument("--data", type=Path, default=default, help="folder of scans of one shape")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--copies", type=int, default=2, help="for each kind, strength and fold")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = calibrated(RealScans(options.data), folds=options.folds, copies=options.copies, seed=options.seed)
    print(table(result))
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

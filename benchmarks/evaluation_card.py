"""What an evaluation card of many scans costs: seconds, and memory that does not grow with their number.

The scans: T1-weighted heads of 120 x 120 x 90 voxels of 2 mm, in files as anyone has them. Half of them are real, the
other half are the same heads warped, mirrored, blurred or noisy, which stands for synthetic ones. Where there are fewer
heads than wanted, warped ones make up the number; without --data, all heads are warped phantoms. Each card is computed
by a process of its own, first with an empty cache, then again with what the first one kept.

"seconds" is what passed, "core seconds" what both cores worked: on a machine with other work the first is longer than
half of the second. "peak" is the largest resident memory of the process.

Run: python benchmarks/evaluation_card.py --data FOLDER [--sizes 50 100] [--cores 2] [--encoder NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SHAPE, SPACING = (90, 120, 120), 2.0

Volume = NDArray[np.float32]


def main() -> None:
    """Measure cards of all sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of heads of one shape as NIfTI files")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100], help="real and synthetic scans of a card")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--encoder", help="of the card; its own by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--card", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.card:
        real, synthetic, out = map(Path, options.card)
        one_card(real, synthetic, out, options.encoder)
        return
    print(f"{'scans':>12} {'cache':>7} {'seconds':>8} {'core seconds':>13} {'peak MiB':>9}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="card-") as folder:
        for row in measured(options, Path(folder)):
            scans = f"{row['scans']} + {row['scans']}"
            cells = (scans, row["cache"], row["seconds"], row["core_seconds"], row["peak_mib"])
            print("{:>12} {:>7} {:>8.0f} {:>13.0f} {:>9.0f}".format(*cells), flush=True)
            rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


def measured(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, object]]:
    """A row for each card, as soon as it is there."""
    most = max(options.sizes)
    originals = sorted(options.data.rglob("*.nii*")) if options.data else []
    write_heads(folder / "heads", originals, 2 * most)
    for size in options.sizes:
        sets = folder / f"{size}"
        for kind, first in (("real", 0), ("synthetic", most)):
            (sets / kind).mkdir(parents=True)
            for number in range(first, first + size):
                (sets / kind / f"head-{number:03d}.nii.gz").symlink_to(folder / "heads" / f"{number}.nii.gz")
        for cache in ("empty", "filled"):
            yield {"scans": size, "cache": cache} | _run(options, sets)


def _run(options: argparse.Namespace, sets: Path) -> dict[str, float]:
    """A card in a process of its own."""
    environment = os.environ | {
        "MEDGAN_CACHE": str(sets / "cache"),
        "OMP_NUM_THREADS": str(options.cores),
    }
    command = [sys.executable, __file__, "--card", sets / "real", sets / "synthetic", sets / "out"]
    if options.encoder:
        command += ["--encoder", options.encoder]
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[: options.cores]
        os.sched_setaffinity(0, cores)
    answer = subprocess.run([str(part) for part in command], env=environment, check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return figures


def one_card(real: Path, synthetic: Path, out: Path, encoder: str | None) -> None:
    """Compute a card and print what it cost; the first one fills the cache beside its scans."""
    from medgan.workflows.evaluate import evaluate_synthesis_files

    started = time.perf_counter()
    evaluate_synthesis_files(real, synthetic, out, encoder=encoder, cache=True)
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "seconds": time.perf_counter() - started,
        "core_seconds": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
    }
    print(json.dumps(figures))


def write_heads(folder: Path, originals: list[Path], count: int) -> None:
    """`count` heads as files: the originals, then changed ones."""
    folder.mkdir(parents=True)
    for number in range(count):
        random = np.random.default_rng(number)
        volume, affine = _head(originals, number)
        if number >= len(originals):
            volume = _changed(volume, random)
        nib.save(nib.Nifti1Image(np.rint(volume).astype(np.int16), affine), folder / f"{number}.nii.gz")


def _head(originals: list[Path], number: int) -> tuple[Volume, NDArray[np.float64]]:
    if not originals:
        return _phantom(), np.diag([SPACING] * 3 + [1.0])
    image = nib.as_closest_canonical(nib.load(originals[number % len(originals)]))
    return np.asarray(image.dataobj, dtype=np.float32), image.affine


def _phantom() -> Volume:
    """An ellipsoid with two ventricles."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij", sparse=True)
    head = np.clip(6 * (0.8 - x**2 - y**2 - z**2), 0, 1)
    ventricles = np.exp(-((np.abs(x) - 0.2) ** 2 + y**2 / 4 + z**2) / 0.03)
    return np.asarray(800 * head * (1 - 0.6 * ventricles), dtype=np.float32)


def _changed(volume: Volume, random: np.random.Generator) -> Volume:
    """Warped smoothly by a few mm, and mirrored, blurred or noisy by chance."""
    shifts = [ndimage.zoom(random.normal(0, 1.5, (4, 4, 4)), np.divide(volume.shape, 4), order=1) for _ in range(3)]
    places = np.meshgrid(*(np.arange(n) for n in volume.shape), indexing="ij", sparse=True)
    changed = ndimage.map_coordinates(volume, [p + s for p, s in zip(places, shifts, strict=True)], order=1)
    if random.random() < 0.5:
        changed = changed[::-1]
    changed = ndimage.gaussian_filter(changed, random.uniform(0, 0.6))
    noise = random.normal(0, 0.02 * np.percentile(changed, 99.5) * random.random(), changed.shape)
    return np.asarray(changed + noise, dtype=np.float32)


if __name__ == "__main__":
    main()

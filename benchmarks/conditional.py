"""Whether a GAN that is told labels obeys them: classes told apart by a judge, a number that moves the anatomy.

The set: virtual subjects grown from the MNI152 brain, whose labels have a known meaning (`medgan.data.demo`). With age
the ventricles grow; patients carry a dark mass, a few voxels wide, anywhere in the white matter. One GAN is told the
age band (young or old) alone, another age and group.

The judges are logistic regressions, on the voxels about the ventricles and on measures of a mass (label_judges.py),
fitted to real scans that no GAN saw; "told apart" is their balanced accuracy, on real scans that neither saw and on
samples of either class. The measure of age is analytic: the share of dark voxels around the lateral ventricles, of
controls; "ordered" is Spearman's correlation of it with the age, of real scans and of samples with the ages asked for,
and "sweep" the same for samples of one latent vector each whose age alone moves, in the mean over latent vectors.

Run: python benchmarks/conditional.py [--seconds 1200 | --steps N] [--recipe synthesis/cgan] [--set FIELD=VALUE ...]
     [--only bands] [--subjects 200] [--spacing 8] [--cache FOLDER] [--device cuda] [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gan_runs import prepared, steps_within, synthesis_recipe, with_training
from label_judges import Judge, Scans, mass_features, ordered, ventricle_shares, ventricle_voxels
from numpy.typing import NDArray

from medgan.data.cohort import Cohort, ScanRecord
from medgan.data.demo import write_demo_cohort
from medgan.data.label_table import labels_of
from medgan.data.prepare import prepare
from medgan.files import write_text
from medgan.networks.labelled import LabelledGenerator, labels_of_sample
from medgan.networks.latents import latent
from medgan.workflows.assess import normalised_scans
from medgan.workflows.linear_start import cohort_start
from medgan.workflows.train import CohortBatches

GROUPS, BANDS = ("control", "patient"), ("young", "old")
# Years; subjects are 20 to 90.
OLD_FROM = 55.0
SPLIT = (0.6, 0.2, 0.2)
SWEEP_AGES, SWEEP_LATENTS = 9, 24


def demo_cohort(folder: Path, subjects: int, spacing: float, *, seed: int) -> Cohort:
    """A prepared cohort of virtual subjects with their age bands; made once and then read."""
    if not (folder / "cohort").exists():
        write_demo_cohort(folder / "scans", subjects, seed=seed, spacing=spacing)
        add_bands(folder / "scans" / "participants.tsv")
        prepare([folder / "scans"], folder / "cohort", spacing=(spacing,) * 3, split=SPLIT)
    return Cohort.load(folder / "cohort")


def add_bands(table: Path) -> None:
    """Give a table of participants the column age_band."""
    with table.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    banded = [{**row, "age_band": BANDS[float(row["age"]) >= OLD_FROM]} for row in rows]
    lines = [list(banded[0]), *([*row.values()] for row in banded)]
    write_text(table, "\n".join("\t".join(line) for line in lines) + "\n")


def real_scans(cohort: Cohort, records: Sequence[ScanRecord]) -> Scans:
    """Scans of a cohort as the networks see them."""
    labels = tuple({**record.labels, "age": float(record.labels["age"])} for record in records)
    return Scans(np.stack(normalised_scans(cohort, tuple(records))), labels)


def samples(generator: LabelledGenerator, asked: Sequence[Mapping[str, Any]], indices: Sequence[int]) -> Scans:
    """One sample of each latent vector index with the labels that are asked for; the others are drawn."""
    device = next(generator.parameters()).device
    volumes, values = [], []
    with torch.inference_mode():
        for one, index in zip(asked, indices, strict=True):
            values.append(labels_of_sample(generator, one, seed=1, index=index))
            vector = latent(1, index, generator.latent_size)[None].to(device)
            volumes.append((generator(vector, generator.codes(values[-1:]))[0, 0].float().cpu().numpy() + 1) / 2)
    return Scans(np.stack(volumes), tuple(values))


def swept(generator: LabelledGenerator, affine: NDArray[np.float64]) -> float:
    """How monotonically the measure follows an age that moves while all else stays, in the mean over latent vectors."""
    (label,) = (one for one in generator.coding.labels if one.name == "age")
    ages = np.linspace(label.minimum, label.maximum, SWEEP_AGES)  # type: ignore[union-attr]
    found = []
    for index in range(SWEEP_LATENTS):
        asked = [{"age": float(age), "group": GROUPS[0]} for age in ages]
        scans = samples(generator, asked, [10_000 + index] * len(ages))
        found.append(ordered(ages, ventricle_shares(scans.volumes, affine)))
    return float(np.nanmean(found))


def trained_generator(
    cohort: Cohort, names: str, options: argparse.Namespace, device: torch.device
) -> tuple[LabelledGenerator, int]:
    """The averaged generator that is told labels `names`, such as "[age, group]", and after how many steps."""
    told = ["tracking.enabled=false", f"synthesis.labels.names={names}"]
    recipe = synthesis_recipe(options.recipe, [*told, *options.overrides])
    labels = labels_of(cohort, recipe.synthesis.labels)
    grid: dict[str, Any] = {"shape": cohort.shape, "spacing": cohort.spacing, "device": device, "labels": labels}
    grid["start"] = cohort_start(recipe, cohort)
    source = CohortBatches(recipe, cohort)
    steps = options.steps or steps_within(recipe, source, options.seconds, **grid)
    recipe = with_training(recipe.with_steps(steps), tick_steps=max(1, steps // 10), checkpoint_ticks=10**6)
    with tempfile.TemporaryDirectory() as folder:
        average = prepared(recipe, source, Path(folder), **grid).run().average
    if not isinstance(average, LabelledGenerator):
        raise TypeError(f"{options.recipe} trains no network that is told labels")
    return average, steps


class Benchmark:
    """Both trainings and what is measured of each.

    Args:
        options: of the command line.
        folder: for the cohorts.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.device = options, torch.device(options.device)
        self.cohort = demo_cohort(folder / "gan", options.subjects, options.spacing, seed=0)
        # The judges' own subjects, part of them to hold the judges against.
        apart = demo_cohort(folder / "judge", options.subjects, options.spacing, seed=1)
        self.taught = real_scans(apart, apart.split("train"))
        self.unseen = real_scans(apart, [*apart.split("validation"), *apart.split("test")])
        self.affine = np.array(self.cohort.split("train")[0].affine, dtype=np.float64)

    def bands(self) -> dict[str, Any]:
        """Of a GAN that is told the age band."""
        judge = Judge.fitted(self.taught, "age_band", ventricle_voxels, self.affine)
        generator, steps = trained_generator(self.cohort, "[age_band]", self.options, self.device)
        made = self._classes(generator, "age_band", BANDS)
        return {"steps": steps, "bands": (judge.told_apart(self.unseen), judge.told_apart(made))}

    def groups(self) -> dict[str, Any]:
        """Of a GAN that is told age and group."""
        judge = Judge.fitted(self.taught, "group", mass_features, self.affine)
        generator, steps = trained_generator(self.cohort, "[age, group]", self.options, self.device)
        made = self._classes(generator, "group", GROUPS)
        controls = [scans.where("group", GROUPS[0]) for scans in (self.unseen, made)]
        order = [ordered(one.values("age"), ventricle_shares(one.volumes, self.affine)) for one in controls]
        return {
            "steps": steps,
            "groups": (judge.told_apart(self.unseen), judge.told_apart(made)),
            "ordered": tuple(order),
            "sweep": (None, swept(generator, self.affine)),
        }

    def _classes(self, generator: LabelledGenerator, name: str, classes: Sequence[str]) -> Scans:
        asked = [{name: classes[index % len(classes)]} for index in range(self.options.samples)]
        return samples(generator, asked, range(len(asked)))


TITLES = {
    "bands": "age bands told apart",
    "groups": "groups told apart",
    "ordered": "age, ordered",
    "sweep": "age, sweep",
}


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """What was measured on real scans and on generated ones."""
    lines = [f"{'':30}{'steps':>8}{'real':>10}{'generated':>12}"]
    for row in rows.values():
        for key, title in TITLES.items():
            if key in row:
                real, made = ("" if value is None else f"{value:.3f}" for value in row[key])
                lines.append(f"{title:30}{row['steps']:>8}{real:>10}{made:>12}")
    return "\n".join(lines)


def main() -> None:
    """Train, judge and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1200.0, help="cost of each GAN's training")
    parser.add_argument("--steps", type=int, help="or how many steps each has")
    parser.add_argument("--recipe", default="synthesis/cgan", help="of networks that are told labels")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="override a field of the recipe")
    parser.add_argument("--only", choices=("bands", "groups"), help="one of the two trainings")
    parser.add_argument("--subjects", type=int, default=200, help="virtual subjects of the GANs, and of the judges")
    parser.add_argument("--spacing", type=float, default=8.0, help="mm between voxels")
    parser.add_argument("--samples", type=int, default=200, help="generated scans to judge")
    parser.add_argument("--cache", type=Path, help="keep the cohorts here, and use them again")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        benchmark = Benchmark(options, options.cache or Path(temporary))
        rows = {name: getattr(benchmark, name)() for name in ("bands", "groups") if options.only in (None, name)}
    print(table(rows))
    if options.json:
        from medgan.files import write_json

        write_json(options.json, rows)


if __name__ == "__main__":
    main()

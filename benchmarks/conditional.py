"""Whether a GAN that is told labels obeys them: classes told apart by a judge, a number that moves the anatomy.

The set: virtual subjects grown from the MNI152 brain, whose labels have a known meaning (`medgan.data.demo`). Patients
carry a dark mass in the white matter; with age the ventricles grow. The judge of the group is a logistic regression on
how dark and how lopsided the deep white matter is, fitted to real scans that the GAN never saw; "told apart" is its
balanced accuracy, on real scans that neither saw and on samples of either group. The measure of age is analytic: the
share of dark voxels around the lateral ventricles, of controls; "ordered" is Spearman's correlation of it with the age,
of real scans and of samples with the ages asked for, and "sweep" the same for samples of one latent vector each whose
age alone moves, in the mean over latent vectors.

Run: python benchmarks/conditional.py [--seconds 1200 | --steps N] [--recipe synthesis/cgan] [--set FIELD=VALUE ...]
     [--subjects 200] [--spacing 8] [--cache FOLDER] [--device cuda] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gan_runs import prepared, steps_within, synthesis_recipe, with_training
from numpy.typing import NDArray

from medgan.data.cohort import Cohort, ScanRecord
from medgan.data.demo import write_demo_cohort
from medgan.data.label_table import labels_of
from medgan.data.prepare import prepare
from medgan.networks.labelled import LabelledGenerator, labels_of_sample
from medgan.networks.latents import latent
from medgan.workflows.assess import normalised_scans
from medgan.workflows.train import CohortBatches

Volumes = NDArray[np.float32]
GROUPS = ("control", "patient")
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
# In RAS mm of the template: a box about the lateral ventricles, and the deep white matter, x to both sides.
VENTRICLES = ((-24.0, 24.0), (-45.0, 30.0), (4.0, 28.0))
DEEP = ((16.0, 40.0), (-60.0, 30.0), (6.0, 46.0))
# Standard deviation, mm, about half a mass's radius.
MASS_BLUR = 5.0
# Of the white matter's intensity: fluid lies at about 0.3, grey matter at 0.7.
DARK = 0.5
SWEEP_AGES, SWEEP_LATENTS = 9, 24


@dataclass(frozen=True)
class Scans:
    """Scans with their labels.

    Args:
        volumes: (N, X, Y, Z), normalised to about 0..1.
        groups: "control" or "patient" of each.
        ages: years.
    """

    volumes: Volumes
    groups: tuple[str, ...]
    ages: NDArray[np.float64]

    def of(self, group: str) -> Scans:
        """Those of one group."""
        kept = [index for index, one in enumerate(self.groups) if one == group]
        return Scans(self.volumes[kept], (group,) * len(kept), self.ages[kept])


def demo_cohort(folder: Path, subjects: int, spacing: float, *, seed: int, split: Mapping[str, float]) -> Cohort:
    """A prepared cohort of virtual subjects; made once and then read."""
    if not (folder / "cohort").exists():
        write_demo_cohort(folder / "scans", subjects, seed=seed, spacing=spacing)
        shares = (split["train"], split["validation"], split["test"])
        prepare([folder / "scans"], folder / "cohort", spacing=(spacing,) * 3, split=shares)
    return Cohort.load(folder / "cohort")


def real_scans(cohort: Cohort, records: Sequence[ScanRecord]) -> Scans:
    """Scans of a cohort as the networks see them."""
    groups = tuple(str(record.labels["group"]) for record in records)
    ages = np.array([float(record.labels["age"]) for record in records])
    return Scans(np.stack(normalised_scans(cohort, tuple(records))), groups, ages)


def samples(generator: LabelledGenerator, asked: Sequence[Mapping[str, Any]], indices: Sequence[int]) -> Scans:
    """One sample of each latent vector index with the labels that are asked for; the others are drawn."""
    device = next(generator.parameters()).device
    volumes, values = [], []
    with torch.inference_mode():
        for one, index in zip(asked, indices, strict=True):
            values.append(labels_of_sample(generator, one, seed=1, index=index))
            vector = latent(1, index, generator.latent_size)[None].to(device)
            volumes.append((generator(vector, generator.codes(values[-1:]))[0, 0].float().cpu().numpy() + 1) / 2)
    ages = np.array([float(one["age"]) for one in values])
    return Scans(np.stack(volumes), tuple(str(one["group"]) for one in values), ages)


def mass_features(volumes: Volumes, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much darker one side of the deep white matter is than the other, and how dark its darkest place, (N, 3)."""
    from scipy.ndimage import gaussian_filter

    spacing = np.abs(np.diag(affine)[:3])
    scans = volumes / white_matter(volumes)[:, None, None, None]
    smooth = np.stack([gaussian_filter(scan, MASS_BLUR / spacing) for scan in scans])
    positions = [affine[axis, axis] * np.arange(n) + affine[axis, 3] for axis, n in enumerate(volumes.shape[1:])]
    # The other side, interpolated between the two planes next to the mirror image of each.
    places = ((-positions[0] - affine[0, 3]) / affine[0, 0]).clip(0, len(positions[0]) - 1.001)
    lower, share = places.astype(int), (places % 1)[:, None, None]
    mirrored = smooth[:, lower] * (1 - share) + smooth[:, lower + 1] * share
    positions[0] = np.abs(positions[0])
    inside = np.ix_(*((low < along) & (along < high) for along, (low, high) in zip(positions, DEEP, strict=True)))
    darker = np.stack([scan[inside].ravel() for scan in mirrored - smooth])
    darkest = np.stack([scan[inside].ravel() for scan in smooth])
    largest = np.sort(darker, axis=1)[:, -5:]
    return np.stack([largest[:, -1], largest.mean(axis=1), darkest.min(axis=1)], axis=1)


@dataclass(frozen=True)
class Judge:
    """Logistic regression on the features of a mass, fitted to real scans.

    Args:
        model: fitted.
        affine: of all scans.
    """

    model: Any
    affine: NDArray[np.float64]

    @classmethod
    def fitted(cls, scans: Scans, affine: NDArray[np.float64]) -> Judge:
        """The judge that these scans teach."""
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
        from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

        model = make_pipeline(StandardScaler(), LogisticRegression())
        return cls(model.fit(mass_features(scans.volumes, affine), scans.groups), affine)

    def told_apart(self, scans: Scans) -> float:
        """Balanced accuracy, 0.5 to 1."""
        said = self.model.predict(mass_features(scans.volumes, self.affine))
        groups = np.array(scans.groups)
        return float(np.mean([(said[groups == group] == group).mean() for group in GROUPS]))


def white_matter(volumes: Volumes) -> NDArray[np.float32]:
    """The intensity of white matter, nearly the brightest there is, of each volume (N, X, Y, Z)."""
    return np.asarray(np.percentile(volumes.reshape(len(volumes), -1), 97, axis=1), dtype=np.float32)


def ventricle_shares(volumes: Volumes, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of dark voxels in the box about the lateral ventricles, of each volume (N, X, Y, Z)."""
    inverse = np.linalg.inv(affine)
    box = []
    for axis, ends in enumerate(VENTRICLES):
        first, last = (inverse[axis, axis] * end + inverse[axis, 3] for end in ends)
        box.append(slice(max(0, round(first)), round(last) + 1))
    inside = volumes[(slice(None), *box)].reshape(len(volumes), -1)
    # Not counted but weighted, so that large voxels change their share gradually.
    darkness = 1 / (1 + np.exp((inside / white_matter(volumes)[:, None] - DARK) / 0.08))
    return np.asarray(darkness.mean(axis=1), dtype=np.float64)


def ordered(ages: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
    """Spearman's rank correlation."""
    from scipy.stats import spearmanr

    return float(spearmanr(ages, measured).statistic)


def swept(generator: LabelledGenerator, affine: NDArray[np.float64]) -> float:
    """How monotonically the measure follows an age that moves while all else stays, in the mean over latent vectors."""
    (label,) = (one for one in generator.coding.labels if one.name == "age")
    ages = np.linspace(label.minimum, label.maximum, SWEEP_AGES)  # type: ignore[union-attr]
    found = []
    for index in range(SWEEP_LATENTS):
        asked = [{"age": float(age), "group": "control"} for age in ages]
        scans = samples(generator, asked, [10_000 + index] * len(ages))
        found.append(ordered(ages, ventricle_shares(scans.volumes, affine)))
    return float(np.nanmean(found))


def trained_generator(
    cohort: Cohort, options: argparse.Namespace, device: torch.device
) -> tuple[LabelledGenerator, int]:
    """The averaged generator, and after how many steps."""
    recipe = synthesis_recipe(options.recipe, ["tracking.enabled=false", *options.overrides])
    labels = labels_of(cohort, recipe.synthesis.labels)
    grid: dict[str, Any] = {"shape": cohort.shape, "spacing": cohort.spacing, "device": device, "labels": labels}
    source = CohortBatches(recipe, cohort)
    steps = options.steps or steps_within(recipe, source, options.seconds, **grid)
    recipe = with_training(recipe.with_steps(steps), tick_steps=max(1, steps // 10), checkpoint_ticks=10**6)
    with tempfile.TemporaryDirectory() as folder:
        average = prepared(recipe, source, Path(folder), **grid).run().average
    if not isinstance(average, LabelledGenerator):
        raise TypeError(f"{options.recipe} trains no network that is told labels")
    return average, steps


def measured(options: argparse.Namespace, folder: Path, device: torch.device) -> dict[str, Any]:
    """All figures."""
    cohort = demo_cohort(folder / "gan", options.subjects, options.spacing, seed=0, split=SHARES)
    # The judge's own subjects: a third of them to hold it against.
    apart = demo_cohort(folder / "judge", options.subjects, options.spacing, seed=1, split=SHARES)
    unseen = real_scans(apart, [*apart.split("validation"), *apart.split("test")])
    affine = np.array(cohort.split("train")[0].affine, dtype=np.float64)
    judge = Judge.fitted(real_scans(apart, apart.split("train")), affine)
    generator, steps = trained_generator(cohort, options, device)
    asked = [{"group": GROUPS[index % 2]} for index in range(options.samples)]
    made = samples(generator, asked, range(len(asked)))
    controls = {name: scans.of("control") for name, scans in (("real", unseen), ("generated", made))}
    order = {name: ordered(one.ages, ventricle_shares(one.volumes, affine)) for name, one in controls.items()}
    return {
        "steps": steps,
        "told_apart_real": judge.told_apart(unseen),
        "told_apart_generated": judge.told_apart(made),
        "ordered_real": order["real"],
        "ordered_generated": order["generated"],
        "sweep": swept(generator, affine),
    }


def main() -> None:
    """Train, judge and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1200.0, help="cost of the GAN's training")
    parser.add_argument("--steps", type=int, help="or how many steps it has")
    parser.add_argument("--recipe", default="synthesis/cgan", help="with the labels age and group")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="override a field of the recipe")
    parser.add_argument("--subjects", type=int, default=200, help="virtual subjects of the GAN, and of the judge")
    parser.add_argument("--spacing", type=float, default=8.0, help="mm between voxels")
    parser.add_argument("--samples", type=int, default=200, help="generated scans to judge")
    parser.add_argument("--cache", type=Path, help="keep the cohorts here, and use them again")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        found = measured(options, options.cache or Path(temporary), torch.device(options.device))
    print(f"{options.recipe}, {found['steps']} steps{'real':>20}{'generated':>12}")
    print(f"{'groups told apart':34}{found['told_apart_real']:>10.1%}{found['told_apart_generated']:>12.1%}")
    print(f"{'age, ordered':34}{found['ordered_real']:>10.2f}{found['ordered_generated']:>12.2f}")
    print(f"{'age, sweep':34}{'':>10}{found['sweep']:>12.2f}")
    if options.json:
        from medgan.files import write_json

        write_json(options.json, found)


if __name__ == "__main__":
    main()

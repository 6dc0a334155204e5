"""The whole tour: from scans to an upscaled scan and synthetic scans, measured, reported, tracked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.train import TrainingOutcome, require_finished, train

if TYPE_CHECKING:
    from medgan.data.cohort import Cohort
    from medgan.io import Scan

SUPER_RESOLUTION, SYNTHESIS = "super_resolution/quickstart", "synthesis/quickstart"
# Two cores learn whole heads at this size in about two minutes; a coarser grid shows no anatomy.
_GAN_LONGEST_SIDE = 24
# The finest spacing that two cores train super-resolution on in minutes, mm.
_FINE_SPACING = 2.0
# More scans cost reading time and help these small networks little.
_VIRTUAL_SUBJECTS, _MOST_FINE, _MOST_COARSE = 48, 24, 100
_SAMPLES = 8


@dataclass(frozen=True)
class Tour:
    """Where everything of one quickstart goes."""

    out: Path

    @property
    def scans(self) -> Path:
        """The embedded cohort's scans."""
        return self.out / "scans"

    @property
    def fine(self) -> Path:
        """The cohort for super-resolution."""
        return self.out / "cohort-fine"

    @property
    def coarse(self) -> Path:
        """The cohort for synthesis."""
        return self.out / "cohort-coarse"

    @property
    def runs(self) -> Path:
        """Both training runs, with the tracking store beside them."""
        return self.out / "runs"

    @property
    def upscaled(self) -> Path:
        """Low-resolution, upscaled and true scan."""
        return self.out / "upscaled"

    @property
    def synthetic(self) -> Path:
        """Synthetic scans."""
        return self.out / "synthetic"


def quickstart(
    out: str | Path,
    *,
    data: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    jobs: int = 2,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Prepare, train super-resolution, upscale, train a GAN, generate, evaluate, report.

    Args:
        out: folder for everything; `summary.json` is written last.
        data: folder of real scans; without it, virtual subjects made from the MNI152 template.
        seed: of everything random.
        device: "auto", "cpu", "cuda", ...
        jobs: processes for preparing scans.
        reporter: where progress goes.

    Returns:
        What `summary.json` holds: the figures, the seconds of each part, and where everything is.

    Raises:
        MedganError: `out` holds a tour already, or the data cannot be used.
    """
    reporter = reporter or Reporter()
    tour = Tour(Path(out))
    if (tour.out / "summary.json").exists() or tour.runs.exists():
        raise MedganError(
            "this folder holds a quickstart already", file=tour.out, hint="Remove it or choose another --out."
        )
    watch = _Watch()
    fine, coarse = _cohorts(tour, data, seed, jobs, reporter)
    watch.note("prepare")

    reporter.say("Training super-resolution")
    sharpener = require_finished(
        train(
            SUPER_RESOLUTION,
            fine.folder,
            out=tour.runs / "super-resolution",
            seed=seed,
            device=device,
            reporter=reporter,
        )
    )
    watch.note("train_super_resolution")
    scans = _upscale_held_out(tour, sharpener, fine, device)
    watch.note("upscale")

    reporter.say("Training a GAN")
    generator = require_finished(
        train(SYNTHESIS, coarse.folder, out=tour.runs / "synthesis", seed=seed, device=device, reporter=reporter)
    )
    watch.note("train_synthesis")
    from medgan.workflows.generate import generate_scans

    # The tour goes on whatever the audit says: its report shows that, and its scans stay where they were made.
    options: dict[str, Any] = {"seed": seed, "device": device, "allow_memorised": True, "reporter": reporter}
    generate_scans(generator.folder, _SAMPLES, tour.synthetic, **options)
    watch.note("generate")
    return _concluded(tour, data, fine, coarse, sharpener, generator, scans, watch)


class _Watch:
    """Seconds of each part of the tour."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.parts: dict[str, float] = {}

    def note(self, part: str) -> None:
        now = time.perf_counter()
        self.parts[part] = round(now - self.last, 1)
        self.last = now

    def total(self) -> float:
        return round(time.perf_counter() - self.start, 1)


def _cohorts(tour: Tour, data: str | Path | None, seed: int, jobs: int, reporter: Reporter) -> tuple[Cohort, Cohort]:
    """The same scans twice: fine for super-resolution, coarse for synthesis."""
    from medgan.data.prepare import prepare

    if data is None:
        from medgan.data.demo import write_demo_cohort

        reporter.say(f"Making {_VIRTUAL_SUBJECTS} virtual subjects from the MNI152 template")
        data = write_demo_cohort(tour.scans, _VIRTUAL_SUBJECTS, seed=seed, spacing=_FINE_SPACING, jobs=jobs)
    found = _found(data)
    first = found[0].read().reoriented("RAS")
    fine_spacing = tuple(max(_FINE_SPACING, step) if step < 0.9 * _FINE_SPACING else step for step in first.spacing)
    coarse_spacing = max(first.field_of_view) / _GAN_LONGEST_SIDE
    cohorts = []
    for folder, most, spacing in (
        (tour.fine, _MOST_FINE, fine_spacing),
        (tour.coarse, _MOST_COARSE, (coarse_spacing,) * 3),
    ):
        preparation = prepare(
            # The folder itself where all of it is used: it may hold a participants table.
            [data] if len(found) <= most else [scan.path for scan in _spread(found, most)],
            folder,
            spacing=spacing,
            seed=seed,
            jobs=jobs,
            progress=partial(reporter.progress, folder.name),
        )
        for path, reason in preparation.failures:
            reporter.say(f"left out: {path}: {reason}")
        cohorts.append(preparation.cohort)
    return cohorts[0], cohorts[1]


def _found(data: str | Path) -> list[Scan]:
    from medgan.workflows.batch import scans_in

    return scans_in([data])


def _spread(scans: list[Scan], most: int) -> list[Scan]:
    """At most `most` scans, evenly spread over the list, so that a sorted folder is not cut off at one end."""
    if len(scans) <= most:
        return scans
    return [scans[index * len(scans) // most] for index in range(most)]


def _upscale_held_out(tour: Tour, outcome: TrainingOutcome, cohort: Cohort, device: str) -> dict[str, Path]:
    """Acquire one held-out scan at low resolution, write it, and upscale that file with the trained model."""
    from medgan.io import write_volume
    from medgan.recipe import SuperResolutionRecipe
    from medgan.recipe_files import load_recipe
    from medgan.workflows.assess import held_out, simulated_acquisition
    from medgan.workflows.upscale import upscale_scans

    recipe = load_recipe(outcome.folder / "recipe.yaml")
    assert isinstance(recipe, SuperResolutionRecipe)
    record = held_out(cohort)[0]
    low, truth = simulated_acquisition(recipe, cohort.volume(record), seed=0)
    paths = {
        "low": write_volume(low, tour.upscaled / "held-out_low.nii.gz"),
        "truth": write_volume(truth, tour.upscaled / "held-out_truth.nii.gz"),
        "upscaled": tour.upscaled / "held-out_upscaled.nii.gz",
    }
    exact = [high / small for high, small in zip(truth.shape, low.shape, strict=True)]
    thickness = max(low.spacing) * recipe.acquisition.thickness
    upscale_scans(
        [paths["low"]], paths["upscaled"], model=outcome.folder, factor=exact, thickness=thickness, device=device
    )
    return paths


def _concluded(
    tour: Tour,
    data: str | Path | None,
    fine: Cohort,
    coarse: Cohort,
    sharpener: TrainingOutcome,
    generator: TrainingOutcome,
    scans: dict[str, Path],
    watch: _Watch,
) -> dict[str, Any]:
    """Report and summary."""
    from medgan.files import write_json
    from medgan.workflows.quickstart_report import write_quickstart_report

    summary: dict[str, Any] = {
        "data": "virtual subjects from the MNI152 template" if data is None else str(data),
        "virtual": data is None,
        "psnr_gain_db": round(sharpener.figures["psnr_gain_db"], 3),
        "physics_gain_db": round(sharpener.figures["physics_gain_db"], 3),
        "kid_ratio_to_untrained": round(generator.figures["kid_ratio_to_untrained"], 2),
        "upscaled_scan": str(scans["upscaled"]),
        "low_resolution_scan": str(scans["low"]),
        "true_scan": str(scans["truth"]),
        "synthetic_scans": str(tour.synthetic),
        "report": str(tour.out / "report.html"),
        "runs": [str(sharpener.folder), str(generator.folder)],
        "run_reports": [str(outcome.folder / "report.html") for outcome in (sharpener, generator)],
        "tracking_store": str(tour.runs / "mlflow.db"),
        "cohorts": [str(fine.folder), str(coarse.folder)],
    }
    write_quickstart_report(tour, summary, fine, coarse, sharpener, generator, scans)
    watch.note("report")
    summary |= {"seconds": watch.total(), "seconds_by_part": watch.parts}
    write_json(tour.out / "summary.json", summary)
    return summary


def closing_words(summary: dict[str, Any]) -> str:
    """What the command line prints last: where everything is, and three commands to try next."""
    run = summary["runs"][1]
    return "\n".join(
        [
            "",
            f"Upscaled scan     {summary['upscaled_scan']}",
            f"                  {summary['psnr_gain_db']:+.2f} dB against cubic B-spline on held-out scans",
            f"Synthetic scans   {summary['synthetic_scans']}",
            f"                  KID {summary['kid_ratio_to_untrained']:.1f} times lower than an untrained generator's",
            f"Report            {summary['report']}",
            f"Tracked runs      {summary['tracking_store']}",
            f"Took              {summary['seconds']:.0f} s",
            "",
            "Try next:",
            f"  medgan generate {run} -n 4 --seed 1 --out more-scans",
            f"  medgan upscale your_scan.nii.gz --model {summary['runs'][0]} --out sharper.nii.gz",
            f"  mlflow ui --backend-store-uri sqlite:///{summary['tracking_store']}",
        ]
    )

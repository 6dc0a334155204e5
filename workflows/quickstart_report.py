"""The one page that a newcomer opens first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgan.data.cohort import Cohort
    from medgan.workflows.quickstart import Tour
    from medgan.workflows.train import TrainingOutcome

_VIRTUAL = (
    "Virtual subjects are warps of one average brain. They are alike, without skull and noise of real scanners, and so "
    "easier to restore and to imitate than patients: read these figures as proof that everything works, and try "
    "--data with scans of your own."
)


def write_quickstart_report(
    tour: Tour,
    summary: dict[str, Any],
    fine: Cohort,
    coarse: Cohort,
    sharpener: TrainingOutcome,
    generator: TrainingOutcome,
    scans: dict[str, Path],
) -> None:
    """Write the tour's `report.html` from the figures of both runs and the scans on disk."""
    from medgan.io import read_volume
    from medgan.report.figures import midplanes, sample_grid
    from medgan.report.html import Block, Commands, Heading, KeyFigures, Picture, Table, Text, write_report
    from medgan.workflows.card_blocks import synthesis_key_figures
    from medgan.workflows.report_blocks import METHODS, restoration_key_figures

    is_virtual = summary["virtual"]
    low, upscaled, truth = (read_volume(scans[name]) for name in ("low", "upscaled", "truth"))
    real = [coarse.volume(record) for record in coarse.split("train")[:6]]
    synthetic = [read_volume(path) for path in sorted(tour.synthetic.glob("*.nii.gz"))[:6]]
    size = " × ".join(map(str, coarse.shape))
    spacing = " × ".join(f"{step:.3g}" for step in coarse.spacing)
    rows = [[METHODS[name], values["psnr_db"], values["ssim"]] for name, values in sharpener.figures["mean"].items()]
    again = f"medgan quickstart --out {tour.out}-again"
    if not is_virtual:
        again += " --data FOLDER"
    blocks: list[Block] = [
        KeyFigures([*restoration_key_figures(sharpener.figures)[:2], *synthesis_key_figures(generator.figures)[1:]]),
        Text(
            f"Data: {'virtual subjects from the MNI152 template' if is_virtual else 'your own scans'}. Everything on "
            "this page was trained within minutes with small networks, to show "
            f"the way: super-resolution to {fine.spacing[2]:.3g} mm, synthesis at {size} voxels of {spacing} mm, which "
            "is what two CPU cores learn in two minutes. On a GPU the same commands with the recipes "
            "super_resolution/esrgan3d and synthesis/r3gan train networks of useful size."
        ),
        *([Text(_VIRTUAL)] if is_virtual else []),
        Heading("A held-out scan, upscaled"),
        Picture(
            midplanes([("Low resolution", low), ("Upscaled", upscaled), ("Truth", truth)]),
            "Mid-planes of a low-resolution scan, its upscaled version and the truth",
            f"Slices of {max(low.spacing):.3g} mm restored to {max(upscaled.spacing):.3g} mm; not seen in training.",
        ),
        Table(["Method", "PSNR, foreground (dB)", "SSIM, foreground"], rows, "Means over held-out scans."),
        Heading("Synthetic scans"),
        Picture(
            sample_grid(real, synthetic),
            "Mid-planes of real and synthetic scans",
            "Real scans of the coarse cohort, then synthetic ones; these show no real person. Grey scales per scan.",
        ),
        Heading("Where everything is"),
        Table(
            ["What", "Where"],
            [
                ["Upscaled scan", summary["upscaled_scan"]],
                ["Synthetic scans", summary["synthetic_scans"]],
                ["Reports of both runs", ", ".join(summary["run_reports"])],
                ["Tracked runs", summary["tracking_store"]],
            ],
        ),
        Heading("Again"),
        Commands([again]),
    ]
    write_report(tour.out / "report.html", "medgan quickstart", "from scans to sharper and synthetic scans", blocks)

"""Parts that several reports share: what the figures say, in blocks of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgan.report.blocks import (
    Block,
    Cell,
    Curves,
    Heading,
    KeyFigure,
    Picture,
    Table,
    Text,
    VerdictCard,
    Verdicts,
    Viewer,
)

if TYPE_CHECKING:
    from medgan.data.cohort import Cohort
    from medgan.training.trainer import History
    from medgan.volume import Volume

METHODS = {
    "linear": "Linear interpolation",
    "cubic": "Cubic B-spline interpolation",
    "physics": "Physics inverse, no learning",
    "fidelity": "Network, fidelity 1",
    "perceptual": "Network, fidelity 0 (adversarial)",
}


def cohort_blocks(cohort: Cohort) -> list[Block]:
    """What was learned from, in numbers."""
    grid = "every scan its own"
    if cohort.has_common_grid:
        shape = " × ".join(map(str, cohort.shape))
        grid = f"{shape} voxels of {' × '.join(f'{step:.3g}' for step in cohort.spacing)} mm"
    rows: list[list[Cell]] = [
        ["Scans for training", len(cohort.split("train"))],
        ["Scans for validation", len(cohort.split("validation"))],
        ["Scans for testing", len(cohort.split("test"))],
        ["Subjects", len({record.subject for record in cohort.records})],
        ["Grid (R, A, S)", grid],
        ["Manifest", f"sha256 {cohort.manifest_sha256[:16]}"],
    ]
    return [Heading("Data"), Table(["", "Value"], rows, "The prepared cohort; scans of one subject are in one split.")]


def restoration_key_figures(figures: dict[str, Any]) -> list[KeyFigure]:
    """What super-resolution came to."""
    means = figures["mean"]
    return [
        KeyFigure(
            "PSNR over cubic B-spline",
            f"{figures['psnr_gain_db']:+.2f} dB",
            "held-out scans, in the foreground, fidelity 1",
        ),
        KeyFigure(
            "of which physics alone", f"{figures['physics_gain_db']:+.2f} dB", "regularised inverse, no learning"
        ),
        KeyFigure("SSIM", means["fidelity"]["ssim"], f"cubic B-spline {means['cubic']['ssim']:.4f}"),
    ]


def restoration_verdict(figures: dict[str, Any]) -> Verdicts:
    """Whether the network is worth more than interpolation and than physics alone, on scans that it never saw."""
    from medgan.evaluation.verdicts import restoration_verdicts

    return Verdicts([VerdictCard(one.topic, one.level, one.sentence) for one in restoration_verdicts(figures)])


def restoration_blocks(figures: dict[str, Any], volumes: dict[str, list[Volume]]) -> list[Block]:
    """Pictures and table of a super-resolution evaluation."""
    from medgan.report.figures import midplanes
    from medgan.report.planes import common_window

    low, truth = volumes["low"][0], volumes["truth"][0]
    shown = {name: volumes[name][0] for name in ("cubic", "physics", "fidelity")}
    titles = {"cubic": "Cubic B-spline", "physics": "Physics inverse", "fidelity": "Network"}
    scans_drawn = [("Low resolution", low), *((titles[name], scan) for name, scan in shown.items()), ("Truth", truth)]
    errors = [
        (f"{titles[name]} minus truth", truth.with_data(scan.as_float() - truth.as_float()))
        for name, scan in shown.items()
    ]
    factor = " × ".join(f"{f:g}" for f in figures["factor"])
    rows = [
        [METHODS[name], values["psnr_db"], values["psnr_whole_db"], values["ssim"]]
        for name, values in figures["mean"].items()
    ]
    scans = len(figures["scans"])
    ranges = [row["cubic"]["data_range"] for row in figures["scans"]]
    caption = (
        f"Means over {scans} held-out scan{'s' if scans > 1 else ''}. "
        "Foreground: the head or body, widened by a voxel. Data range: 0.5th to 99.5th percentile of the truth "
        f"({min(ranges):.4g} to {max(ranges):.4g} in the scans' units)."
    )
    return [
        Heading("Super-resolution of held-out scans"),
        Text(
            f"Held-out scans were acquired by a simulated scanner whose voxels are longer by {factor} (R, A, S), then "
            "brought back to the original grid. Their true voxels are known, so every method can be measured."
        ),
        Picture(
            midplanes(scans_drawn),
            "Mid-planes of low-resolution, interpolated, restored and true scan",
            "A scan that no training step has seen; the network at fidelity 1.",
        ),
        Picture(
            midplanes([("Truth", truth)], differences=errors),
            "Mid-planes of the true scan and of what each method gets wrong",
            "Where each method errs, in one colour scale and in the scan's units.",
        ),
        Table(["Method", "PSNR, foreground (dB)", "PSNR, whole (dB)", "SSIM, foreground"], rows, caption),
        Viewer(
            [("Network", shown["fidelity"]), ("Truth", truth), ("Cubic B-spline", shown["cubic"]), ("Acquired", low)],
            "The same scan to leaf through: choose a method, and the cross-hair stays where it is.",
            window=common_window([truth]),
        ),
    ]


def curve_blocks(history: History) -> list[Block]:
    """All metrics of a training over its steps, one chart per kind."""
    groups: dict[str, list[str]] = {}
    for name in history:
        groups.setdefault(name.partition("/")[2].replace("_", " "), []).append(name)
    chosen = {title: names for title, names in groups.items() if len(history[names[0]]) > 1}
    if not chosen:
        return [Heading("Training"), Text("The training was too short for curves.")]
    return [Heading("Training"), Curves(history, chosen, "Means over each tick, against steps.")]

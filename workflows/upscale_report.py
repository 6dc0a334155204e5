"""The page that shows one upscaled scan: before and after, what it resolves, what was checked, assumed and used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medgan.workflows.upscale_trust import SPREAD, UNCONFIRMED, Findings

if TYPE_CHECKING:
    from medgan.evaluation.output_check import OutputCheck
    from medgan.geometry import Spacing
    from medgan.inference.model import Model
    from medgan.report.html import Block, Cell
    from medgan.volume import Volume
    from medgan.workflows.upscale_request import Request

NOTICE = "For research; not for diagnosis."

_AXES = ("Right to left", "Front to back", "Head to foot")
_COLUMN_INCHES = 4.4
_CARD_CHARACTERS = 700
_MAP_TITLES = {SPREAD: "Spread of the network's answers", UNCONFIRMED: "What the data cannot confirm"}
_MAP_TEXTS = {
    SPREAD: (
        "Standard deviation of the network's answers to eight mirrored (and, where two axes were acquired alike, "
        "turned) views of the scan, in its units. Bright: the network is not sure. Dark does not mean right."
    ),
    UNCONFIRMED: (
        "Local root mean square of the part of the result that the measured scan can neither confirm nor deny, in the "
        "scan's units. Bright: detail that stems from the model alone."
    ),
}


def write_upscale_report(
    path: Path, source: Volume, volume: Volume, findings: Findings, model: Model | None, request: Request
) -> None:
    """Write the page about one upscaled scan; it holds no names, paths or header text.

    Of several volumes the first is shown, and all are checked.

    Args:
        path: of the HTML file.
        source: the scan as it was read.
        volume: the result.
        findings: what is known of it.
        model: None for physics alone.
        request: what was asked for.

    Raises:
        MedganError: it cannot be written.
    """
    from medgan.report.html import write_report

    before, after = _first(source), _first(volume)
    resolved = _resolved(before), _resolved(after)
    blocks = [
        *_summary(before, after, resolved, findings),
        *_pictures(before, after, findings),
        *_resolution(before, after, resolved),
        *_check(findings.checks),
        *_assumptions(findings),
        *_method(findings, model, request),
    ]
    title = f"{_size(before)} made into {_size(after)}"
    write_report(path, "Upscaled scan", title, blocks)


def _summary(before: Volume, after: Volume, resolved: tuple[Spacing, Spacing], findings: Findings) -> list[Block]:
    """The notice, what was found wrong, and the figures to see first."""
    from medgan.report.html import KeyFigure, KeyFigures, Text, Warning

    axis = findings.plan.slices.axis
    was, became = (one[axis] for one in resolved)
    faults = findings.faults
    verdict = "passed" if not faults else f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    blocks: list[Block] = [Text(NOTICE)]
    if faults:
        blocks.append(Warning("The output check found what should not be there. " + ". ".join(faults) + "."))
    figures = [
        KeyFigure("Resolved across the slices", f"{became:.2g} mm", f"before {was:.2g} mm; estimated from the scans"),
        KeyFigure("Slices", after.shape[_axis_in(after, axis)], f"before {before.shape[_axis_in(before, axis)]}"),
        KeyFigure("Output check", verdict, "seven measurements, below"),
        KeyFigure("Time", f"{findings.seconds:.3g} s", "reading and writing apart"),
    ]
    return [*blocks, KeyFigures(figures)]


def _pictures(before: Volume, after: Volume, findings: Findings) -> list[Block]:
    """Three planes before and after, and the maps."""
    from medgan.report.figures import midplanes
    from medgan.report.html import Heading, Picture

    blocks: list[Block] = [
        Heading("Before and after"),
        Picture(
            midplanes([("Before", before), ("After", after)], column_inches=_COLUMN_INCHES),
            "Axial, coronal and sagittal mid-plane of the scan before and after",
            "Left: the measured voxels as they are, in true proportions. Right: the result. One grey scale for both.",
        ),
    ]
    if findings.maps:
        blocks.append(Heading("Where to be careful"))
    for name, one in findings.maps.items():
        title = _MAP_TITLES[name]
        picture = midplanes([("After", after)], magnitudes=[(title, _first(one))], column_inches=_COLUMN_INCHES)
        blocks.append(Picture(picture, f"Mid-planes of the result beside a map: {title}", _MAP_TEXTS[name]))
    return blocks


def _resolution(before: Volume, after: Volume, resolved: tuple[Spacing, Spacing]) -> list[Block]:
    """What both scans resolve along each axis."""
    from medgan.report.html import Heading, Table, Text

    figures = [*(one.reoriented("RAS").spacing for one in (before, after)), *resolved]
    rows: list[list[Cell]] = [
        [name, *(round(values[axis], 3) for values in figures)] for axis, name in enumerate(_AXES)
    ]
    text = (
        "In mm. Estimated without a reference: where the energy along an axis has fallen against that of the sharpest "
        "axis, read as the thickness of a Gaussian slice. What looks sharp counts as resolved, whether it is right or "
        "not."
    )
    columns = ["Axis", "Voxel before", "Voxel after", "Resolved before", "Resolved after"]
    return [Heading("Effective resolution"), Text(text), Table(columns, rows)]


def _check(checks: tuple[OutputCheck, ...]) -> list[Block]:
    """The figures of the volume with most faults."""
    from medgan.report.html import Heading, Table, Text

    worst = max(checks, key=lambda check: len(check.faults))
    rows: list[list[Cell]] = [
        [row.name, row.value, row.limit, "passed" if row.is_passed else "FAULT"] for row in worst.rows
    ]
    failed = [index for index, row in enumerate(worst.rows) if not row.is_passed]
    shown = f" Shown: the worst of {len(checks)} volumes." if len(checks) > 1 else ""
    text = (
        "The result, acquired again by the scanner that was assumed, is compared with the measured scan. Detail finer "
        f"than what was measured ({100 * worst.unconfirmed:.2g} % of the range here, root mean square) cannot be "
        f"checked by any calculation.{shown}"
    )
    table = Table(["", "Found", "Allowed", "Verdict"], rows, highlighted=failed)
    return [Heading("Output check"), Text(text), table]


def _assumptions(findings: Findings) -> list[Block]:
    """What was taken for granted of the scanner."""
    from medgan.inference.slice_profile import PROFILE_WORDS
    from medgan.report.html import Heading, Table, Text

    acquisition, slices = findings.acquisition, findings.plan.slices
    rows: list[list[Cell]] = []
    for axis, name in enumerate(_AXES):
        thick = acquisition.thickness[axis]
        is_kept = acquisition.axes[axis].is_identity
        rows.append(
            [
                name,
                "kept" if is_kept else f"{acquisition.factor[axis]:.3g} times more voxels",
                "–" if thick is None else f"{thick:.3g} mm",
                "–" if is_kept else PROFILE_WORDS[acquisition.profile[axis]],
            ]
        )
    sentence = str(slices)
    return [
        Heading("What was assumed"),
        Text(
            f"{sentence[0].upper()}{sentence[1:]}. A wrong thickness or profile sharpens too much or too little: see "
            "--thickness and --profile."
        ),
        Table(["Axis", "Upscaling", "Extent of a sample", "Profile"], rows),
    ]


def _method(findings: Findings, model: Model | None, request: Request) -> list[Block]:
    """By what the scan was upscaled."""
    from medgan.report.html import Heading, Table, Text

    if model is None and not request.self_supervised:
        return [
            Heading("Method"),
            Text(
                "The regularised inverse of the acquisition: the smoothest scan that explains the measured one. "
                "Nothing was learned, and nothing added that was not measured."
            ),
        ]
    rows: list[list[Cell]] = []
    if request.self_supervised:
        rows.append(["Tuned on", "the planes of this scan"])
    if model is not None:
        rows += [
            ["Model", _shipped_name(model) or "a model of your own"],
            ["Weights", f"sha256 {model.sha256}"],
            ["Network", str(model.config["network"]["name"])],
            ["Fidelity", request.fidelity],
        ]
    blocks: list[Block] = [Heading("Method"), Table(["", "Value"], rows)]
    card = _card(model)
    return [*blocks, Text(card)] if card else blocks


def _shipped_name(model: Model) -> str | None:
    """The name of a model that comes with medgan; a folder of the user's own may bear any name."""
    from medgan.pretrained import shipped_model, shipped_models

    return next((name for name in shipped_models() if shipped_model(name) == model.folder), None)


def _card(model: Model | None) -> str:
    """The first paragraphs of a shipped model's card."""
    card = model.folder / "README.md" if model is not None and _shipped_name(model) else None
    if card is None or not card.is_file():
        return ""
    paragraphs = [part.strip() for part in card.read_text(encoding="utf-8").split("\n\n")]
    plain = [" ".join(part.split()) for part in paragraphs if part and part[0].isalnum()]
    chosen: list[str] = []
    length = 0
    for part in plain:
        length += len(part)
        if chosen and length > _CARD_CHARACTERS:
            break
        chosen.append(part)
    return "\n\n".join(chosen)


def _first(volume: Volume) -> Volume:
    """The first of several volumes."""
    return volume if volume.channels == 1 else volume.with_data(volume.data[:1])


def _resolved(volume: Volume) -> Spacing:
    """Effective resolution along R, A and S in mm."""
    from medgan.evaluation.resolution import estimated_resolution

    turned = volume.reoriented("RAS")
    return estimated_resolution(turned.data[0], spacing=turned.spacing)


def _axis_in(volume: Volume, axis: int) -> int:
    """The array axis that runs along an axis of RAS."""
    letters = ("RL", "AP", "SI")[axis]
    return next(index for index, letter in enumerate(volume.orientation) if letter in letters)


def _size(volume: Volume) -> str:
    return " × ".join(f"{step:.3g}" for step in volume.spacing) + " mm"

"""Show along which directions a generator's samples vary most."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.places import writable_file
from medgan.workflows.points import Sampling, require_smooth, write_directions
from medgan.workflows.release import released_model

if TYPE_CHECKING:
    from medgan.inference.directions import Directions
    from medgan.report.html import Block
    from medgan.report.sheets import SheetRow

_METHOD = (
    "Found without labels: at a few samples, the change of the voxels is measured along each {coordinate} by finite "
    "differences; the directions are the leading right singular vectors of these Jacobians together (Ramesh et al. "
    "2018, arXiv:1812.01161){styles}. A direction is named by nobody: look what changes along it."
)
_STYLES = "; principal components of styles as in GANSpace (Härkönen et al. 2020, arXiv:2004.02546)"
_FARTHEST = 10.0


def explore_model(
    model: str | Path,
    out: str | Path,
    *,
    directions: int = 6,
    steps: int = 5,
    reach: float = 3.0,
    seed: int = 0,
    device: str = "auto",
    allow_memorised: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Find the directions along which samples change most, and write a page that shows them.

    Args:
        model: as `medgan.workflows.models.resolve_model` takes it.
        out: the page, FILE.html; the directions go to FILE.json beside it, for `medgan generate --along`.
        directions: how many, strongest first.
        steps: scans along each, of which the middle one of an odd number is the sample itself.
        reach: how far to both sides, in standard deviations of samples.
        seed: of the samples at which changes are measured; its sample 0 is shown.
        device: "auto", "cpu", "cuda", ...
        allow_memorised: show samples of a model that copies training scans all the same.
        reporter: where progress goes.

    Returns:
        The page.

    Raises:
        MedganError: the model makes no scans from latent vectors, or not gradually; a number is out of range; or the
            files cannot be written.
    """
    from medgan.inference.directions import find_directions
    from medgan.report.html import write_report

    reporter = reporter or Reporter()
    page = _page(out)
    if directions < 1 or steps < 2:
        raise MedganError(
            f"{directions} directions with {steps} steps cannot be shown",
            hint="Use --directions 1 and --steps 2 at least.",
        )
    if not (math.isfinite(reach) and 0 < reach <= _FARTHEST):
        raise MedganError(
            f"--reach is {reach:g}; it must be above 0 and at most {_FARTHEST:g} standard deviations", hint="Use 3."
        )
    loaded = released_model(model, device, "explore", allow_memorised=allow_memorised, reporter=reporter)
    network = loaded.network()
    require_smooth(network, loaded)
    found = find_directions(
        network, directions, seed=seed, progress=lambda done, total: reporter.progress("explore", done, total)
    )
    if len(found.vectors) < directions:
        raise MedganError(
            f"{directions} directions are asked for, and the {found.space} of this model have {len(found.vectors)}",
            hint=f"Use --directions {len(found.vectors)}.",
        )
    rows = _rows(Sampling(loaded, network, seed), found, steps, reach)
    write_directions(page.with_suffix(".json"), found, loaded)
    title = f"{directions} directions, strongest first, of the {found.space} of one generator"
    return write_report(page, "Directions of variation", title, _blocks(found, rows, reach, loaded.config))


def _page(out: str | Path) -> Path:
    """The page, if it and the file beside it can be written."""
    page = Path(out)
    if page.suffix.lower() not in (".html", ".htm"):
        raise MedganError("the page is an HTML file, its name does not end so", file=page, hint="Name it FILE.html.")
    writable_file(page.with_suffix(".json"))
    return writable_file(page)


def _rows(sampling: Sampling, found: Directions, steps: int, reach: float) -> list[SheetRow]:
    """Sample 0 moved along each direction."""
    import torch

    from medgan.inference.generate import as_scan
    from medgan.inference.points import moved, point_of_sample, rendered
    from medgan.report.sheets import SheetRow

    point = point_of_sample(sampling.network, **sampling.options, index=0)
    rows = []
    for number, vector in enumerate(found.vectors, start=1):
        scans = []
        for step in range(steps):
            amount = reach * (2 * step / (steps - 1) - 1)
            with torch.inference_mode():
                sample = rendered(sampling.network, moved(point, amount * vector))[0]
            scans.append((f"{amount:+.3g}" if amount else "sample 0", as_scan(sampling.model, sample, "", {})))
        first, last = scans[0][1], scans[-1][1]
        rows.append(SheetRow(f"direction {number}", scans, last.with_data(last.data - first.data)))
    return rows


def _blocks(found: Directions, rows: list[SheetRow], reach: float, config: dict[str, Any]) -> list[Block]:
    from medgan.inference.points import STYLES
    from medgan.report.figures import midplanes
    from medgan.report.html import Commands, Heading, Picture, Table, Text
    from medgan.report.sheets import contact_sheet

    styled = found.space == STYLES
    method = _METHOD.format(
        coordinate="principal component of styles" if styled else "entry of the latent vector",
        styles=_STYLES if styled else "",
    )
    scale = (config["normalisation"]["high"] - config["normalisation"]["low"]) / 2
    table = Table(
        ["Direction", "Change for one standard deviation", "Share of all change, %"],
        [
            [f"{number}", change * scale, 100 * share]
            for number, (change, share) in enumerate(zip(found.changes, found.shares, strict=True), start=1)
        ],
        "Change: root mean square over voxels, in the scans' units; share: of the mean square along all coordinates.",
    )
    blocks: list[Block] = [
        Text("These scans show no real person. For research; not for diagnosis."),
        Heading("Contact sheet"),
        Picture(
            contact_sheet(rows),
            "One row for each direction: a sample moved along it, and the difference of the ends",
            f"Sample 0 of seed {found.seed}, moved by standard deviations of samples. In each row the mid-plane in "
            "which most changes, at the end the last scan less the first, all rows in one colour scale.",
        ),
        Heading("Strength"),
        table,
        Heading("In three planes"),
    ]
    for row in rows:
        picture = midplanes(row.scans, differences=[("last − first", row.difference)])
        blocks += [Heading(row.title.capitalize(), 3), Picture(picture, f"Three mid-planes along {row.title}")]
    command = f"medgan generate MODEL -n 4 --along 1:{reach:g} --directions FILE.json --out moved"
    caption = "Samples moved along the first direction; FILE.json lies beside this page:"
    blocks += [Heading("Use"), Commands([command], caption)]
    return [*blocks, Heading("Method"), Text(method)]

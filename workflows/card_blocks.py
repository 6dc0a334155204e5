"""The evaluation card of synthetic scans in blocks of a page: judgements, pictures, figures with floors, closest pairs.

A card of an older version may lack figures; what is not there is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medgan.report.blocks import (
    Block,
    Heading,
    KeyFigure,
    Measure,
    Measures,
    Picture,
    Span,
    Table,
    Text,
    VerdictCard,
    Verdicts,
    Viewer,
)
from medgan.workflows.closest_blocks import ClosePair, closest_blocks

if TYPE_CHECKING:
    from medgan.volume import Volume

Card = Mapping[str, Any]

_MOST_SHOWN = 6


def verdict_block(card: Card) -> Verdicts:
    """What the card comes to."""
    from medgan.evaluation.verdicts import verdicts

    found = verdicts(card)
    if not card.get("anatomy"):
        found = [verdict for verdict in found if verdict.topic != "anatomy"]
    return Verdicts([VerdictCard(one.topic, one.level, one.sentence) for one in found])


def synthesis_key_figures(card: Card) -> list[KeyFigure]:
    """What synthesis came to."""
    kid, memorization = card["kid"], card["memorization"]
    keys = [KeyFigure("KID to the training scans", kid["value"], f"95 %: {kid['low']:.3g} to {kid['high']:.3g}")]
    if "kid_ratio_to_untrained" in card:
        note = f"untrained generator {card['kid_untrained']['value']:.4g}"
        keys.append(KeyFigure("KID against untrained", f"{card['kid_ratio_to_untrained']:.1f} × lower", note))
    if "kid_linear" in card:
        keys.append(KeyFigure("KID of the linear model", card["kid_linear"]["value"], "where the generator began"))
    flagged = len(memorization["flagged"])
    keys.append(
        KeyFigure("Suspiciously close to a training scan", f"{flagged} of {card['counts']['synthetic']}", "0 is right")
    )
    return keys


def synthesis_blocks(
    card: Card,
    real: Sequence[Volume],
    synthetic: Sequence[Volume],
    pairs: Sequence[tuple[ClosePair, Volume, Volume]] = (),
) -> list[Block]:
    """Pictures and figures of a synthesis evaluation.

    Args:
        card: the figures.
        real: some training scans, to be shown.
        synthetic: some samples, to be shown.
        pairs: samples beside their nearest training scans, closest first.
    """
    return [
        *_scans(card, real, synthetic),
        *_figures(card),
        *closest_blocks(card, pairs),
        *_anatomy(card),
        *_classes(card),
    ]


def _scans(card: Card, real: Sequence[Volume], synthetic: Sequence[Volume]) -> list[Block]:
    """Grids of both kinds, and the viewer."""
    from medgan.report.figures import sample_grid

    shape, counts = " × ".join(map(str, card["shape"])), card["counts"]
    shown = [(f"Synthetic {n}", volume) for n, volume in enumerate(synthetic[:2])]
    shown += [(f"Real {n}", volume) for n, volume in enumerate(real[:2])]
    return [
        Heading("Scans"),
        Text(
            f"{counts['synthetic']} synthetic scans of {shape} voxels against {counts['real']} training scans"
            + (f" and {counts['holdout']} that were held out" if counts.get("holdout") else "")
            + ". The synthetic scans show no real person."
        ),
        Picture(
            sample_grid(real, synthetic, most=_MOST_SHOWN),
            "Mid-planes of real and synthetic scans",
            "Real scans, then synthetic ones; the first of each set, not the best. Each in its own grey scale.",
        ),
        Viewer(shown, "Click or drag to move the cross-hair; arrow keys step, Page Up and Page Down change the plane."),
    ]


def _figures(card: Card) -> list[Block]:
    """Everything that has a floor, with its floor."""
    rows = [
        *_distances(card),
        *_coverage(card),
        Measure(
            "Likeness among themselves (MS-SSIM)",
            "1 for identical scans; higher than real: less diverse",
            Span(card["diversity"]["mean"]),
            Span(card["real_diversity"]["mean"]),
        ),
        *_neighbours(card),
    ]
    caption = f"Features: {card['encoder']}. Distances compare within one encoder and one number of scans only."
    blocks: list[Block] = [
        Heading("Figures"),
        Text(
            "Each figure stands beside its floor: the same calculation between real scans and other real scans. Up to "
            "a ratio of about 1 the synthetic scans cannot be told from real ones by that figure."
        ),
        Measures(rows, caption),
    ]
    warning = (card.get("frechet") or {}).get("warning")
    if warning:
        blocks.append(Text(f"Of the Fréchet distance: {warning}"))
    blocks += _spectrum(card)
    return blocks


def _distances(card: Card) -> list[Measure]:
    """The distances between the sets, each over the upper end of its floor."""
    from medgan.evaluation.verdicts import ratio_of

    matched = card.get("matched", {})
    known = [
        ("kid", "KID", "kernel distance of features, 0 is best", card.get("kid")),
        ("mmd", "MMD", "the same with a Gaussian kernel, 0 is best", card.get("mmd")),
        ("frechet", "Fréchet distance", "of features, lower is better", matched.get("frechet") or card.get("frechet")),
        (
            "intensity",
            "Intensity distance",
            "between the histograms, lower is better",
            matched.get("intensity") or card.get("intensity_distance"),
        ),
        (
            "spectrum",
            "Spectrum distance (dB)",
            "of detail of all sizes, lower is better",
            matched.get("spectrum") or card.get("spectrum_distance"),
        ),
    ]
    return [
        Measure(name, meaning, _span(value), _span(card.get(f"{key}_floor")), ratio_of(card, key))
        for key, name, meaning, value in known
        if value is not None
    ]


def _coverage(card: Card) -> list[Measure]:
    """Precision, recall, density and coverage."""
    ours, floor, ratios = card.get("coverage") or {}, card.get("coverage_floor") or {}, card.get("ratios", {})
    meanings = {
        "precision": "part of the synthetic scans that lie among real ones, higher is better",
        "recall": "part of the real scans that lie among synthetic ones, higher is better",
        "density": "how thickly real scans surround the synthetic ones, about 1 is right",
        "coverage": "part of the real scans with a synthetic one near, higher is better",
    }
    return [
        Measure(name.capitalize(), meaning, _span(ours[name]), _span(floor.get(name)), ratios.get(name))
        for name, meaning in meanings.items()
        if name in ours
    ]


def _neighbours(card: Card) -> list[Measure]:
    """Distance to the nearest training scan, in units of what the reference shows."""
    audit = card["memorization"]
    return [
        Measure(
            f"Distance to the nearest training scan, by {name}",
            f"median, in units of that of {audit['reference']}; well below 1 is too close",
            Span(audit[name]["median_ratio"]),
            Span(1.0),
            audit[name]["median_ratio"],
        )
        for name in ("features", "voxels")
        if name in audit
    ]


def _spectrum(card: Card) -> list[Block]:
    """Mean spectra of both sets."""
    spectrum = card.get("spectrum")
    if not spectrum or len(spectrum["frequencies"]) < 2:
        return []
    from medgan.report.charts import lines

    unit = "cycles per mm" if spectrum["unit"] == "1/mm" else "cycles per voxel"
    series = {name: list(zip(spectrum["frequencies"], spectrum[name], strict=True)) for name in ("real", "synthetic")}
    picture = lines(series, across=unit, up="power (dB)")
    text = "Detail of all sizes. Synthetic below real on the right: blurred; above: noise or a pattern of voxels."
    return [Picture(picture, "Mean radial power spectra of real and synthetic scans", text, chart=True)]


def _anatomy(card: Card) -> list[Block]:
    """Volumes of regions."""
    anatomy = card.get("anatomy")
    if not anatomy or not anatomy.get("regions"):
        return []
    from medgan.report.charts import paired_dots

    rows = [
        Measure(
            region["name"],
            f"{_spread(region, 'synthetic')} ml, real {_spread(region, 'real')} ml",
            _span(region["matched"]),
            _span(region["floor"]),
            region["ratio"],
        )
        for region in anatomy["regions"]
    ]
    volumes = {region["name"]: (region["real_ml"], region["synthetic_ml"]) for region in anatomy["regions"][:12]}
    return [
        Heading("Anatomy"),
        Text(f"Volumes of regions as {anatomy['segmentation']} finds them in real and in synthetic scans."),
        Measures(rows, "Wasserstein distance between the volumes, in ml: by how much they would have to change."),
        Picture(
            paired_dots(volumes, names=("real", "synthetic"), label="volume (ml)"),
            "Volumes of regions in real and synthetic scans",
            "A dot for each scan.",
            chart=True,
        ),
    ]


def _spread(region: Card, kind: str) -> str:
    """Mean and standard deviation of a region's volumes."""
    mean, deviation = region[f"{kind}_mean_ml"], region[f"{kind}_deviation_ml"]
    return f"{mean:.0f} ± {deviation:.0f}" if mean >= 100 else f"{mean:.3g} ± {deviation:.2g}"


def _classes(card: Card) -> list[Block]:
    """Distances of each class."""
    classes = card.get("classes")
    if not classes or not classes.get("distances"):
        return []
    rows = [
        [
            one["name"],
            one["real"],
            one["synthetic"],
            *((one.get(key) or {}).get("value") for key in ("kid", "kid_floor")),
        ]
        for one in classes["distances"]
    ]
    caption = f"Kernel distances of each class, by the {classes['source']}; no value for fewer than four scans."
    blocks: list[Block] = [
        Heading("Classes"),
        Table(["Class", "Real scans", "Synthetic scans", "KID", "Floor"], rows, caption),
    ]
    score, real = classes.get("inception_score"), classes.get("real_inception_score")
    if score and real:
        blocks.append(Text(f"Inception score {score['value']:.3g}, of real scans {real['value']:.3g}."))
    return blocks


def _span(estimate: Any) -> Span | None:
    """An estimate of the card, a plain number, or nothing."""
    if estimate is None:
        return None
    if isinstance(estimate, Mapping):
        return Span(estimate["value"], estimate.get("low"), estimate.get("high"))
    return Span(float(estimate))

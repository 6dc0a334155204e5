"""The page that says how useful synthetic scans are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgan.report.html import Block, Cell, KeyFigure
    from medgan.volume import Volume

_NAMES = {"real": "Real alone", "real+synthetic": "Real and synthetic", "synthetic": "Synthetic alone"}


def write_usefulness_page(path: Path, figures: dict[str, Any], columns: Sequence[tuple[str, Volume]]) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        figures: the content of `usefulness.json`.
        columns: titles and scans of one picture; none leaves it out.
    """
    from medgan.report.figures import midplanes
    from medgan.report.html import KeyFigures, Picture, Text, Warning, write_report

    blocks: list[Block] = [
        KeyFigures(_keys(figures)),
        Text(figures["sentence"]),
        *(Warning(caution) for caution in figures["cautions"]),
        *_tables(figures),
    ]
    if columns:
        titled = [(_NAMES.get(name, name.capitalize()), volume) for name, volume in columns]
        caption = "A test scan, its label map, and what the networks of the first seed draw into it."
        blocks.append(
            Picture(midplanes(titled, window=(0.0, 1.0)), "Mid-planes of a test scan and label maps", caption)
        )
    blocks += [*_method(figures), *_descent(figures), *_again(figures)]
    write_report(path, "Usefulness", f"synthetic scans as training data for {figures['task']}", blocks)


def _keys(figures: dict[str, Any]) -> list[KeyFigure]:
    from medgan.report.html import KeyFigure

    measure = figures["measure"]
    keys = []
    for arm, name in _NAMES.items():
        note = {"real": f"{measure}, unseen real scans", "synthetic": "train on synthetic, test on real"}.get(arm)
        if note is None:
            estimate = figures["differences"][0]["estimate"]
            note = f"{estimate['value']:+.4f}, 95 %: {estimate['low']:+.4f} to {estimate['high']:+.4f}"
        keys.append(KeyFigure(name, figures["arms"][arm]["mean"], note))
    return keys


def _tables(figures: dict[str, Any]) -> list[Block]:
    """Arms, and differences between them."""
    from medgan.report.html import Heading, Table

    arms = figures["arms"]
    seeds = [f"Seed {figures['options']['seed'] + number}" for number in range(figures["options"]["seeds"])]
    further = [key for key in arms["real"] if key not in ("mean", "by_seed", "by_label")]
    rows: list[list[Cell]] = [
        [_NAMES[arm], one["mean"], *one["by_seed"], *(one[key] for key in further)] for arm, one in arms.items()
    ]
    columns = ["Trained on", "Mean", *seeds, *(key.replace("_", " ").capitalize() for key in further)]
    differences: list[list[Cell]] = [
        [
            f"{_NAMES[one['second']]} minus {_NAMES[one['first']].lower()}",
            one["measure"],
            one["estimate"]["value"],
            one["estimate"]["low"],
            one["estimate"]["high"],
            "undecided" if one["includes_zero"] else "better" if _is_better(one) else "worse",
        ]
        for one in figures["differences"]
    ]
    caption = (
        f"Paired differences and 95 % intervals ({figures['differences'][0]['estimate']['method']}). Undecided: the "
        "interval includes zero."
    )
    return [
        Heading("Figures"),
        Table(columns, rows, f"{figures['measure']} on real scans that nothing was trained on."),
        Table(["Difference", "Measure", "Value", "From", "To", "Verdict"], differences, caption),
    ]


def _is_better(difference: dict[str, Any]) -> bool:
    return (difference["estimate"]["value"] > 0) == difference["higher_is_better"]


def _method(figures: dict[str, Any]) -> list[Block]:
    from medgan.report.html import Heading, Text

    counts, options = figures["counts"], figures["options"]
    network = "U-Net (MONAI DynUNet)" if figures["task"] == "segmentation" else "DenseNet (MONAI)"
    return [
        Heading("Method"),
        Text(
            f"A small {network} was trained from scratch on {counts['real']} real scans, on these and "
            f"{counts['synthetic']} synthetic ones ({options['share']:.0%} of what it saw), and on the synthetic ones "
            f"alone; {options['seeds']} times each, for {options['steps']} steps of {options['batch_size']} scans. "
            "Weights, order and augmentation (rotations, scalings, deformations, blur, noise, gain, contrast, gamma) "
            "had the same seeds in all. Nothing was chosen by looking at the test: the weights of the last step "
            f"count. {counts['test_scans']} real scans of {counts['test_subjects']} subjects judged.\n\n"
            "The intervals cover the seeds of these trainings and the subjects of the test. They do not cover another "
            "choice of the real training scans, nor another training of the generator."
        ),
    ]


def _descent(figures: dict[str, Any]) -> list[Block]:
    from medgan.report.html import Heading, Table

    titles = {
        "scans": "Synthetic scans",
        "of_training_scans": "made from label maps of real training scans",
        "of_others": "made from other label maps",
        "generators_learned_from": "Real training scans that the generator learned from",
        "generators_learned_elsewhere": "Scans and label maps it learned from that are not in this cohort",
        "unknown": "Synthetic scans of unknown descent",
    }
    rows: list[list[Cell]] = [[title, figures["descent"][key]] for key, title in titles.items()]
    caption = (
        "By hashes of voxels. Had one been a child of a validation or test scan, or of a generator that was trained on "
        "one, nothing would have been trained."
    )
    return [Heading("What the synthetic scans descend from"), Table(["", "Count"], rows, caption)]


def _again(figures: dict[str, Any]) -> list[Block]:
    from medgan.report.html import Commands, Heading

    options = figures["options"]
    names = ("steps", "batch_size", "width", "learning_rate", "seeds", "seed", "share")
    words = [f"--{name.replace('_', '-')} {options[name]}" for name in names]
    words += [f"--{name.replace('_', '-')}" for name in ("flip", "allow_unknown_parents") if options[name]]
    if figures.get("label"):
        words.insert(0, f"--label {figures['label']}")
    line = f"medgan evaluate usefulness --real COHORT --synthetic FOLDER --out again {' '.join(words)}"
    return [Heading("Again"), Commands([line], f"The cohort's manifest: sha256 {figures['manifest_sha256'][:16]}.")]

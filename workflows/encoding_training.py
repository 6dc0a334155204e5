"""What a training of an encoder needs of a cohort, and what it comes to: batches, pictures, evaluation, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.recipe_encoding import EncodingRecipe
from medgan.workflows.assess import Assessment, held_out

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medgan.data.cohort import Cohort
    from medgan.data.patches import Patches
    from medgan.evaluation.encoders import Encoder
    from medgan.report.html import Block, KeyFigure
    from medgan.training.trainer import Tick

# Enough for halves with an interval, few enough for a minute.
_MOST_SCANS, _FEWEST_SCANS = 24, 8
_ENCODERS = {"trained": "Trained", "untrained": "Before training", "random": "Fixed random"}


def encoding_patches(recipe: EncodingRecipe, cohort: Cohort) -> Patches:
    """Batches of the training split."""
    from medgan.data.patches import Patches

    options = recipe.encoding
    return Patches(
        cohort,
        "train",
        patch_shape=(options.patch,) * 3,
        batch_size=recipe.training.batch_size,
        seed=recipe.training.seed,
        flip=True,
        contrast=options.contrast,
    )


def check_encoding(recipe: Any, cohort: Cohort) -> None:
    """Before a training: that there are held-out scans enough to judge the encoder by.

    Args:
        recipe: of any task; others than encoding pass.
        cohort: the scans.

    Raises:
        MedganError: there are fewer than eight.
    """
    if isinstance(recipe, EncodingRecipe) and len(held_out(cohort)) < _FEWEST_SCANS:
        raise MedganError(
            f"an encoder is judged by halves of the held-out scans; the cohort has {len(held_out(cohort))}, at least "
            f"{_FEWEST_SCANS} are needed",
            file=cohort.folder,
            hint="Prepare it with a --split such as 0.8,0.1,0.1, or with more scans.",
        )


def encoding_preview(recipe: EncodingRecipe, cohort: Cohort, device: torch.device) -> Callable[[Tick], bytes]:
    """A patch of a held-out scan as it is and under each kind of degradation in turn, as PNG bytes."""
    import torch

    from medgan.report.figures import montage
    from medgan.training.degradations import DEGRADATIONS
    from medgan.volume import Volume

    patch = torch.from_numpy(_patches(cohort, recipe.encoding.patch, 1)[0])[None, None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        worse = [degrade(patch, torch.tensor([0.7])) for degrade in DEGRADATIONS.values()]
    shown = [Volume(one[0].numpy(), torch.eye(4, dtype=torch.float64).numpy()) for one in (patch, *worse)]

    def draw(tick: Tick) -> bytes:
        return montage(shown, window=(0.0, 1.0))

    return draw


def assess_encoding(model_folder: Path, recipe: EncodingRecipe, cohort: Cohort, device: torch.device) -> Assessment:
    """How plainly the encoder sees each degradation of held-out scans, beside itself before training and the fixed
    random one.
    """
    from medgan.evaluation.features import RandomEncoder
    from medgan.evaluation.sensitivity import sensitivity
    from medgan.evaluation.trained_encoder import TrainedEncoder
    from medgan.training.encoding import encoder_for

    scans = _patches(cohort, recipe.encoding.patch, _MOST_SCANS)
    encoders: dict[str, Encoder] = {
        "trained": TrainedEncoder.from_folder(model_folder),
        "untrained": TrainedEncoder(encoder_for(recipe), "untrained"),
        "random": RandomEncoder(),
    }
    found = {name: sensitivity(one, scans, seed=recipe.training.seed) for name, one in encoders.items()}
    rungs = sum(len(row.strengths) for row in found["trained"])
    seen = {name: sum(row.seen for row in rows) / rungs for name, rows in found.items()}
    figures = {
        "task": "encoding",
        "held_out": len(scans),
        "encoder": encoders["trained"].name,
        "sensitivity": {name: [row.to_dict() for row in rows] for name, rows in found.items()},
        "seen": seen,
    }
    metrics = {f"evaluation/seen/{name}": value for name, value in seen.items()}
    return Assessment(figures, metrics, "evaluation/seen/trained")


def encoding_key_figures(figures: dict[str, Any]) -> list[KeyFigure]:
    """What the training came to."""
    from medgan.report.html import KeyFigure

    seen = figures["seen"]
    note = f"fixed random encoder {seen['random']:.0%}, before training {seen['untrained']:.0%}"
    return [KeyFigure("Degradations that are seen", f"{seen['trained']:.0%}", note)]


def encoding_blocks(figures: dict[str, Any]) -> list[Block]:
    """The table of an encoder's evaluation."""
    from medgan.report.html import Heading, Table, Text

    found = figures["sensitivity"]
    rows: list[list[Any]] = []
    for place, row in enumerate(found["trained"]):
        for name, title in _ENCODERS.items():
            responses = found[name][place]["responses"]
            rows.append([row["kind"], title, *(f"{value:.3g}" for value in responses)])
    steps = range(1, len(found["trained"][0]["responses"]) + 1)
    blocks: list[Block] = [
        Heading("What the encoder sees"),
        Text(
            f"Patches of {figures['held_out']} held-out scans, half of them degraded. Each number is the KID to the "
            "other half above what two undegraded halves have between them, in standard deviations of the latter: "
            "below about 2, the degradation is not seen."
        ),
        Table(["Degradation", "Encoder", *(f"Strength {step}" for step in steps)], rows, "Higher is better."),
    ]
    return blocks


def _patches(cohort: Cohort, side: int, most: int) -> list[np.ndarray]:
    """The middle of held-out scans, normalised; scans with fewer voxels are lengthened by their own reflection."""
    import numpy as np

    from medgan.data.cohort import spread
    from medgan.data.cutting import cut_around
    from medgan.data.intensity import normalise

    patches = []
    for record in spread(held_out(cohort), most):
        voxels = cohort.voxels(record)
        centre = tuple(size // 2 for size in voxels.shape)
        cut, _ = cut_around(voxels, centre, (side,) * 3, 0)
        patches.append(normalise(np.array(cut), record.percentiles["0.5"], record.percentiles["99.5"]))
    return patches

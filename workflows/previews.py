"""The same few scans drawn at every tick, so that a training can be watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from medgan.recipe import SuperResolutionRecipe, SynthesisRecipe

if TYPE_CHECKING:
    import torch

    from medgan.data.cohort import Cohort
    from medgan.training.trainer import Tick

_SAMPLES = 4


def synthesis_preview(recipe: SynthesisRecipe, cohort: Cohort, device: torch.device) -> Callable[[Tick], bytes]:
    """Samples of the averaged generator from fixed latent vectors, as PNG bytes."""
    import torch

    from medgan.networks.labelled import drawn_labels
    from medgan.networks.latents import latents
    from medgan.report.figures import montage
    from medgan.volume import Volume

    affine = cohort.volume(cohort.split("train")[0]).affine

    def draw(tick: Tick) -> bytes:
        size = int(tick.average.latent_size)  # type: ignore[arg-type]
        vectors = latents(recipe.training.seed, range(_SAMPLES), size).to(device)
        with torch.inference_mode():
            told = drawn_labels(tick.average, seed=recipe.training.seed, indices=range(_SAMPLES))
            samples = tick.average(vectors, **told).float().cpu().numpy()
        return montage([Volume(sample, affine) for sample in samples])

    return draw


def restoration_preview(recipe: SuperResolutionRecipe, cohort: Cohort, device: torch.device) -> Callable[[Tick], bytes]:
    """One held-out patch: physics inverse, restored, truth, as PNG bytes."""
    import numpy as np
    import torch

    from medgan.data.intensity import normalise
    from medgan.report.figures import montage
    from medgan.training.phases import Moment
    from medgan.training.restoration import restored_by
    from medgan.training.scanner import FixedScanner, patch_shape_for
    from medgan.volume import Volume

    held_out = cohort.split("validation") or cohort.split("test") or cohort.split("train")
    record = held_out[0]
    voxels = cohort.voxels(record)
    evaluated = recipe.acquisition.model_copy(update={"random": None, "noise": 0.0})
    size = patch_shape_for(evaluated, recipe.super_resolution.patch, voxels.shape)
    first = [(have - want) // 2 for have, want in zip(voxels.shape, size, strict=True)]
    window = tuple(slice(start, start + length) for start, length in zip(first, size, strict=True))
    low, high = record.percentiles["0.5"], record.percentiles["99.5"]
    truth = torch.from_numpy(normalise(np.array(voxels[window]), low, high))[None, None].to(device)
    scanner = FixedScanner(evaluated, size, record.prepared_spacing)
    acquired = scanner.acquired(truth, Moment(0, 0, 0.0))
    affine = np.diag([*record.prepared_spacing, 1.0])

    def draw(tick: Tick) -> bytes:
        with torch.inference_mode():
            restored = restored_by(tick.average, acquired)
        return montage([Volume(part[0].cpu().numpy(), affine) for part in (acquired.start, restored, truth)])

    return draw

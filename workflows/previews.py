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

    from medgan.networks.latents import latents
    from medgan.report.figures import montage
    from medgan.volume import Volume

    vectors = latents(recipe.training.seed, range(_SAMPLES), recipe.network.latent_size).to(device)
    affine = cohort.volume(cohort.split("train")[0]).affine

    def draw(tick: Tick) -> bytes:
        with torch.inference_mode():
            samples = tick.average(vectors).float().cpu().numpy()
        return montage([Volume(sample, affine) for sample in samples])

    return draw


def restoration_preview(recipe: SuperResolutionRecipe, cohort: Cohort, device: torch.device) -> Callable[[Tick], bytes]:
    """One held-out patch: physics inverse, restored, truth, as PNG bytes."""
    import numpy as np
    import torch

    from medgan.data.intensity import normalise
    from medgan.report.figures import montage
    from medgan.training.restoration import acquisition_for, patch_shape_for
    from medgan.volume import Volume

    held_out = cohort.split("validation") or cohort.split("test") or cohort.split("train")
    record = held_out[0]
    voxels = cohort.voxels(record)
    size = patch_shape_for(recipe.acquisition, recipe.super_resolution.patch, cohort.shape)
    first = [(have - want) // 2 for have, want in zip(voxels.shape, size, strict=True)]
    window = tuple(slice(start, start + length) for start, length in zip(first, size, strict=True))
    low, high = record.percentiles["0.5"], record.percentiles["99.5"]
    truth = torch.from_numpy(normalise(np.array(voxels[window]), low, high))[None, None].to(device)
    acquisition = acquisition_for(recipe.acquisition, size, cohort.spacing)
    start_volume = acquisition.inverse(acquisition.forward(truth))
    affine = np.diag([*cohort.spacing, 1.0])

    def draw(tick: Tick) -> bytes:
        with torch.inference_mode():
            restored = tick.average(start_volume).float()
        return montage([Volume(part[0].cpu().numpy(), affine) for part in (start_volume, restored, truth)])

    return draw

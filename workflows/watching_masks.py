"""What the supervisor of a training of label maps to scans sees: whether label map and latent vector matter."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.workflows.mask_to_scan_training import masked_batches

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from medgan.data.cohort import Cohort

_MOST_SCANS = 8


class MaskLook:
    """How scans made for label maps answer to another label map and to another latent vector, at every checkpoint.

    Args:
        recipe: what is trained.
        cohort: the scans with their label maps, of which some of the training split are read at the first look.
        device: where the network is.
    """

    def __init__(self, recipe: MaskToScanRecipe, cohort: Cohort, device: torch.device) -> None:
        self.recipe, self.cohort, self.device = recipe, cohort, device

    def __call__(self, average: nn.Module) -> dict[str, float]:
        """Metrics "samples/..." of the averaged generator."""
        import numpy as np

        from medgan.evaluation.label_intensities import label_response
        from medgan.networks.latents import latents

        scans, numbers, means = self._references
        others = np.roll(numbers, 1, axis=0)
        vectors = latents(self.recipe.training.seed, range(2 * len(scans)), self.recipe.network.latent_size)
        first, second = vectors.split(len(scans))
        made, same, exchanged = (
            self._made(average, latent, chosen)
            for latent, chosen in ((first, numbers), (second, numbers), (first, others))
        )
        between_scans = float(np.abs(scans - np.roll(scans, 1, axis=0)).mean())
        metrics = {}
        if between_scans > 0:
            metrics["samples/latent_response"] = float(np.abs(made - same).mean()) / between_scans
        pairs = list(zip(numbers, others, strict=True))
        response = label_response(list(exchanged - made), pairs, training_means=means)
        if response is not None:
            metrics["samples/label_response"] = response
        return metrics

    def _made(self, network: nn.Module, vectors: Tensor, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """A scan (N, X, Y, Z), normalised, for each latent vector and label map."""
        import torch

        maps = torch.from_numpy(numbers.astype("float32"))[:, None]
        at_once = max(1, self.recipe.training.batch_size // self.recipe.training.accumulation)
        made = []
        with torch.inference_mode():
            for latent, shown in zip(vectors.split(at_once), maps.split(at_once), strict=True):
                made.append(network(latent.to(self.device), shown.to(self.device))[:, 0].float().cpu())
        scans: NDArray[np.float32] = ((torch.cat(made) + 1) / 2).numpy()
        return scans

    @cached_property
    def _references(self) -> tuple[NDArray[np.float32], NDArray[np.int64], dict[int, float]]:
        """Scans (N, X, Y, Z), the numbers of their labels, and the mean intensity inside each of these."""
        import numpy as np

        from medgan.evaluation.label_intensities import mean_inside
        from medgan.workflows.assess import normalised_scans

        records, batches = self.cohort.split("train"), masked_batches(self.recipe, self.cohort)
        count = min(_MOST_SCANS, self.recipe.training.watchdogs.samples, len(records))
        chosen = records[:: max(1, len(records) // count)][:count]
        scans = normalised_scans(self.cohort, chosen)
        numbers = [batches.numbers(record) for record in chosen]
        return np.stack(scans), np.stack(numbers), mean_inside(scans, numbers, range(len(batches.labels)))

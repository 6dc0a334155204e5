"""What the supervisor of a translation sees: patches of the cohort, translated by the averaged networks."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from medgan.recipe_translation import TranslationRecipe
from medgan.workflows.translation_training import translation_patches, translation_plan

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from medgan.data.cohort import Cohort

# Enough for failures that show in every patch, at a few per cent of the training's time.
_MOST_PATCHES = 8
# In normalised intensity: what nobody sees in a scan.
_FAINT = 0.01
_OPPOSITE = {"there": "back", "back": "there"}


class TranslationLook:
    """Metrics of translating networks on patches that never change, cheap enough for every checkpoint.

    Args:
        recipe: what is trained; its watchdogs and stopping rule say what is measured on how many patches.
        cohort: the scans. Patches are cut at the first look.
        device: where the networks are.
    """

    def __init__(self, recipe: TranslationRecipe, cohort: Cohort, device: torch.device) -> None:
        self.recipe, self.cohort, self.device = recipe, cohort, device

    def __call__(self, average: nn.Module) -> dict[str, float]:
        """Metrics "samples/..." of the averaged translators; of two directions the worse one counts."""
        import torch

        training = self.recipe.training
        metrics: dict[str, float] = {}
        with torch.inference_mode():
            if training.watchdogs.mode != "off":
                metrics |= self._watched(average)
            if training.stop is not None:
                source, target = self._judged_pairs
                made = self._made(average["there"], source)  # type: ignore[index]
                metrics["samples/error"] = float((self._inner(made) - self._inner(target)).abs().mean())
        return metrics

    def _watched(self, average: nn.Module) -> dict[str, float]:
        from medgan.evaluation.translation import air_brightness, relative_change

        found: dict[str, list[float | None]] = {"change": [], "air": [], "noise_gain": []}
        parts = dict(zip(_OPPOSITE, self._watched_patches, strict=True))
        ways = [way for way in _OPPOSITE if way in average]  # type: ignore[operator]
        for way in ways:
            source, target = parts[way], parts[_OPPOSITE[way]]
            made = self._made(average[way], source)  # type: ignore[index]
            before, after, wanted = (self._inner(part).numpy() for part in (source, made, target))
            found["change"].append(relative_change(before, after, wanted))
            found["air"].append(air_brightness(before, after))
            if len(ways) > 1:
                found["noise_gain"].append(self._noise_gain(average[_OPPOSITE[way]], made))  # type: ignore[index]
        known = {name: [value for value in values if value is not None] for name, values in found.items()}
        worst = {"change": min, "air": max, "noise_gain": max}
        return {f"samples/{name}": worst[name](values) for name, values in known.items() if values}

    def _noise_gain(self, network: nn.Module, made: Tensor) -> float:
        """How many times larger a faint noise on translated patches is when these have come back, by the median over
        voxels: an honest way back may be steep here and there, as at the edge of air.
        """
        import torch

        random = torch.Generator().manual_seed(self.recipe.training.seed)
        noise = _FAINT * torch.randn(made.shape, generator=random)
        difference = self._made(network, made + noise) - self._made(network, made)
        return float(self._inner(difference).abs().median() / self._inner(noise).abs().median())

    def _made(self, network: nn.Module, patches: Tensor) -> Tensor:
        """What a network makes of patches (N, 1, X, Y, Z)."""
        import torch

        parts = patches.split(max(1, self.recipe.training.batch_size))
        return torch.cat([network(part.to(self.device)).float().cpu() for part in parts])

    def _inner(self, volumes: Tensor) -> Tensor:
        """The part of patches that is judged in training."""
        margin = self.recipe.translation.margin
        inside = slice(margin, -margin if margin else None)
        return volumes[..., inside, inside, inside]

    @cached_property
    def _watched_patches(self) -> tuple[Tensor, Tensor]:
        """Sources and targets of the training split, (N, 1, X, Y, Z)."""
        count = min(_MOST_PATCHES, self.recipe.training.watchdogs.samples)
        plan = replace(translation_plan(self.recipe), batch_size=count, flip=False)
        source, target = translation_patches(self.recipe, self.cohort, plan).batch(0).voxels.split(1, dim=1)
        return source, target

    @cached_property
    def _judged_pairs(self) -> tuple[Tensor, Tensor]:
        """Sources and targets of the pairs that the stopping rule names, (N, 1, X, Y, Z)."""
        from medgan.data.pair_patches import PairedPatches
        from medgan.data.pairs import paired

        rule = self.recipe.training.stop
        assert rule is not None
        pairs = paired(self.cohort, rule.split, self.recipe.source, self.recipe.target).pairs
        plan = replace(translation_plan(self.recipe), batch_size=rule.samples, flip=False)
        source, target = PairedPatches(self.cohort, pairs, plan).batch(0).voxels.split(1, dim=1)
        return source, target

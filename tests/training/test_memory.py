"""The estimate of a training's memory, held against what PyTorch's allocator reports of the training itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from medgan.geometry import Shape
from medgan.recipe import AnyRecipe, SuperResolutionRecipe, SynthesisRecipe
from medgan.recipe_files import load_recipe
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.recipe_translation import TranslationRecipe
from medgan.training.batches import LabelledVolumes
from medgan.training.kinds import synthesis_objective
from medgan.training.mask_to_scan import MaskToScanObjective
from medgan.training.memory import TrainingMemory, resized, training_memory
from medgan.training.phases import Objective
from medgan.training.restoration import RestorationObjective
from medgan.training.trainer import Trainer
from medgan.training.translation import translation_objective

CPU = torch.device("cpu")
SHAPE, SPACING = (24, 24, 24), (1.0, 1.0, 1.0)
SMALL = ["training.batch_size=2", "network.width=8", "network.max_width=32", "training.mode=exact"]
TRAININGS = {
    "dcgan": ["dcgan"],
    "r3gan exact": ["r3gan", "network.group_width=0"],
    "r3gan estimated": ["r3gan", "network.group_width=0", "synthesis.penalty.form=finite_difference"],
    "stylegan": ["stylegan"],
    # With fewer latent numbers and larger batches its activations count beside its weights.
    "hagan": ["hagan", "network.latent_size=8", "training.batch_size=4"],
    "recomputed": ["dcgan", "training.recompute=true"],
    "progressive": ["progressive"],
    "in parts": ["r3gan", "network.group_width=0", "training.batch_size=4", "training.accumulation=2"],
    "recomputed with an exact penalty": ["r3gan", "network.group_width=0", "training.recompute=true"],
}
QUICK = ("dcgan", "r3gan estimated", "hagan")


OTHERS = {
    "pix2pix": ["translation/pix2pix", "translation.patch=[16,16,16]", "translation.penalty.interval=1"],
    "cyclegan": ["translation/cyclegan", "translation.patch=[16,16,16]", "translation.pool_size=4"],
    "mask_to_scan": ["synthesis/mask_to_scan", "network.width=8", "network.max_width=16"],
    "super_resolution": ["super_resolution/quickstart", "super_resolution.patch=[24,24,24]"],
    "super_resolution with texture": [
        "super_resolution/esrgan3d",
        "super_resolution.patch=[24,24,24]",
        "super_resolution.adversarial.penalty.interval=1",
        "super_resolution.adversarial.perceptual_weight=0",
        "network.blocks=1",
        "network.channels=16",
        "network.growth=8",
    ],
}
NARROW = {
    "translation": ["network.channels=8", "translation.discriminator_width=8"],
    "mask_to_scan": ["network.discriminator_width=8"],
    "super_resolution": ["super_resolution.adversarial.discriminator_width=8"],
}


def _other(name: str) -> tuple[AnyRecipe, Objective, Tensor]:
    """A recipe of another task, its objective, and one of its examples."""
    recipe_name, *changed = OTHERS[name]
    task = load_recipe(recipe_name).task
    recipe = load_recipe(recipe_name, ["training.batch_size=2", "training.mode=exact", *changed, *NARROW[task]])
    if isinstance(recipe, TranslationRecipe):
        sides = [side + 2 * recipe.translation.margin for side in recipe.translation.patch]
        return recipe, translation_objective(recipe, spacing=SPACING, device=CPU), torch.rand(1, 2, *sides)
    if isinstance(recipe, MaskToScanRecipe):
        masked = MaskToScanObjective(recipe, labels=(0, 1, 2), shape=SHAPE, spacing=SPACING, device=CPU)
        return recipe, masked, torch.cat((torch.rand(1, 1, *SHAPE), torch.randint(0, 3, (1, 1, *SHAPE)).float()), 1)
    assert isinstance(recipe, SuperResolutionRecipe)
    patch = recipe.super_resolution.patch
    return recipe, RestorationObjective(recipe, patch=patch, spacing=SPACING, device=CPU), torch.rand(1, 1, *patch)


@pytest.mark.slow
@pytest.mark.parametrize("training", OTHERS)
def test_the_estimate_of_other_tasks_is_within_a_quarter_too(training: str, tmp_path: Path) -> None:
    recipe, objective, example = _other(training)
    estimated = training_memory(objective, recipe.training, example)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        recipe, objective, example = _other(training)
        options = recipe.training
        source = _Repeated(example.expand(options.batch_size, -1, -1, -1, -1))
        trainer = Trainer(objective, source, options, device=CPU, checkpoints=tmp_path)
        trainer.images = objective.images - 2 * options.batch_size
        trainer.run()
    assert estimated.total == pytest.approx(_most_held(profiler), rel=0.25)


class _Repeated:
    def __init__(self, batch: Tensor) -> None:
        self.batch = batch

    def stream(self, position: int):  # type: ignore[no-untyped-def]
        while True:
            yield self.batch.clone()


def _recipe(name: str, *changed: str) -> SynthesisRecipe:
    recipe = load_recipe(f"synthesis/{name}", [*SMALL, *changed])
    assert isinstance(recipe, SynthesisRecipe)
    return recipe


def _estimated(recipe: SynthesisRecipe, precision: torch.dtype | None = None, shape: Shape = SHAPE) -> TrainingMemory:
    objective = synthesis_objective(recipe, shape=shape, spacing=SPACING, device=CPU)
    return training_memory(objective, recipe.training, torch.zeros(1, 1, *shape), precision=precision)


class _Batches:
    def __init__(self, size: int) -> None:
        self.size = size

    def stream(self, position: int):  # type: ignore[no-untyped-def]
        while True:
            yield torch.rand(self.size, 1, *SHAPE)


def _measured(recipe: SynthesisRecipe, folder: Path) -> int:
    """Most bytes that the allocator held while networks were made and trained for two steps, the last ones."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        objective = synthesis_objective(recipe, shape=SHAPE, spacing=SPACING, device=CPU)
        source = _Batches(recipe.training.batch_size)
        trainer = Trainer(objective, source, recipe.training, device=CPU, checkpoints=folder)
        trainer.images = objective.images - 2 * recipe.training.batch_size
        trainer.run()
    return _most_held(profiler)


def _most_held(profiler: profile) -> int:
    """The largest sum of what the allocator had given out and not got back."""
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held, most = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


@pytest.mark.parametrize(
    "training", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in TRAININGS]
)
def test_the_estimate_is_within_a_quarter_of_the_measured_peak(training: str, tmp_path: Path) -> None:
    # With an interval of 1 every step has the penalty, whichever the last two are.
    recipe = _recipe(*TRAININGS[training], "synthesis.penalty.interval=1")
    measured, estimated = _measured(recipe, tmp_path), _estimated(recipe)
    assert estimated.total == pytest.approx(measured, rel=0.25)
    assert estimated.activations > 0.15 * measured


def test_what_stays_is_counted_exactly() -> None:
    recipe = _recipe("r3gan", "network.group_width=0")
    shape = (8, 8, 8)
    networks = synthesis_objective(recipe, shape=shape, spacing=SPACING, device=CPU).networks
    parameters = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    buffers = {name: sum(b.numel() for b in network.buffers()) for name, network in networks.items()}
    memory = _estimated(recipe, shape=shape)
    both = sum(parameters.values())
    assert memory.weights == 4 * (both + sum(buffers.values()))
    assert memory.average == 4 * (parameters["generator"] + buffers["generator"])
    assert memory.gradients == 4 * both
    counters = sum(len(list(network.parameters())) for network in networks.values())
    assert memory.moments == 4 * (2 * both + counters)
    assert memory.total == sum((memory.weights, memory.average, memory.gradients, memory.moments, memory.activations))


def test_savings_save_what_they_promise() -> None:
    fixed = ("training.batch_size=8", "network.group_width=0", "network.blocks=1")

    def activations(*changed: str, precision: torch.dtype | None = None) -> int:
        # Two stages are enough.
        return _estimated(_recipe("r3gan", *fixed, *changed), precision, (8, 8, 8)).activations

    whole = activations()
    assert activations("training.batch_size=4") == pytest.approx(0.5 * whole, rel=0.1)
    assert 0.125 * whole < activations("training.accumulation=8") < 0.3 * whole
    assert activations("synthesis.penalty.form=finite_difference") < 0.95 * whole
    assert activations("training.recompute=true") < 0.95 * whole
    # The exact penalty stays in float32, so half precision halves less than the whole.
    assert 0.5 * whole < activations(precision=torch.bfloat16) < 0.98 * whole
    alone = activations("synthesis.penalty.kind=none")
    assert activations("synthesis.penalty.kind=none", precision=torch.bfloat16) < 0.7 * alone


def test_batches_of_any_kind_are_made_larger() -> None:
    example = LabelledVolumes(torch.ones(1, 1, 4, 5, 6), torch.ones(1, 3))
    larger = resized(example, 7, (8, 9, 10))
    assert (larger.volumes.shape, larger.labels.shape) == ((7, 1, 8, 9, 10), (7, 3))
    with pytest.raises(TypeError, match="not list"):
        resized([1, 2], 3)

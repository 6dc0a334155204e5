"""The objectives of translation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage
from torch import Tensor

from medgan.adversarial.losses import LOSSES
from medgan.errors import MedganError
from medgan.recipe_files import load_recipe
from medgan.recipe_translation import TranslationRecipe
from medgan.training.trainer import Trainer
from medgan.training.translation import (
    PairedTranslationObjective,
    UnpairedTranslationObjective,
    _TranslationObjective,
    translation_objective,
)

CPU = torch.device("cpu")
SIDE = 12
PATCH, MARGIN = (8, 8, 8), 2


def _recipe(method: str, images: int = 24, network: dict[str, Any] | None = None, **options: Any) -> TranslationRecipe:
    content = {
        "task": "translation",
        "network": {"channels": 4, "levels": 2, **(network or {})},
        "translation": {
            "method": method,
            "images": images,
            "patch": PATCH,
            "margin": MARGIN,
            "discriminator_width": 4,
            "pool_size": 3,
            **options,
        },
        "training": {"batch_size": 2, "mode": "exact", "tick_steps": 4, "gradient_clip": 10.0},
    }
    return TranslationRecipe.model_validate(content)


def _objective(recipe: TranslationRecipe) -> Any:
    return translation_objective(recipe, spacing=(1.0, 1.0, 1.0), device=CPU)


class _Batches:
    """Batch k is noise that depends on k alone."""

    def stream(self, position: int) -> Iterator[Tensor]:
        while True:
            yield torch.rand(2, 2, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(position))
            position += 1


def _trainer(folder: Path, objective: Any) -> Trainer:
    return Trainer(objective, _Batches(), objective.recipe.training, device=CPU, checkpoints=folder / "checkpoints")


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    networks = {**trainer.objective.networks, "average": trainer.average}
    return {f"{key}.{name}": value.clone() for key, net in networks.items() for name, value in net.state_dict().items()}


@pytest.mark.parametrize(("method", "optimizer"), [("pix2pix", "muon"), ("cyclegan", "adam")])
def test_stopping_and_resuming_equals_never_stopping(tmp_path: Path, method: str, optimizer: str) -> None:
    # Enough steps for the penalty's interval and for pools that are full.
    recipe = _recipe(method, images=12, optimizer=optimizer)
    straight = _trainer(tmp_path / "straight", _objective(recipe))
    straight.run()
    _trainer(tmp_path / "stopped", _objective(recipe)).run(stop_after=3)
    resumed = _trainer(tmp_path / "stopped", _objective(recipe))
    resumed.resume()
    assert resumed.step == 3
    resumed.run()
    first, second = _weights(straight), _weights(resumed)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_a_checkpoint_holds_the_pools() -> None:
    objective = _objective(_recipe("cyclegan"))
    objective.discriminator_loss(next(_Batches().stream(0)), _moment())
    names = dict(objective.networks["pools"].state_dict())
    assert {"there.samples", "there.count", "back.samples", "back.count"} == set(names)
    assert int(names["there.count"]) == int(names["back.count"]) == 2
    assert names["there.samples"].shape == (3, 1, *PATCH)


def _moment() -> Any:
    from medgan.training.phases import Moment

    return Moment(0, 0, 0.0)


@pytest.mark.parametrize("method", ["pix2pix", "cyclegan"])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_reaches_every_parameter(method: str, loss: str) -> None:
    objective = _objective(_recipe(method, loss=loss))
    volumes = next(_Batches().stream(0))
    objective.translator_loss(volumes, _moment())[0].backward()
    judged, reported = objective.discriminator_loss(volumes, _moment())
    judged.backward()
    assert {name.removesuffix("_there") for name in reported} >= {"r1", "adversarial"}
    for part in (objective.translators, objective.discriminators):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name


def test_what_lies_in_the_margin_is_not_judged() -> None:
    objective = _objective(_recipe("pix2pix"))
    # In training each look moves the estimate of the spectral norm.
    objective.discriminators.eval()
    volumes = next(_Batches().stream(0))
    changed = volumes.clone()
    changed[:, 1] += 1.0
    inside = slice(MARGIN, -MARGIN)
    changed[:, 1, inside, inside, inside] = volumes[:, 1, inside, inside, inside]
    assert torch.equal(
        objective.translator_loss(volumes, _moment())[0], objective.translator_loss(changed, _moment())[0]
    )


def test_the_losses_are_the_published_ones() -> None:
    """With translators that return their input everything is known: cycle and identity are zero or the difference."""
    objective = _objective(_recipe("cyclegan", margin=0, patch=(12, 12, 12)))
    objective.translators["there"] = torch.nn.Identity()
    objective.translators["back"] = torch.nn.Identity()
    volumes = next(_Batches().stream(0))
    _, reported = objective.translator_loss(volumes, _moment())
    assert float(reported["cycle"]) == 0
    assert float(reported["identity"]) == 0
    objective.translators["there"] = _Plus(0.25)
    objective.translators["back"] = _Plus(0.5)
    loss, reported = objective.translator_loss(volumes, _moment())
    assert float(reported["cycle"]) == pytest.approx(2 * 0.75)
    assert float(reported["identity"]) == pytest.approx(0.75)
    expected = float(reported["adversarial"].detach()) + 10 * 1.5 + 5 * 0.75
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


class _Plus(torch.nn.Module):
    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset


def test_methods_are_told_apart_and_the_game_can_be_left_out() -> None:
    paired, unpaired = _objective(_recipe("pix2pix")), _objective(_recipe("cyclegan"))
    assert isinstance(paired, PairedTranslationObjective)
    assert isinstance(unpaired, UnpairedTranslationObjective)
    assert issubclass(PairedTranslationObjective, _TranslationObjective)
    assert list(paired.translators) == ["there"]
    assert list(unpaired.translators) == ["there", "back"]
    assert [phase.name for phase in _objective(_recipe("pix2pix", adversarial_weight=0)).phases] == ["translator"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adversarial_weight": 0, "method": "cyclegan"}, "learns to change nothing"),
        ({"adversarial_weight": 0, "pixel_weight": 0}, "nothing would be learned"),
        ({"patch": (4, 16, 16)}, "at least 8 voxels"),
    ],
)
def test_recipes_that_teach_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TranslationRecipe.model_validate({"task": "translation", "translation": options})


def test_equal_contrasts_and_unknown_fields_are_refused() -> None:
    with pytest.raises(MedganError, match="nothing to translate"):
        load_recipe("translation/pix2pix", ["target=t1w"])
    with pytest.raises(MedganError, match=r"unknown field 'translation\.cycle'.*cycle_weight"):
        load_recipe("translation/cyclegan", ["translation.cycle=3"])


@pytest.mark.parametrize("name", ["translation/pix2pix", "translation/cyclegan"])
def test_shipped_recipes_load_and_stretch(name: str) -> None:
    recipe = load_recipe(name)
    assert isinstance(recipe, TranslationRecipe)
    assert recipe.with_steps(10).images == 10 * recipe.training.batch_size


def _pair(seed: int, side: int = 24) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Blobs of all intensities, and what no map of intensities makes of them: one that is not monotone, plus the
    difference to the surroundings.
    """
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((side,) * 3), 1.2, mode="wrap")
    source = ndimage.gaussian_filter(rng.standard_normal((side,) * 3), 3.0, mode="wrap")
    source = np.clip(0.5 + 0.8 * source / source.std() * 0.25 + 0.08 * field / field.std(), 0, 1)
    local = source - ndimage.gaussian_filter(source, 1.0)
    target = 0.5 + 0.35 * np.cos(2 * np.pi * source) + 3.0 * local
    return source.astype(np.float32), target.astype(np.float32)


class _Pairs:
    """Patches of phantoms, a function of the position."""

    def __init__(self) -> None:
        self.volumes = [np.stack(_pair(seed)) for seed in range(6)]

    def stream(self, position: int) -> Iterator[Tensor]:
        while True:
            rng = np.random.default_rng(position)
            cuts = []
            for _ in range(2):
                x, y, z = rng.integers(0, 24 - 16 + 1, 3)
                cuts.append(self.volumes[rng.integers(6)][:, x : x + 16, y : y + 16, z : z + 16])
            yield torch.from_numpy(np.stack(cuts))
            position += 1


def test_pix2pix_beats_the_best_map_of_intensities(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "patch": (12, 12, 12), "optimizer": "muon", "ema_images": 40, "learning_rate": {"start": 0.01, "end": 0.001},
    }  # fmt: skip
    recipe = _recipe("pix2pix", images=2 * 60, network={"channels": 8}, **options)
    objective = _objective(recipe)
    trainer = Trainer(objective, _Pairs(), recipe.training, device=CPU, checkpoints=tmp_path)
    average = trainer.run().average
    # The best map: the mean of the target in 256 bins of the source, over all training volumes.
    sources, targets = (np.concatenate([one[side].ravel() for one in _Pairs().volumes]) for side in (0, 1))
    bins = np.clip((sources * 256).astype(int), 0, 255)
    counts = np.maximum(np.bincount(bins, minlength=256), 1)
    table = np.bincount(bins, targets, minlength=256) / counts
    source, truth = _pair(100)
    inside = (slice(4, -4),) * 3
    mapped = table[np.clip((source * 256).astype(int), 0, 255)]
    with torch.inference_mode():
        made = average["there"](torch.from_numpy(source)[None, None])[0, 0].numpy()  # type: ignore[index]
    errors = {name: float(np.square(one - truth)[inside].mean()) for name, one in (("map", mapped), ("made", made))}
    gain = 10 * np.log10(errors["map"] / errors["made"])
    assert gain > 2.0, gain

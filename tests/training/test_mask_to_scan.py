"""The objective from label maps to scans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from medgan.adversarial.losses import LOSSES
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.training.mask_to_scan import MaskToScanObjective
from medgan.training.phases import Moment
from medgan.training.trainer import Trainer

CPU = torch.device("cpu")
SHAPE = (9, 11, 8)
LABELS = (0, 1, 7)


def _recipe(images: int = 12, training: dict[str, Any] | None = None, **options: Any) -> MaskToScanRecipe:
    content = {
        "task": "mask_to_scan",
        "network": {"width": 4, "max_width": 8, "base_size": 2, "latent_size": 6, "embedding": 4}
        | {"discriminator_width": 4},
        "mask_to_scan": {"images": images, **options},
        "training": {"batch_size": 2, "mode": "exact", "tick_steps": 4, **(training or {})},
    }
    return MaskToScanRecipe.model_validate(content)


def _objective(recipe: MaskToScanRecipe) -> MaskToScanObjective:
    return MaskToScanObjective(recipe, labels=LABELS, shape=SHAPE, spacing=(1.0, 1.0, 1.0), device=CPU)


class _Batches:
    """Batch k depends on k alone: blocks of labels, and scans that are a third of them."""

    def stream(self, position: int) -> Iterator[Tensor]:
        while True:
            generator = torch.Generator().manual_seed(position)
            blocks = torch.randint(len(LABELS), (2, 1, 3, 3, 3), generator=generator).float()
            labels = torch.nn.functional.interpolate(blocks, SHAPE, mode="nearest")
            yield torch.cat((labels / 3, labels), dim=1)
            position += 1


def _trainer(folder: Path, recipe: MaskToScanRecipe) -> Trainer:
    return Trainer(_objective(recipe), _Batches(), recipe.training, device=CPU, checkpoints=folder / "checkpoints")


def test_stopping_and_resuming_equals_never_stopping(tmp_path: Path) -> None:
    recipe = _recipe(penalty={"kind": "r1+r2", "form": "finite_difference", "interval": 2})
    straight = _trainer(tmp_path / "straight", recipe)
    straight.run()
    _trainer(tmp_path / "stopped", recipe).run(stop_after=3)
    resumed = _trainer(tmp_path / "stopped", recipe)
    resumed.resume()
    assert resumed.step == 3
    resumed.run()
    for name, network in {**straight.objective.networks, "average": straight.average}.items():
        other = resumed.average if name == "average" else resumed.objective.networks[name]
        for key, value in network.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), f"{name}.{key}"


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_reaches_every_parameter(loss: str) -> None:
    objective = _objective(_recipe(loss=loss, pixel_weight=1.0, penalty={"kind": "r1"}))
    volumes, moment = next(_Batches().stream(0)), Moment(0, 0, 0.0)
    made, reported = objective.generator_loss(volumes, moment)
    made.backward()
    assert reported.keys() == {"adversarial", "features", "pixel"}
    judged, reported = objective.discriminator_loss(volumes, moment)
    judged.backward()
    assert "r1" in reported
    for network in objective.networks.values():
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name


def test_the_discriminator_sees_which_label_map_a_scan_belongs_to() -> None:
    # Scans and labels fit, or are those of the other of the two: only a look at both tells.
    objective = _objective(_recipe(discriminator_learning_rate=4e-3))
    batches = _Batches().stream(0)
    phase = next(one for one in objective.phases if one.name == "discriminator")
    for _ in range(30):
        scan, labels = next(batches).split(1, dim=1)
        logits = [objective.discriminator(2 * one - 1, objective._beside(labels)) for one in (scan, scan.flip(0))]
        phase.optimizer.zero_grad()
        LOSSES["hinge"].discriminator(*logits).backward()
        phase.optimizer.step()
    scan, labels = next(batches).split(1, dim=1)
    fits, misfits = (objective.discriminator(2 * one - 1, objective._beside(labels)) for one in (scan, scan.flip(0)))
    assert fits.mean() > misfits.mean() + 0.3


def test_intensities_of_labels_are_learned(tmp_path: Path) -> None:
    recipe = _recipe(images=60, feature_weight=0.0, pixel_weight=50.0, learning_rate=3e-3)
    trainer = _trainer(tmp_path, recipe)
    labels = next(_Batches().stream(1000))[:, 1:]

    def error() -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            made = (trainer.average(torch.randn(2, 6), labels) + 1) / 2
        return sum(abs(float(made[labels == number].mean()) - number / 3) for number in range(3)) / 3

    before = error()
    trainer.run()
    assert error() < before / 2


def test_means_over_parts_of_batches_are_refused() -> None:
    with pytest.raises(ValidationError, match="feature_weight compares means over a whole batch"):
        _recipe(training={"accumulation": 2})
    assert _recipe(training={"accumulation": 2}, feature_weight=0.0).training.accumulation == 2


def test_what_is_exported_says_which_labels_it_knows() -> None:
    objective = _objective(_recipe())
    config, weights = objective.export(objective.generator)
    assert config["task"] == "mask_to_scan"
    assert config["mask_labels"] == [0, 1, 7]
    assert config["network"]["arguments"]["labels"] == 3
    assert weights.keys() == objective.generator.state_dict().keys()

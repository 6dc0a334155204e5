"""A batch in parts gives the gradient of the whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from medgan.adversarial.losses import LOSSES
from medgan.errors import MedganError
from medgan.networks.r3gan import R3Discriminator
from medgan.recipe import SynthesisRecipe, TrainingOptions
from medgan.recipe_files import load_recipe
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.recipe_translation import TranslationRecipe
from medgan.training.accumulation import accumulate_gradients, refuse_mixing
from medgan.training.mask_to_scan import MaskToScanObjective
from medgan.training.phases import Moment, Objective, Phase
from medgan.training.synthesis import SynthesisObjective
from medgan.training.trainer import Trainer
from medgan.training.translation import translation_objective

START = Moment(0, 0, 0.0)


def _discriminator() -> R3Discriminator:
    torch.manual_seed(0)
    network = R3Discriminator(
        shapes=[(4, 4, 4), (8, 8, 8)], channels=[8, 8], out_shape=(8, 8, 8), blocks=1, group_width=0
    )
    for parameter in network.parameters():  # the last convolution of a block starts at zero
        nn.init.normal_(parameter, std=0.1)
    return network


def _phase(network: nn.Module, name: str) -> Phase:
    """Real volumes against fixed deformations of them, with a penalty on the logits' size: means over the batch."""

    def loss(volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        real, generated = network(volumes), network(volumes.flip(2) * 0.5 + 0.1)
        penalty = real.square().mean()
        return LOSSES[name].discriminator(real, generated) + 0.3 * penalty, {"penalty": penalty}

    return Phase("discriminator", network, SGD(network.parameters(), lr=0.01), loss, lambda optimizer, moment: None)


@pytest.mark.parametrize("loss", ["relativistic", "non_saturating", "hinge"])
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_gradients_of_the_parts_add_up_to_that_of_the_whole(loss: str, parts: int) -> None:
    volumes = torch.rand(6, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    network = _discriminator().double()
    phase = _phase(network, loss)
    whole, reported = phase.loss(volumes, START)
    expected = torch.autograd.grad(whole, list(network.parameters()))
    means = accumulate_gradients(phase, volumes, START, parts, contextlib.nullcontext)
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-12, rtol=1e-9)
    assert float(means["loss"]) == pytest.approx(float(whole.detach()), rel=1e-6)
    assert float(means["penalty"]) == pytest.approx(float(reported["penalty"].detach()), rel=1e-6)
    assert not means["loss"].requires_grad


def test_parts_of_unequal_size_count_by_their_volumes() -> None:
    volumes = torch.rand(5, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    network = _discriminator().double()
    phase = _phase(network, "relativistic")
    expected = torch.autograd.grad(phase.loss(volumes, START)[0], list(network.parameters()))
    accumulate_gradients(phase, volumes, START, 2, contextlib.nullcontext)
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-12, rtol=1e-9)


def test_networks_that_mix_the_volumes_of_a_batch_are_refused() -> None:
    mixing = nn.Conv3d(1, 1, 1)
    mixing.mixes_batch = True  # type: ignore[assignment]
    for layer in (nn.BatchNorm3d(1), mixing):
        with pytest.raises(MedganError, match=f"cannot be used with {type(layer).__name__}"):
            refuse_mixing([nn.Conv3d(1, 1, 1), nn.Sequential(layer)])
    refuse_mixing([_discriminator(), nn.InstanceNorm3d(1)])


def test_a_training_in_parts_has_the_weights_of_one_in_whole_batches(tmp_path: Path) -> None:
    class Objective:
        averaged, images = "discriminator", 24

        def __init__(self) -> None:
            self.networks = {"discriminator": _discriminator()}
            self.phases = [_phase(self.networks["discriminator"], "relativistic")]

        def half_life(self, moment: Moment) -> float:
            return 0.0

        def after_step(self, moment: Moment, average: nn.Module) -> None:
            pass

    class Batches:
        def stream(self, position: int):  # type: ignore[no-untyped-def]
            while True:
                yield torch.rand(6, 1, 8, 8, 8, generator=torch.Generator().manual_seed(position))
                position += 1

    results = []
    for parts in (1, 3):
        options = TrainingOptions(batch_size=6, accumulation=parts, mode="exact", tick_steps=2)
        trainer = Trainer(
            Objective(),  # type: ignore[arg-type]
            Batches(),
            options,
            device=torch.device("cpu"),
            checkpoints=tmp_path / str(parts),
        )
        results.append(trainer.run())
    whole, split = (result.average.state_dict() for result in results)
    for name, value in whole.items():
        torch.testing.assert_close(split[name], value, atol=1e-5, rtol=1e-5)
    losses = [result.history["discriminator/loss"] for result in results]
    assert [value for _, value in losses[1]] == pytest.approx([value for _, value in losses[0]], rel=1e-5)


SIDES = (8, 8, 8)
SMALL = [
    "network.width=4",
    "network.max_width=8",
    "network.latent_size=6",
    "network.group_width=0",
    "network.blocks=1",
    "training.batch_size=6",
    "training.mode=exact",
]
GAMES = {
    "relativistic, r1+r2": ["synthesis.loss=relativistic", "synthesis.penalty.kind=r1+r2"],
    "non-saturating, r1": ["synthesis.loss=non_saturating", "synthesis.penalty.kind=r1"],
    "least squares, r2": ["synthesis.loss=least_squares", "synthesis.penalty.kind=r2"],
    "hinge, lazy r1": ["synthesis.loss=hinge", "synthesis.penalty.kind=r1", "synthesis.penalty.interval=4"],
}


def _latents_of(volumes: Tensor, labels: Tensor | None = None) -> Tensor:
    """Latent vectors that depend on each volume alone, so that parts of a batch draw what the whole does."""
    seeds = [int(1e6 * volume.double().abs().mean()) for volume in volumes]
    return torch.stack([torch.randn(6, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _gradients(objective: Objective, options: TrainingOptions, volumes: Tensor, folder: Path) -> dict[str, Tensor]:
    """Gradients of every phase of an objective, and its losses, by name."""
    trainer = Trainer(objective, _Never(), options, device=torch.device("cpu"), checkpoints=folder)
    found: dict[str, Tensor] = {}
    for phase in objective.phases:
        reported = trainer.differentiated(phase, volumes, START)
        found |= {f"{phase.name}/{name}": value.detach().float() for name, value in reported.items()}
        for name, parameter in phase.module.named_parameters():
            assert parameter.grad is not None
            found[f"{phase.name}.{name}"] = parameter.grad.clone()
    return found


class _Never:
    """The source of a trainer that does not run."""

    def stream(self, position: int) -> Iterator[Tensor]:
        return iter(())


def _assert_alike(whole: dict[str, Tensor], split: dict[str, Tensor]) -> None:
    assert whole.keys() == split.keys()
    for name, value in whole.items():
        # Of the largest: sums of float32 in another order.
        atol = 2e-5 * max(1e-3, float(value.abs().max()))
        torch.testing.assert_close(split[name], value, atol=atol, rtol=1e-4, msg=lambda told, at=name: f"{at}: {told}")


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("game", GAMES)
def test_the_whole_game_in_parts_is_the_game_of_the_whole(
    game: str, parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    volumes = torch.rand(6, 1, *SIDES, generator=torch.Generator().manual_seed(1))
    for accumulation in (1, parts):
        recipe = load_recipe("synthesis/r3gan", [*SMALL, *GAMES[game], f"training.accumulation={accumulation}"])
        assert isinstance(recipe, SynthesisRecipe)
        objective = SynthesisObjective(recipe, shape=SIDES, spacing=(1.0, 1.0, 1.0), device=torch.device("cpu"))
        monkeypatch.setattr(objective, "_latents", _latents_of)
        _awake(objective)
        results.append(_gradients(objective, recipe.training, volumes, tmp_path))
    assert any(name.startswith("discriminator/r") and name[-1] in "12" for name in results[0])
    _assert_alike(*results)


@pytest.mark.parametrize("method", ["pix2pix", "mask_to_scan"])
def test_games_of_patches_in_parts(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    random = torch.Generator().manual_seed(1)
    scans, labels = torch.rand(6, 1, *SIDES, generator=random), torch.randint(0, 3, (6, 1, *SIDES), generator=random)
    volumes = torch.cat((scans, labels.float()), dim=1)
    for accumulation in (1, 2):
        objective: Objective
        judges: nn.Module
        loop = ["training.batch_size=6", f"training.accumulation={accumulation}", "training.mode=exact"]
        if method == "pix2pix":
            sizes = ["network.channels=3", "network.levels=2", "translation.margin=0", "translation.patch=[8,8,8]"]
            game = ["translation.penalty.form=exact", "translation.discriminator_width=4"]
            recipe = load_recipe("translation/pix2pix", [*sizes, *loop, *game])
            assert isinstance(recipe, TranslationRecipe)
            paired = translation_objective(recipe, spacing=(1.0, 1.0, 1.0), device=torch.device("cpu"))
            objective, judges = paired, paired.discriminators
            training = recipe.training
        else:
            sizes = ["network.width=4", "network.max_width=8", "network.latent_size=6", "network.embedding=4"]
            game = ["mask_to_scan.feature_weight=0", "mask_to_scan.pixel_weight=1", "mask_to_scan.penalty.kind=r1"]
            masks = load_recipe("synthesis/mask_to_scan", [*sizes, *loop, *game, "network.discriminator_width=4"])
            assert isinstance(masks, MaskToScanRecipe)
            device = torch.device("cpu")
            made = MaskToScanObjective(masks, labels=(0, 1, 2), shape=SIDES, spacing=(1.0, 1.0, 1.0), device=device)
            # One latent vector for all: parts draw what the whole does.
            monkeypatch.setattr(made, "_made", lambda seen, own=made: own.generator(torch.ones(len(seen), 6), seen))
            objective, training, judges = made, masks.training, made.discriminator
        # A spectral norm estimates anew at each pass in training.
        judges.eval()
        results.append(_gradients(objective, training, volumes, tmp_path))
    _assert_alike(*results)


def _awake(objective: SynthesisObjective) -> None:
    """Weights of zero, with which residual blocks begin, are given values: else nothing flows through them."""
    torch.manual_seed(2)
    for network in objective.networks.values():
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)

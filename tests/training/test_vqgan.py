"""The two stages of a VQGAN in one training: they learn, they do not disturb each other, and they resume exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medgan.errors import MedganError
from medgan.networks.latents import latents
from medgan.networks.saved import build_network
from medgan.networks.vqgan import CodeGenerator
from medgan.recipe import SynthesisRecipe
from medgan.recipe_files import load_recipe
from medgan.training.kinds import synthesis_objective
from medgan.training.phases import Moment
from medgan.training.trainer import Trainer
from medgan.training.vqgan import CodeObjective, boundary_of

CPU, SHAPE, SPACING, BATCH = torch.device("cpu"), (9, 11, 8), (1.0, 1.0, 1.2), 4
TINY = [
    "network.width=4",
    "network.max_width=8",
    "network.halvings=2",
    "network.blocks=1",
    "network.codebook_size=8",
    "network.code_channels=4",
    "network.discriminator_width=2",
    "network.prior_width=8",
    "network.prior_layers=1",
    "network.prior_heads=2",
    f"training.batch_size={BATCH}",
    "training.mode=exact",
    "training.tick_steps=1",
]


class _Batches:
    """Batch k is a function of k alone: blobs at one of four places."""

    def stream(self, position: int) -> Iterator[Tensor]:
        axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
        centres = torch.tensor([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
        while True:
            chosen = torch.randint(4, (BATCH,), generator=torch.Generator().manual_seed(position))
            at = centres[chosen][:, :, None, None, None]
            squared = sum((axis - at[:, i]) ** 2 for i, axis in enumerate(axes))
            yield torch.exp(-4 * torch.as_tensor(squared))[:, None]
            position += 1


def _recipe(steps: int, *changed: str) -> SynthesisRecipe:
    recipe = load_recipe("synthesis/vqgan", [*TINY, *changed])
    assert isinstance(recipe, SynthesisRecipe)
    return recipe.with_steps(steps)


def _trainer(folder: Path, steps: int, *changed: str) -> Trainer:
    recipe = _recipe(steps, *changed)
    objective = synthesis_objective(recipe, shape=SHAPE, spacing=SPACING, device=CPU)
    assert isinstance(objective, CodeObjective)
    return Trainer(objective, _Batches(), recipe.training, device=CPU, checkpoints=folder / "checkpoints")


def _objective(trainer: Trainer) -> CodeObjective:
    assert isinstance(trainer.objective, CodeObjective)
    return trainer.objective


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    networks = {**trainer.objective.networks, "average": trainer.average}
    return {f"{key}.{name}": value.clone() for key, net in networks.items() for name, value in net.state_dict().items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights after six steps in one go, three of them for each stage."""
    trainer = _trainer(tmp_path_factory.mktemp("whole"), 6)
    trainer.run()
    return _weights(trainer)


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_resuming_across_the_stages_equals_never_stopping(stop: int, whole: dict[str, Tensor], tmp_path: Path) -> None:
    _trainer(tmp_path, 6).run(stop_after=stop)
    resumed = _trainer(tmp_path, 6)
    resumed.resume()
    resumed.run()
    found = _weights(resumed)
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(found[name], value), name
    assert whole["generator.autoencoder.codebook.sizes"].sum() > 0


def test_each_stage_trains_its_own_networks(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, 8, "synthesis.autoencoding.adversarial_start=0.5")
    start = _weights(trainer)
    assert _objective(trainer).boundary == 4 * BATCH

    def moved(before: dict[str, Tensor], after: dict[str, Tensor], part: str) -> bool:
        return any(not torch.equal(after[name], value) for name, value in before.items() if name.startswith(part))

    trainer.run(stop_after=2)
    alone = _weights(trainer)
    assert moved(start, alone, "autoencoder.stem")
    assert moved(start, alone, "autoencoder.codebook")
    assert not moved(start, alone, "discriminator")
    assert not moved(start, alone, "prior")
    trainer.run(stop_after=4)
    judged = _weights(trainer)
    assert moved(alone, judged, "discriminator")
    assert not moved(start, judged, "prior")
    assert not judged["average.prior_trained"]
    trainer.run()
    end = _weights(trainer)
    assert moved(judged, end, "prior")
    assert moved(judged, end, "average.prior")
    # What the prior learned the codes of is what is kept, to the last bit.
    assert not moved(judged, end, "discriminator")
    assert not moved(judged, end, "autoencoder")
    for name, value in end.items():
        if name.startswith("autoencoder."):
            assert torch.equal(end[f"average.{name}"], value), name
    assert end["average.prior_trained"]
    awake = {name: [step for step, _ in pairs] for name, pairs in trainer.history.items() if name.endswith("/loss")}
    assert awake == {"autoencoder/loss": [1, 2, 3, 4], "discriminator/loss": [3, 4], "prior/loss": [5, 6, 7, 8]}


def test_phases_teach_every_parameter_of_their_networks() -> None:
    # Within the margins of the hinge loss, what real and generated volumes do to the last bias cancels.
    recipe = _recipe(8, "synthesis.loss=non_saturating")
    objective = synthesis_objective(recipe, shape=SHAPE, spacing=SPACING, device=CPU)
    volumes = next(_Batches().stream(0))
    for phase in objective.phases:
        for network in objective.networks.values():
            network.requires_grad_(network is phase.module)
        for parameter in phase.module.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        loss, reported = phase.loss(volumes, Moment(3, 3 * BATCH, 0.4))
        loss.backward()
        assert all(value.isfinite() for value in reported.values())
        for name, parameter in phase.module.named_parameters():
            if name != "codebook.vectors":
                assert parameter.grad is not None, (phase.name, name)
                assert parameter.grad.abs().max() > 0, (phase.name, name)


def test_losses_are_the_weighted_sums_of_what_is_reported() -> None:
    weights = ["reconstruction_weight=3", "commitment_weight=2", "feature_weight=5", "adversarial_start=0.5"]
    recipe = _recipe(8, *(f"synthesis.autoencoding.{weight}" for weight in weights))
    objective = synthesis_objective(recipe, shape=SHAPE, spacing=SPACING, device=CPU)
    assert isinstance(objective, CodeObjective)
    volumes = next(_Batches().stream(0))
    loss, reported = objective.autoencoder_loss(volumes, Moment(0, 0, 0.0))
    assert "adversarial" not in reported
    torch.testing.assert_close(loss, 3 * reported["reconstruction"] + 2 * reported["commitment"])
    loss, reported = objective.autoencoder_loss(volumes, Moment(2, 2 * BATCH, 0.25))
    expected = 3 * reported["reconstruction"] + 2 * reported["commitment"] + reported["adversarial"]
    torch.testing.assert_close(loss, expected + 5 * reported["features"])
    volumes = 2 * volumes - 1
    error = (objective.generator.autoencoder(volumes).volumes - volumes).abs().mean()
    assert reported["reconstruction"].item() == pytest.approx(error.item(), rel=0.2)


def test_it_learns_to_reconstruct_and_to_draw(tmp_path: Path) -> None:
    autoencoding = ["prior_learning_rate=0.005", "prior_share=0.75", "adversarial_start=1", "feature_weight=0"]
    changed = [f"synthesis.autoencoding.{assignment}" for assignment in autoencoding]
    changed += ["synthesis.optimizer.learning_rate=0.01", "synthesis.ema_images=20", "training.tick_steps=10"]
    trainer = _trainer(tmp_path, 320, *changed, "network.prior_width=32", "network.prior_dropout=0")
    result = trainer.run()
    errors = [value for _, value in result.history["autoencoder/reconstruction"]]
    blobs = torch.cat([next(_Batches().stream(position)) for position in range(8)])
    # One volume for all, the best there is: what ignores the codes can do no better.
    one_for_all = (2 * (blobs - blobs.median(dim=0).values)).abs().mean()
    assert errors[-1] < 0.6 * float(one_for_all)
    # Which of the four blobs it is takes two bits, spread over twelve codes.
    assert result.history["prior/bits_per_code"][-1][1] < 1.5 * 2 / 12
    config, weights = _objective(trainer).export(result.average)
    generator = build_network(config["network"]["name"], config["network"]["arguments"])
    generator.load_state_dict(weights)
    assert isinstance(generator, CodeGenerator)
    with torch.inference_mode():
        known = generator.eval().autoencoder.codes(2 * blobs - 1).flatten(1).unique(dim=0)
        drawn = generator.prior.drawn(torch.special.ndtr(latents(0, range(40), generator.latent_size).double()))
    # Of the 8 ** 12 sequences of codes the prior draws the four that there are, mostly, and each of them.
    matches = (drawn[:, None] == known).all(dim=2)
    assert len(known) == 4
    assert matches.any(dim=1).float().mean() > 0.7
    assert matches.any(dim=0).all()


def test_codes_of_the_second_stage_leave_the_codebook_alone() -> None:
    objective = synthesis_objective(_recipe(8), shape=SHAPE, spacing=SPACING, device=CPU)
    assert isinstance(objective, CodeObjective)
    volumes = next(_Batches().stream(0))
    objective.autoencoder_loss(volumes, Moment(0, 0, 0.0))
    before = {name: value.clone() for name, value in objective.generator.autoencoder.state_dict().items()}
    objective.generator.train()
    objective.prior_loss(volumes, Moment(4, 4 * BATCH, 0.5))
    objective.discriminator_loss(volumes, Moment(2, 2 * BATCH, 0.25))
    for name, value in objective.generator.autoencoder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_training_that_ends_before_its_prior_is_not_saved(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, 8)
    result = trainer.run(stop_after=4)
    with pytest.raises(MedganError, match="ended before the prior was trained"):
        trainer.objective.export(result.average)


@pytest.mark.parametrize(("steps", "share", "first"), [(2, 0.5, 1), (2, 0.9, 1), (10, 0.99, 1), (10, 0.3, 7)])
def test_each_stage_gets_whole_steps(steps: int, share: float, first: int) -> None:
    assert boundary_of(_recipe(steps, f"synthesis.autoencoding.prior_share={share}")) == first * BATCH


def test_one_step_is_too_few() -> None:
    with pytest.raises(MedganError, match=r"4 images has 1 step of 4.*one for the autoencoder and one for the prior"):
        synthesis_objective(_recipe(1), shape=SHAPE, spacing=SPACING, device=CPU)


def test_schedules_run_over_their_own_stage() -> None:
    changed: dict[str, Any] = {
        "optimizer.learning_rate": "{start: 0.1, end: 0.0}",
        "optimizer.discriminator_learning_rate": "{start: 0.2, end: 0.0}",
        "autoencoding.prior_learning_rate": "{start: 0.4, end: 0.0}",
    }
    recipe = _recipe(10, *(f"synthesis.{name}={value}" for name, value in changed.items()))
    rates = {}
    for phase in synthesis_objective(recipe, shape=SHAPE, spacing=SPACING, device=CPU).phases:
        rates[phase.name] = []
        for step in (0, 5, 10):
            phase.tune(phase.optimizer, Moment(step, step * BATCH, step / 10))
            rates[phase.name].append(phase.optimizer.param_groups[0]["lr"])
    assert rates["autoencoder"] == pytest.approx([0.1, 0.0, 0.0])
    assert rates["discriminator"] == pytest.approx([0.2, 0.0, 0.0])
    assert rates["prior"] == pytest.approx([0.4, 0.4, 0.0])

"""A generator with an encoder: four networks, each taught by its own phase."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medgan.recipe import SynthesisRecipe
from medgan.recipe_files import load_recipe
from medgan.training.alpha_wgan import AlphaGANObjective
from medgan.training.kinds import synthesis_objective
from medgan.training.phases import Moment
from medgan.training.trainer import Trainer

CPU, SHAPE, SPACING, BATCH = torch.device("cpu"), (9, 11, 8), (1.0, 1.0, 1.2), 4
START = Moment(0, 0, 0.0)
TINY = ["network.width=4", "network.max_width=4", "network.latent_size=5", f"training.batch_size={BATCH}"]


def _recipe(*changed: str) -> SynthesisRecipe:
    recipe = load_recipe("synthesis/alpha_wgan", [*TINY, "training.mode=exact", "training.tick_steps=1", *changed])
    assert isinstance(recipe, SynthesisRecipe)
    return recipe


def _objective(*changed: str, shape: tuple[int, int, int] = SHAPE) -> AlphaGANObjective:
    objective = synthesis_objective(_recipe(*changed), shape=shape, spacing=SPACING, device=CPU)
    assert isinstance(objective, AlphaGANObjective)
    return objective


def _blobs(seed: int = 0, count: int = BATCH) -> Tensor:
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    centres = 0.4 * torch.randn(count, 3, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    squared = sum((axis - centres[:, i]) ** 2 for i, axis in enumerate(axes))
    return torch.exp(-4 * torch.as_tensor(squared))[:, None]


class _Batches:
    def stream(self, position: int) -> Iterator[Tensor]:
        while True:
            yield _blobs(position)
            position += 1


GAMES: list[list[str]] = [
    [],
    ["network.haar_head=true", "network.normalisation=instance", "network.discriminator_normalisation=spectral"],
    ["synthesis.loss=relativistic", "synthesis.penalty.kind=r1+r2"],
    ["synthesis.loss=hinge", "synthesis.penalty={kind: none}", "network.discriminator_normalisation=batch"],
]


@pytest.mark.parametrize("changed", GAMES)
def test_phases_teach_every_parameter_of_their_networks(changed: list[str]) -> None:
    objective = _objective(*changed)
    assert [phase.name for phase in objective.phases] == ["discriminator", "code_discriminator", "encoder", "generator"]
    for phase in objective.phases:
        for network in objective.networks.values():
            network.requires_grad_(network is phase.module)
        loss, reported = phase.loss(_blobs(), START)
        loss.backward()
        assert all(value.isfinite() for value in reported.values())
        for name, parameter in phase.module.named_parameters():
            assert parameter.grad is not None, (phase.name, name)
            # What a difference of mean logits does to the last bias cancels; batch statistics take scale from weights.
            if not (phase.name.endswith("discriminator") and name.startswith("score") and name.endswith("bias")):
                assert parameter.grad.abs().max() > 0, (phase.name, name)
        others = [network for network in objective.networks.values() if network is not phase.module]
        assert all(parameter.grad is None for network in others for parameter in network.parameters())
        phase.module.zero_grad(set_to_none=True)


def test_half_a_batch_is_reconstructed_and_half_is_drawn() -> None:
    objective = _objective("network.normalisation=none")
    seen: list[Tensor] = []
    objective.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    real = 2 * _blobs(count=5) - 1
    volumes = objective._generated(real)
    codes = seen[0]
    assert volumes.shape == real.shape
    torch.testing.assert_close(codes[:3], objective.codes(real[:3]))
    assert not torch.allclose(codes[3:], objective.codes(real[3:]))
    loss, reported = objective.generator_loss(_blobs(count=5), START)
    expected = (objective.generator(codes[:3]) - real[:3]).abs().mean()
    torch.testing.assert_close(reported["reconstruction"], expected)
    torch.testing.assert_close(loss, reported["adversarial"] + 10 * expected)


def test_losses_are_the_weighted_sums_of_what_is_reported() -> None:
    objective = _objective("synthesis.autoencoding={reconstruction_weight: 3, code_weight: 2}")
    loss, reported = objective.encoder_loss(_blobs(), START)
    torch.testing.assert_close(loss, 3 * reported["reconstruction"] + 2 * reported["adversarial"])
    for name in ("discriminator", "code_discriminator"):
        loss, reported = getattr(objective, f"{name}_loss")(_blobs(), START)
        difference = reported["generated_logit"] - reported["real_logit"]
        torch.testing.assert_close(reported["adversarial"], difference)
        torch.testing.assert_close(loss, difference + 10 * reported["gradient_penalty"])


def test_codes_are_told_from_latent_vectors() -> None:
    objective = _objective("network.normalisation=none")
    shown: list[Tensor] = []
    objective.code_discriminator.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    objective.code_discriminator_loss(_blobs(), START)
    latents, codes = shown[0].chunk(2)
    raw = objective.encoder(2 * _blobs() - 1)
    torch.testing.assert_close(codes, raw * 5**0.5 / raw.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-4)
    # Both have the length that a latent vector has on average: what is compared are directions.
    torch.testing.assert_close(latents.norm(dim=1), codes.norm(dim=1), rtol=1e-4, atol=1e-4)
    assert latents.shape == codes.shape
    assert not torch.allclose(latents, codes)


def test_it_learns_to_reconstruct(tmp_path: Path) -> None:
    changed = ["network.normalisation=instance", "synthesis.optimizer.learning_rate=0.005", "training.tick_steps=10"]
    recipe = _recipe(*changed, "synthesis.autoencoding.reconstruction_weight=100").with_steps(120)
    objective = synthesis_objective(recipe, shape=SHAPE, spacing=SPACING, device=CPU)
    result = Trainer(objective, _Batches(), recipe.training, device=CPU, checkpoints=tmp_path).run()
    errors = [value for _, value in result.history["encoder/reconstruction"]]
    # One volume for all, the best there is: what ignores the code can do no better.
    scans = 2 * torch.cat([next(_Batches().stream(position)) for position in range(20)]) - 1
    assert errors[-1] < 0.95 * float((scans - scans.median(dim=0).values).abs().mean())


def test_rates_and_lazy_rescaling_are_the_discriminators() -> None:
    optimizer = "{learning_rate: 0.001, discriminator_learning_rate: 0.004, beta2: 0.99, lazy_rescaling: true}"
    objective = _objective(f"synthesis.optimizer={optimizer}", "synthesis.penalty.interval=4")
    for phase in objective.phases:
        phase.tune(phase.optimizer, START)
        judges = phase.name.endswith("discriminator")
        assert phase.optimizer.param_groups[0]["lr"] == pytest.approx(0.004 * 4 / 5 if judges else 0.001)


def test_discriminator_steps_are_those_of_both(tmp_path: Path) -> None:
    recipe = _recipe("synthesis.discriminator_steps=3").with_steps(2)
    objective = synthesis_objective(recipe, shape=SHAPE, spacing=SPACING, device=CPU)
    trainer = Trainer(objective, _Batches(), recipe.training, device=CPU, checkpoints=tmp_path)
    trainer.run()
    assert (trainer.step, trainer.images) == (2, 2 * 3 * BATCH)
    steps: dict[str, Any] = {}
    for phase in objective.phases:
        steps[phase.name] = max(int(state["step"]) for state in phase.optimizer.state.values())
    assert steps == {"discriminator": 6, "code_discriminator": 6, "encoder": 2, "generator": 2}

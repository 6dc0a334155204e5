"""A batch in parts gives the gradient of the whole."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from medgan.adversarial.losses import LOSSES
from medgan.errors import MedganError
from medgan.networks.r3gan import R3Discriminator
from medgan.training.accumulation import accumulate_gradients, refuse_mixing
from medgan.training.phases import Moment, Phase

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
    from medgan.recipe import TrainingOptions
    from medgan.training.trainer import Trainer

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

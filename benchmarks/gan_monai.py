"""MONAI's own GAN as a peer: its `Generator` and `Discriminator` under its `GanTrainer`, as its tutorials set them up.

Residual units with instance normalisation, cross-entropy, Adam at 2e-4 with a first momentum of 0.5, no averaged
weights. The networks make volumes of a whole number of coarsest voxels; scans are padded to them for training, samples
cropped to the scans.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gan_runs import CostClock
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan.geometry import Shape

LATENT, STAGES, LEARNING_RATE = 64, 3, 2e-4


class _Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    """Padded batches without end."""

    def __init__(self, batches: Iterator[Tensor], shape: Shape) -> None:
        self.batches, self.shape = batches, shape

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.batches:
            yield from _padded(batch, self.shape)


def _padded(batch: Tensor, shape: Shape) -> Tensor:
    """Volumes (B, 1, X, Y, Z) in the middle of larger ones, their faces repeated."""
    sides: list[int] = []
    for small, large in zip(reversed(batch.shape[2:]), reversed(shape), strict=True):
        before = (large - small) // 2
        sides += [before, large - small - before]
    return nn.functional.pad(batch, sides, mode="replicate")


def networks(shape: Shape, width: int) -> tuple[nn.Module, nn.Module]:
    """A generator in 0..1 and a discriminator for volumes whose sides are multiples of eight."""
    from monai.networks.nets import Discriminator, Generator

    wide = [width * 2**level for level in reversed(range(STAGES))]
    start = (wide[0], *(side // 2**STAGES for side in shape))
    generator = Generator(latent_shape=(LATENT,), start_shape=start, channels=(*wide[1:], 1), strides=[2] * STAGES)
    generator.conv.add_module("activation", nn.Sigmoid())
    discriminator = Discriminator(in_shape=(1, *shape), channels=wide[::-1], strides=[2] * STAGES)
    return generator, discriminator


def trained_samples(
    stream: Iterator[Tensor],
    shape: Shape,
    *,
    batch_size: int,
    seconds: float,
    width: int,
    count: int,
    device: torch.device,
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], int]:
    """Train for `seconds` of work (`CostClock`) and sample.

    Returns:
        Samples (X, Y, Z) of the trained generator, of the untrained one, and the steps made.
    """
    from ignite.engine import Events
    from monai.engines import GanTrainer

    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    whole: Any = tuple(-(-side // 2**STAGES) * 2**STAGES for side in shape)
    generator, discriminator = (network.to(device) for network in networks(whole, width))
    before = _samples(generator, shape, count, device)
    cross_entropy = nn.BCELoss()

    def generator_loss(generated: Tensor) -> Tensor:
        judged = discriminator(generated)
        return cross_entropy(judged, torch.ones_like(judged))

    def discriminator_loss(generated: Tensor, real: Tensor) -> Tensor:
        judged, known = discriminator(generated.detach()), discriminator(real)
        of_generated = cross_entropy(judged, torch.zeros_like(judged))
        return (of_generated + cross_entropy(known, torch.ones_like(known))) / 2

    clock = CostClock(device)
    trainer = GanTrainer(
        device,
        10**6,
        torch.utils.data.DataLoader(_Stream(stream, whole), batch_size=batch_size),
        generator,
        torch.optim.Adam(generator.parameters(), LEARNING_RATE, betas=(0.5, 0.999)),
        generator_loss,
        discriminator,
        torch.optim.Adam(discriminator.parameters(), LEARNING_RATE, betas=(0.5, 0.999)),
        discriminator_loss,
        epoch_length=10**6,
        latent_shape=LATENT,
        d_prepare_batch=_as_it_comes,
        decollate=False,
    )

    @trainer.on(Events.ITERATION_COMPLETED)
    def _enough() -> None:
        if clock.seconds() >= seconds:
            trainer.terminate()

    trainer.run()
    return _samples(generator, shape, count, device), before, trainer.state.iteration


def _as_it_comes(batch: Tensor, device: torch.device, non_blocking: bool, **_: Any) -> Tensor:
    return batch.to(device, non_blocking=non_blocking)


def _samples(generator: nn.Module, shape: Shape, count: int, device: torch.device) -> list[NDArray[np.float32]]:
    random = torch.Generator().manual_seed(0)
    generator.eval()
    with torch.inference_mode():
        volumes = [
            generator(torch.randn(1, LATENT, generator=random).to(device))[0, 0].cpu().numpy() for _ in range(count)
        ]
    generator.train()
    cuts = [
        slice((large - small) // 2, (large - small) // 2 + small)
        for large, small in zip(volumes[0].shape, shape, strict=True)
    ]
    return [volume[tuple(cuts)] for volume in volumes]

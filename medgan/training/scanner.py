"""The simulated scanner of a super-resolution training: true patches in, the inverse of their acquisition out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from medgan.acquisition import Acquisition, low_shape_for
from medgan.acquisition.batched import AcquisitionBatch, batch_of
from medgan.acquisition.condition import condition
from medgan.acquisition.drawn import drawn_acquisition, drawn_noise
from medgan.geometry import Shape, Spacing
from medgan.recipe import AcquisitionOptions
from medgan.training.phases import Moment

_DRAWS = 7


@dataclass(frozen=True)
class Acquired:
    """A batch as the scanner saw it.

    Args:
        start: the physics inverse, (B, 1, X, Y, Z) on the grid of the true patches, normalised intensity.
        acquisitions: how each item was acquired.
        condition: the same in numbers, (B, `medgan.acquisition.condition.CONDITIONS`).
    """

    start: Tensor
    acquisitions: AcquisitionBatch
    condition: Tensor


class Scanner(Protocol):
    """Anything that acquires a batch of true patches."""

    def acquired(self, volumes: Tensor, moment: Moment) -> Acquired:
        """(B, 1, X, Y, Z) as seen at this moment of the training."""


class FixedScanner:
    """One and the same acquisition for all patches of one shape.

    Args:
        options: the recipe's.
        patch: voxels of the patches.
        spacing: of the cohort, mm.
    """

    def __init__(self, options: AcquisitionOptions, patch: Shape, spacing: Spacing) -> None:
        self.acquisition = acquisition_for(options, patch, spacing)
        self.noise = options.noise

    def acquired(self, volumes: Tensor, moment: Moment) -> Acquired:
        """See `Scanner.acquired`."""
        return _acquired(volumes, [self.acquisition] * len(volumes), [self.noise] * len(volumes))


class RandomScanner:
    """An acquisition of its own for each patch, a function of (seed, step, place in the batch).

    Args:
        options: the recipe's, with random acquisitions.
        seed: of the training.
    """

    def __init__(self, options: AcquisitionOptions, seed: int) -> None:
        if options.random is None:
            raise ValueError("the options name no random acquisitions")
        self.random, self.regularisation, self.seed = options.random, options.regularisation, seed

    def acquired(self, volumes: Tensor, moment: Moment) -> Acquired:
        """See `Scanner.acquired`."""
        x, y, z = volumes.shape[2:]
        generators = [np.random.default_rng([self.seed, _DRAWS, moment.step, item]) for item in range(len(volumes))]
        acquisitions = [
            drawn_acquisition(self.random, (x, y, z), rng, regularisation=self.regularisation) for rng in generators
        ]
        return _acquired(volumes, acquisitions, [drawn_noise(self.random, rng) for rng in generators])


def _acquired(volumes: Tensor, acquisitions: list[Acquisition], noise: list[float]) -> Acquired:
    batch = batch_of(acquisitions)
    with torch.no_grad(), torch.autocast(volumes.device.type, enabled=False):
        low = batch.forward(volumes)
        if any(noise):
            strength = torch.tensor(noise, device=low.device).view(-1, 1, 1, 1, 1)
            low = low + strength * torch.randn_like(low) * batch.measured(low.device)
        numbers = torch.tensor([condition(one) for one in acquisitions], device=volumes.device)
        return Acquired(batch.inverse(low), batch, numbers)


def patch_shape_for(options: AcquisitionOptions, patch: Shape, cohort_shape: Shape) -> Shape:
    """The training patch: no larger than the scans, and a whole number of low-resolution voxels along each axis."""
    if options.random is not None:
        return patch
    shape = []
    for size, available, factor in zip(patch, cohort_shape, options.factor, strict=True):
        size = min(size, available)
        shape.append(max(1, int(int(size / factor) * factor)))
    return shape[0], shape[1], shape[2]


def acquisition_for(options: AcquisitionOptions, high_shape: Shape, high_spacing: Spacing) -> Acquisition:
    """The simulated scanner for high-resolution volumes of one shape (voxels) and spacing (mm)."""
    low_shape = low_shape_for(high_shape, options.factor)
    x, y, z = (
        None if high == low else spacing * high / low * options.thickness
        for spacing, high, low in zip(high_spacing, high_shape, low_shape, strict=True)
    )
    return Acquisition.between(
        high_shape,
        low_shape,
        high_spacing=high_spacing,
        thickness=(x, y, z),
        profile=options.profile,
        regularisation=options.regularisation,
    )

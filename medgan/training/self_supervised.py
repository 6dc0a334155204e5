"""A network tuned on the one scan that it is to sharpen: what lies within the slices teaches what lies between them.

The idea behind SMORE (C. Zhao et al., IEEE TMI 40(3):805, 2021): the planes of a scan with thick slices show along
their own axes the detail that is missing across them. Patches of the scan, turned so that one in-plane axis takes the
place of the slice axis and sampled along it as the scan was across its slices, are pairs of question and answer.
"""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan.acquisition import Acquisition, SliceProfile
from medgan.acquisition.batched import batch_of
from medgan.acquisition.condition import condition
from medgan.acquisition.operators import axis_matrix
from medgan.adversarial.fidelity import DISTANCES
from medgan.data.cutting import cumulative_detail, cut_around, drawn_centre
from medgan.errors import MedganError
from medgan.geometry import Shape
from medgan.recipe import SuperResolutionRecipe
from medgan.training.muon import Muon
from medgan.training.phases import Moment, Phase
from medgan.training.restoration import balanced_error, gain_db, restored_by
from medgan.training.scanner import Acquired
from medgan.training.trainer import Tick, Trainer

_PLACES, _NOISE = 11, 12


@dataclass(frozen=True)
class Lesson:
    """What a scan with thick slices can teach.

    Args:
        volumes: its channels on the wanted grid, upscaled by whatever was at hand: (X, Y, Z), normalised to about 0
            to 1.
        slice_axis: the axis across the slices, along which the detail is missing.
        sharp_axes: the axes that have it, one or two.
        factor: wanted voxels per slice.
        thickness: of a slice, in wanted voxels.
        profile: of a slice, one of `medgan.acquisition.PROFILES`.
        measured: the shape of a "measured" profile.
        noise: standard deviation of the noise in the scan, for each channel, normalised.
        regularisation: of the inverse; the measured default when None.
    """

    volumes: tuple[NDArray[np.float32], ...]
    slice_axis: int
    sharp_axes: tuple[int, ...]
    factor: float
    thickness: float
    profile: str = "gaussian"
    noise: tuple[float, ...] = (0.0,)
    regularisation: float | None = None
    measured: SliceProfile | None = None

    def __post_init__(self) -> None:
        if not self.sharp_axes or self.slice_axis in self.sharp_axes or len(self.noise) != len(self.volumes):
            raise ValueError("a lesson needs axes that are sharp, others than the slice axis, and a noise per channel")

    def patch_shape(self, wanted: Shape) -> Shape:
        """The patch nearest to `wanted` whose last axis is a whole number of slices long."""
        slices = max(2, round(wanted[2] / self.factor))
        return wanted[0], wanted[1], round(slices * self.factor)

    def acquisition(self, patch: Shape) -> Acquisition:
        """How patches are sampled: along their last axis as the scan was across its slices; voxels count as 1 mm."""
        return Acquisition.between(
            patch,
            (patch[0], patch[1], round(patch[2] / self.factor)),
            high_spacing=(1.0, 1.0, 1.0),
            thickness=(1.0, 1.0, self.thickness),
            profile=("gaussian", "gaussian", self.profile),
            regularisation=self.regularisation,
            measured=self.measured,
        )


class LessonPatches:
    """Patches of a lesson, a function of (seed, number): more of them where the anatomy has edges.

    The last axis of a patch is one of the sharp ones, in turn; the other two come in either order, and each axis is
    flipped with probability one half. Channels take turns too.

    Args:
        lesson: where the patches are cut.
        patch: voxels of a patch.
        batch_size: patches per step.
        seed: of places, orders and flips.
    """

    def __init__(self, lesson: Lesson, patch: Shape, batch_size: int, seed: int) -> None:
        self.lesson, self.patch, self.batch_size, self.seed = lesson, patch, batch_size, seed

    @cached_property
    def _tables(self) -> list[NDArray[np.float64]]:
        return [cumulative_detail(volume) for volume in self.lesson.volumes]

    def stream(self, position: int) -> Iterator[Tensor]:
        """See `medgan.training.trainer.BatchSource`."""
        while True:
            numbers = range(position * self.batch_size, (position + 1) * self.batch_size)
            yield torch.from_numpy(np.stack([self.item(number) for number in numbers])[:, np.newaxis])
            position += 1

    def item(self, number: int) -> NDArray[np.float32]:
        """The patch of this number, always the same."""
        rng = np.random.default_rng([self.seed, _PLACES, number])
        turn, channel = divmod(number, len(self.lesson.volumes))
        volume = self.lesson.volumes[channel]
        last = self.lesson.sharp_axes[turn % len(self.lesson.sharp_axes)]
        first, second = rng.permutation([axis for axis in range(3) if axis != last]).tolist()
        order = (first, second, last)
        shape = tuple(self.patch[order.index(axis)] for axis in range(3))
        cut, _ = cut_around(volume, drawn_centre(self._tables[channel], volume.shape, rng), shape)
        flipped = tuple(axis for axis in range(3) if rng.random() < 0.5)
        return np.ascontiguousarray(np.flip(cut.transpose(order), flipped), dtype=np.float32)


class LessonScanner:
    """Samples patches as the scan itself was sampled; noise is a function of (seed, step, place in the batch).

    Args:
        lesson: how the scan was acquired.
        patch: voxels of a patch.
        seed: of the noise.
    """

    def __init__(self, lesson: Lesson, patch: Shape, seed: int) -> None:
        self.acquisition, self.seed = lesson.acquisition(patch), seed
        # The planes bring noise of their own, of whose variance sampling leaves this share.
        kept = float(np.square(axis_matrix(self.acquisition.axes[2], "forward")).sum(axis=1).mean())
        self.noise = tuple(level * max(0.0, 1.0 - kept) ** 0.5 for level in lesson.noise)

    def acquired(self, volumes: Tensor, moment: Moment) -> Acquired:
        """See `medgan.training.scanner.Scanner`."""
        batch = batch_of([self.acquisition] * len(volumes))
        with torch.no_grad(), torch.autocast(volumes.device.type, enabled=False):
            low = batch.forward(volumes)
            low = low + self.noise_for(low.shape, moment.step).to(low.device)
            numbers = torch.tensor([condition(self.acquisition)], device=low.device).expand(len(volumes), -1)
            return Acquired(batch.inverse(low), batch, numbers)

    def noise_for(self, shape: Sequence[int], step: int) -> Tensor:
        """The noise that is added to a batch of this shape, (B, 1, X, Y, Z), at this step."""
        rng = np.random.default_rng([self.seed, _NOISE, step])
        levels = [self.noise[(step * shape[0] + item) % len(self.noise)] for item in range(shape[0])]
        drawn = rng.standard_normal(tuple(shape), dtype=np.float32)
        return torch.from_numpy(drawn * np.array(levels, np.float32).reshape(-1, 1, 1, 1, 1))


class SelfSupervisedObjective:
    """One phase of fidelity; see `medgan.training.phases.Objective` for the members that the trainer uses.

    Args:
        network: tuned in place, already on its device.
        scanner: makes questions of patches.
        recipe: its `super_resolution.pretraining` and its losses.
    """

    averaged = "restorer"

    def __init__(self, network: nn.Module, scanner: LessonScanner, recipe: SuperResolutionRecipe) -> None:
        self.restorer, self.scanner, self.options = network, scanner, recipe.super_resolution
        stage = self.options.pretraining
        self.images = stage.images

        def tune(optimizer: Optimizer, moment: Moment) -> None:
            for group in optimizer.param_groups:
                group["lr"] = stage.learning_rate.at(moment.progress)

        rate = stage.learning_rate.at(0)
        optimizer: Optimizer = (
            Muon(network, rate) if self.options.optimizer == "muon" else Adam(network.parameters(), rate)
        )
        self.phases = (Phase("tuning", network, optimizer, self.loss, tune),)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The one that is tuned."""
        return {"restorer": self.restorer}

    def half_life(self, moment: Moment) -> float:
        """Half-life of the averaged weights in patches, short at the beginning."""
        return min(self.options.ema_images, 0.1 * moment.images)

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        """Nothing is kept between steps."""

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The averaged weights."""
        return {}, dict(average.state_dict())

    def loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """Distance between the restored and the true patch, and by how many dB it betters the physics inverse."""
        acquired = self.scanner.acquired(volumes, moment)
        restored = restored_by(self.restorer, acquired)
        if self.options.fidelity_loss == "balanced":
            distance = balanced_error(acquired.start, restored, volumes)
        else:
            distance = DISTANCES[self.options.fidelity_loss](restored, volumes)
        return distance, {"gain_db": gain_db(acquired.start, restored, volumes)}


def tuned_on(
    lesson: Lesson,
    network: nn.Module,
    recipe: SuperResolutionRecipe,
    *,
    on_tick: Callable[[Tick], None] | None = None,
) -> nn.Module:
    """A copy of a network, tuned on one scan; the same for the same seed.

    Args:
        lesson: what the scan can teach.
        network: where the tuning starts; it is left as it is.
        recipe: steps, learning rates, loss, patch and seed; its `acquisition` plays no part.
        on_tick: called now and then.

    Returns:
        The averaged weights, in evaluation mode, without gradients.

    Raises:
        MedganError: the loss is no longer finite.
    """
    device = next(network.parameters()).device
    patch, seed = lesson.patch_shape(recipe.super_resolution.patch), recipe.training.seed
    copied = copy.deepcopy(network).train().requires_grad_(True)
    copied.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    objective = SelfSupervisedObjective(copied, LessonScanner(lesson, patch, seed), recipe)
    source = LessonPatches(lesson, patch, recipe.training.batch_size, seed)
    with TemporaryDirectory(prefix="medgan-tuning-") as folder:
        trainer = Trainer(
            objective,
            source,
            recipe.training,
            device=device,
            checkpoints=Path(folder) / "checkpoints",
            on_tick=[] if on_tick is None else [on_tick],
        )
        try:
            result = trainer.run()
        except MedganError as error:
            raise MedganError(
                f"the tuning on the scan itself failed: {error.what}",
                hint="Lower super_resolution.pretraining.learning_rate, or leave out --self-supervised.",
            ) from error
    if result.signal is not None:
        # The trainer waited for the end of a step; a network that is half tuned is of no use.
        signal.raise_signal(signal.Signals[result.signal])
    return result.average

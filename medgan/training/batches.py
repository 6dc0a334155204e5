"""What a training step sees: volumes alone, or with the labels of their scans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Examples(Protocol):
    """What the trainer does with a batch, whatever it holds; tensors do it all."""

    def __len__(self) -> int:
        """How many examples it has."""

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Any:
        """The same on another device."""

    def contiguous(self, *, memory_format: torch.memory_format) -> Any:
        """The same, volumes laid out as convolutions like them."""

    def chunk(self, parts: int, /) -> Any:
        """At most so many parts of the batch, in order."""


@dataclass(frozen=True)
class LabelledVolumes:
    """A batch of volumes with labels.

    Args:
        volumes: (B, 1, X, Y, Z), normalised to about [0, 1].
        labels: their codes (B, coding.size), see `medgan.labels.LabelCoding`.
    """

    volumes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.volumes)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> LabelledVolumes:
        """The same on another device."""
        volumes, labels = (one.to(device, non_blocking=non_blocking) for one in (self.volumes, self.labels))
        return LabelledVolumes(volumes, labels)

    def contiguous(self, *, memory_format: torch.memory_format) -> LabelledVolumes:
        """The same with volumes in this order in memory."""
        return LabelledVolumes(self.volumes.contiguous(memory_format=memory_format), self.labels)

    def chunk(self, parts: int, /) -> list[LabelledVolumes]:
        """At most so many parts of the batch, in order."""
        pairs = zip(self.volumes.chunk(parts), self.labels.chunk(parts), strict=True)
        return [LabelledVolumes(volumes, labels) for volumes, labels in pairs]


def parted(batch: Tensor | LabelledVolumes) -> tuple[Tensor, Tensor | None]:
    """Volumes and labels of a batch; no labels where it has none."""
    return (batch.volumes, batch.labels) if isinstance(batch, LabelledVolumes) else (batch, None)

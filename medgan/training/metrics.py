"""The scalars of a training: collected within a tick, remembered over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

History = dict[str, list[tuple[int, float]]]
"""For each metric its (step, value) pairs, in the order of steps."""


@dataclass
class Sums:
    """Sums of reported scalars, kept on the device so that reporting costs no synchronisation per step."""

    totals: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, value: Tensor) -> None:
        """Count one more value (a scalar) of the metric `name`."""
        value = value.detach().float()
        self.totals[name] = self.totals[name] + value if name in self.totals else value
        self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The mean of each metric since the last call, which starts anew."""
        names = list(self.totals)
        values = torch.stack([self.totals[name] / self.counts[name] for name in names]).tolist() if names else []
        self.totals.clear()
        self.counts.clear()
        return dict(zip(names, values, strict=True))

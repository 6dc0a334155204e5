"""Past samples of a generator, so that its discriminator does not forget what it has learned to refuse."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medgan.geometry import Shape


class ImagePool(nn.Module):
    """A store of past samples (Shrivastava et al. 2017, arXiv:1612.07828, section 2.3).

    Until it is full every sample is kept and shown; then each sample is shown or, with probability one half, takes the
    place of a stored one that is shown instead. All of it is in buffers and torch's global generator draws, so that a
    checkpoint holds everything.

    Args:
        size: samples; 0 shows what is new and keeps nothing.
        shape: voxels of a sample.
    """

    def __init__(self, size: int, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("samples", torch.zeros(size, 1, *shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def exchanged(self, volumes: Tensor) -> Tensor:
        """New samples (B, 1, X, Y, Z), some of them exchanged for earlier ones; without gradients."""
        samples: Tensor = self.samples  # type: ignore[assignment]
        count: Tensor = self.count  # type: ignore[assignment]
        if not len(samples):
            return volumes.detach()
        shown = []
        for volume in volumes.detach().float():
            filled = int(count)
            if filled < len(samples):
                samples[filled] = volume
                count += 1
                shown.append(volume)
            elif torch.rand(()) < 0.5:
                place = int(torch.randint(len(samples), ()))
                shown.append(samples[place].clone())
                samples[place] = volume
            else:
                shown.append(volume)
        return torch.stack(shown)

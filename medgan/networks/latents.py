"""Latent vectors that depend on nothing but a seed and an index."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def latent(seed: int, index: int, size: int) -> Tensor:
    """The standard normal latent vector of sample `index` under `seed`, float32, shape (size,).

    It comes from numpy's Philox bit stream, which is the same on every platform, device and batch size.
    """
    stream = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index])))
    return torch.from_numpy(stream.standard_normal(size, dtype=np.float32))


def latents(seed: int, indices: range, size: int) -> Tensor:
    """Latent vectors of several samples, shape (len(indices), size)."""
    return torch.stack([latent(seed, index, size) for index in indices])

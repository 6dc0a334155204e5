"""Synthetic scans from a trained generator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from medgan import __version__
from medgan.errors import MedganError
from medgan.inference.model import Model, require_task
from medgan.networks.latents import latent
from medgan.volume import Volume


def generate(model: Model, count: int, *, seed: int = 0, first: int = 0, truncation: float = 1.0) -> Iterator[Volume]:
    """Synthetic scans, one at a time.

    Sample i is a function of (model, seed, i) alone: it does not depend on how many are drawn, nor in which batches.

    Args:
        model: trained for synthesis.
        count: how many.
        seed: of the latent vectors.
        first: index of the first sample.
        truncation: factor on the latent vectors, or on the styles' distance from their mean where a network has
            styles; below 1 samples are more typical and less diverse.

    Yields:
        Float32 volumes (1, X, Y, Z) in RAS with the cohort's spacing, in the units of the scans that the model was
        trained on.

    Raises:
        MedganError: the model is not for synthesis, or a number is out of range.
    """
    require_task(model, "synthesis", "generate")
    if count < 1:
        raise MedganError(f"{count} samples cannot be drawn; ask for at least 1")
    if not truncation > 0:
        raise MedganError(f"truncation is {truncation:g}; it must be above 0")
    network = model.network()
    affine = np.array(model.config["affine"], dtype=np.float64)
    for index in range(first, first + count):
        vector = latent(seed, index, network.latent_size)  # type: ignore[arg-type]
        with torch.inference_mode():
            sample = _sampled(network, vector[None].to(model.device), truncation)[0]
        yield Volume(
            data=in_units(sample.float().cpu().numpy(), model.config["normalisation"]),
            affine=affine,
            history=(f"synthesised by medgan {__version__}, model {model.sha256[:12]}, seed {seed}, sample {index}",),
            metadata={
                "synthetic": True,
                "model_sha256": model.sha256,
                "seed": seed,
                "index": index,
                "truncation": truncation,
            },
        )


def _sampled(network: torch.nn.Module, latents: torch.Tensor, truncation: float) -> torch.Tensor:
    """Volumes (B, 1, X, Y, Z) from latent vectors, truncated where the network has its centre."""
    if getattr(network, "truncates_styles", False):
        return network(latents, truncation=truncation)
    return network(truncation * latents)


def in_units(values: np.ndarray, normalisation: dict[str, float]) -> np.ndarray:
    """Network values, about [-1, 1], in the units of the training scans; never below the smallest value these had."""
    low, high = normalisation["low"], normalisation["high"]
    scaled = low + (values + 1) / 2 * (high - low)
    return np.maximum(scaled, normalisation["minimum"]).astype(np.float32)

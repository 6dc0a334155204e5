"""Synthetic scans from a trained generator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from medgan import __version__
from medgan.errors import MedganError
from medgan.inference.model import Model, require_task
from medgan.inference.release import require_release
from medgan.labels import LabelValues
from medgan.networks.labelled import LabelledGenerator, labels_of_sample
from medgan.networks.latents import latent
from medgan.volume import Volume


def generate(
    model: Model,
    count: int,
    *,
    seed: int = 0,
    first: int = 0,
    truncation: float = 1.0,
    labels: LabelValues = MappingProxyType({}),
    allow_memorised: bool = False,
) -> Iterator[Volume]:
    """Synthetic scans, one at a time.

    Sample i is a function of (model, seed, i) alone: it does not depend on how many are drawn, nor in which batches.

    Args:
        model: trained for synthesis.
        count: how many.
        seed: of the latent vectors.
        first: index of the first sample.
        truncation: factor on the latent vectors, or on the styles' distance from their mean where a network has
            styles, or the temperature of the codes where it draws codes; below 1 samples are more typical and less
            diverse.
        labels: that all samples shall have, of a model that was trained with labels; those left out are drawn for each
            sample as the training scans have them. All of them None: samples of no label.
        allow_memorised: draw from a model that its audit found to copy training scans all the same.

    Yields:
        Float32 volumes (1, X, Y, Z) in RAS with the cohort's spacing, in the units of the scans that the model was
        trained on; the metadata holds what is recorded of each, its labels among it.

    Raises:
        MedganError: the model is not for synthesis, its audit refuses it, a number is out of range, or the model knows
            no such label.
    """
    require_task(model, "synthesis", "generate")
    require_release(model, allow_memorised=allow_memorised)
    if count < 1:
        raise MedganError(f"{count} samples cannot be drawn; ask for at least 1")
    if not truncation > 0:
        raise MedganError(f"truncation is {truncation:g}; it must be above 0")
    network = model.network()
    for index in range(first, first + count):
        vector = latent(seed, index, network.latent_size)  # type: ignore[arg-type]
        with torch.inference_mode():
            values = labels_of_sample(network, labels, seed=seed, index=index)
            told = {"labels": network.codes([values])} if isinstance(network, LabelledGenerator) else {}
            sample = sampled(network, vector[None].to(model.device), truncation, **told)[0]
        about: dict[str, Any] = {"seed": seed, "index": index, "truncation": truncation}
        if values:
            about |= {"labels": values, "variant": variant_of(labels)}
        yield as_scan(model, sample, f"seed {seed}, sample {index}", about)


def as_scan(model: Model, sample: torch.Tensor, made: str, about: Mapping[str, Any]) -> Volume:
    """What a generator made, in the units of its training scans and in their place.

    Args:
        model: that the generator belongs to.
        sample: (1, X, Y, Z) in about [-1, 1].
        made: by which means, for the history, such as "seed 0, sample 3".
        about: the same as values, for the metadata.
    """
    return Volume(
        data=in_units(sample.float().cpu().numpy(), model.config["normalisation"]),
        affine=np.array(model.config["affine"], dtype=np.float64),
        history=(f"synthesised by medgan {__version__}, model {model.sha256[:12]}, {made}",),
        metadata={"synthetic": True, "model_sha256": model.sha256, **about},
    )


def variant_of(labels: LabelValues) -> str:
    """What tells the identity of a sample with asked labels from that of one with drawn labels; nothing for none."""
    if not labels:
        return ""
    text = json.dumps({name: labels[name] for name in sorted(labels)})
    return f"L{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def sampled(
    network: torch.nn.Module, latents: torch.Tensor, truncation: float = 1.0, **told: torch.Tensor
) -> torch.Tensor:
    """Volumes (B, 1, X, Y, Z) from latent vectors, truncated where the network has its centre.

    Args:
        network: a generator in evaluation mode.
        latents: (B, latent_size).
        truncation: see `generate`.
        told: what the network takes beside these: "labels" (B, coding.size).
    """
    if getattr(network, "truncates_styles", False) or getattr(network, "truncates_codes", False):
        return network(latents, truncation=truncation, **told)
    return network(truncation * latents, **told)


def in_units(values: np.ndarray, normalisation: dict[str, float]) -> np.ndarray:
    """Network values, about [-1, 1], in the units of the training scans; never below the smallest value these had."""
    low, high = normalisation["low"], normalisation["high"]
    scaled = low + (values + 1) / 2 * (high - low)
    return np.maximum(scaled, normalisation["minimum"]).astype(np.float32)

"""Noise of the receiver."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medgan.errors import MedganError, nearest

NoiseKind = Literal["rician", "gaussian"]


def tissue_signal(x: Tensor) -> Tensor:
    """Mean of the voxels brighter than the scan's own mean: x (..., X, Y, Z) to one value per scan (..., 1, 1, 1)."""
    bright = x > x.mean(dim=(-3, -2, -1), keepdim=True)
    count = bright.sum(dim=(-3, -2, -1), keepdim=True).clamp(min=1)
    return (x * bright).sum(dim=(-3, -2, -1), keepdim=True) / count


def with_noise(
    x: Tensor,
    *,
    generator: torch.Generator,
    sigma: float | Tensor | None = None,
    snr: float | None = None,
    kind: NoiseKind = "rician",
) -> Tensor:
    """`x` as a noisy receiver would have measured it.

    Args:
        x: scan or batch of scans, (..., X, Y, Z), floating point.
        generator: where the random numbers come from; drawn on the generator's device, so that a CPU generator gives
            the same noise to a scan on any device.
        sigma: standard deviation of the noise in each receiver channel, in units of `x`; a number or broadcastable to
            `x`.
        snr: instead of `sigma`: each scan's `tissue_signal` divided by the standard deviation.
        kind: "rician" (magnitude of a complex signal, right for MRI magnitude images: positive where there is no
            signal) or "gaussian".

    Raises:
        MedganError: neither or both of `sigma` and `snr` are given, or the kind is unknown.
    """
    if kind not in ("rician", "gaussian"):
        raise MedganError(f"'{kind}' is no kind of noise", hint=nearest(kind, ["rician", "gaussian"]))
    if sigma is not None and snr is None:
        scale: float | Tensor = sigma
    elif snr is not None and sigma is None:
        scale = tissue_signal(x) / snr
    else:
        raise MedganError("give the noise either by sigma or by snr, not both")

    def drawn() -> Tensor:
        noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        return noise.to(x.device) * scale

    if kind == "gaussian":
        return x + drawn()
    return torch.hypot(x + drawn(), drawn())

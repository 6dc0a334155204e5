"""Directions of variation found without labels: along which samples change most.

At a few samples, the change of the scan is measured along each coordinate by finite differences, for any generator
that can be called. The leading right singular vectors of these Jacobians together are the directions (Ramesh et al.
2018, arXiv:1812.01161, who found them to have a meaning; Constantine et al. 2014 call their span the active subspace).
Where a network has styles, the coordinates are the principal components of styles, each in units of its standard
deviation (GANSpace: Härkönen et al. 2020, arXiv:2004.02546), else the entries of the latent vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medgan.inference.points import LATENTS, STYLES, Point, has_styles, point_of_sample, rendered, sample_styles

Progress = Callable[[int, int], None]

# Samples at which the change is measured.
_PLACES = 4
# Half the distance between the two scans that are compared, in standard deviations: wide enough to step over the kinks
# of rectifiers, and small against the distance between two samples.
_STEP = 0.5
# Styles from which principal components are taken; the components kept, by their share of the variance and at most.
_STYLES, _VARIANCE, _MOST_COMPONENTS = 2048, 0.995, 64
# Voxels that are looked at; of larger volumes so many, drawn at random.
_MOST_VOXELS = 250_000
_VOXELS_PER_BATCH = 2**22


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions of variation of one generator, strongest first.

    Args:
        space: "latents" or "styles".
        vectors: (count, size); each moves a point by one standard deviation of samples along it.
        changes: root mean square change of the voxels for one such move, in the network's units, where scans lie in
            about [-1, 1].
        shares: of each in the mean squared change along all coordinates.
        seed: of the samples at which changes were measured.
    """

    space: str
    vectors: Tensor
    changes: tuple[float, ...]
    shares: tuple[float, ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """As plain values, which hold every bit."""
        return {
            "space": self.space,
            "seed": self.seed,
            "changes": list(self.changes),
            "shares": list(self.shares),
            "vectors": self.vectors.tolist(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Directions:
        """What `to_json` wrote."""
        vectors = torch.tensor(content["vectors"], dtype=torch.float32)
        changes, shares = (tuple(map(float, content[key])) for key in ("changes", "shares"))
        return cls(str(content["space"]), vectors, changes, shares, int(content["seed"]))


def find_directions(
    network: nn.Module, count: int, *, seed: int = 0, places: int = _PLACES, progress: Progress | None = None
) -> Directions:
    """The `count` directions along which samples change most.

    Args:
        network: a generator in evaluation mode.
        count: at most as many as the space has dimensions.
        seed: of the samples at which changes are measured, which are its first ones.
        places: how many samples these are.
        progress: called with (volumes made, volumes in all).
    """
    basis = _basis(network, seed)
    total, done = 2 * len(basis) * places, 0
    products = torch.zeros(len(basis), len(basis), dtype=torch.float64)
    for index in range(places):
        point = point_of_sample(network, seed=seed, index=index)
        slopes = []
        for changes in _slopes(network, point, basis):
            slopes.append(changes)
            done += 2 * len(changes)
            if progress is not None:
                progress(done, total)
        jacobian = torch.cat(slopes).double()
        products += (jacobian @ jacobian.t()) / jacobian.shape[1] / places
    values, vectors = torch.linalg.eigh(products)
    strongest = values.clamp_min(0).flip(0)[:count]
    chosen = vectors.flip(1)[:, :count].t()
    found = _with_fixed_signs((chosen @ basis.double()).float())
    whole = max(float(products.trace()), torch.finfo(torch.float64).tiny)
    return Directions(
        STYLES if has_styles(network) else LATENTS,
        found,
        tuple(math.sqrt(value) for value in strongest.tolist()),
        tuple(value / whole for value in strongest.tolist()),
        seed,
    )


def _basis(network: nn.Module, seed: int) -> Tensor:
    """Independent moves (m, size) of one standard deviation each, on the CPU."""
    if not has_styles(network):
        return torch.eye(int(network.latent_size))  # type: ignore[arg-type]
    styles = sample_styles(network, seed=seed, count=_STYLES).double().cpu()
    _, deviations, components = torch.linalg.svd(styles - styles.mean(dim=0), full_matrices=False)
    variances = deviations.square() / (len(styles) - 1)
    reached = (variances.cumsum(0) / variances.sum()).tolist()
    kept = min(_MOST_COMPONENTS, 1 + sum(share < _VARIANCE for share in reached))
    return (variances.sqrt()[:, None] * components)[:kept].float()


def _slopes(network: nn.Module, point: Point, basis: Tensor) -> Iterator[Tensor]:
    """The change of voxels for a move along each row of the basis, in batches (rows, voxels looked at)."""
    device = point.position.device
    with torch.inference_mode():
        voxels = rendered(network, point).numel()
    seen = _looked_at(voxels).to(device)
    rows = max(1, min(16, _VOXELS_PER_BATCH // (2 * voxels)))
    for part in basis.to(device).split(rows):
        steps = _STEP * part[:, None] if point.space == STYLES else _STEP * part
        with torch.inference_mode():
            ahead = rendered(network, point, point.position + steps)
            behind = rendered(network, point, point.position - steps)
            slopes = ((ahead - behind).flatten(1)[:, seen] / (2 * _STEP)).float().cpu()
        yield slopes


def _looked_at(voxels: int) -> Tensor:
    """Which voxels of a volume are looked at: all, or the same ones whenever there are as many."""
    if voxels <= _MOST_VOXELS:
        return torch.arange(voxels)
    drawn = torch.randperm(voxels, generator=torch.Generator().manual_seed(0))
    return drawn[:_MOST_VOXELS].sort().values


def _with_fixed_signs(vectors: Tensor) -> Tensor:
    """The same directions, with the largest entry of each above zero."""
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)

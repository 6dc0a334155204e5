"""Projection: the point of a generator's space whose scan comes closest to a given one.

After Karras et al. 2019 (arXiv:1912.04958, appendix D): from a good start, the point is optimised by Adam with a rate
that warms up and fades out, and jittered at first so that it does not settle in the nearest pit. Two things differ. The
distance needs no network that has learned to see: it compares voxels at several scales, and edges. And the point stays
where samples come from: latent vectors within the norm that nearly all samples have, styles within three standard
deviations of their mean. What lies beyond could come closer, but would not be a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.inference.points import Point, has_styles, point_of_sample, rendered, sample_styles

Progress = Callable[[int, int, float], None]

_RATE = 0.1
# Shares of the steps in which the rate warms up and fades out, and in which the point is jittered (appendix D).
_WARM_UP, _FADE_OUT, _JITTERED = 0.05, 0.25, 0.75
_JITTER = 0.05
# Standard deviations from the typical norm, or from the mean style, that a point may be away.
_REACH = 3.0
# Styles from which their mean and deviation are taken.
_STYLES = 1024
_EDGE_WEIGHT = 1.0
_LEAST_SIDE = 4
_MOST_SCALES = 4
# The networks' range: [-1, 1].
_RANGE = 2.0


@dataclass(frozen=True, eq=False)
class Projection:
    """What a projection came to.

    Args:
        point: where the closest scan is made; with styles, one style for each layer, and no noise: nothing of a scan
            can hide in it.
        sample: that scan, (1, X, Y, Z) in the network's units.
        distances: at each step, before the point moved; jittered at first. See `distance`.
        ratios: peak signal to noise ratios in dB at each step, of a range of 2 (that between the percentiles to which
            scans are normalised).
        distance: of the result.
        psnr: of the result, dB.
        random_distances: of the random samples to the scan.
        random_psnrs: of the random samples, dB.
        spread_psnr: between two random samples, dB; the median.
    """

    point: Point
    sample: Tensor
    distances: tuple[float, ...]
    ratios: tuple[float, ...]
    distance: float
    psnr: float
    random_distances: tuple[float, ...]
    random_psnrs: tuple[float, ...]
    spread_psnr: float

    @property
    def relative_error(self) -> float:
        """Mean squared error in units of that between two random samples: 0 for the same scan, about 1 for a scan
        that is no closer to its projection than any sample to any other.
        """
        return 10 ** ((self.spread_psnr - self.psnr) / 10)


def distance(made: Tensor, target: Tensor) -> Tensor:
    """How far volumes (B, 1, X, Y, Z) are from a target (1, 1, X, Y, Z); one number (B,) for each.

    Mean squared differences of voxels, averaged over scales that are each half as fine as the one before, and of the
    differences between neighbouring voxels.
    """
    terms = []
    difference = made - target
    edges = [difference.diff(dim=axis).square().flatten(1).mean(dim=1) for axis in (2, 3, 4)]
    for _ in range(_MOST_SCALES):
        terms.append(difference.square().flatten(1).mean(dim=1))
        if min(difference.shape[2:]) < 2 * _LEAST_SIDE:
            break
        difference = F.avg_pool3d(difference, 2)
    return torch.stack(terms).mean(dim=0) + _EDGE_WEIGHT * torch.stack(edges).mean(dim=0)


def psnr(made: Tensor, target: Tensor) -> float:
    """Peak signal to noise ratio in dB of a range of 2."""
    error = (made.double() - target.double()).square().mean().item()
    return 10 * math.log10(_RANGE**2 / max(error, 1e-12))


def project(
    network: nn.Module,
    target: Tensor,
    *,
    steps: int = 300,
    starts: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> Projection:
    """The point whose scan comes closest to a target.

    Args:
        network: a generator in evaluation mode, whose samples change gradually with the latent vector.
        target: (1, X, Y, Z) in the network's units, where scans lie in about [-1, 1].
        steps: of the optimisation.
        starts: random samples, the first ones under `seed`; the best of them is where it begins.
        seed: see there.
        progress: called with (passes done, passes in all, dB reached).
    """
    target = target[None].to(next(network.parameters()).device)
    start, random_distances, random_psnrs, spread = _looked_around(network, target, starts, seed, progress, steps)
    centre, scale = _frame(network, start, seed)
    offset = ((start.position - centre) / scale).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([offset], lr=_RATE, betas=(0.9, 0.999))
    noise = torch.Generator().manual_seed(seed)
    distances, ratios = [], []
    for step in range(steps):
        done = step / steps
        optimizer.param_groups[0]["lr"] = _RATE * _rate_factor(done)
        jitter = _JITTER * max(0.0, 1 - done / _JITTERED) ** 2
        jittered = offset + jitter * torch.randn(offset.shape, generator=noise).to(offset.device)
        made = rendered(network, start, (centre + scale * jittered)[None])
        value = distance(made, target).sum()
        (offset.grad,) = torch.autograd.grad(value, [offset])
        distances.append(value.item())
        ratios.append(psnr(made.detach(), target))
        optimizer.step()
        _hold_near(offset)
        if progress is not None:
            progress(starts + step + 1, starts + steps, ratios[-1])
    with torch.no_grad():
        reached = replace(start, position=(centre + scale * offset).detach())
        # A start that the optimisation did not better is what was found.
        candidates = [(point, rendered(network, point)) for point in (reached, start)]
        values = [distance(made, target).item() for _, made in candidates]
    point, made = candidates[0 if values[0] <= values[1] else 1]
    return Projection(
        point,
        made[0],
        tuple(distances),
        tuple(ratios),
        min(values),
        psnr(made, target),
        random_distances,
        random_psnrs,
        spread,
    )


def _looked_around(
    network: nn.Module, target: Tensor, starts: int, seed: int, progress: Progress | None, steps: int
) -> tuple[Point, tuple[float, ...], tuple[float, ...], float]:
    """The best of the first samples, without noise; distances and PSNR of all; the median PSNR of each to the next."""
    best, least = None, math.inf
    distances, ratios, spreads = [], [], []
    before: Tensor | None = None
    for index in range(starts):
        point = replace(point_of_sample(network, seed=seed, index=index), noise=())
        with torch.no_grad():
            made = rendered(network, point)
            distances.append(distance(made, target).item())
        ratios.append(psnr(made, target))
        if before is not None:
            spreads.append(psnr(made, before))
        before = made
        if best is None or distances[-1] < least:
            best, least = point, distances[-1]
        if progress is not None:
            progress(index + 1, starts + steps, max(ratios))
    assert best is not None
    return best, tuple(distances), tuple(ratios), sorted(spreads)[len(spreads) // 2]


def _frame(network: nn.Module, start: Point, seed: int) -> tuple[Tensor, Tensor]:
    """Where points are counted from, and in which units: those in which samples have a variance of one."""
    if not has_styles(network):
        return torch.zeros_like(start.position), torch.ones_like(start.position)
    styles = sample_styles(network, seed=seed, count=_STYLES)
    return styles.mean(dim=0), styles.std(dim=0).clamp_min(1e-6)


def _rate_factor(done: float) -> float:
    """What the rate is multiplied by when a share of the steps is done."""
    fade = min(1.0, (1 - done) / _FADE_OUT)
    return (0.5 - 0.5 * math.cos(fade * math.pi)) * min(1.0, (done + 1e-3) / _WARM_UP)


@torch.no_grad()
def _hold_near(offset: Tensor) -> None:
    """Bring a point back to where samples come from."""
    if offset.ndim == 2:
        offset.clamp_(-_REACH, _REACH)
        return
    # Norms of standard normal vectors scatter around the root of their length with a deviation of about 0.7.
    farthest = math.sqrt(len(offset)) + _REACH * math.sqrt(0.5)
    norm = offset.norm()
    if norm > farthest:
        offset.mul_(farthest / norm)

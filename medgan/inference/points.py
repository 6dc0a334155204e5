"""Points of the space that a generator makes scans from, and ways between them.

A point is a latent vector or, for networks with styles, one style per layer and the seeds of the noise. The point of a
sample makes that sample again, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from medgan.errors import MedganError
from medgan.labels import LabelValues
from medgan.networks.labelled import LabelledGenerator, LabelledStyleGenerator, labels_of_sample
from medgan.networks.latents import latent, latents
from medgan.networks.principal_styles import AnyStyleGenerator
from medgan.networks.stylegan import BlendedNoise, noise_seeds

LATENTS, STYLES = "latents", "styles"
# Below this sine of the angle between two vectors, the arc between them is a line to single precision; vectors that
# point opposite ways have no shortest arc.
_LEAST_SINE = 1e-5


@dataclass(frozen=True, eq=False)
class Point:
    """Where in its space a generator makes one scan.

    Args:
        position: a latent vector (latent_size,), or styles (layers, style_size), coarsest layer first.
        noise: weight and seed of each part of the noise, for styles; without any there is no noise.
        labels: code of the labels (coding.size,), for latent vectors of a network that is told labels.
    """

    position: Tensor
    noise: tuple[tuple[float, int], ...] = ()
    labels: Tensor | None = None

    @property
    def space(self) -> str:
        """ "latents" or "styles"."""
        return STYLES if self.position.ndim == 2 else LATENTS

    def to_json(self) -> dict[str, Any]:
        """As plain values, which hold every bit."""
        return {
            "space": self.space,
            "position": self.position.tolist(),
            "noise": [list(part) for part in self.noise],
            "labels": None if self.labels is None else self.labels.tolist(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Point:
        """The point that `to_json` wrote, on the CPU."""
        labels = content["labels"]
        return cls(
            torch.tensor(content["position"], dtype=torch.float32),
            tuple((float(weight), int(seed)) for weight, seed in content["noise"]),
            None if labels is None else torch.tensor(labels, dtype=torch.float32),
        )


def has_styles(network: nn.Module) -> bool:
    """Whether the generator makes scans from styles, one per layer."""
    return isinstance(network, AnyStyleGenerator | LabelledStyleGenerator)


def stages_of(network: nn.Module) -> int:
    """How many stages a generator with styles has."""
    return (int(network.layers) + 1) // 2  # type: ignore[arg-type]


def point_of_sample(
    network: nn.Module,
    *,
    seed: int,
    index: int,
    truncation: float = 1.0,
    asked: LabelValues = MappingProxyType({}),
) -> Point:
    """The point of sample `index` under `seed`.

    Args:
        network: in evaluation mode.
        seed: of the latent vectors.
        index: of the sample.
        truncation: see `medgan.inference.generate.generate`.
        asked: labels for a network that is told them; those left out are drawn.
    """
    device = next(network.parameters()).device
    vector = latent(seed, index, int(network.latent_size)).to(device)  # type: ignore[arg-type]
    told = _told(network, seed, range(index, index + 1), asked)
    if not has_styles(network):
        code = told["labels"][0] if told else None
        return Point(truncation * vector, labels=code)
    with torch.no_grad():
        styles = network.styles(vector[None], **told, truncation=truncation)  # type: ignore[operator]
    layers = int(network.layers)  # type: ignore[arg-type]
    return Point(styles.expand(layers, -1), ((1.0, noise_seeds(vector[None])[0]),))


@torch.no_grad()
def sample_styles(network: nn.Module, *, seed: int, count: int) -> Tensor:
    """Styles (count, style_size) of the first samples under `seed`, of a generator with styles."""
    device = next(network.parameters()).device
    vectors = latents(seed, range(count), int(network.latent_size)).to(device)  # type: ignore[arg-type]
    return network.styles(vectors, **_told(network, seed, range(count), {}))  # type: ignore[operator]


def _told(network: nn.Module, seed: int, indices: range, asked: LabelValues) -> dict[str, Tensor]:
    """What the network takes beside the latent vectors of samples."""
    values = [labels_of_sample(network, asked, seed=seed, index=index) for index in indices]
    return {"labels": network.codes(values)} if isinstance(network, LabelledGenerator) else {}


def rendered(network: nn.Module, point: Point, positions: Tensor | None = None) -> Tensor:
    """Volumes (B, 1, X, Y, Z) in about [-1, 1].

    Args:
        network: in evaluation mode.
        point: what to make.
        positions: (B, *point.position.shape), instead of the point's own; its noise and labels hold for all of them.
    """
    positions = point.position[None] if positions is None else positions
    if point.space == STYLES:
        return network.synthesise(positions, BlendedNoise(point.noise))  # type: ignore[operator]
    if point.labels is None:
        return network(positions)
    return network(positions, labels=point.labels.expand(len(positions), -1))


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """The vector that has gone `share` of the way on the arc from `start` to `end` (Shoemake 1985).

    Its norm goes evenly from that of `start` to that of `end`: on the way, as everywhere, latent vectors keep the norm
    for which the network was trained.

    Args:
        start: (size,).
        end: (size,).
        share: 0 gives `start` and 1 gives `end`, bit for bit.

    Raises:
        MedganError: the vectors point opposite ways, or one of them nowhere.
    """
    if share in (0.0, 1.0):
        return start if share == 0.0 else end
    one, other = start.double(), end.double()
    lengths = one.norm(), other.norm()
    if min(lengths) == 0:
        raise MedganError("a latent vector of zeros has no direction to start from", hint="Choose another end.")
    one, other = one / lengths[0], other / lengths[1]
    angle = 2 * torch.atan2((one - other).norm(), (one + other).norm())
    sine = torch.sin(angle)
    if sine < _LEAST_SINE and angle > 1:
        raise MedganError("the ends lie opposite each other: no way between them is shorter", hint="Choose others.")
    if sine < _LEAST_SINE:
        direction = torch.lerp(one, other, share)
    else:
        direction = (torch.sin((1 - share) * angle) * one + torch.sin(share * angle) * other) / sine
    length = (1 - share) * lengths[0] + share * lengths[1]
    return (length * direction / direction.norm()).to(start.dtype)


def between(start: Point, end: Point, share: float) -> Point:
    """The point that has gone `share` of the way: on an arc for latent vectors, straight for styles.

    Noise goes over by weights whose squares add up to one, so that it stays standard normal; codes of labels go
    straight.

    Args:
        start: of the same generator as `end`.
        end: see there.
        share: 0 gives `start` and 1 gives `end`, bit for bit.

    Raises:
        MedganError: see `slerp`.
    """
    if share in (0.0, 1.0):
        return start if share == 0.0 else end
    labels = None
    if start.labels is not None and end.labels is not None:
        labels = torch.lerp(start.labels, end.labels, share)
    if start.space == LATENTS:
        return Point(slerp(start.position, end.position, share), labels=labels)
    ways = (math.cos(share * math.pi / 2), start.noise), (math.sin(share * math.pi / 2), end.noise)
    noise = tuple((factor * weight, seed) for factor, parts in ways for weight, seed in parts)
    return Point(torch.lerp(start.position, end.position, share), noise)


def mixed(coarse: Point, fine: Point, from_stage: int) -> Point:
    """Style mixing (Karras et al. 2018, section 3.1): the styles of `coarse`, from a stage on those of `fine`.

    Args:
        coarse: gives the coarse stages, and the noise.
        fine: gives the others.
        from_stage: the first stage, counted from 0, whose styles are those of `fine`.
    """
    first = max(0, 2 * from_stage - 1)
    return replace(coarse, position=torch.cat((coarse.position[:first], fine.position[first:])))


def moved(point: Point, step: Tensor) -> Point:
    """The point moved by `step`, (latent_size,) or (style_size,); styles move in all layers."""
    return replace(point, position=point.position + step.to(point.position))

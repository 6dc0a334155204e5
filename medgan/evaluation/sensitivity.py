"""How plainly an encoder sees that scans were degraded, in units of how much real scans differ among themselves.

The degradations here share no code with those that encoders are trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.evaluation.features import Features, Standardisation
from medgan.evaluation.fidelity import polynomial_kernel

if TYPE_CHECKING:
    from medgan.evaluation.encoders import Encoder

Array = NDArray[np.float32]
Degrade = Callable[[Array, float, np.random.Generator], Array]
_HALVINGS = 60
_FEWEST_SCANS = 8
_SEEN = 2.0


@dataclass(frozen=True)
class Ladder:
    """One kind of degradation at rising strengths.

    Args:
        kind: its name.
        degrade: normalised voxels (X, Y, Z), a strength and random numbers to degraded voxels.
        strengths: rising, in the unit of `degrade`.
    """

    kind: str
    degrade: Degrade
    strengths: tuple[float, ...]


@dataclass(frozen=True)
class Response:
    """How an encoder responds to one ladder.

    Args:
        kind: of degradation.
        strengths: as in the ladder.
        responses: for each strength, the KID between one half of the scans and the other, degraded half, less that of
            the undegraded halves, over the standard deviation of the latter: the mean over many halvings.
    """

    kind: str
    strengths: tuple[float, ...]
    responses: tuple[float, ...]

    @property
    def seen(self) -> int:
        """How many of the strengths get a response above two standard deviations."""
        return sum(response > _SEEN for response in self.responses)

    @property
    def is_monotone(self) -> bool:
        """Whether each stronger degradation gets a stronger response."""
        return all(low < high for low, high in zip(self.responses, self.responses[1:], strict=False))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def blurred(voxels: Array, sigma: float, random: np.random.Generator) -> Array:
    """A Gaussian of `sigma` voxels."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(voxels, sigma, mode="nearest"), dtype=np.float32)


def noisy(voxels: Array, deviation: float, random: np.random.Generator) -> Array:
    """Rician noise: the magnitude of the voxels with Gaussian noise in both channels."""
    real, imaginary = (random.standard_normal(voxels.shape) * deviation for _ in range(2))
    return np.asarray(np.hypot(voxels + real, imaginary), dtype=np.float32)


def shuffled(voxels: Array, share: float, random: np.random.Generator) -> Array:
    """Pairs of cubes of five voxels, together a share of the volume, exchange their places."""
    result, side = voxels.copy(), 5
    places = [tuple(side * index) for index in np.argwhere(np.ones([length // side for length in voxels.shape]))]
    pairs = min(max(1, round(share * len(places) / 2)), len(places) // 2)
    for a, b in random.permutation(len(places))[: 2 * pairs].reshape(pairs, 2):
        one, other = (tuple(slice(start, start + side) for start in places[number]) for number in (a, b))
        result[one], result[other] = voxels[other], voxels[one]
    return result


def warped(voxels: Array, amplitude: float, random: np.random.Generator) -> Array:
    """Displaced by smooth noise of root mean square `amplitude` voxels, with cubic interpolation."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    field = np.stack([gaussian_filter(random.standard_normal(voxels.shape), 4) for _ in range(3)])
    field *= amplitude / np.sqrt(np.mean(np.square(field)))
    places = np.indices(voxels.shape) + field
    return np.asarray(map_coordinates(voxels, places, order=3, mode="nearest"), dtype=np.float32)


STANDARD_LADDERS = (
    Ladder("blur", blurred, (0.35, 0.5, 0.7, 1.0)),
    Ladder("noise", noisy, (0.01, 0.02, 0.04, 0.08)),
    Ladder("shuffled cubes", shuffled, (0.05, 0.15, 0.4, 1.0)),
    Ladder("warp", warped, (0.4, 0.8, 1.5, 3.0)),
)


def sensitivity(
    encoder: Encoder, scans: Sequence[Array], ladders: Sequence[Ladder] = STANDARD_LADDERS, *, seed: int = 0
) -> list[Response]:
    """How an encoder responds to each ladder.

    Args:
        encoder: who is judged.
        scans: held-out ones (X, Y, Z) of one shape, normalised to about 0..1, at least eight.
        ladders: the degradations.
        seed: of the degradations and the halvings.

    Raises:
        MedganError: there are fewer than eight scans, or the encoder refuses them.
    """
    if len(scans) < _FEWEST_SCANS:
        raise MedganError(
            f"{len(scans)} scans are too few to halve, at least {_FEWEST_SCANS} are needed", hint="Give more scans."
        )
    raw = encoder.extract(scans)
    standardisation = Standardisation.fitted(raw)
    clean = standardisation.applied(raw)
    floors = _distances(clean, clean, seed)
    responses = []
    for ladder in ladders:
        found = []
        for strength in ladder.strengths:
            random = np.random.default_rng([seed, round(1000 * strength)])
            degraded = encoder.extract(ladder.degrade(np.asarray(scan), strength, random) for scan in scans)
            distances = _distances(clean, standardisation.applied(degraded), seed)
            found.append(float((distances - floors).mean() / floors.std()))
        responses.append(Response(ladder.kind, ladder.strengths, tuple(found)))
    return responses


def _distances(clean: Features, other: Features, seed: int) -> NDArray[np.float64]:
    """KID between one half of the clean rows and the other half of the other rows, for the same halvings each time."""
    within, apart, across = (polynomial_kernel(*pair) for pair in ((clean, clean), (other, other), (clean, other)))
    random = np.random.default_rng(seed)
    values = []
    for _ in range(_HALVINGS):
        order = random.permutation(len(clean))
        a, b = order[: len(order) // 2], order[len(order) // 2 :]
        mean_a, mean_b = (_mean_of_pairs(kernel, rows) for kernel, rows in ((within, a), (apart, b)))
        values.append(mean_a + mean_b - 2 * float(across[np.ix_(a, b)].mean()))
    return np.asarray(values)


def _mean_of_pairs(kernel: Features, rows: NDArray[np.int64]) -> float:
    """The mean of a kernel over distinct pairs of these rows."""
    part = kernel[np.ix_(rows, rows)]
    return float((part.sum() - np.trace(part)) / (len(rows) * (len(rows) - 1)))

"""One call for everything that is said about a set of synthetic scans: faithful, diverse, private."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.evaluation.diversity import Diversity, ms_ssim_diversity
from medgan.evaluation.features import RandomEncoder, Standardisation
from medgan.evaluation.fidelity import FEWEST_SCANS, Estimate, kid, real_floor
from medgan.evaluation.memorization import (
    Distances,
    Memorization,
    audit_memorization,
    feature_distances,
    voxel_distances,
)

_QUANTILES = 256
_HALVINGS = 50

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SynthesisFigures:
    """What a set of synthetic scans measured against the real one it was made from.

    Args:
        encoder: name and version of the feature encoder; distances of different encoders cannot be compared.
        features: how many features it gave.
        shape: voxels (X, Y, Z) of every volume.
        counts: scans in the sets "real", "synthetic" and "holdout".
        seed: of the random subsets and pairs.
        kid: kernel distance between the real and the synthetic set; zero is best.
        kid_floor: the same between random halves of the real set.
        diversity: similarity among the synthetic scans; to be compared with `real_diversity`.
        real_diversity: similarity among the real scans.
        intensity_distance: Wasserstein distance between the voxel intensity distributions, in normalised units.
        intensity_floor: the same between random halves of the real set.
        memorization: nearest real scans of each synthetic scan, and which are suspiciously close.
    """

    encoder: str
    features: int
    shape: tuple[int, int, int]
    counts: dict[str, int]
    seed: int
    kid: Estimate
    kid_floor: Estimate
    diversity: Diversity
    real_diversity: Diversity
    intensity_distance: float
    intensity_floor: Estimate
    memorization: Memorization

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def evaluate_synthesis(
    real: Sequence[Array], synthetic: Sequence[Array], *, holdout: Sequence[Array] = (), seed: int = 0
) -> SynthesisFigures:
    """Measure synthetic scans against the real ones their generator was trained on.

    Args:
        real: the training scans: arrays (X, Y, Z), float32 normalised to about 0..1, array axes from Left to Right,
            Posterior to Anterior, Inferior to Superior, at least 8 voxels a side.
        synthetic: of the same shape, in the same normalisation.
        holdout: real scans that the generator never saw, the reference for memorisation; without them, the training
            scans against each other.
        seed: of random subsets and pairs; the same seed gives the same figures.

    Raises:
        MedganError: fewer than four real or four synthetic scans, shapes that differ or are too small, or voxels that
            are not finite.
    """
    sets = {"real": real, "synthetic": synthetic, "holdout": holdout}
    shape = _common_shape(sets)
    sets = {name: volumes for name, volumes in sets.items() if len(volumes)}
    encoder = RandomEncoder()
    raw = {name: encoder.extract(volumes) for name, volumes in sets.items()}
    standardisation = Standardisation.fitted(raw["real"])
    features = {name: standardisation.applied(rows) for name, rows in raw.items()}
    by_features = {}
    for name, volumes in sets.items():
        mirrored = standardisation.applied(encoder.extract(np.asarray(volume)[::-1] for volume in volumes))
        by_features[name] = np.minimum(
            feature_distances(features[name], features["real"]), feature_distances(mirrored, features["real"])
        )
    by_voxels = {name: voxel_distances(volumes, real) for name, volumes in sets.items()}
    intensity_distance, intensity_floor = _intensity_distances(real, synthetic, seed)
    return SynthesisFigures(
        encoder=encoder.name,
        features=features["real"].shape[1],
        shape=shape,
        counts={"real": len(real), "synthetic": len(synthetic), "holdout": len(holdout)},
        seed=seed,
        kid=kid(features["real"], features["synthetic"], seed=seed),
        kid_floor=real_floor(features["real"], seed=seed),
        diversity=ms_ssim_diversity(synthetic, seed=seed),
        real_diversity=ms_ssim_diversity(real, seed=seed),
        intensity_distance=intensity_distance,
        intensity_floor=intensity_floor,
        memorization=audit_memorization(
            *(Distances(by["synthetic"], by["real"], by.get("holdout")) for by in (by_features, by_voxels))
        ),
    )


def _common_shape(sets: dict[str, Sequence[Array]]) -> tuple[int, int, int]:
    """The one shape of all volumes, after a check that there are enough of them."""
    for name in ("real", "synthetic"):
        if len(sets[name]) < FEWEST_SCANS:
            raise MedganError(
                f"the evaluation got {len(sets[name])} {name} scans, it needs at least {FEWEST_SCANS} of each kind",
                hint="Give more scans; a few dozen of each make the intervals useful.",
            )
    shape = np.shape(sets["real"][0])
    for name, volumes in sets.items():
        for number, volume in enumerate(volumes):
            if np.shape(volume) != shape or len(shape) != 3:
                raise MedganError(
                    f"{name} scan {number} has shape {np.shape(volume)}, the first real one {shape}",
                    hint="Resample all scans to one grid (X, Y, Z) before they are compared.",
                )
    return int(shape[0]), int(shape[1]), int(shape[2])


def _intensity_distances(real: Sequence[Array], synthetic: Sequence[Array], seed: int) -> tuple[float, Estimate]:
    """Wasserstein distances between pooled voxel intensities: real to synthetic, and between halves of the real set."""
    of_real, of_synthetic = _intensity_quantiles(real), _intensity_quantiles(synthetic)
    random = np.random.default_rng(seed)
    halvings = np.array([random.permutation(len(real)) for _ in range(_HALVINGS)])
    middle = len(real) // 2
    floor = [_wasserstein(of_real[order[:middle]], of_real[order[middle:]]) for order in halvings]
    low, high = np.quantile(floor, (0.025, 0.975))
    method = f"middle 95 % of {_HALVINGS} random halvings"
    return _wasserstein(of_real, of_synthetic), Estimate(float(np.mean(floor)), float(low), float(high), method)


def _intensity_quantiles(volumes: Sequence[Array]) -> Floats:
    """Equally spaced quantiles of each volume's voxels, (N, 256): its distribution in few numbers of equal weight."""
    levels = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return np.stack([np.quantile(np.asarray(volume, dtype=np.float32), levels) for volume in volumes]).astype(
        np.float64
    )


def _wasserstein(first: Floats, second: Floats) -> float:
    """Wasserstein-1 distance between two pools of equally weighted values."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(first.ravel(), second.ravel()))

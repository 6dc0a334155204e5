"""One call for everything that is said about a set of synthetic scans: faithful, diverse, private."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.evaluation.cache import FeatureCache, extracted
from medgan.evaluation.classes import (
    ClassFigures,
    Classifier,
    class_distances,
    class_probabilities,
    inception_score,
)
from medgan.evaluation.copies import CopyDetector, scan_maps
from medgan.evaluation.coverage import SetCoverage, set_coverage
from medgan.evaluation.diversity import Diversity, ms_ssim_diversity
from medgan.evaluation.encoders import Encoder, encoder_named
from medgan.evaluation.features import Standardisation
from medgan.evaluation.fidelity import FEWEST_SCANS, Estimate, kid, median_distance, mmd, mmd_floor, real_floor
from medgan.evaluation.frechet import FrechetDistance, frechet, frechet_floor
from medgan.evaluation.halvings import Halving, floor_and_matched, halvings
from medgan.evaluation.intensities import intensity_distance, intensity_quantiles
from medgan.evaluation.memorization import (
    Distances,
    Memorization,
    audit_memorization,
    feature_distances,
    voxel_distances,
)
from medgan.evaluation.scans import Array, Mirrored, Scans, over_scans, thumbnail
from medgan.evaluation.spectrum import RadialBands, Spectra, spectrum_distance

Floats = NDArray[np.float64]
Labels = tuple[Sequence[str], Sequence[str]]
"""The class of each real scan, and of each synthetic one."""


@dataclass(frozen=True)
class SynthesisFigures:
    """What a set of synthetic scans measured against the real one it was made from.

    Distances are zero for equal distributions, or as small as their floor; a floor is what random halves of the real
    set measure between them. Distances that depend on the number of scans compare with their floor at its number only:
    that is what `matched` holds.

    Args:
        encoder: name and version of the feature encoder; distances of different encoders cannot be compared.
        features: how many features it gave.
        shape: voxels (X, Y, Z) of every volume.
        spacing: their size in mm, or None where it was not told.
        counts: scans in the sets "real", "synthetic" and "holdout".
        seed: of the random subsets and pairs.
        kid: kernel distance between the real and the synthetic set.
        kid_floor: its floor.
        mmd: the same with a Gaussian kernel, which sees every kind of difference.
        mmd_floor: its floor.
        frechet: Fréchet distance.
        frechet_floor: its floor.
        coverage: precision, recall, density and coverage of the synthetic scans.
        coverage_floor: what as many real scans get.
        diversity: similarity among the synthetic scans; to be compared with `real_diversity`.
        real_diversity: similarity among the real scans.
        intensity_distance: Wasserstein distance between the voxel intensity distributions, in normalised units.
        intensity_floor: its floor.
        spectrum_distance: mean difference between the radial power spectra, in decibels.
        spectrum_floor: its floor.
        spectrum: both mean spectra.
        matched: "frechet", "intensity" and "spectrum" of as many real and synthetic scans as are behind their floor.
        ratios: of "kid", "mmd", "frechet", "intensity" and "spectrum" to the upper end of the floor's interval: up to
            about one, synthetic scans cannot be told from other real ones by this figure; and of "precision",
            "recall", "density" and "coverage" to the floor's value, one being what real scans get. None where the floor
            is zero.
        memorization: nearest real scans of each synthetic scan, and which are suspiciously close.
        classes: figures of each class; None without labels and classifier.
        anatomy: volumes of regions; None without a segmentation.
    """

    encoder: str
    features: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None
    counts: dict[str, int]
    seed: int
    kid: Estimate
    kid_floor: Estimate
    mmd: Estimate
    mmd_floor: Estimate
    frechet: FrechetDistance
    frechet_floor: FrechetDistance
    coverage: SetCoverage
    coverage_floor: SetCoverage
    diversity: Diversity
    real_diversity: Diversity
    intensity_distance: float
    intensity_floor: Estimate
    spectrum_distance: float
    spectrum_floor: Estimate
    spectrum: Spectra
    matched: dict[str, Estimate]
    ratios: dict[str, float | None]
    memorization: Memorization
    classes: ClassFigures | None = None
    anatomy: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def evaluate_synthesis(
    real: Scans,
    synthetic: Scans,
    *,
    holdout: Scans = (),
    spacing: Sequence[float] | None = None,
    encoder: Encoder | None = None,
    cache: FeatureCache | None = None,
    classifier: Classifier | None = None,
    labels: Labels | None = None,
    seed: int = 0,
) -> SynthesisFigures:
    """Measure synthetic scans against the real ones their generator was trained on.

    Scans are asked for by their number, several times each, and a few at a time: a sequence that reads them from a disk
    keeps the memory independent of how many there are.

    Args:
        real: the training scans: arrays (X, Y, Z), float32 normalised to about 0..1, array axes from Left to Right,
            Posterior to Anterior, Inferior to Superior, at least 8 voxels a side.
        synthetic: of the same shape, in the same normalisation.
        holdout: real scans that the generator never saw, the reference for memorisation; without them, the training
            scans against each other.
        spacing: size of the voxels in mm along each axis, for the frequencies of spectra; without it they are in cycles
            per voxel, as for a volume of 1 mm voxels.
        encoder: that gives the features; the card's own by default, see `medgan.evaluation.encoders`.
        cache: where features of scans that were encoded before are found and kept; without it all are computed.
        classifier: that gives class probabilities of a volume, for the inception score and, without labels, for the
            distances of each class.
        labels: the class of each real scan and of each synthetic one, for the distances of each class.
        seed: of random subsets and pairs; the same seed gives the same figures.

    Raises:
        MedganError: fewer than four real or four synthetic scans, shapes that differ or are too small, voxels that are
            not finite, real scans that are all alike, or labels or probabilities that do not fit.
    """
    sets = {"real": real, "synthetic": synthetic, "holdout": holdout}
    shape = _common_shape(sets)
    sets = {name: scans for name, scans in sets.items() if len(scans)}
    encoder = encoder or encoder_named(None, spacing=spacing)
    encoded = partial(extracted, encoder, cache=cache, spacing=spacing)
    raw = {name: encoded(scans) for name, scans in sets.items()}
    standardisation = Standardisation.fitted(raw["real"])
    features = {name: standardisation.applied(rows) for name, rows in raw.items()}
    mirrored = {
        name: standardisation.applied(encoded(Mirrored(scans))) for name, scans in sets.items() if name != "synthetic"
    }
    step = (1.0, 1.0, 1.0) if spacing is None else (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    bands = RadialBands(shape, step)
    seen = {name: over_scans(partial(_seen, bands), scans) for name, scans in sets.items()}
    return SynthesisFigures(
        encoder=encoder.name,
        features=features["real"].shape[1],
        shape=shape,
        spacing=None if spacing is None else step,
        counts={"real": len(real), "synthetic": len(synthetic), "holdout": len(holdout)},
        seed=seed,
        diversity=ms_ssim_diversity(synthetic, seed=seed),
        real_diversity=ms_ssim_diversity(real, seed=seed),
        spectrum=_spectra(bands, seen, "1/voxel" if spacing is None else "1/mm"),
        memorization=_audited(features, mirrored, seen, seed),
        classes=_classes(features, sets, classifier, labels, seed),
        **_against_floors(features, seen, seed),
    )


@dataclass(frozen=True)
class _Seen:
    """What is kept of one scan: quantiles of its voxels, its spectrum, and its thumbnail (x, y, z)."""

    quantiles: Floats
    powers: Floats
    thumbnail: NDArray[np.float32]


def _seen(bands: RadialBands, volume: Array) -> _Seen:
    return _Seen(intensity_quantiles(volume), bands.powers(volume), thumbnail(volume))


def _common_shape(sets: Mapping[str, Scans]) -> tuple[int, int, int]:
    """The one shape of all volumes, after a check that there are enough of them."""
    for name in ("real", "synthetic"):
        if len(sets[name]) < FEWEST_SCANS:
            raise MedganError(
                f"the evaluation got {len(sets[name])} {name} scans, it needs at least {FEWEST_SCANS} of each kind",
                hint="Give more scans; a few dozen of each make the intervals useful.",
            )
    shape = np.shape(sets["real"][0])
    for name, scans in sets.items():
        for number in range(len(scans)):
            found = np.shape(scans[number])
            if found != shape or len(shape) != 3:
                raise MedganError(
                    f"{name} scan {number} has shape {found}, the first real one {shape}",
                    hint="Resample all scans to one grid (X, Y, Z) before they are compared.",
                )
    return int(shape[0]), int(shape[1]), int(shape[2])


def _audited(
    features: Mapping[str, Floats], mirrored: Mapping[str, Floats], seen: Mapping[str, Sequence[_Seen]], seed: int
) -> Memorization:
    """The memorisation audit by features and by thumbnails, each of the scan and of a real one's mirror image."""

    def by_features(name: str, others: str) -> Floats:
        straight = feature_distances(features[name], features[others])
        # Of two real scans the second is mirrored, which spares the samples a second passage through the encoder.
        pair = (mirrored[name], features[others]) if others == "synthetic" else (features[name], mirrored[others])
        return np.minimum(straight, feature_distances(*pair))

    def by_voxels(name: str, others: str) -> Floats:
        return voxel_distances(*([one.thumbnail for one in seen[part]] for part in (name, others)))

    held_out = "holdout" in features
    distances = [
        Distances(
            between("synthetic", "real"),
            between("real", "real"),
            between("holdout", "real") if held_out else None,
            between("holdout", "synthetic") if held_out else None,
        )
        for between in (by_features, by_voxels)
    ]
    maps = {name: [scan_maps(one.thumbnail) for one in looks] for name, looks in seen.items()}
    detector = CopyDetector.calibrated(maps["real"], maps.get("holdout", ()))
    return audit_memorization(distances[0], distances[1], detector.figures(maps["synthetic"]), seed=seed)


def _against_floors(features: Mapping[str, Floats], seen: Mapping[str, Sequence[_Seen]], seed: int) -> dict[str, Any]:
    """Every distance between the sets, its floor, and the ratios of both."""
    real, synthetic = features["real"], features["synthetic"]
    chosen = halvings(len(real), len(synthetic), seed=seed)
    bandwidth = median_distance(real)
    quantiles, powers = (
        {name: np.stack([getattr(one, part) for one in looks]) for name, looks in seen.items()}
        for part in ("quantiles", "powers")
    )
    floor, matched_frechet = frechet_floor(real, synthetic, chosen, seed=seed)
    coverage, coverage_floor = set_coverage(real, synthetic, chosen)
    intensity_floor, matched_intensity = _floors(chosen, quantiles, intensity_distance)
    spectrum_floor, matched_spectrum = _floors(chosen, powers, spectrum_distance)
    found: dict[str, Any] = {
        "kid": kid(real, synthetic, seed=seed),
        "kid_floor": real_floor(real, seed=seed),
        "mmd": mmd(real, synthetic, bandwidth=bandwidth, seed=seed),
        "mmd_floor": mmd_floor(real, bandwidth=bandwidth, seed=seed),
        "frechet": frechet(real, synthetic, seed=seed),
        "frechet_floor": floor,
        "coverage": coverage,
        "coverage_floor": coverage_floor,
        "intensity_distance": intensity_distance(quantiles["real"], quantiles["synthetic"]),
        "intensity_floor": intensity_floor,
        "spectrum_distance": spectrum_distance(powers["real"], powers["synthetic"]),
        "spectrum_floor": spectrum_floor,
        "matched": {"frechet": matched_frechet, "intensity": matched_intensity, "spectrum": matched_spectrum},
    }
    return found | {"ratios": _ratios(found)}


def _floors(
    chosen: Sequence[Halving], rows: Mapping[str, Floats], distance: Callable[[Floats, Floats], float]
) -> tuple[Estimate, Estimate]:
    """Floor and matched value of a distance between rows (one for each scan)."""
    real, synthetic = rows["real"], rows["synthetic"]
    return floor_and_matched(
        chosen,
        lambda first, second: distance(real[first], real[second]),
        lambda first, second: distance(real[first], synthetic[second]),
    )


def _ratios(found: Mapping[str, Any]) -> dict[str, float | None]:
    """Of each figure to its floor, see `SynthesisFigures`."""
    compared = {name: (found[name].value, found[f"{name}_floor"].high) for name in ("kid", "mmd")}
    compared |= {name: (estimate.value, found[f"{name}_floor"].high) for name, estimate in found["matched"].items()}
    for name in ("precision", "recall", "density", "coverage"):
        compared[name] = getattr(found["coverage"], name).value, getattr(found["coverage_floor"], name).value
    return {name: float(value / floor) if floor > 0 else None for name, (value, floor) in compared.items()}


def _spectra(bands: RadialBands, seen: Mapping[str, Sequence[_Seen]], unit: str) -> Spectra:
    real, synthetic = (np.mean([one.powers for one in seen[name]], axis=0).tolist() for name in ("real", "synthetic"))
    return Spectra(tuple(bands.frequencies.tolist()), tuple(real), tuple(synthetic), unit)


def _classes(
    features: Mapping[str, Floats],
    sets: Mapping[str, Scans],
    classifier: Classifier | None,
    labels: Labels | None,
    seed: int,
) -> ClassFigures | None:
    """Figures of each class, by the labels or by what the classifier takes the scans for."""
    if classifier is None and labels is None:
        return None
    source, score, real_score = "labels", None, None
    if classifier is not None:
        real, synthetic = (class_probabilities(classifier, sets[name]) for name in ("real", "synthetic"))
        size = min(len(real), len(synthetic))
        score, real_score = (inception_score(rows, size=size, seed=seed) for rows in (synthetic, real))
        if labels is None:
            source = "classifier"
            of_real, of_synthetic = ([f"class {k}" for k in rows.argmax(1)] for rows in (real, synthetic))
            labels = of_real, of_synthetic
    assert labels is not None
    distances = class_distances(features["real"], features["synthetic"], labels, seed=seed)
    return ClassFigures(source, distances, score, real_score)

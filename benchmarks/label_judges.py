"""Judges of virtual subjects, which know what their labels mean: a mass in the white matter, ventricles that grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Volumes = NDArray[np.float32]
Features = Callable[[Volumes, NDArray[np.float64]], NDArray[np.float64]]

# In RAS mm of the template: a box about the lateral ventricles, and the deep white matter, x to both sides.
VENTRICLES = ((-24.0, 24.0), (-45.0, 30.0), (4.0, 28.0))
DEEP = ((16.0, 40.0), (-60.0, 30.0), (6.0, 46.0))
# Standard deviation, mm, about half a mass's radius.
MASS_BLUR = 5.0
# Of the white matter's intensity: fluid lies at about 0.3, grey matter at 0.7.
DARK = 0.5


@dataclass(frozen=True)
class Scans:
    """Scans with their labels.

    Args:
        volumes: (N, X, Y, Z), normalised to about 0..1.
        labels: of each scan.
    """

    volumes: Volumes
    labels: tuple[Mapping[str, Any], ...]

    def values(self, name: str) -> NDArray[Any]:
        """One label of all scans."""
        return np.array([labels[name] for labels in self.labels])

    def where(self, name: str, value: object) -> Scans:
        """The scans that have this value."""
        kept = [index for index, labels in enumerate(self.labels) if labels[name] == value]
        return Scans(self.volumes[kept], tuple(self.labels[index] for index in kept))


@dataclass(frozen=True)
class Judge:
    """Logistic regression on measures of the anatomy, fitted to real scans, its penalty chosen by cross-validation on
    them.

    Args:
        model: fitted.
        name: of the label whose classes it tells apart.
        features: volumes and affine to (N, features).
        affine: of all scans.
    """

    model: Any
    name: str
    features: Features
    affine: NDArray[np.float64]

    @classmethod
    def fitted(cls, scans: Scans, name: str, features: Features, affine: NDArray[np.float64]) -> Judge:
        """The judge that these scans teach."""
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
        from sklearn.model_selection import GridSearchCV  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
        from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

        steps = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        penalties = {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]}
        model = GridSearchCV(steps, penalties, scoring="balanced_accuracy", cv=4)
        return cls(model.fit(features(scans.volumes, affine), scans.values(name)), name, features, affine)

    def told_apart(self, scans: Scans) -> float:
        """Balanced accuracy, 0.5 to 1 for one that is not misled."""
        said = self.model.predict(self.features(scans.volumes, self.affine))
        true = scans.values(self.name)
        return float(np.mean([(said[true == value] == value).mean() for value in np.unique(true)]))


def mass_features(volumes: Volumes, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much darker one side of the deep white matter is than the other, and how dark its darkest place, (N, 3)."""
    from scipy.ndimage import gaussian_filter

    spacing = np.abs(np.diag(affine)[:3])
    scans = volumes / white_matter(volumes)[:, None, None, None]
    smooth = np.stack([gaussian_filter(scan, MASS_BLUR / spacing) for scan in scans])
    positions = [affine[axis, axis] * np.arange(n) + affine[axis, 3] for axis, n in enumerate(volumes.shape[1:])]
    # The other side, interpolated between the two planes next to the mirror image of each.
    places = ((-positions[0] - affine[0, 3]) / affine[0, 0]).clip(0, len(positions[0]) - 1.001)
    lower, share = places.astype(int), (places % 1)[:, None, None]
    mirrored = smooth[:, lower] * (1 - share) + smooth[:, lower + 1] * share
    positions[0] = np.abs(positions[0])
    inside = np.ix_(*((low < along) & (along < high) for along, (low, high) in zip(positions, DEEP, strict=True)))
    darker = np.stack([scan[inside].ravel() for scan in mirrored - smooth])
    darkest = np.stack([scan[inside].ravel() for scan in smooth])
    largest = np.sort(darker, axis=1)[:, -5:]
    return np.stack([largest[:, -1], largest.mean(axis=1), darkest.min(axis=1)], axis=1)


def white_matter(volumes: Volumes) -> NDArray[np.float32]:
    """The intensity of white matter, nearly the brightest there is, of each volume (N, X, Y, Z)."""
    return np.asarray(np.percentile(volumes.reshape(len(volumes), -1), 97, axis=1), dtype=np.float32)


def ventricle_shares(volumes: Volumes, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of dark voxels in the box about the lateral ventricles, of each volume (N, X, Y, Z)."""
    # Not counted but weighted, so that large voxels change their share gradually.
    darkness = 1 / (1 + np.exp((ventricle_voxels(volumes, affine) - DARK) / 0.08))
    return np.asarray(darkness.mean(axis=1), dtype=np.float64)


def ventricle_voxels(volumes: Volumes, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The voxels of the box about the lateral ventricles over the white matter's intensity, (N, voxels)."""
    inverse = np.linalg.inv(affine)
    box = []
    for axis, ends in enumerate(VENTRICLES):
        first, last = (inverse[axis, axis] * end + inverse[axis, 3] for end in ends)
        box.append(slice(max(0, round(first)), round(last) + 1))
    inside = volumes[(slice(None), *box)].reshape(len(volumes), -1)
    return np.asarray(inside / white_matter(volumes)[:, None], dtype=np.float64)


def ordered(numbers: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
    """Spearman's rank correlation."""
    from scipy.stats import spearmanr

    return float(spearmanr(numbers, measured).statistic)

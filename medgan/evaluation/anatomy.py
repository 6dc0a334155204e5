"""Whether organs and tissues of synthetic scans are as large as in real ones: volumes of regions, in millilitres.

Features and pictures may pass while every ventricle is too small. A segmentation of the user's own says how large each
region is; what counts is the whole spread of volumes, not their mean alone, so sets are compared by the Wasserstein
distance: the mean amount by which volumes would have to change for one set to become the other, in ml. Beside it stands
the floor, the distance between two halves of the real set, and the distance at that same number of scans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.errors import MedganError
from medgan.evaluation.fidelity import FEWEST_SCANS, Estimate
from medgan.evaluation.halvings import Halving, floor_and_matched, halvings
from medgan.evaluation.segmenters import Segmenter
from medgan.volume import Volume

_HALVINGS = 200
_MOST_REGIONS = 500
_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class RegionFigures:
    """The volumes of one region.

    Args:
        label: its number in the label maps.
        name: of the region.
        real_mean_ml: mean volume in real scans; a scan without the region has 0 ml of it.
        real_deviation_ml: standard deviation.
        synthetic_mean_ml: mean volume in synthetic scans.
        synthetic_deviation_ml: standard deviation.
        distance_ml: Wasserstein distance between all real and all synthetic volumes.
        floor: that between random halves of the real set, in ml.
        matched: that between the same halves and as many synthetic scans, in ml.
        ratio: of `matched` to the upper end of the floor's interval; up to about one, the volumes cannot be told from
            those of other real scans. None where real scans do not differ.
        real_ml: the volume in each real scan, in order of size.
        synthetic_ml: the volume in each synthetic scan, in order of size.
    """

    label: int
    name: str
    real_mean_ml: float
    real_deviation_ml: float
    synthetic_mean_ml: float
    synthetic_deviation_ml: float
    distance_ml: float
    floor: Estimate
    matched: Estimate
    ratio: float | None
    real_ml: tuple[float, ...]
    synthetic_ml: tuple[float, ...]


@dataclass(frozen=True)
class AnatomyFigures:
    """Volumes of all regions.

    Args:
        segmentation: what segmented, in a word.
        scans: how many scans of the kinds "real" and "synthetic" were segmented.
        regions: in the order of their labels.
    """

    segmentation: str
    scans: dict[str, int]
    regions: tuple[RegionFigures, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def region_volumes(labels: ArrayLike, affine: ArrayLike) -> dict[int, float]:
    """Volume of each region of a label map in ml.

    Args:
        labels: (X, Y, Z), whole numbers; 0 is background and left out.
        affine: 4x4, voxel index to mm; a voxel's volume is its determinant, oblique or sheared as it may be.

    Raises:
        MedganError: the array is no label map.
    """
    regions = _checked(labels)
    voxel_ml = abs(float(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3]))) / _MM3_PER_ML
    found, counts = np.unique(regions, return_counts=True)
    return {int(label): float(count * voxel_ml) for label, count in zip(found, counts, strict=True) if label != 0}


def evaluate_anatomy(
    real: Iterable[Volume], synthetic: Iterable[Volume], segmenter: Segmenter, *, seed: int = 0
) -> AnatomyFigures:
    """Segment all scans, one at a time, and compare the volumes of their regions.

    Args:
        real: at least four scans, of any grids.
        synthetic: at least four.
        segmenter: what makes label maps of scans, see `medgan.evaluation.segmenters`.
        seed: of the halvings.

    Raises:
        MedganError: there are too few scans, a segmentation is no label map, or none finds any region.
    """
    found = {
        kind: [_volumes_of(volume, segmenter) for volume in scans]
        for kind, scans in (("real", real), ("synthetic", synthetic))
    }
    for kind, rows in found.items():
        if len(rows) < FEWEST_SCANS:
            raise MedganError(
                f"volumes need at least {FEWEST_SCANS} scans of each kind, there are {len(rows)} {kind} ones",
                hint="Give more scans.",
            )
    labels = sorted({label for rows in found.values() for row in rows for label in row})
    if not labels:
        raise MedganError(
            f"the segmentation '{segmenter.name}' found no region in any scan",
            hint="Check that it expects scans such as these: contrast, spacing and range of intensities.",
        )
    scans = {kind: len(rows) for kind, rows in found.items()}
    chosen = halvings(scans["real"], scans["synthetic"], repeats=_HALVINGS, seed=seed)
    regions = tuple(
        _compared(
            label,
            segmenter.names.get(label, f"region {label}"),
            real=np.array([row.get(label, 0.0) for row in found["real"]]),
            synthetic=np.array([row.get(label, 0.0) for row in found["synthetic"]]),
            chosen=chosen,
        )
        for label in labels
    )
    return AnatomyFigures(segmenter.name, scans, regions)


def _volumes_of(volume: Volume, segmenter: Segmenter) -> Mapping[int, float]:
    """Of one scan; a label map that is a Volume brings its own grid."""
    answer = segmenter(volume)
    if isinstance(answer, Volume):
        return region_volumes(answer.data[0], answer.affine)
    labels = np.asarray(answer)
    if labels.shape != volume.shape:
        raise MedganError(
            f"the segmentation '{segmenter.name}' gave {labels.shape} voxels for a scan of {volume.shape}",
            hint="Let it answer on the grid of the scan, or with a medgan.Volume that has its own affine.",
        )
    return region_volumes(labels, volume.affine)


def _checked(labels: ArrayLike) -> NDArray[np.int64]:
    """Whole numbers (X, Y, Z), not too many different ones."""
    array = np.asarray(labels)
    if array.ndim != 3:
        raise MedganError(f"a label map has three axes (X, Y, Z), this one has the shape {array.shape}")
    whole = np.rint(np.asarray(array, dtype=np.float64)) if array.dtype.kind == "f" else array
    if array.dtype.kind not in "iufb" or (array.dtype.kind == "f" and not np.array_equal(whole, array)):
        raise MedganError(
            "the segmentation did not give whole numbers, one for each region",
            hint="Take the argmax over the channels of probabilities, or threshold them.",
        )
    regions = whole.astype(np.int64)
    count = len(np.unique(regions))
    if count > _MOST_REGIONS:
        raise MedganError(
            f"the segmentation gave {count} different numbers, which look like intensities and not like labels",
            hint="Give one whole number for each region.",
        )
    return regions


def _compared(
    label: int, name: str, *, real: NDArray[np.float64], synthetic: NDArray[np.float64], chosen: Sequence[Halving]
) -> RegionFigures:
    from scipy.stats import wasserstein_distance

    floor, matched = floor_and_matched(
        chosen,
        lambda first, second: float(wasserstein_distance(real[first], real[second])),
        lambda first, second: float(wasserstein_distance(real[first], synthetic[second])),
    )
    return RegionFigures(
        label=label,
        name=name,
        real_mean_ml=float(real.mean()),
        real_deviation_ml=float(real.std(ddof=1)),
        synthetic_mean_ml=float(synthetic.mean()),
        synthetic_deviation_ml=float(synthetic.std(ddof=1)),
        distance_ml=float(wasserstein_distance(real, synthetic)),
        floor=floor,
        matched=matched,
        ratio=matched.value / floor.high if floor.high > 0 else None,
        real_ml=tuple(sorted(float(value) for value in real)),
        synthetic_ml=tuple(sorted(float(value) for value in synthetic)),
    )

"""Taking the face out of head scans.

The MNI152 template's brain (from nilearn) is laid over the scan by an affine map that maximises the correlation ratio
(Roche et al., MICCAI 1998), which needs no model and suits any MR contrast. The face is then a region of template
space: all that lies in front of the throat and below a plane under the brain, or before the frontal pole and below the
brows, and is further from the template's brain than a margin. Everything in that region, air and its noise included,
takes the scan's lowest value. Cutting along a plane under the brain follows Schimke and Hale (Quickshear defacing,
2011).

What this does not promise: the ears, the forehead above the brows, hair line and skull stay, and so may be enough for
someone who holds another scan or a photograph of the person; parts of the face that wrapped around to the other side
of the image stay; a brain that differs much from the template (children, large lesions, surgery) may be matched worse
than the margin allows. Scans whose match is implausible are refused. Look at the result before you share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.errors import MedganError
from medgan.geometry import Affine, Shape
from medgan.volume import Volume

METHOD = "face removed by an MNI152 template region (affine fit)"

# Millimetres of the template around its brain that are never touched: what an affine map leaves unexplained of a
# head's shape, with room to spare.
MARGIN = 10.0

# The face region in the template's millimetres: y grows forwards, z upwards. The plane touches the brain from below at
# the frontal lobes (y 60, z -28) and at the brain stem (y -44, z -72); the frontal pole is at y 72.
_PLANE_POINT, _PLANE_RISE = (60.0, -28.0), 44.0 / 104.0
_THROAT, _FRONTAL, _BROWS = -10.0, 60.0, 12.0

# Measured: T1, T2 and FLAIR heads reach correlation ratios of 0.49 to 0.76, within the brain 0.22 to 0.42. A head the
# wrong way round reaches 0.50 and 0.16, an abdomen 0.20 and 0.22.
_LEAST_MATCH, _LEAST_INNER_MATCH = 0.42, 0.19
_LEAST_SEEN = 0.8
_SCALES = (0.6, 1.3)
_LARGEST_TILT = np.radians(45.0)

_PADDING = 30


@dataclass(frozen=True)
class Face:
    """Where the face of one scan lies.

    Args:
        to_template: 4x4, the scan's RAS mm to the template's mm.
        match: correlation ratio of scan and template over the template's brain and its rim, 0 to 1.
    """

    to_template: Affine
    match: float

    def mask(self, shape: Shape, affine: Affine) -> NDArray[np.bool_]:
        """True where a voxel's centre lies in the face.

        Args:
            shape: voxels along the array axes (X, Y, Z) of any grid in the scan's space.
            affine: 4x4, that grid's voxel index to RAS mm.

        Returns:
            Array (X, Y, Z).
        """
        distance, to_index = _distance_to_brain()
        into = self.to_template @ affine
        mask = np.empty(shape, bool)
        plane = np.ones((4, shape[0] * shape[1]))
        plane[:2] = np.indices(shape[:2]).reshape(2, -1)
        for z in range(shape[2]):
            plane[2] = z
            place = into @ plane
            inside = _before_the_cut(place)
            near = (to_index @ place[:, inside])[:3]
            far = ndimage.map_coordinates(distance, near, order=1, mode="nearest") > MARGIN
            inside[inside] = far
            mask[:, :, z] = inside.reshape(shape[:2])
        return mask


def defaced(volume: Volume) -> Volume:
    """The scan with its face set to the lowest value of each channel; the data type stays.

    Raises:
        MedganError: as `find_face`.
    """
    mask = find_face(volume).mask(volume.shape, volume.affine)
    data = volume.data.copy()
    for channel in data:
        channel[mask] = channel.min()
    return volume.with_data(data, METHOD)


def find_face(volume: Volume) -> Face:
    """Where the face lies, by the volume's first channel.

    Args:
        volume: an MR scan of a head in scanner coordinates, upright within about 30 degrees of nodding.

    Raises:
        MedganError: nilearn is not installed, or the template's brain does not fit the scan, so that where the face is
            is unknown.
    """
    from medgan.defacing_fit import fit

    found = fit(volume, *_template())
    stretch = np.linalg.svd(found.matrix[:3, :3])[1]
    faults = []
    if found.match < _LEAST_MATCH:
        faults.append(f"they agree by {found.match:.2f}, at least {_LEAST_MATCH} is needed")
    if found.inner_match < _LEAST_INNER_MATCH:
        faults.append(
            f"within the brain they agree by {found.inner_match:.2f}, at least {_LEAST_INNER_MATCH} is needed"
        )
    if found.seen < _LEAST_SEEN:
        faults.append(f"only {found.seen:.0%} of the brain lies in the scan")
    if not (_SCALES[0] <= stretch.min() and stretch.max() <= _SCALES[1]):
        faults.append(f"the brain would be {stretch.min():.2f} to {stretch.max():.2f} times the template's size")
    if abs(found.tilt) > _LARGEST_TILT:
        faults.append(f"the head would be tilted by {np.degrees(found.tilt):.0f} degrees")
    if faults:
        raise MedganError(
            f"the template's brain cannot be laid over this scan with confidence: {'; '.join(faults)}",
            hint="Where the face is is therefore unknown. Deface this scan by other means, or leave out --deface.",
        )
    return Face(np.asarray(np.linalg.inv(found.matrix), np.float64), found.match)


def _before_the_cut(place: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points (4, N) in the template's mm lie on the face's side of the cut."""
    y, z = place[1], place[2]
    below = (y > _THROAT) & (z < _PLANE_POINT[1] + (y - _PLANE_POINT[0]) * _PLANE_RISE)
    return below | ((y > _FRONTAL) & (z < _BROWS))


@lru_cache(maxsize=1)
def _template() -> tuple[NDArray[np.float32], NDArray[np.bool_], Affine]:
    """The MNI152 T1 average within its brain, the brain's mask (X, Y, Z) and the affine, on a 2 mm grid."""
    try:
        from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
    except ImportError as error:
        raise MedganError(
            "defacing needs the brain template that nilearn carries, and nilearn is not installed",
            hint="Install it with: pip install 'medgan[demo]'",
        ) from error
    image = load_mni152_template(resolution=2)
    brain = np.asarray(load_mni152_brain_mask(resolution=2).dataobj) > 0
    return np.asarray(image.dataobj, np.float32) * brain, brain, np.asarray(image.affine, np.float64)


@lru_cache(maxsize=1)
def _distance_to_brain() -> tuple[NDArray[np.float32], Affine]:
    """Millimetres to the template's brain (X, Y, Z) on a padded grid, and the map from mm to its index."""
    _, brain, affine = _template()
    steps = np.abs(np.diag(affine)[:3])
    distance = ndimage.distance_transform_edt(~np.pad(brain, _PADDING), sampling=steps)
    padded = affine.copy()
    padded[:3, 3] -= affine[:3, :3] @ np.full(3, _PADDING)
    return distance.astype(np.float32), np.asarray(np.linalg.inv(padded), np.float64)

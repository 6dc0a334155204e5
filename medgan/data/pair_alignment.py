"""Whether scans of different contrasts lie on each other, by their edges."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from medgan.data.alignment import Alignment, alignment_of

# Edges of different tissues lie up to some tenths of a voxel apart in different contrasts; this is beyond that.
TOLERANCE = 0.5
_SIGMA = 1.0
_STANDARD_ERRORS = 3.0
_AXES = ("right-left", "front-back", "up-down")


def edge_alignment(pairs: Iterable[tuple[ArrayLike, ArrayLike]]) -> Alignment:
    """The displacement that all pairs share, from the magnitudes of their gradients: these are large at the same places
    whatever the contrast, where intensities may be exchanged.

    Args:
        pairs: (source, target), each (X, Y, Z), all of one shape.

    Raises:
        MedganError: there is no pair, or shapes differ.
    """
    edges = [
        tuple(ndimage.gaussian_gradient_magnitude(np.asarray(one, np.float64), _SIGMA, mode="nearest") for one in pair)
        for pair in pairs
    ]
    return alignment_of([(one, other) for one, other in edges])


def displacement_told(alignment: Alignment) -> str | None:
    """Which displacement of RAS scans deserves a warning, such as "+1.0 voxel right-left"; None if there is none."""
    found = [
        f"{value:+.1f} voxel {axis}"
        for value, error, axis in zip(alignment.shift, alignment.shift_error, _AXES, strict=True)
        if not isnan(value) and abs(value) > max(TOLERANCE, 0.0 if isnan(error) else _STANDARD_ERRORS * error)
    ]
    return ", ".join(found) or None

"""DICOM series: which files belong together (`scan`), where their slices lie (`geometry`), their voxels (`read`)."""

from __future__ import annotations

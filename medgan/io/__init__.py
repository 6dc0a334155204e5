"""Scans in and out: NIfTI files and DICOM series to `medgan.Volume` and back.

Reading is strict. A scan that does not lie on one regular grid is refused with the reason and the slices concerned,
because a volume whose voxels are not where its affine says is worse than none.
"""

from __future__ import annotations

from medgan.io.scans import Scan, find_scans, read_all_volumes, read_volume, write_volume

__all__ = ["Scan", "find_scans", "read_all_volumes", "read_volume", "write_volume"]

"""Convert a scan from DICOM or NIfTI to NIfTI, every voxel and its place unchanged."""

from __future__ import annotations

from pathlib import Path

from medgan.io import read_volume, write_volume
from medgan.io.scans import require_writable_name
from medgan.workflows.places import writable_file


def convert(input: str | Path, output: str | Path, *, series: str | None = None, index: int | None = None) -> Path:
    """Read one scan and write it as a NIfTI file.

    A NIfTI input keeps its data type, scaling, qform and sform codes and units. A DICOM series keeps its stored
    integers, or is written in float32 if its slices are rescaled.

    Args:
        input: a NIfTI file or a folder that holds a DICOM series.
        output: the file to write, ending in .nii or .nii.gz.
        series: which SeriesInstanceUID, if the folder holds several.
        index: which volume of a 4D NIfTI file, counted from 0.

    Returns:
        The path written.

    Raises:
        MedganError: the input cannot be read as one regular grid, or the output cannot be written or is the input.
    """
    output = writable_file(require_writable_name(output), [input])
    return write_volume(read_volume(input, series=series, index=index), output)

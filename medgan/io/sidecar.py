"""What the JSON file beside a NIfTI file says of its slices, by the names of BIDS."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from medgan.errors import MedganError
from medgan.files import read_json

# BIDS 1.10, "Magnetic Resonance Imaging": both in mm. Written by dcm2niix too.
_FIELDS = {"SliceThickness": "slice_thickness", "SpacingBetweenSlices": "spacing_between_slices"}


def sidecar_of(path: str | Path) -> Path:
    """The JSON file beside a NIfTI file, or beside a folder."""
    path = Path(path)
    return path.with_name(re.sub(r"(\.nii)?(\.gz)?$", "", path.name, flags=re.IGNORECASE) + ".json")


def slice_facts(path: str | Path) -> dict[str, float]:
    """What the sidecar of a NIfTI file says of its slices.

    Returns:
        `slice_thickness` and `spacing_between_slices` in mm, each if it is there; nothing without a sidecar.

    Raises:
        MedganError: the sidecar is not readable, or one of them is no number.
    """
    sidecar = sidecar_of(path)
    if not sidecar.is_file():
        return {}
    content: Any = read_json(sidecar)
    facts = {}
    for field, name in _FIELDS.items():
        value = content.get(field) if isinstance(content, dict) else None
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise MedganError(
                f"{field} is {value!r}, which is no length in mm", file=sidecar, hint="Correct the sidecar."
            )
        facts[name] = float(value)
    return facts

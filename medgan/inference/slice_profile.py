"""Which slice profile an upscaling assumes: one of a few by name, or a measured one from a file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from medgan.acquisition import SliceProfile
from medgan.errors import MedganError, nearest
from medgan.files import require_existing

PROFILE_NAMES = ("gaussian", "rectangular", "shinnar_le_roux")
"""Those that can be asked for by name."""

PROFILE_WORDS = {
    "gaussian": "Gaussian",
    "rectangular": "rectangular",
    "shinnar_le_roux": "Shinnar-Le Roux pulse",
    "measured": "measured",
    "band_limit": "limited band",
}

# Positions are read from instruments: steps that differ by no more than their rounding count as even.
_EVEN = 0.05
_MOST_SAMPLES = 10_000
_MOST_BYTES = 2**20
_HINT = "Write one sample per line: its position in mm, rising, and its sensitivity; lines after # are left out."


@dataclass(frozen=True)
class AssumedProfile:
    """What a slice is assumed to see at each distance from its centre.

    Args:
        name: one of `PROFILE_NAMES`, "measured", or the profile that a model was trained for.
        measured: the shape of "measured"; its samples follow each other as the slices do.
        file: where it was read, for messages alone.
        is_mirrored: whether the samples stand in the order opposite to that of the file.
    """

    name: str = "gaussian"
    measured: SliceProfile | None = None
    file: Path | None = field(default=None, compare=False)
    is_mirrored: bool = False

    def __str__(self) -> str:
        """A few words for the history of a scan; no path is among them."""
        words = f"{PROFILE_WORDS[self.name]} profile" if self.name != "band_limit" else PROFILE_WORDS[self.name]
        return words if self.measured is None else f"{words} {self.digest[:12]}"

    @property
    def digest(self) -> str:
        """SHA-256 of the samples as they were measured and their step; of the name where nothing was measured."""
        if self.measured is None:
            return hashlib.sha256(self.name.encode()).hexdigest()
        weights = self.measured.weights[:: -1 if self.is_mirrored else 1]
        return hashlib.sha256(repr((weights, self.measured.step_mm)).encode()).hexdigest()

    def values(self) -> dict[str, Any]:
        """What decides it, as JSON could hold it."""
        return {"name": self.name, "sha256": self.digest}

    def mirrored(self) -> AssumedProfile:
        """The profile of slices that are counted from the other end."""
        if self.measured is None:
            return self
        measured = SliceProfile(self.measured.weights[::-1], self.measured.step_mm)
        return replace(self, measured=measured, is_mirrored=not self.is_mirrored)


GAUSSIAN = AssumedProfile()


def profile_for(wanted: str | Path) -> AssumedProfile:
    """The profile of a name, or measured and read from a file.

    Raises:
        MedganError: there is neither such a name nor such a file, or the file holds no profile.
    """
    if str(wanted) in PROFILE_NAMES:
        return AssumedProfile(str(wanted))
    if not Path(wanted).exists() and not re.search(r"[./\\]", str(wanted)):
        raise MedganError(
            f"'{wanted}' is no slice profile, and there is no such file",
            hint=f"{nearest(str(wanted), list(PROFILE_NAMES))} Or name a file of two columns: mm and sensitivity.",
        )
    return read_profile(wanted)


def read_profile(path: str | Path) -> AssumedProfile:
    """A measured profile: a text file with a position in mm and a sensitivity per line, apart by blanks, commas or
    semicolons.

    Positions rise in the direction in which the slices are counted; where their zero lies plays no part, as a slice is
    taken to sit at the centroid of its profile. Uneven positions are brought to even ones linearly.

    Raises:
        MedganError: the file cannot be read or is no such table, a sensitivity is negative, positions do not rise, or
            the profile is cut off before it has fallen to half its maximum.
    """
    path = require_existing(path)
    samples = _samples(path)
    positions, weights = (np.array(column, dtype=np.float64) for column in zip(*samples, strict=True))
    steps = np.diff(positions)
    if not (steps > 0).all():
        line = int(np.argmin(steps > 0))
        raise MedganError(
            f"the position {positions[line + 1]:g} mm follows {positions[line]:g} mm; positions must rise",
            file=path,
            hint=_HINT,
        )
    if not weights.any():
        raise MedganError("all sensitivities of the slice profile are 0", file=path, hint=_HINT)
    cut = max(weights[0], weights[-1]) / weights.max()
    if cut >= 0.5:
        raise MedganError(
            f"the slice profile is cut off: at its end it still has {100 * cut:.0f} % of its maximum",
            file=path,
            hint="Give it until it has fallen to about 0 on both sides.",
        )
    extent, finest = float(positions[-1] - positions[0]), float(steps.min())
    step = extent / len(steps) if steps.max() - finest <= _EVEN * finest else finest
    count = round(extent / step) + 1
    if count > _MOST_SAMPLES:
        raise MedganError(
            f"the slice profile needs {count} even samples of {step:g} mm; {_MOST_SAMPLES} are enough for any",
            file=path,
            hint="Give fewer, evenly spaced positions.",
        )
    even = np.interp(np.linspace(positions[0], positions[-1], count), positions, weights)
    return AssumedProfile("measured", SliceProfile(tuple(even.tolist()), extent / (count - 1)), path)


def _samples(path: Path) -> list[tuple[float, float]]:
    """The rows of the file, all numbers finite and no sensitivity negative."""
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        raise MedganError("a slice profile is a small text file, this is none", file=path, hint=_HINT)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MedganError("the slice profile cannot be read as text", file=path, hint=_HINT) from error
    found = []
    for number, line in enumerate(lines, start=1):
        cells = re.split(r"[\s,;]+", line.partition("#")[0].strip(" \t,;"))
        if cells == [""]:
            continue
        found.append(_sample(cells, number, path))
    if len(found) < 3:
        raise MedganError(f"a slice profile needs 3 samples or more, here are {len(found)}", file=path, hint=_HINT)
    return found


def _sample(cells: list[str], line: int, path: Path) -> tuple[float, float]:
    try:
        position, sensitivity = (float(cell) for cell in cells)
    except ValueError as error:
        raise MedganError(f"line {line} is '{' '.join(cells)[:60]}', not two numbers", file=path, hint=_HINT) from error
    if not (isfinite(position) and isfinite(sensitivity)):
        raise MedganError(f"line {line} holds a number that is not finite", file=path, hint=_HINT)
    if sensitivity < 0:
        raise MedganError(
            f"the sensitivity {sensitivity:g} in line {line} is negative",
            file=path,
            hint="Subtract the background of a measured profile and set what falls below zero to zero.",
        )
    return position, sensitivity

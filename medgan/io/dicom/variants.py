"""What tells volumes at the same place apart: echo, diffusion weighting, time and the like.

Attributes of DICOM PS3.3 C.8.3.1 (MR image), C.8.13.5.9 (diffusion), C.7.6.2 (acquisition times); where scanners wrote
b-values before the standard had them, the private elements that their conformance statements name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pydicom

from medgan.io.dicom.values import several

Vector = tuple[float, float, float]

VARIANT_TAGS: list[Any] = [
    "ComplexImageComponent",
    "EchoNumbers",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "TriggerTime",
    "AcquisitionDateTime",
    "AcquisitionTime",
    # Private: the creators that reserve the blocks, then Siemens' b-value and direction, GE's and Philips' b-value.
    0x00190010,
    0x00430010,
    0x20010010,
    0x0019100C,
    0x0019100E,
    0x00431039,
    0x20011003,
]

_WORDS = {
    "magnitude": ("M", "MAGNITUDE", "M_FFE", "M_SE", "M_IR"),
    "phase": ("P", "PHASE", "PHASE MAP", "P_FFE", "PHASE_MAP"),
    "real": ("R", "REAL", "R_FFE", "R_IR"),
    "imaginary": ("I", "IMAGINARY", "I_FFE", "I_IR"),
}
_COMPONENT_OF = {word: component for component, words in _WORDS.items() for word in words}
COMPONENTS = tuple(_WORDS)


@dataclass(frozen=True)
class Variant:
    """What one slice says besides its place; None (or empty) where it says nothing.

    Args:
        component: "magnitude", "phase", "real" or "imaginary".
        kind: the other values of ImageType, such as ("DERIVED", "PRIMARY", "WATER").
        echo: EchoNumbers.
        echo_time: in ms.
        b_value: of the diffusion weighting, in s/mm2.
        direction: of the diffusion gradient, a unit vector.
        inversion_time: in ms.
        flip_angle: in degrees.
        time: TemporalPositionIdentifier or TemporalPositionIndex.
        acquisition: AcquisitionNumber.
        trigger: delay after the trigger, in ms.
        acquired: seconds since midnight at which the acquisition began; counted on over the days where a date is given.
    """

    component: str = ""
    kind: tuple[str, ...] = ()
    echo: int | None = None
    echo_time: float | None = None
    b_value: float | None = None
    direction: Vector | None = None
    inversion_time: float | None = None
    flip_angle: float | None = None
    time: int | None = None
    acquisition: int | None = None
    trigger: float | None = None
    acquired: float | None = None


def variant_of(dataset: pydicom.Dataset) -> Variant:
    """What a single-frame data set says; what cannot be read counts as absent, and then tells nothing apart."""
    kinds = [str(value).strip().upper() for value in several(dataset.get("ImageType"))]
    b_value, direction = _diffusion(dataset)
    return Variant(
        component=component_of(dataset),
        kind=tuple(kind for kind in kinds if kind not in _COMPONENT_OF),
        echo=_whole(dataset.get("EchoNumbers")),
        echo_time=_number(dataset.get("EchoTime")),
        b_value=b_value,
        direction=direction,
        inversion_time=_number(dataset.get("InversionTime")),
        flip_angle=_number(dataset.get("FlipAngle")),
        time=_whole(dataset.get("TemporalPositionIdentifier")),
        acquisition=_whole(dataset.get("AcquisitionNumber")),
        trigger=_number(dataset.get("TriggerTime")),
        acquired=seconds_of(dataset.get("AcquisitionDateTime") or dataset.get("AcquisitionTime")),
    )


def component_of(dataset: pydicom.Dataset) -> str:
    """The component of the complex image by ComplexImageComponent, else by ImageType from its third value on."""
    stated = str(dataset.get("ComplexImageComponent") or "").upper()
    if stated in _COMPONENT_OF:
        return _COMPONENT_OF[stated]
    if dataset.get("Modality") != "MR":
        return ""
    words = (str(value).strip().upper() for value in several(dataset.get("ImageType"))[2:])
    return next((_COMPONENT_OF[word] for word in words if word in _COMPONENT_OF), "")


def seconds_of(moment: Any) -> float | None:
    """A DICOM time (HHMMSS.ffffff) or date and time (YYYYMMDDHHMMSS.ffffff) in seconds; None if it is neither.

    A date counts its days from the start of the common era, so that differences hold over midnight; an offset from
    universal time is left out, since one series has one clock.
    """
    from datetime import date

    text = str(moment or "").strip()
    whole, _, fraction = text.partition("+")[0].partition("-")[0].partition(".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or len(whole) not in (6, 14):
        return None
    days = 0
    try:
        if len(whole) == 14:
            days = date(int(whole[:4]), int(whole[4:6]), int(whole[6:8])).toordinal()
    except ValueError:
        return None
    hours, minutes, seconds = (int(whole[at : at + 2]) for at in (len(whole) - 6, len(whole) - 4, len(whole) - 2))
    return days * 86400.0 + hours * 3600 + minutes * 60 + seconds + float(f"0.{fraction or 0}")


def _diffusion(dataset: pydicom.Dataset) -> tuple[float | None, Vector | None]:
    """b-value and gradient direction, by the standard's attributes, else by the scanner maker's."""
    b_value = _number(dataset.get("DiffusionBValue"))
    direction = _vector(dataset.get("DiffusionGradientOrientation"))
    if b_value is None and _is_reserved(dataset, 0x00190010, "SIEMENS MR HEADER"):
        b_value, direction = _number(_private(dataset, 0x0019100C)), _vector(_private(dataset, 0x0019100E))
    if b_value is None and _is_reserved(dataset, 0x20010010, "Philips Imaging DD 001"):
        b_value = _number(_private(dataset, 0x20011003))
    if b_value is None and _is_reserved(dataset, 0x00430010, "GEMS_PARM_01"):
        # GE adds a thousand million to b-values above a software release.
        first = _number(next(iter(several(_private(dataset, 0x00431039))), None))
        b_value = None if first is None else first % 100_000
    return b_value, direction


def _is_reserved(dataset: pydicom.Dataset, tag: int, creator: str) -> bool:
    return tag in dataset and str(dataset[tag].value).strip() == creator


def _private(dataset: pydicom.Dataset, tag: int) -> Any:
    """A private element's value; text as text, since its kind is unknown where the file states none."""
    value = dataset[tag].value if tag in dataset else None
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").strip("\0 ").split("\\")
    return value


def _number(value: Any) -> float | None:
    """A single finite number, or the only one of a list."""
    values = several(value)
    try:
        number = float(values[0]) if len(values) == 1 else None
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number is not None and abs(number) < 1e15 else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _vector(value: Any) -> Vector | None:
    values = several(value)
    try:
        x, y, z = (round(float(number), 4) for number in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return x, y, z

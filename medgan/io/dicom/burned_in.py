"""Whether the pixels of an image may show text about the patient."""

from __future__ import annotations

from pydicom import Dataset

from medgan.io.dicom.values import several

# Slices that a scanner computes; nothing is drawn into them unless they say so. CT, MR, PET and their enhanced and
# legacy-converted forms (DICOM PS3.4 B.5).
_COMPUTED = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{ending}" for ending in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130")
)
_DRAWN = frozenset(("SCREEN SAVE", "DOSE_INFO", "DOSE INFO", "REPORT", "PROT", "PROJECTION IMAGE"))


def burned_in_problem(dataset: Dataset, *, pixels_checked: bool = False) -> str | None:
    """Why text may be burned into the pixels; None if there is no sign of it.

    BurnedInAnnotation (0028,0301) decides where it is present. Where it is not, only grey slices of CT, MR and PET are
    trusted: screen captures, ultrasound, photographs, projections and digitised film often show names.

    Args:
        dataset: of one image.
        pixels_checked: somebody looked and saw none, so that it need not say so.
    """
    said = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if said == "YES":
        return "its pixels show text about the patient (BurnedInAnnotation is YES)"
    if _has_overlay_in_pixels(dataset):
        return "it keeps an overlay in unused bits of its pixels"
    if said == "NO" or pixels_checked:
        return None
    unsaid = "and BurnedInAnnotation does not say that its pixels are free of text"
    if str(dataset.get("SOPClassUID") or "") not in _COMPUTED:
        return f"it is no CT, MR or PET slice, {unsaid}"
    if dataset.get("SamplesPerPixel") != 1 or "ConversionType" in dataset:
        return f"it is coloured or was captured from a screen, {unsaid}"
    if {str(value).upper() for value in several(dataset.get("ImageType"))} & _DRAWN:
        return f"its ImageType is that of a page or capture, {unsaid}"
    return None


def _has_overlay_in_pixels(dataset: Dataset) -> bool:
    """Whether bits of the pixels beyond those in use are an overlay (retired, PS3.3 C.9.2 of 2004)."""
    for group in range(0x6000, 0x6020, 2):
        position = dataset.get((group, 0x0102))
        if position is not None and position.value and (group, 0x3000) not in dataset:
            return True
    return False

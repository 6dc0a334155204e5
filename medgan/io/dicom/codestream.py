"""The size that a compressed image itself says it has, from the first bytes of its code stream.

Decoders make room by that size, whatever the DICOM header says.
"""

from __future__ import annotations

_JPEG2000_START = b"\xff\x4f\xff\x51"
_JPEG_START = b"\xff\xd8"
# Frame headers of JPEG (ITU T.81, B.1.1.3), without DHT, JPG and DAC that stand between them, and of JPEG-LS (T.87).
_FRAME_MARKERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xDA)))


def coded_matrix(code: bytes) -> tuple[int, int] | None:
    """Rows and columns by the code stream of a JPEG, JPEG-LS or JPEG 2000 image; None if it is none of these."""
    if code[:2] == _JPEG_START:
        return _jpeg_matrix(code)
    # The file format JP2 wraps the code stream in boxes.
    start = 0 if code[:4] == _JPEG2000_START else code.find(_JPEG2000_START, 0, 4096)
    return _jpeg2000_matrix(code, start) if start >= 0 else None


def _jpeg2000_matrix(code: bytes, start: int) -> tuple[int, int] | None:
    """The image area in the SIZ marker segment: its far corner less its near one (ITU T.800, A.5.1)."""
    if len(code) < start + 24:
        return None
    across, down, left, top = (int.from_bytes(code[start + at : start + at + 4], "big") for at in (8, 12, 16, 20))
    return down - top, across - left


def _jpeg_matrix(code: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(code) and code[at] == 0xFF:
        marker = code[at + 1]
        if marker in _FRAME_MARKERS:
            return int.from_bytes(code[at + 5 : at + 7], "big"), int.from_bytes(code[at + 7 : at + 9], "big")
        alone = marker == 0xFF or marker in _WITHOUT_LENGTH
        at += (1 if marker == 0xFF else 2) if alone else 2 + int.from_bytes(code[at + 2 : at + 4], "big")
    return None

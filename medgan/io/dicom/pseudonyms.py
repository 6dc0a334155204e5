"""Keyed stand-ins for identifiers: the same key gives the same ones in every file and every run, and nobody without the
key can find the way back or test a guess."""

from __future__ import annotations

import hashlib
import hmac
import os
import uuid
from base64 import b32encode
from datetime import date, timedelta
from pathlib import Path

from medgan.errors import MedganError

KEY_VARIABLE = "MEDGAN_DEIDENTIFY_KEY"

_SHORTEST_KEY = 16
_LONGEST_KEY = 4096
_MAKE_ONE = "Make one with: head -c 32 /dev/urandom > FILE; keep it secret, and keep it if scans are to follow."

# Ten years: dates say nothing of the true year, and stay possible for anybody alive.
_MOST_DAYS = 3652


def read_key(path: str | Path | None) -> bytes:
    """The secret key in a file, or else in the environment variable MEDGAN_DEIDENTIFY_KEY; white space around it does
    not count.

    Raises:
        MedganError: there is no key, or it is too short to be secret.
    """
    if path is None:
        found = os.environ.get(KEY_VARIABLE)
        if found is None:
            raise MedganError("no key to de-identify with", hint=f"Give --key-file or set {KEY_VARIABLE}. {_MAKE_ONE}")
        key = found.encode("utf-8", "surrogateescape").strip()
    else:
        key = _file_content(Path(path)).strip()
    if len(key) < _SHORTEST_KEY:
        where = Path(path) if path is not None else None
        raise MedganError(
            f"the key has {len(key)} bytes, at least {_SHORTEST_KEY} are needed", file=where, hint=_MAKE_ONE
        )
    return key


class Pseudonyms:
    """Stand-ins by HMAC-SHA256 with one key; what each is made for is part of what is hashed.

    Args:
        key: secret bytes, see `read_key`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def uid(self, uid: str) -> str:
        """The stand-in of a UID: a UUID of the free version 8 (RFC 9562) below the root 2.25 (DICOM PS3.5 B.2)."""
        digest = bytearray(self._digest("uid", uid)[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"

    def patient(self, patient: str) -> str:
        """The stand-in of a patient's name and ID, such as "ANON-Q5ZK7M2AB4XT3FJC" (80 bits)."""
        return f"ANON-{b32encode(self._digest('patient', patient)[:10]).decode()}"

    def days(self, patient: str) -> int:
        """By how many days a patient's dates move back: 1 to 3652, the same for all of the patient's dates."""
        return 1 + int.from_bytes(self._digest("days", patient)[:8]) % _MOST_DAYS

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.new(self._key, f"medgan {purpose}\0{text}".encode(), hashlib.sha256).digest()


def moved_back(text: str, days: int) -> str:
    """A DICOM date (DA) or date and time (DT), `days` earlier; the time of day and the precision stay.

    Raises:
        ValueError: it holds no full date, so that it cannot be moved.
    """
    digits = text.strip().replace(".", "") if len(text.strip()) == 10 and text.strip()[4] == "." else text.strip()
    if len(digits) < 8 or not digits[:8].isdigit() or digits[8:9] in ("+", "-"):
        raise ValueError("no full date")
    moved = date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) - timedelta(days=days)
    return f"{moved:%Y%m%d}".zfill(8) + digits[8:]


def _file_content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_LONGEST_KEY)
    except OSError as error:
        raise MedganError(f"the key cannot be read ({error.strerror})", file=path, hint=_MAKE_ONE) from error

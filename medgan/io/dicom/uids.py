"""Unique identifiers that are a function of what they name."""

from __future__ import annotations

import json
import uuid
from typing import Any

# Keeps the identifiers apart from all others that are made from names (RFC 4122, section 4.3).
_NAMESPACE = uuid.UUID("6f2c1f0e-3f0b-5d0e-9d57-0f6b5a1c7e42")


def derived_uid(*parts: Any) -> str:
    """A UID that depends on `parts` alone: equal parts give equal UIDs, on every machine.

    It is a name-based UUID as a decimal number below the root 2.25 (DICOM PS3.5 section B.2), at most 44 characters.

    Args:
        parts: strings, numbers, None, or lists and dictionaries of them.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return f"2.25.{uuid.uuid5(_NAMESPACE, text).int}"

"""Attribute values as plain Python numbers, or an error that names the attribute."""

from __future__ import annotations

import math
from typing import Any

import pydicom
from pydicom.tag import BaseTag


def several(value: Any) -> list[Any]:
    """An attribute's values: none, one or several."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, bytes, int, float)) else list(value)


def numbers(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` numbers of an attribute; None if it is absent or empty.

    Raises:
        ValueError: there are more or fewer values, or one that is no number.
    """
    values = several(dataset.get(keyword))
    if not values:
        return None
    if len(values) != count:
        raise ValueError(f"{keyword} holds {len(values)} values, {count} are needed")
    try:
        return tuple(map(_number, values))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{keyword} holds {values}") from error


def _number(value: Any) -> float:
    # Python takes "1_5" for 15, and pydicom's tags are whole numbers.
    if type(value) not in (float, int) and (isinstance(value, BaseTag) or "_" in str(value)):
        raise ValueError(value)
    return float(value)


def whole(dataset: pydicom.Dataset, keyword: str) -> int | None:
    """One whole number; None if the attribute is absent or empty.

    Raises:
        ValueError: there are several values, or one that is no finite number.
    """
    values = numbers(dataset, keyword, 1)
    if values is None:
        return None
    if not math.isfinite(values[0]):
        raise ValueError(f"{keyword} holds {values[0]}")
    return int(values[0])

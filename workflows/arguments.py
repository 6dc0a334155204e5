"""Numbers and labels as they are written on the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medgan.errors import MedganError


def numbers(text: str | None, option: str) -> tuple[float, float, float] | None:
    """ "1,1,2", or "2" for all three axes, as three numbers above 0.

    Raises:
        MedganError: it is anything else; the message names `option`.
    """
    if text is None:
        return None
    values = _parsed(text)
    if len(values) not in (1, 3) or min(values) <= 0:
        raise MedganError(
            f"{option} is '{text}'; it must be three numbers above 0", hint=f"Write for example {option} 1,1,2."
        )
    return values[0], values[len(values) // 2], values[-1]


def whole_numbers(text: str | None, option: str) -> tuple[int, int, int] | None:
    """ "64,64,48", or "64" for all three axes, as three whole numbers above 0.

    Raises:
        MedganError: it is anything else; the message names `option`.
    """
    if text is None:
        return None
    values = _parsed(text)
    if len(values) not in (1, 3) or min(values) < 1 or any(value != int(value) for value in values):
        raise MedganError(
            f"{option} is '{text}'; it must be three whole numbers above 0",
            hint=f"Write for example {option} 160,192,160.",
        )
    return int(values[0]), int(values[len(values) // 2]), int(values[-1])


def shares(text: str, option: str) -> tuple[float, float, float]:
    """ "0.8,0.1,0.1" as three shares of one whole.

    Raises:
        MedganError: it is anything else; the message names `option`.
    """
    values = _parsed(text)
    if len(values) != 3 or min(values) < 0 or abs(sum(values) - 1) > 1e-6:
        raise MedganError(
            f"{option} is '{text}'; it must be three shares (train, validation, test) that add up to 1",
            hint=f"Write for example {option} 0.8,0.1,0.1.",
        )
    return values[0], values[1], values[2]


def labels(texts: Sequence[str], option: str) -> dict[str, str | None]:
    """ "sex=F" and "age=60" as values by label; None for one that is empty, "age=".

    Raises:
        MedganError: a text is no assignment, or a label comes twice; the message names `option`.
    """
    values: dict[str, str | None] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise MedganError(
                f"{option} is '{text}'; it must be a label, = and a value", hint=f"Write {option} age=60."
            )
        if name in values:
            raise MedganError(f"{option} names {name} twice", hint="Make one call for each value.")
        values[name] = value or None
    return values


def _parsed(text: str) -> list[float]:
    """ "1,1,2" as numbers; none if any of them is no finite number."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []

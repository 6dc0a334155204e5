"""Labels of scans as numbers that networks take: which there are, what they may be, and how they are coded.

A label is a class (text, such as a sex or a group) or continuous (a number, such as an age in years). Everything here
is a pure function of what the training scans said, and goes into a model's configuration as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError, nearest

LabelValue = str | float
"""A class by its name, or a number."""
LabelValues = Mapping[str, LabelValue | None]
"""Values by label; None, or no entry, for a value that is not known."""


@dataclass(frozen=True)
class ClassLabel:
    """A label that is one of a few classes, coded one-hot.

    Args:
        name: of the label.
        classes: in alphabetical order, at least two.
        counts: training scans of each class.
    """

    name: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def width(self) -> int:
        """Numbers that code a known value."""
        return len(self.classes)

    def known(self) -> str:
        """The values that there are, for messages."""
        return f"one of {', '.join(self.classes)}"

    def checked(self, value: LabelValue) -> str:
        """The class that a value names.

        Raises:
            MedganError: the training scans had no such class.
        """
        text = class_name(value)
        if text not in self.classes:
            raise MedganError(
                f"label {self.name} is '{text}', which no training scan was; it is {self.known()}",
                hint=nearest(text, list(self.classes)),
            )
        return text

    def coded(self, value: LabelValue) -> list[float]:
        """A value as numbers."""
        return [float(self.checked(value) == one) for one in self.classes]

    def typical(self) -> list[float]:
        """The mean code of the training scans."""
        return [count / sum(self.counts) for count in self.counts]


@dataclass(frozen=True)
class ContinuousLabel:
    """A label that is a number, coded as its distance from the training scans' mean in their standard deviations.

    Args:
        name: of the label.
        mean: of the training scans.
        deviation: their standard deviation, above 0.
        minimum: the smallest value of a training scan.
        maximum: the largest.
    """

    name: str
    mean: float
    deviation: float
    minimum: float
    maximum: float

    width = 1

    def known(self) -> str:
        """The values that there are, for messages."""
        return f"a number from {self.minimum:g} to {self.maximum:g}"

    def checked(self, value: LabelValue) -> float:
        """The number that a value is.

        A value outside the training scans' range is refused, not warned of: the network answers with something, but
        nothing that it saw says what, and the file would still claim the label.

        Raises:
            MedganError: it is no number, or outside the training scans' range.
        """
        try:
            number = float(value)
        except ValueError as error:
            raise MedganError(f"label {self.name} is '{value}'; it is {self.known()}", hint="Give a number.") from error
        if not self.minimum <= number <= self.maximum:
            raise MedganError(
                f"label {self.name} is {number:g}, but the training scans only reach from {self.minimum:g} to "
                f"{self.maximum:g}: what the model draws beyond is not known to mean {self.name} {number:g}",
                hint=f"Ask for {self.known()}, or train on scans that reach further.",
            )
        return number

    def rounded(self, value: float) -> float:
        """A value without the digits below a hundredth of the deviation, within the range."""
        digits = 2 - math.floor(math.log10(self.deviation))
        return min(max(round(value, digits), self.minimum), self.maximum)

    def coded(self, value: LabelValue) -> list[float]:
        """A value as numbers; those outside the training scans' range too."""
        return [(float(value) - self.mean) / self.deviation]

    def typical(self) -> list[float]:
        """The mean code of the training scans."""
        return [0.0]


AnyLabel = ClassLabel | ContinuousLabel


@dataclass(frozen=True)
class LabelCoding:
    """How the labels of a scan become one vector of numbers, and back.

    Each label has its numbers (one-hot, or one standardised number) and behind them an indicator, which is 1 where the
    value is not known or was dropped; the numbers are 0 then.

    Args:
        labels: in the order of their numbers, at least one.
    """

    labels: tuple[AnyLabel, ...]

    @property
    def names(self) -> list[str]:
        """Of the labels, in order."""
        return [label.name for label in self.labels]

    @property
    def size(self) -> int:
        """Length of a code."""
        return sum(label.width + 1 for label in self.labels)

    def coded(self, values: LabelValues) -> NDArray[np.float32]:
        """The code of one scan's labels, shape (size,); other labels than the coding's are passed over.

        Raises:
            MedganError: a class is not known.
        """
        numbers: list[float] = []
        for label in self.labels:
            value = values.get(label.name)
            numbers += [0.0] * label.width + [1.0] if value is None else [*label.coded(value), 0.0]
        return np.array(numbers, dtype=np.float32)

    def decoded(self, code: Sequence[float] | NDArray[np.float32]) -> dict[str, LabelValue | None]:
        """The values of a code, shape (size,): the likeliest class, the number; None where the indicator says so."""
        values: dict[str, LabelValue | None] = {}
        place = 0
        for label in self.labels:
            own, indicator = np.asarray(code[place : place + label.width]), code[place + label.width]
            if indicator > 0.5:
                values[label.name] = None
            elif isinstance(label, ClassLabel):
                values[label.name] = label.classes[int(own.argmax())]
            else:
                values[label.name] = float(own[0]) * label.deviation + label.mean
            place += label.width + 1
        return values

    def dropped(self) -> NDArray[np.float32]:
        """The code of a scan of which nothing is known, shape (size,)."""
        return self.coded({})

    def typical(self) -> NDArray[np.float32]:
        """The mean code of the training scans, shape (size,)."""
        return np.array([number for label in self.labels for number in (*label.typical(), 0.0)], dtype=np.float32)

    def deviations(self, fewest: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How a code becomes how far its labels lie from the training scans' mean: code @ matrix + offset.

        Where a value is not known, or a class of few scans, all distances of the label are 0. Those of indicators are.

        Args:
            fewest: training scans of a class that is not one of few.

        Returns:
            Matrix (size, size) and offset (size,).
        """
        matrix, offset, place = np.zeros((self.size, self.size)), np.zeros(self.size), 0
        for label in self.labels:
            columns, indicator = np.arange(place, place + label.width), place + label.width
            counts = np.array(label.counts) if isinstance(label, ClassLabel) else np.full(1, fewest)
            common, untold = columns[counts >= fewest], [*columns[counts < fewest], indicator]
            means = np.array(label.typical())[common - place]
            matrix[common, common], offset[common] = 1.0, -means
            matrix[np.ix_(untold, common)] = means
            place = indicator + 1
        return matrix, offset

    def checked(self, asked: LabelValues) -> dict[str, LabelValue | None]:
        """Labels that a user asks for, classes as text and numbers as numbers, in the coding's order.

        Raises:
            MedganError: there is no such label, no such class, or a number is outside the training scans' range.
        """
        for name in asked:
            if name not in self.names:
                raise MedganError(
                    f"the model knows no label '{name}'; it was trained with {', '.join(self.names)}",
                    hint=nearest(name, self.names),
                )
        values = {label.name: (label, asked[label.name]) for label in self.labels if label.name in asked}
        return {name: None if value is None else label.checked(value) for name, (label, value) in values.items()}

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values, which `from_json` reads."""
        return [
            {"kind": "class" if isinstance(label, ClassLabel) else "continuous", **asdict(label)}
            for label in self.labels
        ]

    @classmethod
    def from_json(cls, content: Sequence[Mapping[str, Any]]) -> LabelCoding:
        """A coding as `to_json` wrote it."""
        labels: list[AnyLabel] = []
        for entry in content:
            fields = {key: value for key, value in entry.items() if key != "kind"}
            if entry["kind"] == "class":
                labels.append(ClassLabel(fields["name"], tuple(fields["classes"]), tuple(fields["counts"])))
            else:
                labels.append(ContinuousLabel(**fields))
        return cls(tuple(labels))


def class_name(value: LabelValue) -> str:
    """A class as text: numbers without a needless decimal point, so that 1.0 is the class "1"."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def class_label(name: str, values: Sequence[LabelValue]) -> ClassLabel:
    """The classes that training scans have.

    Raises:
        MedganError: there is only one class, or one of them has a single scan.
    """
    names = [class_name(value) for value in values]
    classes = sorted(set(names))
    counts = [names.count(one) for one in classes]
    if len(classes) == 1:
        raise MedganError(
            f"label {name} is '{classes[0]}' in all {len(names)} training scans: there is nothing to learn from it",
            hint=f"Take {name} out of synthesis.labels.names.",
        )
    single = [one for one, count in zip(classes, counts, strict=True) if count == 1]
    if single:
        raise MedganError(
            f"label {name} has {len(single)} of {len(classes)} classes with a single training scan "
            f"({_some(single)}), of which a network can only learn that scan by heart",
            hint=_hint_on_numbers(name, names) or f"Join classes in the table, or take {name} out of the recipe.",
        )
    return ClassLabel(name, tuple(classes), tuple(counts))


def continuous_label(name: str, values: Sequence[float]) -> ContinuousLabel:
    """Mean, deviation and range of what training scans have.

    Raises:
        MedganError: all values are the same.
    """
    numbers = np.array(values, dtype=np.float64)
    if numbers.min() == numbers.max():
        raise MedganError(
            f"label {name} is {numbers[0]:g} in all {len(numbers)} training scans: there is nothing to learn from it",
            hint=f"Take {name} out of synthesis.labels.names.",
        )
    return ContinuousLabel(
        name, float(numbers.mean()), float(numbers.std()), float(numbers.min()), float(numbers.max())
    )


def _hint_on_numbers(name: str, values: Sequence[str]) -> str | None:
    """What to do where nearly all values are numbers, and a few are why the label counts as text."""
    odd = sorted({value for value in values if not _is_number(value)})
    if len(odd) > len(set(values)) / 2 or not odd:
        return None
    return f"Its values are numbers but for {_some(odd)}: make these numbers too, and {name} becomes continuous."


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _some(names: Sequence[str], most: int = 5) -> str:
    """A few names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")

"""Each sample held against the training scans before it is written; copies are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.reporter import Reporter

if TYPE_CHECKING:
    import numpy as np

    from medgan.data.cohort import Cohort
    from medgan.evaluation.copies import CopyDetector
    from medgan.inference.model import Model
    from medgan.volume import Volume

# A part of one in a hundred is flagged by chance; a model that loses more than half its samples is no use.
_DRAWN_PER_SAMPLE, _SPARE = 2, 8


class SampleAudit:
    """Looks for copies of a cohort's training scans among samples.

    A model does not carry what this takes, because it would itself give training scans away: the cohort is needed.

    Args:
        model: that makes the samples.
        data: folder of the prepared cohort that it was trained on.
        reporter: hears of what is left out.

    Raises:
        MedganError: the cohort is not the one that the model was trained on, or has too few scans.
    """

    def __init__(self, model: Model, data: str | Path, reporter: Reporter) -> None:
        from medgan.data.cohort import Cohort

        cohort = Cohort.load(data)
        trained_on = model.config.get("training", {}).get("manifest_sha256")
        if trained_on != cohort.manifest_sha256:
            raise MedganError(
                "this cohort is not the one that the model was trained on",
                file=data,
                hint="Give --audit the cohort's folder that medgan train had as --data.",
            )
        self._scale = model.config["normalisation"]
        self._reporter = reporter
        self._detector = _detector(cohort)
        self.left_out: list[dict[str, Any]] = []

    @property
    def record(self) -> dict[str, Any]:
        """For `samples.json`; complete once all samples are drawn."""
        from medgan.evaluation.copies import FALSE_ALARMS

        return {"false_alarm_rate": FALSE_ALARMS, "left_out": self.left_out}

    @staticmethod
    def to_draw(count: int) -> int:
        """How many samples to draw at most, to be left with `count`."""
        return _DRAWN_PER_SAMPLE * count + _SPARE

    def passed(self, volumes: Iterable[Volume], count: int) -> Iterator[Volume]:
        """The first `count` samples that are no copies.

        Raises:
            MedganError: there are not so many among the volumes.
        """
        passed = 0
        for volume in volumes:
            if self._is_copy(volume):
                self.left_out.append({"seed": volume.metadata["seed"], "index": volume.metadata["index"]})
                self._reporter.say(f"Sample {volume.metadata['index']} is left out: it fits one training scan too well")
                continue
            yield volume
            passed += 1
            if passed == count:
                return
        raise MedganError(
            f"{len(self.left_out)} of {passed + len(self.left_out)} samples fit one training scan too well, so that "
            f"{count} cannot be drawn",
            hint="This model copies its training scans: train on more scans, with augmentation, or shorter.",
        )

    def _is_copy(self, volume: Volume) -> bool:
        from medgan.evaluation.copies import FALSE_ALARMS, scan_maps

        low, high = self._scale["low"], self._scale["high"]
        scaled: np.ndarray = (volume.data[0] - low) / (high - low)
        match = self._detector.search.match(scan_maps(scaled))
        return match.score > self._detector.tail.threshold(FALSE_ALARMS)


def _detector(cohort: Cohort) -> CopyDetector:
    """Calibrated on all of the cohort; its scans are read one at a time."""
    from medgan.evaluation.copies import CopyDetector, scan_maps

    maps = {
        split: [scan_maps(cohort.normalised(record)) for record in cohort.split(split)]
        for split in ("train", "validation", "test")
    }
    return CopyDetector.calibrated(maps["train"], [*maps["validation"], *maps["test"]])

"""What networks learn when the usefulness of synthetic scans is measured: to segment, or to tell classes apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from medgan.errors import MedganError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from medgan.data.cohort import Cohort, ScanRecord
    from medgan.data.examples import Examples
    from medgan.volume import Volume


class Task(Protocol):
    """One kind of learning; it takes down how each network does on the test scans.

    Args:
        name: "segmentation" or "classification".
        measure: the name of the figure that counts.
    """

    name: str
    measure: str

    @property
    def real(self) -> Examples:
        """The real training scans."""
        ...

    @property
    def synthetic(self) -> Examples:
        """The synthetic ones."""
        ...

    def network(self, width: int) -> Callable[[], nn.Module]:
        """What makes a network with fresh weights."""
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """What it minimises."""
        ...

    def take_down(self, arm: str, model: nn.Module, device: torch.device) -> None:
        """Measure a trained network on the test scans; those of one arm come in the order of their seeds."""
        ...

    def arms(self) -> dict[str, Any]:
        """The figures of each arm: mean, by seed, and more."""
        ...

    def differences(self, first: str, second: str, seed: int) -> list[dict[str, Any]]:
        """Paired differences of two arms, with intervals; what counts comes first."""
        ...

    def counts(self) -> dict[str, Any]:
        """Of what was tested."""
        ...

    def cautions(self) -> list[str]:
        """What a reader must know of the trainings."""
        ...

    def pictures(self, models: Mapping[str, nn.Module], device: torch.device) -> list[tuple[str, Volume]]:
        """Columns of one picture, all of one test scan; none where there is nothing to see."""
        ...


def task_for(
    label: str | None,
    real: Cohort,
    training: Sequence[ScanRecord],
    synthetic: Cohort,
    tested: Sequence[ScanRecord],
) -> Task:
    """The task that the label names; segmentation without one.

    Raises:
        MedganError: label maps or labels are lacking, or there is one class.
    """
    if label is None:
        return SegmentationTask(real, training, synthetic, tested)
    return ClassificationTask(label, real, training, synthetic, tested)


class SegmentationTask:
    """Networks draw label maps; Dice and surface distance, each label alike.

    Args:
        real: the real cohort, with label maps.
        training: its scans to learn from.
        synthetic: the synthetic cohort; all of it is learned from.
        tested: the real scans that judge.

    Raises:
        MedganError: a scan has no label map.
    """

    name, measure = "segmentation", "Dice"

    def __init__(
        self, real: Cohort, training: Sequence[ScanRecord], synthetic: Cohort, tested: Sequence[ScanRecord]
    ) -> None:
        from medgan.data.examples import SegmentationExamples
        from medgan.data.masked_volumes import label_values_of

        self.cohort, self.records = real, tuple(tested)
        self.labels = label_values_of(real)
        self.real = SegmentationExamples(real, training, self.labels)
        self.synthetic = SegmentationExamples(synthetic, synthetic.records, self.labels)
        self.tested = SegmentationExamples(real, tested, self.labels)
        self._scores: dict[str, dict[str, list[NDArray[np.float64]]]] = {}

    def network(self, width: int) -> Callable[[], nn.Module]:
        """A U-Net."""
        from medgan.training.downstream import segmentation_network

        return partial(segmentation_network, len(self.labels), self.cohort.shape, width)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Dice and cross-entropy."""
        from medgan.training.downstream import segmentation_loss

        return segmentation_loss(logits, targets)

    def take_down(self, arm: str, model: nn.Module, device: torch.device) -> None:
        """Dice and surface distance of each label and subject."""
        import numpy as np

        from medgan.evaluation.segmentation import dice, surface_distance
        from medgan.training.downstream import segmented

        numbers = range(1, len(self.labels))
        rows: dict[str, list[NDArray[np.float64]]] = {"Dice": [], "surface distance, mm": []}
        for index in range(len(self.tested)):
            voxels, truth = self.tested[index]
            found = segmented(model, voxels, device)
            rows["Dice"].append(dice(truth, found, numbers))
            rows["surface distance, mm"].append(surface_distance(truth, found, numbers, self.cohort.spacing))
        for measure, scores in rows.items():
            by_subject = _by_subject(np.array(scores), self.records)
            self._scores.setdefault(measure, {}).setdefault(arm, []).append(by_subject)

    def arms(self) -> dict[str, Any]:
        """Mean Dice over labels and subjects, by seed and by label; the surface distance."""
        import numpy as np

        found: dict[str, Any] = {}
        for arm, scores in self._scores["Dice"].items():
            stacked, distances = np.array(scores), np.array(self._scores["surface distance, mm"][arm])
            labels = dict(zip(self._named_labels(), np.nanmean(stacked, axis=(0, 1)).tolist(), strict=True))
            by_seed = np.nanmean(np.nanmean(stacked, axis=2), axis=1)
            found[arm] = {
                "mean": float(by_seed.mean()),
                "by_seed": by_seed.tolist(),
                "by_label": labels,
                "surface_distance_mm": float(np.nanmean(distances)),
            }
        return found

    def differences(self, first: str, second: str, seed: int) -> list[dict[str, Any]]:
        """Of the Dice in the mean over labels, of each label's, and of the surface distance."""
        import numpy as np

        answers = []
        for measure, by_arm in self._scores.items():
            a, b = (np.array(by_arm[arm]) for arm in (first, second))
            answers.append(_difference(measure, np.nanmean(a, axis=2), np.nanmean(b, axis=2), seed))
            if measure == self.measure and len(self.labels) > 2:
                for place, name in enumerate(self._named_labels()):
                    answers.append(_difference(f"{measure}, {name}", a[..., place], b[..., place], seed))
        return answers

    def counts(self) -> dict[str, Any]:
        """Test scans and subjects."""
        return {"test_scans": len(self.records), "test_subjects": len({record.subject for record in self.records})}

    def cautions(self) -> list[str]:
        """Trainings that missed a label in every test scan: such a one has not learned yet, and rules the mean."""
        import numpy as np

        missed = [
            f"a training on {arm} never found {name}"
            for arm, seeds in self._scores["Dice"].items()
            for scores in seeds
            for name, best in zip(self._named_labels(), np.nanmax(scores, axis=0), strict=True)
            if best == 0
        ]
        if not missed:
            return []
        told = "; ".join(dict.fromkeys(missed))
        return [f"The trainings are too short to be compared: {told}. Ask for more --steps."]

    def pictures(self, models: Mapping[str, nn.Module], device: torch.device) -> list[tuple[str, Volume]]:
        """The first test scan, its label map, and what the networks of the first seed draw."""
        from medgan.training.downstream import segmented

        place, (voxels, truth) = self.cohort.volume(self.records[0]), self.tested[0]
        top = max(1, len(self.labels) - 1)
        drawn = {"truth": truth, **{arm: segmented(model, voxels, device) for arm, model in models.items()}}
        return [
            ("scan", place.with_data(voxels)),
            *((name, place.with_data((one / top).astype("float32"))) for name, one in drawn.items()),
        ]

    def _named_labels(self) -> list[str]:
        return [f"label {label}" for label in self.labels[1:]]


class ClassificationTask:
    """Networks tell classes; balanced accuracy and area under the curve.

    Args:
        label: that holds the classes.
        real: the real cohort.
        training: its scans to learn from.
        synthetic: the synthetic cohort; all of it is learned from.
        tested: the real scans that judge.

    Raises:
        MedganError: a scan lacks the label, there is one class, or one has no test scan.
    """

    name, measure = "classification", "area under the curve"

    def __init__(
        self,
        label: str,
        real: Cohort,
        training: Sequence[ScanRecord],
        synthetic: Cohort,
        tested: Sequence[ScanRecord],
    ) -> None:
        from medgan.data.examples import ClassificationExamples
        from medgan.labels import class_name

        found = {class_name(record.labels[label]) for record in training if label in record.labels}
        self.classes, self.cohort = sorted(found), real
        if len(self.classes) < 2:
            known = ", ".join(sorted({key for one in training for key in one.labels})) or "none"
            raise MedganError(
                f"the real training scans have {len(found)} values of the label '{label}': nothing to tell apart",
                file=real.folder,
                hint=f"Labels there are: {known}.",
            )
        self.real, self.synthetic, self.tested = (
            ClassificationExamples(cohort, records, label, self.classes)
            for cohort, records in ((real, training), (synthetic, synthetic.records), (real, tested))
        )
        if len(set(self.tested.targets.tolist())) < len(self.classes):
            raise MedganError(
                f"not every class of '{label}' has a test scan", file=real.folder, hint="Hold out more scans."
            )
        self._truth, self._units = _units(self.tested.targets, tested)
        self._probabilities: dict[str, list[NDArray[np.float64]]] = {}

    def network(self, width: int) -> Callable[[], nn.Module]:
        """A small DenseNet."""
        from medgan.training.downstream import classification_network

        return partial(classification_network, len(self.classes), self.cohort.shape, width)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy."""
        from medgan.training.downstream import classification_loss

        return classification_loss(logits, targets)

    def take_down(self, arm: str, model: nn.Module, device: torch.device) -> None:
        """The probabilities of the classes, in the mean over a subject's scans of one class."""
        import numpy as np

        from medgan.training.downstream import class_probabilities

        each = [class_probabilities(model, self.tested[index][0], device) for index in range(len(self.tested))]
        means = [np.mean([each[index] for index in unit], axis=0) for unit in self._units]
        self._probabilities.setdefault(arm, []).append(np.array(means))

    def arms(self) -> dict[str, Any]:
        """Area under the curve and balanced accuracy, by seed."""
        import numpy as np

        found: dict[str, Any] = {}
        for arm, seeds in self._probabilities.items():
            by_seed = {name: [measure(self._truth, one) for one in seeds] for name, measure in _measures().items()}
            found[arm] = {
                "mean": float(np.mean(by_seed[self.measure])),
                "by_seed": by_seed[self.measure],
                "balanced_accuracy": float(np.mean(by_seed["balanced accuracy"])),
            }
        return found

    def differences(self, first: str, second: str, seed: int) -> list[dict[str, Any]]:
        """Of both measures."""
        import numpy as np

        from medgan.evaluation.paired import statistic_difference

        def figure(arm: str, measure: Any, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> float:
            seeds = self._probabilities[arm]
            return float(np.mean([measure(self._truth[columns], seeds[row][columns]) for row in rows]))

        answers = []
        for name, measure in _measures().items():
            one, other = (partial(figure, arm, measure) for arm in (first, second))
            count = len(self._probabilities[first])
            answers.append(_told(name, statistic_difference(one, other, count, self._truth, seed=seed)))
        return answers

    def counts(self) -> dict[str, Any]:
        """Test scans and subjects, and the classes."""
        return {"test_scans": len(self.tested), "test_subjects": len(self._units), "classes": self.classes}

    def cautions(self) -> list[str]:
        """None."""
        return []

    def pictures(self, models: Mapping[str, nn.Module], device: torch.device) -> list[tuple[str, Volume]]:
        """None."""
        return []


def _measures() -> dict[str, Any]:
    from medgan.evaluation.classification import area_under_curve, balanced_accuracy

    return {"area under the curve": area_under_curve, "balanced accuracy": balanced_accuracy}


def _by_subject(scores: NDArray[np.float64], records: Sequence[ScanRecord]) -> NDArray[np.float64]:
    """Scores (scans, L) in the mean over each subject's scans, (subjects, L); NaN where no scan of it has one."""
    import numpy as np

    subjects = [record.subject for record in records]
    rows = []
    for subject in dict.fromkeys(subjects):
        own = scores[[one == subject for one in subjects]]
        count = np.isfinite(own).sum(axis=0)
        rows.append(np.where(count > 0, np.nansum(own, axis=0) / np.maximum(count, 1), np.nan))
    return np.array(rows)


def _units(targets: NDArray[np.int64], records: Sequence[ScanRecord]) -> tuple[NDArray[np.int64], list[list[int]]]:
    """For each subject and class its class, and the numbers of its scans of that class."""
    import numpy as np

    found: dict[tuple[str, int], list[int]] = {}
    for index, (target, record) in enumerate(zip(targets.tolist(), records, strict=True)):
        found.setdefault((record.subject, target), []).append(index)
    return np.array([target for _, target in found]), list(found.values())


def _difference(measure: str, first: NDArray[np.float64], second: NDArray[np.float64], seed: int) -> dict[str, Any]:
    from medgan.evaluation.paired import mean_difference

    return _told(measure, mean_difference(first, second, seed=seed))


def _told(measure: str, estimate: Any) -> dict[str, Any]:
    from medgan.evaluation.paired import includes_zero

    return {
        "measure": measure,
        "higher_is_better": "distance" not in measure,
        "estimate": estimate.to_dict(),
        "includes_zero": includes_zero(estimate),
    }

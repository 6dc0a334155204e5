"""Usefulness of synthetic scans: what a network that learns from them does on real ones, beside one that does not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.places import writable_folder

if TYPE_CHECKING:
    import torch
    from torch import nn

    from medgan.data.cohort import Cohort, ScanRecord
    from medgan.data.leaks import Descent
    from medgan.tracking import Tracker
    from medgan.training.downstream import DownstreamOptions, Source
    from medgan.workflows.usefulness_tasks import Task

CARD, PAGE = "usefulness.json", "usefulness.html"
REAL, BOTH, SYNTHETIC = ARMS = ("real", "real+synthetic", "synthetic")
_IMAGES, _LABELS = "images", "labels"
# Losses that reach the tracked run, of all steps.
_TRACKED_EVERY = 10


@dataclass(frozen=True)
class UsefulnessOptions:
    """How usefulness is measured.

    Args:
        steps: of the optimiser, the same for all.
        batch_size: scans in each.
        width: feature channels of the networks' finest stage.
        learning_rate: at its highest.
        flip: mirror scans left to right at random; not where labels have a side.
        seeds: trainings of each kind, which differ in weights, order and augmentation.
        seed: the first of them, and of the resampling behind intervals.
        share: of synthetic scans in what the network sees that learns from both.
        allow_unknown_parents: take synthetic scans that say nothing of what they were made from; the card says so.
        tracking: whether the trainings are a run in MLflow.
    """

    steps: int = 1000
    batch_size: int = 4
    width: int = 12
    learning_rate: float = 2e-3
    flip: bool = False
    seeds: int = 5
    seed: int = 0
    share: float = 0.5
    allow_unknown_parents: bool = False
    tracking: bool = True

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise MedganError(f"{self.seeds} seeds are no training; ask for at least 1")
        if not 0 < self.share < 1:
            raise MedganError(
                f"the share of synthetic scans is {self.share:g}; it must lie between 0 and 1",
                hint="0.5 shows as many of either kind.",
            )

    def training(self) -> DownstreamOptions:
        """How each network is trained."""
        from medgan.data.strong_augmentation import Strengths
        from medgan.training.downstream import DownstreamOptions

        return DownstreamOptions(
            steps=self.steps,
            batch_size=self.batch_size,
            width=self.width,
            learning_rate=self.learning_rate,
            augmentation=Strengths(flip=self.flip),
        )


def evaluate_usefulness(
    real: str | Path,
    synthetic: str | Path,
    out: str | Path,
    *,
    label: str | None = None,
    options: UsefulnessOptions | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train networks on real scans, on these and synthetic ones, and on synthetic ones alone; test all on real scans.

    Writes `usefulness.json` and `usefulness.html` into the folder `out`.

    Args:
        real: a prepared cohort: its training scans are learned from, its test scans judge (those for validation where
            there are none).
        synthetic: the folder that `medgan generate` wrote, or a cohort prepared from one.
        out: folder to write.
        label: the label that networks tell classes of; without it they learn to segment, from label maps.
        options: how.
        device: "auto", "cpu", "cuda", ...
        reporter: where progress goes.

    Returns:
        The content of `usefulness.json`.

    Raises:
        LeakError: the synthetic scans know of the scans that are to judge, or nobody knows whether they do.
        MedganError: label maps or labels are lacking, or there is nothing to learn from or to test on.
    """
    from medgan.data.cohort import Cohort
    from medgan.data.leaks import require_no_leak
    from medgan.files import write_json
    from medgan.tracking import tracked
    from medgan.training.numerics import choose_device
    from medgan.workflows.usefulness_report import write_usefulness_page
    from medgan.workflows.usefulness_tasks import task_for

    options, reporter, folder = options or UsefulnessOptions(), reporter or Reporter(), writable_folder(out)
    cohort, place = Cohort.load(real), choose_device(device)
    training, tested = _parted(cohort)
    with _prepared(Path(synthetic), cohort, label is None) as made:
        descent = require_no_leak(cohort, made, allow_unknown=options.allow_unknown_parents)
        task = task_for(label, cohort, training, made, tested)
        tracker = _open_tracker(folder, options, cohort, task)
        with tracked(tracker):
            shown = _compare(task, options, cohort, place, tracker, reporter)
            figures = {"label": label, **_figures(task, options, cohort, len(training), descent)}
            write_json(folder / CARD, figures)
            write_usefulness_page(folder / PAGE, figures, task.pictures(shown, place))
            tracker.log_metrics(_metrics(figures), options.steps)
            for name in (CARD, PAGE):
                tracker.log_artifact(folder / name)
    reporter.say(figures["sentence"])
    return figures


def _parted(cohort: Cohort) -> tuple[tuple[ScanRecord, ...], tuple[ScanRecord, ...]]:
    """The scans to learn from and those that judge.

    Raises:
        MedganError: there are none of either, or some are synthetic.
    """
    training, tested = cohort.split("train"), cohort.split("test") or cohort.split("validation")
    if not training or not tested:
        raise MedganError(
            f"the cohort has {len(training)} training scans and {len(tested)} that could judge; both are needed",
            file=cohort.folder,
            hint="Prepare it with a --split such as 0.5,0,0.5.",
        )
    if any(record.origin is not None for record in (*training, *tested)):
        raise MedganError(
            "some of the scans that stand for real ones are synthetic",
            file=cohort.folder,
            hint="Prepare a cohort of the real scans alone, and give the synthetic ones by --synthetic.",
        )
    return training, tested


@contextmanager
def _prepared(path: Path, real: Cohort, with_masks: bool) -> Iterator[Cohort]:
    """The synthetic scans on the grid of the real ones.

    Raises:
        MedganError: a synthetic scan cannot be used, or a cohort of them has another grid.
    """
    from medgan.data.cohort import MANIFEST, Cohort
    from medgan.data.prepare import prepare

    if (path / MANIFEST).is_file():
        cohort = Cohort.load(path)
        if cohort.shape != real.shape:
            raise MedganError(
                f"the synthetic scans have {cohort.shape} voxels, the real ones {real.shape}",
                file=path,
                hint="Give the folder that medgan generate wrote: its scans are brought onto the real ones' grid.",
            )
        yield cohort
        return
    is_paired = (path / _IMAGES).is_dir() and (path / _LABELS).is_dir()
    if with_masks and not is_paired:
        raise MedganError(
            f"no pairs here: {_IMAGES}/ and {_LABELS}/ are expected",
            file=path,
            hint="Make them with medgan generate --masks; or name a --label to tell classes apart.",
        )
    with tempfile.TemporaryDirectory() as temporary:
        preparation = prepare(
            [path / _IMAGES if is_paired else path],
            Path(temporary) / "synthetic",
            spacing=real.spacing,
            shape=real.shape,
            masks=path / _LABELS if with_masks else None,
            split=(1, 0, 0),
        )
        if preparation.failures:
            where, reason = preparation.failures[0]
            raise MedganError(
                f"{len(preparation.failures)} synthetic scans cannot be used, such as {where.name}: {reason}", file=path
            )
        yield preparation.cohort


def _compare(
    task: Task, options: UsefulnessOptions, cohort: Cohort, device: torch.device, tracker: Tracker, reporter: Reporter
) -> dict[str, nn.Module]:
    """Train every network, and let the task take down what it does; returned are those of the first seed."""
    from medgan.training.downstream import trained

    total = options.seeds * len(ARMS)
    shown: dict[str, nn.Module] = {}
    for number in range(options.seeds):
        for place, arm in enumerate(ARMS):
            name = f"loss/{arm}/seed {options.seed + number}"

            def report(step: int, loss: float, name: str = name) -> None:
                if step % _TRACKED_EVERY == 0:
                    tracker.log_metrics({name: loss}, step)

            sources = _sources(arm, task, options.share)
            model = trained(
                *(task.network(options.width), task.loss, sources, cohort.spacing, options.training()),
                seed=options.seed + number,
                device=device,
                report=report,
            )
            task.take_down(arm, model, device)
            shown.setdefault(arm, model)
            reporter.progress("train", number * len(ARMS) + place + 1, total, f"{arm}, seed {options.seed + number}")
    return shown


def _sources(arm: str, task: Task, share: float) -> list[Source]:
    from medgan.training.downstream import Source

    shares = {REAL: (1.0, 0.0), SYNTHETIC: (0.0, 1.0), BOTH: (1 - share, share)}[arm]
    return [Source(one, part) for one, part in zip((task.real, task.synthetic), shares, strict=True) if part]


def _figures(task: Task, options: UsefulnessOptions, cohort: Cohort, training: int, descent: Descent) -> dict[str, Any]:
    """The content of the card."""
    from medgan import __version__

    differences = [
        {"first": REAL, "second": arm, **one}
        for arm in (BOTH, SYNTHETIC)
        for one in task.differences(REAL, arm, options.seed)
    ]
    return {
        "medgan_version": __version__,
        "task": task.name,
        "measure": task.measure,
        "sentence": _sentence(differences[0]),
        "arms": task.arms(),
        "differences": differences,
        "counts": {"real": training, "synthetic": len(task.synthetic), **task.counts()},
        "options": asdict(options),
        "grid": {"shape": list(cohort.shape), "spacing": list(cohort.spacing)},
        "manifest_sha256": cohort.manifest_sha256,
        "descent": descent.to_dict(),
        "cautions": [*descent.cautions(), *task.cautions(), *_few(options)],
    }


def _metrics(figures: dict[str, Any]) -> dict[str, float]:
    """What the tracked run keeps."""
    means = {f"usefulness/{arm}/{figures['measure']}": one["mean"] for arm, one in figures["arms"].items()}
    return means | {
        f"usefulness/{one['second']} minus {one['first']}/{one['measure']}": one["estimate"]["value"]
        for one in figures["differences"]
    }


def _sentence(difference: dict[str, Any]) -> str:
    """What adding synthetic scans did, in words that do not say more than the interval does."""
    estimate, measure = difference["estimate"], difference["measure"]
    change = f"{estimate['value']:+.4f} (95 % interval {estimate['low']:+.4f} to {estimate['high']:+.4f})"
    if difference["includes_zero"]:
        verdict = "The interval includes zero: this test does not show that they help, nor that they harm."
    elif (estimate["value"] > 0) == difference["higher_is_better"]:
        verdict = "They help."
    else:
        verdict = "They harm."
    return f"Synthetic scans beside the real ones change the {measure} on unseen real scans by {change}. {verdict}"


def _few(options: UsefulnessOptions) -> list[str]:
    """A caution where the interval says too little."""
    if options.seeds >= 3:
        return []
    return [
        f"{options.seeds} trainings of each kind do not show how much the result depends on the seed: the interval is "
        "too narrow. Five are the least that is worth reporting."
    ]


def _open_tracker(folder: Path, options: UsefulnessOptions, cohort: Cohort, task: Task) -> Tracker:
    from medgan.provenance import collect
    from medgan.tracking import start_run

    provenance = collect(Path.cwd()).to_dict()
    return start_run(
        experiment="usefulness",
        name=folder.name,
        folder=folder,
        params=asdict(options),
        tags={
            "medgan.task": f"usefulness for {task.name}",
            "medgan.version": str(provenance["medgan_version"]),
            "medgan.git_commit": str(provenance["git_commit"]),
            "medgan.manifest_sha256": cohort.manifest_sha256,
            "medgan.key_metric": f"usefulness/{BOTH} minus {REAL}/{task.measure}",
        },
        enabled=options.tracking,
    )

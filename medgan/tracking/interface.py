"""What a training tells its tracker, and the tracker that keeps nothing."""

from __future__ import annotations

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(ABC):
    """One tracked run.

    A run that has started never stops its training: what the store refuses later is said as a `TrackingWarning`. Only
    misuse, such as a file that does not exist, raises.
    """

    run_id: str | None
    """The run's id in its store, to be kept in checkpoints; None when nothing is tracked."""

    @abstractmethod
    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics of one training step; returns within microseconds and delivers in the background.

        Values that are infinite or not a number appear as gaps in the curve, and the first one of each metric is named
        in the tag `medgan.non_finite`.
        """

    @abstractmethod
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record a flat mapping of settings.

        A value that differs from one recorded before (a resumed run) becomes the tag `resumed.NAME`. Values longer than
        6000 characters are cut; `params.json` among the artifacts (`params_resumed_N.json` when resumed) holds them
        whole.
        """

    @abstractmethod
    def log_text(self, text: str, name: str) -> None:
        """Store `text` as the artifact `name`, such as "provenance/diff.patch"."""

    @abstractmethod
    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Store a file, or a folder with all in it, inside `folder` of the artifacts.

        Raises:
            MedganError: there is nothing at `path`.
        """

    @abstractmethod
    def log_image(self, image: bytes | NDArray[Any], key: str, step: int) -> None:
        """Store a picture of one step, so that the steps can be browsed.

        Args:
            image: the bytes of a PNG file; or an array (H, W), (H, W, 3) or (H, W, 4), uint8 or floating point in 0..1.
            key: the name of the series of pictures.
            step: the training step.
        """

    @abstractmethod
    def log_dataset(self, name: str, manifest: str | Path, sha256: str, context: str = "training") -> None:
        """Record the data that the run uses.

        Args:
            name: the cohort's name.
            manifest: its manifest; only the file's name is recorded.
            sha256: the SHA-256 of the manifest; whole in the tag `dataset.NAME.sha256`, its first digits as the digest.
            context: what the data serve: "training", "validation", ...
        """

    @abstractmethod
    def log_model(self, model_folder: str | Path) -> None:
        """Store an exported model (`config.json`, `weights.safetensors`) as an MLflow pyfunc named "model".

        It loads with `mlflow.pyfunc.load_model("runs:/RUN_ID/model")`, needs medgan installed, and holds no pickle.

        Raises:
            MedganError: the folder holds no exported model.
        """

    @abstractmethod
    def set_tag(self, name: str, value: str) -> None:
        """Set or replace one tag."""

    @abstractmethod
    def flush(self) -> None:
        """Deliver all metrics now."""

    @abstractmethod
    def finish(self, status: Status = "FINISHED") -> None:
        """Deliver all metrics and close the run; only the first call counts."""


class NullTracker(Tracker):
    """Tracks nothing and needs nothing: for `tracking.enabled=false`, and for every rank but the first."""

    run_id = None

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_text(self, text: str, name: str) -> None:
        """Do nothing."""

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Do nothing."""

    def log_image(self, image: bytes | NDArray[Any], key: str, step: int) -> None:
        """Do nothing."""

    def log_dataset(self, name: str, manifest: str | Path, sha256: str, context: str = "training") -> None:
        """Do nothing."""

    def log_model(self, model_folder: str | Path) -> None:
        """Do nothing."""

    def set_tag(self, name: str, value: str) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def finish(self, status: Status = "FINISHED") -> None:
        """Do nothing."""


@contextmanager
def tracked(tracker: Tracker) -> Iterator[Tracker]:
    """Close the run by how the block ends: FINISHED, FAILED on an exception, KILLED on Ctrl-C or a signal.

    A SystemExit counts by its code: none or 0 is FINISHED, 128 and more (the shell says "signal") is KILLED, the
    rest FAILED. SIGTERM, which schedulers send, would end Python without a word; where nobody handles it, it becomes
    SystemExit(143) while the block runs.
    """
    with _sigterm_as_exit():
        try:
            yield tracker
        except KeyboardInterrupt:
            tracker.finish("KILLED")
            raise
        except SystemExit as leaving:
            tracker.finish(_status_of(leaving))
            raise
        except BaseException as error:
            # The type alone: messages name files, and those may name patients.
            tracker.set_tag("medgan.error", type(error).__name__)
            tracker.finish("FAILED")
            raise
        tracker.finish("FINISHED")


def _status_of(leaving: SystemExit) -> Status:
    if leaving.code in (None, 0):
        return "FINISHED"
    return "KILLED" if isinstance(leaving.code, int) and leaving.code >= 128 else "FAILED"


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is leave:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

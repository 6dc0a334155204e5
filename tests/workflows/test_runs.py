from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from medgan.errors import MedganError
from medgan.tracking import RunSummary, start_run
from medgan.workflows.runs import print_runs, runs


def summary(**changes: object) -> RunSummary:
    values = {
        "run_id": "0123456789abcdef0123456789abcdef",
        "name": "r3gan-20260101-120000",
        "experiment": "medgan",
        "status": "FINISHED",
        "started": datetime(2026, 1, 1, 12, 0, tzinfo=UTC),
        "duration": 59.4,
        **changes,
    }
    return RunSummary(**values)  # type: ignore[arg-type]


def printed(*summaries: RunSummary, width: int = 80) -> str:
    stream = StringIO()
    print_runs(summaries, Console(file=stream, width=width))
    return stream.getvalue()


def test_runs_of_a_real_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "runs" / "one"
    tracker = start_run(experiment="e", name="one", folder=folder, params={}, tags={"medgan.key_metric": "psnr"})
    tracker.log_metrics({"psnr": 31.25}, 1)
    tracker.finish()
    monkeypatch.chdir(tmp_path)
    for store in (None, tmp_path / "runs"):
        (run,) = runs(store, limit=5)
        assert (run.run_id, run.status, run.key_metric, run.value) == (tracker.run_id, "FINISHED", "psnr", 31.25)
    text = printed(run)
    assert str(tracker.run_id) in text
    assert "31.25" in text


def test_no_store_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(MedganError, match="no tracked runs"):
        runs(tmp_path)


def test_a_run_fits_eighty_columns_with_its_whole_id() -> None:
    text = printed(summary(key_metric="fidelity/recall", value=0.123456, experiment="super-resolution"))
    for part in ("0123456789abcdef0123456789abcdef", "r3gan-20260101-120000", "super-resolution", "0.1235", "59 s"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations_are_readable(seconds: float, shown: str) -> None:
    assert shown in printed(summary(duration=seconds))


def test_names_are_never_markup() -> None:
    assert "[bold]x[/bold]" in printed(summary(name="[bold]x[/bold]"))


def test_nothing_tracked_says_what_to_do() -> None:
    assert "medgan train" in printed()

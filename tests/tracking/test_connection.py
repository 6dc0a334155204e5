from __future__ import annotations

import ast
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from medgan.errors import MedganError
from medgan.tracking import Tracker, list_runs, start_run
from medgan.tracking.connection import _create_database, mlflow
from medgan.tracking.store import sqlite_uri


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def begin(store: Path) -> Tracker:
    return start_run(experiment="synthesis", name="one", folder=store / "one", params={}, tags={})


def test_a_server_that_is_not_there_is_said_at_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MedganError, match=r"tracking\.enabled=false") as caught:
        begin(store)
    assert "127.0.0.1:9" in str(caught.value)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_a_file_that_is_no_database_is_said_at_once(store: Path) -> None:
    store.mkdir()
    (store / "mlflow.db").write_text("these are not the runs you are looking for")
    with pytest.raises(MedganError, match="no SQLite database"):
        begin(store)
    with pytest.raises(MedganError, match="no SQLite database"):
        list_runs(store)


def test_a_place_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file in the way")
    with pytest.raises(MedganError, match="cannot be written") as caught:
        begin(tmp_path / "runs")
    assert "--out" in str(caught.value)


def test_making_a_store_never_replaces_one(store: Path) -> None:
    tracker = begin(store)
    tracker.finish()
    _create_database(store / "mlflow.db")
    assert [run.run_id for run in list_runs(store)] == [tracker.run_id]
    assert sorted(path.name for path in store.iterdir() if path.name.startswith(".")) == []


def test_a_store_made_in_memory_equals_one_that_mlflow_makes(tmp_path: Path) -> None:
    def schema(database: Path) -> dict[str, list[str]]:
        connection = sqlite3.connect(database)
        rows = connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
        version = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        connection.close()
        # The migrations write the constraints of one table in any order.
        return {name: sorted((sql or "").replace(",", "").split("\n")) for name, sql in rows} | {"": list(version[0])}

    _create_database(tmp_path / "ours.db")
    mlflow("tracking").MlflowClient(tracking_uri=sqlite_uri(tmp_path / "theirs.db"))
    assert schema(tmp_path / "ours.db") == schema(tmp_path / "theirs.db")


@pytest.mark.slow
def test_processes_that_start_together_share_one_new_store(store: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from medgan.tracking import start_run\n"
        "name = sys.argv[2]\n"
        "tracker = start_run(experiment='e', name=name, folder=Path(sys.argv[1]) / name, params={'a': 1}, tags={})\n"
        "tracker.log_metrics({'m': 1.0}, 1); tracker.finish()\n"
    )
    names = ["a", "b", "c"]
    started = [subprocess.Popen([sys.executable, "-c", script, str(store), name]) for name in names]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    assert sorted((run.name, run.status) for run in list_runs(store)) == [(name, "FINISHED") for name in names]


def test_without_mlflow_everything_but_tracking_works(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["mlflow"] = None
from pathlib import Path
import numpy as np
from medgan.errors import MedganError
from medgan.tracking import NullTracker, start_run, tracked
arguments = dict(experiment="e", name="n", folder=Path(sys.argv[1]) / "n", params={"a": 1}, tags={})
with tracked(start_run(**arguments, enabled=False)) as tracker:
    assert isinstance(tracker, NullTracker) and tracker.run_id is None
    tracker.log_metrics({"a": 1.0}, 1)
    tracker.log_params({"a": 1})
    tracker.log_text("x", "x.txt")
    tracker.log_artifact("nowhere")
    tracker.log_image(np.zeros((2, 2)), "k", 1)
    tracker.log_dataset("d", "nowhere", "0" * 64)
    tracker.log_model("nowhere")
    tracker.set_tag("t", "v")
    tracker.flush()
try:
    start_run(**arguments)
except MedganError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "pip install mlflow" in done.stdout
    assert "tracking.enabled=false" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_one_module_imports_mlflow() -> None:
    root = Path(__file__).resolve().parents[2]
    importers = set()
    for file in [*(root / "medgan").rglob("*.py"), *(root / "workflows").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            text = ast.unparse(node) if isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func) else ""
            if any(name.split(".")[0] == "mlflow" for name in names) or "mlflow" in text:
                importers.add(file.relative_to(root).as_posix())
    assert importers == {"medgan/tracking/connection.py"}

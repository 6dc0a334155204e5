"""Training runs in MLflow: starting, continuing and listing them, and fetching the models that they stored."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from medgan.errors import MedganError
from medgan.tracking import store as places
from medgan.tracking.connection import OFF, connected, explained, impatient, mlflow
from medgan.tracking.interface import NullTracker, Tracker
from medgan.tracking.run import MlflowTracker

_KEY_METRIC = "medgan.key_metric"
_RESUMES = "medgan.resumes"


@dataclass(frozen=True)
class RunSummary:
    """One run of a store.

    Args:
        run_id: its id.
        name: its name.
        experiment: the experiment that it belongs to.
        status: RUNNING, FINISHED, FAILED or KILLED.
        started: when it was first started, with time zone.
        duration: seconds from the first start to the last end, or to now while it runs.
        key_metric: the metric that its tag `medgan.key_metric` names, or None.
        value: the latest value of that metric, or None.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    started: datetime
    duration: float
    key_metric: str | None = None
    value: float | None = None


def start_run(
    *,
    experiment: str,
    name: str,
    folder: Path,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    run_id: str | None = None,
    enabled: bool = True,
) -> Tracker:
    """Start a tracked run, or continue one.

    Runs are kept in `mlflow.db` beside `folder` with their files in `mlruns`, or on the server that MLFLOW_TRACKING_URI
    names.

    Args:
        experiment: groups runs of one kind; made when it is not there.
        name: the run's name.
        folder: the run's own folder.
        params: flat settings of the run.
        tags: further facts; a resumed run gets the new values.
        run_id: continue this very run: its status returns to RUNNING and its curves go on.
        enabled: False returns a tracker that does nothing and needs no MLflow.

    Raises:
        MedganError: the store cannot be reached or written, or does not know `run_id`.
    """
    if not enabled:
        return NullTracker()
    uri = places.writing_uri(folder.absolute().parent)
    known_tags = {
        places.entity_name(key): places.shortened(str(value), places.TAG_LIMIT) for key, value in tags.items()
    }
    known_tags.setdefault("medgan.version", metadata.version("medgan"))
    with explained(uri), impatient():
        if run_id is None:
            client = connected(uri, create=True)
            run = client.create_run(_experiment_id(client, experiment, uri), run_name=name, tags=known_tags)
            tracker = MlflowTracker(client, run.info.run_id, folder)
        else:
            tracker = _continued(uri, run_id, folder, known_tags)
        tracker.log_params(params)
    return tracker


def list_runs(store: str | Path | None = None, limit: int = 20) -> list[RunSummary]:
    """The runs that medgan tracked, newest first.

    Args:
        store: a folder with `mlflow.db`, that file, a URI; or None for MLFLOW_TRACKING_URI, else `runs/mlflow.db`, else
            `mlflow.db`.
        limit: most runs to list.

    Raises:
        MedganError: there is no store, or it cannot be read.
    """
    uri = places.reading_uri(store)
    with explained(uri), impatient():
        client = connected(uri)
        experiments = {entry.experiment_id: entry.name for entry in client.search_experiments()}
        if not experiments:
            return []
        runs = client.search_runs(
            list(experiments),
            filter_string="tags.`medgan.version` LIKE '%'",
            max_results=limit,
            order_by=["attributes.start_time DESC"],
        )
    return [_summary(run, experiments[run.info.experiment_id]) for run in runs]


def resolve_model(uri: str, store: str | Path | None = None) -> Path:
    """The folder with `config.json` of a model that MLflow keeps.

    It is copied to a temporary folder that lives as long as the process.

    Args:
        uri: "runs:/RUN_ID/model", "models:/NAME@ALIAS" or "models:/NAME/VERSION".
        store: as for `list_runs`.

    Raises:
        MedganError: the store does not know the model, or it is not one of medgan's.
    """
    store_uri = places.reading_uri(store)
    # A copy even of a local model: it must not change under a user who trains on.
    target = tempfile.mkdtemp(prefix="medgan-model-")
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    hint = "Check the run id, or the model's name and alias; `medgan runs` lists the runs."
    with explained(store_uri, f"cannot give '{uri}'", hint):
        source = _registered(connected(store_uri), uri) if uri.startswith("models:/") else uri
        mlflow("artifacts").download_artifacts(artifact_uri=source, dst_path=target, tracking_uri=store_uri)
    configs = sorted(Path(target).rglob("config.json"))
    if not configs:
        raise MedganError(f"'{uri}' is not a model of medgan", hint="Name a model that `medgan train` has logged.")
    return configs[0].parent


def _registered(client: Any, uri: str) -> str:
    """Where the files of a registered model lie; MLflow itself would ask the registry of its global settings."""
    name, _, version = uri.removeprefix("models:/").partition("/")
    if "@" in name and not version:
        name, _, alias = name.rpartition("@")
        version = client.get_model_version_by_alias(name, alias).version
    if not str(version).isdigit():
        raise MedganError(f"'{uri}' names no version", hint="Write models:/NAME@ALIAS or models:/NAME/VERSION.")
    return str(client.get_model_version_download_uri(name, version))


def _continued(uri: str, run_id: str, folder: Path, tags: Mapping[str, str]) -> MlflowTracker:
    """The tracker of a run that has been tracked before, RUNNING again."""
    database = places.database_of(uri)
    if database is not None and not database.is_file():
        raise _unknown_run(run_id, uri)
    client = connected(uri)
    run = _known_run(client, run_id, uri)
    resumes = int(run.data.tags.get(_RESUMES, "0")) + 1
    client.update_run(run_id, status="RUNNING")
    for key, value in {**tags, _RESUMES: str(resumes)}.items():
        client.set_tag(run_id, key, value)
    return MlflowTracker(client, run_id, folder, resumes)


def _experiment_id(client: Any, name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=places.artifact_root(uri)))
        except mlflow("exceptions").MlflowException as error:
            # Another process may have made it in between.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found.lifecycle_stage == "deleted":
        raise MedganError(
            f"the experiment '{name}' was deleted in {places.shown(uri)}",
            hint=f"Restore it by `mlflow experiments restore -x {found.experiment_id}`, or name another experiment.",
        )
    return str(found.experiment_id)


def _known_run(client: Any, run_id: str, uri: str) -> Any:
    try:
        run = client.get_run(run_id)
    except mlflow("exceptions").MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise _unknown_run(run_id, uri) from error
        raise
    if run.info.lifecycle_stage == "deleted":
        raise MedganError(
            f"run '{run_id}' was deleted in {places.shown(uri)}",
            hint=f"Restore it by `mlflow runs restore --run-id {run_id}`, or {OFF}.",
        )
    return run


def _unknown_run(run_id: str, uri: str) -> MedganError:
    return MedganError(
        f"the tracking store {places.shown(uri)} does not know run '{run_id}'",
        hint=f"Set MLFLOW_TRACKING_URI to the store where the training began, or {OFF}.",
    )


def _summary(run: Any, experiment: str) -> RunSummary:
    now = datetime.now(UTC).timestamp() * 1000
    ended = now if run.info.status == "RUNNING" or run.info.end_time is None else run.info.end_time
    key_metric = run.data.tags.get(_KEY_METRIC)
    return RunSummary(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        experiment=experiment,
        status=run.info.status,
        started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        duration=max(0.0, (ended - run.info.start_time) / 1000),
        key_metric=key_metric,
        value=run.data.metrics.get(places.entity_name(key_metric)) if key_metric else None,
    )

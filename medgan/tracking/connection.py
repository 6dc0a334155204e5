"""The way to MLflow: the one module that imports it, and only when something is tracked or read.

Everything goes through `MlflowClient` with explicit run ids: the fluent interface has one active run per process, is
not thread-safe, and joins runs that others left open.
"""

from __future__ import annotations

import functools
import importlib
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medgan.errors import MedganError
from medgan.tracking import store as places

OFF = "train without tracking by --set tracking.enabled=false"

# These silence usage reports over the network, log lines, links on standard output and progress bars.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_TEMPLATE_LOCK = threading.Lock()


def mlflow(module: str = "") -> Any:
    """MLflow, or one of its modules such as "entities".

    Raises:
        MedganError: it, or a package that it needs, is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module(f"mlflow.{module}" if module else "mlflow")
    except ModuleNotFoundError as error:
        raise MedganError(
            f"tracking needs a package that is not installed: {error.name}", hint=f"Run `pip install mlflow`, or {OFF}."
        ) from error


def connected(uri: str, *, create: bool = False) -> Any:
    """An `MlflowClient` of the store at `uri`; a missing SQLite store is made if `create`.

    Raises:
        MedganError: the SQLite store is missing, damaged or not writable.
    """
    database = places.database_of(uri)
    if database is not None:
        if database.is_file():
            _require_sqlite(database)
        elif create:
            _create_database(database)
        else:
            hint = "Check the folder, or set MLFLOW_TRACKING_URI."
            raise MedganError("no such tracking store", file=database, hint=hint)
    return _new_client(uri, os.environ.get("MLFLOW_REGISTRY_URI", uri))


@contextmanager
def explained(uri: str, what: str = "does not work", hint: str | None = None) -> Iterator[None]:
    """MLflow's errors while a store is opened or read, as the user's."""
    try:
        yield
    except MedganError:
        raise
    except Exception as error:
        if not is_store_failure(error):
            raise
        reason = first_line(error)
        if "out-of-date database schema" in reason:
            raise MedganError(
                "this tracking store was made by another version of MLflow",
                file=places.shown(uri),
                hint=f"Back it up, then run `mlflow db upgrade {uri}`.",
            ) from error
        raise MedganError(
            f"the tracking store {places.shown(uri)} {what}: {reason}",
            hint=hint or f"Check MLFLOW_TRACKING_URI, or {OFF}.",
        ) from error


@contextmanager
def impatient() -> Iterator[None]:
    """At the start a wrong address should be told in seconds; MLflow's own patience of minutes is for the training."""
    chosen = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    added = [name for name in chosen if name not in os.environ]
    os.environ.update({name: chosen[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def is_store_failure(error: Exception) -> bool:
    """Whether MLflow, the network or a cloud's client refused, rather than medgan being wrong."""
    clouds = ("botocore", "boto3", "azure", "google", "urllib3")
    if type(error).__module__.partition(".")[0] in clouds:
        return True
    return isinstance(error, (mlflow("exceptions").MlflowException, OSError))


def first_line(error: Exception) -> str:
    """The start of an error's message; MLflow appends whole stack traces."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _new_client(uri: str, registry: str | None = None) -> Any:
    return mlflow("tracking").MlflowClient(tracking_uri=uri, registry_uri=registry)


def _require_sqlite(database: Path) -> None:
    # MLflow tries a damaged file ten times, for over a minute, before it says so.
    with database.open("rb") as stream:
        start = stream.read(16)
    if start not in (b"", b"SQLite format 3\0"):
        raise MedganError("this is no SQLite database", file=database, hint="Move it away or name another run folder.")


def _create_database(database: Path) -> None:
    """Make an empty store at `database`, whole or not at all; harmless when another process makes it at the same time.

    MLflow builds a store by some seventy schema migrations, each synced to disk. Here they run in memory, once per
    process, and one copy is written.
    """
    temporary = database.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{database.name}")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        copy = sqlite3.connect(temporary)
        try:
            with _TEMPLATE_LOCK:
                _empty_store().backup(copy)
        finally:
            copy.close()
        _take_place(temporary, database)
    except (OSError, sqlite3.OperationalError) as error:
        raise MedganError(
            f"the tracking store cannot be written here ({error})",
            file=database,
            hint=f"Choose another output folder with --out, set MLFLOW_TRACKING_URI, or {OFF}.",
        ) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def _take_place(temporary: Path, database: Path) -> None:
    """Give a finished store its name, unless someone was faster."""
    try:
        # A hard link never replaces what is there, and that is atomic on network file systems too.
        os.link(temporary, database)
    except FileExistsError:
        return
    except OSError:
        # Some file systems know no hard links.
        if not database.exists():
            temporary.rename(database)


@functools.cache
def _empty_store() -> sqlite3.Connection:
    """A store without runs, in memory; the open connection keeps it alive."""
    name = f"file:medgan-{uuid.uuid4().hex}?mode=memory&cache=shared"
    _new_client(f"sqlite:///{name}&uri=true")
    return sqlite3.connect(name, uri=True, check_same_thread=False)

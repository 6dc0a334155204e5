"""Where tracked runs are kept, and how names and values are written there. Nothing here needs MLflow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from medgan.errors import MedganError

DATABASE = "mlflow.db"
ARTIFACTS = "mlruns"
PARAM_LIMIT = 6000
TAG_LIMIT = 8000
NAME_LIMIT = 250

_SQLITE = "sqlite:///"


def writing_uri(folder: Path) -> str:
    """The store for runs whose folders lie in `folder`: MLFLOW_TRACKING_URI if it is set, else `folder`/mlflow.db."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(folder / DATABASE)


def reading_uri(store: str | Path | None) -> str:
    """The store to read from.

    Args:
        store: a folder that holds `mlflow.db` or a run folder beside it, the database file itself, or a URI. None takes
            MLFLOW_TRACKING_URI, then `runs/mlflow.db`, then `mlflow.db`.

    Raises:
        MedganError: there is no store.
    """
    if store is not None and "://" in str(store):
        return str(store)
    if store is None and os.environ.get("MLFLOW_TRACKING_URI"):
        return os.environ["MLFLOW_TRACKING_URI"]
    places = (
        [Path(store), Path(store) / DATABASE, Path(store).absolute().parent / DATABASE] if store is not None else []
    )
    for place in places or [Path("runs") / DATABASE, Path(DATABASE)]:
        if place.is_file():
            return sqlite_uri(place)
    raise MedganError(
        "no tracked runs here",
        file=store if store is not None else Path.cwd(),
        hint=f"Name the folder that holds {DATABASE}, or set MLFLOW_TRACKING_URI.",
    )


def sqlite_uri(database: Path) -> str:
    """The URI of an SQLite file.

    Raises:
        MedganError: its path holds a question mark, which such a URI cannot carry.
    """
    path = database.resolve().as_posix()
    if "?" in path:
        raise MedganError("a tracking store cannot lie in a folder with '?' in its name", file=database)
    return _SQLITE + path


def database_of(uri: str) -> Path | None:
    """The file of an SQLite store; None for any other."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).split("?")[0])


def artifact_root(uri: str) -> str | None:
    """Where a new experiment keeps its files: `mlruns` beside an SQLite store; None leaves the choice to the server."""
    database = database_of(uri)
    return None if database is None else (database.resolve().parent / ARTIFACTS).as_uri()


def shown(uri: str) -> str:
    """The store for human eyes: a path for SQLite, and no password."""
    database = database_of(uri)
    if database is not None:
        return str(database)
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        parts = parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2])
    return urlunsplit(parts)


def entity_name(name: str) -> str:
    """`name` as a param, metric or tag may be called: letters, digits, and `_ - . / space`, at most 250 characters."""
    parts = re.sub(r"[^\w./ -]", "_", name).split("/")
    # Names that are not plain paths, with empty parts or dots alone, are refused.
    return "/".join(part for part in parts if part.strip("."))[:NAME_LIMIT].rstrip("/") or "_"


def param_text(value: Any) -> str:
    """A param's value as text: containers as JSON, everything else as Python writes it."""
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, default=str)
    return str(value)


def shortened(text: str, limit: int) -> str:
    """`text`, cut with an ellipsis where it is longer than `limit`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def params_text(params: Mapping[str, Any]) -> dict[str, str]:
    """Params by the names and with the values that a store takes."""
    return {entity_name(name): shortened(param_text(value), PARAM_LIMIT) for name, value in params.items()}

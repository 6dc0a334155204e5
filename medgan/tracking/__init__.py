"""The record of every training in MLflow. The library itself is imported in `medgan.tracking.connection` only, when
it is needed.
"""

from __future__ import annotations

from medgan.tracking.buffer import TrackingWarning
from medgan.tracking.interface import NullTracker, Status, Tracker, tracked
from medgan.tracking.runs import RunSummary, list_runs, resolve_model, start_run

__all__ = [
    "NullTracker",
    "RunSummary",
    "Status",
    "Tracker",
    "TrackingWarning",
    "list_runs",
    "resolve_model",
    "start_run",
    "tracked",
]

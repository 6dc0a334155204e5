"""One run in an MLflow store, as a `Tracker`."""

from __future__ import annotations

import atexit
import io
import json
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.files import read_json, require_existing
from medgan.tracking import store as places
from medgan.tracking.buffer import DeliveryError, MetricBuffer, Point, TrackingWarning
from medgan.tracking.connection import first_line, is_store_failure, mlflow
from medgan.tracking.interface import Status, Tracker

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNDELIVERED = "metrics_undelivered.jsonl"
_MODEL = "model"


class MlflowTracker(Tracker):
    """A run in an MLflow store.

    Args:
        client: connected to the store.
        run_id: an existing run, status RUNNING.
        folder: the run's own folder; metrics that the store never took are written there.
        resumes: how often the run has been resumed.
        interval: seconds between deliveries of metrics.
    """

    def __init__(self, client: Any, run_id: str, folder: Path, resumes: int = 0, *, interval: float = 5.0) -> None:
        self.run_id: str = run_id
        self._client = client
        self._folder = folder
        self._resumes = resumes
        self._finished = False
        self._non_finite: dict[str, str] = {}
        self._buffer = MetricBuffer(self._deliver, self._spill, interval=interval)
        atexit.register(self._buffer.close)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Buffer the metrics; a background thread delivers them."""
        self._buffer.add(values, step)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log new params, tag changed ones, and keep all of them whole in an artifact."""
        entities = mlflow("entities")
        texts = places.params_text(params)
        with self._tolerating("params"):
            known = self._client.get_run(self.run_id).data.params
            new = [entities.Param(key, text) for key, text in texts.items() if key not in known]
            changed = {key: text for key, text in texts.items() if known.get(key, text) != text}
            if not new and not changed:
                return
            tags = [entities.RunTag(places.entity_name(f"resumed.{key}"), text) for key, text in changed.items()]
            # The client splits these by the store's limits itself.
            self._client.log_batch(self.run_id, params=new, tags=tags)
            name = f"params_resumed_{self._resumes}.json" if self._resumes else "params.json"
            self._client.log_text(self.run_id, json.dumps(dict(params), indent=2, default=str) + "\n", name)

    def log_text(self, text: str, name: str) -> None:
        """Store a text artifact."""
        with self._tolerating(name):
            self._client.log_text(self.run_id, text, name)

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Store a file or folder artifact."""
        path = require_existing(path)
        with self._tolerating(path.name):
            self._client.log_artifact(self.run_id, str(path), folder)

    def log_image(self, image: bytes | NDArray[Any], key: str, step: int) -> None:
        """Store a picture among MLflow's time-stepped images."""
        if isinstance(image, bytes):
            from PIL import Image

            picture: Any = Image.open(io.BytesIO(image))
        else:
            picture = image
        with self._tolerating(f"picture {key}"):
            self._client.log_image(self.run_id, picture, key=places.entity_name(key), step=step)

    def log_dataset(self, name: str, manifest: str | Path, sha256: str, context: str = "training") -> None:
        """Record an MLflow data set input."""
        entities = mlflow("entities")
        source = json.dumps({"uri": Path(manifest).name, "sha256": sha256})
        # The store takes at most 36 characters of digest, and its page shows far fewer.
        dataset = entities.Dataset(places.entity_name(name), sha256[:16], "local", source)
        tags = [entities.InputTag("mlflow.data.context", context), entities.InputTag("sha256", sha256)]
        with self._tolerating(f"data set {name}"):
            self._client.log_inputs(self.run_id, [entities.DatasetInput(dataset, tags)])
        self.set_tag(f"dataset.{name}.sha256", sha256)

    def log_model(self, model_folder: str | Path) -> None:
        """Store the model as a pyfunc with `medgan.inference.served` as its loader."""
        config = read_json(Path(model_folder) / "config.json")
        require_existing(Path(model_folder) / "weights.safetensors")
        with tempfile.TemporaryDirectory(prefix="medgan-model-") as staging, self._tolerating("model"):
            _save_pyfunc(Path(model_folder), str(config.get("task")), self.run_id, Path(staging) / _MODEL)
            self._client.log_artifacts(self.run_id, str(Path(staging) / _MODEL), _MODEL)

    def set_tag(self, name: str, value: str) -> None:
        """Set one tag; values over 8000 characters are cut."""
        with self._tolerating(f"tag {name}"):
            self._client.set_tag(self.run_id, places.entity_name(name), places.shortened(value, places.TAG_LIMIT))

    def flush(self) -> None:
        """Deliver the buffered metrics in this thread."""
        self._buffer.flush()

    def finish(self, status: Status = "FINISHED") -> None:
        """Deliver the rest and set the status."""
        if self._finished:
            return
        self._finished = True
        self._buffer.close()
        atexit.unregister(self._buffer.close)
        with self._tolerating(f"status {status}"):
            self._client.set_terminated(self.run_id, status)

    def _deliver(self, points: Sequence[Point]) -> None:
        entities = mlflow("entities")
        metrics, tags = [], []
        for key, value, timestamp, step in points:
            if not math.isfinite(value):
                if key not in self._non_finite:
                    self._non_finite[key] = f"{key} is {value} at step {step}"
                    text = places.shortened("; ".join(self._non_finite.values()), places.TAG_LIMIT)
                    tags = [entities.RunTag("medgan.non_finite", text)]
                # The store turns infinity into 1.8e308, which flattens every curve of its chart.
                value = math.nan
            metrics.append(entities.Metric(places.entity_name(key), value, timestamp, step))
        try:
            self._client.log_batch(self.run_id, metrics=metrics, tags=tags)
        except Exception as error:
            if is_store_failure(error):
                raise DeliveryError(first_line(error)) from error
            raise

    def _spill(self, points: Sequence[Point]) -> None:
        file = self._folder / _UNDELIVERED
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            for point in points:
                value = point.value if math.isfinite(point.value) else str(point.value)
                stream.write(json.dumps({**point._asdict(), "value": value}) + "\n")
        warnings.warn(
            f"{len(points)} metrics never reached the tracking store; they are in {file}", TrackingWarning, stacklevel=2
        )

    @contextmanager
    def _tolerating(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_store_failure(error):
                raise
            warnings.warn(
                f"the tracking store did not take '{what}': {first_line(error)}", TrackingWarning, stacklevel=3
            )


def _save_pyfunc(model_folder: Path, task: str, run_id: str, target: Path) -> None:
    """Write `model_folder` as an MLflow pyfunc that `medgan.inference.served` loads.

    The signature holds parameters only, so that paths, arrays, numbers and data frames all pass as input.
    """
    schema, models = mlflow("types.schema"), mlflow("models")
    params = {
        "synthesis": [schema.ParamSpec("seed", "long", 0), schema.ParamSpec("truncation", "double", 1.0)],
        "super_resolution": [
            schema.ParamSpec("fidelity", "double", 1.0),
            schema.ParamSpec("factor", "double", [], (-1,)),
            schema.ParamSpec("spacing", "double", [], (-1,)),
            schema.ParamSpec("voxel_size", "double", [1.0, 1.0, 1.0], (-1,)),
        ],
        "translation": [
            schema.ParamSpec("reverse", "boolean", False),
            schema.ParamSpec("voxel_size", "double", [], (-1,)),
        ],
        "mask_to_scan": [
            schema.ParamSpec("seed", "long", 0),
            schema.ParamSpec("index", "long", 0),
            schema.ParamSpec("voxel_size", "double", [], (-1,)),
        ],
    }
    if task not in params:
        raise MedganError(f"no way to serve a model for '{task}'", file=model_folder / "config.json")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided.*")
        # Naming the requirements keeps MLflow from importing the model in a new process to find them.
        mlflow("pyfunc").save_model(
            path=str(target),
            loader_module="medgan.inference.served",
            data_path=str(model_folder),
            pip_requirements=[f"medgan=={metadata.version('medgan')}", f"mlflow=={metadata.version('mlflow')}"],
            signature=models.ModelSignature(params=schema.ParamSchema(params[task])),
            mlflow_model=models.Model(artifact_path=_MODEL, run_id=run_id),
        )

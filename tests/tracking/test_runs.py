from __future__ import annotations

import json
import math
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgan
from medgan.errors import MedganError
from medgan.files import sha256_of
from medgan.tracking import NullTracker, Tracker, TrackingWarning, list_runs, resolve_model, start_run, tracked
from medgan.tracking.connection import connected, mlflow

KEY = {"medgan.key_metric": "psnr"}


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "exported" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"task": "super_resolution"}))
    (folder / "weights.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return folder


def begin(store: Path, name: str = "one", **arguments: Any) -> Tracker:
    arguments = {"params": {}, "tags": {}, "experiment": "synthesis", **arguments}
    return start_run(name=name, folder=store / name, **arguments)


def client_of(store: Path) -> Any:
    """An MlflowClient of its own, as any other tool would read the store."""
    return mlflow("tracking").MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db")


def run_of(store: Path, tracker: Tracker) -> Any:
    return client_of(store).get_run(tracker.run_id)


def artifacts_of(store: Path, tracker: Tracker) -> Path:
    return store / "mlruns" / str(tracker.run_id) / "artifacts"


def test_a_run_with_all_it_tells(store: Path, tmp_path: Path) -> None:
    tracker = begin(store, params={"training.lr": 2e-4, "network.width": [8, 16]}, tags={"medgan.task": "synthesis"})
    for step in range(250):
        tracker.log_metrics({"loss/g": step / 2, "loss/d": -step, "psnr": 30.0, "rate": 1.5, "e": 2.0}, step)
    tracker.log_text("--- a\n+++ b\n", "provenance/diff.patch")
    (tmp_path / "report.html").write_text("<html>")
    tracker.log_artifact(tmp_path / "report.html", "report")
    tracker.set_tag("medgan.key_metric", "psnr")
    assert run_of(store, tracker).info.status == "RUNNING"
    tracker.finish()

    run = run_of(store, tracker)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "one")
    assert run.data.params == {"training.lr": "0.0002", "network.width": "[8, 16]"}
    assert run.data.tags["medgan.task"] == "synthesis"
    assert run.data.tags["medgan.version"] == medgan.__version__
    history = client_of(store).get_metric_history(tracker.run_id, "loss/g")
    assert [(point.step, point.value) for point in history] == [(step, step / 2) for step in range(250)]
    assert history[-1].timestamp >= history[0].timestamp > run.info.start_time - 1000
    artifacts = artifacts_of(store, tracker)
    assert (artifacts / "provenance" / "diff.patch").read_text() == "--- a\n+++ b\n"
    assert (artifacts / "report" / "report.html").read_text() == "<html>"


def test_a_store_says_nothing_of_people(store: Path) -> None:
    tracker = begin(store)
    tracker.finish()
    run = run_of(store, tracker)
    user = os.environ.get("USER", "root")
    assert run.info.user_id in ("", "unknown")
    assert not [key for key, value in run.data.tags.items() if key == "mlflow.user" or value == user]


def test_tracking_is_silent(store: Path, model_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = begin(store)
    tracker.log_model(model_folder)
    tracker.finish()
    assert capfd.readouterr() == ("", "")


def test_values_that_are_no_numbers_become_gaps_and_are_named_once(store: Path) -> None:
    tracker = begin(store)
    for step, value in enumerate([1.0, math.inf, math.nan, 2.0]):
        tracker.log_metrics({"loss/g": value, "loss/d": 0.0}, step)
    tracker.finish()
    history = client_of(store).get_metric_history(tracker.run_id, "loss/g")
    assert [point.value for point in history] == pytest.approx([1.0, math.nan, math.nan, 2.0], nan_ok=True)
    assert run_of(store, tracker).data.tags["medgan.non_finite"] == "loss/g is inf at step 1"


def test_a_resumed_run_goes_on_under_its_id(store: Path) -> None:
    first = begin(store, params={"lr": 1e-3, "steps": 100, "old": 1}, tags={"medgan.host": "a"})
    first.log_metrics({"psnr": 20.0}, 1)
    first.finish("KILLED")
    again = begin(store, params={"lr": 1e-3, "steps": 200, "new": 2}, tags={"medgan.host": "b"}, run_id=first.run_id)
    assert again.run_id == first.run_id
    assert run_of(store, again).info.status == "RUNNING"
    again.log_metrics({"psnr": 21.0}, 2)
    again.finish()

    run = run_of(store, again)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.001", "steps": "100", "old": "1", "new": "2"}
    assert run.data.tags["resumed.steps"] == "200"
    assert "resumed.lr" not in run.data.tags
    assert (run.data.tags["medgan.resumes"], run.data.tags["medgan.host"]) == ("1", "b")
    history = client_of(store).get_metric_history(first.run_id, "psnr")
    assert [(point.step, point.value) for point in history] == [(1, 20.0), (2, 21.0)]
    assert json.loads((artifacts_of(store, again) / "params.json").read_text())["steps"] == 100
    assert json.loads((artifacts_of(store, again) / "params_resumed_1.json").read_text())["steps"] == 200
    assert len(list_runs(store)) == 1


def test_two_runs_never_join(store: Path) -> None:
    one, two = begin(store, "one"), begin(store, "two")
    assert one.run_id != two.run_id
    one.finish()
    two.finish("FAILED")
    assert [run_of(store, tracker).info.status for tracker in (one, two)] == ["FINISHED", "FAILED"]


def test_an_unknown_run_is_refused_by_name_of_run_and_store(store: Path) -> None:
    with pytest.raises(MedganError, match="MLFLOW_TRACKING_URI") as missing:
        begin(store, run_id="0" * 32)
    assert not (store / "mlflow.db").exists()
    begin(store).finish()
    with pytest.raises(MedganError, match="MLFLOW_TRACKING_URI") as unknown:
        begin(store, run_id="0" * 32)
    for caught in (missing, unknown):
        assert "0" * 32 in str(caught.value)
        assert str(store / "mlflow.db") in str(caught.value)


def test_a_deleted_run_can_be_restored_not_resumed(store: Path) -> None:
    tracker = begin(store)
    tracker.finish()
    client_of(store).delete_run(tracker.run_id)
    with pytest.raises(MedganError, match=f"mlflow runs restore --run-id {tracker.run_id}"):
        begin(store, run_id=tracker.run_id)


def test_many_and_long_params_are_kept_whole_in_the_artifact(store: Path) -> None:
    params: dict[str, Any] = {f"layer.{index}.width": index for index in range(230)}
    params["long"] = "z" * 7000
    params["loss[0]"] = "hinge"
    tracker = begin(store, params=params)
    tracker.finish()
    logged = run_of(store, tracker).data.params
    assert len(logged) == 232
    assert logged["layer.229.width"] == "229"
    assert len(logged["long"]) == 6000
    assert logged["loss_0_"] == "hinge"
    assert json.loads((artifacts_of(store, tracker) / "params.json").read_text()) == params


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (None, "FINISHED"),
        (ValueError("of /data/patient"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
        (SystemExit(2), "FAILED"),
        (SystemExit(0), "FINISHED"),
    ],
)
def test_the_status_tells_how_it_ended(store: Path, raised: BaseException | None, status: str) -> None:
    tracker = begin(store)

    def train() -> None:
        with tracked(tracker):
            tracker.log_metrics({"psnr": 1.0}, 1)
            if raised is not None:
                raise raised

    if raised is None:
        train()
    else:
        with pytest.raises(type(raised)):
            train()
    run = run_of(store, tracker)
    assert run.info.status == status
    assert run.info.end_time is not None
    assert run.data.metrics == {"psnr": 1.0}
    assert run.data.tags.get("medgan.error") == ("ValueError" if isinstance(raised, ValueError) else None)


def test_a_status_set_inside_stays(store: Path) -> None:
    tracker = begin(store)
    with tracked(tracker):
        tracker.finish("KILLED")
    assert run_of(store, tracker).info.status == "KILLED"


def test_sigterm_kills_the_run_not_the_record(store: Path) -> None:
    tracker = begin(store)

    def train() -> None:
        with tracked(tracker):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()

    with pytest.raises(SystemExit, match="143"):
        train()
    assert run_of(store, tracker).info.status == "KILLED"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_pictures_are_stored_by_step(store: Path) -> None:
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.full((20, 30), 128, np.uint8)).save(stream, "PNG")
    tracker = begin(store)
    tracker.log_image(stream.getvalue(), "samples/mid-planes", 5)
    tracker.log_image(np.tile(np.linspace(0, 1, 30), (20, 1)), "samples/mid-planes", 6)
    tracker.finish()
    pictures = sorted((artifacts_of(store, tracker) / "images").glob("*.png"))
    assert [picture.name.split("+")[:3] for picture in pictures] == [
        ["samples~mid-planes", "step", "5"],
        ["samples~mid-planes", "step", "6"],
    ]
    stored = [np.asarray(Image.open(picture).convert("L")) for picture in pictures]
    np.testing.assert_array_equal(stored[0], 128)
    assert stored[1].shape == (20, 30)
    np.testing.assert_allclose(stored[1][0], np.linspace(0, 255, 30), atol=1)


def test_the_data_are_an_input_without_their_path(store: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text('{"path": "sub-01.nii.gz"}\n')
    digest = sha256_of(manifest)
    tracker = begin(store)
    for _ in range(2):
        tracker.log_dataset("cohort", manifest, digest, context="training")
    tracker.finish()
    run = run_of(store, tracker)
    (entry,) = run.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("cohort", digest[:16])
    assert json.loads(entry.dataset.source) == {"uri": "manifest.jsonl", "sha256": digest}
    assert {tag.key: tag.value for tag in entry.tags} == {"mlflow.data.context": "training", "sha256": digest}
    assert run.data.tags["dataset.cohort.sha256"] == digest


def test_a_model_is_a_pyfunc_without_pickles(store: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgan.inference import served

    tracker = begin(store)
    tracker.log_model(model_folder)
    tracker.finish()

    class StandIn:
        def __init__(self, folder: str) -> None:
            self.files = sorted(path.name for path in Path(folder).iterdir())

        def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
            return self.files, model_input, params

    monkeypatch.setattr(served, "_load_pyfunc", StandIn)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    loaded = mlflow("pyfunc").load_model(f"runs:/{tracker.run_id}/model")
    for model_input in ("scan.nii.gz", ["a.nii", "b.nii"], 3):
        files, received, params = loaded.predict(model_input, params={"fidelity": 0.5, "factor": [1.0, 1.0, 2.0]})
        assert files == ["config.json", "weights.safetensors"]
        assert received == model_input
        assert params == {"fidelity": 0.5, "factor": [1.0, 1.0, 2.0], "spacing": [], "voxel_size": [1.0, 1.0, 1.0]}

    stored = [path for path in artifacts_of(store, tracker).rglob("*") if path.is_file()]
    assert {"MLmodel", "requirements.txt", "config.json", "weights.safetensors"} <= {path.name for path in stored}
    assert not [path for path in stored if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")]
    assert not [path for path in stored if path.read_bytes()[:1] == b"\x80" or path.read_bytes()[:2] == b"PK"]


def test_a_generator_out_of_mlflow_draws_what_medgan_draws(store: Path, tmp_path: Path) -> None:
    from medgan.inference.generate import generate
    from medgan.inference.model import load_model
    from medgan.networks.r3gan import R3Generator
    from medgan.networks.saved import save_model

    network = R3Generator(shapes=[[4, 4, 4]], channels=[8], out_shape=[4, 4, 4], latent_size=4, blocks=1, group_width=0)
    config = {
        "medgan_version": medgan.__version__,
        "task": "synthesis",
        "network": {"name": "r3_generator", "arguments": network.arguments},
        "normalisation": {"low": 0.0, "high": 100.0, "minimum": 0.0},
        "affine": np.eye(4).tolist(),
    }
    folder = save_model(tmp_path / "trained" / "model", config, network.state_dict())
    tracker = begin(store)
    tracker.log_model(folder)
    tracker.finish()
    served = mlflow("pyfunc").load_model(str(resolve_model(f"runs:/{tracker.run_id}/model", store).parents[1]))
    expected = np.stack([volume.as_float()[0] for volume in generate(load_model(folder), 2, seed=7)])
    np.testing.assert_array_equal(served.predict(2, params={"seed": 7}), expected)


def test_only_models_are_logged_as_models(store: Path, model_folder: Path, tmp_path: Path) -> None:
    tracker = begin(store)
    with pytest.raises(MedganError, match=r"config\.json"):
        tracker.log_model(tmp_path)
    (model_folder / "config.json").write_text('{"task": "weather"}')
    with pytest.raises(MedganError, match="weather"):
        tracker.log_model(model_folder)
    with pytest.raises(MedganError, match="no such file"):
        tracker.log_artifact(tmp_path / "missing.html")
    tracker.finish()


def test_models_are_found_by_run_and_by_alias(store: Path, model_folder: Path) -> None:
    tracker = begin(store)
    tracker.log_model(model_folder)
    tracker.log_text("no model", "notes/readme.txt")
    tracker.finish()
    client = connected(f"sqlite:///{store}/mlflow.db")
    client.create_registered_model("brains")
    version = client.create_model_version("brains", f"runs:/{tracker.run_id}/model", run_id=tracker.run_id)
    client.set_registered_model_alias("brains", "champion", version.version)
    for uri in (f"runs:/{tracker.run_id}/model", "models:/brains@champion", "models:/brains/1"):
        folder = resolve_model(uri, store)
        assert (folder / "weights.safetensors").read_bytes() == (model_folder / "weights.safetensors").read_bytes()
        assert json.loads((folder / "config.json").read_text()) == {"task": "super_resolution"}
    for uri in (
        f"runs:/{'0' * 32}/model",
        f"runs:/{tracker.run_id}/elsewhere",
        "models:/brains@loser",
        "models:/none/1",
    ):
        with pytest.raises(MedganError, match="cannot") as caught:
            resolve_model(uri, store)
        assert uri in str(caught.value)
    with pytest.raises(MedganError, match="NAME@ALIAS"):
        resolve_model("models:/brains", store)
    with pytest.raises(MedganError, match="not a model of medgan"):
        resolve_model(f"runs:/{tracker.run_id}/notes", store)


def test_runs_are_listed_newest_first_with_their_key_metric(store: Path) -> None:
    one = begin(store, "one", tags=KEY)
    one.log_metrics({"psnr": 30.5, "ssim": 0.9}, 1)
    one.log_metrics({"psnr": 31.25}, 2)
    one.finish()
    begin(store, "two", experiment="super-resolution").finish("FAILED")
    three = begin(store, "three", tags=KEY)
    client = client_of(store)
    client.create_run(client.get_experiment_by_name("synthesis").experiment_id, run_name="of another tool")

    runs = list_runs(store)
    assert [(run.name, run.experiment, run.status) for run in runs] == [
        ("three", "synthesis", "RUNNING"),
        ("two", "super-resolution", "FAILED"),
        ("one", "synthesis", "FINISHED"),
    ]
    assert [(run.key_metric, run.value) for run in runs] == [("psnr", None), (None, None), ("psnr", 31.25)]
    assert runs[2].run_id == one.run_id
    information = run_of(store, one).info
    assert runs[2].duration == pytest.approx((information.end_time - information.start_time) / 1000)
    assert [run.name for run in list_runs(store / "one", limit=2)] == ["three", "two"]
    three.finish()


def test_a_store_that_fails_later_does_not_stop_the_training(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = begin(store)
    refusal = mlflow("exceptions").MlflowException("database is locked\nwith a long trace")

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise refusal

    for call in ("log_batch", "log_text", "set_tag", "set_terminated"):
        monkeypatch.setattr(tracker._client, call, refuse)  # type: ignore[attr-defined]
    with pytest.warns(TrackingWarning, match="did not take 'notes.txt': database is locked$"):
        tracker.log_text("x", "notes.txt")
    with pytest.warns(TrackingWarning, match="medgan.note"):
        tracker.set_tag("medgan.note", "x")
    tracker.log_metrics({"psnr": 1.0, "loss": math.inf}, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracker.finish()
    said = "\n".join(str(entry.message) for entry in caught if entry.category is TrackingWarning)
    assert "2 metrics never reached" in said
    assert "'status FINISHED'" in said
    lines = [json.loads(line) for line in (store / "one" / "metrics_undelivered.jsonl").read_text().splitlines()]
    assert [(line["key"], line["value"], line["step"]) for line in lines] == [("psnr", 1.0, 3), ("loss", "inf", 3)]


def test_defects_are_not_taken_for_a_failing_store(store: Path) -> None:
    tracker = begin(store)
    with pytest.raises(TypeError):
        tracker.log_image("not an image", "a", 1)  # type: ignore[arg-type]
    tracker.finish()


def test_a_deleted_experiment_is_said_with_the_way_back(store: Path) -> None:
    begin(store).finish()
    client = client_of(store)
    client.delete_experiment(client.get_experiment_by_name("synthesis").experiment_id)
    with pytest.raises(MedganError, match="mlflow experiments restore"):
        begin(store)


def test_disabled_tracking_is_a_null_tracker(store: Path) -> None:
    assert isinstance(begin(store, enabled=False), NullTracker)
    assert not store.exists()

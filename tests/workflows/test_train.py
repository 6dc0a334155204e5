"""Training end to end on a handful of phantoms: what is left behind, exactness, kill and resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from medgan.errors import MedganError
from medgan.workflows.plan import describe_training
from medgan.workflows.train import TrainingOutcome, train

TINY = {
    "synthesis": (
        "synthesis/quickstart",
        [
            "network.width=8",
            "network.max_width=8",
            "network.latent_size=8",
            "synthesis.evaluation_samples=4",
            "training.batch_size=2",
        ],
    ),
    "super_resolution": (
        "super_resolution/quickstart",
        [
            "network.channels=4",
            "network.growth=2",
            "network.blocks=1",
            "super_resolution.patch=[16,16,16]",
            "super_resolution.adversarial.discriminator_width=4",
            # So that short trainings cross from one stage into the other.
            "super_resolution.pretraining.images=100",
            "super_resolution.adversarial.images=100",
            "training.batch_size=2",
        ],
    ),
}
ALWAYS = ["training.mode=exact", "training.tick_steps=2", "training.checkpoint_ticks=1"]


def _train(task: str, cohort: Path, out: Path | None, **options: object) -> TrainingOutcome:
    name, overrides = TINY[task]
    if "resume" not in options:
        options = {"overrides": [*overrides, *ALWAYS], "steps": 6, "out": out, **options}
    return train(name, cohort, device="cpu", **options)  # type: ignore[arg-type]


def _weights(outcome: TrainingOutcome) -> bytes:
    return (outcome.folder / "model" / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module", params=["synthesis", "super_resolution"])
def straight(request: pytest.FixtureRequest, phantom_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:  # type: ignore[type-arg]
    """A finished training of each task."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, _train(request.param, phantom_cohort, folder / "straight")


def test_a_finished_run_leaves_everything(straight: tuple[str, TrainingOutcome]) -> None:
    task, outcome = straight
    folder = outcome.folder
    assert outcome.finished
    for name in ("recipe.yaml", "run.json", "model/config.json", "report.html", "figures.json"):
        assert (folder / name).is_file(), name
    assert json.loads((folder / "model/config.json").read_text())["task"] == task
    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    run = client.get_run(str(outcome.run_id))
    assert run.info.status == "FINISHED"
    assert run.data.params["training.batch_size"] == "2"
    curve = "generator/loss" if task == "synthesis" else "fidelity/loss"
    assert len(client.get_metric_history(str(outcome.run_id), curve)) >= 2
    artifacts = {entry.path for entry in client.list_artifacts(str(outcome.run_id))}
    assert {"images", "model", "recipe.yaml", "report.html"} <= artifacts
    assert run.inputs.dataset_inputs


def test_two_exact_trainings_give_identical_weights(
    straight: tuple[str, TrainingOutcome], phantom_cohort: Path, tmp_path: Path
) -> None:
    task, outcome = straight
    again = _train(task, phantom_cohort, tmp_path / "again")
    assert _weights(again) == _weights(outcome)
    other = _train(task, phantom_cohort, tmp_path / "other", seed=1)
    assert _weights(other) != _weights(outcome)


@pytest.mark.parametrize("stop", [1, 4])
def test_stop_and_resume_equals_uninterrupted(
    straight: tuple[str, TrainingOutcome], phantom_cohort: Path, tmp_path: Path, stop: int
) -> None:
    task, outcome = straight
    stopped = _train(task, phantom_cohort, tmp_path / "run", stop_after=stop)
    assert not stopped.finished
    assert not (tmp_path / "run" / "model").exists()
    resumed = _train(task, phantom_cohort, None, resume=tmp_path / "run")
    assert resumed.finished
    assert resumed.run_id == stopped.run_id
    assert _weights(resumed) == _weights(outcome)


def _in_background(cohort: Path, out: Path) -> subprocess.Popen[bytes]:
    """A training that is far from its end, once it has written a checkpoint."""
    name, overrides = TINY["synthesis"]
    assignments = [part for text in [*overrides, *ALWAYS] for part in ("--set", text)]
    command = [sys.executable, "-m", "medgan.cli", "train", name, "--data", str(cohort), "--out", str(out)]
    process = subprocess.Popen([*command, "--steps", "100000", "--device", "cpu", *assignments])
    deadline = time.monotonic() + 120
    while not list((out / "checkpoints").glob("step-*.pt")):
        assert process.poll() is None, "the training ended by itself"
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        time.sleep(0.05)
    return process


def test_resume_after_a_kill_continues_the_same_run(phantom_cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = _in_background(phantom_cohort, out)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run_id = json.loads((out / "run.json").read_text())["run_id"]
    saved = max(int(path.stem.split("-")[1]) for path in (out / "checkpoints").glob("step-*.pt"))
    outcome = train("synthesis/quickstart", phantom_cohort, resume=out, stop_after=saved + 4, device="cpu")
    assert outcome.run_id == run_id
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert client.get_run(run_id).info.status == "KILLED"
    steps = {metric.step for metric in client.get_metric_history(run_id, "generator/loss")}
    assert {saved + 2, saved + 4} <= steps
    assert len(client.search_runs([client.get_run(run_id).info.experiment_id])) == 1


def test_a_termination_signal_leaves_a_checkpoint_and_the_status_killed(phantom_cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = _in_background(phantom_cohort, out)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    run_id = json.loads((out / "run.json").read_text())["run_id"]
    assert MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_run(run_id).info.status == "KILLED"
    assert not [path for path in out.rglob("*") if path.name.startswith(".tmp-")]


def test_a_cohort_without_a_needed_split_is_refused_before_anything_is_written(
    phantom_scans: Path, tmp_path: Path
) -> None:
    from medgan.data.prepare import prepare

    for name, split, message in (
        ("all-train", (1, 0, 0), "no held-out scans"),
        ("all-test", (0, 0, 1), "no scan in its split 'train'"),
    ):
        prepare([phantom_scans], tmp_path / name, spacing=(8, 8, 8), split=split)
        for task in TINY:
            with pytest.raises(MedganError, match=message):
                _train(task, tmp_path / name, tmp_path / "runs" / "run")
    assert not (tmp_path / "runs").exists()


def test_a_store_that_cannot_be_used_leaves_no_run(phantom_cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database at all")
    with pytest.raises(MedganError, match="no SQLite database"):
        _train("synthesis", phantom_cohort, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(MedganError, match="no SQLite database"):
        _train("synthesis", phantom_cohort, tmp_path / "used")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["notes.txt"]


def test_a_full_disk_stops_with_one_message_and_no_torn_checkpoint(phantom_cohort: Path, small_disk: Path) -> None:
    name, overrides = TINY["synthesis"]
    with pytest.raises(MedganError, match="the disk is full"):
        train(
            name,
            phantom_cohort,
            overrides=[*overrides, *ALWAYS, "tracking.enabled=false"],
            steps=6,
            out=small_disk / "run",
            device="cpu",
        )
    assert sorted(path.name for path in (small_disk / "run").iterdir()) == ["checkpoints", "recipe.yaml", "run.json"]
    assert not list((small_disk / "run" / "checkpoints").iterdir())


def test_fidelity_alone_exports_a_usable_model(phantom_cohort: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    name, overrides = TINY["super_resolution"]
    chosen = [text for text in overrides if "adversarial.images" not in text]
    chosen += ["super_resolution.adversarial.images=0", "tracking.enabled=false", *ALWAYS]
    outcome = train(name, phantom_cohort, overrides=chosen, steps=2, out=tmp_path / "run", device="cpu")
    weights = load_file(outcome.folder / "model" / "weights.safetensors")
    # One set of weights: a dial without a second end would turn and do nothing.
    assert {key.partition(".")[0] for key in weights} == {"fidelity"}
    assert "perceptual" not in outcome.figures["mean"]


def test_a_run_is_resumed_only_as_what_it_is(
    straight: tuple[str, TrainingOutcome], phantom_cohort: Path, phantom_scans: Path, tmp_path: Path
) -> None:
    from medgan.data.prepare import prepare

    task, outcome = straight
    name, overrides = TINY[task]
    other = TINY["synthesis" if task == "super_resolution" else "super_resolution"][0]
    with pytest.raises(MedganError, match=f"started with recipe '{name}', not '{other}'"):
        train(other, phantom_cohort, resume=outcome.folder)
    with pytest.raises(MedganError, match=r"training.batch_size was 2, is now 3"):
        changed = [*overrides, *ALWAYS, "training.batch_size=3"]
        train(name, phantom_cohort, resume=outcome.folder, overrides=changed, steps=6)
    prepare([phantom_scans], tmp_path / "other", spacing=(9, 9, 9))
    with pytest.raises(MedganError, match="cohort is not the one"):
        train(name, tmp_path / "other", resume=outcome.folder)
    with pytest.raises(MedganError, match="no run here"):
        train(name, phantom_cohort, resume=tmp_path)
    with pytest.raises(MedganError, match="holds a run already"):
        _train(task, phantom_cohort, outcome.folder)


def test_training_needs_no_mlflow_when_tracking_is_off(phantom_cohort: Path, tmp_path: Path) -> None:
    name, overrides = TINY["synthesis"]
    script = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from medgan.workflows.train import train\n"
        "from pathlib import Path\n"
        f"o = train({name!r}, {str(phantom_cohort)!r}, steps=2, device='cpu', out=Path({str(tmp_path / 'run')!r}),\n"
        f"          overrides={[*overrides, *ALWAYS, 'tracking.enabled=false']!r})\n"
        "assert o.finished and o.run_id is None\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (tmp_path / "run" / "model" / "weights.safetensors").is_file()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_dry_run_says_what_would_be_trained(phantom_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan.workflows.memory.described_memory", lambda *unused: {})
    plan = describe_training("synthesis/r3gan", phantom_cohort, overrides=["training.batch_size=4"], steps=10)
    assert plan["steps"] == 10
    assert plan["cohort"]["shape"] == [18, 22, 17]
    assert plan["recipe"]["training"]["batch_size"] == 4
    assert plan["parameters"]["generator"] > 10_000

"""An encoder from cohort to card: training, evaluation, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medgan.data.cohort import Cohort
from medgan.data.prepare import prepare
from medgan.errors import MedganError
from medgan.evaluation.encoders import encoder_named
from medgan.inference.model import load_model
from medgan.workflows.models import model_for, resolve_model
from medgan.workflows.train import TrainingOutcome, train

SIZES = [
    "network.channels=[4,6]",
    "network.hidden=8",
    "network.descriptor=6",
    "encoding.patch=16",
    "encoding.view=8",
    "training.batch_size=2",
    "training.tick_steps=1",
    "tracking.enabled=false",
]


@pytest.fixture(scope="module")
def cohort(phantom_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("cohort") / "phantoms"
    return prepare([phantom_scans], folder, spacing=(8, 8, 8), split=(0.4, 0.0, 0.6)).cohort


@pytest.fixture(scope="module")
def outcome(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> TrainingOutcome:
    out = tmp_path_factory.mktemp("runs") / "encoder"
    return train("encoding/degradations", cohort.folder, overrides=SIZES, out=out, steps=3)


def test_a_run_leaves_an_encoder_its_figures_and_a_report(outcome: TrainingOutcome, cohort: Cohort) -> None:
    assert outcome.finished
    figures = json.loads((outcome.folder / "figures.json").read_text())
    assert set(figures["sensitivity"]) == {"trained", "untrained", "random"}
    assert set(figures["seen"]) == {"trained", "untrained", "random"}
    assert figures["held_out"] == len(cohort.split("test"))
    assert all(np.isfinite(row["responses"]).all() for rows in figures["sensitivity"].values() for row in rows)
    report = (outcome.folder / "report.html").read_text()
    assert "What the encoder sees" in report
    assert load_model(outcome.folder).task == "encoding"
    encoder = encoder_named(str(outcome.folder))
    assert figures["encoder"] == encoder.name
    assert encoder.extract([np.zeros((16, 16, 16), np.float32)]).shape == (1, 12)


@pytest.mark.parametrize(("task", "verb"), [("synthesis", "generate"), ("super_resolution", "upscale")])
def test_verbs_that_make_scans_refuse_an_encoder(task: str, verb: str, outcome: TrainingOutcome) -> None:
    with pytest.raises(MedganError, match=f"this model was trained for encoding, {verb} needs one"):
        model_for(task, resolve_model(str(outcome.folder)), "cpu", verb)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    outcome: TrainingOutcome, cohort: Cohort, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    stopped = train("encoding/degradations", cohort.folder, overrides=SIZES, out=out, steps=3, stop_after=1)
    assert not stopped.finished
    train("encoding/degradations", cohort.folder, resume=out)
    one, other = (load_model(folder).weights for folder in (outcome.folder, out))
    for name, tensor in one.items():
        np.testing.assert_allclose(tensor.numpy(), other[name].numpy(), rtol=1e-4, atol=1e-6)


def test_a_cohort_with_too_few_held_out_scans_is_refused(phantom_cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="judged by halves of the held-out scans"):
        train("encoding/degradations", phantom_cohort, overrides=SIZES, out=tmp_path / "run", steps=1)
    assert not (tmp_path / "run").exists()

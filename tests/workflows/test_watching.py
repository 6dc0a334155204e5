"""What watches over a training, on real files: the look at samples, the record, the tags, the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor, nn

from medgan.data.cohort import Cohort
from medgan.errors import MedganError
from medgan.recipe import SynthesisRecipe
from medgan.recipe_files import load_recipe
from medgan.workflows.train import train
from medgan.workflows.watching import SampleLook, scans_of

TINY = [
    "network.width=4",
    "network.max_width=4",
    "network.latent_size=8",
    "synthesis.evaluation_samples=4",
    "training.batch_size=2",
    "training.mode=exact",
    "training.tick_steps=1",
    "training.checkpoint_ticks=1",
    "training.watchdogs.samples=4",
]
SIDE = 12


def _blobs(seed: int, count: int) -> list[np.ndarray]:
    """Heads of a sort: a smooth blob of random place, size and texture each."""
    random = np.random.default_rng(seed)
    axes = np.stack(np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 3, indexing="ij"))
    scans = []
    for _ in range(count):
        centre, width = random.uniform(-0.3, 0.3, 3), random.uniform(0.4, 0.8, 3)
        blob = np.exp(-(((axes - centre[:, None, None, None]) / width[:, None, None, None]) ** 2).sum(axis=0))
        scans.append((blob + 0.1 * random.standard_normal(blob.shape)).astype(np.float32))
    return scans


SETS = {"train": _blobs(0, 30), "validation": _blobs(1, 12), "test": []}


class _Showing(nn.Module):
    """Shows given volumes in turn, whatever the latents."""

    def __init__(self, volumes: list[np.ndarray]) -> None:
        super().__init__()
        self.volumes, self.next, self.latent_size = volumes, 0, 4

    def forward(self, latents: Tensor) -> Tensor:
        chosen = [self.volumes[(self.next + index) % len(self.volumes)] for index in range(len(latents))]
        self.next += len(latents)
        return torch.from_numpy(2 * np.stack(chosen) - 1)[:, None]


def _look(*assignments: str) -> SampleLook:
    recipe = load_recipe("synthesis/quickstart", ["training.watchdogs.samples=12", *assignments])
    assert isinstance(recipe, SynthesisRecipe)
    return SampleLook(recipe, SETS.__getitem__, torch.device("cpu"))


def test_copies_are_told_from_new_scans_and_one_scan_from_many() -> None:
    look = _look()
    fresh = look(_Showing(_blobs(2, 12)))
    assert 0.7 < fresh["samples/diversity"] < 1.3
    assert 0.7 < fresh["samples/nearest_training"] < 1.4
    assert 0.2 < fresh["samples/nearest_training_auc"] < 0.8
    copied = look(_Showing(SETS["train"][:12]))
    assert copied["samples/nearest_training"] < 0.01
    assert copied["samples/nearest_training_auc"] > 0.99
    mirrored = look(_Showing([scan[::-1].copy() for scan in SETS["train"][:12]]))
    assert mirrored["samples/nearest_training"] < 0.01
    one = look(_Showing(_blobs(2, 1)))
    assert one["samples/diversity"] == pytest.approx(0, abs=0.01)
    assert "samples/kid" not in one


def test_kid_is_that_of_the_evaluation() -> None:
    from medgan.evaluation.synthesis import evaluate_synthesis

    samples = [0.8 * scan for scan in _blobs(2, 16)]
    for split in ("train", "validation"):
        look = _look("training.stop.metric=kid", "training.stop.samples=16", f"training.stop.scans={split}")
        value = look(_Showing(samples))["samples/kid"]
        if split == "train":
            assert value == pytest.approx(evaluate_synthesis(SETS["train"], samples).kid.value, rel=1e-3)
    # Against other scans it is another number.
    assert value != pytest.approx(evaluate_synthesis(SETS["train"], samples).kid.value, rel=1e-3)


def test_a_generator_whose_prior_is_not_trained_yet_is_not_looked_at() -> None:
    from medgan.networks.vqgan import CodeGenerator

    shapes = [[3, 3, 3], [6, 6, 6], [12, 12, 12]]
    sizes = {"prior_width": 4, "prior_layers": 1, "prior_heads": 1, "codebook_size": 4, "code_channels": 2, "blocks": 1}
    generator = CodeGenerator(shapes=shapes, channels=[2, 2, 2], out_shape=[SIDE] * 3, **sizes).eval()
    assert _look("training.stop.metric=kid")(generator) == {}
    generator.prior_trained.fill_(1)
    assert "samples/diversity" in _look()(generator)


def test_looking_leaves_the_random_state_alone() -> None:
    class Noisy(_Showing):
        def forward(self, latents: Tensor) -> Tensor:
            shown = super().forward(latents)
            return shown + 0.01 * torch.randn_like(shown)

    look = _look()
    torch.manual_seed(5)
    expected = torch.randn(4)
    torch.manual_seed(5)
    first, second = (look(Noisy(_blobs(2, 12))) for _ in range(2))
    assert torch.equal(torch.randn(4), expected)
    assert first == second


def test_a_stopping_rule_that_cannot_be_followed_leaves_nothing_behind(phantom_cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match=r"training.stop is kid.*task super_resolution"):
        train("super_resolution/quickstart", phantom_cohort, overrides=["training.stop.below=1"], out=tmp_path / "run")
    few = len(scans_of(Cohort.load(phantom_cohort), "validation"))
    assert few < 4
    rule = ["training.stop.below=1", "training.stop.scans=validation"]
    with pytest.raises(MedganError, match=f"needs at least 4 scans in the split 'validation'.*there are {few}"):
        train("synthesis/quickstart", phantom_cohort, overrides=rule, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_score_that_is_reached_ends_the_run_and_exports_the_best_weights(
    phantom_cohort: Path, tmp_path: Path
) -> None:
    rule = ["training.stop.below=1e9", "training.stop.samples=4"]
    outcome = train("synthesis/quickstart", phantom_cohort, overrides=[*TINY, *rule], steps=9, out=tmp_path / "run")
    assert outcome.finished
    assert outcome.ended is not None
    assert outcome.ended.startswith("kid is ")
    assert outcome.figures["kid"]["value"] > 0
    training = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["training"]
    assert (training["steps"], training["best_step"], training["ended"]) == (1, 1, outcome.ended)
    assert "ended early, kid is" in (tmp_path / "run" / "report.html").read_text()
    run = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_run(str(outcome.run_id))
    assert run.data.tags["medgan.ended_by"] == outcome.ended
    assert run.data.metrics["samples/kid"] == pytest.approx(float(outcome.ended.split()[2].rstrip(",")), rel=1e-3)


def test_warnings_are_in_the_record_the_tags_and_the_report(
    phantom_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medgan.workflows import watching

    # The generator of so short a training hardly varies; that it collapsed is known because it is made to.
    monkeypatch.setattr(watching.SampleLook, "_diversity", lambda self, features: {"samples/diversity": 0.01})
    outcome = train("synthesis/quickstart", phantom_cohort, overrides=TINY, steps=4, out=tmp_path / "run")
    assert [(notice.kind, notice.step) for notice in outcome.notices] == [("mode_collapse", 3)]
    (warning,) = json.loads((tmp_path / "run" / "run.json").read_text())["warnings"]
    assert (warning["kind"], warning["step"], warning["recovered"]) == ("mode_collapse", 3, None)
    report = (tmp_path / "run" / "report.html").read_text()
    assert "Warning, mode collapse at step 3" in report
    run = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_run(str(outcome.run_id))
    assert run.data.tags["medgan.warning.mode_collapse"] == str(outcome.notices[0])


def test_watching_changes_no_weight(phantom_cohort: Path, tmp_path: Path) -> None:
    weights = []
    for name, extra in (("on", []), ("off", ["training.watchdogs.mode=off"])):
        chosen = [text for text in TINY if "watchdogs" not in text] + extra + ["tracking.enabled=false"]
        out = tmp_path / name
        train("synthesis/quickstart", phantom_cohort, overrides=chosen, steps=3, out=out)
        weights.append((out / "model" / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]

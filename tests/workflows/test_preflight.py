"""The pre-flight of a super-resolution training, and the shipped recipes taken through a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor

from medgan.acquisition import Acquisition
from medgan.data.alignment import Alignment
from medgan.data.cohort import Cohort
from medgan.errors import MedganError
from medgan.inference.model import load_model
from medgan.recipe_files import load_recipe, shipped_recipes
from medgan.reporter import Reporter
from medgan.workflows.plan import describe_training
from medgan.workflows.preflight import audited_alignment, told
from medgan.workflows.train import CohortBatches, build_objective, train

# Phantoms are small: sizes that they allow, and widths for a second instead of a day.
SMALL = {
    "residual_dense": ["network.channels=4", "network.growth=2", "network.blocks=1"],
    "conditioned": ["network.channels=4", "network.blocks=1"],
    "wide_activation": ["network.channels=4", "network.expansion=2", "network.blocks=1"],
}
ALWAYS = [
    "training.batch_size=2",
    "training.tick_steps=2",
    "training.checkpoint_ticks=1",
    "super_resolution.patch=[16,16,16]",
    "super_resolution.adversarial.discriminator_width=4",
    "super_resolution.pretraining.images=100",
]
NAMES = sorted(name for name in shipped_recipes() if name.startswith("super_resolution/"))


class Listening(Reporter):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)


def _overrides(name: str) -> list[str]:
    return [*SMALL[load_recipe(name).network.kind], *ALWAYS]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_recipe_is_described(name: str, phantom_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name != "super_resolution/quickstart":
        monkeypatch.setattr("medgan.workflows.memory.described_memory", lambda *unused: {"peak_gib": 1})
    plan = describe_training(name, phantom_cohort)
    assert plan["memory"]["peak_gib"] > 0
    assert plan["recipe"]["description"]
    assert plan["parameters"]["restorer"] > 1000
    assert plan["steps"] > 100


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_recipe_trains(name: str, phantom_cohort: Path, tmp_path: Path) -> None:
    """Through both stages where it has two; the exported model is built again and restores."""
    overrides = _overrides(name)
    two = load_recipe(name).super_resolution.adversarial.images > 0  # type: ignore[union-attr]
    if two:
        overrides.append("super_resolution.adversarial.images=100")
    reporter = Listening()
    outcome = train(
        name, phantom_cohort, overrides=overrides, steps=4, out=tmp_path / "run", device="cpu", reporter=reporter
    )
    assert outcome.finished
    assert any("pairs are aligned" in text for text in reporter.heard)
    run = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_run(str(outcome.run_id))
    assert "16 pairs" in run.data.tags["medgan.alignment"]
    assert 0 <= run.data.metrics["alignment/largest_displacement_voxel"] < 0.3
    assert ("texture/loss" in run.data.metrics) == two
    model = load_model(outcome.folder)
    network = model.network()
    assert model.config["network"]["name"] == load_recipe(name).network.kind  # type: ignore[union-attr]
    assert sum(parameter.numel() for parameter in network.parameters()) > 100


def test_the_terms_of_the_loss_are_reported_and_change_the_training(phantom_cohort: Path) -> None:
    from medgan.training.phases import Moment

    cohort, moment = Cohort.load(phantom_cohort), Moment(0, 0, 0.0)
    losses = {}
    for extra in (
        [],
        ["super_resolution.gradient_weight=1"],
        ["super_resolution.spectral_weight=1"],
        ["super_resolution.adversarial.feature_weight=1"],
    ):
        plain = ["super_resolution.gradient_weight=0", "super_resolution.adversarial.feature_weight=0"]
        recipe = load_recipe(
            "super_resolution/esrgan3d",
            [*SMALL["residual_dense"], *ALWAYS, "acquisition.noise=0", *plain, *extra],
        )
        objective = build_objective(recipe, cohort, torch.device("cpu"))
        volumes = next(CohortBatches(recipe, cohort).stream(0))
        texture, reported = objective.phases[2].loss(volumes, moment)
        fidelity, _ = objective.phases[0].loss(volumes, moment)
        losses[extra[0].split(".")[-1] if extra else "none"] = texture.item(), fidelity.item()
        assert ("features" in reported) == ("feature" in str(extra))
    plain_texture, plain_fidelity = losses["none"]
    for name in ("gradient_weight=1", "spectral_weight=1"):
        assert losses[name][1] > plain_fidelity
        assert losses[name][0] - plain_texture == pytest.approx(losses[name][1] - plain_fidelity, rel=1e-3)
    assert losses["feature_weight=1"][0] > plain_texture
    assert losses["feature_weight=1"][1] == plain_fidelity


@pytest.mark.parametrize("factor", ["[1,1,2.5]", "[2,2,2]"])
def test_the_light_network_takes_the_factor_of_the_recipe(factor: str, phantom_cohort: Path) -> None:
    recipe = load_recipe("super_resolution/light", [*SMALL["wide_activation"], *ALWAYS, f"acquisition.factor={factor}"])
    objective = build_objective(recipe, Cohort.load(phantom_cohort), torch.device("cpu"))
    assert objective.networks["restorer"].arguments["factor"] == list(recipe.acquisition.factor)  # type: ignore[union-attr]
    with pytest.raises(MedganError, match=r"ratios of whole numbers.*Change acquisition.factor"):
        describe_training("super_resolution/light", phantom_cohort, overrides=["acquisition.factor=[1,1,2.718]"])


def test_a_displaced_scanner_stops_the_training_before_it_begins(
    phantom_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scanner that keeps the first voxel of each block, handed to the workflow as any other."""
    from medgan.acquisition.batched import AcquisitionBatch

    right = AcquisitionBatch.forward

    def first_voxels(self: AcquisitionBatch, volumes: Tensor) -> Tensor:
        measured = right(self, volumes)
        kept = volumes[..., ::2]
        return torch.nn.functional.pad(kept, (0, measured.shape[-1] - kept.shape[-1]))

    monkeypatch.setattr(AcquisitionBatch, "forward", first_voxels)
    with pytest.raises(MedganError, match=r"displaced pairs.*along Z.*first voxel of each block"):
        train(
            "super_resolution/quickstart",
            phantom_cohort,
            overrides=[*SMALL["residual_dense"], *ALWAYS],
            steps=2,
            out=tmp_path / "run",
            device="cpu",
        )
    assert not (tmp_path / "run").exists()


def test_the_audit_uses_up_no_random_numbers(phantom_cohort: Path) -> None:
    recipe = load_recipe("super_resolution/quickstart", [*SMALL["residual_dense"], *ALWAYS])
    cohort = Cohort.load(phantom_cohort)
    objective, batches = build_objective(recipe, cohort, torch.device("cpu")), CohortBatches(recipe, cohort)
    before = torch.get_rng_state()
    audited_alignment(recipe, objective.scanner, batches.source)  # type: ignore[union-attr, arg-type, attr-defined]
    assert torch.equal(torch.get_rng_state(), before)


def test_what_could_not_be_measured_is_told() -> None:
    nan = float("nan")
    assert told(Alignment((0.01, 0, nan), (0, 0, nan), (0, 0, 0), (0, 0, 0), 16)) == (
        "within 0.010 voxel on 16 pairs, not measurable along Z"
    )
    assert told(Alignment((nan,) * 3, (nan,) * 3, (nan,) * 3, (nan,) * 3, 16)) == "not measurable on 16 pairs"


def test_the_wrong_scanner_of_that_test_is_as_wrong_as_it_says() -> None:
    """The displacement that the audit named is the true one: half a voxel."""
    low = Acquisition.between((4, 4, 32), (4, 4, 16), high_spacing=(1, 1, 1))
    peak = torch.exp(-0.1 * (torch.arange(32.0) - 12) ** 2).expand(4, 4, 32)
    start = low.inverse(peak[..., ::2].contiguous())[2, 2]
    centre = float((start * torch.arange(32.0)).sum() / start.sum())
    assert centre == pytest.approx(12.5, abs=0.02)


@pytest.fixture
def edges(tmp_path: Path) -> Path:
    """A perceptual network for planes."""
    path = tmp_path / "edges.pt"
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 3, 3)), str(path))
    return path


def test_a_named_perceptual_network_takes_part(phantom_cohort: Path, tmp_path: Path, edges: Path) -> None:
    overrides = [
        *SMALL["residual_dense"],
        *ALWAYS,
        "super_resolution.adversarial.images=100",
        "super_resolution.adversarial.perceptual_weight=0.1",
    ]
    out = tmp_path / "run"
    name = "super_resolution/quickstart"
    outcome = train(
        name,
        phantom_cohort,
        overrides=overrides,
        steps=4,
        out=out,
        device="cpu",
        stop_after=3,
        perceptual_network=edges,
    )
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    other = tmp_path / "other.pt"
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 2, 3)), str(other))
    with pytest.raises(MedganError, match="not the perceptual network that the training was begun with"):
        train(name, phantom_cohort, resume=out, device="cpu", perceptual_network=other)
    with pytest.raises(MedganError, match="no network is named"):
        train(name, phantom_cohort, resume=out, device="cpu")
    assert train(name, phantom_cohort, resume=out, device="cpu", perceptual_network=edges).finished
    run = client.get_run(str(outcome.run_id))
    assert run.data.metrics["texture/perceptual"] > 0
    assert len(run.data.tags["medgan.perceptual_sha256"]) == 64
    assert not any("edges.pt" in value for value in [*run.data.params.values(), *run.data.tags.values()])
    with pytest.raises(MedganError, match="no weight"):
        train(name, phantom_cohort, out=tmp_path / "second", device="cpu", perceptual_network=edges)
    assert not (tmp_path / "second").exists()

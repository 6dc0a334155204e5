"""The adversarial game of a synthesis training, on networks of a few hundred weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medgan.adversarial.losses import LOSSES
from medgan.errors import MedganError
from medgan.recipe import Schedule, SynthesisOptions, SynthesisRecipe, TrainingOptions
from medgan.training.penalty import resolved_weight
from medgan.training.phases import Moment
from medgan.training.synthesis import SynthesisObjective
from medgan.training.trainer import Trainer

CPU, SHAPE, BATCH = torch.device("cpu"), (5, 6, 4), 4
NETWORK = {"latent_size": 3, "width": 4, "max_width": 4, "blocks": 1, "group_width": 0, "base_size": 3}
START = Moment(0, 0, 0.0)


def _recipe(**synthesis: Any) -> SynthesisRecipe:
    return SynthesisRecipe.model_validate(
        {
            "task": "synthesis",
            "network": NETWORK,
            "synthesis": {"images": 48, **synthesis},
            "training": {"batch_size": BATCH, "tick_steps": 4, "mode": "exact", "seed": 3},
        }
    )


def _objective(**synthesis: Any) -> SynthesisObjective:
    return SynthesisObjective(_recipe(**synthesis), shape=SHAPE, spacing=(1.0, 1.0, 2.0), device=CPU)


def _volumes(seed: int = 0) -> Tensor:
    return torch.rand(BATCH, 1, *SHAPE, generator=torch.Generator().manual_seed(seed))


class _Batches:
    def stream(self, position: int) -> Iterator[Tensor]:
        while True:
            yield _volumes(position)
            position += 1


def _trainer(folder: Path, objective: SynthesisObjective) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(objective, _Batches(), objective.recipe.training, device=CPU, checkpoints=folder)


def _state(trainer: Trainer) -> dict[str, Tensor]:
    networks = {**trainer.objective.networks, "average": trainer.average}
    return {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}


EVERYTHING: dict[str, Any] = {
    "loss": "non_saturating",
    "label_smoothing": 0.1,
    "instance_noise": {"start": 0.1, "end": 0},
    "lecam": {"weight": 0.1},
    "augmentation": {"kind": "adaptive", "images": 20},
    "penalty": {"kind": "r1", "weight": 1.0, "interval": 2},
    "optimizer": {"lazy_rescaling": True},
    "discriminator_steps": 2,
}


@pytest.mark.parametrize("stop", [3, 4])
def test_stopping_and_resuming_equals_never_stopping(tmp_path: Path, stop: int) -> None:
    whole = _trainer(tmp_path / "whole", _objective(**EVERYTHING))
    whole.run()
    _trainer(tmp_path / "parts", _objective(**EVERYTHING)).run(stop_after=stop)
    resumed = _trainer(tmp_path / "parts", _objective(**EVERYTHING))
    resumed.resume()
    resumed.run()
    expected, found = _state(whole), _state(resumed)
    assert {"augmentation.probability", "lecam.real"} <= expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert expected["augmentation.seen"] > 0 or expected["augmentation.probability"] > 0


def test_a_plain_game_has_two_networks_and_draws_nothing_more() -> None:
    objective = _objective()
    assert set(objective.networks) == {"generator", "discriminator"}
    shown = _volumes()
    state = torch.get_rng_state()
    assert objective._shown(shown, START) is shown
    assert torch.equal(torch.get_rng_state(), state)


PAIRS = [(loss, kind) for loss in sorted(LOSSES) for kind in ("none", "r1", "r2", "r1+r2", "dragan")]


@pytest.mark.parametrize(("loss", "kind"), [*PAIRS, ("wasserstein", "gradient_penalty")])
def test_every_loss_and_penalty_that_go_together_teach_the_whole_discriminator(loss: str, kind: str) -> None:
    objective = _objective(loss=loss, penalty={"kind": kind})
    value, reported = objective.discriminator_loss(_volumes(), START)
    value.backward()
    assert all(torch.isfinite(number) for number in reported.values())
    for name, parameter in objective.discriminator.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert sum(float(parameter.grad.abs().sum()) for parameter in objective.discriminator.parameters()) > 0


@pytest.mark.parametrize(
    ("kind", "weight", "factor"), [("r1", 3.0, 1.5), ("gradient_penalty", 3.0, 3.0), ("gradient_penalty", "auto", 10.0)]
)
def test_the_loss_is_the_adversarial_one_and_the_weighted_penalty(kind: str, weight: Any, factor: float) -> None:
    objective = _objective(loss="wasserstein", penalty={"kind": kind, "weight": weight, "interval": 4})
    loss, reported = objective.discriminator_loss(_volumes(), START)
    torch.testing.assert_close(loss, reported["adversarial"] + 4 * factor * reported[kind])
    torch.testing.assert_close(reported["weighted_penalty"], factor * reported[kind].detach())
    for step in (1, 2, 3):
        _, between = objective.discriminator_loss(_volumes(), Moment(step, 0, 0.0))
        assert kind not in between


def test_the_reported_gradient_norm_is_the_discriminators() -> None:
    objective = _objective(penalty={"kind": "r1"})
    volumes = _volumes()
    _, reported = objective.discriminator_loss(volumes, START)
    real = (2 * volumes - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(objective.discriminator(real).sum(), real)
    expected = gradient.flatten(1).norm(dim=1).square().mean().sqrt()
    torch.testing.assert_close(reported["gradient_norm_real"], expected)


def test_automatic_weight_falls_to_a_tenth() -> None:
    options = SynthesisOptions().penalty
    weight = resolved_weight(options, (32, 32, 32), 16)
    assert (weight.start, weight.end) == (pytest.approx(0.4096), pytest.approx(0.04096))
    fixed = options.model_copy(update={"weight": Schedule(start=2, end=1)})
    assert resolved_weight(fixed, (32, 32, 32), 16) == Schedule(start=2, end=1)


def test_lazy_penalties_rescale_the_discriminator_alone() -> None:
    optimizer = {"learning_rate": 1e-3, "beta1": 0.5, "beta2": 0.99, "lazy_rescaling": True}
    objective = _objective(optimizer=optimizer, penalty={"kind": "r1", "interval": 16})
    groups = {}
    for phase in objective.phases:
        phase.tune(phase.optimizer, START)
        groups[phase.name] = phase.optimizer.param_groups[0]
    assert groups["discriminator"]["lr"] == pytest.approx(1e-3 * 16 / 17)
    assert groups["discriminator"]["betas"] == pytest.approx((0.5 ** (16 / 17), 0.99 ** (16 / 17)))
    assert groups["generator"]["lr"] == 1e-3
    assert groups["generator"]["betas"] == (0.5, 0.99)


def test_rates_of_their_own() -> None:
    rates = {"learning_rate": 1e-3, "discriminator_learning_rate": 4e-3}
    objective = _objective(optimizer=rates)
    for phase, rate in zip(objective.phases, (4e-3, 1e-3), strict=True):
        phase.tune(phase.optimizer, START)
        assert phase.optimizer.param_groups[0]["lr"] == rate


def test_instance_noise_fades_out() -> None:
    objective = _objective(instance_noise={"start": 0.1, "end": 0})
    still = torch.zeros(BATCH, 1, 20, 20, 20)
    deviations = []
    for progress in (0.0, 0.5, 1.0):
        deviations.append(objective._shown(still, Moment(0, 0, progress)).std().item())
    # Normalised intensity spans half of the networks' range.
    assert deviations == pytest.approx([0.2, 0.1, 0.0], rel=0.05)


def test_overfitting_raises_the_augmentation() -> None:
    objective = _objective(loss="hinge", augmentation={"kind": "adaptive", "images": 100, "target": 0.6})
    control = objective.networks["augmentation"]
    for certainty, expected in ((5.0, 16 / 100), (-5.0, 0.0)):
        for step in range(1, 5):
            logits = torch.full((BATCH, 1), certainty)
            objective._observed(control, logits, -logits)  # type: ignore[arg-type]
            objective.after_step(Moment(step, 0, 0.0), nn.Identity())
        assert control.probability.item() == pytest.approx(expected)  # type: ignore[operator]


def test_augmentation_changes_what_is_seen_and_lets_gradients_through() -> None:
    augmentation = {"kind": "fixed", "probability": 0.8}
    objective = _objective(augmentation=augmentation)
    volumes = _volumes()
    assert not torch.equal(objective._shown(volumes, START), volumes)
    loss, _ = objective.generator_loss(volumes, START)
    loss.backward()
    assert objective.generator.head.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


class _Judge(nn.Module):
    """A discriminator that shows its features and looks at the whole batch."""

    mixes_batch = True

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.score = nn.Linear(5 * 6 * 4, 7), nn.Linear(7, 1)
        self.batches: list[int] = []

    def features(self, volumes: Tensor) -> list[Tensor]:
        self.batches.append(len(volumes))
        hidden = self.layer(volumes.flatten(1)).relu()
        return [hidden, self.score(hidden - hidden.mean(0))]

    def forward(self, volumes: Tensor) -> Tensor:
        return self.features(volumes)[-1]


def _with_judge(monkeypatch: pytest.MonkeyPatch, **synthesis: Any) -> tuple[SynthesisObjective, _Judge]:
    import medgan.training.synthesis as module

    make, judge = module.pair_for, _Judge()
    monkeypatch.setattr(module, "pair_for", lambda *arguments: (make(*arguments)[0], judge))
    return _objective(**synthesis), judge


@pytest.mark.parametrize(("kind", "form"), [("none", "exact"), ("r1+r2", "exact"), ("r1+r2", "finite_difference")])
def test_volumes_of_a_mixing_discriminator_are_judged_apart(
    monkeypatch: pytest.MonkeyPatch, kind: str, form: str
) -> None:
    objective, judge = _with_judge(monkeypatch, penalty={"kind": kind, "form": form})
    objective.discriminator_loss(_volumes(), START)
    assert judge.batches == [BATCH] * len(judge.batches)
    assert len(judge.batches) == (2 if kind == "none" else 4)


def test_feature_matching_adds_the_distance_of_mean_features(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, judge = _with_judge(monkeypatch, loss="non_saturating", feature_weight=3.0)
    volumes = _volumes()
    torch.manual_seed(7)
    loss, reported = objective.generator_loss(volumes, START)
    torch.testing.assert_close(loss, reported["adversarial"] + 3 * reported["features"])
    torch.manual_seed(7)
    generated = objective.generator(torch.randn(BATCH, 3))
    real, made = judge.features(2 * volumes - 1)[0], judge.features(generated)[0]
    expected = (made.mean(0) - real.mean(0)).square().mean() / real.square().mean()
    torch.testing.assert_close(reported["features"], expected)


def test_feature_matching_is_refused_where_there_are_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    import medgan.training.synthesis as module

    monkeypatch.setattr(module, "pair_for", lambda *arguments: (nn.Linear(3, 4), nn.Linear(4, 1)))
    with pytest.raises(MedganError, match="discriminator of r3gan networks does not show its features"):
        _objective(feature_weight=1.0)


def test_features_of_the_discriminator_end_with_its_logits() -> None:
    judge = _objective().discriminator
    features = judge.features(_volumes())  # type: ignore[operator]
    assert len(features) > 1
    assert torch.equal(features[-1], judge(_volumes()))


def test_accumulated_batches_train_a_plain_game(tmp_path: Path) -> None:
    objective = _objective()
    options = objective.recipe.training.model_copy(update={"accumulation": 2})
    assert isinstance(options, TrainingOptions)
    trainer = Trainer(objective, _Batches(), options, device=CPU, checkpoints=tmp_path)
    trainer.run(stop_after=2)
    assert trainer.images == 2 * BATCH


def test_path_length_is_for_generators_with_styles() -> None:
    with pytest.raises(MedganError, match="r3gan networks have none"):
        _objective(path_length={"weight": 2.0})


def test_path_length_is_added_lazily_and_keeps_its_mean() -> None:
    network = {"kind": "stylegan", "latent_size": 3, "width": 4, "max_width": 4, "base_size": 3, "style_size": 5}
    recipe = _recipe(path_length={"weight": 2.0, "interval": 4}).model_dump()
    objective = SynthesisObjective(
        SynthesisRecipe.model_validate({**recipe, "network": network}), shape=SHAPE, spacing=(1, 1, 2), device=CPU
    )
    loss, reported = objective.generator_loss(_volumes(), START)
    torch.testing.assert_close(loss, reported["adversarial"] + 8 * reported["path_length"])
    loss.backward()
    mapping = dict(objective.generator.named_children())["mapping"]
    assert all(parameter.grad is not None for parameter in mapping.parameters())
    mean = objective.networks["path_length"].state_dict()["mean"].clone()
    assert mean > 0
    _, between = objective.generator_loss(_volumes(), Moment(1, 0, 0.0))
    assert "path_length" not in between
    assert torch.equal(objective.networks["path_length"].state_dict()["mean"], mean)

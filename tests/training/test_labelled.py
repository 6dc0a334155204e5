"""Labels in the one loop: batches, dropout, penalties, resume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medgan.label_distribution import LabelDistribution
from medgan.labels import LabelCoding, class_label, continuous_label
from medgan.networks.labelled import LabelledDiscriminator, LabelledGenerator
from medgan.recipe import SynthesisRecipe
from medgan.training.accumulation import accumulate_gradients
from medgan.training.batches import LabelledVolumes, parted
from medgan.training.phases import Moment
from medgan.training.synthesis import SynthesisObjective
from medgan.training.trainer import Trainer

CPU, SHAPE, BATCH = torch.device("cpu"), (5, 6, 4), 4
START = Moment(0, 0, 0.0)
ROWS = [{"group": "ab"[index % 2], "age": 20.0 + 5 * index} for index in range(8)]
CODING = LabelCoding((class_label("group", list("aabb")), continuous_label("age", [20.0, 30.0, 55.0])))
LABELS = LabelDistribution.fitted(CODING, ROWS)
NETWORKS: dict[str, dict[str, Any]] = {
    "r3gan": {"latent_size": 3, "width": 4, "max_width": 4, "blocks": 1, "group_width": 0, "base_size": 3},
    "dcgan": {"kind": "dcgan", "latent_size": 3, "width": 4, "max_width": 4, "base_size": 3},
    "stylegan": {"kind": "stylegan", "latent_size": 3, "width": 4, "max_width": 4, "base_size": 3, "style_size": 4},
    "progressive": {"kind": "progressive", "latent_size": 3, "width": 4, "max_width": 4, "base_size": 3, "fading": 0.4},
    "hagan": {"kind": "hagan", "latent_size": 3, "width": 4, "max_width": 4, "base_size": 2},
}


def _recipe(kind: str = "r3gan", *, dropout: float = 0.25, **synthesis: Any) -> SynthesisRecipe:
    labels = {"names": ["group", "age"], "dropout": dropout, "embedding_size": 2}
    return SynthesisRecipe.model_validate(
        {
            "task": "synthesis",
            "network": NETWORKS[kind],
            "synthesis": {"images": 16, "labels": labels, **synthesis},
            "training": {"batch_size": BATCH, "tick_steps": 2, "mode": "exact", "seed": 3},
        }
    )


def _objective(kind: str = "r3gan", **options: Any) -> SynthesisObjective:
    shape = (9, 10, 8) if kind == "hagan" else SHAPE
    return SynthesisObjective(_recipe(kind, **options), shape=shape, spacing=(1.0, 1.0, 1.2), device=CPU, labels=LABELS)


def _batch(seed: int = 0, count: int = BATCH, shape: tuple[int, ...] = SHAPE) -> LabelledVolumes:
    volumes = torch.rand(count, 1, *shape, generator=torch.Generator().manual_seed(seed))
    codes = np.stack([CODING.coded(ROWS[(seed + index) % len(ROWS)]) for index in range(count)])
    return LabelledVolumes(volumes, torch.from_numpy(codes))


class _Batches:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def stream(self, position: int) -> Iterator[LabelledVolumes]:
        while True:
            yield _batch(position, shape=self.shape)
            position += 1


def _trainer(folder: Path, kind: str, **options: Any) -> Trainer:
    objective = _objective(kind, **options)
    source = _Batches(objective.shape)
    return Trainer(objective, source, objective.recipe.training, device=CPU, checkpoints=folder)


def _state(trainer: Trainer) -> dict[str, Tensor]:
    networks = {**trainer.objective.networks, "average": trainer.average}
    return {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_resumed_training_with_labels_equals_an_uninterrupted_one(kind: str, tmp_path: Path) -> None:
    whole = _trainer(tmp_path / "whole", kind)
    start = {name: value.clone() for name, value in _state(whole).items()}
    whole.run()
    _trainer(tmp_path / "parts", kind).run(stop_after=2)
    resumed = _trainer(tmp_path / "parts", kind)
    resumed.resume()
    resumed.run()
    expected, found = _state(whole), _state(resumed)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    for name in ("generator.embedding.weight", "discriminator.embeddings.0.weight", "average.embedding.weight"):
        assert not torch.equal(expected[name], start[name]), name


def test_batches_with_labels_are_cut_and_moved_together() -> None:
    batch = _batch(count=5)
    parts = batch.chunk(2)
    assert [len(part) for part in parts] == [3, 2]
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    moved = batch.to(torch.device("meta"), non_blocking=True)
    assert moved.volumes.is_meta
    assert moved.labels.is_meta
    volumes, labels = parted(batch.contiguous(memory_format=torch.channels_last_3d))
    assert volumes.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(volumes, batch.volumes)
    assert labels is batch.labels
    assert parted(volumes) == (volumes, None)


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    """With latent vectors that follow from the real volumes, because what is drawn is drawn for each part."""
    gradients = []
    for parts in (1, 2):
        objective = _objective(dropout=0.0, loss="least_squares", penalty={"kind": "none"}, flip=False)
        objective._latents = (
            lambda like, labels=None, o=objective: o.generator.widened(  # type: ignore[method-assign, misc]
                like.flatten(1)[:, :3].clone(), labels
            )
        )
        accumulate_gradients(objective.phases[0], _batch(), START, parts, nullcontext)
        gradients.append([parameter.grad for parameter in objective.discriminator.parameters()])
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, summed)


def test_a_share_of_the_volumes_loses_all_labels_at_once() -> None:
    objective = _objective(dropout=0.25)
    torch.manual_seed(0)
    volumes, codes = objective._parted(_batch(count=4000, shape=(1, 1, 1)))
    assert codes is not None
    lost = (codes == torch.from_numpy(CODING.dropped())).all(dim=1)
    # Four standard deviations of a binomial share.
    assert float(lost.float().mean()) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)
    assert torch.equal(codes[~lost], _batch(count=4000, shape=(1, 1, 1)).labels[~lost])
    assert len(volumes) == 4000
    without = _objective(dropout=0.0)._parted(_batch())[1]
    assert torch.equal(without, _batch().labels)  # type: ignore[arg-type]


def test_the_generator_is_asked_for_the_labels_of_the_real_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = _objective(dropout=0.0)
    told: list[Tensor] = []
    for name in ("generator", "discriminator"):
        network = getattr(objective, name)
        inner = LabelledGenerator.widened if name == "generator" else LabelledDiscriminator.projected

        def recorded(first: Any, labels: Tensor, network: Any = network, inner: Any = inner) -> Any:
            told.append(labels)
            return inner(network, first, labels)

        monkeypatch.setattr(network, "widened" if name == "generator" else "projected", recorded)
    batch = _batch()
    objective.discriminator_loss(batch, START)
    objective.generator_loss(batch, START)
    assert len(told) >= 4
    for labels in told:
        for half in labels.split(BATCH):
            assert torch.equal(half, batch.labels)


@pytest.mark.parametrize("kind", ["r1", "r1+r2"])
def test_exact_penalties_look_at_the_labelled_discriminator(kind: str) -> None:
    objective = _objective(dropout=0.0, penalty={"kind": kind})
    batch = _batch()
    loss, reported = objective.discriminator_loss(batch, START)
    loss.backward()
    real = (2 * batch.volumes - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(objective.discriminator(real, batch.labels).sum(), real)
    torch.testing.assert_close(reported["r1"].detach(), gradient.flatten(1).square().sum(1).mean())
    for name, parameter in objective.discriminator.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_finite_differences_look_at_the_labelled_discriminator(monkeypatch: pytest.MonkeyPatch) -> None:
    sigma = 0.02
    objective = _objective(dropout=0.0, penalty={"kind": "r1+r2", "form": "finite_difference", "sigma": sigma})
    batch = _batch()
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    _, reported = objective.discriminator_loss(batch, START)
    real = 2 * batch.volumes - 1
    with torch.no_grad():
        change = objective.discriminator(real + sigma, batch.labels) - objective.discriminator(real, batch.labels)
    torch.testing.assert_close(reported["r1"].detach(), (change / sigma).square().mean(), rtol=1e-3, atol=1e-6)


EVERYTHING: dict[str, Any] = {
    "loss": "non_saturating",
    "instance_noise": {"start": 0.1, "end": 0},
    "lecam": {"weight": 0.1},
    "augmentation": {"kind": "fixed", "probability": 0.5},
    "feature_weight": 1.0,
    "discriminator_steps": 2,
}


@pytest.mark.parametrize(
    ("kind", "synthesis"),
    [
        ("r3gan", EVERYTHING),
        ("stylegan", {"path_length": {"weight": 2.0}, "loss": "non_saturating"}),
        ("dcgan", {"loss": "wasserstein", "penalty": {"kind": "gradient_penalty"}}),
        ("r3gan", {"penalty": {"kind": "dragan"}}),
    ],
)
def test_labels_go_with_every_part_of_the_game(kind: str, synthesis: dict[str, Any]) -> None:
    objective = _objective(kind, **synthesis)
    for loss in (objective.discriminator_loss, objective.generator_loss):
        value, reported = loss(_batch(), START)
        value.backward()
        assert torch.isfinite(value)
        assert all(torch.isfinite(one).all() for one in reported.values())
    assert "path_length" in reported or kind != "stylegan"
    gradient = objective.generator.embedding.weight.grad  # type: ignore[union-attr]
    assert gradient is not None
    assert gradient.abs().sum() > 0  # type: ignore[operator]


def test_labels_are_given_where_the_recipe_names_them_and_only_there() -> None:
    with pytest.raises(ValueError, match="where the recipe names some"):
        SynthesisObjective(_recipe(), shape=SHAPE, spacing=(1, 1, 1), device=CPU)
    plain = _recipe().model_copy(update={"synthesis": _recipe().synthesis.model_copy(update={"labels": _plain()})})
    with pytest.raises(ValueError, match="and only there"):
        SynthesisObjective(plain, shape=SHAPE, spacing=(1, 1, 1), device=CPU, labels=LABELS)


def _plain() -> Any:
    from medgan.recipe import LabelOptions

    return LabelOptions()

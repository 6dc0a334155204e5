"""A generator around the linear model of its cohort: where it begins, and that it trains, stops and resumes exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medgan.errors import MedganError
from medgan.label_distribution import LabelDistribution
from medgan.labels import LabelCoding, class_label, continuous_label
from medgan.networks.labelled import LabelledGenerator
from medgan.networks.principal import PrincipalGenerator
from medgan.networks.saved import build_network
from medgan.recipe import SynthesisRecipe
from medgan.recipe_files import load_recipe
from medgan.training.kinds import synthesis_objective
from medgan.training.linear_start import component_grid, linear_start
from medgan.training.synthesis import SynthesisObjective
from medgan.training.trainer import Trainer

CPU = torch.device("cpu")
SHAPE, SPACING = (9, 11, 8), (1.0, 1.0, 1.2)


def _recipe(*changed: str, base: str = "synthesis/quickstart") -> SynthesisRecipe:
    tiny = ["network.width=4", "network.max_width=4", "network.latent_size=4", "network.haar_head=false"]
    loop = ["training.batch_size=4", "training.mode=exact", "training.tick_steps=1", "synthesis.flip=false"]
    recipe = load_recipe(base, [*tiny, *loop, "network.principal_components=3", *changed])
    assert isinstance(recipe, SynthesisRecipe)
    return recipe


def _scans(count: int = 20) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    patterns = random.random((3, *SHAPE))
    return [(0.3 + np.einsum("k,kxyz->xyz", random.standard_normal(3), patterns)).astype("f") for _ in range(count)]


class _Batches:
    def stream(self, position: int) -> Iterator[Tensor]:
        scans = torch.tensor(np.stack(_scans()))[:, None]
        while True:
            chosen = np.random.default_rng(position).integers(0, len(scans), 4)
            yield scans[torch.from_numpy(chosen)]
            position += 1


def _trainer(folder: Path, base: str = "synthesis/quickstart") -> Trainer:
    recipe = _recipe(base=base).with_steps(4)
    start = linear_start(recipe, _scans(), shape=SHAPE, spacing=SPACING)
    objective = synthesis_objective(recipe, shape=SHAPE, spacing=SPACING, device=CPU, start=start)
    return Trainer(objective, _Batches(), recipe.training, device=CPU, checkpoints=folder / "checkpoints")


def test_first_samples_have_the_mean_and_the_spread_of_the_scans() -> None:
    recipe, scans = _recipe(), _scans(200)
    start = linear_start(recipe, scans, shape=SHAPE, spacing=SPACING)
    assert start is not None
    assert start.explained == pytest.approx(1, abs=1e-3)
    generator = SynthesisObjective(recipe, shape=SHAPE, spacing=SPACING, device=CPU, start=start).generator
    assert isinstance(generator, PrincipalGenerator)
    with torch.no_grad():
        samples = (generator.linear(torch.randn(4000, 4))[:, 0].numpy() + 1) / 2
    assert samples.min() == pytest.approx(min(scan.min() for scan in scans), abs=1e-5)
    real = np.stack(scans)
    np.testing.assert_allclose(samples.mean(0), real.mean(0), atol=0.08)
    np.testing.assert_allclose(samples.std(0), real.std(0), rtol=0.08)


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    straight = _trainer(tmp_path / "straight")
    straight.run()
    _trainer(tmp_path / "stopped").run(stop_after=2)
    resumed = _trainer(tmp_path / "stopped")
    resumed.resume()
    resumed.run()
    expected, found = straight.average.state_dict(), resumed.average.state_dict()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert float(expected["share"]) != pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("name", ["quickstart", "dcgan", "stylegan", "progressive", "alpha_wgan"])
def test_the_exported_generator_is_rebuilt_whole(tmp_path: Path, name: str) -> None:
    trainer = _trainer(tmp_path, f"synthesis/{name}")
    result = trainer.run()
    config, weights = trainer.objective.export(result.average)
    assert config["network"]["name"] == ("principal_style_generator" if name == "stylegan" else "principal_generator")
    rebuilt = build_network(config["network"]["name"], config["network"]["arguments"])
    rebuilt.load_state_dict(weights)
    latents = torch.randn(2, 4)
    with torch.no_grad():
        torch.testing.assert_close(rebuilt.eval()(latents), result.average(latents))


def test_large_volumes_get_components_on_a_coarser_grid() -> None:
    assert component_grid((24, 32, 32), (7.5, 7.5, 7.5)) == (24, 32, 32)
    assert component_grid((128, 128, 128), (1.5, 1.5, 1.5)) == (32, 32, 32)
    # Thick slices stay: the grid becomes isotropic before it shrinks along them.
    assert component_grid((128, 128, 24), (1.0, 1.0, 6.0)) == (32, 32, 24)


def test_without_components_there_is_no_linear_model() -> None:
    assert linear_start(_recipe("network.principal_components=0"), _scans(), shape=SHAPE, spacing=SPACING) is None
    assert linear_start(_recipe(), _scans(3), shape=SHAPE, spacing=SPACING) is None


def test_each_component_needs_a_latent_number() -> None:
    start = linear_start(_recipe("network.principal_components=9"), _scans(80), shape=SHAPE, spacing=SPACING)
    assert start is not None
    assert len(start.components) == 4


def test_a_generator_that_is_told_labels_is_built_around_it_too(tmp_path: Path) -> None:
    coding = LabelCoding((continuous_label("age", [20.0, 30.0, 55.0]),))
    ages = np.linspace(20, 55, 20)
    labels = LabelDistribution.fitted(coding, [{"age": float(age)} for age in ages])
    codes = np.stack([coding.coded({"age": float(age)}) for age in ages])
    recipe = _recipe("synthesis.labels={names: age, embedding_size: 2}")
    start = linear_start(recipe, _scans(), shape=SHAPE, spacing=SPACING, coding=coding, codes=codes)
    objective = SynthesisObjective(recipe, shape=SHAPE, spacing=SPACING, device=CPU, labels=labels, start=start)
    generator = objective.generator
    assert isinstance(generator, LabelledGenerator)
    config, weights = objective.export(generator)
    rebuilt = build_network(config["network"]["name"], config["network"]["arguments"])
    rebuilt.load_state_dict(weights)
    latents, told = torch.randn(2, 4), torch.from_numpy(codes[:2]).float()
    with torch.no_grad():
        assert torch.equal(rebuilt(latents, told), generator(latents, told))


def test_first_samples_have_what_labels_add() -> None:
    random = np.random.default_rng(1)
    ages, groups = np.linspace(20, 80, 60), random.choice(["a", "b", "b"], 60)
    rows: list[dict[str, float | str]] = [{"age": float(a), "group": str(g)} for a, g in zip(ages, groups, strict=True)]
    rows[0]["group"], rows[-1]["group"] = "rare", "rare"
    names = [str(row["group"]) for row in rows]
    coding = LabelCoding((continuous_label("age", list(ages)), class_label("group", names)))
    scans = np.full((60, *SHAPE), 0.5) + 0.01 * random.standard_normal((60, *SHAPE))
    scans[:, 2:4] += (0.004 * (ages - ages.mean()))[:, None, None, None]
    scans[[name == "b" for name in names], 6:8] += 0.3
    scans[[name == "rare" for name in names], :, 5] += 0.9
    recipe = _recipe("synthesis.labels={names: [age, group], embedding_size: 2}")
    codes = np.stack([coding.coded(row) for row in rows])
    volumes = [scan.astype("f") for scan in scans]
    start = linear_start(recipe, volumes, shape=SHAPE, spacing=SPACING, coding=coding, codes=codes)
    grid: dict[str, Any] = {"shape": SHAPE, "spacing": SPACING, "device": CPU}
    labels = LabelDistribution.fitted(coding, rows)
    generator = SynthesisObjective(recipe, labels=labels, start=start, **grid).generator
    assert isinstance(generator, LabelledGenerator)
    assert isinstance(generator.inner, PrincipalGenerator)

    def made(**asked: float | str) -> np.ndarray:
        code = torch.from_numpy(coding.coded(asked))[None]
        with torch.no_grad():
            return (generator.inner.linear(generator.widened(torch.zeros(1, 4), code))[0, 0].numpy() + 1) / 2

    mean = scans.mean(axis=0)
    np.testing.assert_allclose(made(), mean, atol=2e-3)
    older = made(age=70.0, group="b") - made(age=30.0, group="b")
    np.testing.assert_allclose(older[2:4], 0.16, atol=0.02)
    np.testing.assert_allclose(older[6:8], 0.0, atol=0.02)
    other = made(age=50.0, group="b") - made(age=50.0, group="a")
    np.testing.assert_allclose(other[6:8], 0.3, atol=0.03)
    # Two scans of a class would show what these two persons have in common.
    rare = made(age=float(ages.mean()), group="rare") - mean
    assert np.abs(rare[:, 5]).max() < 0.1


def test_networks_that_cannot_be_built_around_it_refuse_it() -> None:
    kinds = "r3gan, dcgan, stylegan, progressive, alpha_wgan"
    with pytest.raises(MedganError, match=f"'principal_components' is a field of {kinds} networks, not of hagan"):
        load_recipe("synthesis/hagan", ["network.principal_components=4"])

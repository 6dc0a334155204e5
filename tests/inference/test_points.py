from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp
from torch import nn

from medgan.errors import MedganError
from medgan.inference.generate import as_scan, generate
from medgan.inference.model import Model, load_model
from medgan.inference.points import (
    Point,
    between,
    has_styles,
    mixed,
    moved,
    point_of_sample,
    rendered,
    slerp,
    stages_of,
)
from medgan.label_distribution import LabelDistribution
from medgan.labels import LabelCoding, LabelValues, class_label, continuous_label
from medgan.networks.labelled_families import labelled_pair
from medgan.networks.r3gan import R3Generator
from medgan.networks.saved import save_model
from medgan.networks.stylegan import BlendedNoise, StyleGenerator, seeded_stream
from medgan.recipe import LabelOptions, SynthesisNetwork

SHAPES, OUT = [(3, 4, 3), (5, 7, 6)], (5, 7, 6)


def residual() -> R3Generator:
    torch.manual_seed(0)
    return R3Generator(shapes=SHAPES, channels=[8, 4], out_shape=OUT, latent_size=6, blocks=1).eval()


def styled() -> StyleGenerator:
    torch.manual_seed(0)
    network = StyleGenerator(shapes=SHAPES, channels=[8, 4], out_shape=OUT, latent_size=6, style_size=5).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("strength"):
            nn.init.constant_(parameter, 0.3)
    network.mean_style.normal_()
    return network


def saved(folder: Path, name: str, network: Any) -> Model:
    config = {
        "medgan_version": "0",
        "task": "synthesis",
        "network": {"name": name, "arguments": network.arguments},
        "normalisation": {"low": -1.0, "high": 1.0, "minimum": -100.0},
        "affine": np.eye(4).tolist(),
    }
    return load_model(save_model(folder, config, network.state_dict()))


def test_the_arc_is_scipy_s_and_the_norm_goes_evenly() -> None:
    rng = np.random.default_rng(0)
    start, end = rng.standard_normal((2, 7))
    start, end = 3 * start / np.linalg.norm(start), 5 * end / np.linalg.norm(end)
    shares = np.linspace(0, 1, 7)
    arc = geometric_slerp(start / 3, end / 5, shares)
    for share, direction in zip(shares, arc, strict=True):
        found = slerp(torch.from_numpy(start), torch.from_numpy(end), float(share)).numpy()
        np.testing.assert_allclose(found, (3 + 2 * share) * direction, rtol=1e-10, atol=1e-12)


def test_steps_on_the_arc_are_equal_and_ends_are_the_vectors_themselves() -> None:
    start, end = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    assert slerp(start, end, 0.0) is start
    assert slerp(start, end, 1.0) is end
    way = [slerp(start, end, share / 8).double() for share in range(9)]
    cosines = [torch.cosine_similarity(one, other, dim=0).item() for one, other in pairwise(way)]
    assert np.ptp(np.arccos(cosines)) < 1e-5
    # The straight line between two vectors of 64 normal numbers would dip by nearly a third.
    assert min(vector.norm() for vector in way) > 0.999 * min(start.norm(), end.norm())


def test_vectors_that_nearly_agree_or_oppose() -> None:
    start = torch.tensor([3.0, 0.0, 0.0])
    torch.testing.assert_close(slerp(start, 2 * start, 0.5), 1.5 * start)
    with pytest.raises(MedganError, match="opposite"):
        slerp(start, -start, 0.5)
    with pytest.raises(MedganError, match="zeros"):
        slerp(start, torch.zeros(3), 0.5)


@pytest.mark.parametrize("make", [residual, styled])
@pytest.mark.parametrize("truncation", [1.0, 0.6])
def test_the_point_of_a_sample_makes_it_again(make: type, truncation: float, tmp_path: Path) -> None:
    network = make()
    name = "style_generator" if has_styles(network) else "r3_generator"
    model = saved(tmp_path / "model", name, network)
    volume = next(generate(model, 1, seed=3, first=2, truncation=truncation))
    with torch.inference_mode():
        point = point_of_sample(model.network(), seed=3, index=2, truncation=truncation)
        again = rendered(model.network(), Point.from_json(point.to_json()))[0]
    np.testing.assert_array_equal(as_scan(model, again, "", {}).data, volume.data)


@pytest.mark.parametrize("kind", ["dcgan", "stylegan"])
def test_so_does_the_point_of_a_sample_with_labels(kind: str, tmp_path: Path) -> None:
    coding = LabelCoding((class_label("sex", list("FM") * 4), continuous_label("age", [20.0, 30.0] * 4)))
    rows: list[LabelValues] = [{"sex": "FM"[index % 2], "age": 20.0 + 10 * (index % 3 == 0)} for index in range(8)]
    torch.manual_seed(0)
    options = SynthesisNetwork(kind=kind, latent_size=5, width=6, max_width=6)
    network, _ = labelled_pair(
        options,
        LabelOptions(names=("sex", "age"), embedding_size=4),
        LabelDistribution.fitted(coding, rows),
        shape=(8, 9, 8),
        spacing=(1.0, 1.0, 1.0),
    )
    model = saved(tmp_path / "model", "labelled_generator", network)
    asked = {"sex": "M"}
    volume = next(generate(model, 1, seed=3, first=2, labels=asked, truncation=0.7))
    with torch.inference_mode():
        point = point_of_sample(model.network(), seed=3, index=2, truncation=0.7, asked=asked)
        other = point_of_sample(model.network(), seed=3, index=4, truncation=0.7, asked=asked)
        again = rendered(model.network(), Point.from_json(point.to_json()))[0]
        middle = rendered(model.network(), between(point, other, 0.5))
    np.testing.assert_array_equal(as_scan(model, again, "", {}).data, volume.data)
    assert middle.shape == (1, 1, 8, 9, 8)
    assert (point.labels is None) == (kind == "stylegan")


def test_between_two_samples_styles_go_straight_and_noise_keeps_its_variance() -> None:
    network = styled()
    start, end = (point_of_sample(network, seed=0, index=index) for index in range(2))
    assert between(start, end, 0.0) is start
    assert between(start, end, 1.0) is end
    middle = between(start, end, 0.25)
    torch.testing.assert_close(middle.position, 0.75 * start.position + 0.25 * end.position)
    assert sum(weight**2 for weight, _ in middle.noise) == pytest.approx(1)
    features = torch.zeros(2, 3, 20, 20, 20)
    noise = BlendedNoise(middle.noise).like(features)
    one, other = (
        seeded_stream(point.noise[0][1]).standard_normal((20, 20, 20), dtype=np.float32) for point in (start, end)
    )
    expected = np.cos(np.pi / 8) * one + np.sin(np.pi / 8) * other
    np.testing.assert_allclose(noise[0, 0].numpy(), expected, atol=1e-6)
    assert BlendedNoise(()).like(features).abs().max() == 0


def test_mixing_takes_whole_stages() -> None:
    network = styled()
    coarse, fine = (point_of_sample(network, seed=0, index=index) for index in range(2))
    assert (stages_of(network), len(coarse.position)) == (2, 3)
    for stage, first in ((0, 0), (1, 1), (2, 3)):
        found = mixed(coarse, fine, stage)
        torch.testing.assert_close(found.position[:first], coarse.position[:first], rtol=0, atol=0)
        torch.testing.assert_close(found.position[first:], fine.position[first:], rtol=0, atol=0)
        assert found.noise == coarse.noise


def test_a_move_adds_to_latents_and_to_every_style() -> None:
    point = point_of_sample(residual(), seed=0, index=0)
    torch.testing.assert_close(moved(point, torch.ones(6)).position, point.position + 1)
    point = point_of_sample(styled(), seed=0, index=0)
    torch.testing.assert_close(moved(point, torch.arange(5.0)).position, point.position + torch.arange(5.0))

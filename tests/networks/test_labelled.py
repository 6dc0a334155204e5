"""Networks of every family that are told labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medgan.errors import MedganError
from medgan.label_distribution import LabelDistribution
from medgan.labels import LabelCoding, LabelValue, class_label, continuous_label
from medgan.networks.labelled import (
    LabelledDiscriminator,
    LabelledGenerator,
    LabelledStyleGenerator,
    drawn_labels,
    labels_of_sample,
    unlabelled,
)
from medgan.networks.labelled_families import labelled_pair
from medgan.networks.latents import latents
from medgan.networks.saved import build_network
from medgan.networks.stylegan import StyleGenerator, noise_seeds
from medgan.networks.views import views_for
from medgan.recipe import LabelOptions, SynthesisNetwork

SHAPE, SPACING = (9, 12, 8), (1.0, 1.0, 1.5)
KINDS = ["r3gan", "dcgan", "stylegan", "progressive", "hagan"]
AGES = [20.0 + 5 * index for index in range(8)]
ROWS: list[dict[str, LabelValue]] = [{"sex": "FM"[index % 2], "age": age} for index, age in enumerate(AGES)]
CODING = LabelCoding((class_label("sex", list("FM") * 4), continuous_label("age", AGES)))
LABELS = LabelDistribution.fitted(CODING, ROWS)
EXTRA = {"r3gan": {"group_width": 0}, "hagan": {"base_size": 2}}


def _pair(kind: str, *, dropout: float = 0.1, **extra: object) -> tuple[LabelledGenerator, LabelledDiscriminator]:
    torch.manual_seed(0)
    fields = {"kind": kind, "latent_size": 5, "width": 6, "max_width": 6, **EXTRA.get(kind, {}), **extra}
    options = LabelOptions(names=("sex", "age"), dropout=dropout, embedding_size=4)
    return labelled_pair(SynthesisNetwork.model_validate(fields), options, LABELS, shape=SHAPE, spacing=SPACING)


def _codes(count: int = 4) -> Tensor:
    return torch.from_numpy(np.stack([LABELS.coding.coded(row) for row in ROWS[:count]]))


def _with_weights(network: nn.Module) -> None:
    """No weight at zero, where a layer that starts silent would hide what lies before it."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns_from_labelled_volumes(kind: str) -> None:
    generator, discriminator = _pair(kind)
    _with_weights(generator)
    _with_weights(discriminator)
    views = views_for(unlabelled(discriminator), SHAPE)
    real = views.real(torch.randn(4, 1, *SHAPE))
    # One of the samples has lost its labels, so that the indicators count.
    codes = torch.cat((_codes(3), generator.absent[None]))
    made = views.generated(unlabelled(generator), generator.widened(torch.randn(4, 5), codes), real)
    discriminator(made, codes).square().sum().backward()
    stems = getattr(unlabelled(discriminator), "stems", [])
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            if name.startswith("inner.stems.") and int(name.split(".")[2]) < len(stems) - 1:
                continue  # stems of coarser stages take part while the network grows
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_labels_change_samples_and_logits(kind: str) -> None:
    generator, discriminator = _pair(kind)
    _with_weights(generator)
    codes = _codes(2)
    vector = torch.randn(1, 5).expand(2, -1)
    generator.eval()
    with torch.no_grad():
        one, other = generator(vector, codes)
        assert one.shape == (1, *SHAPE)
        assert not torch.allclose(one, other)
        views = views_for(unlabelled(discriminator), SHAPE)
        real = views.real(torch.randn(1, 1, *SHAPE)).expand(2, *[-1] * (1 if kind == "hagan" else 4))
        logits = discriminator(real, codes)
        assert logits.shape == (2, 2 if kind == "hagan" else 1)
        assert not torch.allclose(logits[0], logits[1])


def test_the_projection_is_the_inner_product_with_the_embedded_labels() -> None:
    _, discriminator = _pair("dcgan", minibatch_statistics="none")
    volumes, codes = torch.randn(3, 1, *SHAPE), _codes(3)
    with torch.no_grad():
        *_, last, plain = unlabelled(discriminator).features(volumes)  # type: ignore[operator]
        found = discriminator(volumes, codes)
    basis = discriminator.bases[0].detach().numpy()[0].astype(np.float64)
    matrix = discriminator.embeddings[0].weight.detach().numpy().astype(np.float64)  # type: ignore[union-attr, operator]
    for index in range(3):
        summed = (last[index].numpy().astype(np.float64) * basis).sum(axis=(1, 2, 3))
        expected = plain[index, 0].item() + summed @ (matrix @ codes[index].numpy())
        assert found[index, 0].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_generator_is_rebuilt_with_its_labels(kind: str) -> None:
    generator, _ = _pair(kind)
    rebuilt = build_network("labelled_generator", generator.arguments)
    assert isinstance(rebuilt, LabelledGenerator)
    rebuilt.load_state_dict(generator.state_dict())
    vectors = torch.randn(2, 5)
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(vectors, _codes(2)), generator.eval()(vectors, _codes(2)))
        # Without labels it draws a sample of none.
        dropped = torch.from_numpy(LABELS.coding.dropped()).expand(2, -1)
        assert torch.equal(rebuilt(vectors), rebuilt(vectors, dropped))
    assert rebuilt.latent_size == 5
    assert rebuilt.distribution == LABELS


def test_without_dropout_no_label_means_the_mean_label() -> None:
    generator, _ = _pair("dcgan", dropout=0.0)
    np.testing.assert_allclose(generator.absent.numpy(), LABELS.coding.typical())


def test_drawn_labels_follow_seed_and_index() -> None:
    generator, _ = _pair("r3gan")
    both = drawn_labels(generator, seed=3, indices=range(4, 6))["labels"]
    assert torch.equal(both[1:], drawn_labels(generator, seed=3, indices=range(5, 6))["labels"])
    values = LABELS.drawn({}, seed=3, index=5)
    np.testing.assert_allclose(both[1].numpy(), LABELS.coding.coded(values))
    assert drawn_labels(nn.Identity(), seed=3, indices=range(2)) == {}


def test_labels_are_left_out_all_together_or_not_at_all() -> None:
    generator, _ = _pair("dcgan")
    nothing = {"sex": None, "age": None}
    assert labels_of_sample(generator, nothing, seed=0, index=0) == nothing
    with pytest.raises(MedganError, match=r"without label age.*with all of sex, age or none of them"):
        labels_of_sample(generator, {"age": None}, seed=0, index=0)
    with pytest.raises(MedganError, match=r"trained with all of sex, age\."):
        labels_of_sample(_pair("dcgan", dropout=0.0)[0], nothing, seed=0, index=0)
    with pytest.raises(MedganError, match="label age is asked for, but the model was trained without labels"):
        labels_of_sample(nn.Identity(), {"age": 30.0}, seed=0, index=0)


def test_mixed_styles_keep_the_label() -> None:
    generator, _ = _pair("stylegan", style_mixing=1.0)
    inner = unlabelled(generator)
    assert isinstance(inner, StyleGenerator)
    seen: list[Tensor] = []
    inner.mapping.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    generator.train()(torch.randn(3, 5), _codes(3))
    own, others = seen
    assert torch.equal(own[:, 5:], others[:, 5:])
    assert not torch.equal(own[:, :5], others[:, :5])


def test_truncation_pulls_styles_towards_those_of_the_same_label() -> None:
    generator, _ = _pair("stylegan")
    assert isinstance(generator, LabelledStyleGenerator)
    generator.eval()
    code = _codes(2)
    vectors = torch.randn(2, 5)
    with torch.no_grad():
        centre = generator.styles(vectors, code, truncation=0.0)
        many = latents(0, range(256), 5)
        expected = [generator.styles(many, one.expand(256, -1)).mean(dim=0) for one in code]
        torch.testing.assert_close(centre, torch.stack(expected))
        assert not torch.allclose(centre[0], centre[1], rtol=1e-3)
        full = generator.styles(vectors, code)
        torch.testing.assert_close(generator.styles(vectors, code, truncation=0.5), (full + centre) / 2)


def test_noise_stays_where_the_label_moves() -> None:
    generator, _ = _pair("stylegan")
    _with_weights(generator)
    generator.eval()
    vector = torch.randn(1, 5)
    with torch.no_grad():
        free = generator(vector, _codes(1))
        assert torch.equal(free, generator(vector, _codes(1), seeds=noise_seeds(vector)))
        assert not torch.equal(free, generator(vector, _codes(1), seeds=[1]))


def test_a_discriminator_that_shows_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import medgan.networks.labelled_families as module

    monkeypatch.setattr(module, "pair_for", lambda *arguments: (nn.Linear(3, 4), nn.Linear(4, 1)))
    with pytest.raises(MedganError, match=r"synthesis\.labels names sex, age, but the discriminator of dcgan networks"):
        _pair("dcgan")

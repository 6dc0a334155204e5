"""Parts of a synthesis game that do not fit each other are refused before anything is trained, with the reason."""

from __future__ import annotations

import pytest

from medgan.errors import MedganError
from medgan.recipe import SynthesisRecipe
from medgan.recipe_files import described, load_recipe, parse_recipe

DCGAN = "network={kind: dcgan}"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["synthesis.penalty.kind=gradient_penalty"], ["gradient_penalty", "Wasserstein", "relativistic", "dragan"]),
        (
            ["synthesis.loss=wasserstein", "synthesis.penalty={kind: gradient_penalty, form: finite_difference}"],
            ["finite_difference", "gradient_penalty", "form: exact"],
        ),
        (["synthesis.penalty={kind: dragan, form: finite_difference}"], ["finite_difference", "dragan"]),
        (["synthesis.label_smoothing=0.1"], ["label_smoothing", "non_saturating", "loss relativistic has none"]),
        (["synthesis.label_smoothing=0.6"], ["synthesis.label_smoothing", "0.6"]),
        (["synthesis.instance_noise=0.1"], ["instance_noise", "end at 0"]),
        (["synthesis.optimizer.lazy_rescaling=true"], ["lazy_rescaling", "interval of 2"]),
        (["synthesis.augmentation={kind: fixed, probability: 0.9}"], ["probability", "0.8"]),
        (["synthesis.augmentation.kind=adaptve"], ["synthesis.augmentation.kind", "adaptve", "adaptive"]),
        (
            [DCGAN, "network.discriminator_normalisation=batch", "synthesis.penalty.kind=r1"],
            ["r1", "discriminator_normalisation", "other volumes"],
        ),
        (
            [
                DCGAN,
                "network.discriminator_normalisation=batch",
                "synthesis.loss=wasserstein",
                "synthesis.penalty.kind=gradient_penalty",
            ],
            ["gradient_penalty", "discriminator_normalisation"],
        ),
        (
            ["network={kind: stylegan, minibatch_statistics: deviation}", "training.batch_size=1"],
            ["minibatch_statistics", "batch_size of 2"],
        ),
        (
            ["synthesis.loss=relativistic_average", "training.accumulation=2"],
            ["relativistic_average", "training.accumulation"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(MedganError) as caught:
        load_recipe("synthesis/r3gan", overrides)
    message = str(caught.value)
    for word in [*words, "r3gan.yaml"]:
        assert word in message, message
    assert len(message) < 600, message


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("r3gan", ["synthesis.autoencoding.code_weight=2"], ["synthesis.autoencoding", "only alpha_wgan and vqgan"]),
        ("alpha_wgan", ["synthesis.path_length.weight=2"], ["synthesis.path_length", "no styles"]),
        ("alpha_wgan", ["synthesis.augmentation.kind=fixed"], ["synthesis.augmentation", "reconstructions"]),
        ("alpha_wgan", ["synthesis.labels.names=age"], ["synthesis.labels", "not told labels"]),
        ("alpha_wgan", ["synthesis.autoencoding.prior_share=0.2"], ["autoencoding.prior_share", "alpha_wgan"]),
        ("alpha_wgan", ["network.minibatch_statistics=deviation"], ["minibatch_statistics", "not of alpha_wgan"]),
        ("alpha_wgan", ["training.accumulation=8"], ["half of a batch", "training.batch_size"]),
        ("alpha_wgan", ["network.discriminator_normalisation=batch"], ["gradient_penalty", "other volumes"]),
        ("vqgan", ["synthesis.penalty.kind=r1"], ["synthesis.penalty", "spectral normalisation"]),
        ("vqgan", ["synthesis.discriminator_steps=2"], ["synthesis.discriminator_steps", "take turns"]),
        ("vqgan", ["network.latent_size=8"], ["latent_size", "not of vqgan"]),
        ("vqgan", ["network.prior_heads=7"], ["prior_width 256", "prior_heads 7"]),
        ("vqgan", ["training.accumulation=2"], ["codebook", "training.accumulation"]),
        ("vqgan", ["synthesis.autoencoding.adversarial_start=1"], ["feature_weight", "adversarial_start 1"]),
        ("vqgan", ["synthesis.autoencoding.prior_share=1"], ["synthesis.autoencoding.prior_share", "1"]),
    ],
)
def test_what_a_kind_does_not_use_is_refused_with_the_reason(name: str, overrides: list[str], words: list[str]) -> None:
    with pytest.raises(MedganError) as caught:
        load_recipe(f"synthesis/{name}", overrides)
    for word in [*words, f"{name}.yaml"]:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize("name", ["r3gan", "alpha_wgan", "vqgan"])
def test_only_what_a_kind_uses_is_saved_and_shown(name: str) -> None:
    recipe = load_recipe(f"synthesis/{name}")
    saved = recipe.model_dump(mode="json")
    assert parse_recipe(saved, source="recipe.yaml") == recipe
    shown = {field for field, _, _ in described(recipe)}
    assert ("synthesis.penalty.kind" in shown) == ("penalty" in saved["synthesis"]) == (name != "vqgan")
    assert ("synthesis.autoencoding.prior_share" in shown) == (name == "vqgan")
    assert ("autoencoding" in saved["synthesis"]) == (name != "r3gan")
    assert ("lecam" in saved["synthesis"]) == (name == "r3gan")


@pytest.mark.parametrize(
    "overrides",
    [
        ["synthesis.loss=wasserstein", "synthesis.penalty.kind=gradient_penalty"],
        ["synthesis.loss=non_saturating", "synthesis.penalty.kind=dragan", "synthesis.label_smoothing=0.1"],
        ["synthesis.penalty.interval=16", "synthesis.optimizer.lazy_rescaling=true"],
        ["synthesis.instance_noise={start: 0.1, end: 0}", "synthesis.lecam.weight=0.1"],
        ["synthesis.augmentation.kind=adaptive", "synthesis.feature_weight=1"],
        [DCGAN, "network.discriminator_normalisation=batch", "synthesis.penalty.kind=none"],
    ],
)
def test_what_fits_is_taken(overrides: list[str]) -> None:
    assert isinstance(load_recipe("synthesis/r3gan", overrides), SynthesisRecipe)

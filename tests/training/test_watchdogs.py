"""Watchdogs on histories whose failure is known to be there or not."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from medgan.training.metrics import History
from medgan.training.remedies import GAMES, game_of, remedy
from medgan.training.watchdogs import WATCHDOGS, alarms


def _history(**metrics: list[float]) -> History:
    """Metrics by name with "__" for "/", one value every ten steps."""
    return {
        name.replace("__", "/"): [(10 * (tick + 1), value) for tick, value in enumerate(values)]
        for name, values in metrics.items()
    }


# A game in balance: logits about one apart, a penalty of the size of the loss, samples as varied as the cohort.
HEALTHY = _history(
    generator__gradient_norm=[2.0, 0.9, 0.5, 0.4, 0.45, 0.5, 0.3, 0.4, 0.35, 0.4],
    discriminator__adversarial=[0.69, 0.6, 0.5, 0.4, 0.45, 0.4, 0.35, 0.4, 0.42, 0.4],
    discriminator__loss=[0.7, 0.8, 0.9, 0.8, 0.8, 0.7, 0.6, 0.7, 0.8, 0.7],
    discriminator__real_logit=[0.0, 0.3, 0.5, 0.6, 0.5, 0.6, 0.7, 0.6, 0.6, 0.6],
    discriminator__generated_logit=[0.0, -0.3, -0.5, -0.6, -0.5, -0.6, -0.7, -0.6, -0.6, -0.6],
    autoencoder__codes_used=[1.2, 3.0, 6.0, 9.0, 12.0, 14.0, 15.0, 15.0, 16.0, 16.0],
    samples__diversity=[0.02, 0.1, 0.4, 0.6, 0.7, 0.7, 0.8, 0.8, 0.8, 0.8],
    samples__nearest_training=[2.0, 1.6, 1.3, 1.2, 1.1, 1.1, 1.0, 1.0, 1.0, 1.0],
    samples__nearest_training_auc=[0.2, 0.3, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
    samples__change=[0.05, 0.2, 0.6, 0.9, 1.0, 1.1, 1.1, 1.2, 1.1, 1.1],
    samples__air=[-0.4, -0.3, -0.4, -0.4, -0.5, -0.4, -0.4, -0.4, -0.4, -0.4],
    samples__noise_gain=[1.0, 1.2, 1.5, 2.0, 2.0, 3.0, 2.0, 2.0, 2.0, 2.0],
    samples__label_response=[0.0, 0.1, 0.4, 0.6, 0.8, 0.9, 1.0, 0.9, 1.0, 0.9],
    samples__latent_response=[0.001, 0.01, 0.05, 0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3],
)


def _kinds(history: History) -> set[str]:
    return {alarm.kind for alarm in alarms(history)}


@pytest.mark.parametrize("ticks", range(11))
def test_a_healthy_training_is_left_in_peace(ticks: int) -> None:
    assert not alarms({name: pairs[:ticks] for name, pairs in HEALTHY.items()})


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert not alarms({"fidelity/loss": [(1, 1.0)] * 20})


FAILURES = {
    # The minimax loss: gradient and discriminator's loss as exp(-logit) when the logits drift apart by two a tick.
    "vanishing_gradient": {"generator/gradient_norm": [math.exp(-2 * tick) for tick in range(10)]},
    "discriminator_wins": {
        "discriminator/adversarial": [2 * math.log1p(math.exp(-2 * tick)) for tick in range(10)],
        "discriminator/loss": [2 * math.log1p(math.exp(-2 * tick)) for tick in range(10)],
    },
    "exploding_penalty": {"discriminator/loss": [0.6 + 0.1 * 3.0**tick for tick in range(10)]},
    "codebook_collapse": {"autoencoder/codes_used": [9.0, 6.0, 4.0, 3.0, 2.5, 2.1, 1.9, 1.5, 1.2, 1.1]},
    "mode_collapse": {"samples/diversity": [0.02, 0.3, 0.6, 0.7, 0.5, 0.3, 0.1, 0.05, 0.03, 0.02]},
    "memorisation": {
        "samples/nearest_training": [2.0, 1.5, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
        "samples/nearest_training_auc": [0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0],
    },
    "unchanged_scans": {"samples/change": [0.05, 0.2, 0.4, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1, 0.05]},
    "inverted_intensities": {"samples/air": [-0.1, 0.1, -0.1, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4]},
    "hidden_information": {"samples/noise_gain": [1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 40.0]},
    "ignored_labels": {"samples/label_response": [0.0, 0.1, 0.2, 0.1, 0.1, 0.05, 0.02, 0.01, -0.02, -0.03]},
    "ignored_latents": {"samples/latent_response": [0.01, 0.01, 0.02, 0.01, 0.01, 0.01, 0.01, 0.005, 0.002, 0.001]},
}


@pytest.mark.parametrize("kind", FAILURES)
def test_each_failure_is_named_alone_with_its_figures_and_a_remedy(kind: str) -> None:
    changed = {
        name: [(10 * (tick + 1), value) for tick, value in enumerate(FAILURES[kind][name])] for name in FAILURES[kind]
    }
    (alarm,) = alarms(HEALTHY | changed)
    assert alarm.kind == kind
    assert any(character.isdigit() for character in alarm.evidence)
    assert alarm.remedy == remedy(kind, GAMES["synthesis"])


def test_every_watchdog_has_a_failure_here() -> None:
    assert set(FAILURES) == set(WATCHDOGS)


def test_one_bad_tick_is_no_failure() -> None:
    for name, value in (
        ("generator/gradient_norm", 0.0),
        ("discriminator/adversarial", 0.0),
        ("discriminator/loss", 1e6),
        ("samples/diversity", 0.0),
        ("autoencoder/codes_used", 1.0),
        ("samples/change", 0.0),
        ("samples/air", 0.5),
        ("samples/noise_gain", 100.0),
        ("samples/label_response", 0.0),
        ("samples/latent_response", 0.0),
    ):
        pairs = [*HEALTHY[name][:-1], (100, value)]
        assert not alarms(HEALTHY | {name: pairs}), name


def test_a_loss_that_may_be_negative_is_not_mistaken_for_a_victory() -> None:
    # The Wasserstein distance: large and negative when the critic does well, as it should.
    adversarial = [(tick, -5.0 - tick) for tick in range(1, 11)]
    assert not alarms(HEALTHY | {"discriminator/adversarial": adversarial, "discriminator/loss": adversarial})


def test_a_penalty_that_is_absurd_from_the_start_is_named_without_having_grown() -> None:
    loss = [(tick, 0.4 + 1e5) for tick in range(1, 5)]
    adversarial = [(tick, 0.4) for tick in range(1, 5)]
    assert _kinds({"discriminator/loss": loss, "discriminator/adversarial": adversarial}) == {"exploding_penalty"}
    # The gradient penalty of a fresh critic is ten times one, and falls.
    falling = _history(discriminator__loss=[10.4, 7.0, 3.0, 1.0, 0.8], discriminator__adversarial=[0.4] * 5)
    assert not alarms(falling)


def test_samples_that_never_began_to_differ_are_a_collapse_from_the_third_look() -> None:
    for looks, expected in ((1, set()), (2, set()), (3, {"mode_collapse"})):
        assert _kinds({"samples/diversity": [(tick, 0.01) for tick in range(looks)]}) == expected


def test_samples_near_to_all_training_scans_are_not_called_memorised() -> None:
    # A blurred average is nearer to every scan than scans are to each other, but singles out none.
    history = _history(samples__nearest_training=[0.5] * 4, samples__nearest_training_auc=[0.1] * 4)
    assert not alarms(history)


VANISHING = [math.exp(-2 * tick) for tick in range(10)]


@pytest.mark.parametrize("maker", ["generator", "encoder", "autoencoder", "translator", "texture"])
def test_every_network_that_makes_scans_is_watched(maker: str) -> None:
    history = {f"{maker}/gradient_norm": list(enumerate(VANISHING))}
    assert _kinds(history) == {"vanishing_gradient"}


@pytest.mark.parametrize("way", ["", "_there", "_back"])
@pytest.mark.parametrize("judge", ["discriminator", "code_discriminator"])
def test_every_discriminator_is_watched_for_each_thing_that_it_judges(judge: str, way: str) -> None:
    # The other directions of the same discriminator are in balance.
    losses = {f"{judge}/adversarial{one}": list(enumerate([0.4] * 5)) for one in ("_there", "_back") if way}
    losses[f"{judge}/adversarial{way}"] = list(enumerate([0.4, 0.2, 0.01, 0.005, 0.001]))
    losses[f"{judge}/real_logit{way}"] = losses[f"{judge}/generated_logit{way}"] = [(4, 7.0)]
    (alarm,) = alarms(losses)
    assert alarm.kind == "discriminator_wins"
    assert judge.replace("_", " ") in alarm.evidence
    assert way.removeprefix("_") in alarm.evidence
    assert "7 for real" in alarm.evidence


def test_a_penalty_is_held_against_all_that_a_discriminator_judges() -> None:
    judged = {f"discriminator/adversarial_{way}": list(enumerate([0.5] * 10)) for way in ("there", "back")}
    whole = list(enumerate([1.0 + 0.01 * 3.0**tick for tick in range(10)]))
    assert _kinds({**judged, "discriminator/loss": whole}) == {"exploding_penalty"}
    assert not alarms({**judged, "discriminator/loss": list(enumerate([1.1] * 10))})


# What belongs to other kinds of training than each.
FOREIGN = {
    "vqgan": ("penalty", "discriminator_steps", "translation.", "mask_to_scan."),
    "translation": ("synthesis", "mask_to_scan."),
    "mask_to_scan": ("synthesis", "translation."),
    "super_resolution": ("synthesis", "translation.", "mask_to_scan."),
}


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("kind", ["vanishing_gradient", "discriminator_wins", "exploding_penalty"])
def test_remedies_name_fields_of_the_training_alone(kind: str, game: str) -> None:
    from medgan.recipe_files import load_recipe

    told = remedy(kind, GAMES[game])
    if not (kind == "exploding_penalty" and game == "vqgan"):  # which has no penalty
        assert not any(word in told for word in FOREIGN.get(game, ()))
    shipped = {
        "synthesis": "synthesis/r3gan",
        "alpha_wgan": "synthesis/alpha_wgan",
        "vqgan": "synthesis/vqgan",
        "translation": "translation/cyclegan",
        "mask_to_scan": "synthesis/mask_to_scan",
        "super_resolution": "super_resolution/esrgan3d",
    }[game]
    recipe = load_recipe(shipped)
    assert game_of(recipe) == GAMES[game]
    for field in re.findall(r"(?:synthesis|translation|mask_to_scan|super_resolution)(?:\.[a-z_]+)+", told):
        if kind == "exploding_penalty" and game == "vqgan":
            continue
        place: Any = recipe
        for part in field.split("."):
            assert hasattr(place, part), field
            place = getattr(place, part)

"""Which fields of a synthesis network belong to which kind, and which kinds other packages add."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

ENTRY_POINTS = "medgan.networks"
"""The group of entry points by which a package offers a pair of networks."""

_PYRAMID = frozenset({"kind", "latent_size", "width", "max_width", "base_size", "haar_head"})

FAMILY_FIELDS: Mapping[str, frozenset[str]] = {
    "r3gan": _PYRAMID
    | {"blocks", "group_width", "expansion", "common_pattern", "discriminator"}
    | {"principal_components", "minibatch_statistics"},
    "dcgan": _PYRAMID
    | {"principal_components", "normalisation", "discriminator_normalisation", "minibatch_statistics"},
    "stylegan": _PYRAMID
    | {"style_size", "mapping_layers", "noise", "style_mixing"}
    | {"principal_components", "minibatch_statistics"},
    "progressive": _PYRAMID | {"principal_components", "fading", "stabilising", "minibatch_statistics"},
    "hagan": (_PYRAMID - {"haar_head"}) | {"sub_volume", "minibatch_statistics"},
    "alpha_wgan": _PYRAMID | {"principal_components", "normalisation", "discriminator_normalisation"},
    # A latent vector has one number for each code, of which there are as many as the volumes' shape asks for.
    "vqgan": (_PYRAMID - {"latent_size"})
    | {"halvings", "blocks", "codebook_size", "code_channels", "discriminator_width"}
    | {"prior_width", "prior_layers", "prior_heads", "prior_dropout"},
}
"""Kinds that come with medgan, and the fields that each of them has."""

_GAME = frozenset({"images", "loss", "optimizer", "ema_images", "flip", "evaluation_samples", "autoencoding"})

GAME_FIELDS: Mapping[str, frozenset[str]] = {
    "alpha_wgan": _GAME | {"penalty", "discriminator_steps"},
    "vqgan": _GAME,
}
"""Fields of `synthesis` that count for the kinds that encode scans; all but "autoencoding" count for all others."""

AUTOENCODING_FIELDS: Mapping[str, frozenset[str]] = {
    "alpha_wgan": frozenset({"reconstruction_weight", "code_weight"}),
    "vqgan": frozenset(
        {"reconstruction_weight", "commitment_weight", "feature_weight", "adversarial_start", "codebook_decay"}
        | {"prior_share", "prior_learning_rate"}
    ),
}
"""Fields of `synthesis.autoencoding` by kind."""

_UNUSED: Mapping[str, str] = {
    "augmentation": "the discriminator compares reconstructions with the scans as they are",
    "autoencoding": "only alpha_wgan and vqgan networks encode scans",
    "discriminator_steps": "autoencoder and discriminator take turns",
    "feature_weight": "reconstructions are compared with their own scans, not means over a batch",
    "instance_noise": "the discriminator compares reconstructions with the scans as they are",
    "label_smoothing": "reconstructions and samples would need labels of their own",
    "labels": "its networks are not told labels",
    "lecam": "running means of one kind of generated volume do not fit reconstructions",
    "path_length": "its generator has no styles",
    "penalty": "spectral normalisation keeps its discriminator of patches from becoming steep",
}

_THIRD_PARTY_FIELDS = frozenset({"kind", "latent_size", "arguments"})


def third_party_networks() -> dict[str, EntryPoint]:
    """Kinds that installed packages offer, by name; those of medgan itself come first and cannot be replaced."""
    found = entry_points(group=ENTRY_POINTS)
    return {entry.name: entry for entry in found if entry.name not in FAMILY_FIELDS}


def fields_of(kind: str) -> frozenset[str]:
    """Fields of a synthesis network of this kind; those of a package's networks for any name that is not medgan's."""
    return FAMILY_FIELDS.get(kind, _THIRD_PARTY_FIELDS)


def kinds_with(field: str) -> list[str]:
    """The kinds that have a field, medgan's own by name."""
    kinds = [kind for kind, fields in FAMILY_FIELDS.items() if field in fields]
    return kinds or ["another package's"]


def counts_in_game(kind: str, field: str) -> bool:
    """Whether a field of `synthesis` counts for networks of this kind."""
    return field in GAME_FIELDS[kind] if kind in GAME_FIELDS else field != "autoencoding"


def why_unused(kind: str, field: str) -> str:
    """Why a field of `synthesis` does not count for networks of this kind, for messages."""
    reason = _UNUSED.get(field.rpartition(".")[2], "their game has no such part")
    return f"'{field}' is not used with {kind} networks: {reason}"

"""Which fields of a synthesis network belong to which kind, and which kinds other packages add."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

ENTRY_POINTS = "medgan.networks"
"""The group of entry points by which a package offers a pair of networks."""

_PYRAMID = frozenset({"kind", "latent_size", "width", "max_width", "base_size", "haar_head"})

FAMILY_FIELDS: Mapping[str, frozenset[str]] = {
    "r3gan": _PYRAMID | {"blocks", "group_width", "expansion"},
    "dcgan": _PYRAMID | {"normalisation", "discriminator_normalisation", "minibatch_statistics"},
    "stylegan": _PYRAMID | {"style_size", "mapping_layers", "noise", "style_mixing", "minibatch_statistics"},
    "progressive": _PYRAMID | {"fading", "stabilising", "minibatch_statistics"},
    "hagan": (_PYRAMID - {"haar_head"}) | {"sub_volume", "minibatch_statistics"},
}
"""Kinds that come with medgan, and the fields that each of them has."""

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

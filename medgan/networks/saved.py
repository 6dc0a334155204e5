"""Models on disk: `config.json` and `weights.safetensors` in one folder, no pickles.

The configuration holds all that is needed to rebuild the network and to use it rightly: its name and arguments,
normalisation, spacing, labels, and where it came from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch import contiguous_format as CONTIGUOUS

from medgan.errors import MedganError, nearest
from medgan.files import atomic_path, read_json, sha256_of
from medgan.networks.conditioned import ConditionedNetwork
from medgan.networks.dcgan import DCGANGenerator
from medgan.networks.encoder import FeatureEncoder
from medgan.networks.hagan import HierarchicalGenerator
from medgan.networks.labelled import labelled_generator
from medgan.networks.principal import PrincipalGenerator
from medgan.networks.principal_styles import PrincipalStyleGenerator
from medgan.networks.progressive import ProgressiveGenerator
from medgan.networks.r3gan import R3Generator
from medgan.networks.residual_dense import ResidualDenseNetwork
from medgan.networks.spade import SpadeGenerator
from medgan.networks.stylegan import StyleGenerator
from medgan.networks.third_party import rebuilt_generator
from medgan.networks.translation import ResidualUNet
from medgan.networks.vqgan import CodeGenerator
from medgan.networks.wide_activation import WideActivationNetwork
from medgan.recipe_families import third_party_networks

CONFIG, WEIGHTS = "config.json", "weights.safetensors"
_REQUIRED = ("medgan_version", "task", "network", "normalisation")


def _labelled_generator(*, inner: Mapping[str, Any], **arguments: Any) -> nn.Module:
    """A generator that is told labels, whose inner one is of any kind."""
    return labelled_generator(build_network(inner["name"], inner["arguments"]), record=inner, **arguments)


def _principal_generator(kind: type[PrincipalGenerator], *, inner: Mapping[str, Any], **arguments: Any) -> nn.Module:
    """A generator around the linear model of its cohort, of one of two kinds: with an inner one with styles or not."""
    return kind(build_network(inner["name"], inner["arguments"]), record=inner, **arguments)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "code_generator": CodeGenerator,
    "conditioned": ConditionedNetwork,
    "dcgan_generator": DCGANGenerator,
    "feature_encoder": FeatureEncoder,
    "hierarchical_generator": HierarchicalGenerator,
    "labelled_generator": _labelled_generator,
    **{kind.registered: partial(_principal_generator, kind) for kind in (PrincipalGenerator, PrincipalStyleGenerator)},
    "progressive_generator": ProgressiveGenerator,
    "r3_generator": R3Generator,
    "residual_dense": ResidualDenseNetwork,
    "residual_u_net": ResidualUNet,
    "spade_generator": SpadeGenerator,
    "style_generator": StyleGenerator,
    "wide_activation": WideActivationNetwork,
}


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network with fresh weights, by its name in `NETWORKS`, or the generator of another package.

    Raises:
        MedganError: the name or an argument is unknown, as in a model of a newer version.
    """
    if name not in NETWORKS:
        if name in third_party_networks():
            return rebuilt_generator(name, arguments)
        raise MedganError(
            f"unknown network '{name}'",
            hint=f"{nearest(name, list(NETWORKS))} If another package made it, install that package.",
        )
    try:
        return NETWORKS[name](**arguments)
    except TypeError as error:
        raise MedganError(
            f"network '{name}' does not take these arguments ({error})",
            hint="Use the medgan version that saved the model.",
        ) from error


def save_model(folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Path:
    """Write a model folder, whole or not at all; `weights` may live on any device."""
    from safetensors.torch import save

    missing = [key for key in _REQUIRED if key not in config]
    if missing:
        raise ValueError(f"a model's configuration needs {', '.join(missing)}")
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        (temporary / CONFIG).write_text(json.dumps(dict(config), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        # The format stores no tensor twice, so those that share memory are copied. Written as bytes, because the
        # library's own writer reports a full disk as an error of its own.
        separate = {name: tensor.detach().cpu().clone(memory_format=CONTIGUOUS) for name, tensor in weights.items()}
        (temporary / WEIGHTS).write_bytes(save(separate))
    return Path(folder)


def find_model(path: str | Path) -> Path:
    """The model folder that `path` means: itself, or the `model` folder inside a run folder.

    Raises:
        MedganError: there is no model there.
    """
    path = Path(path)
    for candidate in (path, path / "model", path / "data"):
        if (candidate / CONFIG).is_file() and (candidate / WEIGHTS).is_file():
            return candidate
    raise MedganError(
        f"no model here (a model folder holds {CONFIG} and {WEIGHTS})" if path.exists() else "no such model folder",
        file=path,
        hint="Give a run folder, its model folder, or an MLflow address such as runs:/ID/model.",
    )


def load_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of a model folder.

    Raises:
        MedganError: it is missing, unreadable, or lacks a required entry.
    """
    path = find_model(folder) / CONFIG
    config = read_json(path)
    missing = [key for key in _REQUIRED if not isinstance(config, dict) or key not in config]
    if missing:
        raise MedganError(f"the configuration lacks {', '.join(missing)}", file=path, hint="Export the model again.")
    return dict(config)


def load_weights(folder: str | Path) -> dict[str, Tensor]:
    """All tensors of a model folder, on the CPU.

    Raises:
        MedganError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = find_model(folder) / WEIGHTS
    try:
        return dict(load_file(str(path)))
    except SafetensorError as error:
        raise MedganError(
            f"the weights are damaged ({error})", file=path, hint="Copy or export the model again."
        ) from error


def model_hash(folder: str | Path) -> str:
    """The SHA-256 of the weights file, which identifies a model in provenance and in samples."""
    return sha256_of(find_model(folder) / WEIGHTS)

"""Weights of known networks from files on this machine: read without running anything, and fitted with a word."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from medgan.errors import MedganError

Weights = dict[str, Tensor]
_CONTAINERS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "model.", "encoder.")
_SHOWN = 5


def read_weights(path: Path) -> Weights:
    """The tensors of a PyTorch or safetensors file by their names, without what wrappers put before all of them.

    Files are read with `weights_only`: no code in them runs.

    Raises:
        MedganError: the file cannot be read so, or holds no tensors.
    """
    content = _content(path)
    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if not isinstance(content, Mapping) or not all(isinstance(one, Tensor) for one in content.values()) or not content:
        raise MedganError(
            "this file holds no mapping of names to tensors", file=path, hint="Save network.state_dict() there."
        )
    weights = {str(name): tensor for name, tensor in content.items()}
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in weights):
            weights = {name.removeprefix(wrapper): tensor for name, tensor in weights.items()}
    return weights


def fit_weights(network: nn.Module, weights: Weights, path: Path, what: str) -> nn.Module:
    """The network with these weights, all of them and no others; in evaluation mode.

    Args:
        network: changed in place; its own weights need no storage.
        weights: by the network's own names.
        path: where they came from, for the message.
        what: what the network is called there.

    Raises:
        MedganError: some are missing, unexpected, or of another shape; the message names them.
    """
    wanted = network.state_dict()
    counted = {name for name in wanted if not name.endswith("num_batches_tracked")}
    missing = sorted(counted - weights.keys())
    unexpected = sorted(weights.keys() - wanted.keys())
    shared = counted & weights.keys()
    other = sorted(name for name in shared if weights[name].shape != wanted[name].shape)
    problems = [
        f"{word} {_listed(names)}"
        for word, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
        if names
    ]
    if problems:
        raise MedganError(
            f"these are not weights of {what}: {'; '.join(problems)}", file=path, hint="Check which file it is."
        )
    network.to_empty(device="cpu")
    counters = {name: torch.zeros_like(one, device="cpu") for name, one in wanted.items() if name not in counted}
    network.load_state_dict(counters | {name: weights[name] for name in shared})
    return network.eval().requires_grad_(False)


def _content(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(str(path))
        except SafetensorError as error:
            raise MedganError(f"the weights are damaged ({error})", file=path, hint="Copy the file again.") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MedganError(
            f"the file cannot be read as weights alone ({reason})",
            file=path,
            hint="It may be damaged, or hold a whole pickled network, which could run code: save its state_dict().",
        ) from error


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > _SHOWN else shown

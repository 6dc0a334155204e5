"""Any network as an encoder: a torch.nn.Module that the user has, or a TorchScript file."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medgan.errors import MedganError
from medgan.evaluation.features import Features, volume_stacks

_DIGITS = 8
_HOW = "It must take (B, 1, X, Y, Z) and return (B, D), or (B, D, x, y, z), which is averaged over space."


class NetworkEncoder:
    """A network for volumes as an encoder; it computes where its weights are.

    Args:
        network: takes (B, 1, X, Y, Z) float32, normalised to about 0..1, and returns (B, D), or feature maps
            (B, D, x, y, z), which are averaged over space. It is used in evaluation mode and left in the mode that it
            was in.
        label: what cards call it; a hash of its weights is put behind.
        prepare: what is done to (B, 1, X, Y, Z) before; nothing by default. It must not mix volumes.

    Raises:
        MedganError: the network would mix the volumes of a batch even in evaluation mode.
    """

    def __init__(
        self, network: nn.Module, label: str | None = None, *, prepare: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        _refuse_mixing(network)
        self.network, self._prepare = network, prepare
        self.name = f"{label or type(network).__name__}-{network_hash(network)}"

    def extract(self, volumes: Iterable[NDArray[Any]], batch: int = 8) -> Features:
        """See `medgan.evaluation.encoders.Encoder`.

        Raises:
            MedganError: there are no volumes, their shapes differ or are too small, voxels are not finite, or the
                network cannot take them or returns something else than features.
        """
        rows = []
        with evaluating(self.network):
            for stack in volume_stacks(volumes, batch):
                seen = torch.from_numpy(stack).to(device_of(self.network))
                if self._prepare is not None:
                    seen = self._prepare(seen)
                rows.append(pooled_rows(called(self.network, seen, self.name, _HOW), len(seen), self.name, _HOW))
        return np.concatenate(rows)


def scripted(path: Path) -> nn.Module:
    """The network in a TorchScript file, which is a program and runs with the rights of who loads it.

    Raises:
        MedganError: it is no TorchScript file.
    """
    try:
        network: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError as error:
        raise MedganError(
            f"this is no TorchScript file ({_last_line(error)})",
            file=path,
            hint="Save the network with torch.jit.save; a file of weights alone needs medicalnet:, radimagenet: or "
            "imagenet: before it.",
        ) from error
    return network


def encoder_of_attribute(module: str, attribute: str) -> NetworkEncoder:
    """The network that a module of the user's holds, or makes when the attribute is called without arguments.

    Raises:
        MedganError: there is no such module or attribute, or it gives no torch.nn.Module.
    """
    where = f"{module}:{attribute}"
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise MedganError(
            f"the encoder {where} cannot be imported ({error})",
            hint="Write package.module:attribute; the module must be installed or lie on PYTHONPATH.",
        ) from error
    if not isinstance(found, nn.Module) and callable(found):
        try:
            found = found()
        except TypeError as error:
            raise MedganError(
                f"{where} cannot be called without arguments ({error})", hint="Name a function that needs none."
            ) from error
    if not isinstance(found, nn.Module):
        raise MedganError(
            f"{where} is a {type(found).__name__}, not a torch.nn.Module or what makes one",
            hint="Name a network, or a function without arguments that returns one.",
        )
    return NetworkEncoder(found, attribute)


def network_hash(network: nn.Module) -> str:
    """Eight hexadecimal digits of the SHA-256 over a network's structure and weights."""
    digest = hashlib.sha256(repr(network).encode())
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{values.dtype}|{tuple(values.shape)}|".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:_DIGITS]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every part is left in the mode that it was in."""
    modes = {name: part.training for name, part in network.named_modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for name, part in network.named_modules():
            part.training = modes[name]


def device_of(network: nn.Module) -> torch.device:
    """Where the network's weights are; the CPU if it has none."""
    first = next(network.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def called(network: nn.Module, seen: Tensor, name: str, how: str) -> Any:
    """What the network returns.

    Raises:
        MedganError: it cannot take such a tensor.
    """
    try:
        return network(seen)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise MedganError(
            f"the encoder {name} cannot take a tensor of shape {tuple(seen.shape)} ({_last_line(error)})", hint=how
        ) from error


def pooled_rows(answer: Any, count: int, name: str, how: str) -> Features:
    """Features (count, D) in float64 of what a network returned; maps are averaged over space.

    Raises:
        MedganError: it is no tensor with a row for each volume, or a feature is not finite.
    """
    if not isinstance(answer, Tensor) or answer.ndim < 2 or len(answer) != count:
        shown = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise MedganError(f"the encoder {name} returned {shown} for {count} volumes", hint=how)
    rows = answer.double()
    if rows.ndim > 2:
        rows = rows.flatten(2).mean(2)
    if not bool(torch.isfinite(rows).all()):
        raise MedganError(f"the encoder {name} returned features that are not finite", hint="Check its weights.")
    return np.asarray(rows.cpu().numpy())


def _refuse_mixing(network: nn.Module) -> None:
    for name, part in network.named_modules():
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise MedganError(
                f"layer '{name}' normalises over the batch, so that a volume's features would depend on its neighbours",
                hint="Give batch normalisation running statistics, or use another normalisation.",
            )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

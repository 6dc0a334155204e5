"""Distances between what a network sees in a restored and in the true volume.

`feature_matching` uses the layers of a discriminator that is trained anyway, so that nothing has to be downloaded.
`PlanarPerception` uses a network for planes, from a file that the user names, on slices along all three axes ("2.5D").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from medgan.errors import MedganError

# Layers that see nothing must not divide by nothing.
_LEAST_SCALE = 1e-6


def feature_matching(real: Sequence[Tensor], generated: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of features, layer by layer in units of the real features' mean modulus.

    The idea of Wang et al. 2018 (arXiv:1711.11585); the units make layers of any width and scale count alike.

    Args:
        real: features of the true volumes, one tensor per layer; no gradient goes through them.
        generated: of the restored volumes, same shapes.

    Returns:
        A float32 scalar: 0 for equal features, about 1 for unrelated ones.
    """
    if len(real) != len(generated) or not real:
        raise ValueError(f"{len(real)} layers of real and {len(generated)} of generated features cannot be matched")
    distances = []
    for true, made in zip(real, generated, strict=True):
        true = true.detach().float()
        distances.append((made.float() - true).abs().mean() / true.abs().mean().clamp_min(_LEAST_SCALE))
    return torch.stack(distances).mean()


class PlanarPerception(nn.Module):
    """Perceptual distance by a frozen network for planes, on slices drawn along the three axes.

    Args:
        network: (N, channels, height, width), intensities of about 0 to 1, to one tensor or several; frozen here.
        channels: copies of the one intensity that the network wants: 1, or 3 for networks of colour pictures.
        slices: drawn for each volume and axis.
    """

    def __init__(self, network: nn.Module, *, channels: int = 1, slices: int = 4) -> None:
        super().__init__()
        if channels < 1 or slices < 1:
            raise ValueError(f"channels and slices must be at least 1, not {channels} and {slices}")
        self.network = network.eval()
        # Scripted modules have no requires_grad_ of their own.
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        self.channels, self.slices = channels, slices

    def train(self, mode: bool = True) -> PlanarPerception:
        """Stays in evaluation mode, whatever is asked: it is a measure, not a pupil."""
        return super().train(False)

    def forward(self, restored: Tensor, truth: Tensor) -> Tensor:
        """The mean over the axes of the features' distance on slices drawn anew (by PyTorch's random state).

        Args:
            restored: (B, 1, X, Y, Z), differentiable.
            truth: same shape.
        """
        distances = []
        for axis in (-3, -2, -1):
            index = torch.randint(truth.shape[axis], (self.slices,)).to(truth.device)
            with torch.no_grad():
                real = self._features(truth, axis, index)
            distances.append(feature_matching(real, self._features(restored, axis, index)))
        return torch.stack(distances).mean()

    def _features(self, volumes: Tensor, axis: int, index: Tensor) -> list[Tensor]:
        planes = volumes.float().index_select(axis, index).movedim(axis, 1).flatten(0, 2).unsqueeze(1)
        seen = self.network(planes.expand(-1, self.channels, -1, -1))
        return [seen] if isinstance(seen, Tensor) else list(seen)


def load_planar_perception(path: str | Path, *, channels: int = 1, slices: int = 4) -> PlanarPerception:
    """A perceptual network from a TorchScript file on this machine.

    A TorchScript file is a program and runs with your rights: name only files whose origin you trust. Nothing is ever
    searched for or downloaded.

    Args:
        path: the file, as `torch.jit.save` wrote it.
        channels: see `PlanarPerception`.
        slices: see `PlanarPerception`.

    Raises:
        MedganError: there is no such file here, it is no TorchScript, or it cannot see slices of so many channels.
    """
    hint = "Export a network for planes with torch.jit.trace or torch.jit.script and torch.jit.save."
    if "://" in str(path):
        raise MedganError(f"{path} is an address: a perceptual network is a program and is only run from a file here")
    path = Path(path)
    if not path.is_file():
        raise MedganError("there is no such perceptual network", file=path, hint=hint)
    try:
        network = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError as error:
        raise MedganError(f"this is no TorchScript file ({_first_line(error)})", file=path, hint=hint) from error
    perception = PlanarPerception(network, channels=channels, slices=slices)
    try:
        perception(torch.zeros(1, 1, 16, 16, 16), torch.zeros(1, 1, 16, 16, 16))
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise MedganError(
            f"the perceptual network cannot see slices of 16 x 16 pixels with {channels} channels "
            f"({_first_line(error)})",
            file=path,
            hint="It must take (N, channels, height, width) and return a tensor or a list of tensors.",
        ) from error
    return perception


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

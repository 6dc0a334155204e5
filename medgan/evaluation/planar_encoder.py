"""Networks for slices as encoders of volumes ("2.5D"): slices along all three axes, features averaged for each axis."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.errors import MedganError
from medgan.evaluation.features import Features, volume_stacks
from medgan.evaluation.network_encoder import called, device_of, evaluating, network_hash, pooled_rows
from medgan.evaluation.weight_files import Weights, fit_weights, read_weights
from medgan.geometry import Spacing

_HOW = "It must take (N, 3, height, width) and return (N, D), or (N, D, h, w), which is averaged over space."
_PIXELS_AT_ONCE = 1 << 20
_CUBES: Spacing = (1.0, 1.0, 1.0)
# Means and deviations of red, green and blue over ImageNet.
_MEANS, _DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The authors' networks in Keras have this, PyTorch's own 1e-5.
_KERAS_EPSILON = 1.001e-5
_STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_AUTHORS = re.compile(r"^backbone\.(\d)\.")

Colours = Callable[[Tensor], Tensor]
Source = Literal["radimagenet", "imagenet"]


class PlanarEncoder:
    """A network for slices as an encoder of volumes.

    Of each axis, sagittal, coronal and axial, up to `slices` slices at even distances go through the network; its
    features are averaged over each axis' slices, and the three means stand one after the other. Pixels that are not
    square are made so by linear interpolation to the finer of their two spacings.

    Args:
        network: (N, 3, height, width) to (N, D), or maps (N, D, h, w), which are averaged over space.
        label: what cards call it; a hash of its weights and the number of slices are put behind.
        slices: of each axis at most.
        spacing: mm between the voxels of the volumes along X, Y and Z.
        colours: one intensity (N, 1, height, width), about 0..1, to what the network wants; three equal channels by
            default.
    """

    def __init__(
        self,
        network: nn.Module,
        label: str | None = None,
        *,
        slices: int = 12,
        spacing: Spacing = _CUBES,
        colours: Colours | None = None,
    ) -> None:
        if slices < 1:
            raise ValueError(f"at least one slice of each axis is needed, not {slices}")
        self.network, self.slices, self.spacing = network, slices, spacing
        self._colours = colours or _grey
        finest = min(spacing)
        ratios = [round(step / finest, 2) for step in spacing]
        shown = "" if max(ratios) < 1.01 else "-voxel" + "x".join(f"{ratio:g}" for ratio in ratios)
        self.name = f"{label or type(network).__name__}-planar{slices}-{network_hash(network)}{shown}"

    def extract(self, volumes: Iterable[NDArray[Any]], batch: int = 8) -> Features:
        """See `medgan.evaluation.encoders.Encoder`; (N, 3 D), sagittal, coronal and axial.

        Raises:
            MedganError: there are no volumes, their shapes differ or are too small, voxels are not finite, or the
                network cannot take their slices.
        """
        rows = []
        with evaluating(self.network):
            for stack in volume_stacks(volumes, 1):
                volume = torch.from_numpy(stack)[0, 0]
                rows.append(np.concatenate([self._along(volume, axis) for axis in range(3)]))
        return np.stack(rows)

    def _along(self, volume: Tensor, axis: int) -> Features:
        """The mean features (D,) of the slices across one axis of (X, Y, Z)."""
        planes = volume.index_select(axis, chosen_slices(volume.shape[axis], self.slices)).movedim(axis, 0)[:, None]
        planes = self._square(planes, axis)
        at_once = max(1, _PIXELS_AT_ONCE // planes[0].numel())
        rows = []
        for part in planes.split(at_once):
            seen = self._colours(part.to(device_of(self.network)))
            rows.append(pooled_rows(called(self.network, seen, self.name, _HOW), len(part), self.name, _HOW))
        return np.concatenate(rows).mean(axis=0)

    def _square(self, planes: Tensor, axis: int) -> Tensor:
        """Slices (N, 1, height, width) across an axis with square pixels."""
        steps = [step for place, step in enumerate(self.spacing) if place != axis]
        finest = min(steps)
        size = [max(1, round(length * step / finest)) for length, step in zip(planes.shape[2:], steps, strict=True)]
        if size == list(planes.shape[2:]):
            return planes
        return F.interpolate(planes, size=size, mode="bilinear", align_corners=False)


def chosen_slices(length: int, most: int) -> Tensor:
    """Numbers of at most `most` slices at even distances, centred, as int64."""
    count = min(length, most)
    return torch.from_numpy(((np.arange(count) + 0.5) * length / count).astype(np.int64))


def resnet50_encoder(path: Path, source: Source, *, spacing: Spacing = _CUBES, slices: int = 12) -> PlanarEncoder:
    """A residual network of 50 layers with weights from a file.

    Args:
        path: for "radimagenet", the authors' weights for PyTorch or those converted from Keras (RadImageNet: Mei et al.
            2022, doi:10.1148/ryai.210315); for "imagenet", torchvision's.
        source: which of them; it decides how intensities are shown to the network.
        spacing: mm between the voxels of the volumes.
        slices: of each axis at most.

    Raises:
        MedganError: the file cannot be read, or holds weights of another network; the message names what is missing.
    """
    weights = _renamed(read_weights(path))
    from_keras = "layer1.0.conv1.bias" in weights
    if from_keras:
        weights = _without_biases(weights)
    network = fit_weights(_resnet50(from_keras), weights, path, "a ResNet-50 for slices")
    colours = _as_radimagenet if source == "radimagenet" else _as_imagenet
    return PlanarEncoder(network, f"{source}-resnet50", slices=slices, spacing=spacing, colours=colours)


def _resnet50(from_keras: bool) -> nn.Module:
    """Without weights; Keras' halves the resolution in the first convolution of a block, PyTorch's in the second."""
    from monai.networks.nets.resnet import ResNet

    with torch.device("meta"):
        network = ResNet(
            block="bottleneck",
            layers=[3, 4, 6, 3],
            block_inplanes=[64, 128, 256, 512],
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_size=7,
            conv1_t_stride=2,
            bias_downsample=False,
            feed_forward=False,
        )
    if from_keras:
        for stage in ("layer2", "layer3", "layer4"):
            block = getattr(network, stage)[0]
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eps = _KERAS_EPSILON
    return network


def _renamed(weights: Weights) -> Weights:
    """The weights by torchvision's names, without a classifier: the authors' network is a sequence of its parts."""

    def name_of(name: str) -> str:
        found = _AUTHORS.match(name)
        return f"{_STAGES[found[1]]}.{name[found.end() :]}" if found and found[1] in _STAGES else name

    return {name_of(name): one for name, one in weights.items() if not name.startswith(("fc.", "classifier."))}


def _without_biases(weights: Weights) -> Weights:
    """The same network without biases of convolutions: each is taken from the running mean of the normalisation."""
    kept = dict(weights)
    for name in [name for name in weights if re.search(r"(conv\d|downsample\.0)\.bias$", name)]:
        bias = kept.pop(name)
        before, layer = name.removesuffix(".bias").rsplit(".", 1) if "." in name[:-5] else ("", name[:-5])
        norm = layer.replace("conv", "bn") if layer.startswith("conv") else "1"
        mean = f"{before}.{norm}.running_mean" if before else f"{norm}.running_mean"
        if mean not in kept:
            raise MedganError(f"the weights hold {name} but no {mean}", hint="Check which file it is.")
        kept[mean] = kept[mean] - bias
    return kept


def _grey(planes: Tensor) -> Tensor:
    return planes.expand(-1, 3, -1, -1)


def _as_imagenet(planes: Tensor) -> Tensor:
    """As torchvision's weights were trained: every channel by ImageNet's mean and deviation."""
    return (_grey(planes) - _row(_MEANS, planes)) / _row(_DEVIATIONS, planes)


def _as_radimagenet(planes: Tensor) -> Tensor:
    """As MONAI's users show slices to these weights: blue, green, red, less ImageNet's means."""
    return _grey(planes) - _row(_MEANS[::-1], planes)


def _row(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1)

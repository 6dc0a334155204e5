"""Small parts that several families of generators and discriminators share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.geometry import Shape
from medgan.networks.haar import haar, inverse_haar
from medgan.networks.minibatch import MinibatchDeviation, MinibatchDiscrimination

SLOPE = 0.2
"""Of the leaky rectifiers."""
ACTIVATION_GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""Factor on weights that makes up for the variance that a leaky rectifier takes away (He et al. 2015)."""


class RectifiedConvolution(nn.Conv3d):
    """A convolution and the leaky rectifier behind it, as one block; the names of its weights are a convolution's."""

    recomputable = True

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, source, X, Y, Z) to (B, target, ...)."""
        return activated(super().forward(x))


def convolution(
    source: int,
    target: int,
    kernel: int,
    *,
    stride: Sequence[int] = (1, 1, 1),
    gain: float = 1.0,
    bias: bool = True,
    rectified: bool = False,
) -> nn.Conv3d:
    """A convolution whose initial weights keep the variance, times `gain` squared; biases start at zero.

    With stride 2 and an odd kernel, n voxels become n / 2, rounded up.

    Args:
        source: channels in.
        target: channels out.
        kernel: voxels along each axis, odd.
        stride: along each axis.
        gain: factor on the initial weights; 0 starts silent.
        bias: whether it has one.
        rectified: whether the leaky rectifier follows in the same layer.
    """
    x, y, z = stride
    kind = RectifiedConvolution if rectified else nn.Conv3d
    layer = kind(source, target, kernel, stride=(x, y, z), padding=kernel // 2, bias=bias)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(source * kernel**3))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(source: int, target: int, *, gain: float = 1.0) -> nn.Linear:
    """A linear layer whose initial weights keep the variance, times `gain` squared; biases start at zero."""
    layer = nn.Linear(source, target)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(source))
    nn.init.zeros_(layer.bias)
    return layer


def activated(x: Tensor) -> Tensor:
    """The leaky rectifier."""
    return F.leaky_relu(x, SLOPE)


def pixel_norm(x: Tensor) -> Tensor:
    """Shape (B, C, ...) to the same, with a mean square of one over the channels at each voxel (Karras et al. 2017)."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def as_shape(sizes: Sequence[int]) -> Shape:
    """Three whole numbers, as they come from a configuration."""
    x, y, z = (int(size) for size in sizes)
    return x, y, z


def inner_shape(shape: Shape, *, haar_head: bool) -> Shape:
    """The shape of the finest stage of a network for volumes of `shape`: that of the sub-bands with the Haar head."""
    if not haar_head:
        return shape
    return -(-shape[0] // 2), -(-shape[1] // 2), -(-shape[2] // 2)


def volume_from_head(x: Tensor, out_shape: Shape, *, haar_head: bool) -> Tensor:
    """What the last layer of a generator means: (B, 1, *out_shape), or (B, 8, half of that, rounded up), to volumes."""
    if not haar_head:
        return x
    return inverse_haar(x)[:, :, : out_shape[0], : out_shape[1], : out_shape[2]]


def head_from_volume(volumes: Tensor, *, haar_head: bool) -> Tensor:
    """What the first layer of a discriminator sees: the volumes (B, 1, X, Y, Z), or their eight sub-bands.

    The last plane of an odd axis is repeated for the sub-bands.
    """
    if not haar_head:
        return volumes
    padding = [extra for size in reversed(volumes.shape[2:]) for extra in (0, size % 2)]
    return haar(F.pad(volumes, padding, mode="replicate") if any(padding) else volumes)


@torch.no_grad()
def start_without_detail(weight: Tensor) -> None:
    """Let the weights (8, ...) of a Haar head begin with the low-pass band alone, at the same variance of volumes.

    Equal energy in all sub-bands would be white noise, far from any scan.
    """
    weight[1:].zero_()
    weight[0] *= math.sqrt(8)


@torch.no_grad()
def start_in_air(bias: Tensor, *, haar_head: bool) -> None:
    """Let the bias (1 or 8, ...) of a generator's last layer begin where most voxels of a scan are: in air, at -1.

    A bias that begins at zero takes hundreds of steps to get there, in which nothing else is learned.
    """
    bias[0] = -math.sqrt(8) if haar_head else -1.0


def checked_stages(shapes: Sequence[Sequence[int]], channels: Sequence[int]) -> list[Shape]:
    """The shapes of the stages, coarsest first.

    Raises:
        ValueError: there are not as many channel counts as shapes.
    """
    if len(shapes) != len(channels):
        raise ValueError(f"{len(shapes)} stage shapes need as many channel counts, got {len(channels)}")
    return [as_shape(shape) for shape in shapes]


def minibatch_layer(statistics: str, channels: int, shape: Shape) -> tuple[nn.Module, int]:
    """The layer that shows a discriminator the other volumes in the batch, and how many channels it appends.

    Args:
        statistics: "none", "deviation" or "discrimination".
        channels: of the features (B, channels, *shape) that it gets.
        shape: spatial shape of these.
    """
    if statistics == "none":
        return nn.Identity(), 0
    layer: MinibatchDeviation | MinibatchDiscrimination
    if statistics == "deviation":
        layer = MinibatchDeviation()
    elif statistics == "discrimination":
        layer = MinibatchDiscrimination(channels * math.prod(shape))
    else:
        raise ValueError(f"minibatch_statistics is '{statistics}', it must be none, deviation or discrimination")
    return layer, layer.added_channels

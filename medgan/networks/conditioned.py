"""A compact restoring network that is told how the scan was acquired, so that one set of weights serves all factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.networks.haar import haar, inverse_haar
from medgan.networks.residual_dense import padded_to_multiple

_SLOPE = 0.2
# The correction is small beside the volume: this factor lets the last layer learn it at the pace of the others.
_CORRECTION_SCALE = 0.1
_LAST_SCALE = 0.1
# The mean sub-band of normalised scans is about ten times larger than the others, which hold what matters here.
_MEAN_SCALE, _DETAIL_SCALE = 0.35, 8.0
_HIDDEN = 64
_BANDS, _CELL = 8, 2


class ConditionedBlock(nn.Module):
    """Two convolutions around an activation, whose features are scaled and shifted as the acquisition asks.

    Args:
        channels: of input and output.
        expansion: how many times wider the features are between the convolutions (Yu et al. 2018, arXiv:1808.08718).
    """

    recomputable = True

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.widen = nn.Conv3d(channels, channels * expansion, 3, padding=1)
        self.narrow = nn.Conv3d(channels * expansion, channels, 3, padding=1)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """x: (B, channels, X, Y, Z); scale and shift: (B, channels * expansion). Same shape as x out."""
        features = torch.addcmul(shift[:, :, None, None, None], self.widen(x), 1.0 + scale[:, :, None, None, None])
        return x + self.narrow(F.leaky_relu(features, _SLOPE, inplace=True))


class ConditionedNetwork(nn.Module):
    """Adds to a volume what the inverse of its acquisition could not recover, knowing that acquisition.

    Residual blocks without normalisation on the eight Haar sub-bands, at half the resolution; a small perceptron
    turns the numbers that describe the acquisition into a scale and a shift for each feature (Perez et al. 2018,
    arXiv:1709.07871). The axes are expected in the order of their factors, the thickest slices last. The last layer
    starts at zero: an untrained network returns its input.

    Args:
        channels: width of the trunk.
        blocks: residual blocks.
        expansion: how many times wider the blocks are inside.
        conditions: how many numbers describe the acquisition.
    """

    def __init__(self, channels: int = 48, blocks: int = 6, expansion: int = 1, conditions: int = 9) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "blocks": blocks,
            "expansion": expansion,
            "conditions": conditions,
        }
        if min(self.arguments.values()) < 1:
            raise ValueError(f"every size must be at least 1: {self.arguments}")
        wide = channels * expansion
        self.condition = nn.Sequential(nn.Linear(conditions, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, 2 * blocks * wide))
        self.head = nn.Conv3d(_BANDS, channels, 3, padding=1)
        self.body = nn.ModuleList(ConditionedBlock(channels, expansion) for _ in range(blocks))
        self.trunk = nn.Conv3d(channels, channels, 3, padding=1)
        self.tail = nn.Conv3d(channels, _BANDS, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """He-normal weights in the body, small at the end of each block; zeros in the last layer and the modulation."""
        for block in self.body.children():
            assert isinstance(block, ConditionedBlock)
            for convolution in (block.widen, block.narrow):
                nn.init.kaiming_normal_(convolution.weight, a=_SLOPE)
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            with torch.no_grad():
                block.narrow.weight.mul_(_LAST_SCALE)
        with torch.no_grad():
            for layer in (self.tail, self.condition[-1]):
                for parameter in layer.parameters():
                    parameter.zero_()

    def deepened(self, shallower: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights for this network that compute what a network of the same widths with fewer blocks computes.

        The blocks that it lacks are appended and begin as the identity (Chen et al. 2016, arXiv:1511.05641), so that
        a training goes on where the smaller network stood. Weights of this very network come back as they are.

        Args:
            shallower: weights of the smaller network.

        Raises:
            RuntimeError: when they are loaded, if the networks differ in anything but the number of blocks.
        """
        last = f"condition.{len(self.condition) - 1}"
        weights = dict(shallower)
        for name, fresh in self.state_dict().items():
            if name.startswith("body.") and name not in weights:
                weights[name] = torch.zeros_like(fresh) if ".narrow." in name else fresh.clone()
            elif name.startswith(f"{last}.") and name in weights and len(weights[name]) < len(fresh):
                missing = torch.zeros_like(fresh[len(weights[name]) :])
                weights[name] = torch.cat((weights[name].to(fresh), missing))
        return weights

    @property
    def multiple(self) -> int:
        """Tiles must start at multiples of this many voxels to see the same sub-bands as the whole volume."""
        return _CELL

    @property
    def receptive_field(self) -> int:
        """The largest distance along an axis, in voxels, at which an input voxel can change an output voxel."""
        return _CELL * (3 + 2 * len(self.body)) + _CELL - 1

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """The restored volume.

        Args:
            x: (B, 1, X, Y, Z) of any size, intensities of about 0 to 1.
            condition: (B, conditions), see `medgan.acquisition.condition.condition`.

        Returns:
            The shape of x.
        """
        modulation = self.condition(condition).unflatten(1, (len(self.body), 2, -1))
        bands = haar(padded_to_multiple(x, _CELL))
        features = head = self.head(torch.cat((_MEAN_SCALE * bands[:, :1], _DETAIL_SCALE * bands[:, 1:]), dim=1))
        for index, block in enumerate(self.body):
            features = block(features, modulation[:, index, 0], modulation[:, index, 1])
        features = head + self.trunk(features)
        residual = inverse_haar(self.tail(F.leaky_relu(features, _SLOPE)))
        x_size, y_size, z_size = x.shape[-3:]
        return x + _CORRECTION_SCALE * residual[..., :x_size, :y_size, :z_size]


class Informed(nn.Module):
    """A conditioned network with its acquisition filled in: a map of volumes to volumes.

    Args:
        network: the network.
        numbers: those that describe the acquisition: of every volume, or of each volume of a batch in turn.
    """

    def __init__(self, network: ConditionedNetwork, *numbers: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.float32), persistent=False)

    @property
    def multiple(self) -> int:
        """See `ConditionedNetwork.multiple`."""
        return self.network.multiple

    @property
    def receptive_field(self) -> int:
        """See `ConditionedNetwork.receptive_field`."""
        return self.network.receptive_field

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, 1, X, Y, Z); same shape out."""
        numbers: Tensor = self.numbers  # type: ignore[assignment]
        return self.network(x, numbers.to(x.device).expand(len(x), -1))

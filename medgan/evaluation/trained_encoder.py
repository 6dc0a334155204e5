"""The encoder that medgan trains itself (recipe `encoding/degradations`), as the evaluation card uses it.

It works on voxels, not on millimetres: what it has to see, blur and noise, lives at the scale of the voxel, and
resampling to a fixed grid would add the one and take away the other. Each volume is looked at twice. The first look is
at the voxels as they are. The second is at the whole, averaged over blocks until its longest side has at most 32
blocks; along axes with finer voxels more are averaged, so that blocks come as close to cubes as the voxels allow. That
is the one place where the spacing matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medgan.errors import MedganError
from medgan.evaluation.features import SMALLEST_SIDE, Features, volume_stacks
from medgan.evaluation.network_encoder import evaluating, network_hash
from medgan.geometry import Shape, Spacing
from medgan.networks.encoder import FeatureEncoder
from medgan.networks.saved import build_network, load_config, load_weights

_CUBES: Spacing = (1.0, 1.0, 1.0)
_LONGEST = 32


class TrainedEncoder:
    """Features of a network that was trained by medgan: its descriptors of the voxels and of the whole.

    Args:
        network: with its weights.
        label: what cards call it; a hash of the weights is put behind.
        spacing: mm between the voxels of the volumes along X, Y and Z.
    """

    def __init__(self, network: FeatureEncoder, label: str, *, spacing: Spacing = _CUBES) -> None:
        self.network, self.spacing = network, spacing
        finest = min(spacing)
        ratios = [max(1, round(step / finest)) for step in spacing]
        shown = "" if max(ratios) == 1 else "-voxel" + "x".join(map(str, ratios))
        self.name = f"{label}-{network_hash(network)}{shown}"
        self._ratios = ratios

    @classmethod
    def from_folder(cls, folder: str | Path, *, spacing: Spacing = _CUBES) -> TrainedEncoder:
        """The encoder in a model folder, or in the one inside a run folder.

        Raises:
            MedganError: there is no model, it is damaged, or it was trained for something else.
        """
        config = load_config(folder)
        if config["task"] != "encoding":
            raise MedganError(
                f"this model was trained for {str(config['task']).replace('_', '-')}, it is no encoder",
                file=folder,
                hint="Train one with medgan train encoding/degradations, or leave out --encoder.",
            )
        network = build_network(config["network"]["name"], config["network"]["arguments"])
        assert isinstance(network, FeatureEncoder)
        try:
            network.load_state_dict(load_weights(folder))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise MedganError(
                f"the weights do not fit the configuration ({reason})", file=folder, hint="Export the model again."
            ) from error
        return cls(network.requires_grad_(False), str(config.get("name", "trained")), spacing=spacing)

    def extract(self, volumes: Iterable[NDArray[Any]], batch: int = 8) -> Features:
        """See `medgan.evaluation.encoders.Encoder`; the columns do not depend on the volumes' shape.

        Raises:
            MedganError: there are no volumes, their shapes differ or are too small, or voxels are not finite.
        """
        rows = []
        with evaluating(self.network):
            for stack in volume_stacks(volumes, batch):
                seen = torch.from_numpy(stack)
                looks = (seen, reduced(seen, self._ratios))
                rows.append(torch.cat([self._features(look) for look in looks], dim=1).double().numpy())
        return np.concatenate(rows)

    def _features(self, volumes: Tensor) -> Tensor:
        return self.network(volumes)


def reduced(volumes: Tensor, ratios: Sequence[int]) -> Tensor:
    """Volumes (B, 1, X, Y, Z) averaged over blocks, to at most 32 along the longest side.

    Args:
        volumes: at least 8 voxels a side.
        ratios: of the voxels' lengths to the shortest of them.
    """
    widths = block_widths(volumes.shape[2:], ratios)
    if max(widths) == 1:
        return volumes
    return F.avg_pool3d(volumes, widths, ceil_mode=True, count_include_pad=False)


def block_widths(shape: Sequence[int], ratios: Sequence[int]) -> Shape:
    """Voxels of a block along each axis: at least two where that leaves eight blocks, and fewer along coarse axes."""
    extent = max(length * ratio for length, ratio in zip(shape, ratios, strict=True))
    edge = max(2, -(-extent // _LONGEST))
    widths = []
    for length, ratio in zip(shape, ratios, strict=True):
        most = max(1, length // SMALLEST_SIDE)
        widths.append(min(most, max(1, round(edge / ratio))))
    return widths[0], widths[1], widths[2]

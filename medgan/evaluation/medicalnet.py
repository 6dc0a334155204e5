"""MedicalNet (Chen, Ma, Zheng 2019, arXiv:1904.00625) as an encoder, from a file of weights that the user has.

The network is MONAI's 3D residual network, whose strides it keeps: MedicalNet's own has dilated convolutions in its
last stages instead, for segmentation, and gives other features of the same weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from medgan.errors import MedganError
from medgan.evaluation.network_encoder import NetworkEncoder
from medgan.evaluation.weight_files import Weights, fit_weights, read_weights

# Blocks of each stage, and whether they are bottlenecks, to the network's depth.
_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((1, 1, 1, 1), False): 10,
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
    ((3, 24, 36, 3), True): 200,
}
_WIDTHS = [64, 128, 256, 512]
_HEADS = ("conv_seg.", "fc.")
_LEAST_DEVIATION = 1e-5


def medicalnet_encoder(path: Path) -> NetworkEncoder:
    """The encoder with the weights in a file such as resnet_10_23dataset.pth; the depth is read off them.

    Volumes are brought to zero mean and unit deviation one by one, as MedicalNet was trained: features do not see how
    bright a volume is or how strong its contrast.

    Raises:
        MedganError: the file cannot be read, or holds weights of another network; the message names what is missing.
    """
    weights = {name: one for name, one in read_weights(path).items() if not name.startswith(_HEADS)}
    network, depth = _network(weights, path)
    fit_weights(network, weights, path, f"a MedicalNet of depth {depth}")
    return NetworkEncoder(network, f"medicalnet-resnet{depth}", prepare=standardised)


def standardised(volumes: Tensor) -> Tensor:
    """Each volume of (B, 1, X, Y, Z) with zero mean and unit standard deviation."""
    over = (1, 2, 3, 4)
    deviations = volumes.std(dim=over, keepdim=True)
    return (volumes - volumes.mean(dim=over, keepdim=True)) / (deviations + _LEAST_DEVIATION)


def _network(weights: Weights, path: Path) -> tuple[nn.Module, int]:
    """A network without weights, of the kind that these are of, and its depth."""
    from monai.networks.nets.resnet import ResNet

    first = weights.get("conv1.weight")
    if first is None or tuple(first.shape) != (64, 1, 7, 7, 7):
        found = "there is none" if first is None else f"it has shape {tuple(first.shape)}"
        raise MedganError(
            f"these are no weights of MedicalNet: conv1.weight must have shape (64, 1, 7, 7, 7), {found}",
            file=path,
            hint="Weights of networks for slices go behind radimagenet: or imagenet:.",
        )
    blocks = tuple(
        len({name.split(".")[1] for name in weights if name.startswith(f"layer{stage}.")}) for stage in range(1, 5)
    )
    bottleneck = any(name.endswith("conv3.weight") for name in weights)
    depth = _DEPTHS.get((blocks, bottleneck))
    if depth is None:
        raise MedganError(
            f"these are no weights of a MedicalNet: its four stages have {', '.join(map(str, blocks))} blocks",
            file=path,
            hint=f"Depths {', '.join(map(str, sorted(_DEPTHS.values())))} are known.",
        )
    # Without storage: the weights come from the file.
    with torch.device("meta"):
        network = ResNet(
            block="bottleneck" if bottleneck else "basic",
            layers=list(blocks),
            block_inplanes=_WIDTHS,
            spatial_dims=3,
            n_input_channels=1,
            conv1_t_size=7,
            conv1_t_stride=2,
            shortcut_type="B" if any("downsample" in name for name in weights) else "A",
            bias_downsample=any(name.endswith("downsample.0.bias") for name in weights),
            feed_forward=False,
        )
    return network, depth

"""Trainings of ordinary networks on scans of any origin: what generated scans are worth is judged by these.

Everything is a function of the seed, and nothing is chosen by looking at scans: as many steps for all, and the weights
of the last one count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.data.examples import Examples
from medgan.data.strong_augmentation import Strengths, augmented
from medgan.errors import MedganError
from medgan.geometry import Shape, Spacing

# Of volumes that a classifier still has a voxel for in its last stage.
_SMALLEST_SIDE = 5

Reporting = Callable[[int, float], None]
"""Told a step and its loss."""


@dataclass(frozen=True)
class DownstreamOptions:
    """How the networks are trained, all alike.

    Args:
        steps: of the optimiser.
        batch_size: scans in each.
        learning_rate: of AdamW after a warm-up over a twentieth of the steps; it falls to zero along a cosine.
        weight_decay: of AdamW.
        width: feature channels of the finest stage.
        augmentation: what happens to every scan before the network sees it.
    """

    steps: int = 1000
    batch_size: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    width: int = 12
    augmentation: Strengths = field(default_factory=Strengths)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "width"):
            if getattr(self, name) < 1:
                raise MedganError(f"{name.replace('_', ' ')} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class Source:
    """A set of scans, and how large a share of what a network sees comes from it."""

    examples: Examples
    share: float


def segmentation_network(labels: int, shape: Shape, width: int) -> nn.Module:
    """MONAI's dynamic U-Net, from volumes (B, 1, X, Y, Z) to logits (B, labels, X, Y, Z).

    It has as many stages as leave four voxels to the shortest axis of `shape`, but three or four.
    """
    from monai.networks.nets import DynUNet

    stages = min(4, max(3, 1 + int(math.log2(max(min(shape), 4) / 4))))
    strides = [1] + [2] * (stages - 1)
    network = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=labels,
        kernel_size=[3] * stages,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[width * 2**stage for stage in range(stages)],
    )
    return _Padded(network, 2 ** (stages - 1))


def classification_network(classes: int, shape: Shape, width: int) -> nn.Module:
    """MONAI's DenseNet, small, with layer normalisation; it gives logits (B, classes).

    Raises:
        MedganError: volumes of this shape are too small for it.
    """
    from monai.networks.nets import DenseNet

    if min(shape) < _SMALLEST_SIDE:
        raise MedganError(
            f"scans of {shape} voxels are too small to tell classes of", hint="Prepare them with a finer --spacing."
        )
    return DenseNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        init_features=width,
        growth_rate=max(4, width // 2),
        # Each block but the last halves the volume, after the stem has quartered it.
        block_config=(2, 3, 3) if min(shape) >= 16 else (2, 3),
        # Batches are too small for statistics over them, and the last stage of small scans is a single voxel.
        norm=("group", {"num_groups": 1}),
    )


def segmentation_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice over all labels but the background, in the mean over the batch."""
    from monai.losses import DiceCELoss

    loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    return loss(logits, targets[:, None])


def classification_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with a little label smoothing."""
    return F.cross_entropy(logits, targets, label_smoothing=0.05)


def trained(
    network: Callable[[], nn.Module],
    loss: Callable[[Tensor, Tensor], Tensor],
    sources: Sequence[Source],
    spacing: Spacing,
    options: DownstreamOptions,
    *,
    seed: int,
    device: torch.device,
    report: Reporting | None = None,
) -> nn.Module:
    """A network trained from scratch, in evaluation mode.

    Args:
        network: makes it with fresh weights, out of torch's generator.
        loss: of logits and targets.
        sources: sets of scans; each place in a batch takes a set by its share and a scan of it at random.
        spacing: mm between voxels.
        options: how long and how.
        seed: of weights, order and augmentation, the same for whatever sources.
        device: where.
        report: told the loss of each step.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = network().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, steps=options.steps))
    generator = torch.Generator().manual_seed(seed)
    for step in range(options.steps):
        voxels, targets = _batch(sources, options.batch_size, np.random.default_rng([seed, step]))
        labels = targets if targets.ndim > 1 else None
        voxels, moved = augmented(voxels, labels, spacing, options.augmentation, generator)
        value = loss(model(voxels.to(device)), (targets if moved is None else moved).to(device))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if report is not None:
            report(step + 1, float(value.detach()))
    return model.eval()


def segmented(model: nn.Module, voxels: NDArray[np.float32], device: torch.device) -> NDArray[np.int64]:
    """The likeliest label number of each voxel (X, Y, Z)."""
    return _answer(model, voxels, device).argmax(dim=0).cpu().numpy()


def class_probabilities(model: nn.Module, voxels: NDArray[np.float32], device: torch.device) -> NDArray[np.float64]:
    """The probability of each class (K,) for a scan (X, Y, Z)."""
    return _answer(model, voxels, device).double().softmax(dim=0).cpu().numpy()


class _Padded(nn.Module):
    """A network whose input must have a multiple of some number of voxels along each axis, for all shapes."""

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network, self.multiple = network, multiple

    def forward(self, volumes: Tensor) -> Tensor:
        """Logits for volumes (B, 1, X, Y, Z) of any shape."""
        x, y, z = volumes.shape[2:]
        px, py, pz = (-size % self.multiple for size in (x, y, z))
        return self.network(F.pad(volumes, (0, pz, 0, py, 0, px), mode="replicate"))[..., :x, :y, :z]


def _answer(model: nn.Module, voxels: NDArray[np.float32], device: torch.device) -> Tensor:
    with torch.inference_mode():
        return model(torch.from_numpy(voxels)[None, None].to(device))[0].float()


def _batch(sources: Sequence[Source], size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Voxels (B, 1, X, Y, Z), and label maps (B, X, Y, Z) or classes (B,)."""
    edges = np.cumsum([source.share for source in sources])
    voxels, targets = [], []
    for _ in range(size):
        # Two numbers for each place, whatever the sources, so that different sets leave the rest alike.
        which, place = rng.random(2)
        chosen = sources[min(int(np.searchsorted(edges, which * edges[-1], side="right")), len(sources) - 1)].examples
        one, target = chosen[int(place * len(chosen))]
        voxels.append(one)
        targets.append(target)
    return torch.from_numpy(np.stack(voxels))[:, None], torch.from_numpy(np.stack(targets))


def _rate(step: int, *, steps: int) -> float:
    """Of the learning rate: up over a twentieth of the steps, then down along a cosine."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

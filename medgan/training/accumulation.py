"""A batch in parts: the gradient of the whole at the memory of one part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from torch import Tensor, nn

from medgan.errors import MedganError
from medgan.training.batches import Examples
from medgan.training.phases import Moment, Phase


def accumulate_gradients(
    phase: Phase, volumes: Examples, moment: Moment, parts: int, precision: Callable[[], AbstractContextManager[object]]
) -> dict[str, Tensor]:
    """Add up the gradients of a batch's parts, each weighted by its share of the volumes.

    For a loss that is a mean over volumes, or a sum of such means, this is the gradient of the whole batch. What a loss
    draws at random is drawn for each part.

    Args:
        phase: whose loss is differentiated; its module's gradients are added to.
        volumes: the whole batch.
        moment: where the training stands.
        parts: into how many the batch is split, at most B.
        precision: makes the context in which the loss is computed.

    Returns:
        The loss of the whole batch as "loss", and the means of what the phase reports, detached scalars.
    """
    means: dict[str, Tensor] = {}
    for part in volumes.chunk(parts):
        with precision():
            loss, reported = phase.loss(part, moment)
        share = len(part) / len(volumes)
        (share * loss).backward()
        for name, value in {"loss": loss, **reported}.items():
            weighted = share * value.detach().float()
            means[name] = means[name] + weighted if name in means else weighted
    return means


def refuse_mixing(networks: Iterable[nn.Module]) -> None:
    """Refuse networks in which the volumes of a batch see each other: in parts they would see others.

    Known are batch normalisation and every module with a true attribute `mixes_batch`.

    Raises:
        MedganError: one of them does.
    """
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) or getattr(module, "mixes_batch", False):
                raise MedganError(
                    f"training.accumulation cannot be used with {type(module).__name__}: its statistics are those of "
                    "the whole batch",
                    hint="Set training.accumulation=1, or leave that layer out of the network.",
                )

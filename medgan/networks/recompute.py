"""Activations that are computed again in the backward pass instead of being kept (gradient checkpointing; Chen et al.
2016, arXiv:1604.06174).

Networks say by a class attribute `recomputable = True` which of their blocks may be run twice. Nothing else about them
changes: names of weights, results and gradients are the same. Random numbers are drawn as the first time, and buffers
that a forward pass moves (running means, the vectors of spectral normalisation) move once.
"""

from __future__ import annotations

import contextlib
import functools
import types
from typing import Any

from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

from medgan.errors import MedganError


def recompute_activations(networks: dict[str, nn.Module]) -> int:
    """Let all blocks of these networks that allow it keep their inputs only while they are trained.

    Args:
        networks: by name; changed in place. Copies that are in evaluation mode run as before.

    Returns:
        How many blocks.

    Raises:
        MedganError: no network has such a block.
    """
    found = 0
    for network in networks.values():
        for module in network.modules():
            if getattr(module, "recomputable", False):
                # A bound method is copied along with the module that it is bound to.
                module.forward = types.MethodType(_recomputed, module)
                found += 1
    if not found:
        kinds = ", ".join(sorted({type(network).__name__ for network in networks.values()}))
        raise MedganError(
            f"training.recompute is set, but no block of {kinds} says that it may be run twice",
            hint="Set training.recompute=false, or give the blocks of these networks an attribute recomputable = True.",
        )
    return found


class _Buffers(contextlib.AbstractContextManager[None]):
    """The saved buffers of a module as they are now, put in place of the later ones while the module runs again.

    It can be entered more than once: gradients of gradients run a block several times.
    """

    def __init__(self, module: nn.Module) -> None:
        self._places = [
            (part, name)
            for part in module.modules()
            for name, value in part._buffers.items()
            if value is not None and name not in part._non_persistent_buffers_set
        ]
        self._before = [self._at(place).clone() for place in self._places]
        self._later: list[Tensor] = []

    @staticmethod
    def _at(place: tuple[nn.Module, str]) -> Tensor:
        value = place[0]._buffers[place[1]]
        assert value is not None
        return value

    def __enter__(self) -> None:
        # Exchanged, not written to: the graph may hold the tensors themselves.
        self._later = [self._at(place) for place in self._places]
        self._put([value.clone() for value in self._before])

    def __exit__(self, *unused: object) -> None:
        self._put(self._later)

    def _put(self, values: list[Tensor]) -> None:
        for (part, name), value in zip(self._places, values, strict=True):
            part._buffers[name] = value


def _recomputed(module: nn.Module, *inputs: Any) -> Any:
    """`forward` of a module in training whose activations are not kept."""
    forward = functools.partial(type(module).forward, module)
    if not (module.training and is_grad_enabled()):
        return forward(*inputs)

    def contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext(), _Buffers(module)

    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=True, context_fn=contexts)

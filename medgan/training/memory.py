"""How much memory a training takes at its peak, found without taking it.

The phases of the true objective run once on tensors that have shapes but no voxels (PyTorch's fake tensors), and every
storage that appears or goes is counted. That holds for any network, loss, penalty and resolution, and takes as long as
the graph has operations, however large the volumes are. What a library takes inside of one operation, such as the
workspace of a convolution, is not seen.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medgan.geometry import Shape
from medgan.recipe import TrainingOptions
from medgan.training.phases import Moment, Objective, Phase
from medgan.training.trainer import Trainer


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training holds at its peak.

    Args:
        weights: of all networks, with their buffers.
        average: the averaged copy of one of them.
        gradients: of all networks.
        moments: what the optimizers keep.
        activations: what lives beside these at the peak: batches, features, gradients of features, temporary results.
    """

    weights: int
    average: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.average + self.gradients + self.moments + self.activations


def training_memory(
    objective: Objective, options: TrainingOptions, batch: Any, *, precision: torch.dtype | None = None
) -> TrainingMemory:
    """The memory of a training at its peak, workspaces apart.

    Args:
        objective: what would be trained, its networks on the CPU. They lose their weights: it cannot be trained later.
        options: the loop's part of the recipe; batches are split and blocks computed again as it says.
        batch: as the training gets it, of any size; the estimate is for `options.batch_size` examples.
        precision: the half precision of the networks on the device in mind, or None for float32.

    Raises:
        MedganError: as the trainer would.
    """
    # One part of a batch is like the other, and the first leaves its gradients to the second.
    parts = min(options.accumulation, 2)
    seen = parts * -(-options.batch_size // options.accumulation)
    changed = options.model_copy(update={"precision": "float32", "accumulation": parts})
    trainer = Trainer(objective, _NoBatches(), changed, device=torch.device("cpu"), checkpoints=Path())
    trainer.dtype = precision
    phases = list(objective.phases)
    trained = {id(phase.module): phase.module for phase in phases}
    # As one module, because networks may be parts of others: each weight counts once.
    weights = _bytes(nn.ModuleList(objective.networks.values()))
    gradients = sum(_bytes(module, buffers=False) for module in trained.values())
    moments = _moments(phases)
    average = _bytes(trainer.average)

    mode, live = FakeTensorMode(allow_non_fake_inputs=True), _LiveStorages()
    networks = [*objective.networks.values(), trainer.average]
    with mode, live:
        _without_voxels(networks, phases, mode, live)
        for module in trained.values():
            for parameter in module.parameters():
                parameter.grad = torch.zeros_like(parameter)
        kept = live.now
        live.peak = kept
        batches = [resized(batch, options.batch_size) for _ in range(max(phase.repeats for phase in phases))]
        examples = batches[0] if parts == 1 else resized(batch, seen)
        for moment in _moments_that_differ(objective, phases):
            for phase in phases:
                if phase.active(moment):
                    trainer.differentiated(phase, examples, moment)
    # An optimizer that updates all weights at once makes one more array of each.
    update = max(_bytes(module, buffers=False) for module in trained.values())
    return TrainingMemory(weights, average, gradients, moments, max(live.peak - kept, update))


def resized(batch: Any, size: int, shape: Shape | None = None) -> Any:
    """A batch of zeros like another one, with `size` examples and, if a shape is given, volumes of that shape.

    Args:
        batch: a tensor, whose volumes are (B, C, X, Y, Z), or a dataclass of such; other fields are kept.
        size: examples.
        shape: voxels of the volumes.
    """
    if isinstance(batch, Tensor):
        inner = batch.shape[1:] if shape is None or batch.ndim != 5 else (batch.shape[1], *shape)
        return torch.zeros(size, *inner, dtype=batch.dtype)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        tensors = {name: resized(value, size, shape) for name, value in fields.items() if isinstance(value, Tensor)}
        return dataclasses.replace(batch, **tensors)
    raise TypeError(f"a batch is a tensor or a dataclass of tensors, not {type(batch).__name__}")


class _NoBatches:
    """The source of a trainer that does not run."""

    def stream(self, position: int) -> Iterator[Tensor]:
        """None at all."""
        return iter(())


class _LiveStorages(TorchDispatchMode):
    """Counts the bytes of the storages that are alive, and the most that ever were.

    A number that is read from a tensor without voxels is 1, or 0 of whole numbers, which are places and indices.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if tensors and not any(isinstance(tensor, FakeTensor) for tensor in tensors):
            # Counters and the like have their true values.
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            return _stand_in(args[0].dtype)
        made = func(*args, **kwargs)
        for leaf in tree_leaves(made):
            if isinstance(leaf, FakeTensor):
                self.count(leaf)
        return made

    def count(self, tensor: Tensor) -> None:
        """Count the storage of a tensor until it goes, once."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known[key] = weakref.ref(storage, self._forget(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> Callable[[object], None]:
        def gone(_: object) -> None:
            del self._known[key]
            self.now -= size

        return gone


def _stand_in(dtype: torch.dtype) -> float | int | bool:
    if dtype is torch.bool:
        return False
    return 1.0 if dtype.is_floating_point else 0


def _without_voxels(networks: list[nn.Module], phases: list[Phase], mode: FakeTensorMode, live: _LiveStorages) -> None:
    """Exchange weights and buffers for tensors without values, in networks and optimizers; single numbers stay."""
    made: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
    for module in (module for network in networks for module in network.modules()):
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    made[id(parameter)] = (parameter, nn.Parameter(mode.from_tensor(parameter.detach())))
                    live.count(made[id(parameter)][1])
                module._parameters[name] = made[id(parameter)][1]
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.ndim:
                module._buffers[name] = mode.from_tensor(buffer)
    for phase in phases:
        phase.optimizer.state.clear()
        for group in phase.optimizer.param_groups:
            group["params"] = [made[id(parameter)][1] for parameter in group["params"]]


def _moments_that_differ(objective: Objective, phases: list[Phase]) -> Iterator[Moment]:
    """Moments that stand for the whole training: the end, when networks are fully grown, and others at which other
    phases are awake. All are at a step at which everything lazy is due.
    """
    seen = []
    for images in sorted({0, objective.images - 1, *(phase.first_image for phase in phases)}, reverse=True):
        if images >= objective.images:
            continue
        moment = Moment(0, images, 1.0 if images == objective.images - 1 else images / objective.images)
        awake = [phase.name for phase in phases if phase.active(moment)]
        if awake not in seen:
            seen.append(awake)
            yield moment


def _moments(phases: list[Phase]) -> int:
    """Bytes that the optimizers keep, found by a step with gradients of zero."""
    for phase in phases:
        for parameter in phase.module.parameters():
            parameter.requires_grad_(True)
            parameter.grad = torch.zeros_like(parameter)
        phase.optimizer.step()
    states = [value for phase in phases for state in phase.optimizer.state.values() for value in state.values()]
    return sum(value.numel() * value.element_size() for value in states if isinstance(value, Tensor))


def _bytes(module: nn.Module, *, buffers: bool = True) -> int:
    held = [*module.parameters(), *(module.buffers() if buffers else ())]
    return sum(tensor.numel() * tensor.element_size() for tensor in held)

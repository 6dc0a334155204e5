"""A trained model, loaded and ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medgan.errors import MedganError
from medgan.networks.saved import build_network, find_model, load_config, load_weights, model_hash
from medgan.pretrained import shipped_models


@dataclass(frozen=True)
class Model:
    """One trained model.

    Args:
        folder: where it was read.
        config: what its `config.json` says.
        device: where its networks run.
        sha256: of its weights file.
        weights: all tensors, on the CPU.
    """

    folder: Path
    config: dict[str, Any]
    device: torch.device
    sha256: str
    weights: dict[str, Tensor] = field(repr=False)

    @property
    def task(self) -> str:
        """ "synthesis", "super_resolution", "translation" or "mask_to_scan"."""
        return str(self.config["task"])

    def network(self, *, fidelity: float = 1.0, direction: str = "there") -> nn.Module:
        """The network in evaluation mode on the model's device.

        Args:
            fidelity: for super-resolution, from 0 (the adversarial weights) to 1 (the weights trained for fidelity
                alone); between them the weights are interpolated (Wang et al. 2018, "network interpolation").
            direction: for translation, "there" (source to target) or, of a model that has it, "back".
        """
        network = build_network(self.config["network"]["name"], self.config["network"]["arguments"])
        weights = self.weights
        if self.task == "super_resolution":
            weights = self._interpolated(fidelity)
        elif self.task == "translation":
            weights = self._of(direction)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise MedganError(
                f"the weights do not fit the configuration ({reason})", file=self.folder, hint="Export the model again."
            ) from error
        return network.eval().requires_grad_(False).to(self.device)

    def _interpolated(self, fidelity: float) -> dict[str, Tensor]:
        """The weighted mean of the two sets of weights."""
        if not 0.0 <= fidelity <= 1.0:
            raise MedganError(f"fidelity is {fidelity:g}; it must lie between 0 (texture) and 1 (fidelity)")
        if fidelity < 1.0 and not any(name.startswith("perceptual.") for name in self.weights):
            raise MedganError(
                f"fidelity is {fidelity:g}, but this model was trained for fidelity alone and has no texture to add",
                file=self.folder,
                hint="Leave out --fidelity, or train an adversarial stage with medgan train --from this model.",
            )
        ends = {end: self._of(end) for end in ("fidelity", "perceptual")}
        if fidelity == 1.0 and ends["fidelity"]:
            return ends["fidelity"]
        if ends["fidelity"].keys() != ends["perceptual"].keys() or not ends["fidelity"]:
            raise MedganError("the two sets of weights do not match", file=self.folder, hint="Export the model again.")
        return {
            name: fidelity * value + (1.0 - fidelity) * ends["perceptual"][name]
            for name, value in ends["fidelity"].items()
        }

    def _of(self, part: str) -> dict[str, Tensor]:
        """The weights of one of several networks, by the names that they have in it."""
        return {name.removeprefix(f"{part}."): one for name, one in self.weights.items() if name.startswith(f"{part}.")}


def load_model(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a model folder, or the one inside a run folder.

    Raises:
        MedganError: there is no model, or it is damaged.
    """
    folder = find_model(path)
    return Model(folder, load_config(folder), torch.device(device), model_hash(folder), load_weights(folder))


def require_task(model: Model, task: str, verb: str) -> None:
    """Refuse a model that was trained for something else.

    Raises:
        MedganError: the task differs.
    """
    if model.task != task:
        shipped = shipped_models(task)
        such = f", such as {' or '.join(shipped)} (shipped with medgan)" if shipped else ""
        takes_masks = " For this one give label maps by --masks." if model.task == "mask_to_scan" else ""
        raise MedganError(
            f"this model was trained for {model.task.replace('_', '-')}, {verb} needs one for {task.replace('_', '-')}",
            file=model.folder,
            hint=f"Choose another model{such}; `medgan runs` lists yours.{takes_masks}",
        )

"""Segmentation models of the user's own, of three kinds: a Python callable, a TorchScript file, a MONAI bundle.

A model and a bundle are programs: load only those that you trust.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.files import read_json
from medgan.volume import Volume

if TYPE_CHECKING:
    import torch

Segment = Callable[[Volume], "NDArray[Any] | Volume"]
"""From a scan to its label map: an array (X, Y, Z) on the scan's grid, or a Volume on a grid of its own."""

# What a bundle does to files, and to arrays as files give them: a Volume has its channels first already.
_OF_FILES = ("LoadImage", "SaveImage", "EnsureChannelFirst")
_CONFIGURATIONS = ("inference.json", "inference.yaml", "inference.yml")


@dataclass(frozen=True)
class Segmenter:
    """What makes a label map of a scan.

    Args:
        name: for the card; no path.
        segment: from a scan to its label map.
        names: of the regions, by label, as far as they are known.
    """

    name: str
    segment: Segment
    names: Mapping[int, str] = field(default_factory=dict)

    def __call__(self, volume: Volume) -> NDArray[Any] | Volume:
        """The label map of a scan."""
        return self.segment(volume)


def load_segmenter(source: str | Path, *, device: str = "cpu") -> Segmenter:
    """A segmentation model by its place.

    Args:
        source: a folder with a MONAI bundle; a TorchScript file (.pt or .ts), which gets (1, 1, X, Y, Z) in RAS order,
            brought to about 0..1 by the 0.5th and 99.5th percentiles, and gives logits (1, C, X, Y, Z) or labels (1, 1,
            X, Y, Z); or "module:attribute", a Python callable from a `medgan.Volume` to an array (X, Y, Z) of labels.
            The callable may have an attribute `names`, from label to name.
        device: where networks compute.

    Raises:
        MedganError: nothing of these stands there.
    """
    path = Path(source)
    if path.is_dir():
        return _bundle(path, device)
    if path.is_file():
        return _scripted(path, device)
    module, colon, attribute = str(source).partition(":")
    if colon and all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        return _imported(module, attribute)
    raise MedganError(
        "no segmentation model here",
        file=path,
        hint="Give the folder of a MONAI bundle, a TorchScript file, or module:attribute of a Python function.",
    )


def _imported(module: str, attribute: str) -> Segmenter:
    """A callable of a module that Python finds, the current folder included."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MedganError(
            f"Python finds no module '{error.name}' for the segmentation '{module}:{attribute}'",
            hint="Run from the folder that holds it, or install it.",
        ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise MedganError(f"the module '{module}' has no '{attribute}'", hint="Check the spelling.")
        found = getattr(found, name)
    if not callable(found):
        raise MedganError(f"'{module}:{attribute}' cannot be called", hint="Name a function from a Volume to labels.")
    names = getattr(found, "names", {})
    return Segmenter(f"{module}:{attribute}", found, {int(label): str(name) for label, name in dict(names).items()})


def _scripted(path: Path, device: str) -> Segmenter:
    """A TorchScript file."""
    import torch

    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise MedganError(
            "this file is no TorchScript model", file=path, hint="Export the network with torch.jit.script and save it."
        ) from error

    def segment(volume: Volume) -> Volume:
        turned = volume.reoriented("RAS")
        voxels = turned.as_float()[0]
        low, high = (float(value) for value in np.percentile(voxels, (0.5, 99.5)))
        scaled = torch.from_numpy((voxels - low) / max(high - low, 1e-12))[None, None]
        with torch.inference_mode():
            answer = network(scaled.to(device))
        return turned.with_data(_labels_of(answer[0]).astype(np.int16), "segmented")

    return Segmenter("TorchScript model", segment)


def _labels_of(answer: torch.Tensor) -> NDArray[Any]:
    """Label map (X, Y, Z) of (C, X, Y, Z): the argmax of several channels, one channel as it is."""
    channels = answer.detach().cpu().numpy()
    return np.asarray(channels.argmax(axis=0) if len(channels) > 1 else np.rint(channels[0]))


def _bundle(folder: Path, device: str) -> Segmenter:
    """A MONAI bundle: its own preprocessing, network, inferer and postprocessing, without reading and saving files."""
    import torch
    from monai.bundle import ConfigParser

    configurations = [folder / "configs" / name for name in _CONFIGURATIONS]
    configuration = next((path for path in configurations if path.is_file()), None)
    if configuration is None:
        raise MedganError(
            "this folder is no MONAI bundle: it has no configs/inference.json", file=folder, hint="Name its folder."
        )
    parser = ConfigParser()
    parser.read_config(str(configuration))
    parser["bundle_root"] = str(folder)
    parser["device"] = torch.device(device)
    for part in ("preprocessing", "postprocessing"):
        if isinstance(parser.get(part), dict):
            parser[part]["transforms"] = [
                one for one in parser[part].get("transforms", ()) if not _is_file_transform(one)
            ]
    network = _bundle_network(parser, folder, device)
    inferer = parser.get_parsed_content("inferer") if "inferer" in parser else None
    before, after = (
        parser.get_parsed_content(part) if part in parser else None for part in ("preprocessing", "postprocessing")
    )

    def segment(volume: Volume) -> Volume:
        batch: dict[str, Any] = {"image": volume.to_metatensor()}
        batch = before(batch) if before is not None else batch
        with torch.inference_mode():
            inputs = batch["image"][None].to(device)
            batch["pred"] = (inferer(inputs, network) if inferer is not None else network(inputs))[0]
        answer = (after(batch) if after is not None else batch)["pred"]
        affine = answer.affine if hasattr(answer, "affine") else batch["image"].affine
        return Volume(_labels_of(answer).astype(np.int16), np.asarray(affine, dtype=np.float64), ("segmented",))

    return Segmenter(f"MONAI bundle {_bundle_name(folder)}", segment, _region_names(folder))


def _is_file_transform(described: Any) -> bool:
    target = described.get("_target_", "") if isinstance(described, dict) else ""
    return str(target).rpartition(".")[2].startswith(_OF_FILES)


def _bundle_network(parser: Any, folder: Path, device: str) -> Any:
    """The bundle's network with its weights."""
    import torch

    scripted, weights = folder / "models" / "model.ts", folder / "models" / "model.pt"
    if weights.is_file() and ("network_def" in parser or "network" in parser):
        network = parser.get_parsed_content("network_def" if "network_def" in parser else "network")
        state = torch.load(weights, map_location=device, weights_only=True)
        network.load_state_dict(state.get("model", state))
        return network.to(device).eval()
    if scripted.is_file():
        return torch.jit.load(str(scripted), map_location=device).eval()
    raise MedganError(
        "the bundle has neither models/model.pt with a network_def nor models/model.ts",
        file=folder,
        hint="Download its weights first: python -m monai.bundle download.",
    )


def _metadata(folder: Path) -> Mapping[str, Any]:
    path = folder / "configs" / "metadata.json"
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _bundle_name(folder: Path) -> str:
    """What the bundle calls itself; its folder may bear any name."""
    metadata = _metadata(folder)
    return " ".join(str(metadata[key]) for key in ("name", "version") if key in metadata) or "without a name"


def _region_names(folder: Path) -> dict[int, str]:
    """Names of the output channels, where the bundle's metadata have them."""
    found: Any = _metadata(folder)
    for key in ("network_data_format", "outputs", "pred", "channel_def"):
        found = found.get(key, {}) if isinstance(found, dict) else {}
    items = found.items() if isinstance(found, dict) else ()
    return {int(label): str(name) for label, name in items if str(label).isdigit()}

"""Encoders by name: who turns volumes into the features that the evaluation card compares.

Figures of different encoders, and of different weights of one, say nothing about each other. So every encoder has a
name that holds its version, and of a network that somebody brings a hash of its weights as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError, nearest
from medgan.pretrained import shipped_model, shipped_models

if TYPE_CHECKING:
    from medgan.geometry import Spacing

RANDOM, TRAINED = "random", "scan-encoder"
DEFAULT = RANDOM
_SUFFIXES = (".pt", ".pth", ".ts", ".jit")


class Encoder(Protocol):
    """Turns volumes into features."""

    @property
    def name(self) -> str:
        """Name and version; it changes whenever the features of a volume do."""

    def extract(self, volumes: Iterable[NDArray[Any]], batch: int = 8) -> NDArray[np.float64]:
        """The features (N, D) of volumes (X, Y, Z), not yet standardised, one row each.

        Args:
            volumes: all of one shape, at least 8 voxels a side, normalised to about 0..1, array axes from Left to
                Right, Posterior to Anterior, Inferior to Superior.
            batch: how many go through a network at once; rows do not depend on it.

        Raises:
            MedganError: there are no volumes, or one that cannot be encoded.
        """
        ...


def encoder_named(name: str | None = None, *, spacing: Sequence[float] | None = None) -> Encoder:
    """The encoder that a user means.

    Args:
        name: "random", the fixed random one; the name of a shipped encoder, or a run or model folder of one's own;
            "medicalnet:FILE", "radimagenet:FILE" or "imagenet:FILE" with weights on this machine; "planar:FILE" or
            "volume:FILE" with a TorchScript network for slices or for volumes; "package.module:attribute" with a
            torch.nn.Module, or what makes one when it is called. TorchScript files and modules are programs, which run.
            None for the card's default.
        spacing: mm between the voxels of the volumes along X, Y and Z, for encoders to which voxels that are not cubes
            make a difference; taken to be cubes without it.

    Raises:
        MedganError: there is no such encoder, its file is missing or does not hold what it should.
    """
    from medgan.evaluation.features import RandomEncoder

    name = DEFAULT if name is None else name
    if name == RANDOM:
        return RandomEncoder()
    step = _spacing(spacing)
    kind, separator, rest = name.partition(":")
    if kind in _BY_FILE:
        return _BY_FILE[kind](_existing(rest, kind), step)
    if name in shipped_models("encoding"):
        from medgan.evaluation.trained_encoder import TrainedEncoder

        return TrainedEncoder.from_folder(shipped_model(name), spacing=step)
    path = Path(name)
    if path.is_dir():
        from medgan.evaluation.trained_encoder import TrainedEncoder

        return TrainedEncoder.from_folder(path, spacing=step)
    if path.suffix in _SUFFIXES:
        return _volume_file(_existing(name, "volume"), step)
    if separator and all(part.isidentifier() for part in kind.split(".")):
        from medgan.evaluation.network_encoder import encoder_of_attribute

        return encoder_of_attribute(kind, rest)
    known = (RANDOM, *shipped_models("encoding"), *_BY_FILE)
    raise MedganError(
        f"no encoder called '{name}'",
        hint=f"{nearest(name, list(known))} Others: a folder of an encoder that you trained, medicalnet:FILE, "
        "radimagenet:FILE, imagenet:FILE, planar:FILE, volume:FILE, package.module:attribute.",
    )


def encoder_names() -> tuple[str, ...]:
    """The encoders that need no file of the user's, the default first."""
    return tuple(dict.fromkeys((DEFAULT, *shipped_models("encoding"), RANDOM)))


def _medicalnet(path: Path, spacing: Spacing) -> Encoder:
    from medgan.evaluation.medicalnet import medicalnet_encoder

    return medicalnet_encoder(path)


def _radimagenet(path: Path, spacing: Spacing) -> Encoder:
    from medgan.evaluation.planar_encoder import resnet50_encoder

    return resnet50_encoder(path, "radimagenet", spacing=spacing)


def _imagenet(path: Path, spacing: Spacing) -> Encoder:
    from medgan.evaluation.planar_encoder import resnet50_encoder

    return resnet50_encoder(path, "imagenet", spacing=spacing)


def _planar_file(path: Path, spacing: Spacing) -> Encoder:
    from medgan.evaluation.network_encoder import scripted
    from medgan.evaluation.planar_encoder import PlanarEncoder

    return PlanarEncoder(scripted(path), path.stem, spacing=spacing)


def _volume_file(path: Path, spacing: Spacing) -> Encoder:
    from medgan.evaluation.network_encoder import NetworkEncoder, scripted

    return NetworkEncoder(scripted(path), path.stem)


_BY_FILE: dict[str, Callable[[Path, Spacing], Encoder]] = {
    "medicalnet": _medicalnet,
    "radimagenet": _radimagenet,
    "imagenet": _imagenet,
    "planar": _planar_file,
    "volume": _volume_file,
}
_WHERE = {
    "medicalnet": "Download resnet_10_23dataset.pth (or 18, 34, 50) from https://huggingface.co/TencentMedicalNet, "
    "then write medicalnet:PATH.",
    "radimagenet": "Download the ResNet50 weights by the links on https://github.com/BMEII-AI/RadImageNet, then write "
    "radimagenet:PATH.",
    "imagenet": "Download https://download.pytorch.org/models/resnet50-11ad3fa6.pth, then write imagenet:PATH.",
    "planar": "Save a network for slices with torch.jit.save, then write planar:PATH.",
    "volume": "Save a network for volumes with torch.jit.save, then write volume:PATH.",
}


def _existing(path: str, kind: str) -> Path:
    """The file that the user named.

    Raises:
        MedganError: there is none; the hint says where such a file can be had.
    """
    hint = f"Nothing is downloaded by itself. {_WHERE[kind]}"
    if not path:
        raise MedganError(f"the encoder {kind} needs a file of weights, and none was named", hint=hint)
    if "://" in path:
        raise MedganError(f"the encoder {kind} was given an address, {path}, instead of a file here", hint=hint)
    if not Path(path).is_file():
        raise MedganError(f"there is no file of weights for the encoder {kind}", file=path, hint=hint)
    return Path(path)


def _spacing(spacing: Sequence[float] | None) -> Spacing:
    """Three positive numbers."""
    if spacing is None:
        return 1.0, 1.0, 1.0
    if len(spacing) != 3 or not all(0 < step < float("inf") for step in spacing):
        raise MedganError(f"spacing is {tuple(spacing)}; it must be three positive numbers of mm", hint="Say 1,1,1.")
    return float(spacing[0]), float(spacing[1]), float(spacing[2])

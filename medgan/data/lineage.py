"""What scans were made from: hashes of voxels, and the record of synthetic scans.

Scans are told by a hash of their voxels, so that another name, format, compression, data type or order of axes makes no
other scan of them. Resampled scans and scans of other intensities have another hash: copies in disguise are found by
comparing voxels (`medgan.evaluation.memorization`), not here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgan.errors import MedganError
from medgan.volume import Volume

SAMPLES = "samples.json"
# How far above a scan its record may stand: a BIDS dataset has sub-X/anat/ between them.
_LEVELS = 4


class LeakError(MedganError):
    """Scans that were made from others stand in another split than these, or nobody knows where they belong."""


@dataclass(frozen=True)
class Origin:
    """Where a synthetic scan comes from.

    Args:
        model_sha256: of the generator's weights; None where nothing records it.
        parents: SHA-256 of the voxels (or the files) of what it was made from one by one, such as its label map; empty
            for samples of a latent vector, None where nothing records it.
    """

    model_sha256: str | None
    parents: tuple[str, ...] | None


@dataclass(frozen=True)
class Record:
    """What a `samples.json` says of one synthetic scan.

    Args:
        origin: where it comes from.
        labels: that it was asked to have.
    """

    origin: Origin
    labels: Mapping[str, str]


def voxels_sha256(volume: Volume) -> str:
    """The SHA-256 of a volume's shape and float32 values in RAS order, whatever file they stand in."""
    data = volume.reoriented("RAS").data
    digest = hashlib.sha256(str(data.shape).encode())
    for channel in data:
        # Adding zero makes one zero of the two that floats have.
        digest.update((np.ascontiguousarray(channel, dtype="<f4") + np.float32(0)).data)
    return digest.hexdigest()


def is_marked_synthetic(volume: Volume) -> bool:
    """Whether the file itself says that a generative model made it."""
    return bool(volume.metadata.get("synthetic") or volume.metadata.get("projected"))


class Origins:
    """The records of synthetic scans that stand beside the inputs of a preparation.

    Args:
        contents: each `samples.json`, by its folder.
    """

    def __init__(self, contents: Mapping[Path, Mapping[str, Any]]) -> None:
        self._contents = contents
        self._by_voxels: dict[str, Record] = {}
        self._label_maps: dict[str, tuple[str, ...]] = {}
        for content in contents.values():
            for sample in content["samples"]:
                if sample.get("voxels_sha256"):
                    self._by_voxels[sample["voxels_sha256"]] = _record(sample, content)
                if sample.get("label_map_voxels_sha256"):
                    self._label_maps[sample["label_map_voxels_sha256"]] = _parents(sample) or ()

    @classmethod
    def near(cls, paths: Iterable[Path]) -> Origins:
        """The records in the folders of scans and up to four above; files of others by that name are left alone."""
        folders = {folder for path in paths for folder in list(path.absolute().parents)[:_LEVELS]}
        folders |= {path.absolute() for path in paths if path.is_dir()}
        found = {folder: _content(folder / SAMPLES) for folder in sorted(folders)}
        return cls({folder: content for folder, content in found.items() if content is not None})

    @property
    def generators(self) -> dict[str, dict[str, Any]]:
        """By the SHA-256 of a model's weights: "trained_on", the hashes of what it learned from; None if unknown."""
        found: dict[str, dict[str, Any]] = {}
        for content in self._contents.values():
            known = found.setdefault(content["model_sha256"], {"trained_on": None})
            known["trained_on"] = content.get("trained_on", known["trained_on"])
        return found

    def parents_of_label_map(self, voxels: str) -> tuple[str, ...]:
        """What a label map that was made from another, such as a warped one, was made from; empty for all others."""
        return self._label_maps.get(voxels, ())

    def of(self, path: Path, voxels: str, *, is_marked: bool) -> Record | None:
        """The record of a scan; None for one that is not synthetic.

        Args:
            path: of the scan, absolute.
            voxels: the hash of its voxels, by which it is known wherever it lies and whatever its name.
            is_marked: whether the file itself says that it is synthetic.
        """
        if voxels in self._by_voxels:
            return self._by_voxels[voxels]
        for folder, content in self._contents.items():
            listed = [one for one in content["samples"] if folder / one["file"] in (path, *path.parents)]
            if listed:
                return _of_changed(listed[0], content)
        return Record(Origin(None, None), {}) if is_marked else None


def trained_on_of(config: Mapping[str, Any]) -> list[str] | None:
    """The hashes of what a model learned from, as its configuration says; None where it does not."""
    known = config.get("training", {}).get("trained_on")
    return None if known is None else [str(one) for one in known]


def _content(path: Path) -> Mapping[str, Any] | None:
    """A record of synthetic scans, or None if the file is none."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    is_record = isinstance(content, dict) and content.get("synthetic") is True and "model_sha256" in content
    return content if is_record and isinstance(content.get("samples"), list) else None


def _record(sample: Mapping[str, Any], content: Mapping[str, Any]) -> Record:
    labels = {str(name): str(value) for name, value in (sample.get("labels") or {}).items() if value is not None}
    return Record(Origin(content["model_sha256"], _parents(sample)), labels)


def _of_changed(sample: Mapping[str, Any], content: Mapping[str, Any]) -> Record:
    """The record of a file that is listed by name.

    Where its voxels are not those on record, someone changed it or exchanged it for another of them, so it counts as a
    child of every parent in the file.
    """
    if not sample.get("voxels_sha256"):
        return _record(sample, content)
    known = [_parents(one) for one in content["samples"]]
    together = None if None in known else tuple(sorted({parent for one in known for parent in one or ()}))
    return Record(Origin(content["model_sha256"], together), _record(sample, content).labels)


def _parents(sample: Mapping[str, Any]) -> tuple[str, ...] | None:
    parents: Sequence[Mapping[str, Any]] | None = sample.get("parents", ())
    if parents is None:
        return None
    return tuple(parent[key] for parent in parents for key in ("sha256", "voxels_sha256") if key in parent)

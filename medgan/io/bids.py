"""Scans as BIDS datasets (Brain Imaging Data Structure 1.10): names, sidecars, dataset descriptions.

Three kinds of dataset: raw (converted scans), derivative (restored scans), and synthetic, which is a derivative too, so
that neither its type nor a single file name can be taken for a person's scan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medgan import __version__
from medgan.errors import MedganError
from medgan.files import read_json, write_json, write_text
from medgan.io.nifti import write_nifti
from medgan.volume import Volume

BIDS_VERSION = "1.10.0"
RAW, DERIVATIVE = "raw", "derivative"

# Entities of anatomical images in the order of the specification (appendix IX); sub comes first and res and desc are
# for derivatives.
_ENTITIES = ("ses", "acq", "ce", "rec", "run", "echo", "part", "chunk", "space", "res", "desc")
_LABEL = re.compile(r"[A-Za-z0-9]+")
_WITH_NUMBERS = ("run", "echo", "chunk")

# Suffixes of anatomical images, and the words by which file names give a contrast away beyond doubt.
SUFFIXES = ("T1w", "T2w", "PDw", "T2starw", "FLAIR", "inplaneT1", "inplaneT2", "angio")
_CONTRASTS = {suffix.lower(): suffix for suffix in SUFFIXES} | {
    "t1": "T1w",
    "mprage": "T1w",
    "t2": "T2w",
    "pd": "PDw",
    "t2star": "T2starw",
}

# `Volume.metadata` to the sidecar's field, with the factor to its unit: BIDS counts in seconds.
_FACTS = {
    "echo_time": ("EchoTime", 1e-3),
    "repetition_time": ("RepetitionTime", 1e-3),
    "inversion_time": ("InversionTime", 1e-3),
    "flip_angle": ("FlipAngle", 1.0),
    "magnetic_field_strength": ("MagneticFieldStrength", 1.0),
    "slice_thickness": ("SliceThickness", 1.0),
}


@dataclass(frozen=True)
class BidsName:
    """The name of one anatomical image.

    Args:
        subject: label, letters and digits only.
        suffix: one of `SUFFIXES`.
        entities: the others, such as {"ses": "01", "res": "1mm", "desc": "sr"}.

    Raises:
        MedganError: a label, entity or suffix is not one that BIDS allows.
    """

    subject: str
    suffix: str
    entities: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entity, label in {"sub": self.subject, **self.entities}.items():
            if entity != "sub" and entity not in _ENTITIES:
                raise MedganError(f"'{entity}' is no BIDS entity of anatomical images")
            if not _LABEL.fullmatch(label) or (entity in _WITH_NUMBERS and not label.isdigit()):
                what = "a number" if entity in _WITH_NUMBERS else "letters and digits only"
                raise MedganError(f"'{label}' is no BIDS label of {entity}: it must be {what}")
        if self.suffix not in SUFFIXES:
            raise MedganError(f"'{self.suffix}' is no BIDS suffix of anatomical images", hint=_CHOOSE_CONTRAST)

    @classmethod
    def of_scan(cls, name: str, *, subject: str | None = None, contrast: str | None = None) -> BidsName:
        """The name that a scan has or should have.

        Args:
            name: of the scan without ending, such as "sub-01_ses-2_T1w"; entities that anatomical images do not have
                are left out.
            subject: the subject's label; the name's own if None.
            contrast: the suffix; by the last word of the name if None.

        Raises:
            MedganError: the name does not say who or what contrast it is, and nobody else does.
        """
        parts = name.split("_")
        found = dict(part.split("-", 1) for part in parts if re.fullmatch(r"[a-z]+-[A-Za-z0-9]+", part))
        label = (subject or "").removeprefix("sub-") or found.get("sub")
        if not label:
            raise MedganError(
                "BIDS files are named by subject, and this scan's name does not say which it is",
                hint="Give --subject LABEL, or name the scan sub-LABEL_T1w.",
            )
        suffix = suffix_of(contrast or parts[-1].rpartition("-")[2])
        if suffix is None:
            said = f"'{contrast}'" if contrast else "the scan's name"
            raise MedganError(f"{said} does not say a contrast that BIDS has a suffix for", hint=_CHOOSE_CONTRAST)
        kept = {entity: found[entity] for entity in _ENTITIES if entity in found and entity not in ("res", "desc")}
        return cls(label, suffix, kept)

    def with_entities(self, **entities: str) -> BidsName:
        """The same image with other or further entities."""
        return replace(self, entities={**self.entities, **entities})

    @property
    def stem(self) -> str:
        """Such as "sub-01_res-1mm_desc-sr_T1w"."""
        parts = [f"{entity}-{self.entities[entity]}" for entity in _ENTITIES if entity in self.entities]
        return "_".join([f"sub-{self.subject}", *parts, self.suffix])

    @property
    def folder(self) -> Path:
        """Such as sub-01/ses-2/anat, from the dataset's root."""
        session = [f"ses-{self.entities['ses']}"] if "ses" in self.entities else []
        return Path(f"sub-{self.subject}", *session, "anat")

    @property
    def path(self) -> Path:
        """The image from the dataset's root."""
        return self.folder / f"{self.stem}.nii.gz"


def suffix_of(word: str) -> str | None:
    """The BIDS suffix of the contrast that a word means beyond doubt, such as T1w for "mprage"; None for others."""
    return _CONTRASTS.get(word.lower())


_CHOOSE_CONTRAST = f"Give --contrast, one of {', '.join(SUFFIXES)}."


def write_bids(volume: Volume, root: str | Path, name: BidsName, *, description: str, about: Mapping[str, Any]) -> Path:
    """Write an image and its sidecar, both or neither, into a dataset whose description is there already.

    Args:
        volume: to be written.
        root: of the dataset.
        name: of the image; with the entity res the sidecar gets the mandatory field Resolution.
        description: what the image is, one sentence.
        about: further fields of the sidecar.

    Returns:
        The image's path.

    Raises:
        MedganError: a place cannot be written.
    """
    path = Path(root) / name.path
    spacing = " x ".join(f"{step:.4g}" for step in volume.spacing)
    sidecar: dict[str, Any] = {"Description": description} if name.entities.get("desc") else {}
    if "res" in name.entities:
        sidecar["Resolution"] = f"Voxels of {spacing} mm"
    for fact, (field_name, factor) in _FACTS.items():
        if isinstance(volume.metadata.get(fact), float | int):
            sidecar[field_name] = round(float(volume.metadata[fact]) * factor, 9)
    sidecar |= about
    write_nifti(volume, path)
    try:
        write_json(path.with_name(f"{name.stem}.json"), sidecar)
    except MedganError:
        path.unlink()
        raise
    return path


def describe_dataset(
    root: str | Path, name: str, kind: str, readme: str, sources: Sequence[Mapping[str, str]] = ()
) -> None:
    """Write `dataset_description.json` and `README`, unless the dataset is there already.

    Args:
        root: folder of the dataset.
        name: of the dataset.
        kind: `RAW` or `DERIVATIVE`.
        readme: text of the README.
        sources: entries of SourceDatasets (fields DOI, URL, Version), for derivatives.

    Raises:
        MedganError: a dataset of another kind, or something else that is no dataset, stands there.
    """
    root = Path(root)
    target = root / "dataset_description.json"
    # Looked at before the description is: another process that begins the same dataset writes the description first.
    is_begun = root.exists() and any(not path.name.startswith(".") for path in root.iterdir())
    if target.exists():
        _require_kind(target, kind)
        return
    if is_begun:
        raise MedganError(
            "this folder is not empty, and no BIDS dataset", file=root, hint="Choose another output folder."
        )
    content: dict[str, Any] = {"Name": name, "BIDSVersion": BIDS_VERSION, "DatasetType": kind}
    content["GeneratedBy"] = [
        {"Name": "medgan", "Version": __version__, "Description": "For research, not for diagnosis."}
    ]
    if kind == DERIVATIVE and sources:
        content["SourceDatasets"] = [dict(source) for source in sources]
    write_json(target, content)
    write_text(root / "README.md", readme)


def source_of(image: Path, root: Path) -> dict[str, str] | None:
    """How a derivative refers to the dataset that an image lies in: by DOI, or by place if the derivative stands inside
    it.

    No name of a folder is used: it may be a person's.

    Args:
        image: a NIfTI file.
        root: of the derivative.

    Returns:
        An entry of SourceDatasets; None if the image lies in no dataset, or nothing can be said of it.
    """
    for folder in image.absolute().parents:
        if (folder / "dataset_description.json").is_file():
            content = read_json(folder / "dataset_description.json")
            entry = {"Version": str(content["DatasetVersion"])} if content.get("DatasetVersion") else {}
            if content.get("DatasetDOI"):
                return {"DOI": str(content["DatasetDOI"]), **entry}
            if folder in root.absolute().parents:
                depth = len(root.absolute().relative_to(folder).parts)
                return {"URL": "/".join([".."] * depth), **entry}
            return entry or None
    return None


def is_skull_stripped(image: Path) -> bool:
    """Whether the sidecar of a NIfTI file says that it shows the brain alone (SkullStripped); not, if it says nothing.

    Derivatives must say it. medgan itself takes no skull away.
    """
    sidecar = image.with_name(re.sub(r"\.nii(\.gz)?$", "", image.name, flags=re.IGNORECASE) + ".json")
    if not image.is_file() or not sidecar.is_file():
        return False
    content = read_json(sidecar)
    return isinstance(content, dict) and content.get("SkullStripped") is True


def resolution_label(factor: Sequence[float] | None, spacing: Sequence[float] | None) -> str:
    """A label for the entity res: "1mm" or "1x1x2mm" for a spacing, "1x1x4times" for a factor, else "high"."""
    if spacing is not None:
        return f"{_numbers(spacing)}mm"
    if factor is not None:
        return f"{_numbers(factor)}times"
    return "high"


def _numbers(values: Sequence[float]) -> str:
    texts = [f"{value:.4g}".replace(".", "p") for value in values]
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)


def _require_kind(path: Path, kind: str) -> None:
    content = read_json(path)
    there = content.get("DatasetType", RAW) if isinstance(content, dict) else None
    makers = [maker.get("Name") for maker in content.get("GeneratedBy", [])] if isinstance(content, dict) else []
    if there != kind or (kind == DERIVATIVE and "medgan" not in makers):
        raise MedganError(
            f"a BIDS dataset stands here that is no {kind} dataset of medgan", file=path, hint="Choose another folder."
        )

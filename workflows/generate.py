"""Draw synthetic scans from a model into files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError, nearest
from medgan.reporter import Reporter
from medgan.workflows.bids import (
    BIDS,
    begin_synthetic,
    synthetic_paths,
    write_synthetic,
    write_synthetic_participants,
)
from medgan.workflows.formats import DICOM, NIFTI
from medgan.workflows.places import new_folder
from medgan.workflows.release import released_model
from medgan.workflows.sample_audit import SampleAudit

if TYPE_CHECKING:
    from medgan.inference.model import Model
    from medgan.labels import LabelValues
    from medgan.volume import Volume

# No MR image is as dark, and hardly a CT scan is not.
_AIR_HU = -500


def generate_scans(
    model: str | Path,
    count: int,
    out: str | Path,
    *,
    seed: int = 0,
    truncation: float = 1.0,
    labels: LabelValues = MappingProxyType({}),
    device: str = "auto",
    format: str = NIFTI,
    contrast: str | None = None,
    audit: str | Path | None = None,
    allow_memorised: bool = False,
    reporter: Reporter | None = None,
) -> list[Path]:
    """Write `count` synthetic scans and `samples.json`, which says of each that and how it was made.

    Args:
        model: as `medgan.workflows.models.resolve_model` takes it.
        count: how many.
        out: a folder; it appears whole or not at all.
        seed: of the latent vectors.
        truncation: see `medgan.inference.generate.generate`.
        labels: see there.
        device: "auto", "cpu", "cuda", ...
        format: "nifti", a file for each scan, "dicom", a folder for each, which is a patient of its own, or "bids", a
            derivative dataset.
        contrast: for BIDS, the suffix such as "T1w": what the model was trained on.
        audit: folder of the cohort that the model was trained on: samples that copy one of its scans are left out, and
            the next ones drawn instead.
        allow_memorised: draw from a model that its audit found to copy training scans all the same.
        reporter: where progress goes.

    Raises:
        MedganError: the model or a number is wrong, the model's audit refuses it, or `out` exists and is not empty.
    """
    from medgan.inference.generate import generate

    reporter = reporter or Reporter()
    output = Output.checked(out, format, contrast, truncation)
    loaded = released_model(model, device, "generate", allow_memorised=allow_memorised, reporter=reporter)
    options: dict[str, Any] = {"seed": seed, "truncation": truncation, "labels": labels, "allow_memorised": True}
    if audit is None:
        return write_samples(generate(loaded, count, **options), count, output, loaded, reporter)
    checked = SampleAudit(loaded, audit, reporter)
    passed = checked.passed(generate(loaded, checked.to_draw(count), **options), count)
    return write_samples(passed, count, output, loaded, reporter, also={"audit": checked.record})


@dataclass(frozen=True)
class Output:
    """Where and how synthetic scans are written.

    Args:
        folder: appears whole or not at all.
        format: "nifti", "dicom" or "bids".
        contrast: for BIDS, the suffix.
        truncation: of all samples, for the record.
    """

    folder: Path
    format: str = NIFTI
    contrast: str | None = None
    truncation: float = 1.0

    @classmethod
    def checked(cls, out: str | Path, format: str, contrast: str | None, truncation: float) -> Output:
        """The same, once it is clear that it can be written.

        Raises:
            MedganError: the format or the truncation is none, the contrast does not go with the format, or `out`
                exists and is not empty.
        """
        if format not in _WRITERS:
            raise MedganError(f"'{format}' is no format for synthetic scans", hint=nearest(format, list(_WRITERS)))
        if format == BIDS:
            synthetic_paths(contrast, 1)
        elif contrast is not None:
            raise MedganError("--contrast is for BIDS", hint="Add --format bids, or leave it out.")
        folder = new_folder(out)
        if not (math.isfinite(truncation) and truncation > 0):
            raise MedganError(
                f"truncation is {truncation:g}; it must be a number above 0", hint="1 leaves samples as is."
            )
        return cls(folder, format, contrast, truncation)


def write_samples(
    volumes: Iterable[Volume],
    count: int,
    output: Output,
    model: Model,
    reporter: Reporter,
    *,
    also: Mapping[str, Any] = MappingProxyType({}),
    finish: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write synthetic scans and `samples.json`, one after the other as they are made.

    Args:
        volumes: with the metadata that `medgan.inference.generate.as_scan` puts there.
        count: how many there will be.
        output: where to.
        model: that makes them.
        reporter: where progress goes.
        also: entries of `samples.json` about all of them.
        finish: puts further files into the folder, which is a temporary one, before it appears.

    Returns:
        The files, or for DICOM the folders.
    """
    from medgan import __version__
    from medgan.data.lineage import trained_on_of
    from medgan.files import atomic_path, write_json

    suffix, write = _WRITERS[output.format]
    names = [f"synthetic-{index:04d}{suffix}" for index in range(count)]
    with atomic_path(output.folder) as temporary:
        temporary.mkdir()
        if output.format == BIDS:
            names = begin_synthetic(temporary, output.contrast, count)
        records = []
        for volume, name in zip(volumes, names, strict=True):
            _write(write, volume, temporary / name, output.folder)
            about = volume.metadata
            made = {key: about[key] for key in ("labels", "made") if key in about} | _identity(volume, output.format)
            records.append({"file": name, "synthetic": True, "seed": about["seed"], "index": about["index"], **made})
            reporter.progress("generate", len(records), count)
        content = {
            "synthetic": True,
            "notice": "These scans show no real person. They were made by a generative model; not for diagnosis.",
            "medgan_version": __version__,
            "model_sha256": model.sha256,
            "truncation": output.truncation,
            "trained_on": trained_on_of(model.config),
            **also,
            "samples": records,
        }
        write_json(temporary / "samples.json", content)
        if output.format == BIDS:
            write_synthetic_participants(temporary, [record.get("labels", {}) for record in records])
        if finish is not None:
            finish(temporary)
    return [output.folder / name for name in names]


def _identity(volume: Volume, format: str) -> dict[str, Any]:
    """By what a scan is known wherever it goes; DICOM rounds voxels, so that its scans are known by their folders."""
    from medgan.data.lineage import voxels_sha256

    known = {} if format == DICOM else {"voxels_sha256": voxels_sha256(volume)}
    # What comes close to a real scan descends from it, and nothing says which one that is.
    return known | ({"parents": None} if volume.metadata.get("projected") else {})


def _write(write: Callable[[Volume, Path], object], volume: Volume, path: Path, out: Path) -> None:
    """Write one scan; what goes wrong is told of the folder that was asked for, not of its temporary stand-in."""
    try:
        write(volume, path)
    except MedganError as error:
        raise MedganError(error.what, file=out / path.name, hint=error.hint) from error


def _nifti(volume: Volume, path: Path) -> None:
    from medgan.io import write_volume

    write_volume(volume, path)


def _dicom(volume: Volume, path: Path) -> None:
    """A series of what the sample looks like: CT if air is as dark in it as in Hounsfield units, else MR."""
    from medgan.io.dicom.synthetic import SyntheticIdentity, write_synthetic

    about = volume.metadata
    identity = SyntheticIdentity(
        *(about["model_sha256"], about["seed"], about["index"], about["truncation"]), variant=about.get("variant", "")
    )
    write_synthetic(volume, path, identity=identity, modality="CT" if volume.data.min() <= _AIR_HU else "MR")


# What the name of a scan ends in, and how it is written.
_WRITERS: dict[str, tuple[str, Callable[[Volume, Path], None]]] = {
    NIFTI: (".nii.gz", _nifti),
    DICOM: ("", _dicom),
    BIDS: (".nii.gz", write_synthetic),
}

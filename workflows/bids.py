"""Results as BIDS datasets: which file each scan becomes, and what is said beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.workflows.batch import blamed
from medgan.workflows.formats import Format, Origin
from medgan.workflows.places import writable_file

if TYPE_CHECKING:
    from medgan.io import Scan
    from medgan.io.bids import BidsName
    from medgan.volume import Volume

BIDS = "bids"

_README = """# {title}

{text}

Made by medgan {version}. For research, not for diagnosis.
"""
_RESTORED = "Scans restored to a higher resolution by software; each sidecar says from what and how."
_SYNTHETIC = (
    "These scans show no real person. They were made by a generative model; each sidecar holds the seed and the index "
    "by which the model makes the scan again."
)
_CONVERTED = "Scans converted to NIfTI; voxels and their places are unchanged."


def bids_format(
    *,
    subject: str | None = None,
    contrast: str | None = None,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
) -> Format:
    """The format of a derivative dataset with restored scans.

    Args:
        subject: label of the subject; without it the scans' names must say it.
        contrast: suffix such as "T1w"; without it the scans' names must say it.
        factor: that the scans are upscaled by, for the label of the entity res.
        spacing: or to which, in mm.
    """
    from medgan.io.bids import resolution_label

    label = resolution_label(factor, spacing)
    names: dict[Path, BidsName] = {}
    roots: dict[Path, tuple[Path, Path]] = {}

    def targets(scans: Sequence[Scan], out: Path, single_input_file: bool) -> list[Path]:
        require_dataset_name(out)
        found = []
        for scan in scans:
            name = named(scan, subject, contrast).with_entities(res=label, desc="sr")
            target = writable_file(out / name.path, [scan.path])
            if target in names:
                raise MedganError(
                    f"two scans would become {name.stem}",
                    file=scan.path,
                    hint="Name them by subject, session or run, or upscale them one by one.",
                )
            names[target], roots[target] = name, (out, scan.path)
            found.append(target)
        return found

    def write(volume: Volume, target: Path, origin: Origin) -> None:
        root, source = roots[target]
        _write_restored(volume, root, names[target], origin, source)

    return Format(targets, write, has_sidecar=True)


def named(scan: Scan, subject: str | None, contrast: str | None) -> BidsName:
    """The BIDS name of a scan.

    Raises:
        MedganError: its name and the options do not say who and what contrast it is.
    """
    from medgan.io.bids import BidsName

    try:
        return BidsName.of_scan(scan.name, subject=subject, contrast=contrast)
    except MedganError as error:
        raise blamed(error, scan.path) from error


def require_dataset_name(path: Path) -> None:
    """Refuse a file's name for a dataset.

    Raises:
        MedganError: it ends as files do.
    """
    if path.name.lower().endswith((".nii", ".nii.gz", ".json")):
        raise MedganError("a BIDS dataset is a folder, this is the name of a file", file=path, hint="Name a folder.")


def write_converted(volume: Volume, root: Path, name: BidsName) -> Path:
    """Put a converted scan into a raw dataset, which is begun if there is none."""
    from medgan import __version__
    from medgan.io.bids import RAW, describe_dataset, write_bids

    title = "Converted scans"
    describe_dataset(root, title, RAW, _README.format(title=title, text=_CONVERTED, version=__version__))
    return write_bids(volume, root, name, description="", about={"MedganHistory": list(volume.history)})


def begin_synthetic(root: Path, contrast: str | None, count: int) -> list[str]:
    """Begin a dataset of synthetic scans in an empty folder: a derivative, so that nobody takes it for raw data.

    Each scan is a subject of its own, sub-synthetic0000 and so on; `write_synthetic_participants` says so of every one.

    Returns:
        The paths of `count` scans from the root.

    Raises:
        MedganError: the contrast is none that BIDS has a suffix for, or is not given.
    """
    from medgan import __version__
    from medgan.files import write_text
    from medgan.io.bids import DERIVATIVE, describe_dataset

    paths = synthetic_paths(contrast, count)
    title = "Synthetic scans"
    describe_dataset(root, title, DERIVATIVE, _README.format(title=title, text=_SYNTHETIC, version=__version__))
    # What medgan says of all samples together is no file of BIDS.
    write_text(root / ".bidsignore", "samples.json\n")
    return paths


def write_synthetic_participants(root: Path, labels: Sequence[Mapping[str, object]]) -> None:
    """Write `participants.tsv` of synthetic scans: that each is synthetic, and the labels that it was asked to have."""
    from medgan.files import write_text

    names = list(dict.fromkeys(name for row in labels for name in row))
    rows = [["participant_id", "synthetic", *names]]
    for index, row in enumerate(labels):
        values = ["n/a" if row.get(name) is None else str(row[name]) for name in names]
        rows.append([f"sub-synthetic{index:04d}", "true", *values])
    write_text(root / "participants.tsv", "\n".join("\t".join(row) for row in rows) + "\n")


def synthetic_paths(contrast: str | None, count: int) -> list[str]:
    """Where `count` synthetic scans go, from the dataset's root.

    Raises:
        MedganError: the contrast is none that BIDS has a suffix for, or is not given.
    """
    from medgan.io.bids import BidsName

    names = [
        BidsName.of_scan(f"sub-synthetic{index:04d}", contrast=contrast).with_entities(desc="synthetic")
        for index in range(count)
    ]
    return [name.path.as_posix() for name in names]


def write_synthetic(volume: Volume, path: Path) -> None:
    """Write one synthetic scan with a sidecar that says what it is and how it is made again."""
    from medgan.files import write_json
    from medgan.io.nifti import write_nifti

    about = volume.metadata
    write_nifti(volume, path)
    sidecar = {
        "Description": "Made by a generative model; it shows no real person. Not for diagnosis.",
        "Synthetic": True,
        "SkullStripped": False,
        "MedganModelSHA256": about["model_sha256"],
        "MedganSeed": about["seed"],
        "MedganIndex": about["index"],
        "MedganTruncation": about["truncation"],
        **({"MedganLabels": about["labels"]} if "labels" in about else {}),
    }
    if "made" in about:
        sidecar["MedganMade"] = about["made"]
    write_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"), sidecar)


def _write_restored(volume: Volume, root: Path, name: BidsName, origin: Origin, source: Path) -> None:
    from medgan import __version__
    from medgan.io.bids import DERIVATIVE, describe_dataset, is_skull_stripped, source_of, write_bids

    title = "Scans restored by medgan"
    referred = source_of(source, root)
    describe_dataset(
        root,
        title,
        DERIVATIVE,
        _README.format(title=title, text=_RESTORED, version=__version__),
        [referred] if referred else [],
    )
    about = {
        "SkullStripped": is_skull_stripped(source),
        "MedganHistory": list(volume.history),
        "MedganModelSHA256": origin.model_sha256,
        "MedganOutputCheck": origin.findings or None,
        "MedganNotice": "Upscaled by software for research; not for diagnosis.",
    }
    about = {key: value for key, value in about.items() if value is not None}
    write_bids(volume, root, name, description="Restored to a higher resolution by medgan.", about=about)

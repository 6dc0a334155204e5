"""Which class each scan of a folder is of, and who can tell classes apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError, nearest

if TYPE_CHECKING:
    import numpy as np

    from medgan.data.participants import Participants
    from medgan.evaluation.classes import Classifier
    from medgan.io import Scan

_SHOWN = 5


def labels_of_scans(folder: str | Path, scans: Sequence[Scan], label: str) -> tuple[str, ...]:
    """The value of a label for each scan, as text.

    It comes from `samples.json` of `medgan generate` in the folder, or from a table `participants.tsv` or
    `participants.csv` there, as `medgan prepare` reads them.

    Args:
        folder: where the scans were found.
        scans: in the order wanted.
        label: its name, which is a column of the table.

    Raises:
        MedganError: the folder has neither, or a scan has no such label.
    """
    folder = Path(folder)
    rows = _rows(folder, scans)
    known = sorted({name for row in rows for name in row})
    if label.lower() not in {name.lower() for name in known}:
        raise MedganError(
            f"no scan here has a label '{label}'",
            file=folder,
            hint=nearest(label, known) if known else "Put a participants.tsv with that column beside the scans.",
        )
    values = [{name.lower(): value for name, value in row.items()}.get(label.lower()) for row in rows]
    lacking = [scan.name for scan, value in zip(scans, values, strict=True) if value is None]
    if lacking:
        shown = ", ".join(lacking[:_SHOWN]) + (" ..." if len(lacking) > _SHOWN else "")
        raise MedganError(
            f"label {label} is missing for {len(lacking)} of {len(scans)} scans ({shown})",
            file=folder,
            hint="Complete the table, or evaluate only the scans that have the label.",
        )
    return tuple(str(value) for value in values)


def classifier_of(path: str | Path) -> Classifier:
    """A classifier from a TorchScript file: a program, which runs with your rights.

    It takes float32 (1, 1, X, Y, Z), normalised so that the 0.5th percentile of the scan is 0 and the 99.5th 1, in RAS
    order, and gives the scores of the classes before the softmax, (1, K).

    Raises:
        MedganError: there is no such file here, or it is no TorchScript.
    """
    import torch

    path = Path(path)
    hint = "Save a network for volumes with torch.jit.trace or torch.jit.script and torch.jit.save."
    if not path.is_file():
        raise MedganError("there is no such classifier", file=path, hint=hint)
    try:
        network = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        raise MedganError("this is no TorchScript file", file=path, hint=hint) from error

    def probabilities(volume: np.ndarray) -> np.ndarray:
        import numpy as np

        batch = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
        try:
            with torch.no_grad():
                scores = network(batch)
        except RuntimeError as error:
            message = str(error).strip().splitlines()[-1]
            raise MedganError(
                f"the classifier cannot judge a volume of {' x '.join(map(str, volume.shape))} voxels ({message})",
                file=path,
                hint="It must take (1, 1, X, Y, Z) and give one score for each class, (1, K).",
            ) from error
        return np.asarray(torch.softmax(scores.double().flatten(), 0).numpy())

    return probabilities


def _rows(folder: Path, scans: Sequence[Scan]) -> list[Mapping[str, Any]]:
    """What is known of each scan, nothing where it is not in a table."""
    from medgan.data.participants import Participants

    if (folder / "samples.json").is_file():
        return _rows_of_samples(folder, scans)
    table = Participants.beside(folder) if folder.is_dir() else None
    if table is None:
        raise MedganError(
            "nothing here says which class a scan is of",
            file=folder,
            hint="Put a participants.tsv beside the scans, with a column participant_id or file and one for the label.",
        )
    return [_row(folder, scan, table) for scan in scans]


def _rows_of_samples(folder: Path, scans: Sequence[Scan]) -> list[Mapping[str, Any]]:
    from medgan.files import read_json

    samples = read_json(folder / "samples.json")["samples"]
    by_file = {PurePosixPath(record["file"]): record.get("labels", {}) for record in samples}
    return [by_file.get(_within(folder, scan), {}) for scan in scans]


def _row(folder: Path, scan: Scan, table: Participants) -> Mapping[str, str]:
    """The row about a scan or its subject."""
    from medgan.data.participants import entity_of, labels_in, subject_by_name

    path = _within(folder, scan)
    row = table.row_of_file(path)
    subjects = (entity_of(path), subject_by_name(path, scan.series is not None))
    for subject in subjects:
        row = row or (table.row_of_subject(subject) if subject is not None else None)
    return labels_in(row) if row is not None else {}


def _within(folder: Path, scan: Scan) -> PurePosixPath:
    """A scan's path from the folder."""
    return PurePosixPath(scan.path.absolute().relative_to(folder.absolute()).as_posix())

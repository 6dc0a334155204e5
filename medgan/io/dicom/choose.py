"""Which of the series and volumes that were found is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medgan.errors import MedganError
from medgan.io.dicom.roles import IMAGE
from medgan.io.dicom.scan import Damaged, DicomSeries


def require_found(found: Sequence[DicomSeries], damaged: Sequence[Damaged], path: Path) -> None:
    """Refuse a folder in which there is no DICOM object, or damaged files and no image.

    Raises:
        MedganError: that is so; the message says what there is.
    """
    if found and (not damaged or any(one.role == IMAGE for one in found)):
        return
    reasons = "".join(f"; {file.name}: {reason}" for file, reason in damaged[:3])
    only = f", only {left_out(found)}" if found else ""
    raise MedganError(
        f"no DICOM image here{only}{reasons}", file=path, hint="Name a folder that holds the files of a series."
    )


def chosen_volumes(found: Sequence[DicomSeries], path: Path, uid: str | None = None) -> list[DicomSeries]:
    """All volumes of the one series meant.

    Args:
        found: what `find_series` found.
        path: where, for messages.
        uid: SeriesInstanceUID; without it there must be one series of images. A localiser and the like is taken only if
            it is named.

    Raises:
        MedganError: there is no such series, or more than one; the message lists those that there are.
    """
    matching = [one for one in found if (one.role == IMAGE if uid is None else one.uid == uid)]
    if uid is not None and any(one.role == IMAGE for one in matching):
        matching = [one for one in matching if one.role == IMAGE]
    if not matching and uid is None:
        raise MedganError(
            f"no image series here, only {left_out(found)}",
            file=path,
            hint="Name a folder with scans; a localiser is read when it is chosen by its SeriesInstanceUID.",
        )
    if not matching:
        raise MedganError(f"no series '{uid}' here", file=path, hint=f"There is: {_listed(found)}.")
    series = {(one.uid, one.folder) for one in matching}
    if len(series) > 1:
        hint = "Name a folder that holds one of them" + (", or choose one by its UID." if uid is None else ".")
        raise MedganError(f"{len(series)} DICOM series here: {_listed(matching)}", file=path, hint=hint)
    return matching


def chosen_volume(
    found: Sequence[DicomSeries], path: Path, uid: str | None = None, index: int | None = None
) -> DicomSeries:
    """The one volume meant.

    Args:
        found: see `chosen_volumes`.
        path: see there.
        uid: see there.
        index: which volume of the series, counted from 0; not needed if it holds one.

    Raises:
        MedganError: the same, or the series holds several volumes and none was chosen; the message lists them.
    """
    volumes = chosen_volumes(found, path, uid)
    if index is None and len(volumes) == 1:
        return volumes[0]
    count = "1 volume" if len(volumes) == 1 else f"{len(volumes)} volumes"
    if index is None:
        raise MedganError(
            f"this series holds {count}: {labels(volumes)}", file=path, hint="Choose one by its index (--index)."
        )
    if not 0 <= index < len(volumes):
        raise MedganError(
            f"no volume {index} in this series of {count}", file=path, hint=f"Volumes count from 0: {labels(volumes)}."
        )
    return volumes[index]


def labels(volumes: Sequence[DicomSeries], most: int = 12) -> str:
    """The volumes of a series by index and label, such as "0: echo 1, 1: echo 2"."""
    words = [f"{index}: {one.label or one.counted()}" for index, one in enumerate(volumes)]
    return ", ".join(words if len(words) <= most else [*words[: most - 1], "...", words[-1]])


def left_out(found: Sequence[DicomSeries]) -> str:
    """The objects that are no images, such as "a localiser (3 files)"."""
    words = [f"{_with_article(one.role)} ({one.counted()})" for one in found if one.role != IMAGE]
    return ", ".join(dict.fromkeys(words))


def _with_article(role: str) -> str:
    return f"{'an' if role[0] in 'aeiou' else 'a'} {role}"


def _listed(found: Sequence[DicomSeries]) -> str:
    """Each series once, by its first volume."""
    firsts: dict[tuple[str, Path], list[DicomSeries]] = {}
    for one in found:
        firsts.setdefault((one.uid, one.folder), []).append(one)
    return "; ".join(
        str(volumes[0]) + (f" and {len(volumes) - 1} more volumes" if len(volumes) > 1 else "")
        for volumes in firsts.values()
    )

"""De-identify DICOM series: every file of a series, or none of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.batch import BatchResult, blamed
from medgan.workflows.places import new_folder

if TYPE_CHECKING:
    from medgan.defacing import Face
    from medgan.io.dicom.deidentify import PrivateAttribute
    from medgan.io.dicom.pseudonyms import Pseudonyms
    from medgan.io.dicom.scan import DicomSeries, SliceHeader


def deidentify(
    input: str | Path,
    output: str | Path,
    *,
    key_file: str | Path | None = None,
    series: str | None = None,
    deface: bool = False,
    keep_private: Sequence[str] = (),
    pixels_checked: bool = False,
    reporter: Reporter | None = None,
) -> BatchResult:
    """Write de-identified copies of the DICOM series in a folder; see `medgan.io.dicom.deidentify` for the rules.

    Objects without pixels (reports, documents, presentation states) are not copied, because they are text. Files are
    numbered by their instance numbers; names and folders of the source are not used.

    Args:
        input: a folder with any number of series, or a file.
        output: a new folder: it holds the files of one series, or a folder series-001 and so on for each of several.
        key_file: holds the secret key; without it the environment variable MEDGAN_DEIDENTIFY_KEY does. The same key
            gives the same stand-ins in every run.
        series: only the series with this SeriesInstanceUID.
        deface: remove the face as well (`medgan.defacing`); a series in which it cannot be found is refused, localisers
            among them.
        keep_private: private attributes to keep, such as "SIEMENS MR HEADER:0019,0C".
        pixels_checked: somebody looked at the pixels and saw no text about the patient, so that images need not say so
            themselves; those that say that they show such text are still refused.
        reporter: where progress goes.

    Returns:
        The folders written, and for each series that was refused its folder and why.

    Raises:
        MedganError: there is no key or no DICOM image, the output is not a new folder, or the only series is refused.
    """
    from medgan.files import atomic_path, require_existing
    from medgan.io.dicom.deidentify import PrivateAttribute
    from medgan.io.dicom.pseudonyms import Pseudonyms, read_key

    reporter = reporter or Reporter()
    pseudonyms = Pseudonyms(read_key(key_file))
    kept = frozenset(PrivateAttribute.parsed(text) for text in keep_private)
    place = new_folder(output, hint="Name a new folder.")
    found, failures = _series_in(require_existing(input), series, pseudonyms)
    several = len(found) > 1
    written: list[Path] = []
    with atomic_path(place) as temporary:
        temporary.mkdir()
        for number, volumes in enumerate(found, start=1):
            name = f"series-{number:03d}" if several else ""
            reporter.progress("de-identify", number - 1, len(found), name)
            try:
                with atomic_path(temporary / (name or "only")) as folder:
                    folder.mkdir()
                    _write_series(volumes, folder, pseudonyms, kept, deface=deface, pixels_checked=pixels_checked)
            except MedganError as error:
                if not several:
                    raise blamed(error, volumes[0].folder) from error
                failures.append((volumes[0].folder, str(blamed(error, volumes[0].folder))))
                continue
            written.append(place / name)
        reporter.progress("de-identify", len(found), len(found))
        if not written:
            raise MedganError("; ".join(reason for _, reason in failures))
        if not several:
            for path in (temporary / "only").iterdir():
                path.rename(temporary / path.name)
            (temporary / "only").rmdir()
    return BatchResult(tuple(written), tuple(failures))


def require_no_other_options(options: Mapping[str, object]) -> None:
    """Refuse options of other conversions: de-identified copies are the same files, one for one.

    Raises:
        MedganError: one of them was given.
    """
    given = [name for name, value in options.items() if value is not None and value is not False]
    if given:
        raise MedganError(
            f"{', '.join(given)} cannot be joined with --deidentify, which copies DICOM files one for one",
            hint="De-identify first, and convert the copies.",
        )


def _series_in(
    path: Path, uid: str | None, pseudonyms: Pseudonyms
) -> tuple[list[list[DicomSeries]], list[tuple[Path, str]]]:
    """The volumes and other images of each series, in an order that the source's UIDs do not show in, and what cannot
    be read."""
    from medgan.io.dicom.scan import find_series, visible_files

    found, damaged = find_series(visible_files(path))
    groups: dict[tuple[str, Path], list[DicomSeries]] = {}
    for one in found:
        if one.slices[0].matrix != (0, 0) and uid in (None, one.uid):
            groups.setdefault((one.uid, one.folder), []).append(one)
    if not groups:
        what = "no DICOM image here" if uid is None else f"no images of a series '{uid}' here"
        reasons = "".join(f"; {file.name}: {reason}" for file, reason in damaged[:3])
        raise MedganError(what + reasons, file=path, hint="Name a folder that holds the files of a series.")

    def place(volumes: list[DicomSeries]) -> tuple[int, str]:
        number = volumes[0].number
        return number if number is not None else -1, pseudonyms.uid(volumes[0].uid)

    return sorted(groups.values(), key=place), list(damaged) if uid is None else []


def _write_series(
    volumes: Sequence[DicomSeries],
    folder: Path,
    pseudonyms: Pseudonyms,
    keep_private: frozenset[PrivateAttribute],
    *,
    deface: bool,
    pixels_checked: bool,
) -> None:
    """Write every file of one series."""
    damaged = sorted({(path, reason) for volume in volumes for path, reason in volume.damaged})
    if damaged:
        names = "; ".join(f"{path.name}: {reason}" for path, reason in damaged[:5])
        raise MedganError(
            f"damaged files among those of the series: {names}", hint="Take them away, or copy them again."
        )
    frames: dict[Path, list[tuple[SliceHeader, Face | None]]] = {}
    for volume in volumes:
        face = _face_of(volume) if deface else None
        for header in volume.slices:
            frames.setdefault(header.path, []).append((header, face))
    numbered = sorted(frames, key=_instance_number)
    for number, path in enumerate(numbered, start=1):
        target = folder / f"{number:06d}.dcm"
        try:
            _write_file(path, target, frames[path], pseudonyms, keep_private, pixels_checked=pixels_checked)
        except MedganError as error:
            raise blamed(error, path) from error


def _face_of(volume: DicomSeries) -> Face:
    from medgan.defacing import find_face
    from medgan.io.dicom.read import volume_of
    from medgan.io.dicom.roles import IMAGE

    if volume.role != IMAGE:
        raise MedganError(
            f"the series holds a {volume.role}, in which the face cannot be found", hint="Leave it out, or --deface."
        )
    return find_face(volume_of(volume))


def _instance_number(path: Path) -> tuple[int, Path]:
    from pydicom import dcmread

    from medgan.io.dicom.headers import HEADER_ERRORS

    dataset = dcmread(path, stop_before_pixels=True, specific_tags=["InstanceNumber"], force=True)
    try:
        return int(dataset.get("InstanceNumber") or 0), path
    except HEADER_ERRORS:
        return 0, path


def _write_file(
    path: Path,
    target: Path,
    frames: Sequence[tuple[SliceHeader, Face | None]],
    pseudonyms: Pseudonyms,
    keep_private: frozenset[PrivateAttribute],
    *,
    pixels_checked: bool,
) -> None:
    from pydicom import dcmread, dcmwrite

    from medgan.defacing import METHOD
    from medgan.io.dicom.burned_in import burned_in_problem
    from medgan.io.dicom.deface import remove_face
    from medgan.io.dicom.deidentify import deidentified
    from medgan.io.dicom.headers import HEADER_ERRORS, pydicom_quiet

    with pydicom_quiet():
        try:
            dataset = dcmread(path, force=True)
            problem = burned_in_problem(dataset, pixels_checked=pixels_checked)
            if problem is not None:
                raise MedganError(f"not de-identified, because {problem}", hint="Clean or leave out such images.")
            faces = [(header, face) for header, face in frames if face is not None]
            method = METHOD if faces else None
            result = deidentified(dataset, pseudonyms, keep_private=keep_private, face_removed=method)
            if faces:
                remove_face(result, faces)
            dcmwrite(target, result, enforce_file_format=True)
        except OSError:
            raise
        except HEADER_ERRORS as error:
            reason = str(error) or type(error).__name__
            raise MedganError(
                f"the file cannot be copied ({reason})", hint="Copy it again, or leave it out."
            ) from error

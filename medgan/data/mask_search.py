"""Label maps on disk, and the scans that they belong to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medgan.data.mask_names import LABEL_NAME, Named, in_derivatives, label_maps_among, matched
from medgan.errors import MedganError
from medgan.files import require_existing
from medgan.io import Scan
from medgan.io.scans import find_scans, nifti_stem, survey

_SHOWN = 3
# Roles of DICOM objects that hold what is drawn on a scan.
_UNREADABLE = frozenset({"segmentation", "surface segmentation", "radiotherapy structures"})


@dataclass(frozen=True)
class MaskSearch:
    """What a search for the label maps of scans has found.

    Args:
        masks: the files and series that are label maps, or were made from scans otherwise, by `_identity`.
        answers: for each scan, by `_identity`, its label map or why it has none.
        unused: how many label maps belong to no scan.
    """

    masks: frozenset[tuple[str, str | None, int | None]]
    answers: Mapping[tuple[str, str | None, int | None], Scan | str]
    unused: int

    @classmethod
    def over(cls, folder: str | Path, scans: Sequence[tuple[Scan, PurePosixPath]]) -> MaskSearch:
        """Search a folder.

        Where scans and label maps lie side by side in the folder that was named for both, those are label maps whose
        names say so by a word such as "dseg" at the end. All that lies in a folder named for label maps alone is one.
        Where any name ends in "dseg", as in BIDS datasets, only those are label maps. What lies in a folder called
        "derivatives" under an input is no scan of its own.

        Args:
            folder: with the label maps; or the file of one.
            scans: each with its path from the input that it was found in.

        Raises:
            MedganError: there is nothing in the folder, or nothing that belongs to any scan.
        """
        folder = Path(os.path.normpath(require_existing(folder).absolute()))
        home = folder if folder.is_dir() else folder.parent
        both = {_identity(scan) for scan, path in scans if not _is_within(folder, _above(scan, path))}
        named = [
            one
            for one in _found_in(folder)
            if _identity(one) not in both or LABEL_NAME.search(nifti_stem(one.path)) is not None
        ]
        chosen = label_maps_among([PurePosixPath(one.path.as_posix()) for one in named])
        masks = [one for one, is_label_map in zip(named, chosen, strict=True) if is_label_map]
        kept = {_identity(one) for one in masks}
        others = [(scan, path) for scan, path in scans if _identity(scan) not in kept]
        derived = {_identity(scan) for scan, path in others if in_derivatives(path)}
        pictures = [(scan, path) for scan, path in others if _identity(scan) not in derived]
        names = [Named(PurePosixPath(Path(os.path.relpath(one.path, home)).as_posix())) for one in masks]
        found = matched([Named(path) for _, path in pictures], names)
        used = {answer for answer in found if isinstance(answer, int)}
        if not used:
            shown = [
                ", ".join(str(one) for one in some[:_SHOWN])
                for some in ([p for _, p in pictures], [n.path for n in names])
            ]
            raise MedganError(
                f"no label map belongs to any scan by its name (scans: {shown[0]}; label maps: {shown[1] or 'none'})",
                file=folder,
                hint="Name each label map as its scan, or as its scan with _dseg behind it.",
            )
        answers = {
            _identity(scan): masks[answer] if isinstance(answer, int) else answer
            for (scan, _), answer in zip(pictures, found, strict=True)
        }
        return cls(frozenset(kept | derived), answers, len(masks) - len(used))

    def is_mask(self, scan: Scan) -> bool:
        """Whether a file that was found as a scan is none: a label map, or another BIDS derivative."""
        return _identity(scan) in self.masks

    def refusal(self, scan: Scan) -> str | None:
        """Why a scan has no label map; None if it has one."""
        answer = self.answers[_identity(scan)]
        return answer if isinstance(answer, str) else None

    def of(self, scan: Scan) -> Scan:
        """The label map of a scan that has one."""
        answer = self.answers[_identity(scan)]
        assert isinstance(answer, Scan)
        return answer


def _found_in(folder: Path) -> list[Scan]:
    """Whatever can be read in a folder of label maps.

    Raises:
        MedganError: there is nothing, or nothing but DICOM objects that hold label maps in another way.
    """
    found = survey(folder)
    kinds = sorted({one.role for one in found.left_out} & _UNREADABLE)
    if kinds and not found.scans:
        raise MedganError(
            f"the label maps here are DICOM objects ({', '.join(kinds)}), which medgan does not read",
            file=folder,
            hint="Convert them to NIfTI label maps on the grid of their scans, such as by dcmqi (segimage2itkimage) "
            "or plastimatch, and name each as its scan.",
        )
    return list(found.scans) or find_scans(folder)  # which says why there is none


def _above(scan: Scan, path: PurePosixPath) -> Path:
    """The input folder in which a scan was found, given its path from there."""
    place = Path(os.path.normpath(scan.path.absolute()))
    return place.parents[len(path.parts) - 1] if path.parts else place


def _is_within(folder: Path, other: Path) -> bool:
    """Whether a folder lies in another one and is not the same."""
    return folder != other and folder.is_relative_to(other)


def _identity(scan: Scan) -> tuple[str, str | None, int | None]:
    return os.path.normpath(scan.path.absolute()), scan.series, scan.index

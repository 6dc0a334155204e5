"""Which label map belongs to which scan, by their names.

Three customs are known: equal names in two folders (Medical Segmentation Decathlon, and nnU-Net, which appends a
channel such as _0000 to scans), a word such as "dseg" or "seg" behind the scan's name (BIDS derivatives and most
others), and a folder for each subject that holds both.

In a BIDS dataset one visit may have several label maps. The one with the fewest entities of derivatives is meant: one
without a description before those that have one, one on the scan's own grid before those in a template's space.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medgan.data.participants import NO_NAME, TRAILING_CONTRAST
from medgan.io.scans import nifti_stem

LABEL_NAME = re.compile(r"(^|[_.-])(dseg|mask|aseg|aparc|labels?|seg|segmentation)$", re.IGNORECASE)
"""By what names give label maps away; the first three words are BIDS suffixes (BIDS 1.10, "Segmentations")."""

# Entities that derivatives have besides those of the scan that they were made from (BIDS 1.10, appendix on entities).
_DERIVED = re.compile(r"(?:desc|res|space|label|seg|atlas)-[A-Za-z0-9]+")
_CHANNEL = re.compile(r"_\d{4}$")
_DISCRETE = re.compile(r"(^|_)dseg$")
_DERIVATIVES = "derivatives"
_SHOWN = 3


@dataclass(frozen=True)
class Named:
    """A file as its name shows it: `path` is relative to the folder that was searched."""

    path: PurePosixPath

    @property
    def whole(self) -> str:
        """The path without the file's ending."""
        return self.path.with_name(self.stem).as_posix()

    @property
    def stem(self) -> str:
        """The name without the ending."""
        return nifti_stem(Path(self.path.name))

    @property
    def folder(self) -> str:
        """The nearest folder that is not called after a contrast, a visit or the like; empty if there is none."""
        return next((one.name for one in self.path.parents if one.name and not NO_NAME.fullmatch(one.name)), "")


def matched(scans: Sequence[Named], masks: Sequence[Named]) -> list[int | str]:
    """For every scan the index of its label map, or why it has none.

    The customs are tried from the strictest to the loosest; where several label maps fit equally well, none is taken.

    Args:
        scans: the scans.
        masks: the label maps; one may serve several scans of a subject, such as two contrasts on one grid.
    """
    levels = [_indexed([keys[level] for keys in map(_mask_keys, masks)]) for level in range(_LEVELS)]
    found: list[int | str] = []
    for scan in scans:
        rivals: list[int] = []
        for index, key in zip(levels, _scan_keys(scan), strict=True):
            fitting = _plainest(index.get(key, []) if key else [], masks)
            if len(fitting) == 1:
                found.append(fitting[0])
                break
            rivals = rivals or fitting
        else:
            named = ", ".join(masks[one].path.as_posix() for one in rivals[:_SHOWN])
            found.append(f"{len(rivals)} label maps fit its name: {named}" if rivals else "no label map has its name")
    return found


def _plainest(fitting: Sequence[int], masks: Sequence[Named]) -> list[int]:
    """Those of some label maps that have the fewest entities of derivatives."""
    entities = [len(_DERIVED.findall(masks[one].stem)) for one in fitting]
    return [one for one, count in zip(fitting, entities, strict=True) if count == min(entities)]


def _indexed(keys: Sequence[str]) -> dict[str, list[int]]:
    index: dict[str, list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        if key:
            index[key].append(number)
    return index


def in_derivatives(path: PurePosixPath) -> bool:
    """Whether a file lies in a BIDS dataset's folder of what was made from its scans."""
    return _DERIVATIVES in path.parts[:-1]


def label_maps_among(paths: Sequence[PurePosixPath]) -> list[bool]:
    """Which of the files in a folder of label maps are those.

    All of them; but where names end in dseg, the word of BIDS for label maps, only these: other derivatives, such as
    masks of the brain, probabilities and corrected scans, lie beside them.
    """
    found = [_DISCRETE.search(nifti_stem(Path(path.name))) is not None for path in paths]
    return found if any(found) else [True] * len(paths)


# Path, name, name with a label's word behind it, name without the contrast, folder.
_LEVELS = 5


def _scan_keys(scan: Named) -> tuple[str, ...]:
    core = _without_derived(TRAILING_CONTRAST.sub("", _CHANNEL.sub("", scan.stem)))
    return scan.whole, scan.stem, scan.stem, _unless_generic(core), _in_folder(scan, core)


def _mask_keys(mask: Named) -> tuple[str, ...]:
    core = _without_derived(LABEL_NAME.sub("", mask.stem))
    return mask.whole, mask.stem, core, _unless_generic(core), _in_folder(mask, core)


def _without_derived(stem: str) -> str:
    return "_".join(part for part in stem.split("_") if not _DERIVED.fullmatch(part))


def _unless_generic(core: str) -> str:
    return "" if NO_NAME.fullmatch(core) else core


def _in_folder(one: Named, core: str) -> str:
    """The folder where the name says nothing, such as sub-01/image.nii.gz."""
    return one.folder if NO_NAME.fullmatch(core) else ""

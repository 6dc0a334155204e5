"""To which series a file belongs whose header cannot be read.

A series with a slice that cannot be read must not pass for whole, but the other series of a folder should not suffer
for it. The UID is looked for in the file's bytes; failing that, files are written in the order of their names, so that
the neighbours tell.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medgan.io.dicom.files import is_dicom

# Where a SeriesInstanceUID may stand: far before the pixels, behind at most some private elements and thumbnails.
_HEADER_BYTES = 1 << 18
# Behind the tag stand a value representation and a length, or a length alone: four bytes each way.
_STATED = re.compile(rb"(?:\x20\x00\x0e\x00|\x00\x20\x00\x0e)[\s\S]{4}([0-9][0-9.]{3,63})")


# What a folder's readable images are called, and the SeriesInstanceUID of each.
Neighbours = Mapping[str, str]


def owners(damaged: Sequence[Path], images: Mapping[Path, Neighbours]) -> dict[Path, set[str]]:
    """For each damaged file, the SeriesInstanceUIDs of the series that it may belong to; none if it is a stranger.

    Args:
        damaged: the files.
        images: the readable images of each folder.
    """
    known = {uid for neighbours in images.values() for uid in neighbours.values()}
    stated = {path: stated_series(path, known) for path in damaged}
    counts = Counter(uid for uids in stated.values() for uid in uids)
    return {path: _owners_of(path, stated[path], counts, known, images.get(path.parent, {})) for path in damaged}


def _owners_of(path: Path, stated: set[str], counts: Counter[str], known: set[str], neighbours: Neighbours) -> set[str]:
    here = stated & set(neighbours.values())
    if here or stated & known:
        # Other series may be named as well, as the one that a slice was planned on.
        return here or stated & known
    if any(counts[uid] > 1 for uid in stated):
        return stated  # A series of which every file is damaged.
    kin = kin_of(path, neighbours)
    if stated or kin or not is_dicom(path):
        return kin
    return set(neighbours.values())


def kin_of(path: Path, neighbours: Neighbours) -> set[str]:
    """The series of those images whose names stand beside the file's; none if none is named in its way."""
    template = _template(path.name)
    kin = sorted((_natural(name), uid) for name, uid in neighbours.items() if _template(name) == template)
    uids = [uid for _, uid in kin]
    if 1 + sum(one != next_one for one, next_one in itertools.pairwise(uids)) > len(set(uids)):
        return set(uids)  # The names of the series are interleaved: a neighbour tells nothing.
    here = _natural(path.name)
    before = [uid for name, uid in kin if name < here][-1:]
    after = [uid for name, uid in kin if name >= here][:1]
    return {*before, *after}


def stated_series(path: Path, known: Iterable[str] = ()) -> set[str]:
    """Every SeriesInstanceUID among the file's first bytes, whatever else is wrong with it; one that the end of the
    file cuts off counts as each of the `known` ones that begin like it."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_HEADER_BYTES)
    except OSError:
        return set()
    uids: set[str] = set()
    for found in _STATED.finditer(start):
        uid = found.group(1).decode("ascii")
        uids |= {one for one in known if one.startswith(uid)} if found.end() == len(start) else {uid}
    return uids


def _template(name: str) -> str:
    """The name with its numbers taken out."""
    return re.sub(r"\d+", "#", name)


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts numbers within names by their size."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))

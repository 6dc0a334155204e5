"""Whether synthetic scans may be trained on when real ones are to test the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from medgan.data.cohort import Cohort, ScanRecord
from medgan.data.kinship import Generators, hashes_of, learned_by
from medgan.data.lineage import LeakError

_HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Descent:
    """What synthetic scans descend from.

    Args:
        scans: synthetic ones.
        of_training_scans: those made from the label map of a real training scan.
        of_others: those made from label maps that are none of the real cohort's.
        generators_learned_from: real training scans that their generators learned from.
        generators_learned_elsewhere: hashes in the record of the generators that belong to no scan of the real cohort.
        unknown: scans of which parents or generator's training scans are unknown.
    """

    scans: int
    of_training_scans: int
    of_others: int
    generators_learned_from: int
    generators_learned_elsewhere: int
    unknown: int

    def to_dict(self) -> dict[str, int]:
        """As plain JSON values."""
        return asdict(self)

    def cautions(self) -> list[str]:
        """What a reader of results must know."""
        found = []
        if self.unknown:
            found.append(
                f"Of {self.unknown} of {self.scans} synthetic scans nobody knows what they were made from. They may "
                "be children of scans of the test: then the figures of training on them are too good, and no one can "
                "tell by how much. Do not publish these figures as a test on unseen subjects."
            )
        if self.generators_learned_elsewhere or self.of_others:
            found.append(
                "The generators have also learned from scans, or made scans from label maps, that are none of this "
                "cohort's. By hash they are none of the test either, but resampled or rescaled copies have other "
                "hashes; and what they bring is no gain from the real training scans alone."
            )
        return found


def require_no_leak(real: Cohort, synthetic: Cohort, *, allow_unknown: bool = False) -> Descent:
    """Refuse synthetic scans that know of real validation or test scans.

    Args:
        real: the cohort whose held-out scans shall judge.
        synthetic: what is to be trained on.
        allow_unknown: take scans whose parents are unknown; the answer says how many there are.

    Raises:
        LeakError: a synthetic scan is a real one, was made from the label map of a held-out scan, or shows the very
            same; its generator learned from a held-out scan; or its parents are unknown. The message says which.
    """
    generators: Generators = synthetic.fingerprint.get("generators", {})
    held_out = _held_out(real)
    _refuse_real(real, synthetic)
    _refuse(real, _children(synthetic, held_out), "made from the label map of a {split} scan, or show the very same")
    learned = {
        record.name: (learned_by(record.origin, generators) if record.origin else None) for record in synthetic.records
    }
    pupils = {name: known & held_out.keys() for name, known in learned.items() if known is not None}
    taught = {name: held_out[sorted(known)[0]] for name, known in pupils.items() if known}
    _refuse(real, taught, "samples of a generator that was trained on a {split} scan")
    unknown = [
        record
        for record in synthetic.records
        if record.origin is None or record.origin.parents is None or learned[record.name] is None
    ]
    if unknown and not allow_unknown:
        raise LeakError(
            f"{len(unknown)} of {len(synthetic.records)} synthetic scans, such as '{unknown[0].name}', do not say what "
            "they or their generators were made from: they may know the scans that are to test",
            file=synthetic.folder,
            hint="Give the folder that medgan generate wrote, with its samples.json, of a model of this version; or "
            "say --allow-unknown-parents, and the card will say so.",
        )
    return _descent(real, synthetic, learned.values(), len(unknown))


def _held_out(real: Cohort) -> dict[str, ScanRecord]:
    """By hash the held-out scans and their label maps; a label map that a training scan has too tells of neither.

    Raises:
        LeakError: a held-out scan is a training scan as well.
    """
    training = {known: record for record in real.split("train") for known in hashes_of(record)}
    found: dict[str, ScanRecord] = {}
    for record in real.records:
        if record.split not in _HELD_OUT:
            continue
        twin = training.get(record.voxels_sha256 or record.sha256)
        if twin is not None:
            raise LeakError(
                f"the {record.split} scan '{record.name}' has the very voxels of the training scan '{twin.name}'",
                file=real.folder,
                hint="Leave out one of them, or give both one subject in the participants table.",
            )
        found |= {known: record for known in hashes_of(record) if known not in training}
    return found


def _refuse_real(real: Cohort, synthetic: Cohort) -> None:
    """Scans with the voxels of a real one are no synthetic ones, whatever their name.

    Raises:
        LeakError: there are such.
    """
    voxels = {one: record for record in real.records for one in (record.voxels_sha256, record.sha256) if one}
    for record in synthetic.records:
        same = voxels.get(record.voxels_sha256 or "") or voxels.get(record.sha256)
        if same is not None:
            raise LeakError(
                f"the scan '{record.name}' among the synthetic ones is the real {same.split} scan '{same.name}', by "
                "its voxels",
                file=synthetic.folder,
                hint="Leave it out.",
            )


def _children(synthetic: Cohort, held_out: Mapping[str, ScanRecord]) -> dict[str, ScanRecord]:
    """By the name of a synthetic scan, the held-out scan that it was made from or whose label map it has."""
    found = {}
    for record in synthetic.records:
        parents = record.origin.parents if record.origin is not None else None
        known = sorted((set(parents or ()) | hashes_of(record)) & held_out.keys())
        if known:
            found[record.name] = held_out[known[0]]
    return found


def _refuse(real: Cohort, leaking: Mapping[str, ScanRecord], what: str) -> None:
    if leaking:
        name, parent = next(iter(leaking.items()))
        raise LeakError(
            f"{len(leaking)} synthetic scans, such as '{name}', are {what.format(split=parent.split)} ('{parent.name}' "
            "of the real cohort): a test on it would be a test on what was learned from",
            file=real.folder,
            hint="Train the generator on this cohort, whose training scans it then keeps to, and draw scans for label "
            "maps of training scans alone.",
        )


def _descent(real: Cohort, synthetic: Cohort, learned: Iterable[frozenset[str] | None], unknown: int) -> Descent:
    training = [hashes_of(record) for record in real.split("train")]
    known = frozenset().union(*training) if training else frozenset()
    teachers: frozenset[str] = frozenset().union(*(one for one in learned if one is not None))
    parents: list[tuple[str, ...]] = [record.origin.parents or () for record in synthetic.records if record.origin]
    made: dict[str, Any] = {
        "of_training_scans": sum(bool(known.intersection(one)) for one in parents),
        "of_others": sum(bool(one) and not known.intersection(one) for one in parents),
        "generators_learned_from": sum(bool(one & teachers) for one in training),
        "generators_learned_elsewhere": len(teachers - known),
    }
    return Descent(scans=len(synthetic.records), unknown=unknown, **made)

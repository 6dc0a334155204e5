from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.data.cohort import Cohort
from medgan.data.kinship import Relative, split_kin, training_hashes
from medgan.data.lineage import LeakError, Origin, Origins, voxels_sha256
from medgan.data.prepare import prepare
from medgan.io import read_volume, write_volume
from medgan.volume import Volume

AFFINE = np.array([[-2.0, 0, 0, 5], [0, 0, 2, -7], [0, -3, 0, 1], [0, 0, 0, 1]])
MODEL = "a" * 64


def _volume(seed: int = 0, **metadata: object) -> Volume:
    data = np.random.default_rng(seed).integers(0, 900, (7, 8, 6)).astype(np.float32)
    return Volume(data, AFFINE, metadata=metadata)


def test_the_hash_is_that_of_values_in_ras_order() -> None:
    volume = _volume()
    ras = nib.as_closest_canonical(nib.Nifti1Image(volume.data[0], AFFINE))
    values = np.ascontiguousarray(ras.get_fdata(dtype=np.float32)[None])
    expected = hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()
    assert voxels_sha256(volume) == expected


def test_the_hash_survives_saving_in_other_ways_and_nothing_else(tmp_path: Path) -> None:
    volume, known = _volume(), voxels_sha256(_volume())
    image = nib.Nifti1Image(volume.data[0], AFFINE)
    ways = {
        "plain.nii": image,
        "packed.nii.gz": image,
        "ras.nii.gz": nib.as_closest_canonical(image),
        "short.nii.gz": nib.Nifti1Image(volume.data[0].astype(np.int16), AFFINE),
        "double.nii": nib.Nifti1Image(volume.data[0].astype(np.float64), AFFINE),
        "second.nii": nib.Nifti2Image(volume.data[0], AFFINE),
        "elsewhere.nii": nib.Nifti1Image(volume.data[0], AFFINE + np.eye(4, k=3) * 11),
    }
    for name, one in ways.items():
        nib.save(one, tmp_path / name)
        assert voxels_sha256(read_volume(tmp_path / name)) == known, name
    changed = volume.data.copy()
    changed[0, 3, 3, 3] += 1
    others = [volume.with_data(changed), volume.with_data(volume.data[:, ::-1]), _volume(1)]
    assert known not in {voxels_sha256(one) for one in others}
    assert voxels_sha256(volume.with_data(-0.0 * volume.data)) == voxels_sha256(volume.with_data(0.0 * volume.data))


def _generated(folder: Path, count: int, *, trained_on: list[str] | None, parents: list[str]) -> Path:
    """A folder as `medgan generate --masks` leaves it; sample i comes from parent i."""
    samples = []
    for number in range(count):
        volume = _volume(1000 + number, synthetic=True)
        name = f"images/synthetic-{number:04d}.nii.gz"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        write_volume(volume, folder / name)
        digest = voxels_sha256(read_volume(folder / name))
        samples.append({"file": name, "voxels_sha256": digest, "parents": [{"voxels_sha256": parents[number]}]})
    about = {"synthetic": True, "model_sha256": MODEL, "trained_on": trained_on, "samples": samples}
    (folder / "samples.json").write_text(json.dumps(about))
    return folder


def _real(folder: Path, count: int = 8) -> list[str]:
    """Scans of subjects sub-0 ..., and the hashes of their voxels."""
    folder.mkdir(parents=True)
    for number in range(count):
        nib.save(nib.Nifti1Image(_volume(number).data[0], AFFINE), folder / f"sub-{number}_T1w.nii.gz")
    return [voxels_sha256(_volume(number)) for number in range(count)]


def test_children_stand_with_their_parents(tmp_path: Path) -> None:
    known = _real(tmp_path / "real")
    made = _generated(tmp_path / "made", 8, trained_on=[], parents=known)
    for seed in range(3):
        cohort = prepare([tmp_path / "real", made], tmp_path / f"cohort{seed}", split=(0.4, 0.3, 0.3), seed=seed).cohort
        split_of = {record.voxels_sha256: record.split for record in cohort.records}
        children = [record for record in cohort.records if record.origin is not None]
        assert len(children) == 8
        for child in children:
            assert child.origin is not None
            assert child.origin.model_sha256 == MODEL
            (parent,) = child.origin.parents or ()
            assert child.split == split_of[parent]
    assert {record.split for record in cohort.records} == {"train", "validation", "test"}
    assert Cohort.load(cohort.folder).records == cohort.records


def test_renamed_copied_and_re_saved_children_are_known(tmp_path: Path) -> None:
    known = _real(tmp_path / "real")
    made = _generated(tmp_path / "made", 3, trained_on=[], parents=known)
    (tmp_path / "mixed").mkdir()
    for number in range(3):
        image = nib.as_closest_canonical(nib.load(made / "images" / f"synthetic-{number:04d}.nii.gz"))
        # A new header: the mark in its description is gone.
        plain = nib.Nifti1Image(np.asarray(image.dataobj, np.float64), image.affine)
        nib.save(plain, tmp_path / "mixed" / f"someone{7 - number}.nii")
    cohort = prepare([tmp_path / "real", tmp_path / "mixed", made / "images"], tmp_path / "cohort").cohort
    found = {one.name: one.origin for one in cohort.records if one.name.startswith("someone")}
    assert found == {f"someone{7 - n}": Origin(MODEL, (known[n],)) for n in range(3)}


def test_a_changed_file_counts_as_a_child_of_all(tmp_path: Path) -> None:
    known = _real(tmp_path / "real")
    made = _generated(tmp_path / "made", 3, trained_on=[], parents=known)
    write_volume(_volume(77, synthetic=True), made / "images" / "synthetic-0001.nii.gz")
    cohort = prepare([made / "images"], tmp_path / "cohort", split=(1, 0, 0)).cohort
    assert cohort.records[1].origin == Origin(MODEL, tuple(sorted(known[:3])))


def test_generators_keep_their_training_scans_in_training(tmp_path: Path) -> None:
    known = _real(tmp_path / "real")
    made = _generated(tmp_path / "made", 2, trained_on=known[:3], parents=["f" * 64] * 2)
    for seed in range(4):
        cohort = prepare([tmp_path / "real", made], tmp_path / f"cohort{seed}", split=(0.2, 0.4, 0.4), seed=seed).cohort
        by_hash = {record.voxels_sha256: record for record in cohort.records}
        assert {by_hash[one].split for one in known[:3]} == {"train"}
        assert {record.split for record in cohort.records if record.origin is not None} == {"train"}
    # Whoever learns from these scans has learned from those of the generator as well.
    assert set(known[:3]) | {"f" * 64} <= set(training_hashes(cohort) or ())


def test_tables_that_part_children_from_parents_are_refused(tmp_path: Path) -> None:
    known = _real(tmp_path / "real")
    made = _generated(tmp_path / "made", 1, trained_on=known[:3], parents=known)
    rows = ["participant_id\tsplit", *(f"sub-{number}\t{'test' if number == 2 else 'train'}" for number in range(8))]
    (tmp_path / "real" / "participants.tsv").write_text("\n".join(rows) + "\n")
    with pytest.raises(LeakError, match=r"generator.*'train'|'test'"):
        prepare([tmp_path / "real", made], tmp_path / "cohort")


def test_synthetic_scans_of_unknown_parents_need_a_word(tmp_path: Path) -> None:
    known = _real(tmp_path / "real")
    made = _generated(tmp_path / "made", 2, trained_on=[], parents=known)
    (made / "samples.json").unlink()
    with pytest.raises(LeakError, match=r"2 synthetic scans say nothing.*--allow-unknown-parents"):
        prepare([tmp_path / "real", made], tmp_path / "cohort")
    cohort = prepare([tmp_path / "real", made], tmp_path / "cohort", allow_unknown_parents=True).cohort
    assert cohort.fingerprint["unknown_parents"] == 2
    assert [one.origin for one in cohort.records if one.origin is not None] == [Origin(None, None)] * 2
    alone = prepare([made], tmp_path / "alone", split=(1, 0, 0)).cohort
    assert training_hashes(alone) is None


def test_files_of_others_by_the_same_name_are_left_alone(tmp_path: Path) -> None:
    _real(tmp_path / "real")
    for content in ("[1, 2]", "{no json", json.dumps({"samples": [{"file": "sub-0_T1w.nii.gz"}]})):
        (tmp_path / "real" / "samples.json").write_text(content)
        assert Origins.near((tmp_path / "real").iterdir()).generators == {}


def test_real_cohorts_are_split_as_ever() -> None:
    from medgan.data.splits import split_subjects

    people = [f"sub-{number}" for number in range(20)]
    relatives = [Relative(one, frozenset({one}), None) for one in people]
    assert split_kin(relatives, {}, (0.6, 0.2, 0.2), 3, {}) == split_subjects(people, (0.6, 0.2, 0.2), 3, {})


def test_kinship_reaches_over_siblings() -> None:
    """Two parents with one child between them are of one family, and so are all of their other children."""

    def child(name: str, *parents: str) -> Relative:
        return Relative(name, frozenset({name}), Origin(MODEL, parents))

    parents = [Relative(name, frozenset({f"{name} scan", f"{name} map"}), None) for name in ("a", "b", "c", "d", "e")]
    family = [child("x", "a map"), child("y", "a map", "b scan"), child("z", "b map")]
    for seed in range(5):
        splits = split_kin([*parents, *family], {}, (0.4, 0.3, 0.3), seed, {})
        assert len({splits[one] for one in ("a", "b", "x", "y", "z")}) == 1
    assert split_kin([*parents, *family], {}, (1, 0, 0), 0, {"b": "test"})["x"] == "test"
    with pytest.raises(LeakError, match="'x'"):
        split_kin([*parents, *family], {}, (1, 0, 0), 0, {"b": "test", "x": "train"})


def test_older_cohorts_are_known_by_their_files(tmp_path: Path) -> None:
    _real(tmp_path / "real")
    cohort = prepare([tmp_path / "real"], tmp_path / "cohort", split=(1, 0, 0)).cohort
    older = replace(cohort, records=tuple(replace(one, voxels_sha256=None) for one in cohort.records))
    files = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "real").glob("*.nii.gz"))
    assert training_hashes(older) == files

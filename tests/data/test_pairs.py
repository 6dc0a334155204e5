"""Who was scanned in both contrasts, and patches of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.data.cohort import Cohort
from medgan.data.pair_patches import PairedPatches, PatchPlan, UnpairedPatches
from medgan.data.pairs import contrast_of, paired, scans_of, session_of
from medgan.data.prepare import prepare
from medgan.errors import MedganError

SHAPE = (14, 12, 11)


def _scan(path: Path, seed: int, shape: Sequence[int] = SHAPE, shift: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (5.0 + shift, -7.0, 3.0)
    voxels = np.random.default_rng(seed).random(tuple(shape), dtype=np.float32) * 100
    nib.save(nib.Nifti1Image(voxels, affine), path)


def _cohort(folder: Path, names: Sequence[str], **shifts: float) -> Cohort:
    for seed, name in enumerate(names):
        _scan(folder / "scans" / f"{name}.nii.gz", seed, shift=shifts.get(name.split("/")[-1].replace("-", "_"), 0.0))
    prepare([folder / "scans"], folder / "cohort", own_grids=True, split=(1, 0, 0))
    return Cohort.load(folder / "cohort")


@pytest.mark.parametrize(
    ("name", "contrast", "session"),
    [
        ("sub-1_ses-a_T1w", "T1w", "a"),
        ("ses-b/sub-1_t2", "T2w", "b"),
        ("patient07/FLAIR", "FLAIR", ""),
        ("sub-1_ct", "CT", ""),
        ("Guys-0828-MPRAGE", "T1w", ""),
    ],
)
def test_names_say_contrast_and_session(tmp_path: Path, name: str, contrast: str, session: str) -> None:
    (record,) = _cohort(tmp_path, [name]).records
    assert (contrast_of(record), session_of(record)) == (contrast, session)


def test_the_participants_table_may_say_the_contrast(tmp_path: Path) -> None:
    _scan(tmp_path / "scans" / "one.nii.gz", 0)
    _scan(tmp_path / "scans" / "two.nii.gz", 1)
    table = "file\tparticipant_id\tcontrast\none.nii.gz\t7\tt1\ntwo.nii.gz\t7\tT2w\n"
    (tmp_path / "scans" / "participants.tsv").write_text(table)
    prepare([tmp_path / "scans"], tmp_path / "cohort", own_grids=True, split=(1, 0, 0))
    (pair,) = paired(Cohort.load(tmp_path / "cohort"), "train", "T1w", "T2w").pairs
    assert (pair.source.path, pair.target.path) == ("one.nii.gz", "two.nii.gz")


def test_pairs_are_of_one_subject_and_session(tmp_path: Path) -> None:
    names = [
        "sub-1_ses-a_T1w", "sub-1_ses-a_T2w", "sub-1_ses-b_T2w", "sub-2_ses-a_T2w", "sub-2_ses-a_T1w", "sub-3_T1w",
        "sub-3_FLAIR",
    ]  # fmt: skip
    pairing = paired(_cohort(tmp_path, names), "train", "t1w", "T2w")
    found = {(pair.source.path, pair.target.path) for pair in pairing.pairs}
    assert found == {
        ("sub-1_ses-a_T1w.nii.gz", "sub-1_ses-a_T2w.nii.gz"),
        ("sub-2_ses-a_T1w.nii.gz", "sub-2_ses-a_T2w.nii.gz"),
    }
    assert pairing.incomplete == ("sub-1 (session b)", "sub-3")


def test_what_cannot_be_paired_is_refused(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path / "none", ["sub-1_T1w", "sub-2_T2w"])
    with pytest.raises(MedganError, match=r"nobody in the split 'train'.*\(sub-1, sub-2\)"):
        paired(cohort, "train", "T1w", "T2w")
    with pytest.raises(MedganError, match=r"no FLAIR scan in its split 'train' \(contrasts there: T1w, T2w\)"):
        scans_of(cohort, "train", "FLAIR")
    several = _cohort(tmp_path / "several", ["sub-1_T1w", "sub-1_run-2_T1w", "sub-1_T2w"])
    with pytest.raises(MedganError, match="sub-1 has several T1w scans"):
        paired(several, "train", "T1w", "T2w")


def test_pairs_on_two_grids_are_refused_with_the_numbers(tmp_path: Path) -> None:
    shifted = _cohort(tmp_path / "shifted", ["sub-1_T1w", "sub-1_T2w"], sub_1_T2w=0.25)
    with pytest.raises(MedganError, match=r"up to 0\.25 mm apart.*[Rr]egister"):
        paired(shifted, "train", "T1w", "T2w")
    rounded = _cohort(tmp_path / "rounded", ["sub-1_T1w", "sub-1_T2w"], sub_1_T2w=5e-4)
    assert len(paired(rounded, "train", "T1w", "T2w").pairs) == 1
    _scan(tmp_path / "other" / "sub-1_T1w.nii.gz", 0)
    _scan(tmp_path / "other" / "sub-1_T2w.nii.gz", 1, shape=(14, 12, 10))
    prepare([tmp_path / "other"], tmp_path / "cohort", own_grids=True, split=(1, 0, 0))
    with pytest.raises(MedganError, match="14 x 12 x 11 and 14 x 12 x 10 voxels"):
        paired(Cohort.load(tmp_path / "cohort"), "train", "T1w", "T2w")


def _plan(**options: object) -> PatchPlan:
    return PatchPlan(**{"shape": (6, 7, 8), "batch_size": 3, "seed": 5, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    names = [f"sub-{subject}_{contrast}" for subject in range(4) for contrast in ("T1w", "T2w")]
    return _cohort(tmp_path_factory.mktemp("pairs"), names)


def _expected(cohort: Cohort, record: object, start: Sequence[int], flips: Sequence[bool]) -> np.ndarray:
    """A patch cut by hand."""
    voxels = np.asarray(cohort.voxels(record))  # type: ignore[arg-type]
    window = tuple(slice(first, first + length) for first, length in zip(start, (6, 7, 8), strict=True))
    low, high = (np.percentile(voxels, one) for one in (0.5, 99.5))
    cut = np.flip(voxels[window], [axis for axis in range(3) if flips[axis]])
    return (cut - low) / (high - low)


def test_a_pair_is_cut_and_flipped_alike(cohort: Cohort) -> None:
    source = PairedPatches(cohort, paired(cohort, "train", "T1w", "T2w").pairs, _plan())
    batch = source.batch(3)
    assert batch.voxels.shape == (3, 2, 6, 7, 8)
    assert batch.starts == batch.target_starts
    assert batch.flips == batch.target_flips
    for item, (first, second) in enumerate(zip(batch.records, batch.targets, strict=True)):
        assert first.subject == second.subject
        for side, record in enumerate((first, second)):
            expected = _expected(cohort, record, batch.starts[item], batch.flips[item])
            np.testing.assert_allclose(batch.voxels[item, side], expected, atol=1e-5)
    seen = {record.subject for step in range(4) for record in source.batch(step).records}
    assert seen == {"sub-0", "sub-1", "sub-2", "sub-3"}


def test_batches_are_a_function_of_seed_and_step(cohort: Cohort) -> None:
    pairs = paired(cohort, "train", "T1w", "T2w").pairs
    one, other = (PairedPatches(cohort, pairs, _plan()) for _ in range(2))
    one.batch(0)
    assert (one.batch(7).voxels == other.batch(7).voxels).all()
    assert (one.batch(7).voxels != PairedPatches(cohort, pairs, _plan(seed=6)).batch(7).voxels).any()


def test_unpaired_patches_never_show_one_person_twice_in_a_batch(cohort: Cohort) -> None:
    source = UnpairedPatches(
        cohort, scans_of(cohort, "train", "T1w"), scans_of(cohort, "train", "T2w"), _plan(batch_size=2)
    )
    partners = set()
    for step in range(24):
        batch = source.batch(step)
        assert {one.subject for one in batch.records}.isdisjoint({one.subject for one in batch.targets})
        assert all(contrast_of(one) == "T2w" for one in batch.targets)
        partners |= {(one.subject, other.subject) for one, other in zip(batch.records, batch.targets, strict=True)}
        for item, record in enumerate(batch.targets):
            expected = _expected(cohort, record, batch.target_starts[item], batch.target_flips[item])
            np.testing.assert_allclose(batch.voxels[item, 1], expected, atol=1e-5)
    assert len(partners) > 6


def test_without_a_choice_the_same_person_is_better_than_nothing(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, ["sub-1_T1w", "sub-1_T2w"])
    source = UnpairedPatches(cohort, scans_of(cohort, "train", "T1w"), scans_of(cohort, "train", "T2w"), _plan())
    batch = source.batch(0)
    assert {one.subject for one in batch.targets} == {"sub-1"}
    assert batch.starts != batch.target_starts


def test_a_range_of_the_cohort_keeps_units(cohort: Cohort) -> None:
    pairs = paired(cohort, "train", "T1w", "T2w").pairs
    own, common = (
        PairedPatches(cohort, pairs, _plan(flip=False, ranges=("scan", kind))) for kind in ("scan", "cohort")
    )
    lows, highs = ([pair.target.percentiles[name] for pair in pairs] for name in ("0.5", "99.5"))
    low, high = float(np.median(lows)), float(np.median(highs))
    first, second = own.batch(0), common.batch(0)
    assert (first.voxels[:, 0] == second.voxels[:, 0]).all()
    for item, record in enumerate(second.targets):
        units = second.voxels[item, 1].numpy() * (high - low) + low
        again = first.voxels[item, 1].numpy() * (record.percentiles["99.5"] - record.percentiles["0.5"])
        np.testing.assert_allclose(units, again + record.percentiles["0.5"], rtol=1e-4, atol=1e-3)

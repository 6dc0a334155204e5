"""Label maps of a cohort: found by name, brought onto the scan's grid, refused where they do not fit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RTStructureSetStorage, SegmentationStorage, generate_uid

from medgan.data.cohort import Cohort
from medgan.data.mask_names import Named, matched
from medgan.data.prepare import prepare
from medgan.errors import MedganError

# Odd sizes: no voxel of another grid lies just between two of these.
SHAPE = (13, 17, 11)


def _oblique(spacing: tuple[float, float, float] = (2.0, 2.0, 3.0)) -> NDArray[np.float64]:
    """Turned about all axes, the first one running to the left."""
    a, b = 0.2, -0.15
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1, 1, 1]) @ np.diag(spacing)
    affine[:3, 3] = (14, -9, 33)
    return affine


def _labels(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    """Blocks of labels 0, 1, 2 and 7."""
    coarse = np.random.default_rng(seed).choice([0, 1, 2, 7], [-(-n // 3) for n in shape])
    full = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    return full[tuple(slice(n) for n in shape)].astype(np.uint8)


def _save(path: Path, data: NDArray, affine: NDArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


def _pair(root: Path, name: str, seed: int, affine: NDArray | None = None) -> None:
    affine = _oblique() if affine is None else affine
    labels = _labels(seed)
    noise = np.random.default_rng(seed).random(SHAPE, dtype=np.float32)
    _save(root / "images" / f"{name}.nii.gz", labels.astype(np.float32) * 10 + noise, affine)
    _save(root / "labels" / f"{name}.nii.gz", labels, affine)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for number in range(4):
        _pair(tmp_path, f"case_{number}", number)
    return tmp_path


def _prepared(root: Path, out: str = "cohort", **options: object) -> Cohort:
    options = {"split": (0.5, 0.25, 0.25), "masks": root / "labels", **options}
    return prepare([root / "images"], root / out, **options).cohort  # type: ignore[arg-type]


def test_what_is_recorded_of_a_label_map(pairs: Path) -> None:
    cohort = _prepared(pairs)
    assert cohort.fingerprint["masks"] == {"scans": 4, "labels": {"0": 4, "1": 4, "2": 4, "7": 4}, "unused": 0}
    for record in Cohort.load(cohort.folder).records:
        source = pairs / "labels" / f"{record.name}.nii.gz"
        assert record.mask is not None
        assert record.mask.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
        assert record.mask.labels == (0, 1, 2, 7)
        mask = cohort.mask(record)
        assert mask.dtype == np.uint8
        # Without a new spacing no voxel changes: the same turn to RAS by another library.
        turned = np.asarray(nib.as_closest_canonical(nib.load(source)).dataobj)
        np.testing.assert_array_equal(mask, turned)


def test_label_maps_lie_on_the_prepared_grid_as_another_resampler_puts_them(pairs: Path) -> None:
    # Resampled, cropped along one axis and padded along another.
    cohort = _prepared(pairs, spacing=(1.7, 2.3, 1.9), shape=(12, 20, 17))
    for record in cohort.records:
        source = SimpleITK.ReadImage(str(pairs / "labels" / f"{record.name}.nii.gz"))
        wanted = SimpleITK.Image(list(record.prepared_shape), SimpleITK.sitkUInt8)
        to_lps = np.diag([-1.0, -1.0, 1.0])
        affine = np.array(record.affine)
        wanted.SetSpacing(record.prepared_spacing)
        wanted.SetOrigin((to_lps @ affine[:3, 3]).tolist())
        wanted.SetDirection((to_lps @ (affine[:3, :3] / record.prepared_spacing)).ravel().tolist())
        expected = SimpleITK.GetArrayFromImage(
            SimpleITK.Resample(source, wanted, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0)
        )
        np.testing.assert_array_equal(cohort.mask(record), expected.transpose(2, 1, 0))
        assert (cohort.mask(record) == 0).mean() < 0.8  # that something is there to agree on


def test_a_label_map_on_another_grid_of_the_same_field_of_view_follows_its_place(tmp_path: Path) -> None:
    affine = _oblique()
    _pair(tmp_path, "case_0", 0, affine)
    _pair(tmp_path, "case_1", 1, affine)
    # Twice the voxels along each axis, and the axes in another order and direction.
    fine = _labels(0).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    halved = affine @ np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]])
    image = nib.Nifti1Image(fine, halved).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(image, tmp_path / "labels" / "case_0.nii.gz")
    cohort = _prepared(tmp_path, split=(0.5, 0.5, 0))
    record = next(one for one in cohort.records if one.name == "case_0")
    same = _labels(0)[::-1]  # turned from left to right
    np.testing.assert_array_equal(cohort.mask(record), same)


def test_large_labels_take_two_bytes(pairs: Path) -> None:
    _save(pairs / "labels" / "case_2.nii.gz", _labels(2).astype(np.int32) * 200, _oblique())
    cohort = _prepared(pairs)
    kinds = {record.name: cohort.mask(record).dtype.name for record in cohort.records}
    assert kinds["case_2"] == "uint16"
    assert kinds["case_1"] == "uint8"
    record = next(one for one in cohort.records if one.name == "case_2")
    assert record.mask is not None
    assert record.mask.labels == (0, 200, 400, 1400)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d, a: (d.astype(np.float32) + 0.5, a), ("no labels", "1.5", "nearest neighbour")),
        (lambda d, a: (d.astype(np.int16) - 1, a), ("no labels", "-1")),
        (lambda d, a: (d, np.diag([2.0, 2, 3, 1])), ("does not lie where the scan does", "mm apart")),
        (lambda d, a: (d[:-4], a), ("does not lie where the scan does", "9x17x11")),
        (lambda d, a: (d, a + np.eye(4)[:, 3:] * 0 + np.pad([[1.0]], ((0, 3), (3, 0)))), ("1 mm apart",)),
        (lambda d, a: (np.stack([d, d], axis=3), a), ("2 volumes",)),
    ],
)
def test_unusable_label_maps_are_listed_with_the_reason(pairs: Path, change: object, words: tuple[str, ...]) -> None:
    data, affine = change(_labels(1), _oblique())  # type: ignore[operator]
    _save(pairs / "labels" / "case_1.nii.gz", data, affine)
    preparation = prepare([pairs / "images"], pairs / "cohort", masks=pairs / "labels", split=(0.4, 0.3, 0.3))
    assert [record.name for record in preparation.cohort.records] == ["case_0", "case_2", "case_3"]
    ((path, reason),) = preparation.failures
    assert path == pairs / "images" / "case_1.nii.gz"
    for word in words:
        assert word in reason
    assert [one["path"] for one in preparation.cohort.fingerprint["failures"]] == ["case_1.nii.gz"]


def test_scans_without_a_label_map_are_left_out_and_told(pairs: Path) -> None:
    (pairs / "labels" / "case_3.nii.gz").unlink()
    _save(pairs / "labels" / "somebody_else.nii.gz", _labels(), _oblique())
    preparation = prepare([pairs / "images"], pairs / "cohort", masks=pairs / "labels", split=(0.4, 0.3, 0.3))
    assert len(preparation.cohort.records) == 3
    assert preparation.failures == ((pairs / "images" / "case_3.nii.gz", "no label map has its name"),)
    assert preparation.cohort.fingerprint["masks"]["unused"] == 1


def test_no_label_map_at_all_is_an_error_that_shows_both_names(pairs: Path) -> None:
    for number in range(4):
        (pairs / "labels" / f"case_{number}.nii.gz").rename(pairs / "labels" / f"seg_of_{number}.nii.gz")
    with pytest.raises(MedganError, match=r"scans: case_0.*label maps: seg_of_0") as caught:
        _prepared(pairs)
    assert "_dseg" in str(caught.value)


def test_both_kinds_in_one_folder_are_told_apart_by_name(tmp_path: Path) -> None:
    for number in range(3):
        _pair(tmp_path, f"sub-{number:02d}_T1w", number)
        folder = tmp_path / "both" / f"sub-{number:02d}" / "anat"
        folder.mkdir(parents=True)
        for kind, word in (("images", ""), ("labels", "_dseg")):
            name = f"sub-{number:02d}_T1w.nii.gz"
            (tmp_path / kind / name).rename(folder / name.replace("_T1w", f"{word}" if word else "_T1w"))
    cohort = prepare([tmp_path / "both"], tmp_path / "cohort", masks=tmp_path / "both", split=(0.4, 0.3, 0.3)).cohort
    assert [record.name for record in cohort.records] == [f"sub-{number:02d}_T1w" for number in range(3)]
    assert all(record.mask is not None and record.mask.path.endswith("dseg.nii.gz") for record in cohort.records)


def test_a_label_folder_inside_the_input_holds_no_scans(pairs: Path) -> None:
    cohort = prepare([pairs], pairs.parent / "cohort", masks=pairs / "labels", split=(0.5, 0.25, 0.25)).cohort
    assert [record.path for record in cohort.records] == [f"images/case_{number}.nii.gz" for number in range(4)]


def test_a_cohort_without_label_maps_says_nothing_of_them(pairs: Path) -> None:
    cohort = _prepared(pairs, masks=None)
    assert "masks" not in cohort.fingerprint
    lines = (cohort.folder / "manifest.jsonl").read_text().splitlines()
    assert not any("mask" in json.loads(line) for line in lines)
    with pytest.raises(MedganError, match="has no label map"):
        cohort.mask(cohort.records[0])


def test_prepared_again_nothing_changes(pairs: Path) -> None:
    first = _prepared(pairs)
    before = {path: path.stat().st_mtime_ns for path in (first.folder / "voxels").iterdir()}
    second = _prepared(pairs)
    assert second.manifest_sha256 == first.manifest_sha256
    assert {path: path.stat().st_mtime_ns for path in (first.folder / "voxels").iterdir()} == before


def _match(scans: list[str], masks: list[str]) -> list[str | int]:
    return matched([Named(PurePosixPath(one)) for one in scans], [Named(PurePosixPath(one)) for one in masks])


def test_names_are_matched_by_the_known_customs() -> None:
    assert _match(["a_001.nii.gz", "a_002.nii"], ["a_002.nii.gz", "a_001.nii"]) == [1, 0]
    # nnU-Net's channel; four digits that are a scan's own number are not taken for one.
    assert _match(["a_001_0000.nii.gz"], ["a_001.nii.gz"]) == [0]
    assert _match(["c_0001.nii.gz", "c_0002.nii.gz"], ["c_0002.nii.gz", "c_0001.nii.gz"]) == [1, 0]
    # BIDS derivatives.
    bids = ["sub-1/ses-1/anat/sub-1_ses-1_T1w.nii.gz", "sub-1/ses-2/anat/sub-1_ses-2_T1w.nii.gz"]
    derived = ["sub-1/ses-2/anat/sub-1_ses-2_desc-x_dseg.nii.gz", "sub-1/ses-1/anat/sub-1_ses-1_space-orig_dseg.nii.gz"]
    assert _match(bids, derived) == [1, 0]
    # A word behind the scan's whole name, or a folder for each subject.
    assert _match(["p1-T1.nii.gz", "p1-T2.nii.gz"], ["p1-T2_seg.nii.gz", "p1-T1_seg.nii.gz"]) == [1, 0]
    assert _match(["p1/image.nii.gz", "p2/image.nii.gz"], ["p2/mask.nii.gz", "p1/mask.nii.gz"]) == [1, 0]
    # One label map for two contrasts of a subject.
    assert _match(["sub-1_T1w.nii.gz", "sub-1_T2w.nii.gz"], ["sub-1_dseg.nii.gz"]) == [0, 0]


def test_names_that_fit_twice_or_not_at_all_are_not_guessed() -> None:
    found = _match(["sub-1_T1w.nii.gz"], ["a/sub-1_desc-a_dseg.nii.gz", "a/sub-1_desc-b_dseg.nii.gz"])
    assert "2 label maps fit" in str(found[0])
    assert "desc-b" in str(found[0])
    assert _match(["sub-1_T2w.nii.gz"], ["sub-1_T1w_seg.nii.gz"]) == ["no label map has its name"]
    assert _match(["sub-1_ses-1_T1w.nii.gz"], ["sub-1_ses-2_dseg.nii.gz"]) == ["no label map has its name"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A BIDS dataset of three people with two visits each, segmented by one pipeline that leaves much else behind."""
    root = tmp_path / "dataset"
    for subject in ("01", "02", "03"):
        for visit in ("1", "2"):
            seed, stem = int(subject + visit), f"sub-{subject}/ses-{visit}/anat/sub-{subject}_ses-{visit}"
            labels, noise = _labels(seed), np.random.default_rng(seed).random(SHAPE, dtype=np.float32)
            _save(root / f"{stem}_T1w.nii.gz", labels.astype(np.float32) * 10 + noise, _oblique())
            derived = root / "derivatives" / "manual"
            _save(derived / f"{stem}_dseg.nii.gz", labels, _oblique())
            _save(derived / f"{stem}_desc-other_dseg.nii.gz", _labels(seed + 100), _oblique())
            _save(derived / f"{stem}_space-MNI152NLin6Asym_dseg.nii.gz", _labels(seed + 200), np.diag([2.0, 2, 3, 1]))
            _save(derived / f"{stem}_desc-brain_mask.nii.gz", (labels > 0).astype(np.uint8), _oblique())
            _save(derived / f"{stem}_label-GM_probseg.nii.gz", noise, _oblique())
            _save(derived / f"{stem}_desc-preproc_T1w.nii.gz", noise, _oblique())
    return root


@pytest.mark.parametrize("masks", [".", "derivatives", "derivatives/manual"])
def test_a_bids_dataset_is_paired_by_visit(dataset: Path, tmp_path: Path, masks: str) -> None:
    prepared = prepare([dataset], tmp_path / "cohort", masks=dataset / masks, split=(0.4, 0.3, 0.3))
    assert not prepared.failures
    records = prepared.cohort.records
    assert len(records) == 6
    for record in records:
        name = record.name.removesuffix("_T1w")
        assert record.mask is not None
        assert PurePosixPath(record.mask.path).name == f"{name}_dseg.nii.gz"
        seed = int("".join(part.split("-")[1] for part in name.split("_")))
        turned = nib.as_closest_canonical(nib.Nifti1Image(_labels(seed), _oblique()))
        np.testing.assert_array_equal(prepared.cohort.mask(record), np.asarray(turned.dataobj))
    assert {record.subject for record in records} == {"sub-01", "sub-02", "sub-03"}


def test_label_maps_of_two_pipelines_are_refused_until_one_is_named(dataset: Path, tmp_path: Path) -> None:
    name = "sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz"
    _save(dataset / "derivatives" / "machine" / name, _labels(7), _oblique())
    prepared = prepare([dataset], tmp_path / "both", masks=dataset, split=(0.4, 0.3, 0.3))
    ((path, reason),) = prepared.failures
    assert path.name == "sub-01_ses-1_T1w.nii.gz"
    assert "2 label maps fit its name: " in reason
    assert "machine" in reason
    one = prepare([dataset], tmp_path / "one", masks=dataset / "derivatives" / "manual", split=(0.4, 0.3, 0.3))
    assert not one.failures


@pytest.mark.parametrize(
    ("storage", "modality", "word"),
    [
        (SegmentationStorage, "SEG", "segmentation"),
        (RTStructureSetStorage, "RTSTRUCT", "radiotherapy structures"),
    ],
)
def test_label_maps_as_dicom_objects_are_refused_with_a_way_out(
    pairs: Path, storage: UID, modality: str, word: str
) -> None:
    drawn = Dataset()
    drawn.file_meta = FileMetaDataset()
    drawn.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    drawn.SOPClassUID, drawn.Modality = storage, modality
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(drawn, name, generate_uid())
    (pairs / "drawn").mkdir()
    drawn.save_as(pairs / "drawn" / "case_1.dcm", enforce_file_format=True)
    with pytest.raises(MedganError, match=rf"DICOM objects \({word}\), which medgan does not read.*segimage2itkimage"):
        _prepared(pairs, masks=pairs / "drawn")

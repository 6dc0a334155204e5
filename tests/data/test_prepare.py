from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan import geometry
from medgan.data import gridding
from medgan.data import prepare as module
from medgan.data.cohort import Cohort
from medgan.data.prepare import prepare
from medgan.errors import MedganError


def centroid(data: np.ndarray, affine: np.ndarray, background: float) -> np.ndarray:
    weights = np.clip(np.asarray(data, dtype=np.float64) - background, 0, None)
    index = np.stack(np.meshgrid(*map(np.arange, data.shape), indexing="ij"), axis=-1)
    place = index @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]
    return (place * weights[..., None]).sum(axis=(0, 1, 2)) / weights.sum()


def test_a_cohort_round_trip(scans: Path, tmp_path: Path) -> None:
    result = prepare([scans], tmp_path / "cohort", jobs=1)
    cohort = Cohort.load(tmp_path / "cohort")
    assert result.failures == ()
    assert cohort.records == result.cohort.records
    assert len(cohort.records) == 12
    assert cohort.shape == (12, 14, 10)
    assert cohort.spacing == (2.0, 2.0, 3.0)
    assert cohort.manifest_sha256 == hashlib.sha256((tmp_path / "cohort" / "manifest.jsonl").read_bytes()).hexdigest()
    assert [len(cohort.split(name)) for name in ("train", "validation", "test")] == [10, 1, 1]
    assert cohort.fingerprint["source_orientations"] == {"LPS": 12}
    assert cohort.fingerprint["source_root"] == str(scans)


def test_records_tell_the_truth_about_source_and_voxels(scans: Path, tmp_path: Path) -> None:
    cohort = prepare([scans], tmp_path / "cohort").cohort
    for record in cohort.records:
        source = nib.load(scans / record.path)
        assert record.sha256 == hashlib.sha256((scans / record.path).read_bytes()).hexdigest()
        assert record.shape == source.shape
        np.testing.assert_allclose(record.spacing, source.header.get_zooms(), rtol=1e-6)
        assert record.orientation == "".join(nib.aff2axcodes(source.affine)) == "LPS"
        voxels = cohort.voxels(record)
        turned = nib.as_closest_canonical(source)
        np.testing.assert_allclose(voxels, turned.get_fdata(), atol=1e-3)
        np.testing.assert_allclose(record.affine, turned.affine, atol=1e-9)
        for key, value in record.percentiles.items():
            assert value == pytest.approx(np.percentile(voxels, float(key)), rel=1e-6)
        volume = cohort.volume(record)
        assert volume.orientation == "RAS"
        np.testing.assert_array_equal(volume.data[0], voxels)


def test_nothing_moves_in_space_when_resampled_cropped_and_padded(
    tmp_path: Path, write_scan: Callable[..., Path]
) -> None:
    oblique = np.array([[0.1, -1.9, 0.2, 3.0], [0.3, 0.2, -2.4, 9.0], [-2.1, 0.1, 0.2, 30.0], [0, 0, 0, 1]])
    shape = (30, 34, 26)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    middle = np.array([14.3, 18.1, 12.2])[:, None, None, None]
    write_scan(tmp_path / "in" / "a.nii", affine=oblique, data=100 * np.exp(-((grid - middle) ** 2).sum(axis=0) / 18))
    record = prepare([tmp_path / "in"], tmp_path / "cohort", spacing=(3, 2.7, 1.6), shape=(24, 20, 44), split=(1, 0, 0))
    cohort = record.cohort
    one = cohort.records[0]
    assert cohort.shape == one.prepared_shape == (24, 20, 44)
    truth = oblique[:3, :3] @ middle[:, 0, 0, 0] + oblique[:3, 3]
    np.testing.assert_allclose(centroid(cohort.voxels(one), np.array(one.affine), 0.0), truth, atol=1e-2)
    assert geometry.orientation_of(one.affine) == "RAS"


def test_defaults_are_medians(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    for number, (shape, spacing) in enumerate(
        [((10, 10, 10), (1.0, 2.0, 3.0)), ((20, 10, 10), (1.0, 2.0, 3.0)), ((30, 12, 10), (1.2, 2.0, 4.0))]
    ):
        write_scan(tmp_path / "in" / f"s{number}.nii", shape=shape, spacing=spacing, seed=number)
    cohort = prepare([tmp_path / "in"], tmp_path / "cohort").cohort
    assert cohort.fingerprint["specification"]["spacing"] == [1.0, 2.0, 3.0]
    assert cohort.shape == (20, 10, 10)
    assert {record.prepared_shape for record in cohort.records} == {(20, 10, 10)}
    assert cohort.fingerprint["source_shapes"] == {"10x10x10": 1, "20x10x10": 1, "30x12x10": 1}


def test_padding_is_the_recorded_background(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    write_scan(tmp_path / "in" / "a.nii", seed=50)
    cohort = prepare([tmp_path / "in"], tmp_path / "cohort", shape=(20, 14, 10), split=(1, 0, 0)).cohort
    (record,) = cohort.records
    source = nib.load(tmp_path / "in" / "a.nii").get_fdata()
    assert record.background == pytest.approx(np.percentile(source, 0.5), abs=1e-3)
    assert (cohort.voxels(record)[:4] == np.float32(record.background)).all()


def test_preparing_again_reuses_the_voxels(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare([scans], tmp_path / "cohort", spacing=(4, 4, 4)).cohort
    monkeypatch.setattr(gridding, "resampled", lambda *_, **__: pytest.fail("voxels made again"))
    again = prepare([scans], tmp_path / "cohort", spacing=(4, 4, 4)).cohort
    assert again.manifest_sha256 == first.manifest_sha256
    with pytest.raises(pytest.fail.Exception, match="made again"):
        prepare([scans], tmp_path / "cohort", spacing=(5, 4, 4))


def test_changed_content_is_prepared_anew_though_its_path_is_the_same(
    scans: Path, tmp_path: Path, write_scan: Callable[..., Path]
) -> None:
    before = prepare([scans], tmp_path / "cohort").cohort
    write_scan(scans / "sub-03_T1w.nii.gz", seed=99)
    after = prepare([scans], tmp_path / "cohort").cohort
    assert before.records[3].voxels != after.records[3].voxels
    assert before.records[4] == after.records[4]


def test_processes_change_nothing(scans: Path, tmp_path: Path) -> None:
    alone = prepare([scans], tmp_path / "one", spacing=(3, 3, 3), jobs=1).cohort
    together = prepare([scans], tmp_path / "two", spacing=(3, 3, 3), jobs=2).cohort
    assert alone.manifest_sha256 == together.manifest_sha256
    for record in alone.records:
        np.testing.assert_array_equal(alone.voxels(record), together.voxels(record))


def test_bad_scans_are_left_out_and_named(scans: Path, tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    data = np.random.default_rng(0).random((6, 6, 6))
    data[1, 2, 3] = np.nan
    write_scan(scans / "sub-20_T1w.nii.gz", data=data)
    write_scan(scans / "sub-21_T1w.nii.gz", data=np.full((6, 6, 6), 3.0))
    (scans / "sub-22_T1w.nii.gz").write_bytes(b"no scan at all")
    whole = (scans / "sub-00_T1w.nii.gz").read_bytes()
    (scans / "sub-23_T1w.nii.gz").write_bytes(whole[: len(whole) // 2])
    sparse = np.zeros((20, 20, 20))
    sparse[3, 3, 3] = 1
    write_scan(scans / "sub-24_T1w.nii.gz", data=sparse)
    result = prepare([scans], tmp_path / "cohort", shape=(20, 20, 20), spacing=(2, 2, 3))
    assert len(result.cohort.records) == 12
    failures = {path.name: reason for path, reason in result.failures}
    assert set(failures) == {f"sub-{number}_T1w.nii.gz" for number in range(20, 25)}
    assert "not finite" in failures["sub-20_T1w.nii.gz"]
    assert "all its voxels are 3" in failures["sub-21_T1w.nii.gz"]
    assert "nothing to learn" in failures["sub-24_T1w.nii.gz"]
    assert {entry["path"] for entry in result.cohort.fingerprint["failures"]} == set(failures)


def test_damaged_dicom_files_beside_good_scans_are_named(scans: Path, tmp_path: Path) -> None:
    (scans / "slice.dcm").write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x00\x00garbage")
    result = prepare([scans], tmp_path / "cohort")
    assert [path.name for path, _ in result.failures] == ["slice.dcm"]


def test_links_are_known_by_their_own_names(scans: Path, tmp_path: Path) -> None:
    links = []
    for number in range(3):
        links.append(tmp_path / f"case{number}.nii.gz")
        links[-1].symlink_to(scans / f"sub-{number:02d}_T1w.nii.gz")
    cohort = prepare(links, tmp_path / "cohort").cohort
    assert [record.subject for record in cohort.records] == ["case0", "case1", "case2"]


def test_all_bad_is_an_error(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    write_scan(tmp_path / "in" / "a.nii", data=np.full((6, 6, 6), 3.0))
    with pytest.raises(MedganError, match="none of the 1 scans can be used"):
        prepare([tmp_path / "in"], tmp_path / "cohort")
    assert not (tmp_path / "cohort" / "manifest.jsonl").exists()


def test_too_few_subjects(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    for contrast in ("T1w", "T2w", "FLAIR"):
        write_scan(tmp_path / "in" / f"sub-01_{contrast}.nii.gz")
    with pytest.raises(MedganError, match=r"1 subject .*at least 3 are needed"):
        prepare([tmp_path / "in"], tmp_path / "cohort")


def test_no_subject_is_in_two_splits(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    for number in range(9):
        for place in (f"{number}_T1w.nii.gz", f"more/{number}_T2w.nii.gz"):
            write_scan(tmp_path / "in" / place, seed=number)
    cohort = prepare([tmp_path / "in"], tmp_path / "cohort", split=(0.4, 0.3, 0.3), seed=3).cohort
    assert len(cohort.records) == 18
    splits: dict[str, set[str]] = {}
    for record in cohort.records:
        splits.setdefault(record.subject, set()).add(record.split)
    assert len(splits) == 9
    assert all(len(names) == 1 for names in splits.values())
    assert {record.split for record in cohort.records} == {"train", "validation", "test"}


def test_labels_and_splits_from_a_table(scans: Path, tmp_path: Path) -> None:
    rows = "".join(f"sub-{i:02d}\t{20 + i}\t{'FM'[i % 2]}\t{'train' if i else 'test'}\n" for i in range(11))
    (scans / "participants.tsv").write_text("participant_id\tage\tsex\tsplit\n" + rows + "sub-11\tn/a\tF\tval\n")
    cohort = prepare([scans], tmp_path / "cohort").cohort
    people = {record.subject: record for record in cohort.records}
    assert people["sub-05"].labels == {"age": 25.0, "sex": "M"}
    assert people["sub-11"].labels == {"sex": "F"}
    assert (people["sub-00"].split, people["sub-05"].split, people["sub-11"].split) == ("test", "train", "validation")
    assert cohort.fingerprint["labels"] == {
        "age": {"type": "number", "scans": 11, "minimum": 20.0, "maximum": 30.0},
        "sex": {"type": "text", "scans": 12, "values": {"F": 7, "M": 5}},
    }


def test_a_table_can_name_the_subject_of_a_file(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    for name in ("x1", "x2", "x3"):
        write_scan(tmp_path / "in" / f"{name}.nii")
    (tmp_path / "in" / "participants.tsv").write_text("file\tsubject\nx1.nii\tanna\nx2.nii\tanna\n")
    cohort = prepare([tmp_path / "in"], tmp_path / "cohort", split=(0.5, 0.5, 0)).cohort
    assert [record.subject for record in cohort.records] == ["anna", "anna", "x3"]


def test_a_table_that_matches_nothing_is_an_error(scans: Path, tmp_path: Path) -> None:
    (scans / "participants.tsv").write_text("participant_id\tage\nanna\t3\n")
    with pytest.raises(MedganError, match="no row of this table"):
        prepare([scans], tmp_path / "cohort")


def test_a_subject_in_two_splits_by_table_is_an_error(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    for name in ("a_T1", "a_T2"):
        write_scan(tmp_path / "in" / f"{name}.nii")
    (tmp_path / "in" / "participants.csv").write_text("file,subject,split\na_T1.nii,a,train\na_T2.nii,a,test\n")
    with pytest.raises(MedganError, match="'a' stands in two splits, train and test"):
        prepare([tmp_path / "in"], tmp_path / "cohort")


def test_no_absolute_path_in_the_manifest(scans: Path, tmp_path: Path) -> None:
    prepare([scans], tmp_path / "cohort")
    text = (tmp_path / "cohort" / "manifest.jsonl").read_text()
    assert str(tmp_path) not in text
    for line in text.splitlines():
        record = json.loads(line)
        assert not Path(record["path"]).is_absolute()
        assert not Path(record["voxels"]).is_absolute()


def test_the_manifest_is_the_same_wherever_the_scans_lie(scans: Path, tmp_path: Path) -> None:
    here = prepare([scans], tmp_path / "one").cohort
    scans.rename(tmp_path / "elsewhere")
    there = prepare([tmp_path / "elsewhere"], tmp_path / "two").cohort
    assert here.manifest_sha256 == there.manifest_sha256


def test_an_interrupted_preparation_is_no_cohort(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))

    def interrupted(*arguments: object) -> object:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return original(*arguments)

    original = module.gridded
    monkeypatch.setattr(module, "gridded", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare([scans], tmp_path / "cohort")
    assert len(list((tmp_path / "cohort" / "voxels").glob("*.npy"))) == 5
    with pytest.raises(MedganError, match="no prepared cohort"):
        Cohort.load(tmp_path / "cohort")
    monkeypatch.setattr(module, "gridded", original)
    assert len(prepare([scans], tmp_path / "cohort").cohort.records) == 12


def test_an_old_manifest_never_stands_beside_a_new_fingerprint(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([scans], tmp_path / "cohort")

    def full(*_: object) -> None:
        raise MedganError("the disk is full")

    monkeypatch.setattr(module, "write_manifest", full)
    with pytest.raises(MedganError, match="disk is full"):
        prepare([scans], tmp_path / "cohort", spacing=(4, 4, 4))
    with pytest.raises(MedganError, match="no prepared cohort"):
        Cohort.load(tmp_path / "cohort")


def test_a_file_that_cannot_be_written_ends_everything(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "cohort").write_text("a file")
    with pytest.raises(MedganError, match="a file stands where a folder is needed"):
        prepare([scans], tmp_path / "cohort")


def test_progress_counts_every_scan_twice(scans: Path, tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    write_scan(scans / "sub-30_T1w.nii.gz", data=np.zeros((6, 6, 6)))
    seen: list[tuple[int, int, str]] = []
    prepare([scans], tmp_path / "cohort", progress=lambda *report: seen.append(report))
    assert [done for done, _, _ in seen] == [*range(1, 14), *range(15, 27)]
    assert {total for _, total, _ in seen} == {26}
    assert seen[0][2] == "sub-00_T1w"


def test_several_inputs_share_a_root_and_a_scan_counts_once(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    for number in range(3):
        write_scan(tmp_path / "in" / f"part{number % 2}" / f"s{number}.nii", seed=number)
    inputs = [tmp_path / "in" / "part0", tmp_path / "in" / "part1", tmp_path / "in" / "part1" / "s1.nii"]
    cohort = prepare(inputs, tmp_path / "cohort").cohort
    assert [record.path for record in cohort.records] == ["part0/s0.nii", "part0/s2.nii", "part1/s1.nii"]
    assert cohort.fingerprint["source_root"] == str(tmp_path / "in")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": (0.5, 0.2, 0.2)}, "add up to 1"),
        ({"spacing": (1, 0, 1)}, "three positive numbers"),
        ({"shape": (1, 2)}, "three positive whole numbers"),
        ({"jobs": 0}, "at least 1"),
    ],
)
def test_wrong_arguments(scans: Path, tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(MedganError, match=message):
        prepare([scans], tmp_path / "cohort", **arguments)


def test_nothing_to_prepare(tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="no such file or folder"):
        prepare([tmp_path / "nowhere"], tmp_path / "cohort")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedganError, match="no scan"):
        prepare([tmp_path / "empty"], tmp_path / "cohort")
    with pytest.raises(MedganError, match="no input"):
        prepare([], tmp_path / "cohort")


@pytest.mark.data
def test_scans_with_a_csv_of_files_and_splits(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "mri_t1_ixi_2mm"
    for file in [*sorted(folder.glob("train/*.gz"))[:5], *sorted(folder.glob("val/*.gz"))[:2]]:
        place = tmp_path / "in" / file.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file)
    (tmp_path / "in" / "participants.csv").symlink_to(folder / "participants.csv")
    cohort = prepare([tmp_path / "in"], tmp_path / "cohort", spacing=(12, 12, 12)).cohort
    assert [len(cohort.split(name)) for name in ("train", "validation", "test")] == [5, 2, 0]
    assert cohort.shape == (15, 20, 20)
    first = cohort.records[0]
    assert (first.subject, first.orientation, first.shape) == ("IXI014-HH-1236", "PSR", (120, 120, 90))
    assert first.labels == {"age": 34.24, "sex": "F"}


@pytest.mark.data
def test_contrasts_of_a_patient_are_one_subject(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "mri_multicontrast_openms_1mm"
    inputs = [folder / name for name in ("patient07/T1.nii.gz", "patient07/FLAIR.nii.gz", "patient19/T1.nii.gz")]
    cohort = prepare(inputs, tmp_path / "cohort", spacing=(8, 8, 8), split=(0.5, 0.5, 0)).cohort
    assert sorted((record.name, record.subject) for record in cohort.records) == [
        ("FLAIR", "patient07"),
        ("patient07_T1", "patient07"),
        ("patient19_T1", "patient19"),
    ]


def test_scans_may_keep_their_own_grids(tmp_path: Path, write_scan: Callable[..., Path]) -> None:
    folder = tmp_path / "scans"
    for number in range(4):
        shape, spacing = (12 + number, 14, 10), (2.0, 1.0 + number, 3.0)
        write_scan(folder / f"sub-{number}_T1w.nii.gz", seed=number, shape=shape, spacing=spacing)
    cohort = prepare([folder], tmp_path / "cohort", own_grids=True, split=(1, 0, 0)).cohort
    assert not cohort.has_common_grid
    for record in cohort.records:
        source = nib.as_closest_canonical(nib.load(folder / record.path))
        np.testing.assert_array_equal(cohort.voxels(record), np.asarray(source.dataobj, np.float32))
        np.testing.assert_allclose(record.affine, source.affine, atol=1e-9)
        np.testing.assert_allclose(record.prepared_spacing, source.header.get_zooms(), rtol=1e-6)
    with pytest.raises(MedganError, match="grids of their own"):
        _ = cohort.shape


def test_own_grids_and_one_grid_exclude_each_other(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="keep their own grids"):
        prepare([scans], tmp_path / "cohort", own_grids=True, spacing=(2, 2, 2))

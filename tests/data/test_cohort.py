from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from medgan.data.cohort import Cohort
from medgan.data.prepare import prepare
from medgan.errors import MedganError


@pytest.fixture
def cohort(scans: Path, tmp_path: Path) -> Cohort:
    return prepare([scans], tmp_path / "cohort", spacing=(4, 4, 4)).cohort


def test_voxels_are_mapped_and_cannot_be_changed(cohort: Cohort) -> None:
    voxels = cohort.voxels(cohort.records[0])
    assert isinstance(voxels, np.memmap)
    assert (voxels.dtype, voxels.shape) == (np.float32, cohort.shape)
    with pytest.raises(ValueError, match="read-only"):
        voxels[0, 0, 0] = 1


def test_splits_partition_the_records(cohort: Cohort) -> None:
    together = [record.path for name in ("train", "validation", "test") for record in cohort.split(name)]
    assert sorted(together) == [record.path for record in cohort.records]
    with pytest.raises(MedganError, match=r"no split 'validate'.*Did you mean 'validation'"):
        cohort.split("validate")


def test_a_cohort_can_be_moved(cohort: Cohort, tmp_path: Path) -> None:
    cohort.folder.rename(tmp_path / "moved")
    moved = Cohort.load(tmp_path / "moved")
    assert moved.manifest_sha256 == cohort.manifest_sha256
    assert np.isfinite(moved.voxels(moved.records[-1])).all()


def test_what_is_no_cohort(tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="no such file"):
        Cohort.load(tmp_path / "nowhere")
    with pytest.raises(MedganError, match="no prepared cohort"):
        Cohort.load(tmp_path)


def test_a_damaged_manifest_names_its_line(cohort: Cohort) -> None:
    manifest = cohort.folder / "manifest.jsonl"
    lines = manifest.read_text().splitlines()
    for damaged in ('{"path": 3', '{"path": "x"}', "3"):
        manifest.write_text("\n".join([lines[0], damaged]))
        with pytest.raises(MedganError, match="line 2 of the manifest is damaged"):
            Cohort.load(cohort.folder)
    manifest.write_text("")
    with pytest.raises(MedganError, match="empty"):
        Cohort.load(cohort.folder)


def test_missing_or_damaged_voxels_are_explained(cohort: Cohort) -> None:
    record = cohort.records[0]
    file = cohort.folder / record.voxels
    np.save(file, np.zeros((2, 2, 2), dtype=np.float32))
    with pytest.raises(MedganError, match=r"expected .* found \(2, 2, 2\)"):
        cohort.voxels(record)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(MedganError, match="cannot be read"):
        cohort.voxels(record)
    file.unlink()
    with pytest.raises(MedganError, match="Prepare the cohort again"):
        cohort.volume(record)


def test_threads_may_open_voxels_at_the_same_time(cohort: Cohort) -> None:
    expected = [float(cohort.voxels(record).sum()) for record in cohort.records]

    def yield_to_other_threads(_phase: str, _information: dict) -> None:
        time.sleep(0)

    # Threads change places at garbage collections only while C code runs; frequent ones make rare accidents certain.
    threshold = gc.get_threshold()
    gc.callbacks.append(yield_to_other_threads)
    gc.set_threshold(20)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(100):
                sums = list(pool.map(lambda record: float(cohort.voxels(record).sum()), cohort.records))
                assert sums == expected
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(yield_to_other_threads)

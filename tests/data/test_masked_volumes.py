"""Batches of scans and their label maps."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.data.cohort import Cohort
from medgan.data.masked_volumes import MaskedVolumes, label_numbers, label_values_of, with_known_labels
from medgan.data.prepare import prepare
from medgan.errors import MedganError

SHAPE = (9, 8, 10)
VALUES = np.array([0, 3, 40])


def _cohort(tmp_path: Path, count: int = 5) -> Cohort:
    """Scans that are their label maps, but for a little: 0, 1 and 2 for the labels 0, 3 and 40."""
    for number in range(count):
        rng = np.random.default_rng(number)
        numbers = rng.integers(0, 3, SHAPE)
        scan = numbers + 0.01 * rng.random(SHAPE)
        for kind, data in (("images", scan.astype(np.float32)), ("labels", VALUES[numbers].astype(np.int16))):
            (tmp_path / kind).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / kind / f"case_{number}.nii.gz")
    return prepare([tmp_path / "images"], tmp_path / "cohort", masks=tmp_path / "labels", split=(0.6, 0.2, 0.2)).cohort


def test_scans_and_label_maps_are_flipped_alike(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path)
    source = MaskedVolumes(cohort, "train", labels=label_values_of(cohort), batch_size=4, seed=3, flip=True)
    flipped = 0
    for step in range(3):
        batch = source.batch(step)
        assert batch.voxels.shape == (4, 2, *SHAPE)
        flipped += sum(flips[0] for flips in batch.flips)
        scan, numbers = batch.voxels[:, 0].numpy(), batch.voxels[:, 1].numpy()
        # Every voxel's intensity tells its label, so a label map that was not flipped with its scan shows.
        np.testing.assert_array_equal(np.rint(2 * scan), numbers)
        assert np.array_equal(source.batch(step).voxels, batch.voxels)
    assert 0 < flipped < 12


def test_labels_are_counted_in_order_and_others_are_refused() -> None:
    mask = np.array([[0, 40], [3, 3]], np.uint16)
    np.testing.assert_array_equal(label_numbers(mask, (0, 3, 40)), [[0, 2], [1, 1]])
    with pytest.raises(MedganError, match=r"holds 40, which the model does not know.*labels 0, 3\b"):
        label_numbers(mask, (0, 3))


def test_labels_of_a_cohort(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path)
    assert label_values_of(cohort) == (0, 3, 40)
    assert with_known_labels(cohort.records, (0, 3)) == ()
    assert with_known_labels(cohort.records, (0, 3, 7, 40)) == cohort.records


def test_a_cohort_without_label_maps_is_refused(tmp_path: Path) -> None:
    _cohort(tmp_path)
    plain = prepare([tmp_path / "images"], tmp_path / "plain").cohort
    with pytest.raises(MedganError, match="5 of 5 scans have no label map") as caught:
        label_values_of(plain)
    assert "--masks" in str(caught.value)

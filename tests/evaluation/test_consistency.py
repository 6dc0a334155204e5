"""Data consistency against errors of known size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.acquisition import Acquisition
from medgan.errors import MedganError
from medgan.evaluation.consistency import data_consistency


def test_truth_is_consistent_and_an_offset_is_counted() -> None:
    truth = np.random.default_rng(0).random((12, 10, 16))
    acquisition = Acquisition.between(truth.shape, (12, 10, 4), high_spacing=(1, 1, 1))
    low = acquisition.forward(torch.from_numpy(truth)).numpy()
    assert data_consistency(truth, low, acquisition).rmse < 1e-12
    span = np.subtract(*np.percentile(low, (99.5, 0.5)))
    figures = data_consistency(truth + 0.25, low, acquisition)
    assert figures.rmse == pytest.approx(0.25)
    assert figures.relative == pytest.approx(0.25 / span)
    assert figures.worst_slice == pytest.approx(0.25 / span)
    assert figures.to_dict()["data_range"] == pytest.approx(span)


def test_what_the_scanner_cannot_see_does_not_count() -> None:
    truth = np.random.default_rng(1).random((8, 8, 16))
    acquisition = Acquisition.between(truth.shape, (8, 8, 4), high_spacing=(1, 1, 1))
    matrix = np.zeros((4, 16))
    for index in range(16):
        unit = np.zeros(truth.shape)
        unit[0, 0, index] = 1
        matrix[:, index] = acquisition.forward(torch.from_numpy(unit))[0, 0].numpy()
    unseen = np.linalg.svd(matrix)[2][-1]
    low = acquisition.forward(torch.from_numpy(truth)).numpy()
    assert data_consistency(truth + 10 * unseen, low, acquisition).rmse < 1e-10
    shifted = data_consistency(np.roll(truth, 1, axis=2), low, acquisition)
    assert shifted.rmse > 0.01


def test_one_wrong_slice_is_found() -> None:
    truth = np.random.default_rng(2).random((8, 8, 16))
    acquisition = Acquisition.between(truth.shape, (8, 8, 16), high_spacing=(1, 1, 1))
    low = truth.copy()
    low[3] -= 0.5
    figures = data_consistency(truth, low, acquisition)
    assert figures.worst_slice * figures.data_range == pytest.approx(0.5)


def test_other_grids_and_constant_scans_are_refused() -> None:
    acquisition = Acquisition.between((8, 8, 8), (8, 8, 4), high_spacing=(1, 1, 1))
    with pytest.raises(MedganError, match="expected"):
        data_consistency(np.zeros((8, 8, 8)), np.zeros((8, 8, 8)), acquisition)
    with pytest.raises(MedganError, match="constant"):
        data_consistency(np.zeros((8, 8, 8)), np.zeros((8, 8, 4)), acquisition)

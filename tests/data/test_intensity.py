from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.data.intensity import denormalise, normalise
from medgan.errors import MedganError


def test_percentiles_become_zero_and_one_and_come_back() -> None:
    voxels = np.array([-1024, 0, 300, 1000], dtype=np.float32)
    result = normalise(voxels, -1000, 1000)
    np.testing.assert_allclose(result, [-0.012, 0.5, 0.65, 1.0], atol=1e-6)
    assert result.dtype == np.float32
    np.testing.assert_allclose(denormalise(result, -1000, 1000), voxels, atol=1e-3)


def test_extremes_are_bounded_and_tensors_are_welcome() -> None:
    result = normalise(torch.tensor([-900.0, 50.0, 30000.0]), 0, 100)
    assert result.tolist() == [-1.0, 0.5, 4.0]


def test_no_range_is_refused() -> None:
    with pytest.raises(MedganError, match="5 to 5"):
        normalise(np.zeros(3, dtype=np.float32), 5, 5)

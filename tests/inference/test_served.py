from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.inference.served import ServedModel, _load_pyfunc
from medgan.io import write_volume
from medgan.volume import Volume

pd: Any = pytest.importorskip("pandas")


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Inference that needs no network: doubling of voxels, and samples that tell their seed and index."""
    calls: list[dict[str, Any]] = []

    def upscale(volume: Volume, model: Any, **options: Any) -> Volume:
        calls.append({"spacing_in": volume.spacing, **options})
        return volume.with_data(volume.as_float() * 2)

    def generate(model: Any, count: int, *, seed: int = 0, **options: Any) -> Iterator[Volume]:
        calls.append({"count": count, "seed": seed, **options})
        for index in range(count):
            yield Volume(np.full((2, 3, 4), 100 * seed + index, np.float32), np.eye(4))

    def load_model(path: Path, device: str = "cpu") -> SimpleNamespace:
        return SimpleNamespace(task="synthesis", folder=path, device=device)

    for name, function in {"upscale": upscale, "generate": generate, "model": load_model}.items():
        module = ModuleType(f"medgan.inference.{name}")
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


@pytest.fixture
def sharpener() -> ServedModel:
    return ServedModel(SimpleNamespace(task="super_resolution"))  # type: ignore[arg-type]


@pytest.fixture
def generator() -> ServedModel:
    return ServedModel(SimpleNamespace(task="synthesis"))  # type: ignore[arg-type]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    return write_volume(Volume(data, np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / "scan.nii.gz")


def test_paths_arrays_lists_and_frames_are_upscaled(sharpener: ServedModel, scan: Path) -> None:
    voxels = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    expected = 2 * voxels
    for model_input in (scan, str(scan), voxels, voxels[None], voxels.astype(np.int16)):
        result = sharpener.predict(model_input)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, expected)
    for several in ([scan, voxels], (str(scan), voxels), pd.DataFrame({"path": [str(scan), str(scan)]})):
        results = sharpener.predict(several)
        assert isinstance(results, list)
        assert len(results) == 2
        for result in results:
            np.testing.assert_array_equal(result, expected)


def test_parameters_reach_the_upscaling(sharpener: ServedModel, scan: Path, stand_ins: list[dict[str, Any]]) -> None:
    sharpener.predict(np.zeros((2, 2, 2)), {"factor": [1, 1, 3], "fidelity": 0.25, "voxel_size": [1.0, 1.0, 6.0]})
    sharpener.predict(scan, {"factor": [], "spacing": np.array([0.5]), "fidelity": 1.0, "voxel_size": [1.0, 1.0, 1.0]})
    assert stand_ins == [
        {"spacing_in": (1.0, 1.0, 6.0), "factor": (1.0, 1.0, 3.0), "fidelity": 0.25},
        {"spacing_in": (1.0, 1.0, 3.0), "spacing": (0.5, 0.5, 0.5), "fidelity": 1.0},
    ]


def test_scans_are_drawn_by_number_and_seed(generator: ServedModel, stand_ins: list[dict[str, Any]]) -> None:
    for number in (2, 2.0, np.int64(2), np.array([2])):
        drawn = generator.predict(number, {"seed": 3})
        assert drawn.shape == (2, 2, 3, 4)
        assert drawn[:, 0, 0, 0].tolist() == [300, 301]
    drawn = generator.predict(pd.DataFrame({"n": [1, 2], "seed": [5, 6]}), {"truncation": 0.7})
    assert drawn[:, 0, 0, 0].tolist() == [500, 600, 601]
    assert stand_ins[-1] == {"count": 2, "seed": 6, "truncation": 0.7}
    assert generator.predict(pd.DataFrame({"n": [1]}), {"seed": 9})[:, 0, 0, 0].tolist() == [900]


def test_what_is_no_input_is_refused(sharpener: ServedModel, generator: ServedModel, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="'path'"):
        sharpener.predict(pd.DataFrame({"file": ["a"]}))
    with pytest.raises(MedganError, match="missing"):
        sharpener.predict(tmp_path / "missing.nii.gz")
    with pytest.raises(MedganError, match="path or an array"):
        sharpener.predict(np.array([object()]))
    with pytest.raises(MedganError, match="'factor'"):
        sharpener.predict(np.zeros((2, 2, 2)), {"factor": [1, 2]})
    for nonsense in ("three", 1.5, [1, 2], None):
        with pytest.raises(MedganError, match="number of scans"):
            generator.predict(nonsense)


def test_mlflow_loads_by_folder_and_device() -> None:
    assert _load_pyfunc("/some/model").model.folder == Path("/some/model")
    assert _load_pyfunc("/some/model").model.device == "cpu"
    assert _load_pyfunc("/some/model", {"device": "cuda"}).model.device == "cuda"

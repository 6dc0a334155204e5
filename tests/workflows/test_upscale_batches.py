"""A cohort in batches of several scans: the same files as one by one, and one bad scan costs no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.inference import memory, together
from medgan.inference.model import load_model
from medgan.networks.conditioned import ConditionedNetwork
from medgan.networks.saved import save_model
from medgan.workflows import upscale_cohort
from medgan.workflows.batch import BatchResult
from medgan.workflows.upscale import upscale_scans
from medgan.workflows.upscale_batches import may_share_batches
from medgan.workflows.upscale_request import Request


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = ConditionedNetwork(channels=4, blocks=1)
    weights = {
        f"fidelity.{name}": value + 0.1 * torch.randn_like(value) for name, value in network.state_dict().items()
    }
    config = {
        "medgan_version": "0",
        "task": "super_resolution",
        "network": {"name": "conditioned", "arguments": network.arguments},
        "normalisation": {"percentiles": [0.5, 99.5]},
        "acquisition": {"random": {}, "factor": [1, 1, 4], "profile": "gaussian", "regularisation": None},
    }
    return save_model(tmp_path_factory.mktemp("models") / "model", config, weights)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Four scans of one shape, one of another in their midst, and one that is empty."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, slices in enumerate((6, 6, 5, 6, 6)):
        voxels = np.random.default_rng(number).random((10, 9, slices)) * 1000
        image = nib.Nifti1Image(voxels.astype(np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
        nib.save(image, folder / f"sub-{number}.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((10, 9, 6), np.float32), np.diag([1, 1, 4, 1])), folder / "sub-3b.nii.gz")
    return folder


@pytest.fixture
def in_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As on a GPU; the sizes of the batches are noted."""
    monkeypatch.setattr(upscale_cohort, "may_share_batches", lambda model, request: True)
    sizes: list[int] = []
    honest = together.upscale_together

    def counted(volumes: Any, *arguments: Any, **options: Any) -> Any:
        sizes.append(len(volumes))
        return honest(volumes, *arguments, **options)

    monkeypatch.setattr(together, "upscale_together", counted)
    return sizes


@pytest.fixture
def alone(scans: Path, model_folder: Path, tmp_path: Path) -> BatchResult:
    """The scans one by one; made before anything is exchanged."""
    return upscale_scans([scans], tmp_path / "alone", model=model_folder, device="cpu")


def _check_same(made: BatchResult, alone: BatchResult) -> None:
    assert [path.name for path in made.written] == [path.name for path in alone.written]
    assert made.failures == alone.failures
    for ours, theirs in zip(made.written, alone.written, strict=True):
        one, other = nib.load(ours), nib.load(theirs)
        np.testing.assert_allclose(np.asarray(one.dataobj), np.asarray(other.dataobj), rtol=0, atol=1e-5 * 1000)
        np.testing.assert_array_equal(one.affine, other.affine)
        notes = [
            json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text()) for path in (ours, theirs)
        ]
        assert notes[0]["history"] == notes[1]["history"]
        assert notes[0]["output_check"]["passed"] == notes[1]["output_check"]["passed"]


def test_batches_make_what_one_by_one_makes_and_are_skipped_when_repeated(
    alone: BatchResult, in_batches: list[int], scans: Path, model_folder: Path, tmp_path: Path
) -> None:
    def again() -> BatchResult:
        return upscale_scans([scans], tmp_path / "together", model=model_folder, device="cpu")

    made = again()
    _check_same(made, alone)
    assert len(made.written) == 5
    assert "every voxel is 0" in made.failures[0][1]
    # The scan of another shape ends the first batch, and stands alone.
    assert in_batches == [2, 2]
    assert len(again().skipped) == 5
    made.written[1].unlink()
    assert len(again().skipped) == 4
    _check_same(again(), alone)


def test_batches_stay_within_the_memory(
    alone: BatchResult, in_batches: list[int], scans: Path, model_folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    _check_same(upscale_scans([scans], tmp_path / "together", model=model_folder, device="cpu"), alone)
    assert in_batches == []


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), MedganError("no")])
def test_scans_of_a_batch_that_fails_are_tried_alone(
    error: Exception,
    alone: BatchResult,
    scans: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*arguments: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(upscale_cohort, "may_share_batches", lambda model, request: True)
    monkeypatch.setattr(together, "upscale_together", failing)
    _check_same(upscale_scans([scans], tmp_path / "together", model=model_folder, device="cpu"), alone)


@pytest.mark.parametrize(
    ("device", "request_of", "shared"),
    [
        ("cuda", Request, True),
        ("cpu", Request, False),
        ("cuda", lambda: Request(uncertainty=True), False),
        ("cuda", lambda: Request(self_supervised=True), False),
    ],
)
def test_batches_are_for_networks_on_a_gpu(
    device: str, request_of: Callable[[], Request], shared: bool, model_folder: Path
) -> None:
    assert may_share_batches(load_model(model_folder, device), request_of()) is shared
    assert not may_share_batches(None, request_of())

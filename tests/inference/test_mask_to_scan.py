"""Scans for label maps: where they lie, and what they depend on."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom

from medgan.errors import MedganError
from medgan.inference.mask_to_scan import scans_for_mask
from medgan.inference.model import Model, load_model
from medgan.inference.served import ServedModel
from medgan.io import read_volume, write_volume
from medgan.networks.saved import save_model
from medgan.networks.spade import SpadeGenerator, spade_arguments
from medgan.volume import Volume

SHAPE, SPACING = (12, 10, 8), (2.0, 2.0, 2.5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(0)
    pyramid = spade_arguments(SHAPE, SPACING, width=4, max_width=8, base_size=2, haar_head=False)
    network = SpadeGenerator(labels=3, latent_size=4, embedding=4, **pyramid)
    config = {
        "medgan_version": "0",
        "task": "mask_to_scan",
        "network": {"name": "spade_generator", "arguments": network.arguments},
        "normalisation": {"low": 100.0, "high": 300.0, "minimum": 0.0},
        "mask_labels": [0, 2, 5],
        "shape": list(SHAPE),
        "spacing": list(SPACING),
    }
    return load_model(save_model(tmp_path_factory.mktemp("models") / "model", config, network.state_dict()))


def _oblique() -> NDArray[np.float64]:
    """Turned by 12 degrees; the first axis runs to the left."""
    affine = np.eye(4)
    a = np.deg2rad(12)
    affine[:2, :2] = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    affine[:3, :3] = affine[:3, :3] @ np.diag([-SPACING[0], SPACING[1], SPACING[2]])
    affine[:3, 3] = (11, -7, 23)
    return affine


def _mask(shape: tuple[int, int, int] = SHAPE, affine: NDArray | None = None) -> Volume:
    labels = np.random.default_rng(0).choice([0, 2, 5], shape).astype(np.uint8)
    return Volume(labels, _oblique() if affine is None else affine)


def _one(model: Model, mask: Volume, **options: int) -> Volume:
    (volume,) = scans_for_mask(model, mask, 1, **options)
    return volume


@pytest.mark.parametrize("orientation", ["LAS", "RAS", "PSR", "IRA"])
def test_a_scan_lies_where_its_label_map_does_whatever_the_order_of_axes(model: Model, orientation: str) -> None:
    mask = _mask()
    turned = nib.Nifti1Image(mask.data[0], mask.affine).as_reoriented(
        nib.orientations.ornt_transform(
            nib.io_orientation(mask.affine), nib.orientations.axcodes2ornt(tuple(orientation))
        )
    )
    given = Volume(np.asarray(turned.dataobj), turned.affine)
    made = _one(model, given)
    np.testing.assert_array_equal(made.affine, turned.affine)
    assert made.shape == turned.shape
    # The same in space: nibabel turns the result back.
    back = nib.Nifti1Image(made.data[0], made.affine).as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(turned.affine), nib.io_orientation(mask.affine))
    )
    np.testing.assert_allclose(back.affine, mask.affine, atol=1e-9)
    np.testing.assert_array_equal(np.asarray(back.dataobj), _one(model, mask).data[0])


def test_the_header_of_a_written_scan_has_the_grid_of_the_label_map(model: Model, tmp_path: Path) -> None:
    image = nib.Nifti1Image(_mask().data[0], _oblique())
    image.set_sform(_oblique(), 1)
    image.set_qform(_oblique(), 1)
    image.header.set_intent("label")
    image.header["descrip"] = b"Somebody"
    nib.save(image, tmp_path / "mask.nii.gz")
    write_volume(_one(model, read_volume(tmp_path / "mask.nii.gz")), tmp_path / "scan.nii.gz")
    scan = nib.load(tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(scan.affine, _oblique(), atol=1e-5)
    assert (int(scan.header["qform_code"]), int(scan.header["sform_code"])) == (1, 1)
    assert scan.get_data_dtype() == np.float32
    assert int(scan.header["intent_code"]) == 0
    assert bytes(scan.header["descrip"]).startswith(b"SYNTHETIC")


def test_a_finer_label_map_gets_a_scan_on_its_own_grid_that_shows_the_same(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One latent vector for both label maps, which are not the same voxels: what is compared is what the network saw.
    monkeypatch.setattr("medgan.inference.mask_to_scan._mixed", lambda seed, digest: seed)
    coarse = _mask()
    halved = np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]])
    fine = Volume(coarse.data[0].repeat(2, 0).repeat(2, 1).repeat(2, 2), coarse.affine @ halved)
    made, finer = _one(model, coarse), _one(model, fine)
    assert finer.shape == fine.shape
    np.testing.assert_array_equal(finer.affine, fine.affine)
    expected = zoom(made.data[0].astype(np.float64), 2, order=3, mode="reflect", grid_mode=True)
    np.testing.assert_allclose(finer.data[0], np.maximum(expected, 0), atol=1e-2)


def test_a_sample_depends_on_model_seed_index_and_label_map_alone(model: Model) -> None:
    mask = _mask()
    three = list(scans_for_mask(model, mask, 3, seed=4))
    np.testing.assert_array_equal(_one(model, mask, seed=4, first=2).data, three[2].data)
    assert not np.array_equal(three[0].data, three[1].data)
    assert not np.array_equal(_one(model, mask, seed=5).data, three[0].data)
    moved = Volume(mask.data, np.diag([2.0, 2, 2.5, 1]))
    stored_otherwise = mask.with_data(mask.data.astype(np.float32))
    np.testing.assert_array_equal(_one(model, stored_otherwise, seed=4).data, three[0].data)
    # Turned from left to right it is another label map.
    assert not np.array_equal(_one(model, moved, seed=4).data, three[0].data)
    assert three[1].metadata["seed"] == 4
    assert three[1].metadata["index"] == 1
    assert three[1].metadata["synthetic"] is True


def test_intensities_are_in_the_units_of_the_training(model: Model) -> None:
    made = _one(model, _mask()).data
    assert 0 <= made.min() < 250
    assert 100 < made.mean() < 300


def test_label_maps_that_the_model_cannot_fill_are_refused(model: Model) -> None:
    with pytest.raises(MedganError, match=r"holds 7, which the model does not know.*labels 0, 2, 5"):
        _one(model, _mask().with_data(np.full(SHAPE, 7, np.uint8)))
    with pytest.raises(MedganError, match=r"no labels, such as 0\.5"):
        _one(model, _mask().with_data(np.full(SHAPE, 0.5, np.float32)))
    with pytest.raises(MedganError, match="spans 48 x 20 x 20 mm"):
        _one(model, _mask((24, 10, 8), np.diag([*SPACING, 1.0])))
    with pytest.raises(MedganError, match="at least 1"):
        list(scans_for_mask(model, _mask(), 0))


def test_mlflow_serves_the_same_scan(model: Model) -> None:
    labels = _mask(affine=np.diag([*SPACING, 1.0]))
    served = ServedModel(model).predict(labels.data[0], {"seed": 3, "index": 1})
    np.testing.assert_array_equal(served, _one(model, labels, seed=3, first=1).data[0])

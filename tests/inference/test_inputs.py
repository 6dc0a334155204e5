"""What is no image to make sharper."""

from __future__ import annotations

import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.inference.inputs import require_image
from medgan.volume import Volume


def _labels(count: int) -> np.ndarray:
    """A ball in a box, cut into slabs of different labels."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, 40),) * 3, indexing="ij")
    return ((x**2 + y**2 + z**2 < 0.8) * (1 + (np.arange(40) * count // 40)[:, None, None])).astype(np.int32)


def _image(dtype: type) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(_labels(3) * 60 + rng.normal(0, 6, (40, 40, 40)), 0, 250).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_label_maps_are_known_by_flat_regions_of_whole_numbers(count: int, dtype: type) -> None:
    with pytest.raises(MedganError, match=f"label map .{count + 1} different whole numbers"):
        require_image(Volume(_labels(count).astype(dtype), np.eye(4)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_scans_of_few_grey_values_are_images(dtype: type) -> None:
    require_image(Volume(_image(dtype), np.eye(4)), "sub-01_T1w")


@pytest.mark.parametrize("name", ["sub-01_dseg", "sub-01_space-T1w_desc-brain_mask", "aseg", "lesion-mask"])
def test_names_and_headers_give_labels_away(name: str) -> None:
    image = Volume(_image(np.float32), np.eye(4))
    with pytest.raises(MedganError, match="by its name"):
        require_image(image, name)
    with pytest.raises(MedganError, match="intent code"):
        require_image(Volume(image.data, image.affine, metadata={"nifti": {"intent_code": 1002}}), "t1")


@pytest.mark.parametrize("name", ["t1_seg3d", "mask_applied_T1w", "unmasked", "mosaseg2"])
def test_other_names_do_not(name: str) -> None:
    require_image(Volume(_image(np.float32), np.eye(4)), name)


def test_constant_scans_are_named_by_their_value() -> None:
    with pytest.raises(MedganError, match="every voxel is -1000: there is nothing"):
        require_image(Volume(np.full((4, 4, 4), -1000, np.int16), np.eye(4)))


def test_real_label_maps_are_refused_and_real_scans_are_not(test_data: object) -> None:
    from pathlib import Path

    from medgan.io import read_volume

    folder = Path(str(test_data)) / "mri_t1_hippocampus_1mm"
    for labels in sorted((folder / "labels").iterdir())[:4]:
        require_image(read_volume(folder / "images" / labels.name))
        with pytest.raises(MedganError, match="label map"):
            require_image(read_volume(labels))

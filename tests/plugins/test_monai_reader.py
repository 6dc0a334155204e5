"""The strict reader in MONAI's own pipelines, held against nibabel and phantoms of known geometry."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from medgan.errors import MedganError

NAMED = "medgan.plugins.monai_reader.MedganReader"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def reader_class() -> Any:
    from medgan.plugins.monai_reader import MedganReader

    return MedganReader


@pytest.fixture(scope="module")
def affine() -> np.ndarray:
    """Oblique, anisotropic, right-handed as DICOM's stacks are; RAS+ mm."""
    x, y, z = 0.3, -0.2, 0.5
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_y @ about_x @ np.diag([-0.8, -1.5, 4.2])
    matrix[:3, 3] = (30.25, -12.5, 41.75)
    return matrix


@pytest.fixture
def nifti(tmp_path: Path, affine: np.ndarray) -> Path:
    voxels = np.random.default_rng(0).normal(100, 30, (7, 6, 5)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, affine @ np.diag([1, -1, 1, 1])), tmp_path / "oblique.nii.gz")
    return tmp_path / "oblique.nii.gz"


def _voxels(columns: int, rows: int, slices: int) -> np.ndarray:
    i, j, k = np.ogrid[:columns, :rows, :slices]
    return (100 + 3 * i + 31 * j + 307 * k).astype(np.uint16)


def _slice(lps: np.ndarray, pixels: np.ndarray, k: int, uid: str, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Doe^Jane", "SECRET-42", "MR"
    dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID, dataset.InstanceNumber = uid, f"{uid}.1", number
    dataset.SeriesDescription, dataset.ImageType = "t2 for Dr Who", ["ORIGINAL", "PRIMARY", "M"]
    dataset.Rows, dataset.Columns = pixels.shape
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    dataset.PixelSpacing, dataset.SliceThickness = [float(steps[1]), float(steps[0])], 3.5
    dataset.ImageOrientationPatient = [f"{v:.14f}"[:16] for v in (lps[:3, :2] / steps[:2]).T.ravel()]
    dataset.ImagePositionPatient = [f"{v:.11f}"[:16] for v in (lps @ [0, 0, k, 1])[:3]]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    return dataset


@pytest.fixture
def dicom(tmp_path: Path, affine: np.ndarray) -> Callable[..., Path]:
    """Writes a series of 7 columns, 6 rows and 5 slices; instance numbers say nothing about the order."""

    def written(folder: str = "series", uid: str = "1.2.3", leave_out: int | None = None) -> Path:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        voxels = _voxels(7, 6, 5)
        for number, k in enumerate([3, 0, 4, 1, 2]):
            if k != leave_out:
                dataset = _slice(LPS_TO_RAS @ affine, voxels[:, :, k].T, k, uid, number)
                pydicom.dcmwrite(place / f"{uid}.{number}.dcm", dataset)
        return place

    return written


@pytest.mark.parametrize("form", ["class", "instance", "name"])
def test_every_way_to_name_the_reader_gives_it(nifti: Path, reader_class: Any, form: str) -> None:
    from monai.transforms import LoadImage

    reader = {"class": reader_class, "instance": reader_class(), "name": NAMED}[form]
    load = LoadImage(reader=reader)
    assert type(load.readers[-1]) is reader_class
    assert "medgan_history" in load(nifti).meta


def test_nifti_reads_as_nibabel_says(nifti: Path, reader_class: Any, affine: np.ndarray) -> None:
    from monai.transforms import LoadImage

    truth = nib.load(nifti)
    image = LoadImage(reader=reader_class)(nifti)
    np.testing.assert_array_equal(image.numpy(), truth.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(image.affine, truth.affine, atol=1e-5)
    np.testing.assert_allclose(image.meta["original_affine"], truth.affine, atol=1e-5)
    assert image.affine.numpy().dtype == np.float64
    assert list(image.meta["spatial_shape"]) == [7, 6, 5]
    assert (str(image.meta["space"]), np.isnan(image.meta["original_channel_dim"])) == ("RAS", True)
    assert image.meta["filename_or_obj"] == str(nifti)


def test_dicom_reads_as_it_was_made(dicom: Callable[..., Path], reader_class: Any, affine: np.ndarray) -> None:
    from monai.transforms import LoadImage

    image = LoadImage(reader=reader_class)(dicom())
    np.testing.assert_array_equal(image.numpy(), _voxels(7, 6, 5))
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)


def test_no_header_text_rides_along(dicom: Callable[..., Path], reader_class: Any) -> None:
    from monai.transforms import LoadImage

    meta = LoadImage(reader=reader_class)(dicom()).meta
    text = str({key: value for key, value in meta.items() if key != "filename_or_obj"})
    assert [secret for secret in ("Doe", "SECRET", "Who", "1.2.3") if secret in text] == []
    assert (meta["modality"], meta["slice_thickness"]) == ("MR", 3.5)


def test_a_refusal_is_not_handed_to_another_reader(dicom: Callable[..., Path], reader_class: Any) -> None:
    """MONAI's own reader takes this series and puts its slices where they are not."""
    from monai.transforms import LoadImage

    place = dicom(leave_out=2)
    assert LoadImage(reader="PydicomReader")(place).shape == (7, 6, 4)
    for reader in (reader_class, NAMED):
        with pytest.raises(MedganError, match="slice"):
            LoadImage(reader=reader)(place)


def test_a_file_of_another_kind_is_refused(tmp_path: Path, reader_class: Any) -> None:
    from monai.transforms import LoadImage

    np.save(tmp_path / "a.npy", np.zeros((3, 3, 3)))
    with pytest.raises(MedganError, match="neither NIfTI nor DICOM"):
        LoadImage(reader=reader_class)(tmp_path / "a.npy")


def test_one_series_of_several_is_chosen(dicom: Callable[..., Path], reader_class: Any) -> None:
    from monai.transforms import LoadImage

    place = dicom(uid="1.2.3")
    dicom(uid="1.2.4")
    with pytest.raises(MedganError, match=r"1\.2\.4"):
        LoadImage(reader=reader_class)(place)
    for load in (
        LoadImage(reader=reader_class, series="1.2.4"),
        LoadImage(reader=reader_class(series="1.2.4")),
        LoadImage(reader=NAMED, series="1.2.4"),
    ):
        assert load(place).shape == (7, 6, 5)


def test_one_volume_of_several_is_chosen(tmp_path: Path, reader_class: Any, affine: np.ndarray) -> None:
    from monai.transforms import LoadImage

    voxels = np.random.default_rng(0).normal(size=(7, 6, 5, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "time.nii.gz")
    with pytest.raises(MedganError, match="3"):
        LoadImage(reader=reader_class)(tmp_path / "time.nii.gz")
    image = LoadImage(reader=reader_class, index=2)(tmp_path / "time.nii.gz")
    np.testing.assert_array_equal(image.numpy(), voxels[..., 2])


@pytest.mark.parametrize("form", ["names", "record"])
def test_relaxations_reach_the_reader(dicom: Callable[..., Path], reader_class: Any, form: str) -> None:
    from monai.transforms import LoadImage

    from medgan.io.dicom.relaxations import Relaxations

    wanted = ["allow_gap"] if form == "names" else Relaxations(allow_gap=True)
    image = LoadImage(reader=reader_class, relaxations=wanted)(dicom(leave_out=2))
    np.testing.assert_allclose(image.numpy(), _voxels(7, 6, 5), atol=1e-3)
    assert image.meta["medgan_history"]


@pytest.mark.parametrize("options", [{"serie": "1.2.3"}, {"relaxations": ["allow_gaps"]}])
def test_a_misspelt_option_is_an_error(reader_class: Any, options: dict[str, Any]) -> None:
    from monai.transforms import LoadImage

    with pytest.raises(MedganError, match="Did you mean"):
        LoadImage(reader=NAMED, **options)


def test_several_files_become_channels(tmp_path: Path, reader_class: Any, affine: np.ndarray) -> None:
    from monai.transforms import EnsureChannelFirst, LoadImage

    for number in (1, 2):
        nib.save(nib.Nifti1Image(np.full((7, 6, 5), number, np.int16), affine), tmp_path / f"{number}.nii")
    paths = [tmp_path / "1.nii", tmp_path / "2.nii"]
    image = EnsureChannelFirst()(LoadImage(reader=reader_class)(paths))
    assert image.shape == (2, 7, 6, 5)
    assert (float(image[0].max()), float(image[1].min())) == (1, 2)
    moved = affine.copy()
    moved[0, 3] += 0.5
    nib.save(nib.Nifti1Image(np.zeros((7, 6, 5), np.int16), moved), paths[1])
    with pytest.raises(MedganError, match=r"0\.5 mm beside 1\.nii"):
        LoadImage(reader=reader_class)(paths)
    nib.save(nib.Nifti1Image(np.zeros((7, 6, 4), np.int16), affine), paths[1])
    with pytest.raises(MedganError, match="cannot be a channel"):
        LoadImage(reader=reader_class)(paths)


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_it_feeds_the_usual_transforms(
    kind: str, nifti: Path, dicom: Callable[..., Path], reader_class: Any, tmp_path: Path
) -> None:
    from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Orientation, SaveImage, Spacing

    source = nifti if kind == "nifti" else dicom()
    loaded = Compose([LoadImage(reader=reader_class), EnsureChannelFirst()])(source)
    save = SaveImage(
        output_dir=tmp_path / "out", output_postfix="", separate_folder=False, output_dtype=np.float32, print_log=False
    )
    save(loaded)
    (written,) = (tmp_path / "out").iterdir()
    again = nib.load(written)
    np.testing.assert_allclose(again.affine, loaded.meta["original_affine"], atol=1e-4)
    np.testing.assert_array_equal(again.get_fdata(dtype=np.float32), loaded[0].numpy())

    turned = Orientation(axcodes="RAS")(loaded)
    assert nib.aff2axcodes(turned.affine.numpy()) == ("R", "A", "S")
    assert np.isclose(float(turned.sum()), float(loaded.sum()))
    finer = Spacing(pixdim=(1, 1, 2))(loaded)
    np.testing.assert_allclose(np.linalg.norm(finer.affine.numpy()[:3, :3], axis=0), (1, 1, 2), atol=1e-5)


def test_workers_of_a_loader_can_have_it(
    tmp_path: Path, dicom: Callable[..., Path], reader_class: Any, affine: np.ndarray
) -> None:
    from monai.data import DataLoader, Dataset
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

    nib.save(nib.Nifti1Image(_voxels(7, 6, 5), affine), tmp_path / "a.nii.gz")
    whole, gap = dicom("whole"), dicom("gap", leave_out=2)
    reading = LoadImaged(keys="image", reader=reader_class, relaxations=["allow_gap"])
    load = Compose([reading, EnsureChannelFirstd(keys="image")])
    assert pickle.loads(pickle.dumps(reader_class(series="1.2"))).series == "1.2"
    items = [{"image": str(path)} for path in (tmp_path / "a.nii.gz", whole, gap)]
    (batch,) = DataLoader(Dataset(items, load), batch_size=3, num_workers=2)
    assert batch["image"].shape == (3, 1, 7, 6, 5)
    assert batch["image"].affine.shape == (3, 4, 4)
    assert batch["image"].meta["filename_or_obj"] == [item["image"] for item in items]


def test_it_can_be_made_a_reader_that_is_found_by_itself(
    nifti: Path, dicom: Callable[..., Path], reader_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai.transforms import LoadImage
    from monai.transforms.io import array

    monkeypatch.setitem(array.SUPPORTED_READERS, "medganreader", reader_class)
    for path in (nifti, dicom()):
        assert "medgan_history" in LoadImage()(path).meta
    with pytest.raises(MedganError, match="slice"):
        LoadImage()(dicom("gap", leave_out=2))


def test_a_loaded_scan_becomes_a_volume_with_its_history(dicom: Callable[..., Path], reader_class: Any) -> None:
    from monai.transforms import EnsureChannelFirst, LoadImage

    from medgan import Volume

    image = EnsureChannelFirst()(LoadImage(reader=reader_class, relaxations=["allow_gap"])(dicom(leave_out=2)))
    volume = Volume.from_metatensor(image)
    assert "\n".join(volume.history) == image.meta["medgan_history"] != ""

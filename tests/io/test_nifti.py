from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Extension
from scipy.spatial.transform import Rotation

from medgan.errors import MedganError
from medgan.io.nifti import from_nibabel, outline_of, read_nifti, to_nibabel, write_nifti
from medgan.volume import Volume

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [0.2, -0.4, 0.1]).as_matrix() @ np.diag([-0.9, 1.1, 3.3])
OBLIQUE[:3, 3] = [80.5, -63.25, 12.0]


def image_of(array: np.ndarray, affine: np.ndarray = OBLIQUE, kind=nib.Nifti1Image, codes=(1, 1), units=("mm", "sec")):
    image = kind(array, affine, dtype=array.dtype)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    image.header.set_xyzt_units(*units)
    return image


def ramp(dtype, shape=(5, 6, 7)) -> np.ndarray:
    return (np.arange(np.prod(shape)) - (0 if np.dtype(dtype).kind == "u" else 90)).reshape(shape).astype(dtype)


def refusal(path: Path, **options) -> str:
    with pytest.raises(MedganError) as caught:
        read_nifti(path, **options)
    assert caught.value.file == path
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_stored_type_is_read_and_written_as_it_is(tmp_path: Path, kind, dtype: str, suffix: str) -> None:
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    nib.save(image_of(ramp(dtype), kind=kind), source)
    volume = read_nifti(source)
    np.testing.assert_array_equal(volume.data[0], ramp(dtype))
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)
    assert volume.data.dtype == ("f4" if dtype == "f8" else dtype)
    assert write_nifti(volume, target) == target
    back = nib.load(target)
    assert type(back) is kind
    assert back.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(back.dataobj.get_unscaled(), ramp(dtype))
    np.testing.assert_array_equal(back.affine, nib.load(source).affine)


def test_big_endian_files_become_native(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(ramp("i2"), OBLIQUE, header), tmp_path / "big.nii")
    assert nib.load(tmp_path / "big.nii").header.endianness == ">"
    volume = read_nifti(tmp_path / "big.nii")
    assert volume.data.dtype == np.int16
    assert volume.data.dtype.isnative
    np.testing.assert_array_equal(volume.data[0], ramp("i2"))


@pytest.mark.parametrize(("slope", "intercept"), [(2.5, 0.0), (0.1, -1024.0), (1.0, 7.0), (-0.5, 3.0)])
def test_scaling_is_applied_in_float_and_kept_when_voxels_are_unchanged(tmp_path: Path, slope, intercept) -> None:
    image = image_of(ramp("i2"))
    image.header.set_slope_inter(slope, intercept)
    nib.save(image, tmp_path / "a.nii.gz")
    volume = read_nifti(tmp_path / "a.nii.gz")
    assert volume.data.dtype == np.float32
    np.testing.assert_allclose(volume.data[0], nib.load(tmp_path / "a.nii.gz").get_fdata(), rtol=1e-7)
    back = nib.load(write_nifti(volume.reoriented("LPS"), tmp_path / "b.nii.gz"))
    assert back.get_data_dtype() == np.int16
    assert (back.dataobj.slope, back.dataobj.inter) == pytest.approx((slope, intercept))
    turned, original = (nib.as_closest_canonical(one) for one in (back, nib.load(tmp_path / "a.nii.gz")))
    np.testing.assert_array_equal(turned.get_fdata(), original.get_fdata())


def test_changed_voxels_are_written_in_their_own_type_without_scaling(tmp_path: Path) -> None:
    image = image_of(ramp("i2"))
    image.header.set_slope_inter(0.1, -3)
    nib.save(image, tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    values = volume.data * np.float32(1.001) + np.float32(0.013)
    back = nib.load(write_nifti(volume.with_data(values, "scaled"), tmp_path / "b.nii"))
    assert back.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(back.dataobj), values[0])


def test_integers_out_of_the_sources_range_are_not_squeezed_into_it(tmp_path: Path) -> None:
    nib.save(image_of(ramp("u1")), tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    back = nib.load(write_nifti(volume.with_data(volume.as_float() * 1000), tmp_path / "b.nii"))
    assert back.get_data_dtype() == np.float32
    assert np.asarray(back.dataobj).max() == 209_000


def test_a_mask_made_of_a_float_scan_stays_a_mask(tmp_path: Path) -> None:
    nib.save(image_of(ramp("f4")), tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    write_nifti(volume.with_data((volume.data > 0).astype(np.uint8)), tmp_path / "mask.nii")
    assert nib.load(tmp_path / "mask.nii").get_data_dtype() == np.uint8


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 4), (0, 2), (3, 3), (2, 0), (4, 0)])
@pytest.mark.parametrize("step", ["as read", "reoriented", "through nibabel"])
def test_form_codes_and_units_survive(tmp_path: Path, codes, step: str) -> None:
    nib.save(image_of(ramp("i2"), codes=codes, units=("mm", "msec")), tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    if step == "reoriented":
        volume = volume.reoriented("ASR")
    if step == "through nibabel":
        volume = from_nibabel(to_nibabel(volume))
    back = nib.load(write_nifti(volume, tmp_path / "b.nii"))
    assert (int(back.header["qform_code"]), int(back.header["sform_code"])) == codes
    assert back.header.get_xyzt_units() == ("mm", "msec")
    np.testing.assert_allclose(back.affine, volume.affine, atol=2e-5)
    if codes[0] and codes[1]:
        np.testing.assert_allclose(back.header.get_qform(), volume.affine, atol=2e-5)


def test_a_qform_of_its_own_follows_the_grid(tmp_path: Path) -> None:
    scanner = np.eye(4)
    scanner[:3, :3] = Rotation.from_euler("xyz", [-0.1, 0.3, 0.7]).as_matrix() @ np.diag([0.9, 1.1, 3.3])
    scanner[:3, 3] = [-10, 20, -30]
    image = image_of(ramp("i2"))
    image.header.set_qform(scanner, 1)
    image.header.set_sform(OBLIQUE, 4)
    nib.save(image, tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii").reoriented("PIR")
    back = nib.load(write_nifti(volume, tmp_path / "b.nii"))
    first = nib.load(tmp_path / "a.nii")
    voxel = np.argwhere(np.asarray(first.dataobj) == 33)[0]
    same_voxel = np.argwhere(np.asarray(back.dataobj) == 33)[0]
    for form in ("get_qform", "get_sform"):
        before = getattr(first.header, form)() @ [*voxel, 1]
        after = getattr(back.header, form)() @ [*same_voxel, 1]
        np.testing.assert_allclose(after, before, atol=1e-4)
    assert not np.allclose(back.header.get_qform(), back.header.get_sform(), atol=1)


@pytest.mark.parametrize(("unit", "millimetres"), [("meter", 1000.0), ("micron", 1e-3), ("unknown", 1.0), ("mm", 1.0)])
def test_the_affine_is_in_millimetres_whatever_the_unit(tmp_path: Path, unit: str, millimetres: float) -> None:
    nib.save(image_of(ramp("i2"), units=(unit, "unknown")), tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.spacing, np.array([0.9, 1.1, 3.3]) * millimetres, rtol=1e-5)
    np.testing.assert_allclose(volume.affine[:3], OBLIQUE[:3] * millimetres, rtol=1e-5, atol=1e-6 * millimetres)
    back = nib.load(write_nifti(volume, tmp_path / "b.nii"))
    assert back.header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(back.affine, OBLIQUE, atol=2e-5)
    np.testing.assert_allclose(back.header.get_zooms(), [0.9, 1.1, 3.3], rtol=1e-5)


def test_unknown_orientation_is_recorded_and_kept(tmp_path: Path) -> None:
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [4, -5, -9]
    nib.save(image_of(ramp("i2"), affine, codes=(0, 0)), tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    assert any("orientation unknown" in phrase for phrase in volume.history)
    np.testing.assert_allclose(volume.affine, affine)
    back = nib.load(write_nifti(volume, tmp_path / "b.nii"))
    assert (int(back.header["qform_code"]), int(back.header["sform_code"])) == (0, 0)
    np.testing.assert_allclose(back.affine, affine)
    turned = nib.load(write_nifti(volume.reoriented("RAS"), tmp_path / "c.nii"))
    np.testing.assert_allclose(turned.affine, volume.reoriented("RAS").affine)


def test_a_shear_is_never_dropped(tmp_path: Path) -> None:
    sheared = OBLIQUE.copy()
    sheared[:3, 2] += [0, 0.8, 0]
    plain = Volume(ramp("i2"), sheared, metadata={"modality": "CT"})
    from_qform_only = Volume(ramp("i2"), sheared, metadata={"nifti": {"qform_code": 1, "sform_code": 0}})
    for volume in (plain, from_qform_only):
        back = nib.load(write_nifti(volume, tmp_path / "b.nii"))
        np.testing.assert_allclose(back.affine, sheared, atol=1e-5)
        assert int(back.header["sform_code"]) == 1
        assert int(back.header["qform_code"]) == 0


@pytest.mark.parametrize(("metadata", "code"), [({"modality": "MR"}, 1), ({}, 2)])
def test_volumes_of_other_origin_get_both_forms(tmp_path: Path, metadata, code: int) -> None:
    back = nib.load(write_nifti(Volume(ramp("f4"), OBLIQUE, metadata=metadata), tmp_path / "b.nii"))
    assert (int(back.header["qform_code"]), int(back.header["sform_code"])) == (code, code)
    assert back.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(back.header.get_qform(), OBLIQUE, atol=1e-5)


@settings(max_examples=50)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 12)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    mirrored=st.booleans(),
    codes=st.sampled_from([(1, 1), (0, 1), (1, 0), (2, 4)]),
)
@example(angles=(2.0, 0.001953125, 0.0), spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), mirrored=True, codes=(1, 1))
@example(angles=(2.0, 0.001953125, 0.0), spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), mirrored=True, codes=(1, 0))
def test_no_affine_moves_on_its_way_through_a_file(tmp_path_factory, angles, spacing, origin, mirrored, codes) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ np.diag(spacing)
    affine[:3, 0] *= -1 if mirrored else 1
    affine[:3, 3] = origin
    nifti = {"qform_code": codes[0], "sform_code": codes[1]}
    volume = Volume(ramp("i2"), affine, metadata={"nifti": nifti})
    path = write_nifti(volume, tmp_path_factory.getbasetemp() / "moving.nii")
    corners = np.array(list(itertools.product(*((-0.5, size - 0.5) for size in volume.shape))))
    places = apply_affine(affine, corners)
    assert np.abs(apply_affine(read_nifti(path).affine, corners) - places).max() <= 1.1e-3
    kept = read_nifti(path).metadata["nifti"]
    header = nib.Nifti1Header()
    header.set_qform(affine, 1)
    apart = np.abs(apply_affine(header.get_qform(), corners) - places).max()
    if apart < 5e-4:
        assert (kept["qform_code"], kept["sform_code"]) == codes
    elif apart > 2e-3:
        # Near half a turn the header's three single-precision numbers cannot hold the rotation: the sform must.
        assert kept["sform_code"] == (codes[1] or codes[0])


def test_volume_and_nibabel_image_are_the_same_thing_both_ways() -> None:
    data = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    volume = Volume(data, OBLIQUE)
    image = volume.to_nibabel()
    assert image.shape == (4, 5, 6, 3)
    np.testing.assert_array_equal(image.affine, OBLIQUE)
    back = Volume.from_nibabel(image)
    np.testing.assert_array_equal(back.data, data)
    np.testing.assert_array_equal(back.affine, OBLIQUE)
    assert Volume.from_nibabel(Volume(data[0], OBLIQUE).to_nibabel()).shape == (4, 5, 6)


def test_an_image_saved_by_nibabel_itself_loses_nothing(tmp_path: Path) -> None:
    image = image_of(ramp("i2"))
    image.header.set_slope_inter(0.3, 5)
    nib.save(image, tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    nib.save(to_nibabel(volume), tmp_path / "b.nii")
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii").get_fdata(dtype=np.float32), volume.data[0])


def test_from_nibabel_takes_other_formats_and_does_not_hold_the_callers_array() -> None:
    array = ramp("f4")
    volume = from_nibabel(nib.MGHImage(array, OBLIQUE.astype(np.float32)))
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-5)
    array[0, 0, 0] = 999
    assert volume.data[0, 0, 0, 0] != 999
    assert array.flags.writeable
    with pytest.raises(MedganError, match="no spatial nibabel image"):
        from_nibabel(array)


def test_a_4d_file_needs_an_index(tmp_path: Path) -> None:
    array = np.stack([ramp("i2") + 1000 * n for n in range(4)], axis=-1)
    path = tmp_path / "4d.nii.gz"
    nib.save(image_of(array), path)
    message = refusal(path)
    assert "a 4D image of 4 volumes" in message
    assert "from 0 to 3" in message
    volume = read_nifti(path, index=2)
    np.testing.assert_array_equal(volume.data[0], ramp("i2") + 2000)
    assert volume.history == ("volume 2 of 4",)
    assert "there is no volume 4" in refusal(path, index=4)
    assert "there is no volume -1" in refusal(path, index=-1)


@pytest.mark.parametrize("shape", [(5, 6, 7, 1), (5, 6, 7, 1, 1)])
def test_trailing_dimensions_of_one_voxel_do_not_count(tmp_path: Path, shape) -> None:
    nib.save(image_of(ramp("i2").reshape(shape)), tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").shape == (5, 6, 7)
    assert read_nifti(tmp_path / "a.nii", index=0).shape == (5, 6, 7)


def test_a_single_slice_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    nib.save(image_of(ramp("i2", (5, 6, 1))), tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").shape == (5, 6, 1)


RGB = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (ramp("i2", (5, 6)), "2 dimensions"),
        (ramp("i2", (5, 6, 7, 2, 3)), "5 dimensions"),
        (RGB, "the voxels are colours (RGB)"),
        (ramp("f4").astype(np.complex64), "complex numbers"),
        (np.where(ramp("f4") % 50 == 0, np.nan, 1).astype("f4"), "4 of 210 voxels are not finite"),
        (np.where(ramp("f8") == 0, np.inf, 1), "1 of 210 voxels are not finite"),
        (np.where(ramp("f8") == 0, 1e300, 1), "1 of 210 voxels are not finite"),
    ],
)
def test_what_is_no_3d_scan_is_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    nib.save(nib.Nifti1Image(array, OBLIQUE, dtype=array.dtype), tmp_path / "a.nii")
    assert words in refusal(tmp_path / "a.nii")


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    image = image_of(ramp("i2"))
    flat = OBLIQUE.copy()
    flat[:3, 2] = flat[:3, 1]
    image.header.set_sform(flat, 1)
    image.header.set_qform(OBLIQUE, 0)
    image._affine = flat
    nib.save(image, tmp_path / "a.nii")
    assert "the affine is singular" in refusal(tmp_path / "a.nii")


def damaged(tmp_path: Path, name: str, damage) -> Path:
    rng = np.random.default_rng(0)
    nib.save(image_of(rng.integers(0, 9999, (20, 20, 20)).astype("i2")), tmp_path / "good.nii")
    path = tmp_path / name
    path.write_bytes(damage((tmp_path / "good.nii").read_bytes()))
    return path


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("a.nii", lambda whole: b"", "the file is empty"),
        ("a.nii", lambda whole: b"hello" * 200, "not readable as NIfTI"),
        ("a.nii.gz", lambda whole: b"hello" * 200, "not gzip-compressed"),
        ("a.nii", lambda whole: whole[:-100], "the header claims 16352 bytes, more than the 16252 bytes"),
        ("a.nii", lambda whole: whole[:200], "not readable as NIfTI"),
        ("a.nii.gz", lambda whole: gzip.compress(whole)[:-5000], "cut short or damaged"),
        ("a.nii.gz", lambda whole: gzip.compress(whole)[:40], "cut short or damaged"),
        ("a.nii", gzip.compress, "gzip-compressed"),
        ("a.nii.gz", lambda whole: gzip.compress(whole[:42] + b"\x00\x7f" * 3 + whole[48:]), "the header claims"),
        ("a.nii", lambda whole: whole[:70] + b"\xff\x01" + whole[72:], "damaged"),
    ],
)
def test_damaged_files_are_refused_in_words(tmp_path: Path, name: str, damage, words: str) -> None:
    assert words in refusal(damaged(tmp_path, name, damage))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.nii")
    assert "folder" in refusal(tmp_path)


def test_free_text_and_extensions_do_not_travel(tmp_path: Path) -> None:
    image = image_of(ramp("i2"))
    image.header["descrip"], image.header["aux_file"], image.header["intent_name"] = b"Jane Doe", b"JD.txt", b"JD"
    image.header.extensions.append(Nifti1Extension("comment", b"Jane Doe, born 1970"))
    nib.save(image, tmp_path / "a.nii")
    write_nifti(read_nifti(tmp_path / "a.nii"), tmp_path / "b.nii")
    assert b"Jane" in (tmp_path / "a.nii").read_bytes()
    assert b"J" not in (tmp_path / "b.nii").read_bytes()[:352]
    assert not nib.load(tmp_path / "b.nii").header.extensions


def test_the_same_volume_gives_the_same_bytes(tmp_path: Path) -> None:
    volume = Volume(ramp("f4"), OBLIQUE)
    one, two = (write_nifti(volume, tmp_path / name).read_bytes() for name in ("one.nii.gz", "two.nii.gz"))
    assert one == two


def test_a_file_can_be_written_over_the_one_it_was_read_from(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nib.save(image_of(ramp("i2")), path)
    volume = read_nifti(path)
    write_nifti(volume.with_data(volume.data + np.int16(1)), path)
    np.testing.assert_array_equal(volume.data[0], ramp("i2"))
    np.testing.assert_array_equal(read_nifti(path).data[0], ramp("i2") + 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nii"]


def test_only_nifti_names_are_written(tmp_path: Path) -> None:
    for name in ("a.mgz", "a.gz", "a"):
        with pytest.raises(MedganError, match=r"\.nii or \.nii\.gz"):
            write_nifti(Volume(ramp("i2"), OBLIQUE), tmp_path / name)
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(MedganError, match="a folder stands"):
        write_nifti(Volume(ramp("i2"), OBLIQUE), tmp_path / "folder.nii")


def test_the_outline_describes_refused_files_too(tmp_path: Path) -> None:
    array = np.zeros((5, 6, 7, 4), "i2")
    nib.save(image_of(array, units=("micron", "sec")), tmp_path / "a.nii")
    outline = outline_of(tmp_path / "a.nii")
    assert (outline.shape, outline.dtype, outline.orientation) == ((5, 6, 7, 4), "int16", "LAS")
    np.testing.assert_allclose(outline.spacing, [0.0009, 0.0011, 0.0033], rtol=1e-5)


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["anatomical_bigendian_int16.nii", "reoriented_bigendian_float32.nii", "someones_anatomy_2p75mm.nii.gz"]
)
def test_odd_real_files_match_nibabel_and_survive(test_data: Path, tmp_path: Path, name: str) -> None:
    truth = nib.load(test_data / "nifti_odd" / name)
    volume = read_nifti(truth.get_filename())
    np.testing.assert_allclose(volume.data[0], truth.get_fdata(), rtol=1e-7)
    np.testing.assert_array_equal(volume.affine, truth.affine)
    back = nib.load(write_nifti(volume, tmp_path / name))
    assert back.get_data_dtype() == truth.get_data_dtype().newbyteorder("=")
    assert (back.dataobj.slope, back.dataobj.inter) == (truth.dataobj.slope, truth.dataobj.inter)
    np.testing.assert_array_equal(back.dataobj.get_unscaled(), truth.dataobj.get_unscaled())
    np.testing.assert_array_equal(back.affine, truth.affine)
    for name in ("qform_code", "sform_code", "xyzt_units"):
        assert back.header[name] == truth.header[name]


@pytest.mark.data
@pytest.mark.parametrize("name", ["example4d_dwi.nii.gz", "example_nifti2_4d.nii.gz"])
def test_odd_real_4d_files_are_read_by_index(test_data: Path, name: str) -> None:
    path = test_data / "nifti_odd" / name
    assert "a 4D image of 2 volumes" in refusal(path)
    truth = nib.load(path)
    np.testing.assert_array_equal(read_nifti(path, index=1).data[0], truth.get_fdata()[..., 1])

"""The quick header reader against pydicom: the same headers, or it declines."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from medgan.io.dicom import headers
from medgan.io.dicom.coding import coding_of
from medgan.io.dicom.headers import header_of, headers_of, pydicom_quiet
from medgan.io.dicom.quick import quick_header

Write = Callable[..., Path]


def by_pydicom(path: Path) -> list[headers.SliceHeader]:
    """The header as it is without the quick reader."""
    with pydicom_quiet(), path.open("rb") as stream:
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=headers.HEADER_TAGS, force=True)
        coding = coding_of(dataset, stream)
        return [headers.replace(header_of(dataset, path), coding=coding)]


def is_declined(path: Path) -> bool:
    with path.open("rb") as stream:
        declined = quick_header(stream, headers.HEADER_TAGS) is None
        assert not declined or stream.tell() == 0
        return declined


@pytest.mark.parametrize("implicit", [False, True])
def test_plain_files_are_read_as_pydicom_reads_them(phantom, write: Write, implicit: bool) -> None:
    datasets = phantom.datasets()
    for dataset in datasets:
        dataset.PixelPaddingValue, dataset.SeriesDescription, dataset.EchoTime = 0, "  t2 ", ""
        if implicit:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    for path in write(datasets).iterdir():
        assert not is_declined(path)
        assert headers_of(path) == by_pydicom(path)


def test_nested_sequences_of_undefined_length_are_stepped_over(phantom, write: Write) -> None:
    (dataset, *_) = phantom.datasets()
    inner, outer = pydicom.Dataset(), pydicom.Dataset()
    inner.EchoTime = 7
    outer.ReferencedImageSequence = Sequence([inner])
    dataset.ReferencedStudySequence = Sequence([outer, pydicom.Dataset()])
    for sequence in (dataset["ReferencedStudySequence"], outer["ReferencedImageSequence"]):
        sequence.is_undefined_length = True
    for item in (outer, inner):
        item.is_undefined_length_sequence_item = True
    (path,) = write([dataset]).iterdir()
    assert not is_declined(path)
    assert headers_of(path) == by_pydicom(path)
    assert headers_of(path)[0].facts["echo_time"] == 90


def test_a_header_longer_than_the_first_look_is_read(phantom, write: Write) -> None:
    (dataset, *_) = phantom.datasets()
    dataset.add_new(0x00090010, "LO", "MAKER")
    dataset.add_new(0x00091001, "OB", bytes(40_000))
    (path,) = write([dataset]).iterdir()
    assert not is_declined(path)
    assert headers_of(path) == by_pydicom(path)


def odd_text(content: bytes) -> bytes:
    return content.replace(b"t2_tse", b"t2_\xe4se")


def odd_vr(content: bytes) -> bytes:
    return content.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00ZZ")


def no_preamble(content: bytes) -> bytes:
    return content[132:]


def no_pixels(content: bytes) -> bytes:
    return content[: content.index(b"\xe0\x7f\x10\x00")]


def big_endian(content: bytes) -> bytes:
    return content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")


@pytest.mark.parametrize("change", [odd_text, odd_vr, no_preamble, no_pixels, big_endian])
def test_what_is_out_of_the_ordinary_is_left_to_pydicom(phantom, write: Write, change) -> None:
    (path, *_) = sorted(write(phantom.datasets()).iterdir())
    content = path.read_bytes()
    assert change(content) != content
    path.write_bytes(change(content))
    assert is_declined(path)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_declined_or_read_as_pydicom_reads_them(phantom, write: Write, seed: int) -> None:
    rng = random.Random(seed)
    (path, *_) = sorted(write(phantom.datasets()).iterdir())
    content = path.read_bytes()
    agreed = 0
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(128, len(content) - 70)] = rng.choice([0, 1, 0x20, 0x5C, 0xFF, rng.randrange(256)])
        path.write_bytes(damaged if rng.random() < 0.9 else damaged[: rng.randrange(150, len(damaged))])
        with path.open("rb") as stream:
            dataset = quick_header(stream, headers.HEADER_TAGS)
            if dataset is None:
                continue
            try:
                header = headers.replace(header_of(dataset, path), coding=coding_of(dataset, stream))
            except (*headers.HEADER_ERRORS, struct.error):
                header = None
        try:
            truth = by_pydicom(path)[0]
        except headers.HEADER_ERRORS:
            truth = None
        assert header == truth
        agreed += 1
    assert agreed > 20


@pytest.mark.data
def test_real_files_are_read_as_pydicom_reads_them(test_data: Path) -> None:
    files = [path for path in (test_data / "dicom").rglob("*.dcm") if path.stat().st_size < 10_000_000]
    quick = [path for path in files if not is_declined(path)]
    assert len(quick) > 10
    for path in quick:
        with path.open("rb") as stream:
            dataset = quick_header(stream, headers.HEADER_TAGS)
            assert dataset is not None
            coding = coding_of(dataset, stream)
        header = headers.replace(header_of(dataset, path), coding=coding)
        assert header == by_pydicom(path)[0], path.name

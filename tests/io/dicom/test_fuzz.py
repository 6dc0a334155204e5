"""Mutated files: no traceback, no hang, and no volume whose slices lie elsewhere than their files say.

What a file says after its mutation is read here by a parser of forty lines that knows nothing of pydicom or medgan.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

from medgan.errors import MedganError
from medgan.io import read_all_volumes, read_volume
from medgan.io.scans import Survey, survey
from medgan.volume import Volume
from medgan.workflows.inspect import inspect

SECONDS = 10
CASES = 500
QUICK = 60

# How far a slice may lie from where its file says: the tolerance of the strict reader, and the rounding of the sum.
TOLERANCE_MM = 0.051

LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UT", b"UC", b"UR", b"SV", b"UV")
VRS = (b"DS", b"IS", b"US", b"SS", b"UI", b"LO", b"CS", b"SQ", b"OB", b"FD", b"UN", b"PN", b"AT", b"UT", b"ZZ")
POSITION, ORIENTATION, SPACING = 0x00200032, 0x00200037, 0x00280030
ROWS, COLUMNS, SERIES, PIXELS = 0x00280010, 0x00280011, 0x0020000E, 0x7FE00010
# By these a file says that it belongs to something else than the series.
IDENTITY = (SERIES, 0x00080008, 0x00080016, 0x00080060, 0x0008103E, 0x00280002, 0x00280004)
DECIMAL = re.compile(rb"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[\s\0]*")


@dataclass(frozen=True)
class Element:
    """Where a data element lies in a file: its start, its value, its end."""

    tag: int
    start: int
    value: int
    end: int


def elements(content: bytes) -> Iterator[Element]:
    """The top-level elements behind the file meta information, until something cannot be understood."""
    at, is_explicit = 132, True
    if content[128:132] != b"DICM":
        return
    while at + 8 <= len(content):
        tag = int.from_bytes(content[at : at + 2], "little") << 16 | int.from_bytes(content[at + 2 : at + 4], "little")
        if tag >> 16 != 2 and str(ImplicitVRLittleEndian).encode() + b"\0" in content[132:at]:
            is_explicit = False
        if not is_explicit:
            value, length = at + 8, int.from_bytes(content[at + 4 : at + 8], "little")
        elif content[at + 4 : at + 6] in LONG_VRS:
            value, length = at + 12, int.from_bytes(content[at + 8 : at + 12], "little")
        else:
            value, length = at + 8, int.from_bytes(content[at + 6 : at + 8], "little")
        end = len(content) if tag == PIXELS else value + length
        if end > len(content):
            return
        yield Element(tag, at, value, end)
        at = end


def stated(content: bytes) -> dict[int, bytes]:
    return {one.tag: content[one.value : one.end] for one in elements(content)}


def decimals(value: bytes | None, count: int) -> list[float] | None:
    parts = (value or b"").split(b"\\")
    if len(parts) != count or not all(DECIMAL.fullmatch(part) for part in parts):
        return None
    return [float(part.strip(b"\0 ")) for part in parts]


def written(phantom: Any, coding: str, echoes: int, folder: Path) -> list[Path]:
    """An analytic series, every element of which some part of the reader looks at."""
    folder.mkdir()
    series, frame = generate_uid(entropy_srcs=["fuzz", coding]), generate_uid(entropy_srcs=["frame"])
    paths = []
    for echo in range(echoes):
        for k, dataset in enumerate(phantom.datasets()):
            dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, frame
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.3.{echo}.{k}"
            dataset.EchoNumbers, dataset.EchoTime, dataset.NumberOfFrames = echo + 1, 12.5 * (echo + 1), 1
            dataset.AcquisitionNumber, dataset.AcquisitionTime = 1, f"1000{10 + k}.25"
            dataset.DiffusionBValue, dataset.PixelPaddingValue = 0.0, 65535
            dataset.PixelData = (np.frombuffer(dataset.PixelData, np.uint16) + 5000 * echo).astype(np.uint16).tobytes()
            dataset.PixelData += b"" if len(dataset.PixelData) % 2 == 0 else b"\0"
            implicit = coding == "implicit"
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            if coding == "rle":
                dataset.compress(RLELossless)
            paths.append(folder / f"slice_{len(paths):03d}.dcm")
            pydicom.dcmwrite(paths[-1], dataset, enforce_file_format=True)
    return paths


def flip(content: bytes, rng: np.random.Generator, element: Element, count: int = 1) -> bytes:
    """Bits of one element turned, its tag and length among them."""
    spoilt = bytearray(content)
    for _ in range(count):
        spoilt[int(rng.integers(element.start, element.end))] ^= 1 << int(rng.integers(8))
    return bytes(spoilt)


def flip_anywhere(content: bytes, rng: np.random.Generator, _: Element) -> bytes:
    return flip(content, rng, Element(0, 0, 0, len(content)), int(rng.integers(1, 30)))


def truncate(content: bytes, rng: np.random.Generator, _: Element) -> bytes:
    return content[: int(rng.integers(0, len(content)))]


def delete(content: bytes, _: np.random.Generator, element: Element) -> bytes:
    return content[: element.start] + content[element.end :]


def retype(content: bytes, rng: np.random.Generator, element: Element) -> bytes:
    return content[: element.start + 4] + VRS[int(rng.integers(len(VRS)))] + content[element.start + 6 :]


def overwrite(content: bytes, rng: np.random.Generator, element: Element) -> bytes:
    value = rng.choice(np.frombuffer(b"0123456789.\\-+eE_ naif\0\xff", np.uint8), element.end - element.value)
    return content[: element.value] + value.astype(np.uint8).tobytes() + content[element.end :]


def lengthen(content: bytes, rng: np.random.Generator, element: Element) -> bytes:
    at = element.value - int(rng.integers(1, 5))
    return content[:at] + rng.bytes(element.value - at) + content[element.value :]


def blank(content: bytes, rng: np.random.Generator, _: Element) -> bytes:
    start = int(rng.integers(0, len(content)))
    return (content[:start] + bytes(200) + content[start + 200 :])[: len(content)]


def repeat(content: bytes, _: np.random.Generator, element: Element) -> bytes:
    return content[: element.end] + content[element.start :]


MUTATIONS: tuple[Callable[[bytes, np.random.Generator, Element], bytes], ...] = (
    *(flip, flip, flip, flip_anywhere, truncate, delete, delete, retype, overwrite, lengthen, blank, repeat),
)


def mutate(paths: list[Path], seed: int) -> tuple[str, list[Path]]:
    """One mutation of one file, or (a third of the cases) the same one of all; what it was, and the files."""
    rng = np.random.default_rng(seed)
    mutation = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
    targets = paths if rng.random() < 1 / 3 else [paths[int(rng.integers(len(paths)))]]
    choices = [one.tag for one in elements(targets[0].read_bytes())]
    tag, seed_of_bytes = choices[int(rng.integers(len(choices)))], int(rng.integers(2**31))
    for path in targets:
        content = path.read_bytes()
        element = next(one for one in elements(content) if one.tag == tag)
        path.write_bytes(mutation(content, np.random.default_rng(seed_of_bytes), element))
    return f"{mutation.__name__} of {tag:08x} in {len(targets)} of {len(paths)} files", targets


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def refusal_that_names_the_place() -> Iterator[None]:
    try:
        yield
    except MedganError as error:
        if error.file is None or not error.what:
            raise AssertionError(f"no place or no reason in '{error}'") from error


def check_places(volume: Volume, now: dict[Path, bytes], before: dict[Path, bytes]) -> None:
    """Every slice lies where its file says; where that cannot be made out, where it said before the mutation."""
    files = [Path(file) for file in volume.metadata["dicom"]["files"]]
    assert volume.shape[2] == len(files)
    for k, file in enumerate(files):
        says, said = stated(now[file]), stated(before[file])
        position, orientation, spacing = (
            decimals(says.get(tag), count) or decimals(said[tag], count)
            for tag, count in ((POSITION, 3), (ORIENTATION, 6), (SPACING, 2))
        )
        rows, columns = (int.from_bytes(says.get(tag, said[tag])[:2], "little") for tag in (ROWS, COLUMNS))
        assert volume.shape[:2] == (columns, rows)
        lps = np.diag([-1.0, -1.0, 1.0]) @ volume.affine[:3]
        extent = np.array([columns, rows])
        np.testing.assert_allclose(lps @ [0, 0, k, 1], position, atol=TOLERANCE_MM)
        for axis, (start, step) in enumerate(((0, spacing[1]), (3, spacing[0]))):
            direction = np.array(orientation[start : start + 3])
            expected = direction / np.linalg.norm(direction) * step * extent[axis]
            np.testing.assert_allclose(lps[:, axis] * extent[axis], expected, atol=TOLERANCE_MM, rtol=2e-3)


def check_voxels(volume: Volume, spoilt: list[Path], voxels: dict[Path, np.ndarray]) -> None:
    """Slices from untouched files hold what they held."""
    for k, file in enumerate(map(Path, volume.metadata["dicom"]["files"])):
        if file not in spoilt:
            np.testing.assert_array_equal(volume.data[0, :, :, k], voxels[file])


def check_nothing_lost(found: Survey, volumes: list[Volume], paths: list[Path], spoilt: list[Path]) -> None:
    """Every file is in a volume or named; untouched files without a volume are those of a series that was refused."""
    used = {Path(file) for volume in volumes for file in volume.metadata["dicom"]["files"]}
    groups = [scan.slices for scan in found.scans if scan.slices is not None] + list(found.left_out)
    named = {header.path for one in groups for header in one.slices}
    named |= {path for one in groups for path, _ in one.damaged} | {path for path, _ in found.damaged}
    assert set(paths) <= used | named


def check_whole(volumes: list[Volume], slices: int, spoilt: list[Path], now: Any, before: Any) -> None:
    """A volume short of slices comes out only if the files left out say that they are something else."""
    used = {Path(file) for volume in volumes for file in volume.metadata["dicom"]["files"]}
    if len(spoilt) == 1 and any(volume.shape[2] < slices for volume in volumes):
        (path,) = spoilt
        says, said = stated(now[path]), stated(before[path])
        assert path not in used
        assert any(says.get(tag) not in (None, said[tag]) for tag in IDENTITY), "a slice has vanished"


def run(phantom: Any, folder: Path, seed: int) -> str:
    """One case; what came of it."""
    coding, echoes = (("explicit", 1), ("explicit", 2), ("implicit", 1), ("rle", 1))[seed % 4]
    paths = written(phantom, coding, echoes, folder)
    before = {path: path.read_bytes() for path in paths}
    voxels = {
        path: (phantom.voxels[:, :, n % phantom.slices] + 5000 * (n // phantom.slices)) for n, path in enumerate(paths)
    }
    what, spoilt = mutate(paths, seed)
    now = {path: path.read_bytes() for path in paths}
    volumes = []
    with at_most(SECONDS):
        found = survey(folder)
        for scan in found.scans:
            with suppress(MedganError):
                volumes.append(scan.read())
        for read in (read_volume, read_all_volumes):
            with refusal_that_names_the_place():
                read(folder)
        json.dumps([summary.to_dict() for summary in inspect([folder])], allow_nan=False)
    for volume in volumes:
        try:
            check_places(volume, now, before)
            check_voxels(volume, spoilt, voxels)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from error
    check_nothing_lost(found, volumes, paths, spoilt)
    check_whole(volumes, phantom.slices, spoilt, now, before)
    return f"{'read' if volumes else 'refused'}: {what}"


def test_the_parser_of_this_test_understands_the_phantom(phantom, tmp_path: Path) -> None:
    for coding in ("explicit", "implicit", "rle"):
        for k, path in enumerate(written(phantom, coding, 1, tmp_path / coding)):
            said = stated(path.read_bytes())
            np.testing.assert_allclose(decimals(said[POSITION], 3), (phantom.lps @ [0, 0, k, 1])[:3], atol=1e-6)
            assert decimals(said[SPACING], 2) == [1.5, 0.8]
            assert int.from_bytes(said[ROWS], "little") == 5
            assert PIXELS in said
            assert set(IDENTITY) <= set(said)
        volume = read_volume(tmp_path / coding)
        np.testing.assert_array_equal(volume.data[0], phantom.voxels)


@pytest.mark.parametrize("seed", range(QUICK))
def test_a_mutated_series_is_read_right_or_refused(phantom, tmp_path: Path, seed: int) -> None:
    run(phantom, tmp_path / "series", seed)


@pytest.mark.slow
def test_five_hundred_mutated_series(phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = []
    for seed in range(CASES):
        try:
            outcomes.append(run(phantom, tmp_path / str(seed), seed))
        except Exception as error:
            raise AssertionError(f"case {seed}: {error!r}") from error
    read = sum(outcome.startswith("read") for outcome in outcomes)
    with capsys.disabled():
        sys.stdout.write(f"\n{CASES} mutated series: {read} read and right, {CASES - read} refused in words\n")
    # Neither a reader that refuses everything nor one that notices nothing would do.
    assert CASES / 10 < read < CASES * 9 / 10

"""What DICOM readers make of difficult series, and how long they take and how much memory they need for plain ones.

First table: eight series whose value is known at every point in space (`dicom_phantoms`). "right": every voxel holds
the value of the place where its affine says that it is. "refused": an error. "wrong": neither; with what the reader
said on the way, or silently. MONAI's readers are called through `LoadImage`, SimpleITK's by its series reader.

Second table: 300 slices of 512 x 512, 16 bits, with rescale intercept, uncompressed; and 60 of them in JPEG 2000
(lossless). Each measurement is a process of its own, in which a small series is read first, so that imports are not
counted. "memory" is the peak resident size less that before reading, over the size of the volume as the reader holds
it. Readers take turns, so that other work on the machine meets them alike; figures are medians.

Run: python benchmarks/dicom_readers.py [--repeats 5] [--slices 300] [--cases-only] [--markdown]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pydicom
from dicom_phantoms import BACKGROUND, CASES, INTERPOLATED_TOLERANCE, TOLERANCE, largest_error
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

# Voxels (X, Y, Z), affine (RAS+ mm), and what owns the voxels' memory.
Scan = tuple[NDArray[Any], NDArray[np.float64], Any]
READERS = ("medgan", "SimpleITK", "MONAI PydicomReader", "MONAI ITKReader")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SIZE = 512


def reader(name: str) -> Callable[[Path], Scan] | None:
    """A function from a folder to a scan; None if the reader is not installed."""
    if name == "medgan":
        from medgan import read_volume

        return lambda folder: _of_medgan(read_volume(folder))
    if name == "SimpleITK":
        import SimpleITK  # noqa: F401

        return _read_simpleitk
    if name == "MONAI ITKReader" and importlib.util.find_spec("itk") is None:
        return None
    from monai.transforms import LoadImage

    load = LoadImage(reader=name.removeprefix("MONAI "), image_only=True)
    return lambda folder: _of_monai(load(folder))


def _of_medgan(volume: Any) -> Scan:
    return volume.data[0], volume.affine, volume


def _of_monai(tensor: Any) -> Scan:
    return tensor.numpy(), tensor.affine.numpy(), tensor


def _read_simpleitk(folder: Path) -> Scan:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayViewFromImage(image).T, _LPS_TO_RAS @ affine, image


@contextmanager
def heard() -> Iterator[Callable[[], bool]]:
    """Whether anything was said within the block: warnings, log records or lines on the error stream, native ones
    too."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said, warnings.catch_warnings():
        warnings.simplefilter("always")
        os.dup2(said.fileno(), 2)
        try:
            yield lambda: said.seek(0, os.SEEK_END) > 0
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def verdict(read: Callable[[Path], Scan], folder: Path) -> str:
    """What a reader made of a case."""
    with heard() as has_said:
        try:
            voxels, affine, _owner = read(folder)
        except Exception:  # noqa: BLE001
            return "refused"
        sys.stderr.flush()
        said = has_said()
    if voxels.ndim != 3:
        return f"wrong: {voxels.ndim} dimensions" + ("" if said else ", silently")
    error = largest_error(voxels, affine)
    if error <= TOLERANCE:
        return "right"
    return f"{'wrong, warns' if said else 'SILENTLY WRONG'} (by up to {error:.1f})"


def eight_cases(markdown: bool) -> None:
    """Print the first table."""
    readers = {name: reader(name) for name in READERS}
    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as place:
            case.write(Path(place))
            found = {name: verdict(read, Path(place)) if read else "not installed" for name, read in readers.items()}
            if found["medgan"] == "refused" and case.relaxation is not None:
                found["medgan"] += f"; {_relaxed(case.relaxation, Path(place))}"
        rows.append([case.name, *found.values()])
    _print_table(["series", *READERS], rows, markdown)


def _relaxed(option: str, folder: Path) -> str:
    """What medgan makes of the case under the option that its message names."""
    from medgan.io.dicom.read import read_series
    from medgan.io.dicom.relaxations import Relaxations, flag

    volume = read_series(folder, relaxations=Relaxations(**{option: True}))
    error = largest_error(volume.data[0], volume.affine, background=BACKGROUND)
    return f"{'right' if error <= INTERPOLATED_TOLERANCE else 'wrong'} with {flag(option)}"


@dataclass(frozen=True)
class Cost:
    """What reading one series took: seconds, seconds of processor time, and peak memory over the volume's size."""

    seconds: float
    processor: float
    memory: float


def measured(name: str, folder: Path) -> Cost:
    """Read a series in this process."""
    read = reader(name)
    assert read is not None
    with tempfile.TemporaryDirectory() as place:
        CASES[0].write(Path(place))
        read(Path(place))
    before = _resident("VmRSS")
    start, processor = time.perf_counter(), time.process_time()
    voxels, _, _owner = read(folder)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return Cost(seconds, processor, (_resident("VmHWM") - before) / voxels.nbytes)


def _resident(kind: str) -> float:
    """Bytes of memory held now (VmRSS) or at most so far (VmHWM); not a number where Linux does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(kind)), float("nan"))


def speeds(repeats: int, slices: int, markdown: bool) -> None:
    """Print the second table."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        plain, compressed = Path(place) / "plain", Path(place) / "compressed"
        _write_plain(plain, slices)
        _compress(plain, compressed, slices // 5)
        names = [name for name in READERS if reader(name) is not None]
        kinds = {f"{slices} slices, uncompressed": plain, f"{slices // 5} slices, JPEG 2000": compressed}
        for kind, folder in kinds.items():
            costs: dict[str, list[Cost]] = {name: [] for name in names}
            for _ in range(repeats):
                for name in names:
                    costs[name].append(_in_own_process(name, folder))
            ours = median(cost.processor for cost in costs["medgan"])
            wall = median(cost.seconds for cost in costs["medgan"])
            for name in names:
                seconds = median(cost.seconds for cost in costs[name])
                processor = median(cost.processor for cost in costs[name])
                memory = median(cost.memory for cost in costs[name])
                ratios = (f"{wall / seconds:.2f}", f"{ours / processor:.2f}")
                rows.append([kind, name, f"{seconds:.2f} s", f"{processor:.2f} s", *ratios, f"{memory:.2f}"])
    header = ["series", "reader", "time", "processor", "medgan / it, time", "medgan / it, processor", "memory / volume"]
    _print_table(header, rows, markdown)


def _in_own_process(name: str, folder: Path) -> Cost:
    command = [sys.executable, __file__, "--measure", name, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def _write_plain(folder: Path, slices: int) -> None:
    """An axial CT series: a smooth object with noise, so that it compresses as scans do."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[-1 : 1 : _SIZE * 1j, -1 : 1 : _SIZE * 1j]
    noise = rng.normal(0, 12, (_SIZE, _SIZE))
    study, series, frame = (generate_uid() for _ in range(3))
    for k in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.PatientName, dataset.PatientID, dataset.Modality, dataset.SeriesNumber = "Phantom", "1", "CT", 1
        dataset.ImageType, dataset.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], k + 1
        dataset.Rows = dataset.Columns = _SIZE
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1.0
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-179, -179, k]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        body = 1000 * (rows**2 / 0.5 + columns**2 / 0.8 + (k / slices - 0.5) ** 2 < 1)
        dataset.PixelData = (body + np.roll(noise, 17 * k)).astype("<i2").tobytes()
        pydicom.dcmwrite(folder / f"IM{k:04d}.dcm", dataset)


def _compress(source: Path, folder: Path, slices: int) -> None:
    folder.mkdir()
    for path in sorted(source.iterdir())[:slices]:
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.save_as(folder / path.name)


def _print_table(header: list[str], rows: list[list[str]], markdown: bool) -> None:
    if markdown:
        lines = [header, ["---"] * len(header), *rows]
        print("\n".join("| " + " | ".join(line) + " |" for line in lines), flush=True)
    else:
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        for row in [header, *rows]:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)
    print(flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each reader")
    parser.add_argument("--slices", type=int, default=300, help="of the uncompressed series")
    parser.add_argument("--cases-only", action="store_true", help="leave the second table out")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--measure", nargs=2, metavar=("READER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.measure:
        print(json.dumps(vars(measured(options.measure[0], Path(options.measure[1])))))
        return
    eight_cases(options.markdown)
    if not options.cases_only:
        speeds(options.repeats, options.slices, options.markdown)


if __name__ == "__main__":
    main()

"""The cohort: prepared scans, ready to be read by any number of processes.

On disk a cohort is a folder with `manifest.jsonl` (one `ScanRecord` per line), `fingerprint.json` (what the scans have
in common and how they were prepared) and `voxels/` (one float32 array (X, Y, Z) per scan, on a common grid in RAS
order; where scans have label maps, one of small integers per scan beside it, on the very same grid).
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.data.intensity import normalise
from medgan.data.lineage import Origin
from medgan.data.participants import SPLITS, Label
from medgan.errors import MedganError, nearest
from medgan.files import read_json, require_existing, sha256_of, write_text
from medgan.geometry import Shape, Spacing
from medgan.volume import Volume

MANIFEST, FINGERPRINT, VOXELS = "manifest.jsonl", "fingerprint.json", "voxels"
PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)


@dataclass(frozen=True)
class MaskRecord:
    """The label map of a scan.

    Args:
        path: of the source, relative to the cohort's source root.
        sha256: of the source, as of a scan's.
        labels: the different values of the prepared array, in order.
        voxels: of the prepared array, relative to the cohort's folder; it has the scan's prepared grid.
        dtype: of that array, "uint8" or "uint16".
        voxels_sha256: of the source's voxels, as of a scan's; None in cohorts of older versions.
    """

    path: str
    sha256: str
    labels: tuple[int, ...]
    voxels: str
    dtype: str
    voxels_sha256: str | None = None


@dataclass(frozen=True)
class ScanRecord:
    """One scan of a cohort.

    Args:
        path: of the source, relative to the cohort's source root (`Cohort.fingerprint["source_root"]`).
        name: stem for the names of things made from this scan, unique in the cohort.
        sha256: of the source file; of the sorted hashes of its files for a DICOM series.
        shape: the source's voxels along its array axes.
        spacing: the source's mm between voxels along its array axes.
        orientation: the source's, such as "PSR".
        percentiles: of the prepared voxels, in the scan's own units; keys "0.5", "5", "50", "95", "99.5".
        background: value that stands outside the source's field of view in the prepared voxels.
        subject: who was scanned.
        labels: what the participants table says of the subject; missing values are absent.
        split: "train", "validation" or "test".
        voxels: of the prepared array, relative to the cohort's folder.
        affine: 4x4, prepared voxel index to RAS mm.
        prepared_shape: voxels of the prepared array.
        prepared_spacing: mm between them.
        series: SeriesInstanceUID of a DICOM source.
        mask: the scan's label map, in cohorts that were prepared with label maps.
        voxels_sha256: of the source's voxels (`medgan.data.lineage`), whatever file they stand in; None in cohorts of
            older versions.
        origin: where a synthetic scan comes from; None for acquired ones.
    """

    path: str
    name: str
    sha256: str
    shape: Shape
    spacing: Spacing
    orientation: str
    percentiles: Mapping[str, float]
    background: float
    subject: str
    labels: Mapping[str, Label]
    split: str
    voxels: str
    affine: tuple[tuple[float, ...], ...]
    prepared_shape: Shape
    prepared_spacing: Spacing
    series: str | None = None
    mask: MaskRecord | None = None
    voxels_sha256: str | None = None
    origin: Origin | None = None


@dataclass(frozen=True)
class Cohort:
    """A prepared cohort, opened with `Cohort.load`."""

    folder: Path
    records: tuple[ScanRecord, ...]
    fingerprint: Mapping[str, Any] = field(repr=False)
    manifest_sha256: str

    @classmethod
    def load(cls, folder: str | Path) -> Cohort:
        """Open a cohort folder; no voxels are read yet.

        Raises:
            MedganError: the folder is no cohort, its preparation was interrupted, or its manifest is damaged.
        """
        folder = require_existing(folder)
        manifest = folder / MANIFEST
        if not manifest.is_file():
            raise MedganError(
                f"this is no prepared cohort: it holds no {MANIFEST}", file=folder, hint="Make one with medgan prepare."
            )
        lines = manifest.read_text(encoding="utf-8").splitlines()
        records = tuple(_parsed(line, number, manifest) for number, line in enumerate(lines, start=1) if line.strip())
        if not records:
            raise MedganError("the cohort's manifest is empty", file=manifest, hint="Prepare the cohort again.")
        return cls(folder, records, read_json(folder / FINGERPRINT), sha256_of(manifest))

    @property
    def has_common_grid(self) -> bool:
        """Whether all prepared scans have one shape and spacing, rather than each its own."""
        return self.fingerprint["shape"] is not None

    @property
    def shape(self) -> Shape:
        """Voxels of every prepared scan along R, A and S.

        Raises:
            MedganError: every scan has a shape of its own.
        """
        if not self.has_common_grid:
            raise MedganError(
                "the scans of this cohort have grids of their own; this needs one grid for all",
                file=self.folder,
                hint="Prepare it with a --spacing in mm, or train a recipe with random acquisitions.",
            )
        x, y, z = self.fingerprint["shape"]
        return int(x), int(y), int(z)

    @property
    def spacing(self) -> Spacing:
        """Mm between prepared voxels along R, A and S: the median over the scans, which differ by rounding at most
        where they have a common grid.
        """
        x, y, z = self.fingerprint["spacing"]
        return float(x), float(y), float(z)

    def split(self, name: str) -> tuple[ScanRecord, ...]:
        """The scans of "train", "validation" or "test", in the manifest's order.

        Raises:
            MedganError: there is no such split.
        """
        if name not in SPLITS:
            raise MedganError(f"there is no split '{name}'", file=self.folder, hint=nearest(name, list(SPLITS)))
        return tuple(record for record in self.records if record.split == name)

    def voxels(self, record: ScanRecord) -> np.memmap:
        """A scan's prepared voxels (X, Y, Z) in its own units: float32, read-only, read from disk as they are used.

        Raises:
            MedganError: the array is missing or is not what the manifest says.
        """
        return self._mapped(record.voxels, record.prepared_shape, "float32")

    def normalised(self, record: ScanRecord) -> NDArray[np.float32]:
        """A scan's prepared voxels (X, Y, Z) in memory, so that 0 and 1 are its 0.5th and 99.5th percentile.

        Raises:
            MedganError: as `voxels` would, or the percentiles are equal.
        """
        return normalise(np.array(self.voxels(record)), record.percentiles["0.5"], record.percentiles["99.5"])

    def mask(self, record: ScanRecord) -> np.memmap:
        """A scan's label map (X, Y, Z) on the grid of its prepared voxels: uint8 or uint16, read-only, read from disk
        as it is used.

        Raises:
            MedganError: the scan has none, or the array is missing or is not what the manifest says.
        """
        if record.mask is None:
            raise MedganError(
                f"scan '{record.name}' has no label map",
                file=self.folder,
                hint="Prepare the cohort with --masks, the folder of its label maps.",
            )
        return self._mapped(record.mask.voxels, record.prepared_shape, record.mask.dtype)

    def _mapped(self, name: str, shape: Shape, dtype: str) -> np.memmap:
        """A prepared array of the cohort, mapped into memory."""
        path = self.folder / name
        # The header is compared, not parsed: numpy parses it by the ast module, which fails at random when two threads
        # of one process use it at a time (CPython 3.11).
        header = _array_header(shape, dtype)
        try:
            with path.open("rb") as stream:
                is_expected = stream.read(len(header)) == header
            if is_expected:
                return np.memmap(path, _STORED[dtype], mode="r", offset=len(header), shape=shape)
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise MedganError(f"the prepared voxels cannot be read ({error})", file=path, hint=_AGAIN) from error
        raise MedganError(
            f"expected {shape} {dtype} in C order, found {found.shape} {found.dtype}",
            file=path,
            hint=_AGAIN,
        )

    def volume(self, record: ScanRecord) -> Volume:
        """A scan's prepared voxels in memory with their place in space."""
        data: NDArray[np.float32] = np.array(self.voxels(record))
        return Volume(data, np.array(record.affine), ("prepared on the cohort's grid",))


_AGAIN = "Prepare the cohort again."
# Arrays are little-endian on disk, whoever writes them.
_STORED = {"float32": "<f4", "uint8": "|u1", "uint16": "<u2"}


@functools.cache
def _array_header(shape: Shape, dtype: str) -> bytes:
    """How a .npy file begins that `numpy.save` makes of a C-ordered array."""
    header = io.BytesIO()
    content = {"descr": _STORED[dtype], "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, content)
    return header.getvalue()


def spread(records: Sequence[ScanRecord], most: int) -> Sequence[ScanRecord]:
    """At most `most` of these scans, evenly spread over them."""
    return records[:: max(1, -(-len(records) // most))]


def write_manifest(folder: Path, records: Iterable[ScanRecord]) -> None:
    """Write `manifest.jsonl`, whole or not at all."""
    lines = [json.dumps(_as_written(record), allow_nan=False) for record in records]
    write_text(folder / MANIFEST, "\n".join(lines) + "\n")


def _as_written(record: ScanRecord) -> dict[str, Any]:
    """A line of the manifest; scans without a label map say nothing of one, acquired ones nothing of an origin."""
    content = asdict(record)
    return {key: value for key, value in content.items() if value is not None or key not in ("mask", "origin")}


def _parsed(line: str, number: int, manifest: Path) -> ScanRecord:
    try:
        content = json.loads(line)
        known = {key.name for key in fields(ScanRecord)}
        values = {key: _tupled(value) for key, value in content.items() if key in known}
        if "mask" in values:
            values["mask"] = MaskRecord(**{key: _tupled(value) for key, value in values["mask"].items()})
        if "origin" in values:
            values["origin"] = Origin(**{key: _tupled(value) for key, value in values["origin"].items()})
        record = ScanRecord(**values)
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise MedganError(f"line {number} of the manifest is damaged ({error})", file=manifest, hint=_AGAIN) from error
    return record


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value

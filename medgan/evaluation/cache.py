"""Features that were computed before: a scan that was encoded once need not be encoded again.

An entry is found by a hash of the normalised voxels and the encoder's name, so that a changed scan, normalisation or
encoder finds nothing. It holds features and a checksum, no name, path or header of any scan. Processes may share a
cache: entries appear whole, and whoever computes one twice writes the same.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.files import atomic_path

if TYPE_CHECKING:
    from medgan.evaluation.encoders import Encoder
    from medgan.evaluation.scans import Scans

Features = NDArray[np.float64]

_LAYOUT = b"medgan features 1"
_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """Where features are kept: MEDGAN_CACHE, or `medgan` in the system's folder for caches of this user."""
    if chosen := os.environ.get("MEDGAN_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "medgan"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "medgan" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medgan"


class FeatureCache:
    """Rows of features on disk.

    Args:
        folder: of caches; the one for features in it is made with the first entry, readable by its owner only.
        say: is told of entries that are damaged, and of a folder that cannot be used.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda text: None) -> None:
        self.folder, self._say, self._writable = folder / "features", say, True

    def find(self, key: str) -> Features | None:
        """The features under a key; None where there are none, or damaged ones, which is said."""
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._say(f"The feature cache in {self.folder} cannot be read ({error.strerror}).")
            return None
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if not payload or len(payload) % 8 or hashlib.sha256(payload).digest() != digest:
            self._say(f"An entry of the feature cache in {self.folder} is damaged; its scan is encoded again.")
            return None
        return np.frombuffer(payload, dtype="<f8").astype(np.float64)

    def keep(self, key: str, row: Features) -> None:
        """Write the features (D,) of a scan under its key; where that is impossible, say so once and keep none."""
        if not self._writable:
            return
        path, payload = self._path(key), np.asarray(row, dtype="<f8").tobytes()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with atomic_path(path) as temporary:
                temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
        except (OSError, MedganError) as error:
            # An evaluation must not be lost to a full or read-only home.
            self._writable = False
            self._say(f"Features are not kept: {error} MEDGAN_CACHE names another folder, --no-cache keeps none.")

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key


def feature_key(volume: NDArray[Any], encoder: str, spacing: Sequence[float] | None = None) -> str:
    """What a volume's features by an encoder are found by, 64 hexadecimal digits.

    Args:
        volume: (X, Y, Z), normalised as it goes into the encoder.
        encoder: its name and version.
        spacing: of the voxels in mm; to some encoders it makes a difference.
    """
    voxels = np.ascontiguousarray(volume, dtype="<f4")
    digest = hashlib.sha256(_LAYOUT)
    steps = "" if spacing is None else ",".join(f"{step:.5g}" for step in spacing)
    digest.update(f"|{encoder}|{voxels.shape}|{steps}|".encode())
    digest.update(voxels.tobytes())
    return digest.hexdigest()


def extracted(
    encoder: Encoder, scans: Scans, cache: FeatureCache | None = None, *, spacing: Sequence[float] | None = None
) -> Features:
    """The features (N, D) of all scans, those known to the cache taken from there.

    Args:
        encoder: with a name that changes whenever its features do.
        scans: normalised volumes.
        cache: None computes everything and keeps nothing.
        spacing: of the voxels in mm.

    Raises:
        MedganError: the encoder refuses a volume.
    """
    if cache is None:
        return encoder.extract(scans[number] for number in range(len(scans)))
    keys = [feature_key(scans[number], encoder.name, spacing) for number in range(len(scans))]
    rows = {key: row for key in keys if (row := cache.find(key)) is not None}
    missing = {key: number for number, key in enumerate(keys) if key not in rows}
    if missing:
        computed = encoder.extract(scans[number] for number in missing.values())
        for key, row in zip(missing, computed, strict=True):
            cache.keep(key, row)
            rows[key] = row
    return np.stack([rows[key] for key in keys])

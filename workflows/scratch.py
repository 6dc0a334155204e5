"""Scans that are too many to hold: normalised voxels in a folder that is gone when the work is done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, overload

from medgan.errors import MedganError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Voxels = NDArray[np.float32]

_MOST_THREADS = 4


class StoredScans(Sequence["Voxels"]):
    """Volumes (X, Y, Z) in files, each read when it is asked for.

    They are read and not mapped into memory, so that none of them counts as memory of the process afterwards.

    Args:
        files: one `.npy` file for each.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Voxels: ...

    @overload
    def __getitem__(self, index: slice) -> list[Voxels]: ...

    def __getitem__(self, index: int | slice) -> Voxels | list[Voxels]:
        import numpy as np

        if isinstance(index, slice):
            return [np.load(file, allow_pickle=False) for file in self._files[index]]
        loaded: Voxels = np.load(self._files[index], allow_pickle=False)
        return loaded


class Scratch:
    """A folder for volumes; see `scratch_folder`.

    Args:
        folder: empty, of this process alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self, name: str, count: int, read: Callable[[int], Voxels]) -> StoredScans:
        """Volumes `read(0)` to `read(count - 1)`, a few at a time, on disk.

        Args:
            name: of the set, unique in this folder.
            count: how many volumes.
            read: gives one of them; it is called from several threads.

        Raises:
            MedganError: what `read` raises for the first volume that it cannot give, or the disk is full.
        """
        import numpy as np

        place = self._folder / name
        place.mkdir()
        files = [place / f"{number}.npy" for number in range(count)]

        def written(number: int) -> None:
            try:
                np.save(files[number], read(number))
            except OSError as error:
                raise MedganError(
                    f"the scratch folder cannot hold the {name} scans ({error.strerror or error})",
                    file=self._folder.parent,
                    hint="Set TMPDIR to a folder on a disk with more space.",
                ) from error

        pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))
        try:
            for _ in pool.map(written, range(count)):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
        return StoredScans(files)


@contextmanager
def scratch_folder() -> Iterator[Scratch]:
    """A folder in the system's place for temporary files (TMPDIR), readable by this user only, and gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="medgan-") as folder:
        yield Scratch(Path(folder))

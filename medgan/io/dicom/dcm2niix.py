"""Vendor formats that the standard's attributes do not explain, read through dcm2niix where it is installed.

dcm2niix (https://github.com/rordenlab/dcm2niix) knows the private elements of many scanners. It is asked only for what
medgan would have to guess, and the volume's history says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from medgan.errors import MedganError
from medgan.io.nifti import read_nifti
from medgan.volume import Volume

_LONGEST_SECONDS = 600
_VERSION = re.compile(r"v\d+\.\d+\.\d+")
_HINT = "Convert it to NIfTI yourself and use that file."


def program() -> str | None:
    """Where dcm2niix is; None if it is not installed."""
    return shutil.which("dcm2niix")


def read_by_dcm2niix(files: Iterable[Path], folder: Path, why: str) -> Volume:
    """The one volume that dcm2niix makes of some files.

    Args:
        files: the files of the volume.
        folder: where they lie, for messages.
        why: what they are, for the volume's history.

    Raises:
        MedganError: it is not installed, fails, takes too long, or makes none or several volumes of them.
    """
    command = program()
    if command is None:
        raise MedganError(f"this is {why}", file=folder, hint="Install dcm2niix: medgan reads such files through it.")
    with tempfile.TemporaryDirectory(prefix="medgan-") as place:
        source, target = Path(place) / "in", Path(place) / "out"
        source.mkdir()
        target.mkdir()
        for number, file in enumerate(sorted(set(files))):
            shutil.copyfile(file, source / f"{number:06d}.dcm")
        said = _run([command, "-z", "n", "-b", "n", "-f", "volume_%s", "-o", str(target), str(source)], folder)
        made = sorted(target.glob("*.nii"))
        if len(made) != 1:
            count = "no volume" if not made else f"{len(made)} volumes"
            raise MedganError(f"this is {why}, and dcm2niix made {count} of it", file=folder, hint=_HINT)
        try:
            volume = read_nifti(made[0])
        except MedganError as error:
            raise MedganError(f"this is {why}; of what dcm2niix made: {error.what}", file=folder, hint=_HINT) from error
    version = _VERSION.search(said)
    step = f"read by dcm2niix {version.group() if version else '(version unknown)'}: {why}"
    return Volume(volume.data, volume.affine, (step, *volume.history))


def _run(command: list[str], folder: Path) -> str:
    """What the program printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_SECONDS, errors="replace")
    except subprocess.TimeoutExpired as error:
        what = f"dcm2niix did not end within {_LONGEST_SECONDS} s"
        raise MedganError(what, file=folder, hint=_HINT) from error
    except OSError as error:
        raise MedganError(f"dcm2niix cannot be started ({error.strerror})", file=folder, hint=_HINT) from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        what = f"dcm2niix failed with code {done.returncode}{f': {last[0]}' if last else ''}"
        raise MedganError(what, file=folder, hint=_HINT)
    return done.stdout

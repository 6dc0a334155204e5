"""Where results go: whether they can be written there is asked before the work, not after it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medgan.errors import MedganError

# What an operating system may refuse, and what helps; any other OSError is a defect of medgan.
_ANOTHER = "Choose another path."
_REFUSALS = {
    errno.ENOSPC: ("the disk is full", "Free some space or choose another output folder."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space or choose another output folder."),
    errno.EACCES: ("no permission", "Change the permissions or choose another path."),
    errno.EPERM: ("no permission", "Change the permissions or choose another path."),
    errno.EROFS: ("the disk can only be read", _ANOTHER),
    errno.ENOTDIR: ("a file stands where a folder is needed", _ANOTHER),
    errno.EEXIST: ("a file stands where a folder is needed", _ANOTHER),
    errno.EISDIR: ("a folder stands where a file is needed", _ANOTHER),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one."),
    errno.ELOOP: ("links lead in a circle", _ANOTHER),
    errno.EIO: ("the disk reports an error", "Check the disk, and copy the file again from its source."),
}


def writable_folder(path: str | Path) -> Path:
    """`path` as a Path, if it is a folder that can be written, or could be made. Nothing is made yet.

    Raises:
        MedganError: a file stands in the way, or permission is lacking.
    """
    path = Path(path)
    nearest = path.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        in_the_way = "" if nearest == path.absolute() else f" ({nearest})"
        raise MedganError(
            f"a file stands where a folder is needed{in_the_way}", file=path, hint="Choose another output folder."
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise MedganError("no permission to write here", file=path, hint="Choose another output folder.")
    return path


def new_folder(path: str | Path, hint: str = "Choose another --out.") -> Path:
    """`path` as a Path, if a whole folder can be put there; `hint` says what to do if something is there already.

    Raises:
        MedganError: something stands there already, it is the current folder, or it cannot be written.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise MedganError("the output exists already and is not an empty folder", file=path, hint=hint)
    if path.exists() and path.samefile(Path.cwd()):
        raise MedganError("the output is the current folder, which cannot be replaced", file=path, hint="Name another.")
    return writable_folder(path)


def writable_file(path: str | Path, sources: Iterable[str | Path] = ()) -> Path:
    """`path` as a Path, if a file can be written there without replacing one of the sources.

    Raises:
        MedganError: a folder stands there, its folder is none or cannot be written, or it is a source.
    """
    path = Path(path)
    if path.is_dir():
        raise MedganError("a folder stands where the file is to be written", file=path, hint="Choose another name.")
    writable_folder(path.parent)
    if path.exists() and any(path.samefile(source) for source in sources if Path(source).exists()):
        raise MedganError("the output would replace the scan it is made from", file=path, hint="Choose another output.")
    return path


def write_sidecar(content: Mapping[str, Any], result: Path) -> None:
    """Say beside a result what was done; the result goes if that cannot be said.

    Raises:
        MedganError: the file cannot be written.
    """
    from medgan.files import write_json
    from medgan.io.sidecar import sidecar_of

    try:
        write_json(sidecar_of(result), dict(content))
    except MedganError:
        remove(result)
        raise


def remove(path: Path) -> None:
    """Take a result away again, a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def refusal(error: OSError) -> MedganError | None:
    """What an operating system refused, in words that help; None if it is nothing that a user can mend."""
    if error.errno not in _REFUSALS:
        return None
    what, hint = _REFUSALS[error.errno]
    return MedganError(what, file=error.filename, hint=hint)

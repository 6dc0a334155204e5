"""Files that appear whole or not at all, and their fingerprints."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medgan.errors import MedganError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place when the block ends well, and vanishes when it does not.

    The temporary name keeps the target's suffixes, because writers such as nibabel choose the format by them. It serves
    files and folders; a folder that stands at `target` already is replaced whole.

    Raises:
        MedganError: the disk is full or the place is not writable.
    """
    target = Path(target)
    temporary = target.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and target.is_dir():
            retired = target.with_name(f".tmp-{uuid.uuid4().hex[:8]}-old-{target.name}")
            target.rename(retired)
            temporary.rename(target)
            shutil.rmtree(retired)
        elif temporary.exists():
            temporary.replace(target)
    except OSError as error:
        raise _explained(error, target) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        elif os.path.lexists(temporary):
            temporary.unlink()


def _explained(error: OSError, target: Path) -> MedganError | OSError:
    """The operating system's refusal to write, in words; other errors unchanged."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MedganError("the disk is full", file=target, hint="Free some space or choose another output folder.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MedganError("no permission to write here", file=target, hint="Choose another output folder.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST) and not isinstance(error, FileNotFoundError):
        return MedganError("a file stands where a folder is needed", file=target, hint="Choose another output path.")
    return error


def write_text(target: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `target`, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: str | Path, content: Any) -> None:
    """Write `content` as indented JSON to `target`, whole or not at all; not-a-number is refused."""
    write_text(target, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        MedganError: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MedganError("no such file", file=path) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MedganError(f"not readable as JSON ({error})", file=path) from error


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def require_existing(path: str | Path) -> Path:
    """`path` as a Path.

    Raises:
        MedganError: there is nothing there.
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise MedganError("no such file or folder", file=path, hint="Check the spelling.")
    return path

"""Whether a result stands there already: a mark says from which scan, model and options it was made.

The marks of the results in a folder are files of hashes in its hidden folder `.medgan`. A mark has two states: begun,
before a result takes its place, and done, with the hash of the result. So whatever moment a process is killed at, a
later run knows which results are whole, which are its own to be made again, and which are somebody else's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medgan.errors import MedganError
from medgan.files import read_json, sha256_of, write_json
from medgan.workflows.places import remove


@dataclass(frozen=True)
class Fingerprint:
    """What decides a result, as SHA-256: the files that are read, the model (None without one), and the options."""

    input: str
    model: str | None
    options: str


@dataclass(frozen=True)
class Mark:
    """The mark of one result.

    Args:
        path: of the mark.
        target: the result, a file or a folder.
        fingerprint: of what is asked for now.
    """

    path: Path
    target: Path
    fingerprint: Fingerprint

    @classmethod
    def of(cls, target: Path, folder: Path, fingerprint: Fingerprint) -> Mark:
        """The mark of a result somewhere in the folder of all results."""
        place = target.relative_to(folder)
        return cls(folder / ".medgan" / place.with_name(f"{place.name}.json"), target, fingerprint)

    def is_done(self) -> bool:
        """Whether the result was made from just this, and nobody has changed it since."""
        output = digest_of_result(self.target)
        return output is not None and self._read() == {**asdict(self.fingerprint), "output": output}

    def is_our_own(self) -> bool:
        """Whether what stands there was written by medgan and not changed since, so that it may be replaced."""
        content = self._read()
        return content is not None and content.get("output") in (None, digest_of_result(self.target))

    def begin(self) -> None:
        """Say that the result is about to be written, and take away what a killed run has left half-written of it."""
        for leftover in self.target.parent.glob(f".tmp-*-{_literal(self.target.name)}"):
            remove(leftover)
        self._write(None)

    def finish(self) -> None:
        """Say that the result stands there whole."""
        self._write(digest_of_result(self.target))

    def withdraw(self) -> None:
        """Take back that the result is about to be written."""
        self.path.unlink(missing_ok=True)

    def _write(self, output: str | None) -> None:
        try:
            write_json(self.path, {**asdict(self.fingerprint), "output": output})
        except MedganError as error:
            # The user knows of the result, not of its mark.
            raise MedganError(error.what, file=self.target, hint=error.hint) from error.__cause__

    def _read(self) -> dict[str, Any] | None:
        """What the mark says, if there is one that can be read."""
        if not self.path.is_file():
            return None
        try:
            content = read_json(self.path)
        except MedganError:
            # A mark that another program has damaged proves nothing: the result is made again.
            return None
        return content if isinstance(content, dict) else None


def digest_of_files(paths: Iterable[str | Path]) -> str:
    """One SHA-256 for the content of several files, whatever their names and order."""
    digests = sorted(sha256_of(path) for path in paths)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def digest_of_values(values: Mapping[str, Any]) -> str:
    """One SHA-256 for values that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def digest_of_result(target: Path) -> str | None:
    """Of a file, or of all files in a folder; None where nothing stands."""
    if target.is_dir():
        return digest_of_files(path for path in target.rglob("*") if path.is_file())
    return sha256_of(target) if target.is_file() else None


def _literal(name: str) -> str:
    """`name` for a glob, in which it stands for itself alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)

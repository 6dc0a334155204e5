"""The one error that a user of medgan should ever meet.

Raise `MedganError` for anything that the user can mend: a wrong path, a damaged file, a misspelt field. The command
    line
prints its text and leaves with exit code 2; every other exception is a defect of medgan.
"""

from __future__ import annotations

from pathlib import Path


class MedganError(Exception):
    """Something the user can mend, said in one message.

    Args:
        what: what was wrong, with the offending value in it.
        file: the file or folder where it was met.
        hint: the next step, as an imperative sentence.
    """

    def __init__(self, what: str, *, file: str | Path | None = None, hint: str | None = None) -> None:
        self.what = what
        self.file = Path(file) if file is not None else None
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        parts = [f"{self.file}: {self.what}" if self.file is not None else self.what]
        if self.hint:
            parts.append(self.hint)
        return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.what, self.file, self.hint))


def _rebuild(what: str, file: Path | None, hint: str | None) -> MedganError:
    """Pickle hook: worker processes send their errors back to the parent."""
    return MedganError(what, file=file, hint=hint)


def nearest(name: str, valid: list[str]) -> str:
    """A phrase that names the valid spelling closest to `name`, or lists all valid ones."""
    import difflib

    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Valid names are: {', '.join(sorted(valid))}."

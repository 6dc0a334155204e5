"""What ran where, as a table at the end of a report: enough to do it again, and nothing that names people or places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medgan.report.blocks import Block, Cell


def provenance_blocks(
    facts: Sequence[tuple[str, Cell]] = (), *, device: str | None = None, seed: int | None = None
) -> list[Block]:
    """Versions, commits, machine and seed.

    Args:
        facts: rows that the report knows itself, such as the recipe's name; they come first.
        device: what computed.
        seed: of the run.
    """
    from medgan.provenance import collect
    from medgan.report.blocks import Heading, Table

    found = collect(device=device)
    commit = found.git_commit
    rows: list[list[Cell]] = [[name, value] for name, value in facts]
    rows += [
        ["medgan", f"{found.medgan_version}, commit {_short(found.medgan_commit)}"],
        [
            "Your repository",
            f"commit {_short(commit)}{', changed since' if found.git_dirty else ''}" if commit else "none",
        ],
        ["Python", found.python],
        ["Libraries", ", ".join(f"{name} {version}" for name, version in found.versions.items())],
        ["Device", found.device],
        ["Machine", f"{found.platform}, {found.cpu}, {found.cores} cores"],
    ]
    if seed is not None:
        rows.append(["Seed", seed])
    return [Heading("Provenance"), Table(["", "Value"], rows)]


def _short(commit: str | None) -> str:
    """The first twelve digits, and whether the tree was changed."""
    if commit is None:
        return "unknown (installed from a package)"
    digits, dirty, _ = commit.partition("-dirty")
    return digits[:12] + (", changed since" if dirty else "")

"""What produced a result: code, environment, machine, command and seeds, without names of people or places.

Folders and data files are often called by patients, and tables in a repository list them. So of a repository only files
that hold code or settings are described, and of paths on the command line only the names of such files.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Any

DIFF_LIMIT = 1 << 20
"""Most characters of a working tree's diff that are kept."""

_GIT_SECONDS = 20.0
_CODE = (".py", ".pyi", ".sh", ".yaml", ".yml", ".toml", ".cfg", ".ini")
_STACK = ("torch", "monai", "numpy", "scipy", "nibabel", "pydicom", "mlflow")


@dataclass(frozen=True)
class Provenance:
    """The record of one run's origin; plain values only, so that it writes to JSON as it is.

    Args:
        medgan_version: the installed version.
        medgan_commit: the commit of medgan's own source tree when it runs from one, with "-dirty" when changed.
        git_commit: the last commit of the user's repository, full hash; None where there is none.
        git_dirty: whether tracked files differ from that commit or untracked ones lie beside them.
        git_diff: the changes of tracked code and settings as a patch, at most `DIFF_LIMIT` characters.
        git_diff_truncated: whether `git_diff` was cut.
        git_untracked: the names of untracked code and settings, without their folders, at most 200.
        git_problem: why git could not say, or None.
        python: the interpreter's version.
        versions: the versions of the main libraries; one that is not installed is left out.
        packages: every installed distribution as "name==version", sorted.
        platform: operating system and architecture.
        host: twelve hexadecimal digits that tell machines apart without naming them.
        cpu: the processor's model.
        cores: the processor cores that this process may use.
        device: what computes, such as "NVIDIA H100" or "cpu".
        numerics: what decides whether a result repeats bit for bit: CUDA and cuDNN versions, TF32, determinism, ranks,
            threads. Only what torch says of itself when it is loaded already.
        command: the command line; a path is written as "PATH", or as its last name if it is code or settings.
        seeds: the seeds by name.
    """

    medgan_version: str
    medgan_commit: str | None
    git_commit: str | None
    git_dirty: bool
    git_diff: str
    git_diff_truncated: bool
    git_untracked: tuple[str, ...]
    git_problem: str | None
    python: str
    versions: Mapping[str, str]
    packages: tuple[str, ...]
    platform: str
    host: str
    cpu: str
    cores: int
    device: str
    numerics: Mapping[str, str]
    command: tuple[str, ...]
    seeds: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record as nested dictionaries, lists and plain values."""
        return _plain(asdict(self))


def collect(
    repository: Path | None = None,
    *,
    seeds: Mapping[str, int] | None = None,
    device: str | None = None,
    arguments: Sequence[str] | None = None,
) -> Provenance:
    """Describe the code, the environment and the machine of this process.

    It takes some tens of milliseconds: torch, monai and the rest are never imported for it.

    Args:
        repository: a folder inside the git repository to describe; the working directory by default. Neither git nor a
            repository need be there.
        seeds: the seeds of the run by name.
        device: what computes; by default what torch says when it is loaded already, else "cpu".
        arguments: the command line; that of this process by default.
    """
    return Provenance(
        medgan_version=_installed("medgan") or "unknown",
        medgan_commit=_medgan_commit(),
        **_git_facts(repository or Path.cwd()),
        python=platform.python_version(),
        versions={name: version for name in _STACK if (version := _installed(name))},
        packages=installed_packages(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        host=hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        cpu=cpu_model(),
        cores=usable_cores(),
        device=device or _device_name(),
        numerics=_numerics(),
        command=_without_paths(sys.argv if arguments is None else arguments),
        seeds=dict(seeds or {}),
    )


def without_paths(argument: str) -> str:
    """A command-line argument with every path in it written as "PATH", or as its last name if that is code or settings.

    What counts as a path: whatever is absolute, starts at a home folder, climbs with "..", or exists on this machine in
    a folder. Recipe names such as `synthesis/r3gan` and URIs stay whole. The value of `name=value` is treated alike.
    """
    name, equals, value = argument.partition("=")
    if equals and not _is_path(argument):
        return f"{name}={without_paths(value)}"
    return _last_name_of_code(argument) if _is_path(argument) else argument


def _without_paths(arguments: Sequence[str]) -> tuple[str, ...]:
    """The program's name and its arguments without paths; an option's value is one too if it is the name of a file or
    folder right here."""
    if not arguments:
        return ()
    written = [_last_name(arguments[0])]
    for before, argument in pairwise(arguments):
        is_path = before.startswith("-") and os.path.lexists(argument)
        written.append(_last_name_of_code(argument) if is_path else without_paths(argument))
    return tuple(written)


def installed_packages() -> tuple[str, ...]:
    """Every installed distribution as "name==version", sorted by name; torch brings its build, as in "2.13.0+cu130"."""
    found = {
        re.sub(r"[-_.]+", "-", name).lower(): distribution.version
        for distribution in metadata.distributions()
        if (name := distribution.metadata["Name"])
    }
    return tuple(f"{name}=={version}" for name, version in sorted(found.items()))


def cpu_model() -> str:
    """The processor's model as the operating system names it."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        match = re.search(
            r"^model name\s*:\s*(.+)$", listing.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """How many processor cores this process may use, which under a scheduler is fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _git_facts(folder: Path) -> dict[str, Any]:
    """The state of the git repository that holds `folder`, by the fields' names of `Provenance`."""
    commit, problem = _git(folder, "rev-parse", "--verify", "HEAD")
    listing, diff = "", ""
    if problem is None:
        listing, _ = _git(folder, "status", "--porcelain", "-z", "--untracked-files=normal")
        code = [f":(top,icase,glob)**/*{suffix}" for suffix in _CODE]
        diff, _ = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv", "--", *code)
    untracked = {_last_name(line[3:]) for line in listing.split("\0") if line.startswith("??")}
    return {
        "git_commit": commit.strip() or None,
        "git_dirty": bool(listing),
        "git_diff": diff[:DIFF_LIMIT],
        "git_diff_truncated": len(diff) > DIFF_LIMIT,
        "git_untracked": tuple(sorted(filter(_is_code, untracked)))[:200],
        "git_problem": problem,
    }


def _git(folder: Path, *arguments: str) -> tuple[str, str | None]:
    """What git prints in `folder`, cut a little over the limit, and why it could not."""
    # fsmonitor names a program that a foreign repository could choose; optional locks would disturb the user's own git.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        answer = subprocess.run(
            command, capture_output=True, timeout=_GIT_SECONDS, check=False, env=environment, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return "", "git is not installed"
    except subprocess.TimeoutExpired:
        return "", f"git did not answer within {_GIT_SECONDS:.0f} s"
    if answer.returncode != 0:
        return "", _git_problem(answer.stderr.decode(errors="replace"))
    return answer.stdout[: 4 * DIFF_LIMIT + 4].decode(errors="replace"), None


def _git_problem(complaint: str) -> str:
    """Git's complaint in words that name no folder."""
    if "not a git repository" in complaint:
        return "no git repository"
    if "dubious ownership" in complaint:
        return "the repository belongs to someone else (git's safe.directory)"
    if "Needed a single revision" in complaint:
        return "the repository has no commit yet"
    return "git refused to answer"


def _medgan_commit() -> str | None:
    """The commit of the tree that medgan's source lies in, unless it is installed as a package."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    commit, problem = _git(root, "rev-parse", "--verify", "HEAD")
    if problem is not None:
        return None
    changes, _ = _git(root, "status", "--porcelain", "--untracked-files=no")
    return commit.strip() + ("-dirty" if changes else "")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device_name() -> str:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "cpu"


def _numerics() -> dict[str, str]:
    facts = {"world_size": os.environ.get("WORLD_SIZE", "1")}
    torch = sys.modules.get("torch")
    if torch is None:
        return facts
    facts |= {
        "threads": str(torch.get_num_threads()),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        "float32_matmul_precision": str(torch.get_float32_matmul_precision()),
    }
    if torch.version.cuda:
        facts |= {
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
            "cudnn_benchmark": str(torch.backends.cudnn.benchmark),
            "cudnn_tf32": str(torch.backends.cudnn.allow_tf32),
        }
    return facts


def _is_path(text: str) -> bool:
    if not text or "://" in text or re.match(r"(runs|models):/", text):
        return False
    if text.startswith("~") or Path(text).is_absolute() or PureWindowsPath(text).is_absolute():
        return True
    parts = re.split(r"[/\\]", text)
    return len(parts) > 1 and (".." in parts or os.path.lexists(text))


def _last_name_of_code(path: str) -> str:
    name = _last_name(path)
    return name if _is_code(name) else "PATH"


def _is_code(name: str) -> bool:
    return name.lower().endswith(_CODE)


def _last_name(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path[:1]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value

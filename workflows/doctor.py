"""Doctor: what this machine has for medgan, what is missing, and how to get it. It never uses the network."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_LOW_DISK = 2.0
_OLDEST_SQLITE = (3, 31, 0)
_SLOW_TORCH = "2.9."

# Compressed transfer syntaxes by the plugin packages that decode them.
_DECODERS = {
    "1.2.840.10008.1.2.4.50": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.51": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.57": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.70": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.80": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.81": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.90": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.5": "pylibjpeg pylibjpeg-rle",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: what.
        ok: False when medgan needs it and cannot have it as it is.
        detail: what was found.
        remedy: what to do; beside an `ok` it is a suggestion.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def diagnose(folder: Path | None = None) -> list[Check]:
    """Look at everything that medgan needs.

    Args:
        folder: where runs would be written; the working directory by default.
    """
    folder = folder or Path.cwd()
    return [
        _python(),
        *_packages(metadata.requires("medgan") or []),
        _torch(),
        _device(),
        _threads(),
        _decoders(),
        _tracking(folder),
        _disk(folder),
        _demo(),
        _git(),
    ]


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """Print checks as a table, problems in red, and one line that sums up."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mark = Text("ok", style="green") if check.ok else Text("fix", style="bold red")
        finding = Text(check.detail)
        if check.remedy:
            finding.append(f"\n{check.remedy}", style="dim" if check.ok else "yellow")
        table.add_row(mark, Text(check.name), finding)
    console.print(table)
    problems = sum(not check.ok for check in checks)
    console.print("Everything that medgan needs is here." if not problems else f"{problems} to fix.", highlight=False)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(
        "python", sys.version_info >= (3, 11), version, "" if sys.version_info >= (3, 11) else "Use 3.11 or newer."
    )


def _packages(requirements: Sequence[str]) -> list[Check]:
    """One check for all required packages that fit, and one for each that does not."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        return [
            Check(
                "packages", False, "packaging is not installed, so versions cannot be compared", "pip install packaging"
            )
        ]
    fitting, problems = [], []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None:
            detail = "not installed"
        elif not requirement.specifier.contains(version, prereleases=True):
            detail = f"{version} is installed, medgan needs {requirement.specifier}"
        else:
            fitting.append(f"{requirement.name} {version}")
            continue
        problems.append(Check(requirement.name, False, detail, f"pip install '{requirement}'"))
    return [Check("packages", True, ", ".join(fitting)), *problems] if fitting else problems


def _torch() -> Check:
    version = _version("torch")
    if version is None:
        return Check("torch", False, "not installed", "pip install torch; see pytorch.org for the build of your GPU.")
    if version.startswith(_SLOW_TORCH):
        return Check(
            "torch",
            False,
            f"{version} runs 3D convolutions in mixed precision about four times slower than other versions",
            "pip install 'torch>=2.10'",
        )
    return Check("torch", True, version)


def _device() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("device", False, f"torch does not load: {error}", "Install torch again.")
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        count = torch.cuda.device_count()
        detail = f"{count} x {device.name}" if count > 1 else device.name
        half = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16, float32 will be used"
        return Check(
            "device", True, f"{detail}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, {half}"
        )
    if torch.backends.mps.is_available():
        return Check("device", True, "Apple GPU (mps)")
    if _nvidia_driver():
        return Check(
            "device",
            False,
            f"an NVIDIA driver is here, but torch {torch.__version__} sees no GPU",
            "Install a CUDA build of torch that fits the driver (`nvidia-smi` names its version).",
        )
    return Check("device", True, "CPU only", "Enough to try medgan out; training in earnest wants a GPU.")


def _threads() -> Check:
    from medgan.provenance import usable_cores

    cores = usable_cores()
    allowed = min(cores, _container_cores() or cores)
    try:
        import torch
    except (ImportError, OSError):
        return Check("threads", True, f"{allowed} cores")
    threads = torch.get_num_threads()
    detail = f"{threads} torch threads on {allowed} cores"
    if threads > allowed:
        return Check("threads", False, f"{detail}: they get in each other's way", f"export OMP_NUM_THREADS={allowed}")
    return Check("threads", True, detail)


def _decoders() -> Check:
    try:
        from pydicom.pixels import get_decoder
        from pydicom.uid import UID
    except ImportError as error:
        return Check("DICOM decoders", False, f"pydicom does not load: {error}", "pip install 'pydicom>=3'")
    missing, packages = [], set()
    for uid, plugin in _DECODERS.items():
        if not get_decoder(uid).is_available:
            missing.append(UID(uid).name)
            packages.update(plugin.split())
    if missing:
        return Check(
            "DICOM decoders",
            False,
            f"{len(missing)} of {len(_DECODERS)} compressed transfer syntaxes cannot be read: {', '.join(missing)}",
            f"pip install {' '.join(sorted(packages))}",
        )
    return Check(
        "DICOM decoders",
        True,
        f"all {len(_DECODERS)} compressed transfer syntaxes (JPEG, JPEG-LS, JPEG 2000, HTJ2K, RLE)",
    )


def _tracking(folder: Path) -> Check:
    from medgan.tracking import store

    name = "tracking store"
    if _version("mlflow") is None:
        return Check(
            name, False, "mlflow is not installed", "pip install mlflow, or train with --set tracking.enabled=false"
        )
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri and store.database_of(uri) is None:
        return Check(name, True, f"{store.shown(uri)} by MLFLOW_TRACKING_URI, not contacted")
    database = store.database_of(uri) if uri else folder / "runs" / store.DATABASE
    assert database is not None
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        return Check(name, False, f"SQLite {sqlite3.sqlite_version} is too old for MLflow", "Use a newer Python build.")
    problem = _why_not_writable(database)
    if problem:
        return Check(
            name, False, f"{database}: {problem}", "Choose another folder with --out, or set MLFLOW_TRACKING_URI."
        )
    return Check(name, True, f"{database}{'' if database.exists() else ' (made by the first training)'}")


def _why_not_writable(database: Path) -> str:
    """Why an SQLite store cannot be written at `database`; empty when it can."""
    if database.exists():
        if not os.access(database, os.W_OK):
            return "not writable"
        with database.open("rb") as stream:
            return "" if stream.read(16) in (b"", b"SQLite format 3\0") else "this is no SQLite database"
    parent = next(place for place in database.absolute().parents if place.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 2**30
    low = free < _LOW_DISK
    return Check("disk", not low, f"{free:.1f} GiB free", f"Free at least {_LOW_DISK:.0f} GiB." if low else "")


def _demo() -> Check:
    version = _version("nilearn")
    if version is None:
        return Check(
            "demo",
            True,
            "nilearn is not installed: no embedded cohort",
            "pip install 'medgan[demo]' for `medgan quickstart`",
        )
    return Check("demo", True, f"nilearn {version}: `medgan quickstart` runs without data")


def _git() -> Check:
    if shutil.which("git") is None:
        return Check("git", True, "not installed: runs will not record your commit", "Install git to record it.")
    return Check("git", True, "runs record your commit and changes")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _container_cores() -> int | None:
    """The processor share of a container in whole cores (control groups, version 2), or None without a limit."""
    limit = Path("/sys/fs/cgroup/cpu.max")
    if not limit.is_file():
        return None
    quota, period = limit.read_text().split()[:2]
    return None if quota == "max" else max(1, round(int(quota) / int(period)))

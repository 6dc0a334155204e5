"""How much memory an upscaling takes at its peak, and how much there is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from medgan.errors import MedganError
from medgan.geometry import Shape
from medgan.inference.tiling import per_axis

# Python, torch and the libraries around them, before the first voxel.
_LIBRARIES = 500 * 2**20
_FLOAT = 4
# High-resolution arrays that live side by side: for every channel the result, its turned copy and the one that is
# written; for the channel at work the inverse, a network's answer and what either is computed from.
_PER_CHANNEL, _AT_WORK = 4, 6
# Low-resolution bytes for each voxel: as stored, turned, and the float64 of the percentiles.
_PER_LOW_VOXEL = 24
# Feature volumes of a network that live side by side, the libraries' own copies among them.
_FEATURES = 6
# More of the memory is not asked for: the system and its cache need the rest.
_SHARE = 0.9


def peak_bytes(
    low_shape: Sequence[int],
    high_shape: Sequence[int],
    *,
    channels: int = 1,
    widest: int = 0,
    folded: float = 1,
    tile: Shape = (96, 96, 96),
    halo: int | Sequence[int] = 0,
) -> int:
    """The most memory that upscaling one scan takes in a process of its own, in bytes; an estimate from above.

    With n and N voxels before and after, C channels and float32 throughout:
    libraries + 24 C n + 4 N (4 C + 6), and for a network 4 x 6 x W x T / F on top: W is its widest layer, T the
    voxels of a tile with its halo (no more than N), F the voxels of the blocks that it folds into channels.

    Args:
        low_shape: voxels of the scan.
        high_shape: voxels of the result.
        channels: volumes of a 4D scan; the result holds all of them.
        widest: channels of the network's widest layer; 0 for physics alone.
        folded: voxels that the network folds into channels before it works on them.
        tile: voxels that the network sees at once, halo apart.
        halo: voxels around a tile, one number for all axes or three.
    """
    low, high = math.prod(low_shape), math.prod(high_shape)
    total = _LIBRARIES + _PER_LOW_VOXEL * channels * low + _FLOAT * high * (_PER_CHANNEL * channels + _AT_WORK)
    seen = math.prod(
        min(side + 2 * around, size) for side, around, size in zip(tile, per_axis(halo), high_shape, strict=True)
    )
    return total + int(_FLOAT * _FEATURES * widest * seen / folded)


def available_bytes() -> int | None:
    """The memory that this process may still take, in bytes: of the machine, of its control group (versions 1 and 2)
    and of its resource limit, the least; None if the system says nothing of it.
    """
    found = [*_of_machine(), *_of_groups(), *_of_limits()]
    return max(0, min(found)) if found else None


def require_memory(shape: Sequence[int], needed: int, *, processes: int = 1, advice: str = "") -> None:
    """Refuse work that the machine would kill half-way.

    Args:
        shape: voxels of the result.
        needed: bytes, for each process.
        processes: that work at the same time.
        advice: what besides a coarser result would help, as a sentence.

    Raises:
        MedganError: less memory is available.
    """
    free = available_bytes()
    if free is None or needed * processes <= _SHARE * free:
        return
    at_once = f", {processes} times at once" if processes > 1 else ""
    steps = ["Ask for a smaller factor or a coarser spacing, or crop the scan."]
    if processes > 1:
        steps.insert(0, "Use fewer --jobs.")
    if advice:
        steps.append(advice)
    raise MedganError(
        f"the result would have {' x '.join(map(str, shape))} voxels, more than fit into memory: about "
        f"{needed / 2**30:.3g} GiB would be needed{at_once}, and {free / 2**30:.3g} GiB are free",
        hint=" ".join(steps),
    )


def _of_machine() -> Iterator[int]:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            yield 1024 * int(line.split()[1])


def _of_groups() -> Iterator[int]:
    """What the control groups that hold this process leave, their caches counted as free."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # Inside a container the path may be that of the host, while the group is mounted as the root.
        inner = root / path.strip("/")
        for folder in {inner, *[one for one in inner.parents if root in (one, *one.parents)], root}:
            yield from _left_in(folder, *names)


def _left_in(folder: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    most, used = (next(iter(_lines(folder / name)), "") for name in (limit, usage))
    if most.isdigit() and used.isdigit():
        cached = [int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.startswith(f"{cache} ")]
        yield int(most) - int(used) + sum(cached)


def _of_limits() -> Iterator[int]:
    """What the limit of the address space (ulimit -v) leaves."""
    try:
        import resource
    except ImportError:
        # Windows has no such limits.
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        pages = next(iter(_lines(Path("/proc/self/statm"))), "0").split()[0]
        yield limit - int(pages) * resource.getpagesize()


def _lines(path: Path) -> list[str]:
    """The lines of a file of the system; none where there is no such file."""
    return path.read_text(encoding="ascii", errors="replace").splitlines() if path.is_file() else []

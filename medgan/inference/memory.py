"""How much memory an upscaling takes at its peak, and how much there is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

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
# What the feature volumes of one tile may take. Large tiles are fast, because less is computed twice around them.
_TILE_MEMORY = 1.25 * 2**30
_LEAST_TILE = 32
# More of the memory is not asked for: the system and its cache need the rest.
_SHARE = 0.9


@dataclass(frozen=True)
class Footprint:
    """What decides how much memory a network takes for each voxel.

    Args:
        widest: channels of its widest layer.
        folded: voxels that it folds into channels before it works on them.
        halo: voxels around a tile along each axis that the tile's result depends on.
    """

    widest: int
    folded: float
    halo: Shape

    def of_tile(self, tile: Shape, shape: Sequence[int]) -> int:
        """Bytes of the feature volumes while a tile (voxels without its halo) of a volume of `shape` is computed."""
        seen = math.prod(
            min(side + 2 * around, size) for side, around, size in zip(tile, self.halo, shape, strict=True)
        )
        return int(_FLOAT * _FEATURES * self.widest * seen / self.folded)


def footprint_of(network: nn.Module) -> Footprint:
    """The footprint of a restoring network of `medgan.networks`."""
    told: Any = network
    weights = (weight for weight in network.parameters() if weight.ndim == 5)
    widest = max((max(weight.shape[:2]) for weight in weights), default=1)
    folded = getattr(told, "arguments", {}).get("factor", told.multiple)
    return Footprint(widest, math.prod(per_axis(folded)), per_axis(told.receptive_field))


def tile_for(shape: Sequence[int], footprint: Footprint, *, memory: float = _TILE_MEMORY) -> Shape:
    """The largest tile (voxels without its halo) whose feature volumes stay within `memory` bytes; the whole volume if
    it does, and at least 32 voxels a side.
    """
    tile = [int(size) for size in shape]
    while footprint.of_tile((tile[0], tile[1], tile[2]), shape) > memory and max(tile) > _LEAST_TILE:
        longest = tile.index(max(tile))
        tile[longest] = max(_LEAST_TILE, -(-tile[longest] // 2))
    return tile[0], tile[1], tile[2]


def most_together(shape: Sequence[int], footprint: Footprint, *, memory: float = _TILE_MEMORY) -> int:
    """How many volumes of one shape may pass through the network side by side, tile by tile, so that their feature
    volumes stay within `memory` bytes; at least 1.
    """
    return max(1, int(memory // footprint.of_tile(tile_for(shape, footprint, memory=memory), shape)))


def peak_bytes(
    low_shape: Sequence[int],
    high_shape: Sequence[int],
    *,
    channels: int = 1,
    footprint: Footprint | None = None,
    tile: Shape | None = None,
) -> int:
    """The most memory that upscaling one scan takes in a process of its own, in bytes; an estimate from above.

    With n and N voxels before and after, C channels and float32 throughout:
    libraries + 24 C n + 4 N (4 C + 6), and for a network 4 x 6 x W x T / F on top: W is its widest layer, T the
    voxels of a tile with its halo (no more than N), F the voxels of the blocks that it folds into channels.

    Args:
        low_shape: voxels of the scan.
        high_shape: voxels of the result.
        channels: volumes of a 4D scan; the result holds all of them.
        footprint: of the network; None for physics alone.
        tile: voxels that the network sees at once, halo apart; `tile_for` chooses when None.
    """
    low, high = math.prod(low_shape), math.prod(high_shape)
    total = _LIBRARIES + _PER_LOW_VOXEL * channels * low + _FLOAT * high * (_PER_CHANNEL * channels + _AT_WORK)
    if footprint is None:
        return total
    return total + footprint.of_tile(tile or tile_for(high_shape, footprint), high_shape)


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

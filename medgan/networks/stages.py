"""From the shape and spacing of a cohort to the shapes that a pyramid of network stages works on."""

from __future__ import annotations

from collections.abc import Sequence

from medgan.errors import MedganError
from medgan.geometry import Shape, Spacing


def stage_shapes(shape: Shape, spacing: Spacing, *, base_size: int = 4) -> tuple[Shape, ...]:
    """Spatial shapes from the coarsest stage to the full one.

    Going down, an axis is halved (rounded up) as long as it keeps at least `base_size` voxels, and an axis whose voxels
    are much longer than the shortest waits until the others have caught up: anisotropic scans become isotropic before
    they shrink along the thick axis.

    Args:
        shape: voxels along each axis.
        spacing: millimetres between voxels along each axis.
        base_size: the fewest voxels that an axis may have at the coarsest stage.

    Raises:
        MedganError: an axis has fewer voxels than `base_size`.
    """
    if min(shape) < base_size:
        raise MedganError(
            f"a volume of {'x'.join(map(str, shape))} voxels is too small: every axis needs at least {base_size}",
            hint="Prepare the cohort with a finer spacing or a larger shape.",
        )
    shapes = [tuple(shape)]
    lengths = list(spacing)
    while True:
        sizes = shapes[-1]
        able = [axis for axis in range(3) if -(-sizes[axis] // 2) >= base_size]
        if not able:
            break
        # The factor 1.5 is the geometric middle between "as fine" (1) and "one halving coarser" (2), rounded up.
        finest = min(lengths[axis] for axis in able)
        chosen = [axis for axis in able if lengths[axis] < 1.5 * finest]
        shapes.append(tuple(-(-n // 2) if axis in chosen else n for axis, n in enumerate(sizes)))
        lengths = [2 * length if axis in chosen else length for axis, length in enumerate(lengths)]
    return tuple((x, y, z) for x, y, z in reversed(shapes))


def strides(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """The stride along each axis of a convolution that leads from one stage to the next coarser one."""
    return [2 if small < large else 1 for large, small in zip(before, after, strict=True)]

"""One scan in memory, upscaled by the way that is asked for, once it is known that it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.workflows.upscale_trust import SPREAD, UNCONFIRMED

if TYPE_CHECKING:
    from medgan.geometry import Shape
    from medgan.inference.model import Model
    from medgan.volume import Volume
    from medgan.workflows.upscale_request import Request


def upscaled(
    source: Volume,
    model: Model | None,
    request: Request,
    *,
    name: str = "",
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Volume:
    """A scan at a higher resolution, once it is known to be an image and the result to fit into memory.

    Args:
        source: as it was read.
        model: None for physics alone.
        request: what is asked for.
        name: of the file without ending, if it may say that this is a label map.
        processes: that do the same at the same time.
        progress: called with (tiles done, tiles in all).

    Raises:
        MedganError: the scan, the request or the two together make no sense, or memory is too small.
    """
    return upscaled_with_maps(source, model, request, name=name, processes=processes, progress=progress)[0]


def upscaled_with_maps(
    source: Volume,
    model: Model | None,
    request: Request,
    *,
    name: str = "",
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Volume, dict[str, Volume]]:
    """As `upscaled`, with those maps of uncertainty that are asked for and can only be made along with the result."""
    require_feasible(source, model, request, name=name, processes=processes)
    with memory_errors_explained():
        return _made(source, model, request, progress)


def require_feasible(
    source: Volume, model: Model | None, request: Request, *, name: str = "", processes: int = 1
) -> None:
    """Refuse what is no image, or whose result does not fit into memory; arguments as of `upscaled`.

    Raises:
        MedganError: so it is, or the request does not go with the scan.
    """
    from medgan.inference.inputs import require_image
    from medgan.inference.memory import require_memory

    require_image(source, name)
    require_memory(
        *memory_for(source, model, request),
        processes=processes,
        advice="Upscale its volumes one by one." if source.channels > 1 else "",
    )


@contextmanager
def memory_errors_explained() -> Iterator[None]:
    """Say in the user's words that memory ran out.

    Raises:
        MedganError: it did.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch says by a RuntimeError that a device, or the machine, has no more memory.
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        raise MedganError(
            f"memory ran out ({' '.join(str(error).split())[:120]})",
            hint="Ask for a smaller factor or a coarser spacing, use fewer --jobs, or on a GPU try --device cpu.",
        ) from error


def _made(
    source: Volume, model: Model | None, request: Request, progress: Callable[[int, int], None] | None
) -> tuple[Volume, dict[str, Volume]]:
    """The result by the way that is asked for, and the maps that came with it."""
    from medgan.inference.uncertainty import upscale_with_maps
    from medgan.inference.upscale import upscale
    from medgan.workflows.self_supervised import self_supervised_upscale

    options: dict[str, Any] = {**request.of_plan(), "fidelity": request.fidelity, "progress": progress}
    if request.self_supervised:
        return self_supervised_upscale(source, model, **options), {}
    if not request.uncertainty:
        return upscale(source, model, **options), {}
    made = upscale_with_maps(source, model, **options)
    maps = {SPREAD: made.spread, UNCONFIRMED: made.unconfirmed}
    return made.volume, {name: one for name, one in maps.items() if one is not None}


def memory_for(source: Volume, model: Model | None, request: Request) -> tuple[Shape, int]:
    """The voxels of the result, and the bytes that making it takes at its peak (`medgan.inference.memory.peak_bytes`).

    Raises:
        MedganError: the request does not go with the scan.
    """
    from medgan.inference.memory import footprint_of, peak_bytes
    from medgan.inference.planning import high_shape_of
    from medgan.workflows.self_supervised import new_model, shipped_recipe

    if request.self_supervised and model is None:
        model = new_model(shipped_recipe())
    acquired = None if model is None else model.config["acquisition"]
    high_shape = high_shape_of(source, acquired, request.factor, request.spacing)
    # Two maps are as large as the result each.
    channels = source.channels * (3 if request.uncertainty else 1)
    if model is None:
        return high_shape, peak_bytes(source.shape, high_shape, channels=channels)
    footprint = footprint_of(model.network(fidelity=request.fidelity))
    needed = peak_bytes(source.shape, high_shape, channels=channels, footprint=footprint)
    return high_shape, needed

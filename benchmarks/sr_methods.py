"""The methods of the super-resolution benchmark: each takes a `Problem` and returns the restored voxels (X, Y, Z)."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from sr_cases import Problem
from sr_linear import LinearFilter

from medgan.errors import MedganError

Voxels = NDArray[np.float32]
Restore = Callable[[Problem], Voxels]

CUBIC, LINEAR_FILTER, PHYSICS = "cubic B-spline", "linear filter", "medgan physics"


@dataclass(frozen=True)
class Method:
    """One method.

    Args:
        name: as in the tables.
        restore: what it does.
        costly: whether it is spared the second run, with planted lesions.
        slices_only: whether it restores one axis alone.
    """

    name: str
    restore: Restore
    costly: bool = False
    slices_only: bool = False


def spline(order: int) -> Restore:
    """scipy's B-spline interpolation on cell-centred grids with reflecting borders, independent of medgan."""

    def restore(problem: Problem) -> Voxels:
        zoomed = ndimage.zoom(problem.low.data[0], problem.factor, order=order, mode="reflect", grid_mode=True)
        return np.asarray(zoomed, dtype=np.float32)

    return restore


def lanczos(problem: Problem) -> Voxels:
    """Lanczos kernel of half-width 5, its weights normalised, with reflecting borders."""
    return _by_axis(problem, _lanczos_matrix)


def _lanczos_matrix(low: int, factor: int) -> NDArray[np.float64]:
    """(low * factor, low)."""
    positions = (np.arange(low * factor) + 0.5) / factor - 0.5
    taps = np.floor(positions).astype(int)[:, None] + np.arange(-5, 7)
    distance = positions[:, None] - taps
    weights = np.where(np.abs(distance) < 5, np.sinc(distance) * np.sinc(distance / 5), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    folded = np.mod(taps, 2 * low)
    folded = np.where(folded < low, folded, 2 * low - 1 - folded)
    matrix = np.zeros((low * factor, low))
    np.add.at(matrix, (np.arange(low * factor)[:, None], folded), weights)
    return matrix


def _by_axis(problem: Problem, matrix_of: Callable[[int, int], NDArray[np.float64]]) -> Voxels:
    """One matrix along each axis that gains voxels."""
    voxels = problem.low.data[0].astype(np.float64)
    for axis, factor in enumerate(problem.factor):
        if factor > 1:
            matrix = matrix_of(voxels.shape[axis], factor)
            voxels = np.moveaxis(np.tensordot(matrix, voxels, axes=(1, axis)), 0, axis)
    return voxels.astype(np.float32)


def zero_filled(problem: Problem) -> Voxels:
    """Fourier interpolation by zero filling of the evenly reflected scan: the cosine series, evaluated finer."""
    low = problem.low.data[0].astype(np.float64)
    shape = problem.truth.shape
    series = np.zeros(shape)
    series[tuple(slice(0, size) for size in low.shape)] = fft.dctn(low, norm="ortho")
    scale = np.sqrt(np.prod(shape) / np.prod(low.shape))
    return (fft.idctn(series, norm="ortho") * scale).astype(np.float32)


def physics(problem: Problem) -> Voxels:
    """medgan without a network, as `medgan upscale --model physics` does it."""
    from medgan.inference.upscale import upscale

    return upscale(problem.low, None, factor=problem.factor).data[0]


def linear_filter(fitted: LinearFilter, axis: int) -> Restore:
    """The fitted least-squares filter, for a scan whose thick slices lie along `axis`."""
    return lambda problem: fitted.restored(problem, axis)


def has_texture(model: Any) -> bool:
    """Whether a model has a second set of weights, trained for texture."""
    return any(name.startswith("perceptual.") for name in model.weights)


def learned(model: Any, fidelity: float) -> Restore:
    """medgan with a network."""
    from medgan.inference.upscale import upscale

    return lambda problem: upscale(problem.low, model, factor=problem.factor, fidelity=fidelity).data[0]


def learned_methods(name: str | None) -> list[Method]:
    """medgan's model, by a name as `medgan upscale --model` takes it, at both ends of its dial; none without a name."""
    from medgan.inference.model import load_model, require_task
    from medgan.workflows.models import resolve_model

    if name is None:
        return []
    model = load_model(resolve_model(name))
    require_task(model, "super_resolution", "the benchmark")
    return [
        Method("medgan, fidelity 1", learned(model, 1.0)),
        *([Method("medgan, fidelity 0", learned(model, 0.0))] if has_texture(model) else []),
    ]


def self_supervised_methods(name: str | None, asked: bool) -> list[Method]:
    """medgan's tuning on the scan itself, told the slice thickness; from the weights of `name`, or from none."""
    from medgan.inference.model import load_model
    from medgan.workflows.models import resolve_model
    from medgan.workflows.self_supervised import self_supervised_upscale

    if not asked:
        return []
    model = None if name is None else load_model(resolve_model(name))

    def restore(problem: Problem) -> Voxels:
        axis = int(np.argmax(problem.factor))
        thickness = problem.low.spacing[axis]
        return self_supervised_upscale(problem.low, model, factor=problem.factor, thickness=thickness).data[0]

    return [Method("medgan, self-supervised", restore, costly=True, slices_only=True)]


def foreign(description: str) -> Method:
    """A method from NAME=MODULE:FUNCTION, called as function(low, factor) with a Volume and three numbers.

    It returns the restored Volume on the cell-centred finer grid. It is called once for each problem and taken to be
    costly.
    """
    name, _, address = description.partition("=")
    module, _, function = address.partition(":")
    if not (name and module and function):
        raise MedganError(f"'{description}' names no method", hint="Write NAME=MODULE:FUNCTION.")
    try:
        call = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise MedganError(f"the method '{name}' cannot be loaded ({error})", hint="Check MODULE:FUNCTION.") from error

    def restore(problem: Problem) -> Voxels:
        return np.asarray(call(problem.low, problem.factor).data[0], dtype=np.float32)

    return Method(name, restore, costly=True)


def measured(restore: Restore, problem: Problem) -> tuple[Voxels, float, float]:
    """What a method returns, its seconds, and by how many MB memory grew meanwhile.

    Memory is the largest resident set of this process seen every 5 ms, less that before the call: children of the
    process are not counted, and memory that Python already held and uses again is not either. nan where the system
    has no /proc.
    """
    before, peak, done = _resident(), [_resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    try:
        restored = restore(problem)
    finally:
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    if restored.shape != problem.truth.shape:
        raise MedganError(f"the method returned {restored.shape} voxels instead of {problem.truth.shape}")
    return restored, seconds, (max(peak[0], _resident()) - before) / 1e6


def _resident() -> float:
    """Bytes of this process in memory."""
    import resource

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return float("nan")
    return float(pages * resource.getpagesize())

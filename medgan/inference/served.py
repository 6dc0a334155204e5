"""The loader that MLflow calls for a model logged by medgan: from what users pass to what the model needs.

An MLflow pyfunc usually pickles a Python object. Here it names this module instead, and holds `config.json` and
`weights.safetensors` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

if TYPE_CHECKING:
    from medgan.inference.model import Model
    from medgan.volume import Volume

    Array = NDArray[Any]


class ServedModel:
    """What `mlflow.pyfunc.load_model` wraps.

    Args:
        model: a loaded model of any task.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Upscale scans, translate them or draw synthetic ones, by the model's task.

        Args:
            model_input: for super-resolution and translation a path, an array (X, Y, Z) or (C, X, Y, Z) in the scan's
                own units, a list of such, or a data frame with the column `path`; for label maps to scans the same of
                label maps. For synthesis a number of scans, or a data frame with the column `n` and, if wanted, `seed`.
            params: for super-resolution `factor` (three numbers), `spacing` (mm), `fidelity` (0..1), and
                `voxel_size`, the mm of given arrays (1 by default). For translation `reverse` and `voxel_size` (that of
                the training by default). For synthesis `seed` and `truncation`. For label maps to scans `seed`, `index`
                and `voxel_size` (that of the training by default).

        Returns:
            Super-resolution, translation and label maps to scans: float32 (X, Y, Z), or (C, X, Y, Z) for several
            channels; a list of them for a list or a data frame. Synthesis: float32 (N, X, Y, Z).

        Raises:
            MedganError: the input is none of these, or a file cannot be read.
        """
        chosen = {name: value for name, value in (params or {}).items() if not _is_empty(value)}
        if self.model.task == "synthesis":
            return self._synthesised(model_input, chosen)
        if self.model.task == "translation":
            return self._translated(model_input, chosen)
        if self.model.task == "mask_to_scan":
            return self._from_masks(model_input, chosen)
        return self._upscaled(model_input, chosen)

    def _synthesised(self, model_input: Any, params: dict[str, Any]) -> Array:
        from medgan.inference.generate import generate

        options = {name: params[name] for name in ("truncation",) if name in params}
        default_seed = int(params.get("seed", 0))
        drawn: list[Array] = []
        for count, seed in _requests(model_input, default_seed):
            volumes = generate(self.model, count, seed=seed, **options)
            drawn += [_voxels(volume) for volume in islice(volumes, count)]
        return np.stack(drawn)

    def _upscaled(self, model_input: Any, params: dict[str, Any]) -> Any:
        from medgan.inference.upscale import upscale

        options: dict[str, Any] = {
            name: _triple(params[name], name) for name in ("factor", "spacing") if name in params
        }
        options["fidelity"] = float(params.get("fidelity", 1.0))
        voxel_size = _triple(params.get("voxel_size", (1.0, 1.0, 1.0)), "voxel_size")

        def one(scan: Any) -> Array:
            return _voxels(upscale(_as_volume(scan, voxel_size), self.model, **options))

        return _each(model_input, one)

    def _translated(self, model_input: Any, params: dict[str, Any]) -> Any:
        from medgan.inference.translate import translate

        voxel_size = _triple(params.get("voxel_size", self.model.config["spacing"]), "voxel_size")
        reverse = bool(params.get("reverse", False))

        def one(scan: Any) -> Array:
            return _voxels(translate(_as_volume(scan, voxel_size), self.model, reverse=reverse))

        return _each(model_input, one)

    def _from_masks(self, model_input: Any, params: dict[str, Any]) -> Any:
        from medgan.inference.mask_to_scan import scans_for_mask

        voxel_size = _triple(params.get("voxel_size", self.model.config["spacing"]), "voxel_size")
        seed, index = (int(params.get(name, 0)) for name in ("seed", "index"))

        def one(mask: Any) -> Array:
            (volume,) = scans_for_mask(self.model, _as_volume(mask, voxel_size), 1, seed=seed, first=index)
            return _voxels(volume)

        return _each(model_input, one)


def _load_pyfunc(data_path: str, model_config: Mapping[str, Any] | None = None) -> ServedModel:
    """MLflow's entry: load the model in `data_path`; `model_config` may name the `device`, "cpu" by default."""
    from medgan.inference.model import load_model

    return ServedModel(load_model(Path(data_path), device=str((model_config or {}).get("device", "cpu"))))


def _each(model_input: Any, one: Callable[[Any], Array]) -> Any:
    """One answer for a scan, a list of them for a list or for the paths of a data frame."""
    if hasattr(model_input, "columns"):
        return [one(path) for path in _column(model_input, "path")]
    if isinstance(model_input, (list, tuple)):
        return [one(scan) for scan in model_input]
    return one(model_input)


def _requests(model_input: Any, default_seed: int) -> list[tuple[int, int]]:
    """How many scans to draw from which seed, in order."""
    if hasattr(model_input, "columns"):
        counts = [int(count) for count in _column(model_input, "n")]
        seeds = _column(model_input, "seed") if "seed" in model_input.columns else [default_seed] * len(counts)
        return [(count, int(seed)) for count, seed in zip(counts, seeds, strict=True)]
    number = np.asarray(model_input)
    if number.size != 1 or number.dtype.kind not in "iuf" or number.item() != int(number.item()):
        raise MedganError(
            f"'{model_input}' is no number of scans", hint="Pass a whole number, or a data frame with the column `n`."
        )
    return [(int(number.item()), default_seed)]


def _column(frame: Any, name: str) -> list[Any]:
    if name not in frame.columns:
        names = ", ".join(map(str, frame.columns))
        raise MedganError(f"the data frame has no column '{name}' but: {names}", hint=f"Name the column '{name}'.")
    return list(frame[name])


def _as_volume(scan: Any, voxel_size: tuple[float, float, float]) -> Volume:
    from medgan.volume import Volume

    if isinstance(scan, (str, Path)):
        from medgan.io import read_volume

        return read_volume(scan)
    array = np.asarray(scan)
    if array.dtype.kind not in "iufb":
        raise MedganError(f"expected a path or an array, got {type(scan).__name__}")
    return Volume(array, np.diag([*voxel_size, 1.0]))


def _voxels(volume: Volume) -> Array:
    data = volume.as_float()
    return data[0] if len(data) == 1 else data


def _triple(values: Any, name: str) -> tuple[float, float, float]:
    numbers = np.asarray(values, dtype=float).ravel()
    if numbers.size == 1:
        numbers = np.repeat(numbers, 3)
    if numbers.size != 3:
        raise MedganError(f"'{name}' takes one number or three, not {numbers.size}")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _is_empty(value: Any) -> bool:
    """MLflow knows no absent parameter of vector type, only an empty one."""
    return value is None or (hasattr(value, "__len__") and len(value) == 0)

"""Draw synthetic scans from a model into files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.places import writable_folder

if TYPE_CHECKING:
    from medgan.volume import Volume


def generate_scans(
    model: str | Path,
    count: int,
    out: str | Path,
    *,
    seed: int = 0,
    truncation: float = 1.0,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> list[Path]:
    """Write `count` synthetic scans and `samples.json`, which says of each that and how it was made.

    Args:
        model: as `medgan.workflows.models.resolve_model` takes it.
        count: how many.
        out: a folder; it appears whole or not at all.
        seed: of the latent vectors.
        truncation: see `medgan.inference.generate.generate`.
        device: "auto", "cpu", "cuda", ...
        reporter: where progress goes.

    Raises:
        MedganError: the model or a number is wrong, or `out` exists and is not empty.
    """
    from medgan import __version__
    from medgan.files import atomic_path, write_json
    from medgan.inference.generate import generate
    from medgan.inference.model import load_model, require_task
    from medgan.training.numerics import choose_device
    from medgan.workflows.models import resolve_model

    reporter = reporter or Reporter()
    out = _new_folder(out)
    if not (math.isfinite(truncation) and truncation > 0):
        raise MedganError(f"truncation is {truncation:g}; it must be a number above 0", hint="1 leaves samples as is.")
    loaded = load_model(resolve_model(model), choose_device(device))
    require_task(loaded, "synthesis", "generate")
    names = [f"synthetic-{index:04d}.nii.gz" for index in range(count)]
    with atomic_path(out) as temporary:
        temporary.mkdir()
        records = []
        for volume, name in zip(generate(loaded, count, seed=seed, truncation=truncation), names, strict=True):
            _write(volume, temporary / name, out)
            records.append({"file": name, "synthetic": True, "seed": seed, "index": volume.metadata["index"]})
            reporter.progress("generate", len(records), count)
        about = {
            "synthetic": True,
            "notice": "These scans show no real person. They were made by a generative model; not for diagnosis.",
            "medgan_version": __version__,
            "model_sha256": loaded.sha256,
            "truncation": truncation,
            "samples": records,
        }
        write_json(temporary / "samples.json", about)
    return [out / name for name in names]


def _new_folder(path: str | Path) -> Path:
    """`path` as a Path, if a whole folder can be put there.

    Raises:
        MedganError: something stands there already, it is the current folder, or it cannot be written.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise MedganError(
            "the output exists already and is not an empty folder", file=path, hint="Choose another --out."
        )
    if path.exists() and path.samefile(Path.cwd()):
        raise MedganError("the output is the current folder, which cannot be replaced", file=path, hint="Name another.")
    writable_folder(path)
    return path


def _write(volume: Volume, path: Path, out: Path) -> None:
    """Write one scan; what goes wrong is told of the folder that was asked for, not of its temporary stand-in."""
    from medgan.io import write_volume

    try:
        write_volume(volume, path)
    except MedganError as error:
        raise MedganError(error.what, file=out / path.name, hint=error.hint) from error

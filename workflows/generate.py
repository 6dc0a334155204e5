"""Draw synthetic scans from a model into files."""

from __future__ import annotations

from pathlib import Path

from medgan.errors import MedganError
from medgan.reporter import Reporter


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
    from medgan.io import write_volume
    from medgan.training.numerics import choose_device
    from medgan.workflows.models import resolve_model

    reporter = reporter or Reporter()
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MedganError(
            "the output exists already and is not an empty folder", file=out, hint="Choose another --out."
        )
    loaded = load_model(resolve_model(model), choose_device(device))
    require_task(loaded, "synthesis", "generate")
    names = [f"synthetic-{index:04d}.nii.gz" for index in range(count)]
    with atomic_path(out) as temporary:
        temporary.mkdir()
        records = []
        for volume, name in zip(generate(loaded, count, seed=seed, truncation=truncation), names, strict=True):
            write_volume(volume, temporary / name)
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

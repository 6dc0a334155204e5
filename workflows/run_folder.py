"""The folder of one training run: what stands where, and how it is begun and found again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.files import read_json, write_json
from medgan.recipe import AnyRecipe
from medgan.recipe_files import flattened, load_recipe, save_recipe
from medgan.workflows.places import writable_folder

if TYPE_CHECKING:
    from medgan.data.cohort import Cohort
    from medgan.training.supervision import Notice


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run's folder: recipe.yaml, run.json, checkpoints/, model/, report.html, figures.json."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def record(self) -> Path:
        """What else is needed to continue: recipe name, tracked run, cohort; and what watchdogs warned of."""
        return self.path / "run.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder of the exported model."""
        return self.path / "model"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """The figures of the evaluation after training, as JSON."""
        return self.path / "figures.json"

    def abandon(self) -> None:
        """Take back a run that could not begin; what else stands in its folder stays."""
        self.recipe.unlink(missing_ok=True)
        for place in (self.checkpoints, self.path):
            with contextlib.suppress(OSError):  # which is raised where the folder is not empty
                place.rmdir()


def resolved_recipe(
    name: str | Path, overrides: Sequence[str] = (), *, steps: int | None = None, seed: int | None = None
) -> AnyRecipe:
    """The recipe with every override of the command line applied."""
    recipe = load_recipe(name, [*overrides, *([f"training.seed={seed}"] if seed is not None else [])])
    return of_length(recipe, steps)


def of_length(recipe: AnyRecipe, steps: int | None) -> AnyRecipe:
    """The recipe shortened or lengthened to `steps` steps; as it is for None.

    Raises:
        MedganError: fewer than one step.
    """
    if steps is None:
        return recipe
    if steps < 1:
        raise MedganError(f"{steps} steps are no training; ask for at least 1")
    return recipe.with_steps(steps)


def new_run(recipe: AnyRecipe, recipe_name: str, out: Path | None) -> RunFolder:
    """Choose and claim a folder for a new run.

    Raises:
        MedganError: the folder holds a run already, or cannot be written.
    """
    if out is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        out = Path("runs") / f"{Path(recipe_name).stem}-{stamp}"
    folder = RunFolder(out)
    if folder.record.exists():
        raise MedganError(
            "this folder holds a run already", file=out, hint="Choose another --out, or continue it with --resume."
        )
    writable_folder(out)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    save_recipe(recipe, folder.recipe)
    return folder


def write_record(
    folder: RunFolder,
    *,
    recipe_name: str,
    run_id: str | None,
    cohort: Cohort,
    perceptual_sha256: str | None = None,
    start_from_sha256: str | None = None,
) -> None:
    """Note what a resumed training has to agree with."""
    content = {
        "recipe": recipe_name,
        "run_id": run_id,
        "cohort": str(cohort.folder.resolve()),
        "manifest_sha256": cohort.manifest_sha256,
        "perceptual_sha256": perceptual_sha256,
        "start_from_sha256": start_from_sha256,
    }
    write_json(folder.record, content)


def record_notices(folder: RunFolder, notices: Sequence[Notice]) -> None:
    """Put what watchdogs noticed so far into the record, as "warnings"."""
    write_json(folder.record, read_json(folder.record) | {"warnings": [asdict(notice) for notice in notices]})


def existing_run(
    path: Path, recipe_name: str, cohort: Cohort, wanted: AnyRecipe | None
) -> tuple[RunFolder, AnyRecipe, dict[str, Any]]:
    """The run to resume, with its own recipe and record.

    Args:
        path: the run's folder.
        recipe_name: as given now.
        cohort: as given now.
        wanted: the recipe as given now when it carries overrides, to be held against the run's own.

    Raises:
        MedganError: it is no run, or recipe or cohort are not those it was started with.
    """
    from medgan.training.checkpoint import refuse_other_recipe

    folder = RunFolder(path)
    if not folder.record.is_file() or not folder.recipe.is_file():
        raise MedganError("no run here to resume", file=path, hint="Give the folder that --out named when it started.")
    record = read_json(folder.record)
    missing = [key for key in ("recipe", "run_id", "cohort", "manifest_sha256") if key not in record]
    if missing:
        raise MedganError(
            f"the record of the run lacks {', '.join(missing)}", file=folder.record, hint="Start a new run."
        )
    if record["recipe"] != recipe_name:
        raise MedganError(
            f"this run was started with recipe '{record['recipe']}', not '{recipe_name}'",
            file=path,
            hint=f"Resume with: medgan train {record['recipe']} --data ... --resume {path}",
        )
    if record["manifest_sha256"] != cohort.manifest_sha256:
        raise MedganError(
            f"the cohort is not the one this run was started with ({record['cohort']})",
            file=cohort.folder,
            hint="Resume on the same prepared cohort.",
        )
    recipe = load_recipe(folder.recipe)
    if wanted is not None:
        refuse_other_recipe(flattened(recipe), flattened(wanted), file=path)
    return folder, recipe, record

"""The house stays as the architecture page draws it."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Floors from the ground up; a module may import its own package and lower floors only.
FLOORS = (
    {"errors", "files", "geometry", "reporter", "provenance", ""},
    {"volume", "resampling", "io", "pretrained", "defacing", "defacing_fit", "labels", "label_distribution"}
    | {
        "recipe",
        "recipe_options",
        "recipe_synthesis",
        "recipe_synthesis_network",
        "recipe_super_resolution",
        "recipe_translation",
    }
    | {"recipe_autoencoding", "recipe_encoding", "recipe_families", "recipe_files", "recipe_mask_to_scan"}
    | {"recipe_presets"},
    {"networks", "adversarial", "data", "acquisition"},
    {"training", "inference", "evaluation", "report", "tracking", "node", "plugins"},
    {"workflows"},
    {"cli"},
)
# Within the two lowest floors modules stand side by side in one direction; circles are found by the second test.
SIDE_BY_SIDE = 2


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "medgan").rglob("*.py")):
        yield "medgan." + ".".join(path.relative_to(ROOT / "medgan").with_suffix("").parts), path
    for path in sorted((ROOT / "workflows").glob("*.py")):
        yield f"medgan.workflows.{path.stem}", path


def _imported(path: Path) -> set[str]:
    """Names of medgan modules imported anywhere in the file, those for type checking left out."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "medgan":
            found.add(node.module)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "medgan"}
    return found


def _part(module: str) -> str:
    """ "medgan.io.nifti" stands in the part "io"."""
    parts = module.split(".")
    part = parts[1] if len(parts) > 1 else ""
    return "" if part == "__init__" else part


def _floor(part: str) -> int:
    for number, parts in enumerate(FLOORS):
        if part in parts:
            return number
    raise AssertionError(f"'{part}' has no floor: add it to the architecture page and to this test")


@pytest.mark.parametrize(
    ("module", "path"), list(_modules()), ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_imports_run_one_way(module: str, path: Path) -> None:
    here = _part(module)
    if module in ("medgan.__init__", "medgan.volume"):
        # The package's front door opens everything lazily; a Volume offers conversions as methods.
        return
    for target in _imported(path):
        there = _part(target)
        if there == here:
            continue
        lower = _floor(there) < _floor(here)
        beside = _floor(there) == _floor(here) < SIDE_BY_SIDE
        assert lower or beside, f"{module} imports {target}"


def test_only_tracking_imports_mlflow() -> None:
    for module, path in _modules():
        names = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        if any(name.split(".")[0] == "mlflow" for name in names):
            assert _part(module) == "tracking", module


def test_every_package_is_listed_for_installation() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(settings["tool"]["setuptools"]["packages"])
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "medgan").rglob("__init__.py")} | {
        "medgan.workflows",
        "medgan.configs",
    }
    assert listed == there


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["train"], ["generate"], ["explore"], ["project"], ["upscale"], ["translate"]),
        *(["evaluate", "synthesis"], ["evaluate", "usefulness"]),
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom medgan.cli import app\n"
        f"try:\n    app({[*arguments, '--help']!r})\nexcept SystemExit as leaving:\n    assert leaving.code == 0\n"
        "heavy = {'torch', 'monai', 'mlflow', 'numpy', 'nibabel', 'pydicom', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)

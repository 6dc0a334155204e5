"""medgan: 3D GANs and super-resolution for medical imaging.

Everything the command line does is one call here as well. Names load on first use, so that importing the package is
instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "MedganError": "medgan.errors",
    "Volume": "medgan.volume",
    "control_scans": "medgan.workflows.control",
    "evaluate_restoration_files": "medgan.workflows.evaluate_restoration",
    "evaluate_synthesis_files": "medgan.workflows.evaluate",
    "evaluate_usefulness": "medgan.workflows.usefulness",
    "explore_model": "medgan.workflows.explore",
    "export_model": "medgan.workflows.release",
    "generate_from_masks": "medgan.workflows.generate_from_masks",
    "generate_scans": "medgan.workflows.generate",
    "load_recipe": "medgan.recipe_files",
    "prepare": "medgan.data.prepare",
    "project_scan": "medgan.workflows.project",
    "quickstart": "medgan.workflows.quickstart",
    "read_volume": "medgan.io",
    "run_node": "medgan.workflows.node",
    "train": "medgan.workflows.train",
    "upscale_scans": "medgan.workflows.upscale",
    "write_volume": "medgan.io",
}

if TYPE_CHECKING:
    from medgan.data.prepare import prepare
    from medgan.errors import MedganError
    from medgan.io import read_volume, write_volume
    from medgan.recipe_files import load_recipe
    from medgan.volume import Volume
    from medgan.workflows.control import control_scans
    from medgan.workflows.evaluate import evaluate_synthesis_files
    from medgan.workflows.evaluate_restoration import evaluate_restoration_files
    from medgan.workflows.explore import explore_model
    from medgan.workflows.generate import generate_scans
    from medgan.workflows.generate_from_masks import generate_from_masks
    from medgan.workflows.node import run_node
    from medgan.workflows.project import project_scan
    from medgan.workflows.quickstart import quickstart
    from medgan.workflows.release import export_model
    from medgan.workflows.train import train
    from medgan.workflows.upscale import upscale_scans
    from medgan.workflows.usefulness import evaluate_usefulness

__all__ = [
    "MedganError",
    "Volume",
    "__version__",
    "control_scans",
    "evaluate_restoration_files",
    "evaluate_synthesis_files",
    "evaluate_usefulness",
    "explore_model",
    "export_model",
    "generate_from_masks",
    "generate_scans",
    "load_recipe",
    "prepare",
    "project_scan",
    "quickstart",
    "read_volume",
    "run_node",
    "train",
    "upscale_scans",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'medgan' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

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
    "load_recipe": "medgan.recipe_files",
    "read_volume": "medgan.io",
    "write_volume": "medgan.io",
}

if TYPE_CHECKING:
    from medgan.errors import MedganError
    from medgan.io import read_volume, write_volume
    from medgan.recipe_files import load_recipe
    from medgan.volume import Volume

__all__ = ["MedganError", "Volume", "__version__", "load_recipe", "read_volume", "write_volume"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'medgan' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

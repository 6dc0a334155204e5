"""The models that come with medgan: one folder each, with `config.json`, `weights.safetensors` and a model card.

The card, `README.md`, says what the model was trained on, by which command, its licences, figures and limits.
"""

from __future__ import annotations

from pathlib import Path

from medgan.errors import MedganError, nearest
from medgan.files import read_json

_FOLDER = Path(__file__).parent
_FILES = ("config.json", "weights.safetensors")


def shipped_models(task: str | None = None) -> tuple[str, ...]:
    """The names of the models in this installation, sorted; only those for `task`, such as "synthesis", if given."""
    names = sorted(path.name for path in _FOLDER.iterdir() if all((path / required).is_file() for required in _FILES))
    return tuple(name for name in names if task is None or read_json(_FOLDER / name / "config.json")["task"] == task)


def shipped_model(name: str) -> Path:
    """The folder of a shipped model.

    Raises:
        MedganError: this installation has none of this name.
    """
    known = shipped_models()
    if name not in known:
        raise MedganError(
            f"no model called '{name}' comes with this installation",
            hint=nearest(name, list(known)) if known else "This installation comes without models.",
        )
    return _FOLDER / name

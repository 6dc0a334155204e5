"""Recipes on disk: find them, override single fields, and say precisely what is wrong with one."""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from medgan.errors import MedganError, nearest
from medgan.files import write_text
from medgan.recipe import (
    AnyRecipe,
    EncodingRecipe,
    MaskToScanRecipe,
    SuperResolutionRecipe,
    SynthesisRecipe,
    TranslationRecipe,
)

_TASKS: dict[str, type[BaseModel]] = {
    "synthesis": SynthesisRecipe,
    "super_resolution": SuperResolutionRecipe,
    "translation": TranslationRecipe,
    "mask_to_scan": MaskToScanRecipe,
    "encoding": EncodingRecipe,
}
_Recipe = Annotated[AnyRecipe, Field(discriminator="task")]


def shipped_recipes() -> dict[str, Path]:
    """Names such as "synthesis/r3gan" to the files that come with medgan, sorted by name."""
    root = Path(str(resources.files("medgan.configs")))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.glob("*/*.yaml"))}


def recipe_path(name: str | Path) -> Path:
    """The file of a shipped recipe's name or of a path to a YAML file.

    Raises:
        MedganError: neither exists; the message names the nearest shipped recipe.
    """
    shipped = shipped_recipes()
    if str(name) in shipped:
        return shipped[str(name)]
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise MedganError("no such recipe file", file=path, hint="Check the path, or name a shipped recipe.")
    raise MedganError(f"unknown recipe '{name}'", hint=nearest(str(name), list(shipped)))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> AnyRecipe:
    """Load a recipe and apply overrides.

    Args:
        name: a shipped recipe's name such as "synthesis/r3gan", or a path to a YAML file.
        overrides: assignments such as "training.batch_size=8"; values are read as YAML.

    Raises:
        MedganError: the recipe or a field is unknown, or a value does not fit; the message names field, value and file.
    """
    path = recipe_path(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedganError(f"not readable as YAML ({error})", file=path) from error
    if not isinstance(content, dict):
        raise MedganError(
            "a recipe is a mapping of fields to values",
            file=path,
            hint="Begin with a shipped one: `medgan recipes` lists them.",
        )
    for assignment in overrides:
        _assign(content, assignment)
    return parse_recipe(content, source=path)


def parse_recipe(content: dict[str, Any], *, source: str | Path) -> AnyRecipe:
    """Validate a recipe that is already a mapping; `source` names it in messages."""
    task = content.get("task")
    if task not in _TASKS:
        raise MedganError(
            f"field 'task' is {task!r}; it must be one of {', '.join(sorted(_TASKS))}",
            file=source,
            hint="Set the task.",
        )
    try:
        return TypeAdapter(_Recipe).validate_python(content)
    except ValidationError as error:
        raise MedganError(_explanation(error, _TASKS[task]), file=source) from error


def save_recipe(recipe: AnyRecipe, path: str | Path) -> None:
    """Write the resolved recipe as YAML; loading it gives the same recipe."""
    write_text(path, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def flattened(recipe: AnyRecipe) -> dict[str, Any]:
    """Dotted field names to plain values, for tracking."""

    def walk(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            yield prefix, value

    return dict(walk("", recipe.model_dump(mode="json")))


def described(recipe: AnyRecipe) -> list[tuple[str, str, str]]:
    """Every field as (dotted name, value, sentence), in order."""
    rows: list[tuple[str, str, str]] = []

    def walk(prefix: str, model: BaseModel, saved: dict[str, Any]) -> None:
        # What a model leaves out when it is saved does not belong to it.
        for name, info in type(model).model_fields.items():
            if name not in saved:
                continue
            value = getattr(model, name)
            if isinstance(value, BaseModel) and {"start", "end"} != set(type(value).model_fields):
                walk(f"{prefix}{name}.", value, saved[name])
            else:
                rows.append((f"{prefix}{name}", _shown(value), info.description or ""))

    walk("", recipe, recipe.model_dump())
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        start, end = value.model_dump().values()
        return f"{start:g}" if start == end else f"{start:g} to {end:g}"
    return str(value)


def _assign(content: dict[str, Any], assignment: str) -> None:
    """Apply one "a.b=c" to the mapping, in place."""
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise MedganError(f"'{assignment}' is no assignment", hint="Write --set field.name=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MedganError(f"the value of '{assignment}' is not readable as YAML") from error
    if isinstance(value, str):
        # YAML reads 1e-4 as text because it lacks a decimal point; people mean the number.
        with contextlib.suppress(ValueError):
            value = float(value)
    *parents, leaf = name.strip().split(".")
    place = content
    for parent in parents:
        inner = place.setdefault(parent, {})
        if inner is None:  # an optional group of fields that a written recipe leaves out
            inner = {}
        if not isinstance(inner, dict):
            if leaf in ("start", "end") and isinstance(inner, int | float):
                inner = {"start": inner, "end": inner}
            else:
                raise MedganError(f"'{name}': '{parent}' is a value, not a group of fields")
        place[parent] = inner
        place = inner
    place[leaf] = value


def _explanation(error: ValidationError, root: type[BaseModel]) -> str:
    """All problems of a validation in one sentence each, with the field, the value and the nearest valid name."""
    lines = []
    for problem in error.errors():
        # The first part is the task's tag; the others may hold the names of alternatives of a union.
        names = [str(part) for part in problem["loc"][1:] if part not in ("Schedule", "literal['auto']")]
        field = ".".join(names)
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown field '{field}'. {nearest(names[-1], _fields_at(root, names[:-1]))}")
        elif isinstance(problem["input"], dict):
            # Fields that do not go together: the message names them and their values.
            said = problem["msg"].removeprefix("Value error, ")
            lines.append(f"fields of '{field}' do not fit: {said}" if field else said)
        else:
            lines.append(f"field '{field}' is {problem['input']!r}: {problem['msg']}")
    return " ".join(line if line.endswith((".", "?")) else line + "." for line in dict.fromkeys(lines))


def _fields_at(model: type[BaseModel], names: Sequence[str]) -> list[str]:
    """Valid field names of the group that a dotted path leads to."""
    for name in names:
        info = model.model_fields.get(name)
        inner = _model_in(info.annotation) if info else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model in a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((m for m in map(_model_in, typing.get_args(annotation)) if m is not None), None)
    return None

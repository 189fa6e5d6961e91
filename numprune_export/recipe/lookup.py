"""Recipes by name: files, shipped files, and the table of GLUE and SQuAD."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.core.paths import exists, shortened
from numprune_export.data.tasks import glue
from numprune_export.recipe.reading import apply, load, parse
from numprune_export.recipe.schema import Recipe


def builtin_dir() -> Path:
    """Where the shipped recipes are: inside the wheel, or beside the package in a checkout."""
    packaged = Path(__file__).parents[1] / "_recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"


def builtin_names() -> list[str]:
    """Of the shipped files; `glue.table()` has more, which no file holds."""
    return sorted(path.stem for path in builtin_dir().glob("*.yaml"))


@dataclass(frozen=True)
class Named:
    """A recipe with its name, and the folder that its relative paths are looked up in first."""

    recipe: Recipe
    name: str
    folder: Path


def named(name: str, changes: Sequence[str] = ()) -> Named:
    """A recipe from a file, by the name of a shipped one, or from the table of GLUE and SQuAD.

    Raises:
        RecipeError: there is none, or something in it is not allowed.
    """
    if not _is_file(name) and name in glue.table():
        content = _from_table(glue.entry(name))
        apply(content, changes)
        return Named(parse(content, name), name, Path.cwd())
    path = locate(name)
    return Named(load(path, changes), path.stem, path.parent)


def _is_file(name: str) -> bool:
    """Whether `name` is that of a file, and not of a folder, whatever its length."""
    try:
        return exists(Path(name)) and Path(name).is_file()
    except InputError as error:
        raise RecipeError(str(error), hint=error.hint) from None


def _from_table(entry: glue.Entry) -> dict[str, Any]:
    """The published method on a published task (Kwon et al. 2022), with the full refit."""
    return {
        "version": 1,
        "model": entry.model,
        "keep": 0.6,
        "calibration": entry.calibration,
        "evaluation": entry.evaluation,
        "score": "fisher",
        "allocate": {"method": "search", "length": entry.mean_length},
        "compensate": "refit",
    }


def locate(name: str) -> Path:
    """A recipe file, or the name of a shipped one.

    Raises:
        RecipeError: there is neither.
    """
    path = Path(name)
    if _is_file(name):
        return path
    if name in builtin_names():
        return builtin_dir() / f"{name}.yaml"
    close = difflib.get_close_matches(path.stem, [*builtin_names(), *glue.table()], n=1)
    raise RecipeError(
        f"no recipe `{shortened(name)}`: neither a file nor a shipped recipe",
        hint=f"did you mean `{close[0]}`?" if close else f"shipped: {', '.join(builtin_names())}",
    )

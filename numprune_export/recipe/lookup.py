"""Look up recipes by name: files, shipped files, and the table of GLUE and SQuAD."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.errors import InputError, Mistakes, RecipeError
from numprune_export.core.paths import exists, shortened
from numprune_export.core.yaml_text import read_recipe
from numprune_export.data.tasks import glue
from numprune_export.recipe.aliases import notices
from numprune_export.recipe.files import local_model, missing_data, unknown_targets
from numprune_export.recipe.model_fit import misfits
from numprune_export.recipe.reading import apply, parse
from numprune_export.recipe.schema import Recipe


def builtin_dir() -> Path:
    """Folder of the shipped recipes: in the wheel, or next to the package in a checkout."""
    packaged = Path(__file__).parents[1] / "_recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"


def builtin_names() -> list[str]:
    """Names of the shipped files; `glue.table()` has further recipes without files."""
    return sorted(path.stem for path in builtin_dir().glob("*.yaml"))


@dataclass(frozen=True)
class Named:
    """A recipe with its name, and the folder searched first for its relative paths."""

    recipe: Recipe
    name: str
    folder: Path
    notices: tuple[str, ...] = ()
    """One line for each key that the recipe gives under an old name."""


def named(name: str, changes: Sequence[str] = ()) -> Named:
    """Read a recipe: a file, a shipped recipe, or an entry of the table of GLUE and SQuAD.

    Raises:
        RecipeError: the recipe does not exist or is invalid.
    """
    draft = _draft(name)
    apply(draft.content, changes)
    return draft.checked()


def runnable(name: str, changes: Sequence[str] = (), targets: Sequence[str] = ()) -> Named:
    """As `named`, and check that its targets are known, that its model and files exist, and that it
    fits its model. No weights are read, and the hub is not queried.

    Args:
        name: A recipe file, or the name of a recipe.
        changes: `key=value`, applied before any check.
        targets: Replace the recipe's targets; empty: the recipe's.

    Raises:
        NumpruneError: lists every mistake; mistakes of the recipe come first.
    """
    draft, mistakes = _draft(name), Mistakes()
    with mistakes.collected():
        apply(draft.content, changes)
    if targets:
        draft.choose(targets)
    recipe, source = None, None
    with mistakes.collected():
        recipe = draft.checked()
    mistakes.extend(unknown_targets(draft.content))
    with mistakes.collected():
        source = local_model(draft.content, draft.search)
    mistakes.extend(missing_data(draft.content, draft.search))
    if recipe is not None and source is not None:
        mistakes.extend(misfits(recipe.recipe, source.family))
    mistakes.raise_all()
    assert recipe is not None
    return recipe


@dataclass(frozen=True)
class _Draft:
    """Unchecked content of a recipe."""

    content: dict[str, Any]
    file: str
    """Name in messages."""
    name: str
    folder: Path

    @property
    def search(self) -> tuple[Path, Path]:
        return self.folder, Path.cwd()

    def choose(self, targets: Sequence[str]) -> None:
        """Export only to these targets, with their settings in the content."""
        own = self.content.get("targets")
        known = own if isinstance(own, dict) else {}
        self.content["targets"] = {target: known.get(target, {}) for target in targets}

    def checked(self) -> Named:
        old_keys = tuple(f"{self.file}: {notice}" for notice in notices(self.content))
        return Named(parse(self.content, self.file), self.name, self.folder, old_keys)


def _draft(name: str) -> _Draft:
    if not _is_file(name) and name in glue.table():
        return _Draft(_from_table(glue.entry(name)), name, name, Path.cwd())
    path = locate(name)
    return _Draft(read_recipe(path), path.name, path.stem, path.parent)


def _is_file(name: str) -> bool:
    """Whether `name` is an existing file; raises RecipeError if it is too long for a path."""
    try:
        return exists(Path(name)) and Path(name).is_file()
    except InputError as error:
        raise RecipeError(str(error), hint=error.hint) from None


def _from_table(entry: glue.Entry) -> dict[str, Any]:
    """Recipe of a published task with the method of Kwon et al. (2022), and the full refit."""
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
    """Path of a recipe file, or of a shipped recipe by name.

    Raises:
        RecipeError: neither exists.
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

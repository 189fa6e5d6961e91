"""Loading of lm-eval tasks and their data, before any model runs."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.errors import HubError, InputError, RecipeError
from numprune_export.core.optional import require
from numprune_export.core.paths import require as require_path
from numprune_export.data.hub_access import reachable_or_offline
from numprune_export.export.artifact import sha256_of
from numprune_export.measure.quality.lm_eval.settings import Tasks
from numprune_export.measure.quality.lm_eval.silence import silence

_LOCAL = ("json", "csv", "text", "parquet", "arrow")
"""Builders of `datasets` that read local files."""


@dataclass(frozen=True)
class LoadedTasks:
    """Tasks of lm-eval, and a key of their definition."""

    content: Any
    """`tasks`, `groups` and `group_map`, as lm-eval's evaluator takes them."""
    key: tuple[Any, ...]
    """lm-eval's version, the settings, and the hashes of the task files. JSON-able."""


def load(settings: Tasks, search: Sequence[Path]) -> LoadedTasks:
    """Load the tasks that `settings` names.

    Raises:
        MissingExtraError: lm-eval is not installed.
        RecipeError: a task is unknown, or contains code without `trust_code`.
        InputError: the folder does not exist, or a data file in it is missing or invalid.
        HubError: a data set cannot be downloaded.
    """
    lm_eval = require("lm_eval", extra="eval")
    with silence():
        folder = None if settings.include is None else _folder(settings, search)
        manager = _manager(folder, settings.lm_eval)
        with contextlib.nullcontext() if folder is None else _working_in(folder):
            items = [item for name in settings.lm_eval for item in _load(manager, name)]
        content = manager.load(items)
        for task in content["tasks"].values():
            _set_fewshot(task, settings)
    files = [] if folder is None else _files(folder)
    return LoadedTasks(content, (str(lm_eval.__version__), settings.model_dump(), files))


def _folder(settings: Tasks, search: Sequence[Path]) -> Path:
    assert settings.include is not None
    folder = require_path(settings.include, search, what="folder of tasks")
    if not folder.is_dir():
        raise InputError(
            f"`tasks.include`: `{settings.include}` is not a folder",
            hint="give a folder with task files (YAML), beside the recipe or absolute",
        )
    with_code = [
        path for path in sorted(folder.rglob("*.y*ml")) if "!function" in path.read_text("utf-8")
    ]
    if with_code and not settings.trust_code:
        raise RecipeError(
            f"`{with_code[0].name}` in `{settings.include}` names Python code to run",
            hint="read that code, then set `tasks.trust_code: true`",
        )
    return folder.absolute()


def _manager(folder: Path | None, names: Sequence[str]) -> Any:
    """An index of task files; lm-eval's own files are indexed only if a name needs them."""
    tasks = require("lm_eval.tasks", extra="eval")
    if folder is not None:
        own = tasks.TaskManager(include_path=str(folder), include_defaults=False)
        if set(names) <= set(own.all_tasks):
            return own
    manager = tasks.TaskManager(include_path=None if folder is None else str(folder))
    for name in names:
        if name not in manager.all_tasks:
            close = difflib.get_close_matches(name, manager.all_tasks, n=1)
            raise RecipeError(
                f"`tasks.lm_eval`: lm-eval has no task `{name}`",
                hint=f"did you mean `{close[0]}`?"
                if close
                else "run `lm-eval ls tasks` for a list, or give your own as `tasks.include`",
            )
    return manager


def _load(manager: Any, name: str) -> list[Any]:
    """Load a task, a group, or the tasks of a tag, with their data sets."""
    datasets = require("datasets", extra="eval")
    content = manager.task_index[name].cfg or {}
    source = content.get("dataset_path")
    here = not isinstance(source, str) or source in _LOCAL
    try:
        with contextlib.nullcontext() if here else reachable_or_offline(str(source), None):
            loaded = manager.load([name])
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0]
        if source in _LOCAL:
            raise InputError(
                f"the data of task `{name}` cannot be read: {reason}",
                hint="check `dataset_kwargs` in its task file; paths are relative to its folder",
            ) from None
        raise HubError(
            f"the data of task `{name}` cannot be downloaded: {reason}",
            hint="check the connection, or write a task file with local data (`tasks.include`)",
        ) from None
    if name in loaded["groups"]:
        return [loaded["groups"][name]]
    return list(loaded["tasks"].values())


def _set_fewshot(task: Any, settings: Tasks) -> None:
    """Set `num_fewshot` as lm-eval's command line does: 0 in a task is kept, the default is 0."""
    own = task.get_config("num_fewshot")
    wanted = own if settings.fewshot is None or own == 0 else settings.fewshot
    task.set_config(key="num_fewshot", value=wanted or 0)
    task.set_fewshot_seed(seed=settings.seed)


def _files(folder: Path) -> list[tuple[str, str]]:
    return [
        (path.relative_to(folder).as_posix(), sha256_of(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Change the working directory: `datasets` resolves data files against it only."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)

"""What a recipe names beside itself: model, texts, targets. Read from its content, checked or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numprune_export.core import paths
from numprune_export.core.errors import NumpruneError
from numprune_export.export import targets
from numprune_export.models.checkpoint.location import require
from numprune_export.models.checkpoint.source import Source, resolve


def local_model(content: Mapping[str, Any], search: Sequence[Path]) -> Source | None:
    """The model that a recipe names, None where it is on the hub, which is not asked here.

    Raises:
        NumpruneError: as `checkpoint.source.resolve`.
    """
    model = content.get("model")
    section = model if isinstance(model, Mapping) else {"source": model}
    reference, revision = section.get("source"), section.get("revision")
    if not isinstance(reference, str) or not (revision is None or isinstance(revision, str)):
        return None  # no model by this name anywhere: the schema says so
    if require(reference, search) is None:
        return None
    return resolve(reference, revision=revision, search=search)


def unknown_targets(content: Mapping[str, Any]) -> Iterator[NumpruneError]:
    """One error per export target that there is not, or setting that it does not take."""
    chosen = content.get("targets")
    for name, settings in chosen.items() if isinstance(chosen, Mapping) else ():
        try:
            if isinstance(name, str) and isinstance(settings, Mapping):
                targets.settings_for(targets.find(name), settings)
        except NumpruneError as error:
            yield error


def missing_data(content: Mapping[str, Any], search: Sequence[Path]) -> Iterator[NumpruneError]:
    """One error per file or folder of texts, examples and tasks that is not there."""
    for kind, name in _data(content):
        try:
            paths.require(name, search, what=kind)
        except NumpruneError as error:
            yield error


def _data(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What it is and its name, each once."""
    named = dict.fromkeys(
        (kind, name)
        for section in ("calibration", "evaluation")
        for key, kind in (("texts", "text file"), ("files", "data file"))
        for name in _names(_section(content, section).get(key))
    )
    yield from named
    for name in _names([_section(content, "tasks").get("include")]):
        yield "folder of tasks", name


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = content.get(key)
    return section if isinstance(section, Mapping) else {}


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []

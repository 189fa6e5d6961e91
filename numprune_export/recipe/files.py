"""Files that a recipe refers to: model, texts, targets. Its content need not be valid."""

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
    """The local model of a recipe; None: the model is on the hub, which is not queried.

    Raises:
        NumpruneError: as `checkpoint.source.resolve`.
    """
    model = content.get("model")
    section = model if isinstance(model, Mapping) else {"source": model}
    reference, revision = section.get("source"), section.get("revision")
    if not isinstance(reference, str) or not (revision is None or isinstance(revision, str)):
        return None  # invalid: reported by the schema
    if require(reference, search) is None:
        return None
    return resolve(reference, revision=revision, search=search)


def unknown_targets(content: Mapping[str, Any]) -> Iterator[NumpruneError]:
    """One error per unknown export target or invalid setting of a target."""
    chosen = content.get("targets")
    for name, settings in chosen.items() if isinstance(chosen, Mapping) else ():
        try:
            if isinstance(name, str) and isinstance(settings, Mapping):
                targets.settings_for(targets.find(name), settings)
        except NumpruneError as error:
            yield error


def missing_data(content: Mapping[str, Any], search: Sequence[Path]) -> Iterator[NumpruneError]:
    """One error per missing file or folder of texts, examples or tasks."""
    for kind, name in _data(content):
        try:
            paths.require(name, search, what=kind)
        except NumpruneError as error:
            yield error


def _data(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and name of each data file or folder, without duplicates."""
    named = dict.fromkeys(
        (kind, name)
        for section in ("calibration", "evaluation")
        for source in _sources(_section(content, section))
        for key, kind in (("texts", "text file"), ("files", "data file"))
        for name in _names(source.get(key))
    )
    yield from named
    for name in _names([_section(content, "generated_text").get("texts")]):
        yield "file of generated texts", name
    for name in _names([_section(content, "tasks").get("include")]):
        yield "folder of tasks", name


def _sources(section: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The section itself, and the sources of its mix."""
    yield section
    mix = section.get("mix")
    yield from (
        source for source in (mix if isinstance(mix, list) else ()) if isinstance(source, Mapping)
    )


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = content.get(key)
    return section if isinstance(section, Mapping) else {}


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []

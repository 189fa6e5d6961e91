"""Write model card and bill of materials into the model folder, and update the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numprune_export.core.run_folder import MODEL, RunFolder
from numprune_export.models.checkpoint import manifest
from numprune_export.models.checkpoint.manifest import Manifest
from numprune_export.provenance import card, sbom
from numprune_export.provenance.record import Provenance
from numprune_export.report.schema import Report


def publish_card(folder: RunFolder, report: Report, licence: Mapping[str, str]) -> None:
    """Write README.md, unless it is up to date."""
    model = folder.path / MODEL
    text = card.render(report, card.read_config(model), licence)
    place, before = model / card.NAME, manifest.read(model)
    if card.NAME in before.files and place.is_file() and place.read_text(encoding="utf-8") == text:
        return
    _publish(folder, card.NAME, text, before)


def publish_sbom(folder: RunFolder, report: Report, licence: Mapping[str, str]) -> None:
    """Write the bill of materials, unless it already matches the folder; the manifest records it,
    or the reason why there is none."""
    model = folder.path / MODEL
    before, place = manifest.read(model), model / sbom.NAME
    there = sbom.NAME in before.files and place.is_file()
    whole = there and manifest.Entry.of(place) == before.files[sbom.NAME]
    if whole and not list(sbom.differences(place.read_text(encoding="utf-8"), before)):
        return
    why = sbom.why_not()
    if why is not None:
        if there:
            before = _forget(folder, sbom.NAME, before)
        place.unlink(missing_ok=True)
        updated = _with_provenance(before, sbom=why)
        if updated != before:
            folder.write(f"{MODEL}/{manifest.NAME}", updated.text())
        return
    updated = _with_provenance(_without(before, sbom.NAME), sbom=sbom.NAME)
    text = sbom.render(report.recipe_name, updated, Provenance.of(updated, model), licence)
    _publish(folder, sbom.NAME, text, before, sbom=sbom.NAME)


def _publish(folder: RunFolder, name: str, text: str, before: Manifest, **fields: Any) -> None:
    """Write a file and its manifest entry. The folder stays loadable if the process is killed: the
    old entry is removed before the file changes, and the new one is added afterwards."""
    others = _forget(folder, name, before)
    folder.write(f"{MODEL}/{name}", text)
    entry = manifest.Entry.of(folder.path / MODEL / name)
    files = dict(sorted({**others.files, name: entry}.items()))
    after = _with_provenance(others.model_copy(update={"files": files}), **fields)
    folder.write(f"{MODEL}/{manifest.NAME}", after.text())


def _forget(folder: RunFolder, name: str, before: Manifest) -> Manifest:
    without = _without(before, name)
    if len(without.files) < len(before.files):
        folder.write(f"{MODEL}/{manifest.NAME}", without.text())
    return without


def _without(content: Manifest, name: str) -> Manifest:
    files = {path: entry for path, entry in content.files.items() if path != name}
    return content.model_copy(update={"files": files}).sealed()


def _with_provenance(content: Manifest, **fields: Any) -> Manifest:
    provenance = {**(content.provenance or {}), **fields}
    return content.model_copy(update={"provenance": provenance}).sealed()

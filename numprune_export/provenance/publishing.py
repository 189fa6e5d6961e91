"""Put the card into a finished run's model folder, and the card's hash into its manifest."""

from __future__ import annotations

from collections.abc import Mapping

from numprune_export.checkpoint import manifest
from numprune_export.provenance import card
from numprune_export.report.schema import Report
from numprune_export.run_folder import MODEL, RunFolder


def publish_card(folder: RunFolder, report: Report, licence: Mapping[str, str]) -> None:
    """Write README.md, unless it says this already.

    Killed at any moment, the folder still loads: the manifest forgets an old card before it changes
    and names the new one after it is there.
    """
    model = folder.path / MODEL
    text = card.render(report, card.read_config(model), licence)
    place, before = model / card.NAME, manifest.read(model)
    if card.NAME in before.files and place.is_file() and place.read_text(encoding="utf-8") == text:
        return
    others = {name: entry for name, entry in before.files.items() if name != card.NAME}
    if len(others) < len(before.files):
        without = before.model_copy(update={"files": others}).sealed()
        folder.write(f"{MODEL}/{manifest.NAME}", without.text())
    folder.write(f"{MODEL}/{card.NAME}", text)
    entry = manifest.Entry.of(place)
    files = dict(sorted({**others, card.NAME: entry}.items()))
    folder.write(
        f"{MODEL}/{manifest.NAME}", before.model_copy(update={"files": files}).sealed().text()
    )

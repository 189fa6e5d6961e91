"""The `provenance` section of a manifest: how a model folder or an artifact was produced."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import JsonValue, ValidationError

from numprune_export.core.errors import InputError
from numprune_export.core.run_folder import MODEL, RunFolder
from numprune_export.core.settings import Strict
from numprune_export.core.stage import Stage
from numprune_export.export.artifact import Artifact
from numprune_export.measure.environment import Environment
from numprune_export.models.checkpoint import manifest
from numprune_export.models.checkpoint.manifest import Entry, Manifest
from numprune_export.models.checkpoint.weight_files import read_json
from numprune_export.provenance.code import Code


class Parent(Strict):
    """The dense model."""

    reference: str
    """As written in the recipe."""
    revision: str | None
    """Commit of a hub model; None for local files."""
    sha256: str
    """Over configuration, weights and tokenizer."""


class Provenance(Strict):
    """All inputs of a model folder or an artifact."""

    subject: Literal["model", "artifact"]
    variant: Literal["dense", "pruned"]
    target: str | None = None
    """Export target of an artifact; None for a model."""
    recipe: dict[str, JsonValue]
    """Resolved recipe, defaults included."""
    code: Code
    environment: Environment
    """Machine and package versions."""
    parent: Parent
    calibration_sha256: str | None
    """Over the calibration token windows; None for a dense model."""
    weights: dict[str, str]
    """Weight file to sha256 of the pruned model; empty for a dense artifact."""
    key: str
    """Key of the stage: a hash of everything it depends on."""
    sbom: str | None = None
    """Bill of materials of a pruned model: its file name, or the reason why there is none."""
    told_later: bool = False
    """True if an earlier run produced the files without writing provenance; code and environment
    are then those of the run that wrote this record."""

    @classmethod
    def of(cls, content: Manifest, where: Path) -> Provenance:
        """Parse the provenance of a manifest.

        Args:
            content: The manifest.
            where: Its folder, for the message.

        Raises:
            InputError: the provenance is missing or invalid.
        """
        try:
            return cls.model_validate(content.provenance or {}, strict=False)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, ("provenance", *first["loc"])))
            raise InputError(
                f"`{where / manifest.NAME}` has no valid provenance: `{at}`:"
                f" {first['msg'].lower()}",
                hint="run the same command again: it resumes where it stopped",
            ) from None


class Making:
    """Writes the provenance of all stages of one run."""

    def __init__(
        self, folder: RunFolder, recipe: dict[str, JsonValue], code: Code, environment: Environment
    ) -> None:
        self._folder, self._recipe = folder, recipe
        self._code, self._environment = code, environment

    def model(self, stage: Stage) -> None:
        """Add the provenance to the manifest of the pruned model."""
        self._write(stage, "model", "pruned")

    def artifact(self, stage: Stage, variant: Literal["dense", "pruned"]) -> None:
        """Write the manifest of an artifact; its files are not hashed again."""
        self._write(stage, "artifact", variant, Artifact.load(stage.folder).target)

    def _write(
        self,
        stage: Stage,
        subject: Literal["model", "artifact"],
        variant: Literal["dense", "pruned"],
        target: str | None = None,
    ) -> None:
        written = _whole(stage)
        if stage.resumed and written is not None and written.get("key") == stage.key:
            return
        section = read_json(self._folder.path / MODEL / "config.json")["numprune"]
        pruned = variant == "pruned"
        provenance = Provenance(
            subject=subject,
            variant=variant,
            target=target,
            recipe=self._recipe,
            code=self._code,
            environment=self._environment,
            parent=Parent(**section["parent"]),
            calibration_sha256=section["calibration_sha256"] if pruned else None,
            weights=weights_of(self._folder.path / MODEL) if pruned else {},
            key=stage.key,
            told_later=stage.resumed,
        )
        files = {name: Entry(**asdict(file)) for name, file in stage.files.items()}
        files.pop(manifest.NAME, None)
        content = Manifest(provenance=provenance.model_dump(mode="json"), files=files).sealed()
        place = (stage.folder / manifest.NAME).relative_to(self._folder.path)
        self._folder.write(place.as_posix(), content.text())


def weights_of(model: Path) -> dict[str, str]:
    """Weight file to sha256, from the manifest of a pruned model folder."""
    return {
        name: entry.sha256
        for name, entry in manifest.read(model).files.items()
        if name.endswith(".safetensors")
    }


def _whole(stage: Stage) -> dict[str, JsonValue] | None:
    """The provenance in a stage's manifest, if the manifest matches its files; else None."""
    try:
        content = manifest.read(stage.folder)
    except InputError:
        return None
    listed = {name: entry.content for name, entry in content.files.items()}
    agree = all(
        listed.get(name) == file for name, file in stage.files.items() if name != manifest.NAME
    )
    return content.provenance if agree and content.as_written else None

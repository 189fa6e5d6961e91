"""How a model folder or an artifact was made, as it stands under `provenance` in its manifest."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import JsonValue, ValidationError

from numprune_export.core.errors import InputError
from numprune_export.core.run_folder import MODEL, RunFolder, Stage
from numprune_export.core.settings import Strict
from numprune_export.export.artifact import Artifact
from numprune_export.measure.environment import Environment
from numprune_export.models.checkpoint import manifest
from numprune_export.models.checkpoint.manifest import Entry, Manifest
from numprune_export.models.checkpoint.weight_files import read_json
from numprune_export.provenance.code import Code


class Parent(Strict):
    """The dense model."""

    reference: str
    """As the recipe wrote it."""
    revision: str | None
    """The commit of a hub model."""
    sha256: str
    """Over configuration, weights and tokenizer."""


class Provenance(Strict):
    """Everything a folder came from."""

    subject: Literal["model", "artifact"]
    variant: Literal["dense", "pruned"]
    target: str | None = None
    """Of an artifact."""
    recipe: dict[str, JsonValue]
    """As resolved, defaults included, when this was made."""
    code: Code
    environment: Environment
    """Machine and package versions."""
    parent: Parent
    calibration_sha256: str | None
    """Of the token windows; None for a dense model, which saw none."""
    weights: dict[str, str]
    """Of a pruned model and what was exported from it: weight file to sha256."""
    key: str
    """Of the stage that made it: a hash of all it depends on."""
    sbom: str | None = None
    """Of a pruned model: the file with its bill of materials, or why there is none."""
    told_later: bool = False
    """An earlier run made this and did not tell; code and environment are of the run that wrote this."""

    @classmethod
    def of(cls, content: Manifest, where: Path) -> Provenance:
        """
        Raises:
            InputError: a manifest without provenance, or with one that cannot be read.
        """
        try:
            return cls.model_validate(content.provenance or {}, strict=False)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, ("provenance", *first["loc"])))
            raise InputError(
                f"`{where / manifest.NAME}` does not say how it was made: `{at}`:"
                f" {first['msg'].lower()}",
                hint="give the same `run` command again: it goes on where it stopped",
            ) from None


class Making:
    """What all stages of one run have in common."""

    def __init__(
        self, folder: RunFolder, recipe: dict[str, JsonValue], code: Code, environment: Environment
    ) -> None:
        self._folder, self._recipe = folder, recipe
        self._code, self._environment = code, environment

    def model(self, stage: Stage) -> None:
        """Tell how the pruned model was made, in its manifest."""
        self._tell(stage, "model", "pruned")

    def artifact(self, stage: Stage, variant: Literal["dense", "pruned"]) -> None:
        """Write the manifest of an artifact; its files are not read again."""
        self._tell(stage, "artifact", variant, Artifact.load(stage.folder).target)

    def _tell(
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
        found = Provenance(
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
        files = {name: Entry(**asdict(one)) for name, one in stage.files.items()}
        files.pop(manifest.NAME, None)
        content = Manifest(provenance=found.model_dump(mode="json"), files=files).sealed()
        place = (stage.folder / manifest.NAME).relative_to(self._folder.path)
        self._folder.write(place.as_posix(), content.text())


def weights_of(model: Path) -> dict[str, str]:
    """Weight file to sha256, as the manifest of a pruned folder says."""
    return {
        name: entry.sha256
        for name, entry in manifest.read(model).files.items()
        if name.endswith(".safetensors")
    }


def _whole(stage: Stage) -> dict[str, JsonValue] | None:
    """What the manifest of a stage tells, if it agrees with the stage's own files."""
    try:
        content = manifest.read(stage.folder)
    except InputError:
        return None
    listed = {name: entry.content for name, entry in content.files.items()}
    agree = all(
        listed.get(name) == one for name, one in stage.files.items() if name != manifest.NAME
    )
    return content.provenance if agree and content.as_written else None

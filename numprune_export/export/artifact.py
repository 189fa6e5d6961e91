"""An exported model on disk: a folder, its files and their hashes. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from numprune_export.core.digest import sha256_of as sha256_of
from numprune_export.core.errors import InputError
from numprune_export.core.json_text import loads

Network = Literal["decoder", "encoder"]
"""A causal language model, or an encoder with its task head."""


@dataclass(frozen=True)
class Artifact:
    """An exported model: its folder, files with hashes, and facts about the export."""

    target: str
    folder: Path
    entry: str
    """The file that the runtime opens, relative to `folder`."""
    files: Mapping[str, str]
    """Relative path to sha256 of every file, external data included."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Properties of the export: graph flavour, opset, versions. Always present: `dtype` (`float32`,
    `float16`, `bfloat16`), the precision of weights, activations and KV cache. If the export was
    built several times, `builds` lists the entry files, starting with `entry`."""
    evidence: tuple[str, ...] = ()
    """Files that no runtime needs, kept for checks: the graph behind an engine, repeated builds.
    They are a subset of `files` and do not count in `size_bytes`."""

    INDEX: ClassVar[str] = "artifact.json"

    @property
    def network(self) -> Network:
        """Kind of network, from the fact `network`; only encoder artifacts have that fact."""
        return "encoder" if self.facts.get("network") == "encoder" else "decoder"

    @property
    def size_bytes(self) -> int:
        served = (name for name in self.files if name not in self.evidence)
        return sum((self.folder / name).stat().st_size for name in served)

    def save(self) -> None:
        """Write `artifact.json` beside the files."""
        content = {
            "target": self.target,
            "entry": self.entry,
            "files": dict(self.files),
            "facts": dict(self.facts),
            "evidence": list(self.evidence),
        }
        (self.folder / self.INDEX).write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Artifact:
        """Read `artifact.json`; the listed files are not read.

        Raises:
            InputError: the index is missing or invalid, or a listed path leaves the folder.
        """
        index = folder / cls.INDEX
        try:
            artifact = cls._of(folder, loads(index.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"`{index}` is not a readable artifact index: {error}",
                hint="export the model again",
            ) from None
        for name in (artifact.entry, *artifact.files, *artifact.evidence):
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise InputError(
                    f"`{index}` names `{name}`, which is outside its folder",
                    hint="do not use this artifact: export the model again",
                )
        return artifact

    @classmethod
    def _of(cls, folder: Path, content: Any) -> Artifact:
        files, evidence = content["files"], content["evidence"]
        if not isinstance(files, dict) or not isinstance(content["facts"], dict):
            raise TypeError("`files` and `facts` must be objects")
        if not isinstance(evidence, list):
            raise TypeError("`evidence` must be a list")
        names = [content["target"], content["entry"], *files, *files.values(), *evidence]
        if not all(isinstance(name, str) and "\0" not in name for name in names):
            raise TypeError("names and hashes must be strings")
        return cls(
            content["target"], folder, content["entry"], files, content["facts"], tuple(evidence)
        )

"""What every stage is given: the recipe, where to write, whom to tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core import allocator
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import RunFolder, Stage, key_of
from numprune_export.core.shared_folder import SharedFolder
from numprune_export.core.version import STAGES_VERSION
from numprune_export.recipe import Recipe


@dataclass(frozen=True)
class Context:
    """One run."""

    recipe: Recipe
    folder: RunFolder
    observer: Observer
    shared: SharedFolder | None = None
    """Where recipes that differ in nothing that matters find each other's stages."""

    def stage(
        self,
        name: str,
        place: str,
        inputs: Sequence[Any],
        make: Callable[[Path], None],
        *,
        shared: bool = False,
        variant: str = "",
        editable: Collection[str] = (),
    ) -> Stage:
        """Make or find a stage, and show it.

        Args:
            name: What it does, for people and for `time.<name>_s`.
            place: Its folder in the run.
            inputs: All it depends on, JSON-able; the version of stages is added.
            make: Fills an empty folder.
            shared: Make it in the folder that runs share, if there is one, and link it into this one.
            variant: See SharedFolder.stage.
            editable: See RunFolder.stage; not of one that is shared.
        """
        self.observer.begin(name)
        key = key_of(STAGES_VERSION, place, *inputs)
        if shared and self.shared is not None:
            found = self.folder.find(name, place, key)
            stage = found or self.folder.adopt(
                place, self.shared.stage(name, place, key, make, variant=variant)
            )
        else:
            stage = self.folder.stage(name, place, key, make, editable=editable)
        done = "found" if stage.resumed else f"made in {stage.seconds:.1f} s"
        self.folder.log(f"{name}: {done}, key {stage.key[:12]}")
        if not stage.resumed:
            allocator.release()
        self.observer.end(name, stage.seconds, resumed=stage.resumed)
        return stage

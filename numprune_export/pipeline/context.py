"""The context of all stages: recipe, run folder, observer."""

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
from numprune_export.models.device import full_device_named
from numprune_export.recipe import Recipe


@dataclass(frozen=True)
class Context:
    """Context of one run."""

    recipe: Recipe
    folder: RunFolder
    observer: Observer
    shared: SharedFolder | None = None
    """Folder of stages that several runs share."""

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
        """Run a stage, or reuse its finished folder, and report its progress.

        Args:
            name: Name of the stage in the progress display and in `time.<name>_s`.
            place: Its folder in the run.
            inputs: Everything that the stage depends on, JSON-able; `STAGES_VERSION` is added.
            make: Callback that fills an empty folder.
            shared: Run it in the shared folder, if there is one, and link the result into the run.
            variant: See SharedFolder.stage.
            editable: See RunFolder.stage; ignored for shared stages.
        """
        self.observer.begin(name)
        key = key_of(STAGES_VERSION, place, *inputs)
        with full_device_named(name):
            if shared and self.shared is not None:
                finished = self.folder.find(name, place, key)
                stage = finished or self.folder.adopt(
                    place, self.shared.stage(name, place, key, make, variant=variant)
                )
            else:
                stage = self.folder.stage(name, place, key, make, editable=editable)
        outcome = "found" if stage.resumed else f"made in {stage.seconds:.1f} s"
        self.folder.log(f"{name}: {outcome}, key {stage.key[:12]}")
        if not stage.resumed:
            allocator.release()
        self.observer.end(name, stage.seconds, resumed=stage.resumed)
        return stage

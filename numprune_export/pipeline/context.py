"""The context of all stages: recipe, run folder, observer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core import allocator
from numprune_export.core.disk_space import temporary_folder
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import RunFolder
from numprune_export.core.shared_folder import SharedFolder
from numprune_export.core.stage import InParts, Stage, Together, key_of
from numprune_export.core.version import STAGES_VERSION
from numprune_export.models.full_device import full_device_named
from numprune_export.numerics import ranks
from numprune_export.numerics.held import waiting_in
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
        key = self.key(place, inputs)
        with full_device_named(name), waiting_in(self.folder.path):
            if ranks.here().world > 1:
                stage = self._with_others(name, place, key, make, editable)
            elif shared and self.shared is not None:
                finished = self.folder.find(name, place, key)
                stage = finished or self.folder.adopt(
                    place, self.shared.stage(name, place, key, _alone(make), variant=variant)
                )
            else:
                stage = self.folder.stage(name, place, key, _alone(make), editable=editable)
        outcome = "found" if stage.resumed else f"made in {stage.seconds:.1f} s"
        self.folder.log(f"{name}: {outcome}, key {stage.key[:12]}")
        if not stage.resumed:
            allocator.release()
            for notice in [] if stage.cost is None else stage.cost.notices(name):
                self.folder.log(notice)
        self.observer.end(name, stage.seconds, resumed=stage.resumed)
        return stage

    def key(self, place: str, inputs: Sequence[Any]) -> str:
        """The key of a stage; arguments as of `stage`."""
        return key_of(STAGES_VERSION, place, *inputs)

    def begun(self, place: str, inputs: Sequence[Any], *, shared: bool) -> bool:
        """Whether a stage is on disk, or parts of it; arguments as of `stage`."""
        key = self.key(place, inputs)
        own = self.folder.begun(place, key)
        return own or (shared and self.shared is not None and self.shared.begun(place, key))

    def _with_others(
        self,
        name: str,
        place: str,
        key: str,
        make: Callable[[Path], None],
        editable: Collection[str],
    ) -> Stage:
        """A stage of a run of several processes: made by all of them, or by the first one while the
        others wait."""
        here = ranks.here()
        existing = self.folder.find(name, place, key, editable=editable) if here.first else None
        finished = ranks.told(existing is not None)
        if here.first:
            stage = existing or self.folder.stage(name, place, key, _joint(make), editable=editable)
        else:
            if isinstance(make, Together) and not finished:
                with temporary_folder() as scratch:
                    _joint(make)(scratch)
            stage = Stage(name, key, self.folder.path / place, 0.0, resumed=finished)
        ranks.told(None)
        return stage


def _alone(make: Callable[[Path], None]) -> Callable[[Path], None]:
    return make.make if isinstance(make, Together) else make


def _joint(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """As all processes call it that take part."""
    if not isinstance(make, Together):
        return make
    work = make.make

    def made(folder: Path) -> None:
        with ranks.together():
            work(folder)

    return InParts(made) if isinstance(work, InParts) else made

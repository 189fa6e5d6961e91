"""Read a finished run from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.core.run_folder import ARTIFACTS, MODEL, REPORT, finished
from numprune_export.export import targets
from numprune_export.export.artifact import Artifact
from numprune_export.pruning.plan import Plan
from numprune_export.recipe import Recipe, parse
from numprune_export.report import store
from numprune_export.report.schema import Report

if TYPE_CHECKING:  # They import PyTorch, and a wrong folder is reported without it.
    from numprune_export.pipeline.exported import Exported
    from numprune_export.pipeline.models import Variant

SWEEP_MARKER = ".numprune-sweep"


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: folder, report, recipe."""

    folder: Path
    report: Report
    recipe: Recipe
    """Recipe recorded in the report, with the caller's changes."""

    @property
    def model(self) -> Path:
        """The pruned checkpoint."""
        return self.folder / MODEL

    @cached_property
    def plan(self) -> Plan:
        from numprune_export.pipeline.stages.allocate import read_plan

        return read_plan(self.folder / "plan")

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.rpartition(".")[0] for name in self.report.artifacts))

    def exported(self, only: Sequence[str] = ()) -> tuple[Exported, ...]:
        """Artifacts by target; `Target.cannot_run` is set if the runtime is missing.

        Args:
            only: Targets to return; empty: all.

        Raises:
            RecipeError: the run has no such target.
            InputError: an artifact's files differ from those in the report.
        """
        for name in only:
            if name not in self.targets:
                raise RecipeError(
                    f"`{self.folder}` has no artifact of target `{name}`",
                    hint=f"it has: {', '.join(self.targets) or 'none'}",
                )
        return tuple(self._exported(name) for name in self.targets if not only or name in only)

    def _exported(self, name: str) -> Exported:
        from numprune_export.pipeline.exported import Exported, Target
        from numprune_export.pipeline.models import VARIANTS

        exporter = targets.find(name)
        settings = targets.settings_for(exporter, self.recipe.targets.get(name, {}))
        here = exporter.availability()
        target = Target(exporter, settings, here.cannot_run if here.ready else here.detail)
        return Exported(
            target, {variant: self._artifact(name, variant) for variant in VARIANTS}, ()
        )

    def _artifact(self, target: str, variant: Variant) -> Artifact:
        artifact = Artifact.load(self.folder / ARTIFACTS / target / variant)
        if dict(artifact.files) != self.report.artifacts[f"{target}.{variant}"].files:
            raise InputError(
                f"`{artifact.folder}` differs from the report of `{self.folder}`",
                hint="repeat the run, or restore its artifacts",
            )
        return artifact


@contextmanager
def opened(folder: Path) -> Iterator[FinishedRun]:
    """Open a finished run and lock its folder until the context ends.

    Raises:
        InputError: the folder is not a run, or the run is unfinished.
        OutputError: a process is running in the folder.
    """
    if (folder / SWEEP_MARKER).is_file():
        raise InputError(
            f"`{folder}` is a sweep, not a run", hint=f"give one of its runs: `{folder}/points/…`"
        )
    with finished(folder):
        report = store.read(folder / REPORT)
        yield FinishedRun(folder, report, parse(dict(report.recipe), f"{folder / REPORT}"))

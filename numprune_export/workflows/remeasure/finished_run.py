"""A finished run, read back from its own files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.core.run_folder import ARTIFACTS, MODEL, REPORT, finished
from numprune_export.export import targets
from numprune_export.export.artifact import Artifact
from numprune_export.pipeline.exported import Exported
from numprune_export.pipeline.models import VARIANTS, Variant
from numprune_export.pipeline.stages.allocate import read_plan
from numprune_export.pruning.plan import Plan
from numprune_export.recipe import Recipe, parse
from numprune_export.report import store
from numprune_export.report.schema import Report

SWEEP_MARKER = ".numprune-sweep"


@dataclass(frozen=True)
class FinishedRun:
    """Its report, and what the report speaks of."""

    folder: Path
    report: Report
    recipe: Recipe
    """As the report has it, with what the caller changed."""

    @property
    def model(self) -> Path:
        """The pruned checkpoint."""
        return self.folder / MODEL

    @cached_property
    def plan(self) -> Plan:

        return read_plan(self.folder / "plan")

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.rpartition(".")[0] for name in self.report.artifacts))

    def exported(self, only: Sequence[str] = ()) -> tuple[Exported, ...]:
        """Its artifacts, target by target; those whose runtime is not here say so.

        Args:
            only: Of these targets; empty: of all.

        Raises:
            RecipeError: it has no such target.
            InputError: an artifact is not the one that the report speaks of.
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

        exporter = targets.find(name)
        settings = targets.settings_for(exporter, self.recipe.targets.get(name, {}))
        here = exporter.availability()
        target = Target(exporter, settings, here.cannot_run if here.ready else here.detail)
        return Exported(target, {one: self._artifact(name, one) for one in VARIANTS}, ())

    def _artifact(self, target: str, variant: Variant) -> Artifact:
        artifact = Artifact.load(self.folder / ARTIFACTS / target / variant)
        if dict(artifact.files) != self.report.artifacts[f"{target}.{variant}"].files:
            raise InputError(
                f"`{artifact.folder}` is not the artifact that the report of `{self.folder}` speaks of",
                hint="make the run again, or restore its artifacts",
            )
        return artifact


@contextmanager
def opened(folder: Path) -> Iterator[FinishedRun]:
    """A finished run, kept as it is for the time of a `with`.

    Raises:
        InputError: it is not a run, or not a finished one.
        OutputError: a run is at work in it.
    """
    if (folder / SWEEP_MARKER).is_file():
        raise InputError(
            f"`{folder}` is a sweep, not a run", hint=f"give one of its runs: `{folder}/points/…`"
        )
    with finished(folder):
        report = store.read(folder / REPORT)
        yield FinishedRun(folder, report, parse(dict(report.recipe), f"{folder / REPORT}"))

"""What a stage of one round is given: the run, the model it starts from, and how its stages are named."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.run_folder import Stage, require_space
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.models import RoundInput


@dataclass(frozen=True)
class RoundContext:
    """One round of a run."""

    context: Context
    start: RoundInput
    """The model that the round prunes: the dense one, or what an earlier round has left."""
    number: int
    """From 1."""

    def learned(
        self, name: str, place: str, inputs: list[Any], make: Callable[[Path], None]
    ) -> Stage:
        """A stage that does not depend on the budget; that of the dense model serves other recipes."""
        suffix = "" if self.number == 1 else f"-{self.number}"
        shared = self.number == 1
        return self.stage(f"{name}{suffix}", f"{place}{suffix}", inputs, make, shared=shared)

    def stage(
        self,
        name: str,
        place: str,
        inputs: list[Any],
        make: Callable[[Path], None],
        *,
        shared: bool = False,
        editable: Collection[str] = (),
    ) -> Stage:
        """As `Context.stage`, under the recipe's precision of matrix products."""
        precision = self.context.recipe.matmul_precision

        def precisely(folder: Path) -> None:
            with matmul_precision(precision):
                make(folder)

        return self.context.stage(
            name, place, [*inputs, precision], precisely, shared=shared, editable=editable
        )

    def require_space(self, size_bytes: int) -> None:
        """Refuse a disk without room for so many bytes and for all that the run writes after them.

        Raises:
            OutputError: there is less.
        """
        model, artifacts = self.start.model, 2 * len(self.context.recipe.targets)
        weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        require_space(self.context.folder.path, size_bytes + (1 + artifacts) * weights)

"""The context of the stages of one round: the run and the starting model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.disk_space import require_space
from numprune_export.core.stage import InParts, Stage, Together
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.models import RoundInput


@dataclass(frozen=True)
class RoundContext:
    """One round of a run."""

    context: Context
    start: RoundInput
    """The model that the round prunes: the dense model, or the result of the previous round."""
    number: int
    """Counted from 1."""

    def learned(
        self, name: str, place: str, inputs: list[Any], make: Callable[[Path], None]
    ) -> Stage:
        """A stage that does not depend on the budget; shared with other runs in the first round."""
        name, place = self._numbered(name), self._numbered(place)
        return self.stage(name, place, inputs, make, shared=self.number == 1)

    def key(self, place: str, inputs: list[Any]) -> str:
        """The key of the stage that `learned` makes."""
        return self.context.key(self._numbered(place), self._computed(inputs))

    def begun(self, place: str, inputs: list[Any]) -> bool:
        """Whether the stage that `learned` makes is on disk, or parts of it."""
        given, shared = self._computed(inputs), self.number == 1
        return self.context.begun(self._numbered(place), given, shared=shared)

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
        """As `Context.stage`, with the recipe's matmul precision."""
        precision, dense = self.context.recipe.matmul_precision, self.start.dense

        def make_with_precision(folder: Path) -> None:
            with matmul_precision(precision, dense.device):
                make(folder)

        inputs = self._computed(inputs)
        precise: Callable[[Path], None] = make_with_precision
        for kind in (InParts, Together):  # as `make` was marked, from the inside out
            if isinstance(make, kind) or (
                isinstance(make, Together) and isinstance(make.make, kind)
            ):
                precise = kind(precise)
        return self.context.stage(name, place, inputs, precise, shared=shared, editable=editable)

    def _numbered(self, name: str) -> str:
        return name if self.number == 1 else f"{name}-{self.number}"

    def _computed(self, inputs: list[Any]) -> list[Any]:
        """The inputs of a stage, with what its digits depend on."""
        return [*inputs, self.context.recipe.matmul_precision, *self.start.dense.computed_on]

    def require_space(self, size_bytes: int) -> None:
        """Check the free disk space for `size_bytes` and for the later output of the run.

        Raises:
            OutputError: there is less space.
        """
        model, artifacts = self.start.model, 2 * len(self.context.recipe.targets)
        weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        require_space(self.context.folder.path, size_bytes + (1 + artifacts) * weights)

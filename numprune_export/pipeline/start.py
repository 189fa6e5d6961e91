"""What a round of pruning starts from: the dense model, or what earlier rounds left of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numprune_export.models.family import Family
from numprune_export.models.site import Site
from numprune_export.pipeline.models import Dense
from numprune_export.pruning.plan import Plan


@dataclass(frozen=True)
class Start:
    """One round's model, made when a stage first needs it."""

    dense: Dense
    key: str
    earlier: Plan | None = None
    """How it came from the dense model; None: it is the dense model."""
    make: Callable[[], Any] | None = None

    @property
    def family(self) -> Family:
        return self.dense.family

    @cached_property
    def model(self) -> Any:
        return self.dense.model if self.make is None else self.make()

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return self.family.sites(self.model)

    def whole(self, plan: Plan) -> Plan:
        """A plan for this model as one for the dense model."""
        return plan if self.earlier is None else self.earlier.refined(plan)

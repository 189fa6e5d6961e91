"""Plans by error curves for `encoder_quality.py`: what `method: best` does, and its parts one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numprune_export.calibration import statistics as calibration_statistics
from numprune_export.calibration.statistics import Statistics
from numprune_export.core.progress import Observer
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.numerics.removal_order import RemovalOrder
from numprune_export.pipeline.kinds.task_encoder import TaskEncoder
from numprune_export.pipeline.models import Dense
from numprune_export.pruning import apply
from numprune_export.pruning.allocate import error_curves
from numprune_export.pruning.allocate.attention_weight import tuned
from numprune_export.pruning.allocate.cost import ForwardPass, price_of
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.plan import Plan
from numprune_export.pruning.score.fisher_obs import FisherObs
from numprune_export.recipe import Recipe

SCORES: Mapping[str, tuple[FisherObs, int | None]] = {
    "fisher_obs": (FisherObs(), None),
    "fisher_obs-256": (FisherObs(), 256),
    "obs": (FisherObs(metric="identity"), None),
}
"""With how many of the draw's examples gradients are taken on; None: all."""
ALLOCATIONS: Mapping[str, tuple[tuple[float, ...], int]] = {
    "curves": ((1.0,), 1),
    "tuned": (Curves().candidates, 1),
    "rounds": (Curves().candidates, 2),
}
"""Weights of attention to choose from, and rounds."""
QUICK = ClosedForm(affine=True, order="one_shot")
"""How plans are tried out, and what a second round starts from."""


@dataclass
class CurvePlans:
    """Plans from one draw of calibration examples."""

    recipe: Recipe
    """With the draw's seed."""
    family: BidirectionalEncoder
    dense: Dense
    search: list[Path]
    settings: Curves
    statistics: Mapping[str, Statistics]
    """Of the dense model, by site name."""
    observer: Observer
    _removal_orders: dict[str, dict[str, RemovalOrder]] = field(default_factory=dict)

    def plan(self, score: str, allocation: str, keep: float) -> Plan:
        """The units that stay of the dense model, at a cost of at most `keep` of its."""
        candidates, rounds = ALLOCATIONS[allocation]
        plan = self._plan(score, candidates, keep ** (1 / rounds))
        for number in range(2, rounds + 1):
            plan = self._again(plan, score, candidates, keep ** (number / rounds))
        return plan

    def _plan(self, score: str, candidates: tuple[float, ...], keep: float) -> Plan:
        model = self.dense.model
        if score not in self._removal_orders:
            self._removal_orders[score] = self._removals(model, score, self.statistics)
        return self._chosen(model, self.statistics, self._removal_orders[score], candidates, keep)

    def _again(self, plan: Plan, score: str, candidates: tuple[float, ...], keep: float) -> Plan:
        """One more round, on what a plan leaves."""
        small = self._cut(self.dense.model, plan, self.statistics)
        texts, statistics = self.kind(score).texts, dict[str, Statistics]()
        for block in calibration_statistics.collect(
            small, self.family, texts.moments, texts.batch, lambda _: None
        ):
            statistics |= block
        removals = self._removals(small, score, statistics)
        return plan.refined(self._chosen(small, statistics, removals, candidates, keep))

    def _chosen(
        self,
        model: Any,
        statistics: Mapping[str, Statistics],
        removals: Mapping[str, RemovalOrder],
        candidates: tuple[float, ...],
        keep: float,
    ) -> Plan:
        kind, dense = self.kind("obs"), self.dense.model
        hidden = int(dense.config.hidden_size)
        price = price_of(self.settings, ForwardPass(hidden, kind.mean_length, self.family.causal))
        whole, rest = (
            sum(price(site, range(site.units)) for site in self.family.sites(network))
            for network in (dense, model)
        )

        def planned(weight: float) -> Plan:
            return error_curves.allocate(
                self.family.sites(model), removals, min(1.0, keep * whole / rest), self.settings,
                attention=weight, price=price,
            )  # fmt: skip

        dense_logits = kind.dense_logits(dense, kind.texts)

        def divergence(plan: Plan) -> Any:
            return dense_logits.divergence(self._cut(model, plan, statistics))

        return tuned(planned, candidates, divergence, self.observer.expect)[0]

    def _removals(
        self, model: Any, score: str, statistics: Mapping[str, Statistics]
    ) -> dict[str, RemovalOrder]:
        settings, examples = SCORES[score]
        kind = self.kind(score, examples)
        of_blocks = kind.gradients.of_outputs(model, kind.texts, self.observer)
        fishers = {name: fisher for block in of_blocks for name, fisher in block.items()}
        blocks, removals = self.family.block_list(model), {}
        for site in self.family.sites(model):
            weight: Any = blocks[site.block].get_submodule(site.consumer).weight
            known = replace(statistics[site.name], output_fisher=fishers.get(site.name))
            removals[site.name] = settings.removal(weight.detach(), known, site)
        return removals

    def _cut(self, model: Any, plan: Plan, statistics: Mapping[str, Statistics]) -> Any:
        return apply.one_shot(model, self.family, plan, QUICK, lambda site: statistics[site.name])

    def kind(self, score: str, examples: int | None = None) -> TaskEncoder:
        calibration = self.recipe.calibration
        if examples is not None:  # the first ones of the draw's order: a part of it
            calibration = calibration.model_copy(update={"sequences": examples})
        own = self.recipe.model_copy(update={"score": SCORES[score][0], "calibration": calibration})
        return TaskEncoder(own, self.family, self.dense, self.search)

"""What all points of `encoder_quality.py` share: the model, its examples, plans, cuts and repairs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from encoder_contenders import CLOSED, OTHERS, Contender, own_repair, own_search
from encoder_curves import SCORES
from encoder_draws import Draw, drawn

from numprune_export.data.labelled.encoded import Encoded
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.tasks.choice import task_of
from numprune_export.data.tasks.evaluation import Evaluation
from numprune_export.data.tasks.task import Task, headline
from numprune_export.measure.reference.encoder import TorchEncoderRunner
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.models import Dense
from numprune_export.pruning import apply
from numprune_export.pruning.allocate import budget_search
from numprune_export.pruning.allocate import cost as macs
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.rearrange import rearranged
from numprune_export.pruning.allocate.threshold import Allocation, allocate
from numprune_export.pruning.compensate.distill_layers import assistant_budget, tune
from numprune_export.pruning.compensate.mask_tuning import ScalarTuning
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.compensate.teacher_refit import Refit
from numprune_export.pruning.plan import Plan
from numprune_export.recipe import Recipe


@dataclass(frozen=True)
class Bench:
    """What all points share."""

    recipe: Recipe
    dense: Dense
    family: BidirectionalEncoder
    task: Task
    evaluation: Encoded
    draws: tuple[Draw, ...]

    @property
    def metric(self) -> str:
        return headline(self.task, self.evaluation.data)

    @property
    def search(self) -> Search:
        return own_search(self.recipe)

    @property
    def repair(self) -> Refit | ScalarTuning:
        return own_repair(self.recipe)

    @property
    def costs(self) -> macs.UnitCosts:
        length = float(self.evaluation.windows.lengths.mean())
        sites = self.family.sites(self.dense.model)
        hidden = int(self.dense.model.config.hidden_size)
        forward = macs.ForwardPass(hidden, length, self.family.causal)
        return budget_search.unit_costs(self.search, sites, forward)

    def plan(self, draw: Draw, contender: Contender, keep: float, *, final: bool = True) -> Plan:
        """Its cost is at most `keep` of the whole; `final`: rearranged where the score allows."""
        if contender.score in SCORES:
            return draw.curves.plan(contender.score, contender.allocation, keep)
        sites, scores = self.family.sites(self.dense.model), self._scores(draw, contender, keep)
        if contender.allocation == "threshold":
            priced = tuple(replace(site, unit_cost=self.costs[site.name]) for site in sites)
            return Plan(sites, allocate(priced, scores, keep, Allocation(align_to=1)).kept)
        plan = budget_search.plan(self.search, sites, scores, self.costs, keep)
        if not (final and self.search.rearrange and contender.score == "fisher"):
            return plan
        gradients: dict[str, Any] = {
            name: statistics.unit_gradients for name, statistics in draw.statistics.items()
        }
        return rearranged(plan, gradients, until_stable=self.search.until_stable)

    def cut(self, plan: Plan, draw: Draw) -> Any:
        """The dense model really smaller, not repaired."""
        lookup = draw.statistics
        return apply.one_shot(
            self.dense.model, self.family, plan, Nothing(), lambda site: lookup[site.name]
        )

    def made(self, plan: Plan, draw: Draw, contender: Contender, keep: float, repair: str) -> Any:
        """The smaller model, with the repair of that name."""
        if repair == "none":
            return self.cut(plan, draw)
        if repair not in CLOSED:
            return self.tuned(self.cut(plan, draw), draw, contender, keep)
        dense, family, closed = self.dense.model, self.family, CLOSED[repair]
        if closed.order == "one_shot":
            return apply.one_shot(
                dense, family, plan, closed, lambda site: draw.statistics[site.name]
            )
        return apply.sequential(
            dense, family, plan, closed, draw.windows, draw.batch, lambda _: None
        )

    def tuned(self, small: Any, draw: Draw, contender: Contender, keep: float) -> Any:
        teacher = self.dense.model
        if self.repair.teacher == "assistant":
            middle = self.plan(draw, contender, assistant_budget(keep, 1.0), final=False)
            teacher = self.cut(middle, draw)
        return tune(
            small, teacher, self.family, draw.windows, self.repair,
            batch=draw.batch, tick=lambda _: None,
        )[0]  # fmt: skip

    def evaluate(self, model: Any) -> Evaluation:
        with TorchEncoderRunner(model, self.family, threads=None) as runner:
            return self.task.evaluate(runner, self.evaluation)

    def _scores(self, draw: Draw, contender: Contender, keep: float) -> dict[str, torch.Tensor]:
        score: Any = OTHERS.get(contender.score) or self.recipe.score
        blocks, scores = self.family.block_list(self.dense.model), {}
        for site in self.family.sites(self.dense.model):
            weight: Any = blocks[site.block].get_submodule(site.consumer).weight
            scores[site.name] = score(
                weight.detach(), draw.statistics[site.name], keep=keep, generator=torch.Generator()
            )
        return scores


def prepare(chosen: Recipe, search: list[Path], seeds: int) -> Bench:
    """Read the model and its examples, and run every calibration draw."""
    source = resolve(chosen.model.source, revision=chosen.model.revision, search=search)
    dense, family = Dense(source, chosen.model.dtype), source.family
    data = chosen.evaluation
    assert isinstance(family, BidirectionalEncoder), "encoders with a task head only"
    assert isinstance(data, LabelledData)
    assert dense.tokenizer is not None
    reading = Reading.of(
        dense.tokenizer, dense.model.config, family.encoder(dense.model).max_positions
    )
    task = task_of(family.head_of(dense.model).task, dense.model.config)
    evaluation = task.load(data, reading, search)
    draws = tuple(drawn(chosen, family, dense, search, seed) for seed in range(seeds))
    return Bench(chosen, dense, family, task, evaluation, draws)

"""One round of pruning up to its plan: calibrate, score, allocate; each a stage of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from numprune_export.calibration import statistics as calibration_statistics
from numprune_export.calibration import store as statistics_store
from numprune_export.calibration.statistics import Statistics
from numprune_export.calibration.token_stride import spacing
from numprune_export.core.run_folder import Stage, key_of, require_space
from numprune_export.data.corpus import Windows
from numprune_export.numerics.matmul_precision import products
from numprune_export.numerics.removal_order import Removal, additive
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.kind import Subject, windows_key
from numprune_export.pipeline.stages.allocate import (
    REMOVALS,
    SCORES,
    Planning,
    interim,
    read_plan,
    was_edited,
)
from numprune_export.pipeline.stages.calibrated import Calibrated, reads_moments
from numprune_export.pipeline.start import Start
from numprune_export.pruning import apply
from numprune_export.pruning.plan import Plan, Site
from numprune_export.pruning.score.fisher_obs import FisherObs
from numprune_export.pruning.score.numerical import Numerical
from numprune_export.pruning.score.random import Random


@dataclass(frozen=True)
class Round:
    """From what it starts from to the units that stay of it."""

    context: Context
    subject: Subject
    learning: Subject
    """The same on the text that gradients are taken on."""
    trying: Subject
    """The same on the text that plans are tried out on."""
    start: Start
    keep: float
    """Fraction of the dense model that is left after this round."""
    last: bool
    number: int

    @cached_property
    def calibrated(self) -> Calibrated:
        """Whatever the recipe needs of statistics of the starting model, and of gradients."""
        statistics = None
        if reads_moments(self.context.recipe):
            read = self.subject.calibration
            every = self._every(int(read.lengths.sum()))
            statistics = self._moments("calibrate", "statistics", read, every=every)
        key = self.learning.gradients_key
        if key is None:
            return Calibrated(statistics, None)
        inputs = [*self._calibrated_on(self.learning.calibration), key]
        return Calibrated(
            statistics, self._learned("gradients", "gradients", inputs, self._write_gradients)
        )

    def moments_on(self, windows: Windows) -> Calibrated:
        """Statistics of the starting model on other text, for its repair."""
        moments = self._moments("calibrate-repair", "repair_statistics", windows, every=1)
        return Calibrated(moments, None)

    @cached_property
    def scored(self) -> Stage:
        """`scores.safetensors`, per input of a consumer; `removals.safetensors`, per site."""
        recipe = self.context.recipe
        units = [(site.name, site.units) for site in self.start.sites]
        inputs: list[Any] = [
            self.start.key, self.calibrated.key, units, recipe.score.model_dump(),
            recipe.seed if isinstance(recipe.score, Random) else None,
        ]  # fmt: skip
        if isinstance(recipe.score, Numerical):  # the only one that asks how much will stay
            inputs.append(recipe.keep)
        return self._learned("score", "scores", inputs, self._write_scores)

    @cached_property
    def planning(self) -> Planning:
        return Planning(
            self.context, self.trying, self.start, self.calibrated, self.scored, self.keep
        )

    @cached_property
    def allocated(self) -> Stage:
        """The plan: of the dense model if this is the last round, else of what it starts from."""
        planning = self.planning
        write = partial(planning.write, whole=self.last)
        suffix = "" if self.last else f"-{self.number}"
        inputs = [*planning.inputs, self.last]
        return self._stage(f"allocate{suffix}", f"plan{suffix}", inputs, write)

    @cached_property
    def plan(self) -> Plan:
        """Of the dense model."""
        return self._own_plan if self.last else self.start.whole(self._own_plan)

    @property
    def edited(self) -> bool:
        """Whether somebody changed the plan since it was made."""
        return was_edited(self.allocated.folder, self._own_plan)

    @cached_property
    def _own_plan(self) -> Plan:
        return read_plan(self.allocated.folder)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return *self.calibrated.stages, self.scored, *self.planning.timed, self.allocated

    def rest(self) -> Start:
        """What the next round starts from: this plan carried out, the weights refitted at once."""
        assert not self.last

        def make() -> Any:
            repair = interim(self.context.recipe.compensate)
            return apply.one_shot(
                self.start.model, self.start.family, self._own_plan, repair, self.calibrated.read
            )

        repair = interim(self.context.recipe.compensate).model_dump()
        key = key_of(self.allocated.key, self.plan.to_json(), repair)
        return Start(self.start.dense, key, self.plan, make)

    def _every(self, tokens: int) -> int:
        """One in so many of them goes into the moments that the score reads."""
        score, sites = self.context.recipe.score, self.start.sites
        widest = max((site.units * site.consumer_width for site in sites), default=1)
        return spacing(score.every, tokens, widest) if isinstance(score, FisherObs) else 1

    def _calibrated_on(self, windows: Windows) -> list[Any]:
        return [self.start.key, windows_key(windows), self.subject.calibration_batch]

    def _moments(self, name: str, place: str, windows: Windows, *, every: int) -> Stage:
        inputs, make = self._calibrated_on(windows), partial(self._write_statistics, windows, every)
        inputs.append(every)
        return self._learned(name, place, inputs, make)

    def _learned(self, name: str, place: str, inputs: list[Any], make: Any) -> Stage:
        """A stage that says nothing of the budget; that of the dense model serves other recipes."""
        suffix = "" if self.number == 1 else f"-{self.number}"
        shared = self.number == 1
        return self._stage(f"{name}{suffix}", f"{place}{suffix}", inputs, make, shared=shared)

    def _stage(
        self, name: str, place: str, inputs: list[Any], make: Any, *, shared: bool = False
    ) -> Stage:
        precision = self.context.recipe.products

        def quickly(folder: Path) -> None:
            with products(precision):
                make(folder)

        return self.context.stage(name, place, [*inputs, precision], quickly, shared=shared)

    def _write_statistics(self, windows: Windows, every: int, folder: Path) -> None:
        model, family, observer = self.start.model, self.start.family, self.context.observer
        self._require_space(statistics_store.size_bytes(self.start.sites))
        batch, tick = self.subject.calibration_batch, observer.advance
        observer.expect(len(family.block_list(model)) * len(windows.tokens))
        found_of = calibration_statistics.collect(model, family, windows, batch, tick, every)
        for block, found in enumerate(found_of):
            statistics_store.write_block(folder, block, found)

    def _write_gradients(self, folder: Path) -> None:
        model, observer = self.start.model, self.context.observer
        if isinstance(self.context.recipe.score, FisherObs):
            hidden = int(model.config.hidden_size)
            self._require_space(8 * hidden**2 * len(self.start.sites))
        learning = self.learning
        statistics_store.write_gradients(folder, learning.gradients(model, observer))
        statistics_store.write_output_fisher(folder, learning.output_fisher(model, observer))

    def _require_space(self, learned: int) -> None:
        """For so many bytes, and for all that the run will write after them."""
        model, artifacts = self.start.model, 2 * len(self.context.recipe.targets)
        size = sum(one.numel() * one.element_size() for one in model.parameters())
        require_space(self.context.folder.path, learned + (1 + artifacts) * size)

    def _write_scores(self, folder: Path) -> None:
        model, family = self.start.model, self.start.family
        blocks, observer = family.block_list(model), self.context.observer
        observer.expect(sum(map(_scoring_work, self.start.sites)))
        scores: dict[str, Tensor] = {}
        removals: dict[str, Tensor] = {}
        for index, (site, statistics) in enumerate(self.calibrated.in_turn(self.start.sites)):
            weight: Any = blocks[site.block].get_submodule(site.consumer).weight
            columns, found = self._scored(index, site, weight.detach(), statistics)
            scores[site.name] = columns
            removals[f"{site.name}.order"], removals[f"{site.name}.error"] = (
                found.order,
                found.error,
            )
            observer.advance(_scoring_work(site))
        save_file(scores, folder / SCORES)
        save_file(removals, folder / REMOVALS)

    def _scored(
        self, index: int, site: Site, weight: Tensor, statistics: Statistics
    ) -> tuple[Tensor, Removal]:
        """A score per input of the consumer, and the order in which the site's units go."""
        recipe = self.context.recipe
        if isinstance(recipe.score, FisherObs):
            found = recipe.score.removal(weight, statistics, site)
            return found.scores().repeat_interleave(site.consumer_width), found
        generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + index)
        columns = recipe.score(weight, statistics, keep=recipe.keep, generator=generator)
        return columns, additive(columns.double().reshape(site.units, -1).mean(1))


def _scoring_work(site: Site) -> int:
    """Steps of progress: operations of an elimination of the consumer's inputs, in units of 2²⁰."""
    return max(1, (site.units * site.consumer_width) ** 3 >> 20)

"""What each score and repair leaves of an encoder's task, over a curve of budgets: one table.

    python benchmarks/encoder_quality.py minilm-trec-macs50 --out benchmarks/results/encoder_trec.md

All contenders have equal multiply-accumulates. Every calibration draw is run once and serves all
points; each point is measured in PyTorch, and the dense model is the ideal. Beside the page lies its
JSON, which a run that was stopped goes on from.

The Fisher score estimates a loss that sums over units, which is what `search` maximises. The other
scores order units within a layer and compare heads with neurons only by the mean over their columns,
so they are shown under `threshold` too: one limit on scores standardised by site. `fisher_obs`,
`fisher_obs-256` (gradients of 256 examples) and `obs` (no gradients) have error curves instead:
`curves` as they are, `tuned` with the weight of attention chosen by divergence, `rounds` twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
import typer
from encoder_curves import ALLOCATIONS, SCORES, CurvePlans
from encoder_quality_page import Page, Point

from numprune_export import calibrate, heap, prune, recipe
from numprune_export.allocate import Allocation, allocate
from numprune_export.bidirectional import BidirectionalEncoder
from numprune_export.calibrate import Statistics
from numprune_export.checkpoint.source import resolve
from numprune_export.compensate.closed_form import ClosedForm
from numprune_export.compensate.none import Nothing
from numprune_export.corpus import Windows
from numprune_export.curves import Curves
from numprune_export.fisher import budget, macs
from numprune_export.fisher.budget import Search
from numprune_export.fisher.rearrange import rearranged
from numprune_export.fisher.tuning import assistant_budget, tune
from numprune_export.fisher.tuning_methods import Refit, ScalarTuning
from numprune_export.pipeline.encoders import EncoderSubject
from numprune_export.pipeline.models import Dense
from numprune_export.plan import Plan
from numprune_export.products import products
from numprune_export.recipe import Recipe
from numprune_export.score.fisher import Fisher
from numprune_export.score.magnitude import Magnitude
from numprune_export.score.numerical import Numerical
from numprune_export.score.stat import Stat
from numprune_export.tasks import task_of
from numprune_export.tasks.encoded import Encoded
from numprune_export.tasks.evaluation import Evaluation, Measure
from numprune_export.tasks.labelled import LabelledData
from numprune_export.tasks.task import Task, headline
from numprune_export.tasks.tokenize import Reading
from numprune_export.validate.encoder_reference import TorchEncoderRunner

OTHERS: dict[str, Any] = {"stat": Stat(), "numerical": Numerical(), "magnitude": Magnitude()}
CLOSED: dict[str, ClosedForm] = {
    "one_shot": ClosedForm(affine=True, order="one_shot"),
    "sequential": ClosedForm(affine=True, order="sequential"),
}
"""Repairs beside the recipe's own, by their names in the table."""


class Silent:
    """An Observer that nobody watches."""

    def begin(self, stage: str) -> None: ...

    def expect(self, steps: int) -> None: ...

    def advance(self, steps: int) -> None: ...

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None: ...


@dataclass(frozen=True)
class Draw:
    """One drawing of calibration examples, and what the dense model shows on it."""

    windows: Windows
    batch: int
    statistics: Mapping[str, Statistics]
    """By site name, gradients of unit masks included."""
    curves: CurvePlans


@dataclass(frozen=True)
class Contender:
    """How units are scored and shared out."""

    score: str
    allocation: str


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
        return budget.unit_costs(self.search, sites, self.dense.model.config, length)

    def plan(self, draw: Draw, contender: Contender, keep: float, *, final: bool = True) -> Plan:
        """Its cost is at most `keep` of the whole; `final`: rearranged where the score allows."""
        if contender.score in SCORES:
            return draw.curves.plan(contender.score, contender.allocation, keep)
        sites, scores = self.family.sites(self.dense.model), self._scores(draw, contender, keep)
        if contender.allocation == "threshold":
            priced = tuple(replace(one, unit_cost=self.costs[one.name]) for one in sites)
            return Plan(sites, allocate(priced, scores, keep, Allocation(align_to=1)).kept)
        plan = budget.plan(self.search, sites, scores, self.costs, keep)
        if not (final and self.search.rearrange and contender.score == "fisher"):
            return plan
        gradients: dict[str, Any] = {
            name: one.unit_gradients for name, one in draw.statistics.items()
        }
        return rearranged(plan, gradients, until_stable=self.search.until_stable)

    def cut(self, plan: Plan, draw: Draw) -> Any:
        """The dense model really smaller, not repaired."""
        lookup = draw.statistics
        return prune.one_shot(
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
            return prune.one_shot(
                dense, family, plan, closed, lambda one: draw.statistics[one.name]
            )
        return prune.sequential(
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
        blocks, found = self.family.block_list(self.dense.model), {}
        for site in self.family.sites(self.dense.model):
            weight: Any = blocks[site.block].get_submodule(site.consumer).weight
            found[site.name] = score(
                weight.detach(), draw.statistics[site.name], keep=keep, generator=torch.Generator()
            )
        return found


def own_search(chosen: Recipe) -> Search:
    return chosen.allocate if isinstance(chosen.allocate, Search) else Search()


def own_repair(chosen: Recipe) -> Refit | ScalarTuning:
    found = chosen.compensate
    return found if isinstance(found, Refit | ScalarTuning) else Refit()


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


def drawn(
    chosen: Recipe, family: BidirectionalEncoder, dense: Dense, search: list[Path], seed: int
) -> Draw:
    calibration = chosen.calibration.model_copy(update={"seed": seed})
    own = chosen.model_copy(update={"calibration": calibration, "seed": seed})
    subject = EncoderSubject(own, family, dense, search)
    gradients = subject.gradients(dense.model, Silent())
    found: dict[str, Statistics] = {}
    windows, batch = subject.calibration, subject.calibration_batch
    for one in calibrate.collect(dense.model, family, windows, batch, lambda _: None):
        found |= {name: replace(sums, unit_gradients=gradients[name]) for name, sums in one.items()}
    settings = own_search(chosen)
    priced = Curves(cost=settings.cost, length=settings.length)
    curves = CurvePlans(own, family, dense, search, priced, found, Silent())
    return Draw(windows, batch, found, curves)


def mean_of(evaluations: list[Evaluation], metric: str) -> Evaluation:
    """Their mean on the same examples, so that its change from another is resampled in pairs."""
    found = [one.measures[metric] for one in evaluations]

    def resampled(rows: Any) -> Any:
        return np.mean([one.resampled(rows) for one in found], axis=0)

    value = fmean(one.value for one in found)
    mean = Measure(value, found[0].unit, found[0].examples, resampled)
    return Evaluation({metric: mean}, evaluations[0].conditions)


def points(
    bench: Bench,
    dense: Evaluation,
    contender: Contender,
    keep: float,
    seeds: int,
    repairs: list[str],
) -> Iterator[Point]:
    """With each repair, from the same plans."""
    draws = bench.draws[:seeds]
    plans = [bench.plan(draw, contender, keep) for draw in draws]
    for repair in repairs:
        scored = [
            bench.evaluate(bench.made(plan, draw, contender, keep, repair))
            for plan, draw in zip(plans, draws, strict=True)
        ]
        change = mean_of(scored, bench.metric).change_from(dense)[bench.metric]
        assert change.low is not None
        assert change.high is not None
        yield Point(
            keep=keep,
            score=contender.score,
            allocation=contender.allocation,
            repair=repair,
            values=tuple(one.measures[bench.metric].value for one in scored),
            change=(change.value, change.low, change.high),
            macs=fmean(kept_cost(bench, plan) for plan in plans),
            heads=widths(plans[0], "attention"),
            neurons=widths(plans[0], "mlp"),
            loss=tuple(one.measures["loss"].value for one in scored if "loss" in one.measures),
        )


def kept_cost(bench: Bench, plan: Plan) -> float:
    return macs.total(plan.sites, bench.costs, plan.kept) / macs.whole(plan.sites, bench.costs)


def widths(plan: Plan, kind: str) -> tuple[int, ...]:
    return tuple(len(plan.kept[site.name]) for site in plan.sites if site.kind == kind)


def contenders(scores: list[str], allocations: list[str], *, searched: bool) -> Iterator[Contender]:
    for score in scores:
        if score in SCORES:
            yield from (Contender(score, one) for one in allocations)
            continue
        if score == "fisher" or searched:
            yield Contender(score, "search")
        if score != "fisher":
            yield Contender(score, "threshold")


def numbers(text: str) -> list[float]:
    return [float(one) for one in text.split(",")]


def chosen_recipe(path: Path, change: list[str], sequences: int | None, rows: int | None) -> Recipe:
    wanted = {"calibration.sequences": sequences, "evaluation.sequences": rows}
    given = [f"{key}={one}" for key, one in wanted.items() if one is not None]
    found = recipe.load(path, [*change, *given])
    return (
        found if isinstance(found.score, Fisher) else found.model_copy(update={"score": Fisher()})
    )


@products("medium")  # as recipes do while they prune
def main(
    name: Annotated[str, typer.Argument(help="A recipe of an encoder with a task head.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write; its .json goes beside it.")],
    keeps: Annotated[
        str, typer.Option(help="Budgets, as fractions of MACs, in the order they are run in.")
    ] = "0.5,0.7,0.3,0.9,0.6,0.4,0.8",
    seeds: Annotated[int, typer.Option(help="Calibration draws.")] = 3,
    seeds_at: Annotated[
        str | None, typer.Option(help="Budgets that get all the draws, the others one.")
    ] = None,
    scores: Annotated[str, typer.Option()] = "fisher,stat,numerical,magnitude",
    search_at: Annotated[
        str, typer.Option(help="Budgets at which scores other than fisher have `search` too.")
    ] = "0.5",
    allocations: Annotated[
        str, typer.Option(help=f"Of error curves: {', '.join(ALLOCATIONS)}.")
    ] = "curves",
    repairs: Annotated[
        str | None,
        typer.Option(
            help=f"none, {', '.join(CLOSED)}, or the recipe's own. [default: none and that]",
            show_default=False,
        ),
    ] = None,
    sequences: Annotated[int | None, typer.Option(help="Calibration examples of a draw.")] = None,
    rows: Annotated[int | None, typer.Option(help="Evaluation examples.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="As for `run`.")] = None,
) -> None:
    path = recipe.locate(name)
    chosen = chosen_recipe(path, change or [], sequences, rows)
    bench = prepare(chosen, [path.parent, Path.cwd()], seeds)
    dense = bench.evaluate(bench.dense.model)
    measure = dense.measures[bench.metric]
    page = Page.open(
        out,
        {
            "recipe": name,
            "set": sorted(change or []),
            "metric": bench.metric,
            "dense": measure.value,
            "evaluation examples": measure.examples,
            "mean tokens": round(float(bench.evaluation.windows.lengths.mean()), 2),
            "calibration examples": len(bench.draws[0].windows.tokens),
            "dtype": chosen.model.dtype,
        },
    )
    full = numbers(keeps if seeds_at is None else seeds_at)
    wanted = ["none", bench.repair.method] if repairs is None else repairs.split(",")
    for keep in numbers(keeps):
        count, searched = (seeds if keep in full else 1), keep in numbers(search_at)
        for one in contenders(scores.split(","), allocations.split(","), searched=searched):
            missing = [
                name
                for name in wanted
                if not page.has(keep, one.score, one.allocation, name, count)
            ]
            if not missing:
                continue
            for point in points(bench, dense, one, keep, count, missing):
                page.add(point)
                typer.echo(point.line(measure.value))
            heap.release()


if __name__ == "__main__":
    typer.run(main)

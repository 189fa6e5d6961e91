"""Points of `encoder_quality.py`: a contender at a budget, measured with each repair."""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

import numpy as np
from encoder_bench import Bench
from encoder_contenders import Contender
from encoder_quality_page import Point

from numprune_export.data.tasks.evaluation import Evaluation, Measure
from numprune_export.pruning.allocate import cost as macs
from numprune_export.pruning.plan import Plan


def mean_of(evaluations: list[Evaluation], metric: str) -> Evaluation:
    """Their mean on the same examples, so that its change from another is resampled in pairs."""
    measures = [evaluation.measures[metric] for evaluation in evaluations]

    def resampled(rows: Any) -> Any:
        return np.mean([measure.resampled(rows) for measure in measures], axis=0)

    value = fmean(measure.value for measure in measures)
    mean = Measure(value, measures[0].unit, measures[0].examples, resampled)
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
            values=tuple(evaluation.measures[bench.metric].value for evaluation in scored),
            change=(change.value, change.low, change.high),
            macs=fmean(kept_cost(bench, plan) for plan in plans),
            heads=widths(plans[0], "attention"),
            neurons=widths(plans[0], "mlp"),
            loss=tuple(
                evaluation.measures["loss"].value
                for evaluation in scored
                if "loss" in evaluation.measures
            ),
        )


def kept_cost(bench: Bench, plan: Plan) -> float:
    return macs.total(plan.sites, bench.costs, plan.kept) / macs.whole(plan.sites, bench.costs)


def widths(plan: Plan, kind: str) -> tuple[int, ...]:
    return tuple(len(plan.kept[site.name]) for site in plan.sites if site.kind == kind)

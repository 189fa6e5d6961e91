"""Timing the sublayers of an encoder on a target, for a budget in milliseconds.

A model of a few equal blocks, in which one kind of sublayer has some width and the other has no
units, is exported and run; what the same model takes with both empty is the frame, which is taken off.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor

from numprune_export import targets
from numprune_export.artifact import Exporter, Projection, Tokens
from numprune_export.encoder import Encoder, EncoderLayer, EncoderRunner, EncoderTarget
from numprune_export.errors import RecipeError
from numprune_export.fisher.latency_budget import LatencyBudget
from numprune_export.fisher.latency_curve import fit_polyline, outside
from numprune_export.fisher.latency_search import LatencyPlan, search_curves
from numprune_export.fisher.latency_table import LatencyTable, measure
from numprune_export.metric import Metric, Metrics
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.models import Dense
from numprune_export.plan import Kind, Site
from numprune_export.report.environment import cpu_model
from numprune_export.run_folder import Stage

COPIES = 2
"""Blocks in a timed model."""
TABLE = "latency.json"


@dataclass(frozen=True)
class Measured:
    """What was timed."""

    table: LatencyTable
    dense_ms: float
    """The whole dense model."""


def timed(context: Context, settings: LatencyBudget, dense: Dense, encoder: Encoder) -> Stage:
    """The table as a stage of the run, made again for another processor or runtime.

    Raises:
        RecipeError: the target is not among the recipe's.
    """
    recipe = context.recipe
    if settings.target not in recipe.targets:
        raise RecipeError(
            f"`allocate.target`: `{settings.target}` is not one of the recipe's targets",
            hint=f"it has {', '.join(f'`{name}`' for name in recipe.targets)}",
        )
    exporter = targets.find(settings.target)
    chosen = targets.settings_for(exporter, recipe.targets[settings.target])
    here = targets.require_ready(exporter)
    threads = recipe.benchmark.threads

    def make(folder: Path) -> None:
        with _Timer(exporter, chosen, encoder, settings, threads) as timer:
            table = measure(timer, _widths(encoder, settings.points), rounds=settings.rounds)
            whole = median(timer.dense() for _ in range(settings.rounds))
        content = {"table": table.to_json(), "dense_ms": whole}
        (folder / TABLE).write_text(json.dumps(content, indent=1) + "\n")

    asked = settings.model_dump(include={"batch", "length", "points", "rounds"})
    inputs = [dense.key, asked, chosen.model_dump(), here.detail, cpu_model(), threads]
    return context.stage("time-sublayers", "latency", inputs, make)


def read(stage: Stage) -> Measured:
    content = json.loads((stage.folder / TABLE).read_text())
    return Measured(LatencyTable.from_json(content["table"]), float(content["dense_ms"]))


def search(
    settings: LatencyBudget,
    sites: tuple[Site, ...],
    scores: dict[str, Float[Tensor, " n"]],
    measured: Measured,
    keep: float,
) -> LatencyPlan:
    """The plan for the budget.

    Raises:
        RecipeError: no plan is that fast; the message says the fastest.
    """
    importance = {
        site.name: scores[site.name].double().reshape(site.units, site.consumer_width).mean(1)
        for site in sites
    }
    curves = {kind: fit_polyline(one) for kind, one in measured.table.milliseconds.items()}
    fixed = outside(sites, curves, measured.dense_ms)
    budget = budget_ms(settings, measured, keep)
    return search_curves(sites, importance, curves, budget, fixed_ms=fixed, widths=settings)


def budget_ms(settings: LatencyBudget, measured: Measured, keep: float) -> float:
    return settings.milliseconds or keep * measured.dense_ms


def budget_metrics(settings: LatencyBudget, budget: float, predicted: float) -> Metrics:
    """`budget.<target>.<bucket>.{limit_ms,predicted_ms}`."""
    name = f"budget.{settings.target}.b{settings.batch}.l{settings.length}"
    return {
        f"{name}.limit_ms": Metric(budget, "ms", 1),
        f"{name}.predicted_ms": Metric(predicted, "ms", settings.rounds),
    }


def _widths(encoder: Encoder, points: int) -> dict[Kind, list[int]]:
    heads, neurons = encoder.layers[0].heads, encoder.layers[0].neurons
    spaced = np.unique(np.linspace(neurons / points, neurons, points).round().astype(int))
    return {"attention": list(range(1, heads + 1)), "mlp": [int(one) for one in spaced if one]}


class _Timer:
    """Opens each timed model once and keeps it, so that widths take turns."""

    def __init__(
        self,
        exporter: Exporter,
        chosen: BaseModel,
        encoder: Encoder,
        settings: LatencyBudget,
        threads: int,
    ) -> None:
        self._exporter, self._chosen, self._threads = exporter, chosen, threads
        self._encoder, self._stack = encoder, ExitStack()
        # One thread's processor time is its wall time on an idle machine, and hardly more on a busy one.
        alone = exporter.device == "cpu" and threads == 1
        self._clock = process_time if alone else perf_counter
        self._tokens: Tokens = np.zeros((settings.batch, settings.length), np.int64)
        self._open: dict[tuple[int, int] | None, EncoderRunner] = {}

    def __enter__(self) -> _Timer:
        self._folder = Path(self._stack.enter_context(TemporaryDirectory()))
        return self

    def __exit__(self, *exc: Any) -> None:
        self._open.clear()
        self._stack.close()

    def __call__(self, kind: Kind, units: int) -> float:
        """Milliseconds of one sublayer."""
        shape = (units, 0) if kind == "attention" else (0, units)
        frame = self._run(self._runner((0, 0)))
        taken = self._run(self._runner(shape))
        # A frame that a disturbance made slower than the whole: nothing is not a time.
        return max((taken - frame) / COPIES, 1e-4)

    def dense(self) -> float:
        """Milliseconds of the whole dense model."""
        return self._run(self._runner(None))

    def _run(self, runner: EncoderRunner) -> float:
        times = []
        for _ in range(3):
            started = self._clock()
            runner.forward(self._tokens)
            times.append(1000 * (self._clock() - started))
        return median(times)

    def _runner(self, shape: tuple[int, int] | None) -> EncoderRunner:
        if shape not in self._open:
            layer = self._encoder.layers[0]
            layers = self._encoder.layers if shape is None else (_cut(layer, *shape),) * COPIES
            folder = self._folder / str(len(self._open))
            folder.mkdir()
            assert isinstance(self._exporter, EncoderTarget), self._exporter.name
            artifact = self._exporter.export_encoder(
                replace(self._encoder, layers=layers), folder, self._chosen
            )
            opened = self._exporter.open_encoder(artifact, threads=self._threads)
            self._open[shape] = self._stack.enter_context(opened)
            self._run(self._open[shape])
        return self._open[shape]


def _cut(layer: EncoderLayer, heads: int, neurons: int) -> EncoderLayer:
    """The first units of a layer."""
    rows = heads * (int(layer.query.weight.shape[0]) // layer.heads)
    query, key, value = (_rows(one, rows) for one in (layer.query, layer.key, layer.value))
    return replace(
        layer,
        query=query,
        key=key,
        value=value,
        output=_columns(layer.output, rows),
        up=_rows(layer.up, neurons),
        down=_columns(layer.down, neurons),
        heads=heads,
    )


def _rows(one: Projection, count: int) -> Projection:
    return Projection(one.weight[:count], None if one.bias is None else one.bias[:count])


def _columns(one: Projection, count: int) -> Projection:
    return Projection(one.weight[:, :count], one.bias)

"""Timing the sublayers of an encoder on a target, for a budget in milliseconds.

Models of a few equal blocks are exported and run; see `latency_table` for which. A table that an
earlier run made for the same device, runtime and model shape is used again, at the speed that the
dense model has now.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor

from numprune_export.core.metric import Metric, Metrics
from numprune_export.core.run_folder import Stage
from numprune_export.core.version import __version__
from numprune_export.export import targets
from numprune_export.export.artifact import Exporter, Projection, Tokens
from numprune_export.export.encoder import Encoder, EncoderLayer, EncoderRunner, EncoderTarget
from numprune_export.measure.environment import describe
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.stages import latency_cache
from numprune_export.pruning.allocate.error_curves import Curves, Price
from numprune_export.pruning.allocate.latency.curve import fitted, predict
from numprune_export.pruning.allocate.latency.latency_budget import LatencyBudget
from numprune_export.pruning.allocate.latency.search import LatencyPlan, check_budget, search_curves
from numprune_export.pruning.allocate.latency.settings import Timing
from numprune_export.pruning.allocate.latency.table import Blocks, LatencyTable, alone, measure
from numprune_export.pruning.plan import Kind, Plan, Site

TABLE = "latency.json"


@dataclass(frozen=True)
class Measured:
    """What was timed."""

    table: LatencyTable
    age_s: float | None
    """Of a table that was found; None: this run measured it."""


def timed(context: Context, settings: Timing, dense: Dense, encoder: Encoder) -> Stage:
    """The table as a stage of the run, made again for another device or runtime."""
    recipe = context.recipe
    exporter = targets.find(settings.target)
    chosen = targets.settings_for(exporter, recipe.targets[settings.target])
    here, threads = targets.require_ready(exporter), recipe.benchmark.threads
    machine = describe()
    key = {
        "target": [settings.target, chosen.model_dump(mode="json"), here.detail],
        "device": [machine.cpu, [gpu.model_dump(mode="json") for gpu in machine.gpus], threads],
        "version": __version__,
        "timing": settings.model_dump(include={"batch", "length", "points", "rounds"}),
        "shape": _shape(encoder),
    }

    def make(folder: Path) -> None:
        with _Timer(exporter, chosen, encoder, settings, threads) as timer:
            measured = _found_or_measured(context, key, timer, settings, encoder)
        content = {"table": measured.table.to_json(), "age_s": measured.age_s}
        (folder / TABLE).write_text(json.dumps(content, indent=1) + "\n")

    return context.stage("time-sublayers", "latency", [dense.key, key], make)


def _found_or_measured(
    context: Context,
    key: dict[str, Any],
    timer: _Timer,
    settings: Timing,
    encoder: Encoder,
) -> Measured:
    dense = tuple((one.heads, one.neurons) for one in encoder.layers)
    if (kept := latency_cache.read(key)) is not None:
        dense_ms = alone(timer, dense, rounds=settings.rounds)
        context.folder.log(f"latency table: found, {kept.age_s / 3600:.2f} h old, not measured")
        return Measured(kept.table.at(dense_ms), kept.age_s)
    table = measure(timer, dense, _widths(encoder, settings.points), rounds=settings.rounds)
    if (problem := latency_cache.write(key, table)) is not None:
        context.folder.log(f"latency table: measured, not kept for other runs: {problem}")
    return Measured(table, None)


def read(stage: Stage) -> Measured:
    content = json.loads((stage.folder / TABLE).read_text())
    return Measured(LatencyTable.from_json(content["table"]), content["age_s"])


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
    budget, table = budget_ms(settings, measured, keep), measured.table
    curves = fitted(sites, table)
    return search_curves(
        sites, importance, curves, budget, fixed_ms=table.empty_ms, widths=settings
    )


def curve_budget(
    settings: Curves, sites: tuple[Site, ...], measured: Measured, keep: float
) -> tuple[Price, float]:
    """What units take on the target, and the fraction of it that sublayers may take.

    Raises:
        RecipeError: no plan is that fast; the message says the fastest.
    """
    table, times = measured.table, fitted(sites, measured.table)
    limit = budget_ms(settings.timing, measured, keep)
    least = predict(sites, [settings.counts(site)[0] for site in sites], times)
    check_budget(least + table.empty_ms, limit, settings)
    left = (limit - table.empty_ms) / (table.dense_ms - table.empty_ms)

    def price(site: Site, kept: Sequence[int]) -> float:
        return times[site.kind](len(kept))

    return price, min(1.0, left)


def predicted_ms(plan: Plan, measured: Measured) -> float:
    """Of the whole model."""
    counts = [len(plan.kept[site.name]) for site in plan.sites]
    times = fitted(plan.sites, measured.table)
    return predict(plan.sites, counts, times) + measured.table.empty_ms


def budget_ms(settings: Timing, measured: Measured, keep: float) -> float:
    return settings.milliseconds or keep * measured.table.dense_ms


def budget_metrics(
    settings: Timing, measured: Measured, budget: float, predicted: float
) -> Metrics:
    """`budget.<target>.<bucket>.{limit_ms,dense_ms,predicted_ms,predicted_ratio}`."""
    name = f"budget.{settings.target}.b{settings.batch}.l{settings.length}"
    age = measured.age_s
    under = {"table": "measured" if age is None else f"found, {age / 3600:.2f} h old"}
    dense_ms = measured.table.dense_ms
    return {
        f"{name}.limit_ms": Metric(budget, "ms", 1),
        f"{name}.dense_ms": Metric(dense_ms, "ms", settings.rounds, conditions=under),
        f"{name}.predicted_ms": Metric(predicted, "ms", settings.rounds, conditions=under),
        f"{name}.predicted_ratio": Metric(
            predicted / dense_ms, "of the dense model's time", settings.rounds, conditions=under
        ),
    }


def _shape(encoder: Encoder) -> dict[str, Any]:
    """All that a time depends on but the weights' values."""
    return {
        "layers": [(one.heads, one.neurons) for one in encoder.layers],
        "head_dim": encoder.head_dim,
        "hidden": encoder.hidden,
        "activation": encoder.activation,
        "dtype": str(encoder.embedding.dtype),
        "embeddings": [encoder.vocabulary, encoder.max_positions, encoder.type_embedding is None],
        "head": [encoder.head.task, encoder.head.activation, encoder.classes],
    }


def _widths(encoder: Encoder, points: int) -> dict[Kind, list[int]]:
    heads = max(one.heads for one in encoder.layers)
    neurons = max(one.neurons for one in encoder.layers)
    spaced = np.unique(np.linspace(neurons / points, neurons, points).round().astype(int))
    return {"attention": list(range(1, heads + 1)), "mlp": [int(one) for one in spaced if one]}


class _Timer:
    """Opens each timed model once and keeps it, so that widths take turns."""

    def __init__(
        self,
        exporter: Exporter,
        chosen: BaseModel,
        encoder: Encoder,
        settings: Timing,
        threads: int,
    ) -> None:
        self._exporter, self._chosen, self._threads = exporter, chosen, threads
        self._encoder, self._stack = encoder, ExitStack()
        # One thread's processor time is its wall time on an idle machine, and hardly more on a busy one.
        alone = exporter.device == "cpu" and threads == 1
        self._clock = process_time if alone else perf_counter
        self._tokens: Tokens = np.zeros((settings.batch, settings.length), np.int64)
        self._open: dict[Blocks, EncoderRunner] = {}

    def __enter__(self) -> _Timer:
        self._folder = Path(self._stack.enter_context(TemporaryDirectory()))
        return self

    def __exit__(self, *exc: Any) -> None:
        self._open.clear()
        self._stack.close()

    def __call__(self, blocks: Blocks) -> float:
        """Milliseconds of one run of a model with these widths.

        One, after a run of another model, as in the benchmark: a second would find its weights in the
        cache, which shortens a small model's time more than a large one's.
        """
        runner = self._runner(blocks)
        started = self._clock()
        runner.forward(self._tokens)
        return 1000 * (self._clock() - started)

    def _runner(self, blocks: Blocks) -> EncoderRunner:
        if blocks not in self._open:
            layers = tuple(_layer(self._encoder, *one) for one in enumerate(blocks))
            folder = self._folder / str(len(self._open))
            folder.mkdir()
            assert isinstance(self._exporter, EncoderTarget), self._exporter.name
            artifact = self._exporter.export_encoder(
                replace(self._encoder, layers=layers), folder, self._chosen
            )
            opened = self._exporter.open_encoder(artifact, threads=self._threads)
            self._open[blocks] = self._stack.enter_context(opened)
            self._open[blocks].forward(self._tokens)  # warm
        return self._open[blocks]


def _layer(encoder: Encoder, index: int, widths: tuple[int, int]) -> EncoderLayer:
    """The first units of the encoder's own layer, or of the widest where that has not as many.

    Each layer its own: weights that layers share would stay in a cache that real ones do not fit.
    """
    own, (heads, neurons) = encoder.layers[index], widths
    if own.heads < heads:
        most = max(encoder.layers, key=lambda one: one.heads)
        own = replace(most, up=own.up, down=own.down)
    if own.neurons < neurons:
        most = max(encoder.layers, key=lambda one: one.neurons)
        own = replace(own, up=most.up, down=most.down)
    return _cut(own, heads, neurons)


def _cut(layer: EncoderLayer, heads: int, neurons: int) -> EncoderLayer:
    """The first units of a layer."""
    rows = heads * (int(layer.query.weight.shape[0]) // max(1, layer.heads))
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

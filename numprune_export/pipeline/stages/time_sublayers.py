"""Timing of an encoder's sublayers on a target, for a latency budget.

Models with a few equal blocks are exported and run; see `latency.table`. The table of an earlier
run for the same device, runtime and model shape is reused, rescaled to the current latency of the
dense model.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from pydantic import BaseModel

from numprune_export.core.partial_files import scratch_folder
from numprune_export.core.stage import Stage
from numprune_export.core.version import STAGES_VERSION
from numprune_export.export import targets
from numprune_export.export.decoder import Projection
from numprune_export.export.encoder import Encoder, EncoderLayer
from numprune_export.export.exporter import Exporter
from numprune_export.export.runner import EncoderRunner, Tokens
from numprune_export.measure.environment import describe
from numprune_export.models.site import Kind
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.models import Dense
from numprune_export.pruning.allocate.latency import cache
from numprune_export.pruning.allocate.latency.budget import Measured
from numprune_export.pruning.allocate.latency.settings import Timing
from numprune_export.pruning.allocate.latency.table import Blocks, LatencyTable, alone, measure

TABLE = "latency.json"


def timed(context: Context, settings: Timing, dense: Dense, encoder: Encoder) -> Stage:
    """The stage of the latency table; its key contains device and runtime."""
    recipe = context.recipe
    exporter = targets.find(settings.target)
    chosen = targets.settings_for(exporter, recipe.targets[settings.target])
    availability, threads = targets.require_ready(exporter), recipe.benchmark.threads
    machine = describe()
    key = {
        "target": [settings.target, chosen.model_dump(mode="json"), availability.detail],
        "device": [machine.cpu, [gpu.model_dump(mode="json") for gpu in machine.gpus], threads],
        "version": STAGES_VERSION,
        "timing": settings.model_dump(include={"batch", "length", "points", "rounds"}),
        "shape": _shape(encoder),
    }

    def make(folder: Path) -> None:
        with (
            scratch_folder(folder, "timing") as scratch,
            _Timer(exporter, chosen, encoder, settings, threads, scratch) as timer,
        ):
            measured = _cached_or_measured(context, key, timer, settings, encoder)
        content = {"table": measured.table.to_json(), "age_s": measured.age_s}
        (folder / TABLE).write_text(json.dumps(content, indent=1) + "\n")

    return context.stage("time-sublayers", "latency", [dense.key, key], make)


def _cached_or_measured(
    context: Context,
    key: dict[str, Any],
    timer: _Timer,
    settings: Timing,
    encoder: Encoder,
) -> Measured:
    dense = tuple((layer.heads, layer.neurons) for layer in encoder.layers)
    if (cached := cache.read(key)) is not None:
        dense_ms = alone(timer, dense, rounds=settings.rounds)
        context.folder.log(f"latency table: cached, {cached.age_s / 3600:.2f} h old, not measured")
        return Measured(cached.table.at(dense_ms), cached.age_s)
    table = measure(timer, dense, _widths(encoder, settings.points), rounds=settings.rounds)
    if (problem := cache.write(key, table)) is not None:
        context.folder.log(f"latency table: measured, not cached for other runs: {problem}")
    return Measured(table, None)


def read(stage: Stage) -> Measured:
    content = json.loads((stage.folder / TABLE).read_text())
    return Measured(LatencyTable.from_json(content["table"]), content["age_s"])


def _shape(encoder: Encoder) -> dict[str, Any]:
    """Everything that the latency depends on except the values of the weights."""
    return {
        "layers": [(layer.heads, layer.neurons) for layer in encoder.layers],
        "head_dim": encoder.head_dim,
        "hidden": encoder.hidden,
        "activation": encoder.activation,
        "dtype": str(encoder.embedding.dtype),
        "embeddings": [encoder.vocabulary, encoder.max_positions, encoder.type_embedding is None],
        "head": [encoder.head.task, encoder.head.activation, encoder.classes],
    }


def _widths(encoder: Encoder, points: int) -> dict[Kind, list[int]]:
    heads = max(layer.heads for layer in encoder.layers)
    neurons = max(layer.neurons for layer in encoder.layers)
    spaced = np.unique(np.linspace(neurons / points, neurons, points).round().astype(int))
    return {
        "attention": list(range(1, heads + 1)),
        "mlp": [int(width) for width in spaced if width],
    }


class _Timer:
    """Opens each timed model once and keeps it open, so that widths can be interleaved."""

    def __init__(
        self,
        exporter: Exporter,
        chosen: BaseModel,
        encoder: Encoder,
        settings: Timing,
        threads: int,
        folder: Path,
    ) -> None:
        self._folder = folder
        self._exporter, self._chosen, self._threads = exporter, chosen, threads
        self._encoder, self._stack = encoder, ExitStack()
        # The processor time of a single thread is hardly affected by other load on the machine.
        single = exporter.device == "cpu" and threads == 1
        self._clock = process_time if single else perf_counter
        self._tokens: Tokens = np.zeros((settings.batch, settings.length), np.int64)
        self._open: dict[Blocks, EncoderRunner] = {}

    def __enter__(self) -> _Timer:
        return self

    def __exit__(self, *exc: Any) -> None:
        self._open.clear()
        self._stack.close()

    def __call__(self, blocks: Blocks) -> float:
        """Milliseconds of one run of a model with these widths.

        Models alternate, as in the benchmark: a repeated run would find its weights in the CPU
        cache, which speeds up small models more than large ones.
        """
        runner = self._runner(blocks)
        start = self._clock()
        runner.forward(self._tokens)
        return 1000 * (self._clock() - start)

    def _runner(self, blocks: Blocks) -> EncoderRunner:
        if blocks not in self._open:
            layers = tuple(
                _layer(self._encoder, index, widths) for index, widths in enumerate(blocks)
            )
            folder = self._folder / str(len(self._open))
            folder.mkdir()
            artifact = self._exporter.export(
                replace(self._encoder, layers=layers), folder, self._chosen
            )
            runner = self._exporter.open(artifact, threads=self._threads)
            assert isinstance(runner, EncoderRunner), artifact.network
            self._open[blocks] = self._stack.enter_context(runner)
            runner.forward(self._tokens)  # warm
        return self._open[blocks]


def _layer(encoder: Encoder, index: int, widths: tuple[int, int]) -> EncoderLayer:
    """The first units of the encoder's layer, or of the widest layer if it has too few.

    Layers do not share weights: shared weights would stay in the CPU cache, unlike those of a real
    model.
    """
    own, (heads, neurons) = encoder.layers[index], widths
    if own.heads < heads:
        widest = max(encoder.layers, key=lambda layer: layer.heads)
        own = replace(widest, up=own.up, down=own.down)
    if own.neurons < neurons:
        widest = max(encoder.layers, key=lambda layer: layer.neurons)
        own = replace(own, up=widest.up, down=widest.down)
    return _cut(own, heads, neurons)


def _cut(layer: EncoderLayer, heads: int, neurons: int) -> EncoderLayer:
    """The first `heads` heads and `neurons` neurons of a layer."""
    rows = heads * (int(layer.query.weight.shape[0]) // max(1, layer.heads))
    query, key, value = (
        _rows(projection, rows) for projection in (layer.query, layer.key, layer.value)
    )
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


def _rows(projection: Projection, count: int) -> Projection:
    bias = projection.bias
    return Projection(projection.weight[:count], None if bias is None else bias[:count])


def _columns(projection: Projection, count: int) -> Projection:
    return Projection(projection.weight[:, :count], projection.bias)

"""Timing the sublayers of an encoder on a target, for a budget in milliseconds.

Models of a few equal blocks are exported and run; see `latency_table` for which. A table that an
earlier run made for the same device, runtime and model shape is used again, at the speed that the
dense model has now.
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

from numprune_export.core.run_folder import Stage, scratch_folder
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
    """The table as a stage of the run, made again for another device or runtime."""
    recipe = context.recipe
    exporter = targets.find(settings.target)
    chosen = targets.settings_for(exporter, recipe.targets[settings.target])
    here, threads = targets.require_ready(exporter), recipe.benchmark.threads
    machine = describe()
    key = {
        "target": [settings.target, chosen.model_dump(mode="json"), here.detail],
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
    if (kept := cache.read(key)) is not None:
        dense_ms = alone(timer, dense, rounds=settings.rounds)
        context.folder.log(f"latency table: found, {kept.age_s / 3600:.2f} h old, not measured")
        return Measured(kept.table.at(dense_ms), kept.age_s)
    table = measure(timer, dense, _widths(encoder, settings.points), rounds=settings.rounds)
    if (problem := cache.write(key, table)) is not None:
        context.folder.log(f"latency table: measured, not kept for other runs: {problem}")
    return Measured(table, None)


def read(stage: Stage) -> Measured:
    content = json.loads((stage.folder / TABLE).read_text())
    return Measured(LatencyTable.from_json(content["table"]), content["age_s"])


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
        folder: Path,
    ) -> None:
        self._folder = folder
        self._exporter, self._chosen, self._threads = exporter, chosen, threads
        self._encoder, self._stack = encoder, ExitStack()
        # One thread's processor time is its wall time on an idle machine, and hardly more on a busy one.
        alone = exporter.device == "cpu" and threads == 1
        self._clock = process_time if alone else perf_counter
        self._tokens: Tokens = np.zeros((settings.batch, settings.length), np.int64)
        self._open: dict[Blocks, EncoderRunner] = {}

    def __enter__(self) -> _Timer:
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
            artifact = self._exporter.export(
                replace(self._encoder, layers=layers), folder, self._chosen
            )
            runner = self._exporter.open(artifact, threads=self._threads)
            assert isinstance(runner, EncoderRunner), artifact.network
            self._open[blocks] = self._stack.enter_context(runner)
            runner.forward(self._tokens)  # warm
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

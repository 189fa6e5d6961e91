"""The stages that measure: quality and parity, then latency and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numprune_export import heap
from numprune_export.artifact import DecoderRunner, Tokens
from numprune_export.benchmark.cost import cost, ideal_speedups
from numprune_export.benchmark.latency import PHASES, Pair, Workload, measure_decoders
from numprune_export.benchmark.memory import measure_memory
from numprune_export.corpus import Windows
from numprune_export.errors import InputError
from numprune_export.metric import Metric, Metrics, metrics_from_json, metrics_to_json
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exporting import Exported
from numprune_export.pipeline.models import VARIANTS, Models
from numprune_export.pipeline.sizes import size_metrics
from numprune_export.run_folder import Stage, key_of
from numprune_export.validate import parity
from numprune_export.validate.perplexity import perplexity
from numprune_export.validate.reference import TorchRunner, computing_in, rounding_error

METRICS = "metrics.json"
LONGEST_PROMPT = 64
"""Prompt tokens of the parity check; its rows come from the evaluation text."""

DENSE_STEPS = 8
"""Decode steps in the parity check of the dense artifact."""


def validate(
    context: Context, models: Models, exported: Sequence[Exported], windows: Windows
) -> Stage:
    """Sizes, perplexity from the dense model to each artifact, and their parity with PyTorch.

    Raises:
        ParityError: an artifact differs from PyTorch by more than the recipe's tolerance.
    """
    recipe = context.recipe
    rows = _parity_rows(windows, recipe.parity.steps)

    def make(folder: Path) -> None:
        context.observer.expect((3 + len(exported)) * len(windows.tokens))
        metrics = size_metrics(models, exported)
        metrics |= _torch_perplexities(context, models, windows)
        for one in exported:
            metrics |= _artifact_perplexity(context, one, windows)
            for variant in VARIANTS:
                heap.release()
                metrics |= _parity(context, models, one, variant, rows)
        _write(folder, metrics)

    inputs = [
        *_keys(models, exported),
        key_of(windows.tokens.tolist()),
        recipe.evaluation.batch,
        recipe.parity.model_dump(),
    ]
    return context.stage("validate", "validate", inputs, make)


def benchmark(
    context: Context, models: Models, exported: Sequence[Exported], windows: Windows
) -> Stage:
    """Latency of dense and pruned in interleaved rounds on every target, and peak memory."""
    recipe = context.recipe.benchmark
    prompt = _prompt(windows, recipe.batch, max(recipe.prefill, recipe.past))
    workload = Workload(
        prompt, recipe.prefill, recipe.past, recipe.decode_steps, recipe.warmup, recipe.samples
    )

    def make(folder: Path) -> None:
        context.observer.expect(len(PHASES) * (recipe.warmup + recipe.samples))
        metrics = _latency(context, models, exported, workload)
        for one in exported:
            metrics |= measure_memory(
                one.target.name,
                {variant: artifact.folder for variant, artifact in one.artifacts.items()},
                threads=recipe.threads,
                batch=recipe.batch,
                prompt_tokens=recipe.prefill,
                decode_steps=recipe.decode_steps,
            )
        _write(folder, metrics)

    inputs = [*_keys(models, exported), key_of(prompt.tolist()), recipe.model_dump()]
    return context.stage("benchmark", "benchmark", inputs, make)


def read_metrics(stage: Stage) -> Metrics:
    """What a measuring stage found."""
    return metrics_from_json(json.loads((stage.folder / METRICS).read_text()))


def _torch_perplexities(context: Context, models: Models, windows: Windows) -> Metrics:
    batch, tick = context.recipe.evaluation.batch, context.observer.advance
    found: Metrics = {}
    for name in ("dense", "masked", "pruned"):
        model = models.masked() if name == "masked" else getattr(models, name)
        under = {"runtime": f"torch {torch.__version__}", **_text(context, windows)}
        with TorchRunner(model, threads=None) as runner:
            found[f"quality.perplexity.{name}"] = perplexity(
                runner, windows.tokens, batch=batch, conditions=under, progress=tick
            )
    return found


def _artifact_perplexity(context: Context, exported: Exported, windows: Windows) -> Metrics:
    artifact, exporter = exported.artifacts["pruned"], exported.target.exporter
    batch, tick = context.recipe.evaluation.batch, context.observer.advance
    under = {**_facts(artifact.facts), **_text(context, windows)}
    capacity = windows.tokens.shape[1]
    with exporter.open(artifact, threads=torch.get_num_threads(), capacity=capacity) as runner:
        found = perplexity(runner, windows.tokens, batch=batch, conditions=under, progress=tick)
    return {f"quality.perplexity.{exported.target.name}": found}


def _parity(
    context: Context, models: Models, exported: Exported, variant: Any, rows: Tokens
) -> Metrics:
    recipe, name = context.recipe.parity, exported.target.name
    artifact, model = exported.artifacts[variant], models.get(variant)
    # The dense artifact comes from the same code, so fewer of its fp64 steps are paid for.
    steps = recipe.steps if variant == "pruned" else min(recipe.steps, DENSE_STEPS)
    rows = rows[:, : rows.shape[1] - recipe.steps + steps]
    unavoidable = rounding_error(model, rows)
    tolerance = max(recipe.tolerance, recipe.rounding * unavoidable)
    with ExitStack() as stack:
        exact = stack.enter_context(computing_in(model, torch.float64))
        reference = stack.enter_context(TorchRunner(exact, threads=None))
        candidate = stack.enter_context(_open(exported, variant, rows.shape[1]))
        found = parity.compare(reference, candidate, rows, steps=steps)
    parity.check(found, tolerance, name=f"{name}/{variant}")
    prefix = f"parity.{name}" if variant == "pruned" else f"parity.{name}.dense"
    under = {**_facts(artifact.facts), "reference": "torch float64", "tolerance": tolerance}
    own = Metric(unavoidable, "logit", rows.size, conditions={"runtime": "torch float32"})
    return found.metrics(prefix, under) | {f"{prefix}.rounding_error": own}


def _open(
    exported: Exported, variant: Any, capacity: int, threads: int | None = None
) -> DecoderRunner:
    return exported.target.exporter.open(
        exported.artifacts[variant], threads=threads or torch.get_num_threads(), capacity=capacity
    )


def _latency(
    context: Context, models: Models, exported: Sequence[Exported], workload: Workload
) -> Metrics:
    recipe = context.recipe.benchmark
    with ExitStack() as stack:
        pairs, under = {}, {}
        for one in exported:
            opened = [
                stack.enter_context(_open(one, variant, workload.capacity, recipe.threads))
                for variant in VARIANTS
            ]
            pairs[one.target.name] = Pair(*opened)
            under[one.target.name] = {
                "threads": recipe.threads,
                "device": "cpu",
                **_facts(one.artifacts["pruned"].facts),
            }
        if recipe.reference or not exported:
            runners = [TorchRunner(models.get(one), threads=recipe.threads) for one in VARIANTS]
            pairs["torch"] = Pair(*(stack.enter_context(one) for one in runners))
            under["torch"] = {
                "threads": recipe.threads,
                "device": "cpu",
                "dtype": str(models.pruned.dtype).removeprefix("torch."),
                "runtime": f"torch {torch.__version__}",
            }
        return measure_decoders(
            pairs,
            workload,
            ideal=_ideal(models, workload),
            conditions=under,
            seed=recipe.seed,
            progress=context.observer.advance,
        )


def _ideal(models: Models, workload: Workload) -> Any:
    dense, pruned = (
        cost(
            models.family.decoder(models.get(variant)),
            batch=workload.batch,
            prefill_length=workload.prefill_length,
            past_length=workload.past_length,
            itemsize=models.get(variant).dtype.itemsize,
        )
        for variant in VARIANTS
    )
    return ideal_speedups(dense, pruned)


def _parity_rows(windows: Windows, steps: int) -> Tokens:
    """Three rows of real text, as long as the windows allow."""
    width = min(windows.tokens.shape[1], LONGEST_PROMPT + steps)
    if width < steps + 4:
        raise InputError(
            f"evaluation windows of {width} tokens are too short for {steps} parity steps",
            hint="raise `evaluation.tokens_per_sequence`, or lower `parity.steps`",
        )
    return np.resize(windows.tokens[:, :width], (3, width))


def _prompt(windows: Windows, batch: int, length: int) -> Tokens:
    """The first tokens of the evaluation text, repeated where it is too short."""
    return np.resize(windows.tokens, (batch, length))


def _text(context: Context, windows: Windows) -> dict[str, Any]:
    count, length = windows.tokens.shape
    return {"windows": count, "tokens_per_window": length, "batch": context.recipe.evaluation.batch}


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of an artifact that a number depends on."""
    return {key: facts[key] for key in ("graph", "dtype", "runtime") if key in facts}


def _keys(models: Models, exported: Sequence[Exported]) -> list[str]:
    own = [models.key(variant) for variant in VARIANTS]
    return own + [stage.key for one in exported for stage in one.stages]


def _write(folder: Path, metrics: Metrics) -> None:
    (folder / METRICS).write_text(json.dumps(metrics_to_json(metrics), indent=1) + "\n")

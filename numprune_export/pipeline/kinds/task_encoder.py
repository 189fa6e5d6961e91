"""Encoders with a task head: task scores, parity, latency by batch size and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from transformers import PreTrainedModel

from numprune_export.core.metric import Metrics, dense_and_pruned
from numprune_export.core.progress import Observer
from numprune_export.core.stage import key_of
from numprune_export.data.tasks.evaluate import Run
from numprune_export.data.tasks.task import headline
from numprune_export.export.artifact import Artifact
from numprune_export.export.exporter import Exporter
from numprune_export.export.runner import Logits
from numprune_export.measure.cost.encoder import encoder_cost
from numprune_export.measure.latency.pairs import Latencies
from numprune_export.measure.memory.peak import measure_memory
from numprune_export.measure.parity import encoder as encoder_parity
from numprune_export.measure.quality.divergence import DenseLogits
from numprune_export.measure.quality.paired_change import Scores
from numprune_export.measure.reference.encoder import TorchEncoderRunner
from numprune_export.measure.reference.precision import rounding_error
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.exported import Exported
from numprune_export.pipeline.kinds import task_encoder_data
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts
from numprune_export.pipeline.kinds.kind import Ideal, Opener, Proof
from numprune_export.pipeline.kinds.task_encoder_data import EncoderExamples, EncoderGradients
from numprune_export.pipeline.kinds.task_encoder_latency import measure_latency
from numprune_export.pipeline.models import VARIANTS, Dense, Models, Variant
from numprune_export.pruning.recover.training import RecoveryTexts
from numprune_export.recipe import Recipe
from numprune_export.report.schema import TextSource

DIVERGENCE_EXAMPLES = 512
"""Calibration examples for comparing plans. A converged model is certain about nearly all examples:
with 128 of them the divergence selected a worse plan than with 512."""


class TaskEncoder:
    """See ModelKind."""

    def __init__(
        self, recipe: Recipe, family: BidirectionalEncoder, dense: Dense, search: Sequence[Path]
    ) -> None:
        """Read the labelled examples.

        Raises:
            RecipeError: the recipe has plain text, or a setting that does not fit the model's head.
            InputError: there is no tokenizer, or examples are invalid.
        """
        self._recipe, self._family = recipe, family
        self._examples = examples = EncoderExamples.read(recipe, family, dense, search)
        self._headline = headline(examples.task, examples.evaluation.data)
        calibration = examples.calibration
        self.text_sources: Mapping[str, tuple[TextSource, ...]] = {}
        self.recovery: RecoveryTexts | None = None
        self.texts = CalibrationTexts.of(calibration.windows, calibration.data.batch)
        self.gradients = EncoderGradients(recipe, family, examples.task, calibration.labels)

    @property
    def evaluation_key(self) -> Any:
        """See ModelKind.evaluation_key."""
        evaluation = self._examples.evaluation
        assert evaluation.labels is not None
        return (
            key_of(evaluation.windows.tokens.tolist(), evaluation.labels.tolist()),
            evaluation.data.model_dump(mode="json"),
            self._recipe.benchmark.seed,
        )

    @property
    def benchmark_key(self) -> Any:
        """See ModelKind.benchmark_key."""
        unused = {"prefill", "past", "decode_steps", "batch"}
        return self.evaluation_key[0], self._recipe.benchmark.model_dump(exclude=unused)

    @property
    def tasks_key(self) -> Any:
        """See ModelKind.tasks_key."""
        return None

    @property
    def mean_length(self) -> float:
        """See ModelKind.mean_length."""
        return float(self.texts.moments.lengths.mean())

    def dense_logits(self, dense: PreTrainedModel, texts: CalibrationTexts) -> DenseLogits:
        """See ModelKind.dense_logits: outputs of the task head."""
        windows = texts.trials.first(DIVERGENCE_EXAMPLES)
        return DenseLogits.of(dense, self._family, windows, batch=texts.batch)

    def proof(self, texts: CalibrationTexts) -> Proof:
        """See ModelKind.proof: rows of different lengths, if there are any."""
        return task_encoder_data.proof(texts.compensation)

    def export(
        self, exporter: Exporter, model: PreTrainedModel, folder: Path, settings: BaseModel
    ) -> Artifact:
        """See ModelKind.export."""
        return exporter.export(self._family.encoder(model), folder, settings)

    @property
    def evaluated(self) -> int:
        """See ModelKind.evaluated."""
        return len(self._examples.evaluation)

    @property
    def compared(self) -> int:
        """See ModelKind.compared: PyTorch in fp64, counted twice, PyTorch in the artifact's dtype,
        and the artifact."""
        return 4 * task_encoder_data.PARITY_ROWS

    def work(self, models: Models) -> Metrics:
        """See ModelKind.work: of a text of mean length, without padding."""
        length = max(1, round(float(self._examples.evaluation.windows.lengths.mean())))
        dense, pruned = (
            encoder_cost(
                self._family.encoder(models.get(variant)), batch=1, length=length, itemsize=1
            ).macs
            for variant in VARIANTS
        )
        return dense_and_pruned("size.macs", "MACs", dense, pruned, conditions={"length": length})

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Scores:
        """See ModelKind.scores: the scores of the task, the primary one first."""
        run = Run(conditions=under, progress=observer.advance)
        evaluation = self._examples.task.evaluate(runner, self._examples.evaluation, run)
        seed = self._recipe.benchmark.seed
        metrics = evaluation.metrics(seed=seed)
        ordered = dict(sorted(metrics.items(), key=lambda item: item[0] != self._headline))
        return Scores(ordered, evaluation.resamples(seed=seed))

    def reference(
        self, model: PreTrainedModel, threads: int | None = None
    ) -> AbstractContextManager[Any]:
        """See ModelKind.reference."""
        return self._torch(model, threads)

    def opened(self, exporter: Exporter, artifact: Artifact) -> AbstractContextManager[Any]:
        """See ModelKind.opened."""
        return exporter.open(artifact, threads=torch.get_num_threads())

    def rounding_error(self, model: PreTrainedModel, dtype: str, variant: Variant) -> float:
        """See ModelKind.rounding_error."""
        rows, types = task_encoder_data.parity_rows(self._examples.evaluation.windows)

        def logits_of(placed: PreTrainedModel) -> Logits:
            with self._torch(placed) as runner:
                return runner.forward(rows, None, types)

        return rounding_error(model, getattr(torch, dtype), logits_of)

    def openers(self, exported: Exported) -> Mapping[str, Opener]:
        """See ModelKind.openers."""
        open_ = partial(exported.target.exporter.open, threads=torch.get_num_threads())
        return {exported.target.name: open_}

    def compare(
        self, exact: PreTrainedModel, opener: Opener, artifact: Artifact, variant: Variant
    ) -> encoder_parity.EncoderParity:
        """See ModelKind.compare."""
        rows, types = task_encoder_data.parity_rows(self._examples.evaluation.windows)
        with self._torch(exact) as reference, opener(artifact, capacity=rows.shape[1]) as candidate:
            return encoder_parity.compare(
                reference, candidate, rows, self._examples.task.kind, types=types
            )

    def latency(
        self,
        models: Models,
        exported: Sequence[Exported],
        observer: Observer,
        ideal: Ideal | None = None,
    ) -> Latencies:
        """See ModelKind.latency."""
        tokens = self._examples.evaluation.windows.tokens
        return measure_latency(
            self._recipe, self._family, models, exported, tokens, observer, ideal
        )

    def memory(self, exported: Exported) -> Metrics:
        """See ModelKind.memory: a forward pass of the largest batch and supported length."""
        settings, facts = self._recipe.benchmark, exported.artifacts["dense"].facts
        positions = int(facts["max_positions"])
        return measure_memory(
            exported.target.name,
            {variant: artifact.folder for variant, artifact in exported.artifacts.items()},
            threads=settings.threads,
            batch=max(settings.batches),
            prompt_tokens=max(length for length in settings.lengths if length <= positions),
            decode_steps=0,
        )

    def _torch(self, model: PreTrainedModel, threads: int | None = None) -> TorchEncoderRunner:
        return TorchEncoderRunner(model, self._family, threads=threads)
